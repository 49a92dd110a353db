/* The residual stream between layers: kept for the rank's blocks, embedded from ids, saved when
 * that is cheap. */
#include "jobs/activations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/place.h"

/* Rows of the embedding that are read at once. */
enum { EMBED_ROWS = 256 };

static int64_t widest_site(const rp_model_config *config)
{
    int64_t most = 0;

    for (int s = 0; s < RP_SITE_COUNT; s++) {
        most = RP_MAX(most, rp_model_site_width(config, (rp_site)s));
    }
    return most;
}

static int64_t rows_of(const rp_blocks *blocks, rp_range range)
{
    int64_t seqs = 0;

    for (int64_t b = range.first; b < range.first + range.count; b++) {
        seqs += rp_blocks_seqs(blocks, b);
    }
    return seqs * blocks->seq_len;
}

static rp_window_shape shape_of(const rp_blocks *blocks, rp_range mine, int64_t cols)
{
    return (rp_window_shape){rows_of(blocks, mine), blocks->seqs_per_block * blocks->seq_len, cols};
}

rp_place_bytes rp_activations_bytes(const rp_model_config *config, const rp_blocks *blocks,
                                    const rp_activations_opts *opts)
{
    const rp_range largest = rp_partition(blocks->n_blocks, opts->nranks, 0);
    const rp_window_shape shapes[] = {shape_of(blocks, largest, config->hidden_size),
                                      shape_of(blocks, largest, widest_site(config))};
    rp_place_bytes bytes = {0};

    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const rp_place_bytes window = rp_window_bytes(&shapes[i], opts->is_streamed);
        bytes.host += (size_t)opts->n_streams * window.host;
        bytes.place += (size_t)opts->n_streams * window.place;
    }
    return bytes;
}

rp_status rp_activations_create(rp_activations *out, const rp_model_config *config,
                                const rp_exec *exec, const rp_blocks *blocks,
                                const rp_activations_opts *opts)
{
    rp_status st = RP_OK;
    rp_activations a = {.config = config,
                        .exec = exec,
                        .blocks = *blocks,
                        .hidden = config->hidden_size,
                        .n_streams = opts->n_streams,
                        .saved = {0, RP_BEFORE_LAYER}};
    rp_window_shape h;
    rp_window_shape buf;

    memset(out, 0, sizeof(*out));
    a.mine = rp_partition(blocks->n_blocks, opts->nranks, opts->rank);
    h = shape_of(blocks, a.mine, config->hidden_size);
    buf = shape_of(blocks, a.mine, widest_site(config));
    for (int k = 0; k < opts->n_streams; k++) {
        RP_TRY(rp_window_create(&a.stream[k].h, exec, &h, opts->is_streamed));
        RP_TRY(rp_window_create(&a.stream[k].buf, exec, &buf, opts->is_streamed));
    }
    *out = a;
    memset(&a, 0, sizeof(a));
out:
    rp_activations_destroy(&a);
    return st;
}

void rp_activations_destroy(rp_activations *activations)
{
    for (int k = 0; k < activations->n_streams; k++) {
        rp_window_destroy(&activations->stream[k].h);
        rp_window_destroy(&activations->stream[k].buf);
    }
    memset(activations, 0, sizeof(*activations));
}

rp_status rp_activations_embed(rp_activations *activations, const rp_weights *weights,
                               const int32_t *ids)
{
    rp_status st = RP_OK;
    const rp_weight_info *table = rp_weights_find(weights, "model.embed_tokens.weight");
    const int64_t n = rows_of(&activations->blocks, activations->mine);
    const int64_t first = rp_blocks_first_seq(&activations->blocks, activations->mine.first) *
                          activations->blocks.seq_len;
    const int64_t hidden = activations->hidden;
    float *rows = NULL;

    RP_TRY(rp_alloc_array(&rows, (size_t)(EMBED_ROWS * hidden), sizeof(float)));
    for (int64_t i = 0; i < n; i += EMBED_ROWS) {
        const int64_t count = RP_MIN(EMBED_ROWS, n - i);
        for (int64_t r = 0; r < count; r++) {
            RP_TRY(rp_weights_read_f32(weights, table, ids[first + i + r], 1, rows + r * hidden));
        }
        for (int k = 0; k < activations->n_streams; k++) {
            rp_window_put(activations->stream[k].h, i, count, hidden, rows);
        }
    }
    RP_TRY(rp_place_check(activations->exec));
out:
    free(rows);
    return st;
}

