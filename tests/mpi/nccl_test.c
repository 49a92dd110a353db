/* The transports between GPUs, on the stand-ins of tests/cuda_host: `test_nccl CASE`. Exit code 0
 * on all ranks, or the failing check's message. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/gpu_stream.h"
#include "kernels/place.h"
#include "mpi/comm_gpu.h"
#include "tests/jobs/rank_check.h"
#include "tests/mpi/place_checks.h"

#define ARENA_BYTES ((size_t)384 << 20)
#define STAGED "mpi through pinned memory: "

typedef struct rank_gpu {
    rp_comm *comm;
    rp_exec *exec;
    rp_gpu *gpu;
    int rank, last;
    char warning[256];
} rank_gpu;

static void create(rank_gpu *g)
{
    rp_gpu_choice choice;

    CHECK(rp_comm_choose_gpu(&choice, g->comm) == RP_OK);
    CHECK(choice.ordinal >= 0);
    memcpy(g->warning, choice.warning, sizeof(g->warning));
    CHECK(rp_exec_create(&g->exec, 1, RP_PRODUCTS_F32) == RP_OK);
    CHECK(rp_gpu_create(&g->gpu, choice.ordinal, ARENA_BYTES) == RP_OK);
    g->exec->gpu = g->gpu;
}

static void attach(rank_gpu *g, double deadline_seconds)
{
    rp_comm_gpu_opts opts = rp_comm_gpu_opts_default();

    opts.deadline_seconds = deadline_seconds;
    CHECK(rp_comm_attach_gpu(g->comm, g->exec, &opts) == RP_OK);
}

static void destroy(rank_gpu *g)
{
    rp_comm_detach_gpu(g->comm);
    rp_exec_destroy(&g->exec);
    rp_gpu_destroy(&g->gpu);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Every rank has rank 0's text. */
static void check_same_text(rp_comm *comm, const char *text)
{
    char first[RP_MESSAGE_BYTES] = "";

    (void)snprintf(first, sizeof(first), "%s", text);
    rp_comm_bcast(comm, first, sizeof(first), 0);
    CHECK(strcmp(first, text) == 0);
}

static void check_collectives(rank_gpu *g)
{
    check_place_collectives(g->comm, g->exec, 1000);
    check_place_counts(g->comm, g->exec);
    CHECK(rp_comm_gpu_check(g->comm) == RP_OK);
    CHECK(rp_agree(g->comm, rp_place_check(g->exec)) == RP_OK);
}

/* A GPU each, by MPI. */
static void staged(rank_gpu *g)
{
    rp_comm_gpu_opts opts = rp_comm_gpu_opts_default();

    opts.is_staged = true;
    create(g);
    CHECK(g->warning[0] == '\0');
    CHECK(rp_comm_attach_gpu(g->comm, g->exec, &opts) == RP_OK);
    CHECK(strcmp(rp_comm_gpu_transport(g->comm),
                 g->last > 0 ? STAGED "as asked" : STAGED "one rank") == 0);
    check_collectives(g);
    if (g->last < 2) { /* more than a piece */
        check_place_collectives(g->comm, g->exec, ((int64_t)9 << 20) + 1);
    }
}

/* A GPU each, by NCCL; twice. */
static void nccl(rank_gpu *g)
{
    create(g);
    for (int i = 0; i < 2; i++) {
        attach(g, 50);
        CHECK(strcmp(rp_comm_gpu_transport(g->comm),
                     g->last > 0 ? "nccl 2.28.9" : STAGED "one rank") == 0);
        check_collectives(g);
        rp_comm_detach_gpu(g->comm);
    }
    attach(g, 50);
    check_place_collectives(g->comm, g->exec, 100001);
}

/* One GPU for all. */
static void shared(rank_gpu *g)
{
    create(g);
    CHECK((strstr(g->warning, "ranks 0 and 1 share GPU-") != NULL) == (g->last > 0));
    attach(g, 50);
    CHECK(starts_with(rp_comm_gpu_transport(g->comm),
                      g->last > 0 ? STAGED "ranks 0 and 1 share GPU-" : STAGED "one rank"));
    check_collectives(g);
}

/* The last rank has no GPU. */
static void missing(rank_gpu *g)
{
    rp_gpu_choice choice;
    rp_status st = RP_OK;

    if (g->rank == g->last) {
        CHECK(setenv("RP_CUDA_HOST", "gpus=0", 1) == 0);
    }
    st = rp_comm_choose_gpu(&choice, g->comm);
    if (g->last == 0) {
        CHECK(st == RP_OK && choice.ordinal == -1);
        return;
    }
    CHECK(st == RP_ERR_MEMORY);
    CHECK(starts_with(rp_error_message(), "only some ranks have a GPU: rank 0 on "));
    CHECK(strstr(rp_error_message(), ": GPU 0 of ") != NULL);
    CHECK(strstr(rp_error_message(), ": none") != NULL);
    check_same_text(g->comm, rp_error_message());
}

