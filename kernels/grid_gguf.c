/* Grids of the GGUF block types Q4_0, Q5_0 (scale), Q4_1, Q5_1 (scale and minimum), Q8_0, and
 * IQ4_NL, whose levels are not uniform.
 *
 * Source: ggml's reference quantisers (src/ggml-quants.c of ggml-org/ggml), reimplemented from
 * their description; all arithmetic is fp32 in the same order, without contraction, so the blocks
 * are the same bits.
 *
 *   Q4_0, Q5_0  value = d * (code - 2^(bits-1))    params {d}
 *   Q8_0        value = d * (code - 128)           params {d}, code 1..255
 *   Q4_1, Q5_1  value = d * code + m               params {d, m}
 *   IQ4_NL      value = d * level[code]            params {d}
 *
 * ggml stores d and m as fp16 but chooses codes with the fp32 ones: so does `quantise`; `fit`
 * rounds them first, and `round_column` uses what is stored. */
#include "kernels/grid_gguf.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/grid_params.h"
#include "kernels/grid_round.h"
#include "kernels/grid_search.h"

#define Q8_ZERO 128

static bool is_q8(const rp_grid *grid)
{
    return grid->bits == 8;
}

static bool is_iq4(const rp_grid *grid)
{
    return grid->ops->levels == rp_iq4_levels;
}

static int top_of(const rp_grid *grid)
{
    return (1 << grid->bits) - 1;
}

/* The code of level 0 where levels are uniform. */
static int zero_code(const rp_grid *grid)
{
    return -(int)grid->ops->levels[0];
}

/* ---- Without a search ---- */

static void plain_blocks(const rp_grid *grid, int64_t nblocks, const float *x, float *params,
                         uint8_t *codes)
{
    if (is_q8(grid)) {
        rp_plain_q8(nblocks, x, params, codes);
    } else if (grid->ops->has_min) {
        rp_plain_min(nblocks, top_of(grid), x, params, codes);
    } else {
        rp_plain_symmetric(nblocks, zero_code(grid), x, params, codes);
    }
}

static void store_params(const rp_grid *grid, float *params)
{
    for (int p = 0; p < grid->ops->n_params; p++) {
        params[p] = rp_nearest_f16(params[p]);
    }
}

/* ---- With a search ---- */

/* Up to RP_SEARCH_GROUPS blocks. */
typedef struct block_tile {
    int nblocks;
    const float *x[RP_SEARCH_GROUPS], *importance[RP_SEARCH_GROUPS];
    bool is_weighted;
    float sigma2[RP_SEARCH_GROUPS];
} block_tile;

static void search_blocks(const rp_grid *grid, const block_tile *t, rp_search_weight weight,
                          bool is_plain, rp_search_result *found)
{
    const struct rp_grid_search *search = grid->ops->search;
    rp_search_tile tile;

    rp_search_load(&tile, RP_GGUF_BLOCK, t->nblocks, t->x, t->is_weighted ? t->importance : NULL,
                   weight, t->sigma2);
    rp_search_run(is_plain ? search->plain : search->weighted, 1, &tile, top_of(grid),
                  &rp_search_weighted_steps, found);
}

static void put_params(const rp_grid *grid, const rp_search_result *found, int k, float *params)
{
    params[0] = found->scale[k];
    if (grid->ops->has_min) {
        params[1] = found->min[k];
    }
}

static void quantise_tile(const rp_grid *grid, const block_tile *t, float *params, uint8_t *codes)
{
    const struct rp_grid_search *search = grid->ops->search;
    rp_search_result found;

    search_blocks(grid, t, t->is_weighted ? search->weighted_weight : search->plain_weight,
                  !t->is_weighted, &found);
    for (int k = 0; k < t->nblocks; k++, params += grid->ops->n_params, codes += RP_GGUF_BLOCK) {
        put_params(grid, &found, k, params);
        if (is_iq4(grid)) {
            rp_round_iq4_values(rp_inverse(params[0]), RP_GGUF_BLOCK, t->x[k], codes);
        } else {
            for (int i = 0; i < RP_GGUF_BLOCK; i++) {
                codes[i] = found.code[i][k];
            }
        }
        store_params(grid, params);
    }
}

/* The mean square that ggml weighs with: of the block for IQ4_NL, else of the row. */
static void block_sigma2(const rp_grid *grid, block_tile *t)
{
    for (int k = 0; k < t->nblocks; k += RP_SEARCH_ROWS) {
        rp_search_squares(RP_MIN(RP_SEARCH_ROWS, t->nblocks - k), RP_GGUF_BLOCK, t->x + k,
                          t->sigma2 + k);
    }
    for (int k = 0; k < t->nblocks; k++) {
        t->sigma2[k] *= grid->ops->search->times;
    }
}

static void row_sigma2(int64_t nrows, int64_t cols, const float *x, float *out)
{
    const float *rows[RP_SEARCH_ROWS] = {NULL};

    for (int64_t r = 0; r < nrows; r++) {
        rows[r] = x + r * cols;
    }
    rp_search_squares((int)nrows, cols, rows, out);
    for (int64_t r = 0; r < nrows; r++) {
        out[r] /= (float)cols;
    }
}