/* What of a stream is saved. */
typedef enum saved_part { SAVED_H = 0, SAVED_INPUT, SAVED_COUNT } saved_part;

static int n_parts(int site)
{
    return site == RP_BEFORE_LAYER ? 1 : SAVED_COUNT;
}

/* "passing/activations/3/before/17" before layer 3, "passing/inputs/3/0/17" before its first site.
 */
static void unit_name(char *out, size_t out_bytes, int stream, saved_part part, rp_cursor at,
                      int64_t block)
{
    static const char *const folder[RP_STREAM_COUNT][SAVED_COUNT] = {
        {"activations", "inputs"}, {"full_activations", "full_inputs"}};
    char site[16] = "before";

    if (at.site != RP_BEFORE_LAYER) {
        (void)snprintf(site, sizeof(site), "%d", at.site);
    }
    (void)snprintf(out, out_bytes, RP_UNIT_PASSING "%s/%lld/%s/%lld", folder[stream][part],
                   (long long)at.layer, site, (long long)block);
}

typedef rp_status (*unit_fn)(rp_activations *a, rp_session *session, int stream, saved_part part,
                             rp_cursor at, int64_t block);

/* Every unit of a cursor, or those of this rank's blocks. */
static rp_status each_unit(rp_activations *a, rp_session *session, rp_cursor at, rp_range blocks,
                           unit_fn fn)
{
    rp_status st = RP_OK;

    for (int stream = 0; stream < a->n_streams; stream++) {
        for (int part = 0; part < n_parts(at.site); part++) {
            for (int64_t b = blocks.first; b < blocks.first + blocks.count; b++) {
                RP_TRY(fn(a, session, stream, (saved_part)part, at, b));
            }
        }
    }
out:
    return st;
}

static bool is_whole(const rp_activations *a, const rp_session *session, rp_cursor at)
{
    char unit[64];

    for (int stream = 0; stream < a->n_streams; stream++) {
        for (int part = 0; part < n_parts(at.site); part++) {
            for (int64_t b = 0; b < a->blocks.n_blocks; b++) {
                unit_name(unit, sizeof(unit), stream, (saved_part)part, at, b);
                if (!rp_checkpoint_has(session->checkpoint, unit)) {
                    return false;
                }
            }
        }
    }
    return true;
}

rp_cursor rp_activations_find_saved(const rp_activations *activations, const rp_session *session,
                                    rp_cursor limit)
{
    rp_cursor at = limit;

    while (at.layer > 0 || at.site > RP_BEFORE_LAYER) {
        if (is_whole(activations, session, at)) {
            return at;
        }
        at.site--;
        if (at.site < RP_BEFORE_LAYER) {
            at = (rp_cursor){at.layer - 1, RP_SITE_COUNT - 1};
        }
    }
    return at;
}

/* Rows and columns of a unit. */
typedef struct unit_rows {
    rp_window *window;
    int64_t first, rows, cols;
} unit_rows;

static unit_rows rows_of_unit(const rp_activations *a, int stream, saved_part part, int site,
                              int64_t block)
{
    const int64_t block_rows = a->blocks.seqs_per_block * a->blocks.seq_len;
    unit_rows out = {a->stream[stream].h, (block - a->mine.first) * block_rows,
                     rp_blocks_seqs(&a->blocks, block) * a->blocks.seq_len, a->hidden};

    if (part == SAVED_INPUT) {
        out.window = a->stream[stream].buf;
        out.cols = rp_model_site_width(a->config, (rp_site)site);
    }
    return out;
}

