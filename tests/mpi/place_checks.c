/* Data are made on the host, put, sent about, and got back. */
#include "tests/mpi/place_checks.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "tests/jobs/rank_check.h"

/* n elements of 8 bytes on the host and in the place. */
typedef struct pair {
    const rp_exec *exec;
    int64_t *host;
    int64_t *place;
    size_t nbytes;
} pair;

static pair pair_create(const rp_exec *exec, int64_t n)
{
    pair p = {.exec = exec, .nbytes = (size_t)n * sizeof(int64_t)};

    CHECK(rp_alloc_array(&p.host, (size_t)n, sizeof(int64_t)) == RP_OK);
    CHECK(rp_place_alloc(exec, &p.place, (size_t)n, sizeof(int64_t)) == RP_OK);
    return p;
}

static void put(const pair *p)
{
    rp_place_put(p->exec, p->place, p->host, p->nbytes);
    memset(p->host, 0x5a, p->nbytes);
}

static void get(const pair *p)
{
    rp_place_get(p->exec, p->host, p->place, p->nbytes);
    CHECK(rp_place_check(p->exec) == RP_OK);
}

static void pair_destroy(pair *p)
{
    free(p->host);
    rp_place_free(p->exec, p->place);
}

/* What rank r has at i, for rank `to`. */
static int64_t value(int r, int64_t i, int to)
{
    return (int64_t)((uint64_t)(i + 1) * 0x9e3779b97f4a7c15u + (uint64_t)r * 0x100000001u) ^ to;
}

static void check_bcast(rp_comm *comm, const rp_exec *exec, int64_t n)
{
    const int root = rp_comm_nranks(comm) - 1;
    pair p = pair_create(exec, n);

    for (int64_t i = 0; i < n; i++) {
        p.host[i] = value(rp_comm_rank(comm), i, 0);
    }
    put(&p);
    rp_comm_place_bcast(comm, exec, p.place, p.nbytes, root);
    get(&p);
    for (int64_t i = 0; i < n; i++) {
        CHECK(p.host[i] == value(root, i, 0));
    }
    pair_destroy(&p);
}

/* Sums that wrap around. root < 0: on all. */
static void check_sum_i64(rp_comm *comm, const rp_exec *exec, int64_t n, int root)
{
    const int rank = rp_comm_rank(comm);
    pair p = pair_create(exec, n);

    for (int64_t i = 0; i < n; i++) {
        p.host[i] = value(rank, i, 0);
    }
    put(&p);
    if (root < 0) {
        rp_comm_place_allreduce_sum_i64(comm, exec, p.place, n);
    } else {
        rp_comm_place_reduce_sum_i64(comm, exec, p.place, n, root);
    }
    get(&p);
    for (int64_t i = 0; i < n && (root < 0 || root == rank); i++) {
        uint64_t want = 0;
        for (int r = 0; r < rp_comm_nranks(comm); r++) {
            want += (uint64_t)value(r, i, 0);
        }
        CHECK((uint64_t)p.host[i] == want);
    }
    pair_destroy(&p);
}

/* Small whole numbers, so that any order gives the same sum. */
static void check_f32(rp_comm *comm, const rp_exec *exec, int64_t n)
{
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    pair p = pair_create(exec, n);
    float *x = (float *)p.host;

    for (int is_max = 0; is_max < 2; is_max++) {
        for (int64_t i = 0; i < 2 * n; i++) {
            x[i] = (float)((i % 1000 + 1) * (rank + 1) * (i % 2 == 0 ? 1 : -1));
        }
        put(&p);
        if (is_max != 0) {
            rp_comm_place_allreduce_max_f32(comm, exec, (float *)p.place, 2 * n);
        } else {
            rp_comm_place_allreduce_sum_f32(comm, exec, (float *)p.place, 2 * n);
        }
        get(&p);
        for (int64_t i = 0; i < 2 * n; i++) {
            const int most = i % 2 == 0 ? nranks : -1;
            const int sum = (i % 2 == 0 ? 1 : -1) * nranks * (nranks + 1) / 2;
            CHECK(x[i] == (float)((i % 1000 + 1) * (is_max != 0 ? most : sum)));
        }
    }
    pair_destroy(&p);
}

