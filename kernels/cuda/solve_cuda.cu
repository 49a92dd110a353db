/* Solvers of tiles, and solved rows decoded. Tiles that share grid and factor are solved together,
 * as many as fit the scratch; one that does not fit alone is cut into pieces. */
#include "kernels/cuda/ops_cuda.h"

#include "kernels/cuda/solve_piece.cuh"
#include "kernels/place.h"

enum { TILE = 32, TILE_ROWS = 8, THREADS = 256 };
#define DECODE_ROWS 16                /* of one thread */
#define PART_BYTES ((size_t)64 << 20) /* of codes and parameters at once */

/* Rows of a piece: of `n` tiles all of them, or of one tile `rows` from row `skip` on. */
typedef struct piece_rows {
    rp_tile_solve *tiles;
    int64_t n, skip, rows;
} piece_rows;

/* One tile's share of a piece. */
typedef struct piece_part {
    rp_tile_solve *tile;
    int64_t first; /* row of the piece */
    rp_form out;
    const float *w;
} piece_part;

/* The next part, `part` before the first with a tile of NULL; false after the last. */
static bool next_part(const piece_rows *p, piece_part *part)
{
    const bool is_first = part->tile == NULL;

    part->first += is_first ? 0 : part->out.rows;
    part->tile = is_first ? p->tiles : part->tile + 1;
    if (part->tile == p->tiles + p->n) {
        return false;
    }
    const int64_t rows = p->n == 1 ? p->rows : part->tile->out->rows;
    part->out = rp_form_view_rows(part->tile->out, p->skip, rows);
    part->w = part->tile->w + p->skip * part->out.cols;
    return true;
}

/* ---- In and out ---- */

/* w [k][first + r] := from [r][order[k]], 0 in dead columns and beyond the rows. */
static __global__ void load_kernel(rp_piece t, int64_t first, int64_t rows, int64_t until,
                                   const float *from)
{
    __shared__ float tile[TILE][TILE + 1];
    const int64_t k0 = (int64_t)blockIdx.x * TILE;
    const int64_t r0 = (int64_t)blockIdx.y * TILE;
    const int64_t k = k0 + threadIdx.x;
    const int64_t column = k < t.cols ? t.order[k] : 0;
    const bool is_dead = k >= t.cols || t.is_dead[column] != 0;

    for (int64_t i = threadIdx.y; i < TILE; i += TILE_ROWS) {
        const bool is_there = r0 + i < rows && !is_dead;
        tile[i][threadIdx.x] = is_there ? from[(r0 + i) * t.cols + column] : 0.0f;
    }
    __syncthreads();
    for (int64_t i = threadIdx.y; i < TILE && k0 + i < t.cols; i += TILE_ROWS) {
        if (r0 + threadIdx.x < until) {
            t.w[(k0 + i) * t.ld + first + r0 + threadIdx.x] = tile[threadIdx.x][i];
        }
    }
}

/* to [rows][n] := from [n][ld] */
template <typename T>
static __global__ void transpose_kernel(int64_t rows, int64_t n, int64_t ld, const T *from, T *to)
{
    __shared__ T tile[TILE][TILE + 1];
    const int64_t i0 = (int64_t)blockIdx.x * TILE;
    const int64_t r0 = (int64_t)blockIdx.y * TILE;

    for (int64_t i = threadIdx.y; i < TILE && i0 + i < n; i += TILE_ROWS) {
        tile[i][threadIdx.x] = from[(i0 + i) * ld + r0 + threadIdx.x];
    }
    __syncthreads();
    for (int64_t r = threadIdx.y; r < TILE && r0 + r < rows; r += TILE_ROWS) {
        if (i0 + threadIdx.x < n) {
            to[(r0 + r) * n + i0 + threadIdx.x] = tile[threadIdx.x][r];
        }
    }
}

static dim3 transposing_grid(int64_t rows, int64_t n)
{
    return dim3(rp_gpu_blocks(n, TILE), rp_gpu_blocks(rows, TILE));
}

/* The last part's zeros fill the piece's columns up. */
static void load(rp_gpu *gpu, const rp_piece *t, const piece_rows *p)
{
    piece_part part = {};

    while (next_part(p, &part)) {
        const bool is_last = part.first + part.out.rows == t->rows;
        const int64_t until = is_last ? t->ld - part.first : part.out.rows;
        RP_LAUNCH(gpu, load_kernel, transposing_grid(until, t->cols), dim3(TILE, TILE_ROWS), 0, *t,
                  part.first, part.out.rows, until, part.w);
    }
}