static rp_status load_unit(rp_activations *a, rp_session *session, int stream, saved_part part,
                           rp_cursor at, int64_t block)
{
    rp_status st = RP_OK;
    const unit_rows to = rows_of_unit(a, stream, part, at.site, block);
    float *values = NULL;
    int64_t n = 0;
    char unit[64];

    unit_name(unit, sizeof(unit), stream, part, at, block);
    RP_TRY(rp_checkpoint_get_array(session->checkpoint, unit, RP_F32, &values, &n));
    if (n != to.rows * to.cols) {
        st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: want %lld values, got %lld", unit,
                     (long long)(to.rows * to.cols), (long long)n);
        goto out;
    }
    rp_window_put(to.window, to.first, to.rows, to.cols, values);
out:
    free(values);
    return st;
}

rp_status rp_activations_load(rp_activations *activations, rp_session *session, rp_cursor at)
{
    activations->saved = at;
    return each_unit(activations, session, at, activations->mine, load_unit);
}

double rp_activations_save_bytes(const rp_activations *activations, int site)
{
    const rp_activations *a = activations;
    const int64_t width =
        a->hidden + (site == RP_BEFORE_LAYER ? 0 : rp_model_site_width(a->config, (rp_site)site));

    return (double)(a->n_streams * rows_of(&a->blocks, a->mine) * width) * sizeof(float);
}

/* Rows in memory of the host are packed where they lie. */
static void pack_rows(float *data, const unit_rows *rows)
{
    const int64_t ld = rp_window_cols(rows->window);

    for (int64_t r = 1; r < rows->rows && rows->cols < ld; r++) {
        memmove(data + r * rows->cols, data + r * ld, (size_t)rows->cols * sizeof(float));
    }
}

static rp_status save_unit(rp_activations *a, rp_session *session, int stream, saved_part part,
                           rp_cursor at, int64_t block)
{
    rp_status st = RP_OK;
    const unit_rows from = rows_of_unit(a, stream, part, at.site, block);
    float *data = rp_window_on_host(from.window);
    float *values = NULL; /* of rows that are not on the host */
    char unit[64];

    unit_name(unit, sizeof(unit), stream, part, at, block);
    if (data != NULL) {
        data += from.first * rp_window_cols(from.window);
        pack_rows(data, &from);
    } else {
        RP_TRY(rp_alloc_array(&values, (size_t)(from.rows * from.cols), sizeof(float)));
        rp_window_get(from.window, from.first, from.rows, from.cols, values);
        data = values;
    }
    RP_TRY(rp_place_check(a->exec));
    RP_TRY(rp_checkpoint_put_array(session->checkpoint, unit, RP_F32, data, from.rows * from.cols));
out:
    free(values);
    return st;
}

static rp_status drop_unit(rp_activations *a, rp_session *session, int stream, saved_part part,
                           rp_cursor at, int64_t block)
{
    char unit[64];

    (void)a;
    unit_name(unit, sizeof(unit), stream, part, at, block);
    return rp_checkpoint_drop(session->checkpoint, unit);
}

rp_status rp_activations_save(rp_activations *activations, rp_session *session, rp_cursor at)
{
    rp_status st = RP_OK;
    rp_activations *a = activations;
    const rp_range all = {0, a->blocks.n_blocks};
    const bool is_anything_saved = a->saved.layer > 0 || a->saved.site != RP_BEFORE_LAYER;

    if (is_anything_saved) {
        RP_TRY(each_unit(a, session, a->saved, all, drop_unit));
    }
    RP_TRY(each_unit(a, session, at, a->mine, save_unit));
    a->saved = at;
out:
    return st;
}