/* Rank r gives r n / nranks elements: rank 0 nothing. */
static void check_allgatherv(rp_comm *comm, const rp_exec *exec, int64_t n, bool is_in_place)
{
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    size_t nbytes[64];
    int64_t first = 0;
    int64_t total = 0;
    int64_t at = 0;
    pair send;
    pair recv;

    for (int r = 0; r < nranks; r++) {
        nbytes[r] = (size_t)(r * n / nranks) * sizeof(int64_t);
        first += r < rank ? r * n / nranks : 0;
        total += r * n / nranks;
    }
    send = pair_create(exec, n);
    recv = pair_create(exec, total + 1);
    for (int64_t i = 0; i < n; i++) {
        send.host[i] = value(rank, i, 0);
    }
    put(&send);
    if (is_in_place && nbytes[rank] > 0) {
        rp_place_copy(exec, recv.place + first, send.place, nbytes[rank]);
    }
    rp_comm_place_allgatherv(comm, exec, is_in_place ? recv.place + first : send.place, recv.place,
                             nbytes);
    get(&recv);
    for (int r = 0; r < nranks; r++) {
        for (int64_t i = 0; i < r * n / nranks; i++) {
            CHECK(recv.host[at++] == value(r, i, 0));
        }
    }
    pair_destroy(&send);
    pair_destroy(&recv);
}

/* From rank r to rank q: elements; nothing from a rank to the next one of three and more. */
static int64_t n_between(int64_t n, int r, int q, int nranks)
{
    return nranks > 2 && q == (r + 1) % nranks ? 0 : (n / nranks) / (1 + r) + q;
}

static void check_alltoallv(rp_comm *comm, const rp_exec *exec, int64_t n)
{
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    size_t send_bytes[64];
    size_t recv_bytes[64];
    int64_t at = 0;
    pair send = pair_create(exec, n + (int64_t)nranks * nranks);
    pair recv = pair_create(exec, n + (int64_t)nranks * nranks);

    for (int q = 0; q < nranks; q++) {
        send_bytes[q] = (size_t)n_between(n, rank, q, nranks) * sizeof(int64_t);
        recv_bytes[q] = (size_t)n_between(n, q, rank, nranks) * sizeof(int64_t);
        for (int64_t i = 0; i < n_between(n, rank, q, nranks); i++) {
            send.host[at++] = value(rank, i, q);
        }
    }
    put(&send);
    rp_comm_place_alltoallv(comm, exec, send.place, send_bytes, recv.place, recv_bytes);
    get(&recv);
    at = 0;
    for (int q = 0; q < nranks; q++) {
        for (int64_t i = 0; i < n_between(n, q, rank, nranks); i++) {
            CHECK(recv.host[at++] == value(q, i, rank));
        }
    }
    pair_destroy(&send);
    pair_destroy(&recv);
}

void check_place_collectives(rp_comm *comm, const rp_exec *exec, int64_t n)
{
    check_bcast(comm, exec, n);
    check_sum_i64(comm, exec, n, rp_comm_nranks(comm) - 1);
    check_sum_i64(comm, exec, n, -1);
    check_f32(comm, exec, n);
    check_allgatherv(comm, exec, n, false);
    check_allgatherv(comm, exec, n, true);
    check_alltoallv(comm, exec, n);
}

void check_place_counts(rp_comm *comm, const rp_exec *exec)
{
    const int rank = rp_comm_rank(comm);
    const int nranks = rp_comm_nranks(comm);
    const int64_t moves = nranks > 1; /* a rank alone moves nothing */
    const rp_traffic before = rp_comm_counts_get(comm).traffic;
    size_t nbytes[64];
    rp_traffic t;
    pair p = pair_create(exec, 2 * 64);

    memset(p.host, 0, p.nbytes);
    put(&p);
    for (int r = 0; r < nranks; r++) {
        nbytes[r] = 8;
    }
    rp_comm_place_bcast(comm, exec, p.place, 80, 0);
    rp_comm_place_reduce_sum_i64(comm, exec, p.place, 5, 0);
    rp_comm_place_allreduce_sum_i64(comm, exec, p.place, 2);
    rp_comm_place_allreduce_sum_f32(comm, exec, (float *)p.place, 3);
    rp_comm_place_allreduce_max_f32(comm, exec, (float *)p.place, 1);
    rp_comm_place_allgatherv(comm, exec, p.place + 64, p.place, nbytes);
    rp_comm_place_alltoallv(comm, exec, p.place, nbytes, p.place + 64, nbytes);
    t = rp_traffic_since(before, rp_comm_counts_get(comm).traffic);
    CHECK(t.calls == 7);
    CHECK(t.sent_bytes ==
          moves * ((rank == 0 ? 80 : 40) + 16 + 12 + 4 + 8 + 8 * (int64_t)(nranks - 1)));
    CHECK(t.received_bytes ==
          moves * ((rank == 0 ? 40 : 80) + 16 + 12 + 4 + 2 * 8 * (int64_t)(nranks - 1)));
    pair_destroy(&p);
}
