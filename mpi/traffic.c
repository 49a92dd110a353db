/* One formula a collective. */
#include "mpi/traffic.h"

rp_traffic rp_traffic_of(int nranks, int rank)
{
    const rp_traffic traffic = {.nranks = nranks, .rank = rank};

    return traffic;
}

rp_traffic rp_traffic_since(rp_traffic before, rp_traffic now)
{
    now.calls -= before.calls;
    now.sent_bytes -= before.sent_bytes;
    now.received_bytes -= before.received_bytes;
    return now;
}

void rp_traffic_add(rp_traffic *sum, rp_traffic more)
{
    sum->calls += more.calls;
    sum->sent_bytes += more.sent_bytes;
    sum->received_bytes += more.received_bytes;
}

static void add(rp_traffic *t, size_t sent, size_t received)
{
    t->calls++;
    t->sent_bytes += t->nranks > 1 ? (int64_t)sent : 0;
    t->received_bytes += t->nranks > 1 ? (int64_t)received : 0;
}

void rp_traffic_barrier(rp_traffic *traffic)
{
    add(traffic, 0, 0);
}

void rp_traffic_bcast(rp_traffic *traffic, size_t nbytes, int root)
{
    const bool is_root = traffic->rank == root;

    add(traffic, is_root ? nbytes : 0, is_root ? 0 : nbytes);
}

void rp_traffic_allgatherv(rp_traffic *traffic, size_t total, size_t own)
{
    add(traffic, own, total - own);
}

void rp_traffic_reduce(rp_traffic *traffic, size_t nbytes, int root)
{
    const bool is_root = traffic->rank == root;

    add(traffic, is_root ? 0 : nbytes, is_root ? nbytes : 0);
}

void rp_traffic_allreduce(rp_traffic *traffic, size_t nbytes)
{
    add(traffic, nbytes, nbytes);
}

void rp_traffic_alltoallv(rp_traffic *traffic, size_t sent, size_t received)
{
    add(traffic, sent, received);
}

void rp_traffic_agree(rp_traffic *traffic)
{
    rp_traffic_allreduce(traffic, sizeof(double));
}