/* A sum, then a broadcast, then sums, of which the first is number 3 and goes wrong. */
static void until_failure(rank_gpu *g)
{
    int64_t *data = NULL;

    CHECK(rp_place_alloc(g->exec, &data, 256, sizeof(*data)) == RP_OK);
    rp_place_zero(g->exec, data, 256 * sizeof(*data));
    rp_comm_place_allreduce_sum_i64(g->comm, g->exec, data, 256);
    rp_comm_place_bcast(g->comm, g->exec, data, 80, 0);
    CHECK(rp_agree(g->comm, rp_place_check(g->exec)) == RP_OK);
    for (int i = 0; i < 3; i++) {
        rp_comm_place_allreduce_sum_i64(g->comm, g->exec, data, 256);
    }
    rp_place_free(g->exec, data);
}

/* After the failure: data go by MPI. */
static void check_after(rank_gpu *g, const char *message)
{
    char want[RP_MESSAGE_BYTES + 64];

    (void)snprintf(want, sizeof(want), STAGED "%.900s", message);
    CHECK(strcmp(rp_comm_gpu_transport(g->comm), want) == 0);
    check_collectives(g);
    CHECK(rp_agree(g->comm, RP_OK) == RP_OK);
}

/* In all of these the one at fault is the last rank, and no other waits for its deadline unless it
 * must. */
static void fail(rank_gpu *g, const char *kind, double deadline, const char *cause, double limit)
{
    char text[64];
    char message[RP_MESSAGE_BYTES];
    const double start = rp_clock_seconds();
    rp_status st = RP_OK;

    (void)snprintf(text, sizeof(text), "%s %d 3", kind, g->last);
    CHECK(setenv("RP_NCCL_HOST", text, 1) == 0);
    create(g);
    attach(g, deadline);
    until_failure(g);
    CHECK(rp_comm_gpu_check(g->comm) == RP_ERR_STOPPED || g->rank != g->last);
    st = rp_agree(g->comm, rp_place_check(g->exec));
    CHECK(st == RP_ERR_STOPPED && rp_status_exit_code(st) == 75);
    CHECK(rp_clock_seconds() - start < limit);
    (void)snprintf(message, sizeof(message), "%s", rp_error_message());
    if (g->rank == 0) {
        (void)fprintf(stderr, "%s\n", message);
    }
    check_same_text(g->comm, message);
    CHECK(strcmp(rp_comm_gpu_failure(g->comm), message) == 0);
    CHECK(starts_with(message, "NCCL: sum of int64 number 3 (2.0 KiB) "));
    CHECK(strstr(message, cause) != NULL);
    check_after(g, message);
}

static void hang(rank_gpu *g)
{
    fail(g, "hang", 1, "did not complete in 1 s on rank ", 20);
}

static void error(rank_gpu *g)
{
    fail(g, "error", 60, "failed: unhandled system error, a fault of the stand-in on rank ", 20);
}

static void call(rank_gpu *g)
{
    fail(g, "call", 60, "failed: internal error, a fault of the stand-in on rank ", 20);
}

/* All agree to stop; the message names the last rank, and says `what`. */
static void stops_and_says(rank_gpu *g, const char *what)
{
    char message[RP_MESSAGE_BYTES];
    char want[64];

    CHECK(rp_agree(g->comm, RP_OK) == RP_ERR_STOPPED);
    (void)snprintf(message, sizeof(message), "%s", rp_error_message());
    (void)snprintf(want, sizeof(want), "; rank %d on ", g->last);
    CHECK(strstr(message, want) != NULL);
    CHECK(strstr(message, what) != NULL);
    if (g->rank == 0) {
        (void)fprintf(stderr, "%s\n", message);
    }
    check_after(g, message);
}

/* The last rank comes too late; the others say where it is. */
static void late(rank_gpu *g)
{
    int64_t *data = NULL;
    double start = 0;

    create(g);
    attach(g, 1);
    CHECK(rp_place_alloc(g->exec, &data, 256, sizeof(*data)) == RP_OK);
    rp_place_zero(g->exec, data, 256 * sizeof(*data));
    rp_comm_place_bcast(g->comm, g->exec, data, 80, 0);
    if (g->rank == g->last) {
        (void)sleep(3);
    }
    start = rp_clock_seconds();
    rp_comm_place_allreduce_sum_i64(g->comm, g->exec, data, 256);
    CHECK(g->rank != g->last || rp_clock_seconds() - start < 0.9);
    stops_and_says(g, " in sum of int64 number 2 (2.0 KiB) for 0 s; rank");
    CHECK(strstr(rp_comm_gpu_failure(g->comm), " in sum of int64 number 2 (2.0 KiB) for 3 s") !=
          NULL);
    rp_place_free(g->exec, data);
}