/* nrows <= RP_SEARCH_ROWS */
static void searched_rows(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                          const float *importance, float *params, uint8_t *codes)
{
    const int64_t nblocks = nrows * cols / RP_GGUF_BLOCK;
    float of_row[RP_SEARCH_ROWS] = {0};

    if (importance != NULL && !is_iq4(grid)) {
        row_sigma2(nrows, cols, x, of_row);
    }
    for (int64_t first = 0; first < nblocks; first += RP_SEARCH_GROUPS) {
        block_tile t;
        t.nblocks = (int)RP_MIN(RP_SEARCH_GROUPS, nblocks - first);
        t.is_weighted = importance != NULL;
        for (int k = 0; k < t.nblocks; k++) {
            const int64_t at = (first + k) * RP_GGUF_BLOCK;
            t.x[k] = x + at;
            t.importance[k] = t.is_weighted ? importance + at % cols : NULL;
            t.sigma2[k] = of_row[at / cols];
        }
        if (is_iq4(grid)) {
            block_sigma2(grid, &t);
        }
        quantise_tile(grid, &t, params + first * grid->ops->n_params,
                      codes + first * RP_GGUF_BLOCK);
    }
}

static void gguf_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                          const float *importance, float *params, uint8_t *codes)
{
    RP_ASSERT(cols % RP_GGUF_BLOCK == 0);
    if (is_q8(grid) || (importance == NULL && !is_iq4(grid))) {
        plain_blocks(grid, nrows * cols / RP_GGUF_BLOCK, x, params, codes);
        return;
    }
    for (int64_t r = 0; r < nrows; r += RP_SEARCH_ROWS) {
        searched_rows(grid, RP_MIN(RP_SEARCH_ROWS, nrows - r), cols, x + r * cols, importance,
                      params + r * cols / RP_GGUF_BLOCK * grid->ops->n_params, codes + r * cols);
    }
}

static void gguf_fit(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                     const float *importance, float *params)
{
    const int n_params = grid->ops->n_params;
    block_tile t = {.is_weighted = importance != NULL};
    rp_search_result found;

    RP_ASSERT(n == RP_GGUF_BLOCK);
    if (is_q8(grid)) {
        uint8_t codes[RP_GGUF_BLOCK];
        for (int64_t r = 0; r < nrows; r++) {
            rp_plain_q8(1, x + r * n, params + r * n_params, codes);
        }
        return;
    }
    for (int64_t r = 0; r < nrows; r += t.nblocks, params += (int64_t)t.nblocks * n_params) {
        t.nblocks = (int)RP_MIN(RP_SEARCH_GROUPS, nrows - r);
        for (int k = 0; k < t.nblocks; k++) {
            t.x[k] = x + (r + k) * n;
            t.importance[k] = importance;
        }
        search_blocks(grid, &t, RP_WEIGHT_IMPORTANCE, false, &found);
        for (int k = 0; k < t.nblocks; k++) {
            put_params(grid, &found, k, params + (int64_t)k * n_params);
            store_params(grid, params + (int64_t)k * n_params);
        }
    }
}

/* ---- Rounding and decoding ---- */

static void gguf_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                        float *out)
{
    if (is_iq4(grid)) {
        rp_decode_levels(params[0], grid->ops->levels, n, code, out);
    } else {
        rp_decode_uniform(params[0], grid->ops->has_min ? -params[1] : 0.0f, zero_code(grid), n,
                          code, out);
    }
}

static void gguf_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                              const float *x, uint8_t *code, float *decoded)
{
    const bool has_min = grid->ops->has_min;
    float offset[RP_ROUND_ROWS];

    (void)sub;
    if (is_iq4(grid)) {
        rp_round_iq4(rows, params, x, code, decoded);
        return;
    }
    const rp_uniform levels = {.lo = is_q8(grid) ? 1 - Q8_ZERO : -zero_code(grid),
                               .hi = top_of(grid) - zero_code(grid),
                               .zero = zero_code(grid)};
    for (int64_t i = 0; i < rows; i += RP_ROUND_ROWS) {
        const int64_t n = RP_MIN(RP_ROUND_ROWS, rows - i);
        for (int64_t k = 0; k < n && has_min; k++) {
            offset[k] = -params[rows + i + k];
        }
        rp_round_uniform(&levels, n, params + i, has_min ? offset : NULL, x + i, code + i,
                         decoded + i);
    }
}

static const struct rp_grid_search symmetric_search = {
    .weighted = RP_SEARCH_SYMMETRIC,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
};
static const struct rp_grid_search min_search = {
    .weighted = RP_SEARCH_MIN,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
};
static const struct rp_grid_search iq4_nl_search = {
    .plain = RP_SEARCH_LEVELS,
    .weighted = RP_SEARCH_LEVELS,
    .plain_weight = RP_WEIGHT_SQUARE,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .times = 2.0f / (float)RP_GGUF_BLOCK,
};

#define OPS(title, n_bits, first_level, own_search, min)                                           \
    {                                                                                              \
        .name = (title), .n_params = (min) ? 2 : 1, .fixed_group = RP_GGUF_BLOCK,                  \
        .fixed_bits = (n_bits), .levels = (first_level), .has_min = (min), .search = (own_search), \
        .quantise = gguf_quantise, .fit = gguf_fit, .round_column = gguf_round_column,             \
        .decode = gguf_decode,                                                                     \
    }

const rp_grid_ops rp_grid_q4_0 = OPS("Q4_0", 4, rp_integer_levels + 120, &symmetric_search, false);
const rp_grid_ops rp_grid_q4_1 = OPS("Q4_1", 4, rp_integer_levels + 128, &min_search, true);
const rp_grid_ops rp_grid_q5_0 = OPS("Q5_0", 5, rp_integer_levels + 112, &symmetric_search, false);
const rp_grid_ops rp_grid_q5_1 = OPS("Q5_1", 5, rp_integer_levels + 128, &min_search, true);
const rp_grid_ops rp_grid_q8_0 = OPS("Q8_0", 8, rp_integer_levels, NULL, false);
const rp_grid_ops rp_grid_iq4_nl = OPS("IQ4_NL", 4, rp_iq4_levels, &iq4_nl_search, false);
