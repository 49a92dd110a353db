/* Positions of all ranks, messages of failure, and the one message that comes of them. */
#include "mpi/comm_watch.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* Where a rank is, as all ranks get to see it. */
typedef struct position {
    int64_t number; /* of collectives; 0: the start */
    uint64_t nbytes;
    double age; /* seconds since it began, or ended */
    int32_t has_ended;
    int32_t has_failed;
    int32_t told_by; /* the rank that spoke of its failure first; -1: failed itself */
    char op[20];
    char host[64];
    char why[256];
} position;

struct rp_comm_watch {
    position own; /* age apart */
    double since;
    MPI_Request *sent; /* [nranks] what this rank told the others */
    bool *has_heard;   /* [nranks] */
    position *all;     /* [nranks] */
    bool *is_listed;   /* [nranks] in the message */
};

static void destroy(rp_comm_watch **watch)
{
    if (*watch != NULL) {
        free((*watch)->sent);
        free((*watch)->has_heard);
        free((*watch)->all);
        free((*watch)->is_listed);
        free(*watch);
        *watch = NULL;
    }
}

rp_status rp_comm_watch_create(rp_comm *comm)
{
    rp_status st = RP_OK;
    rp_comm_watch *watch = NULL;

    RP_TRY(rp_calloc(&watch, 1, sizeof(*watch)));
    RP_TRY(rp_calloc(&watch->sent, (size_t)comm->nranks, sizeof(*watch->sent)));
    RP_TRY(rp_calloc(&watch->has_heard, (size_t)comm->nranks, sizeof(*watch->has_heard)));
    RP_TRY(rp_calloc(&watch->all, (size_t)comm->nranks, sizeof(*watch->all)));
    RP_TRY(rp_calloc(&watch->is_listed, (size_t)comm->nranks, sizeof(*watch->is_listed)));
    watch->own.number = -1;
    (void)snprintf(watch->own.host, sizeof(watch->own.host), "%s", comm->host);
    for (int r = 0; r < comm->nranks; r++) {
        watch->sent[r] = MPI_REQUEST_NULL;
    }
    comm->watch = watch;
    watch = NULL;
out:
    destroy(&watch);
    return st;
}

void rp_comm_watch_begin(rp_comm *comm, const char *op, size_t nbytes)
{
    position *own = &comm->watch->own;

    own->number++;
    own->nbytes = nbytes;
    own->has_ended = false;
    (void)snprintf(own->op, sizeof(own->op), "%s", op);
    comm->watch->since = rp_clock_seconds();
}

void rp_comm_watch_end(rp_comm *comm)
{
    comm->watch->own.has_ended = true;
    comm->watch->since = rp_clock_seconds();
}

double rp_comm_watch_age(const rp_comm *comm)
{
    return rp_clock_seconds() - comm->watch->since;
}

bool rp_comm_watch_has_failed(const rp_comm *comm)
{
    return comm->watch != NULL && comm->watch->own.has_failed;
}

/* An empty message to each. */
static void tell(rp_comm *comm)
{
    for (int r = 0; r < comm->nranks; r++) {
        if (r != comm->rank) {
            rp_comm_check_mpi(comm,
                              MPI_Isend(NULL, 0, MPI_BYTE, r, RP_TAG_GPU_FAILURE, comm->notices,
                                        &comm->watch->sent[r]),
                              "MPI_Isend");
        }
    }
}

void rp_comm_watch_fail(rp_comm *comm, const char *fmt, ...)
{
    position *own = &comm->watch->own;
    va_list args;

    if (own->has_failed) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(own->why, sizeof(own->why), fmt, args);
    va_end(args);
    own->has_failed = true;
    own->told_by = -1;
    tell(comm);
}

/* No need to pass it on: who failed tells everybody. */
static void give_up(position *own, int peer)
{
    own->has_failed = true;
    own->told_by = peer;
    (void)snprintf(own->why, sizeof(own->why), "was given up by rank %d", peer);
}

bool rp_comm_watch_hears(rp_comm *comm)
{
    rp_comm_watch *watch = comm->watch;
    MPI_Status status;
    int is_there = 0;

    rp_comm_check_mpi(
        comm, MPI_Iprobe(MPI_ANY_SOURCE, RP_TAG_GPU_FAILURE, comm->notices, &is_there, &status),
        "MPI_Iprobe");
    if (is_there == 0) {
        return false;
    }
    rp_comm_check_mpi(comm,
                      MPI_Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, RP_TAG_GPU_FAILURE,
                               comm->notices, MPI_STATUS_IGNORE),
                      "MPI_Recv");
    watch->has_heard[status.MPI_SOURCE] = true;
    if (!watch->own.has_failed) {
        give_up(&watch->own, status.MPI_SOURCE);
    }
    return true;
}

/* "64.0 MiB" */
static const char *bytes_text(char text[24], uint64_t nbytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)nbytes;
    size_t u = 0;

    while (amount >= 1024 && u < sizeof(units) / sizeof(*units) - 1) {
        amount /= 1024;
        u++;
    }
    (void)snprintf(text, 24, "%.*f %s", u == 0 ? 0 : 1, amount, units[u]);
    return text;
}

/* "bcast number 411 (64.0 MiB)"; "the start". */
static const char *collective_text(char text[80], const position *p)
{
    char bytes[24];

    if (p->number <= 0) {
        (void)snprintf(text, 80, "the start");
    } else {
        (void)snprintf(text, 80, "%s number %lld (%s)", p->op, (long long)p->number,
                       bytes_text(bytes, p->nbytes));
    }
    return text;
}