/* The last rank goes elsewhere, to the agreement, without the collective. */
static void astray(rank_gpu *g)
{
    int64_t *data = NULL;

    create(g);
    attach(g, 1);
    CHECK(rp_place_alloc(g->exec, &data, 256, sizeof(*data)) == RP_OK);
    rp_place_zero(g->exec, data, 256 * sizeof(*data));
    rp_comm_place_bcast(g->comm, g->exec, data, 80, 0);
    if (g->rank != g->last) {
        rp_comm_place_allreduce_sum_i64(g->comm, g->exec, data, 256);
    }
    stops_and_says(g, " ended bcast number 1 (80 bytes) 1 s ago; rank");
    rp_place_free(g->exec, data);
}

/* A fault of another kind at the same agreement is stronger. */
static void fault(rank_gpu *g)
{
    rp_status st = RP_OK;
    char text[64];

    (void)snprintf(text, sizeof(text), "error %d 3", g->last);
    CHECK(setenv("RP_NCCL_HOST", text, 1) == 0);
    create(g);
    attach(g, 60);
    until_failure(g);
    st = rp_agree(g->comm, g->rank == 0 ? RP_FAIL(RP_ERR_IO, "disk full") : RP_OK);
    CHECK(st == (g->rank == 0 ? RP_ERR_IO : RP_ERR_PEER) && rp_status_exit_code(st) == 74);
    check_collectives(g);
}

/* The GPU of the last rank fails: its status is the stronger one, and nobody waits. */
static void broken(rank_gpu *g)
{
    const double start = rp_clock_seconds();
    int64_t *data = NULL;
    rp_status st = RP_OK;

    create(g);
    attach(g, 60);
    CHECK(rp_place_alloc(g->exec, &data, 256, sizeof(*data)) == RP_OK);
    rp_place_zero(g->exec, data, 256 * sizeof(*data));
    if (g->rank == g->last) {
        rp_gpu_give_up(g->gpu, "out of order");
    }
    rp_comm_place_allreduce_sum_i64(g->comm, g->exec, data, 256);
    rp_comm_place_bcast(g->comm, g->exec, data, 80, 0);
    st = rp_agree(g->comm, rp_place_check(g->exec));
    CHECK(st == (g->rank == g->last ? RP_ERR_MEMORY : RP_ERR_PEER));
    CHECK(rp_status_exit_code(st) == 71);
    rp_place_free(g->exec, data);
    CHECK(rp_clock_seconds() - start < 20);
}

/* Nobody agrees: the end of the communicator is in order all the same. */
static void leave(rank_gpu *g)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "error %d 3", g->last);
    CHECK(setenv("RP_NCCL_HOST", text, 1) == 0);
    create(g);
    attach(g, 60);
    until_failure(g);
}

static void no_start(rank_gpu *g, const char *kind, double deadline, const char *cause)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "%s %d 0", kind, g->last);
    CHECK(setenv("RP_NCCL_HOST", text, 1) == 0);
    create(g);
    attach(g, deadline);
    if (g->rank == 0) {
        (void)fprintf(stderr, "%s\n", rp_comm_gpu_transport(g->comm));
    }
    CHECK(starts_with(rp_comm_gpu_transport(g->comm), STAGED "NCCL: the start "));
    CHECK(strstr(rp_comm_gpu_transport(g->comm), cause) != NULL);
    check_same_text(g->comm, rp_comm_gpu_transport(g->comm));
    CHECK(rp_comm_gpu_failure(g->comm) == NULL);
    check_collectives(g);
}

static void start_fails(rank_gpu *g)
{
    no_start(g, "start", 60, "failed: unhandled system error");
}

static void start_hangs(rank_gpu *g)
{
    no_start(g, "wait", 1, "did not complete in 1 s");
}

/* The process of the last rank ends: the launcher ends all. */
static void die(rank_gpu *g)
{
    fail(g, "die", 60, "", 60);
}

/* The last rank never comes back: agreement is impossible, but the others know after the deadline
 * and can end the job. */
static void stuck(rank_gpu *g)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "stick %d 3", g->last);
    CHECK(setenv("RP_NCCL_HOST", text, 1) == 0);
    create(g);
    attach(g, 1);
    until_failure(g);
    CHECK(g->rank != g->last && rp_comm_gpu_check(g->comm) == RP_ERR_STOPPED);
    rp_comm_abort(g->comm, "test", rp_error_message(), 75);
}

static const struct {
    const char *name;
    void (*run)(rank_gpu *g);
} cases[] = {
    {"staged", staged}, {"nccl", nccl},   {"shared", shared},     {"missing", missing},
    {"hang", hang},     {"error", error}, {"call", call},         {"late", late},
    {"astray", astray}, {"fault", fault}, {"broken", broken},     {"leave", leave},
    {"die", die},       {"stuck", stuck}, {"start", start_fails}, {"wait", start_hangs},
};

int main(int argc, char **argv)
{
    rank_gpu g = {0};

    CHECK(argc == 2);
    CHECK(rp_comm_create_world(&g.comm) == RP_OK);
    g.rank = rp_comm_rank(g.comm);
    g.last = rp_comm_nranks(g.comm) - 1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run(&g);
            destroy(&g);
            rp_comm_destroy(&g.comm);
            return 0;
        }
    }
    CHECK(!"a case of this name");
}
