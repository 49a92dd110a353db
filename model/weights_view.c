/* A model seen through a filter: the base's tensors, their matrices changed as they are read. */
#include <stdlib.h>

#include "base/mem.h"
#include "model/weights_backend.h"

typedef struct view {
    const rp_weights *base;
    rp_weights_filter filter;
} view;

rp_status rp_weights_view_create(void **state, const rp_weights *base,
                                 const rp_weights_filter *filter)
{
    rp_status st = RP_OK;
    view *v = NULL;

    *state = NULL;
    RP_TRY(rp_calloc(&v, 1, sizeof(*v)));
    v->base = base;
    v->filter = *filter;
    *state = v;
out:
    return st;
}

static void view_close(void *state)
{
    free(state);
}

static int64_t view_count(const void *state)
{
    return rp_weights_count(((const view *)state)->base);
}

static void view_info(const void *state, int64_t index, rp_weight_info *out)
{
    *out = *rp_weights_at(((const view *)state)->base, index);
    out->dtype = RP_F32;
    out->block = NULL;
}

static const char *view_file_of(const void *state, int64_t index)
{
    (void)index;
    return rp_weights_path(((const view *)state)->base);
}

static rp_status view_read_rows(const void *state, int64_t index, int64_t row0, int64_t nrows,
                                void *dst)
{
    rp_status st = RP_OK;
    const view *v = state;
    const rp_weight_info *info = rp_weights_at(v->base, index);

    RP_TRY(rp_weights_read_f32(v->base, info, row0, nrows, dst));
    if (info->ndim > 1) {
        RP_TRY(v->filter.fn(v->filter.ctx, info, row0, nrows, dst));
    }
out:
    return st;
}

static const json_t *view_config_json(const void *state)
{
    return rp_weights_config_json(((const view *)state)->base);
}

static size_t view_file_bytes(const void *state)
{
    return rp_weights_file_bytes(((const view *)state)->base);
}

static rp_hash view_hash_config(const void *state)
{
    rp_hash hash = {0, 0};
    uint64_t parts[2];

    rp_weights_fingerprint(((const view *)state)->base, parts);
    hash.hi = parts[0];
    hash.lo = parts[1];
    return hash;
}

const rp_weights_backend rp_weights_backend_view = {
    .name = "view",
    .close = view_close,
    .count = view_count,
    .info = view_info,
    .file_of = view_file_of,
    .read_rows = view_read_rows,
    .config_json = view_config_json,
    .file_bytes = view_file_bytes,
    .hash_config = view_hash_config,
};