/* Adds to a message; what does not fit is left away. */
static void add(char message[RP_MESSAGE_BYTES], const char *fmt, ...) RP_PRINTF(2, 3);
static void add(char message[RP_MESSAGE_BYTES], const char *fmt, ...)
{
    const size_t length = strlen(message);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(message + length, RP_MESSAGE_BYTES - length, fmt, args);
    va_end(args);
}

/* In the same place, since about the same time. */
static bool is_alike(const position *a, const position *b)
{
    return a->number == b->number && a->has_ended == b->has_ended && a->nbytes == b->nbytes &&
           strcmp(a->op, b->op) == 0 &&
           fabs(a->age - b->age) < RP_MAX(1, RP_MAX(a->age, b->age) / 10);
}

/* The collectives' order: in number n, at its end, in number n + 1; then who came later. */
static bool is_behind(const position *a, const position *b)
{
    if (a->number != b->number) {
        return a->number < b->number;
    }
    return a->has_ended != b->has_ended ? a->has_ended < b->has_ended : a->age < b->age;
}

/* "ranks 0,2 ended bcast number 411 (8 bytes) 605 s ago": one rank and all that are where it is,
 * which are listed then. */
static void add_group(char message[RP_MESSAGE_BYTES], const position *all, int nranks,
                      const position *p, bool *is_listed)
{
    double youngest = p->age;
    double oldest = p->age;
    char text[80];
    int count = 0;

    for (int r = 0; r < nranks; r++) {
        count += !is_listed[r] && is_alike(&all[r], p);
    }
    add(message, count > 1 ? "; ranks" : "; rank");
    count = 0;
    for (int r = 0; r < nranks; r++) {
        if (is_listed[r] || !is_alike(&all[r], p)) {
            continue;
        }
        is_listed[r] = true;
        add(message, count++ > 0 ? ",%d" : " %d", r);
        youngest = RP_MIN(youngest, all[r].age);
        oldest = RP_MAX(oldest, all[r].age);
    }
    if (count == 1) {
        add(message, " on %s", p->host);
    }
    add(message, p->has_ended ? " ended %s " : " in %s for ", collective_text(text, p));
    if (oldest - youngest >= 0.5) {
        add(message, "%.0f to ", youngest);
    }
    add(message, "%.0f s%s", oldest, p->has_ended ? " ago" : "");
}

/* The lowest rank that failed by itself: there is one, for all others were told. */
static const position *cause_of(const position *all, int nranks, int *rank)
{
    for (int r = 0; r < nranks; r++) {
        if (all[r].has_failed && all[r].told_by < 0) {
            *rank = r;
            return &all[r];
        }
    }
    *rank = 0;
    return &all[0];
}

/* Those that lag come first. is_listed [nranks]. */
static void compose(char message[RP_MESSAGE_BYTES], const position *all, int nranks,
                    bool *is_listed)
{
    int rank = 0;
    const position *cause = cause_of(all, nranks, &rank);
    char text[80];

    message[0] = '\0';
    memset(is_listed, 0, (size_t)nranks * sizeof(*is_listed));
    add(message, "NCCL: %s %s on rank %d", collective_text(text, cause), cause->why, rank);
    for (;;) {
        int next = -1;
        for (int r = 0; r < nranks; r++) {
            if (!is_listed[r] && (next < 0 || is_behind(&all[r], &all[next]))) {
                next = r;
            }
        }
        if (next < 0) {
            return;
        }
        add_group(message, all, nranks, &all[next], is_listed);
    }
}

/* Collective. all [nranks]. Then takes what the others told and this rank has not heard: who fails
 * tells all. */
static void gather(rp_comm *comm, position *all)
{
    rp_comm_watch *watch = comm->watch;

    watch->own.age = rp_comm_watch_age(comm);
    rp_comm_allgather(comm, &watch->own, all, sizeof(*all));
    for (int r = 0; r < comm->nranks; r++) {
        if (all[r].has_failed && all[r].told_by < 0 && r != comm->rank && !watch->has_heard[r]) {
            rp_comm_check_mpi(comm,
                              MPI_Recv(NULL, 0, MPI_BYTE, r, RP_TAG_GPU_FAILURE, comm->notices,
                                       MPI_STATUS_IGNORE),
                              "MPI_Recv");
        }
        watch->has_heard[r] = false;
    }
    rp_comm_check_mpi(comm, MPI_Waitall(comm->nranks, watch->sent, MPI_STATUSES_IGNORE),
                      "MPI_Waitall");
    watch->own.has_failed = false;
}

void rp_comm_watch_settle(rp_comm *comm, char message[RP_MESSAGE_BYTES])
{
    gather(comm, comm->watch->all);
    compose(message, comm->watch->all, comm->nranks, comm->watch->is_listed);
}

rp_status rp_comm_gpu_check(const rp_comm *comm)
{
    char text[80];

    if (!rp_comm_watch_has_failed(comm)) {
        return RP_OK;
    }
    return RP_FAIL(RP_ERR_STOPPED, "NCCL: %s %s", collective_text(text, &comm->watch->own),
                   comm->watch->own.why);
}

void rp_comm_watch_destroy(rp_comm *comm)
{
    if (comm->watch != NULL) {
        if (rp_comm_any(comm, rp_comm_watch_has_failed(comm))) {
            gather(comm, comm->watch->all);
        }
        destroy(&comm->watch);
    }
}
