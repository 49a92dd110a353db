/* Memory of the host or of a GPU. */
#include "kernels/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gpu.h"

rp_status rp_place_alloc_at(const char *site, const rp_exec *exec, void *out, size_t count,
                            size_t elem_bytes)
{
    rp_status st = RP_OK;
    size_t nbytes = 0;
    void *memory = NULL;

    if (exec->gpu == NULL) {
        return rp_alloc_array_at(site, out, count, elem_bytes);
    }
    RP_TRY(rp_mul_size(&nbytes, count, elem_bytes));
    RP_TRY(rp_gpu_alloc(&memory, exec->gpu, nbytes));
out:
    memcpy(out, &memory, sizeof(memory));
    return st;
}

void rp_place_free(const rp_exec *exec, void *memory)
{
    if (exec->gpu == NULL) {
        free(memory);
    } else if (memory != NULL) {
        rp_gpu_free(exec->gpu, memory);
    }
}

bool rp_place_is_host(const rp_exec *exec)
{
    return exec->gpu == NULL;
}

void rp_place_put(const rp_exec *exec, void *to, const void *from, size_t nbytes)
{
    rp_place_put_rows(exec, to, nbytes, from, nbytes, 1);
}

void rp_place_get(const rp_exec *exec, void *to, const void *from, size_t nbytes)
{
    rp_place_get_rows(exec, to, from, nbytes, nbytes, 1);
}

/* Rows of row_bytes on the host. */
static void copy_rows(char *to, size_t to_pitch, const char *from, size_t from_pitch,
                      size_t row_bytes, size_t nrows)
{
    if (to_pitch == row_bytes && from_pitch == row_bytes) {
        row_bytes *= nrows;
        nrows = 1;
    }
    for (size_t r = 0; r < nrows && row_bytes > 0; r++) {
        memcpy(to + r * to_pitch, from + r * from_pitch, row_bytes);
    }
}

void rp_place_put_rows(const rp_exec *exec, void *to, size_t pitch, const void *from,
                       size_t row_bytes, size_t nrows)
{
    if (exec->gpu == NULL) {
        copy_rows(to, pitch, from, row_bytes, row_bytes, nrows);
    } else {
        rp_gpu_put_by(exec->gpu, exec->pool, to, pitch, from, row_bytes, row_bytes, nrows);
    }
}

void rp_place_get_rows(const rp_exec *exec, void *to, const void *from, size_t pitch,
                       size_t row_bytes, size_t nrows)
{
    if (exec->gpu == NULL) {
        copy_rows(to, row_bytes, from, pitch, row_bytes, nrows);
    } else {
        rp_gpu_get_by(exec->gpu, exec->pool, to, row_bytes, from, pitch, row_bytes, nrows);
    }
}

void rp_place_copy(const rp_exec *exec, void *to, const void *from, size_t nbytes)
{
    if (exec->gpu == NULL) {
        memcpy(to, from, nbytes);
    } else {
        rp_gpu_copy(exec->gpu, to, from, nbytes);
    }
}

void rp_place_zero(const rp_exec *exec, void *memory, size_t nbytes)
{
    if (exec->gpu == NULL) {
        memset(memory, 0, nbytes);
    } else {
        rp_gpu_zero(exec->gpu, memory, nbytes);
    }
}

rp_status rp_place_check(const rp_exec *exec)
{
    return exec->gpu == NULL ? RP_OK : rp_gpu_sync(exec->gpu);
}

void rp_place_wait(const rp_exec *exec)
{
    const rp_status kept = rp_place_check(exec);

    (void)kept;
}