/* Through `bytes`, which holds either. */
static void store(const rp_exec *exec, const rp_piece *t, unsigned char *bytes, const piece_rows *p)
{
    const int64_t per_row = rp_form_params_per_row(p->tiles->out);
    float *params = (float *)(void *)bytes;
    piece_part part = {};

    RP_LAUNCH(exec->gpu, transpose_kernel<uint8_t>, transposing_grid(t->rows, t->cols),
              dim3(TILE, TILE_ROWS), 0, t->rows, t->cols, t->ld, t->codes, bytes);
    while (next_part(p, &part)) {
        rp_place_get(exec, part.out.codes, bytes + part.first * t->cols,
                     (size_t)(part.out.rows * t->cols));
    }
    RP_LAUNCH(exec->gpu, transpose_kernel<float>, transposing_grid(t->rows, per_row),
              dim3(TILE, TILE_ROWS), 0, t->rows, per_row, t->ld, t->params, params);
    part = {};
    while (next_part(p, &part)) {
        rp_place_get(exec, part.out.params, params + part.first * per_row,
                     (size_t)(part.out.rows * per_row) * sizeof(float));
    }
}

/* Every tile's loss += its rows', in their order. */
static void add_losses(rp_gpu *gpu, const rp_piece *t, const piece_rows *p)
{
    const size_t nbytes = (size_t)t->rows * sizeof(double);
    double *losses = (double *)rp_gpu_pinned(gpu, nbytes);
    piece_part part = {};

    if (rp_gpu_has_failed(gpu)) {
        return;
    }
    rp_gpu_get(gpu, losses, nbytes, t->loss, nbytes, nbytes, 1);
    while (next_part(p, &part)) {
        for (int64_t r = 0; r < part.out.rows; r++) {
            part.tile->loss += losses[part.first + r];
        }
    }
}

/* ---- One piece ---- */

/* What a piece of `rows` rows needs. */
typedef struct working_set {
    rp_piece piece;
    rp_gptq_scratch gptq;
    rp_descent_scratch descent;
    unsigned char *bytes;
} working_set;

static void set_sizes(const rp_tile_solve *task, int64_t rows, rp_piece *t)
{
    const int64_t cols = task->out->cols;

    t->grid = rp_device_grid_of(task->grid, cols);
    t->rows = rows;
    t->ld = RP_DIV_UP(rows, TILE) * TILE;
    t->cols = cols;
    t->group = (int)RP_MIN(rp_grid_group_cols(task->grid, cols), cols);
    t->sub = (int)RP_MIN(rp_grid_sub_cols(task->grid, cols), cols);
    t->l = task->ldl->l;
}

static working_set carve(rp_carver *c, const rp_tile_solve *task, int64_t rows)
{
    working_set s;
    rp_piece *t = &s.piece;
    const int64_t per_row = rp_form_params_per_row(task->out);

    memset(&s, 0, sizeof(s));
    set_sizes(task, rows, t);
    rp_carve(c, &t->w, t->cols * t->ld);
    rp_carve(c, &t->delta, t->cols * t->ld);
    rp_carve(c, &t->params, per_row * t->ld);
    rp_carve(c, &t->codes, t->cols * t->ld);
    rp_carve(c, &t->loss, t->ld);
    rp_carve(c, &t->d, t->cols);
    rp_carve(c, &t->diagonal, t->cols);
    rp_carve(c, &t->weight, t->cols);
    rp_carve(c, &t->order, t->cols);
    rp_carve(c, &t->is_dead, t->cols);
    rp_carve(c, &s.bytes, RP_MAX(t->cols, per_row * (int64_t)sizeof(float)) * rows);
    rp_gptq_carve(c, t, task->block_cols, &s.gptq);
    rp_descent_carve(c, t, task->grid, &s.descent);
    return s;
}

/* Errors are weighted with the importance where groups are fitted in advance, else with d. */
static __global__ void set_weights_kernel(rp_piece t)
{
    const int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x;

    if (k < t.cols) {
        const int64_t column = t.order[k];
        t.weight[column] = t.is_dead[column] != 0 ? 0.0f : t.d[k];
    }
}

