/* Collectives and agreement at any number of ranks. Exit code 0 on all ranks, or the failing
 * check's message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi/comm.h"
#include "tests/jobs/rank_check.h"

static void check_sums(rp_comm *comm)
{
    enum { N = 1000 };
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    int64_t data[N];

    for (int i = 0; i < N; i++) {
        data[i] = INT64_MAX - i; /* wraps with two ranks and more */
    }
    rp_comm_reduce_sum_i64(comm, data, N, nranks - 1);
    if (rank == nranks - 1) {
        for (int i = 0; i < N; i++) {
            CHECK((uint64_t)data[i] == (uint64_t)nranks * (uint64_t)(INT64_MAX - i));
        }
    }
    data[0] = rank;
    rp_comm_allreduce_sum_i64(comm, data, 1);
    CHECK(data[0] == (int64_t)nranks * (nranks - 1) / 2);
}

static void check_gather(rp_comm *comm)
{
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    size_t nbytes[64];
    char send[64];
    char recv[64 * 64];
    char *at = recv;

    memset(send, (char)('a' + rank), sizeof(send));
    for (int r = 0; r < nranks; r++) {
        nbytes[r] = (size_t)r; /* rank 0 sends nothing */
    }
    rp_comm_allgatherv(comm, send, recv, nbytes);
    for (int r = 0; r < nranks; r++) {
        for (int i = 0; i < r; i++) {
            CHECK(*at++ == (char)('a' + r));
        }
    }
}

static void check_agree(rp_comm *comm)
{
    const int rank = rp_comm_rank(comm);
    const int last = rp_comm_nranks(comm) - 1;
    rp_status st = rp_agree(comm, RP_OK);

    CHECK(st == RP_OK);
    st = rp_agree(comm, rank == last ? RP_FAIL(RP_ERR_FORMAT, "cut block") : RP_OK);
    if (rank == last) {
        CHECK(st == RP_ERR_FORMAT && strcmp(rp_error_message(), "cut block") == 0);
    } else {
        char want[64];
        (void)snprintf(want, sizeof(want), "rank %d: cut block", last);
        CHECK(st == RP_ERR_PEER && strcmp(rp_error_message(), want) == 0);
    }
    CHECK(rp_status_exit_code(st) == 65);
}

/* A fault is stronger than a stop, wherever they are. */
static void check_agree_on_stop(rp_comm *comm)
{
    const int rank = rp_comm_rank(comm);
    const int last = rp_comm_nranks(comm) - 1;
    rp_status st = rp_agree(comm, rank == last ? RP_FAIL(RP_ERR_STOPPED, "time is up") : RP_OK);

    CHECK(st == RP_ERR_STOPPED && strcmp(rp_error_message(), "time is up") == 0);
    st = rank == 0 ? RP_FAIL(RP_ERR_STOPPED, "time is up") : RP_OK;
    if (rank == last) {
        st = RP_FAIL(RP_ERR_IO, "disk full");
    }
    st = rp_agree(comm, st);
    CHECK(st == (rank == last ? RP_ERR_IO : RP_ERR_PEER));
    CHECK(rp_status_exit_code(st) == 74);
}

/* What each collective adds, by its definition: bytes that leave, bytes that come in. */
static void check_traffic(rp_comm *comm)
{
    const int rank = rp_comm_rank(comm);
    const int last = rp_comm_nranks(comm) - 1;
    const int64_t moves = last > 0; /* a rank alone moves nothing */
    int64_t data[5] = {0};
    float top[3] = {0};
    size_t nbytes[64];
    char own[64] = {0};
    char all[64 * 64];
    rp_traffic before = rp_comm_counts_get(comm).traffic;
    rp_traffic t;
    int64_t others = 0;

    CHECK(before.nranks == last + 1 && before.rank == rank);
    rp_comm_barrier(comm);
    rp_comm_bcast(comm, data, sizeof(data), last);
    t = rp_traffic_since(before, rp_comm_counts_get(comm).traffic);
    CHECK(t.calls == 2);
    CHECK(t.sent_bytes == moves * (rank == last ? 40 : 0));
    CHECK(t.received_bytes == moves * (rank == last ? 0 : 40));
    before = rp_comm_counts_get(comm).traffic;
    rp_comm_reduce_sum_i64(comm, data, 5, 0);
    rp_comm_allreduce_sum_i64(comm, data, 2);
    rp_comm_allreduce_max_f32(comm, top, 3);
    CHECK(rp_agree(comm, RP_OK) == RP_OK);
    t = rp_traffic_since(before, rp_comm_counts_get(comm).traffic);
    CHECK(t.calls == 4);
    CHECK(t.sent_bytes == moves * ((rank == 0 ? 0 : 40) + 16 + 12 + 8));
    CHECK(t.received_bytes == moves * ((rank == 0 ? 40 : 0) + 16 + 12 + 8));
    for (int r = 0; r <= last; r++) {
        nbytes[r] = (size_t)r + 1;
        others += r == rank ? 0 : r + 1;
    }
    before = rp_comm_counts_get(comm).traffic;
    rp_comm_allgatherv(comm, own, all, nbytes);
    t = rp_traffic_since(before, rp_comm_counts_get(comm).traffic);
    CHECK(t.calls == 1 && t.sent_bytes == moves * (rank + 1) && t.received_bytes == others);
}

/* A notice of one rank reaches all that poll, without any collective call. */
static void check_notice(rp_comm *comm)
{
    const int last = rp_comm_nranks(comm) - 1;

    CHECK(!rp_comm_is_notified(comm));
    rp_comm_barrier(comm);
    if (rp_comm_rank(comm) == last) {
        rp_comm_notify(comm);
    }
    while (!rp_comm_is_notified(comm)) {
    }
}

int main(void)
{
    rp_comm *comm = NULL;
    float top = 0;

    CHECK(rp_comm_create_world(&comm) == RP_OK);
    check_sums(comm);
    check_gather(comm);
    check_agree(comm);
    check_agree_on_stop(comm);
    check_traffic(comm);
    check_notice(comm);
    top = (float)rp_comm_rank(comm);
    rp_comm_allreduce_max_f32(comm, &top, 1);
    CHECK(top == (float)(rp_comm_nranks(comm) - 1));
    CHECK(!rp_comm_any(comm, false) && rp_comm_any(comm, rp_comm_rank(comm) == 0));
    rp_comm_destroy(&comm);
    return 0;
}
