/* See backend.h. */
#include "jobs/backend.h"

#include <stdio.h>

#include "mpi/comm_gpu.h"

/* The arena's own losses: alignment, and what lies between blocks of different sizes. */
#define ARENA_SLACK 1.02

const rp_option_word rp_backend_words[] = {
    {"auto", RP_BACKEND_AUTO}, {"cpu", RP_BACKEND_CPU}, {"cuda", RP_BACKEND_CUDA}, {NULL, 0}};

rp_backend rp_backend_choose(rp_comm *comm, rp_backend asked)
{
    if (asked != RP_BACKEND_AUTO) {
        return asked;
    }
    return rp_comm_any(comm, rp_gpu_count() == 0) ? RP_BACKEND_CPU : RP_BACKEND_CUDA;
}

rp_status rp_backend_find_room(rp_backend_room *out, rp_comm *comm)
{
    rp_status st = RP_OK;
    rp_gpu_choice choice = {.ordinal = -1};
    rp_gpu_info info;
    double least = 0; /* negative: the ranks agree on a maximum */

    *out = (rp_backend_room){.own_bytes = rp_gpu_own_bytes(NULL)};
    RP_TRY(rp_comm_choose_gpu(&choice, comm));
    if (choice.ordinal < 0) {
        return RP_OK;
    }
    RP_TRY(rp_agree(comm, rp_gpu_describe(&info, choice.ordinal)));
    info.free_bytes /= (size_t)choice.n_sharing;
    least = -(double)rp_gpu_room_bytes(&info);
    rp_comm_allreduce_max_f64(comm, &least, 1);
    *out = (rp_backend_room){true, (size_t)-least, rp_gpu_own_bytes(&info)};
out:
    return st;
}

rp_status rp_backend_open_gpu(rp_gpu **out, rp_comm *comm, size_t arena_bytes, bool is_telling)
{
    rp_status st = RP_OK;
    rp_gpu_choice choice = {.ordinal = -1};

    RP_TRY(rp_comm_choose_gpu(&choice, comm));
    if (choice.ordinal < 0) {
        const char *trouble = rp_gpu_trouble();
        return RP_FAIL(RP_ERR_MEMORY, "backend is cuda, but %s%s%s",
                       rp_gpu_is_built() ? "there is no GPU"
                                         : "this rankpress was built without CUDA",
                       trouble != NULL ? ": " : "", trouble != NULL ? trouble : "");
    }
    if (choice.warning[0] != '\0' && is_telling) {
        (void)fprintf(stderr, "rankpress: warning: %s\n", choice.warning);
    }
    RP_TRY(rp_agree(comm, rp_gpu_create(out, choice.ordinal, arena_bytes)));
out:
    return st;
}

size_t rp_backend_arena_bytes(size_t place_bytes)
{
    return (size_t)(ARENA_SLACK * (double)place_bytes);
}