static void load_factor(const rp_exec *exec, const rp_piece *t, const rp_ldl *ldl)
{
    const size_t n = (size_t)t->cols;

    rp_place_put(exec, t->d, ldl->d, n * sizeof(float));
    rp_place_put(exec, t->diagonal, ldl->diagonal, n * sizeof(float));
    rp_place_put(exec, t->order, ldl->order, n * sizeof(int32_t));
    rp_place_put(exec, t->is_dead, ldl->is_dead, n);
    rp_place_zero(exec, t->loss, (size_t)t->ld * sizeof(double));
    if (ldl->is_actorder) {
        rp_place_put(exec, t->weight, ldl->importance, n * sizeof(float));
    } else {
        RP_LAUNCH(exec->gpu, set_weights_kernel, rp_gpu_blocks(t->cols, THREADS), THREADS, 0, *t);
    }
}

static void solve_piece(const rp_exec *exec, const piece_rows *p, size_t scratch_bytes)
{
    rp_gpu *gpu = exec->gpu;
    rp_carver c = {(char *)rp_gpu_scratch(gpu, scratch_bytes), 0};
    const rp_tile_solve *task = p->tiles; /* what they share */
    const working_set s = carve(&c, task, p->rows);
    const rp_piece *t = &s.piece;

    if (rp_gpu_has_failed(gpu)) {
        return;
    }
    RP_GPU_FRESH(gpu, c.base, scratch_bytes);
    load_factor(exec, t, task->ldl);
    load(gpu, t, p);
    rp_gptq_run(gpu, t, task, &s.gptq);
    rp_descent_run_cuda(gpu, t, task, &s.descent);
    add_losses(gpu, t, p);
    store(exec, t, s.bytes, p);
}

static size_t piece_bytes(const rp_tile_solve *task, int64_t rows)
{
    rp_carver c = {NULL, 0};

    (void)carve(&c, task, rows);
    return c.at;
}

/* Rows of the largest piece that fits the scratch, at least TILE. */
static int64_t most_rows(const rp_gpu *gpu, const rp_tile_solve *task)
{
    int64_t fits = 1;
    int64_t beyond = RP_DIV_UP((int64_t)rp_gpu_scratch_bytes(gpu), task->out->cols) / TILE + 2;

    while (beyond - fits > 1) {
        const int64_t middle = fits + (beyond - fits) / 2;
        if (piece_bytes(task, middle * TILE) <= rp_gpu_scratch_bytes(gpu)) {
            fits = middle;
        } else {
            beyond = middle;
        }
    }
    return fits * TILE;
}

static bool shares(const rp_tile_solve *a, const rp_tile_solve *b)
{
    return rp_grid_equal(a->grid, b->grid) && a->ldl == b->ldl && a->block_cols == b->block_cols &&
           a->sweeps == b->sweeps && a->out->cols == b->out->cols;
}

/* The first tiles, up to n, that are solved at once: in equal pieces where they do not all fit. */
static piece_rows first_piece(rp_tile_solve *tiles, int64_t n, int64_t most)
{
    piece_rows p = {tiles, 0, 0, 0};
    int64_t total = 0;
    int64_t n_shared = 0;

    while (n_shared < n && shares(&tiles[0], &tiles[n_shared])) {
        total += tiles[n_shared++].out->rows;
    }
    const int64_t fair = RP_DIV_UP(total, RP_DIV_UP(total, most));
    while (p.n < n_shared && p.rows < fair && (p.n == 0 || p.rows + tiles[p.n].out->rows <= most)) {
        p.rows += tiles[p.n++].out->rows;
    }
    return p;
}

static int64_t solve_together(const rp_exec *exec, rp_tile_solve *tiles, int64_t n)
{
    const int64_t most = most_rows(exec->gpu, tiles);
    piece_rows p = first_piece(tiles, n, most);
    const int64_t rows = p.rows;

    for (p.skip = 0; p.skip < rows; p.skip += most) {
        p.rows = RP_MIN(most, rows - p.skip);
        solve_piece(exec, &p, piece_bytes(tiles, p.rows));
    }
    for (int64_t i = 0; i < p.n; i++) {
        tiles[i].loss = RP_MAX(tiles[i].loss, 0);
    }
    return p.n;
}

/* ---- Round to nearest, and decoding ---- */

/* Parameters and codes of some rows of a form, in the scratch. */
typedef struct form_part {
    int64_t rows, per_row;
    float *params;
    uint8_t *codes;
} form_part;

static form_part take_part(rp_gpu_pieces *scratch, const rp_form *form)
{
    form_part part = {0, rp_form_params_per_row(form), NULL, NULL};
    const size_t row_bytes = (size_t)part.per_row * sizeof(float) + (size_t)form->cols;
    const size_t most_bytes = RP_MIN(PART_BYTES, rp_gpu_scratch_bytes(scratch->gpu) / 2);

    part.rows = RP_MIN(form->rows, RP_MAX((int64_t)(most_bytes / row_bytes), 1));
    part.params = rp_gpu_take<float>(scratch, part.rows * part.per_row);
    part.codes = rp_gpu_take<uint8_t>(scratch, part.rows * form->cols);
    return part;
}

static void round_to_nearest(const rp_exec *exec, const rp_tile_solve *task)
{
    const int64_t cols = task->out->cols;
    const rp_device_grid grid = rp_device_grid_of(task->grid, cols);
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const form_part part = take_part(&scratch, task->out);
    const float *importance =
        task->importance == NULL ? NULL : rp_gpu_take_put(&scratch, task->importance, cols);

    for (int64_t r = 0; r < task->out->rows; r += part.rows) {
        const rp_form out = rp_form_view_rows(task->out, r, RP_MIN(part.rows, task->out->rows - r));
        rp_quantise_rows_cuda(exec->gpu, &grid, out.rows, cols, task->w + r * cols, importance,
                              part.params, part.codes);
        rp_place_get(exec, out.params, part.params,
                     (size_t)(out.rows * part.per_row) * sizeof(float));
        rp_place_get(exec, out.codes, part.codes, (size_t)(out.rows * cols));
    }
}

extern "C" int64_t rp_solve_tiles_cuda(const rp_exec *exec, rp_tile_solve *tiles, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        tiles[i].loss = 0;
    }
    if (tiles[0].ldl == NULL) {
        round_to_nearest(exec, &tiles[0]);
        return 1;
    }
    return solve_together(exec, tiles, n);
}

static __global__ void decode_kernel(rp_device_grid grid, int64_t rows, int64_t cols,
                                     int64_t per_row, const float *params, const uint8_t *codes,
                                     float *out)
{
    const int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t group = c / grid.group;
    const int sub = (int)(c % grid.group / grid.sub_cols);

    for (int64_t r = blockIdx.y; r < rows && c < cols; r += gridDim.y) {
        const rp_strided own = {params + r * per_row + group * grid.n_params, 1};
        out[r * cols + c] = rp_grid_decode_cuda(grid, own, sub, codes[r * cols + c]);
    }
}

static void decode_codes(const rp_exec *exec, const rp_form *form, float *out)
{
    const rp_device_grid grid = rp_device_grid_of(&form->grid, form->cols);
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const form_part part = take_part(&scratch, form);

    for (int64_t r = 0; r < form->rows; r += part.rows) {
        const rp_form from = rp_form_view_rows(form, r, RP_MIN(part.rows, form->rows - r));
        const dim3 blocks(rp_gpu_blocks(form->cols, THREADS),
                          rp_gpu_blocks(from.rows, DECODE_ROWS));
        rp_place_put(exec, part.params, from.params,
                     (size_t)(from.rows * part.per_row) * sizeof(float));
        rp_place_put(exec, part.codes, from.codes, (size_t)(from.rows * form->cols));
        RP_LAUNCH(exec->gpu, decode_kernel, blocks, THREADS, 0, grid, from.rows, form->cols,
                  part.per_row, part.params, part.codes, out + r * form->cols);
    }
}

extern "C" void rp_decode_rows_cuda(const rp_exec *exec, const rp_form *form, int64_t row0,
                                    int64_t nrows, float *out)
{
    const rp_form part = rp_form_view_rows(form, row0, nrows);

    if (form->kind == RP_FORM_DENSE) {
        rp_place_put(exec, out, part.values, (size_t)(nrows * form->cols) * sizeof(float));
    } else if (nrows > 0) {
        decode_codes(exec, &part, out);
    }
}
