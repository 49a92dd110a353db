/* Adds one block's products x^T x and a^T b to the fixed-point sums (sharding/gram.h).
 *
 * The block is copied to BF16 once, in panels of columns where it does not fit the scratch whole.
 * The result, of a Gram matrix the lower triangle, is cut into square tiles: each is one product of
 * two panels' columns over all rows of the block, with f32 sums, then a kernel converts it and adds
 * it,
 *
 *     q_ij = round(P_ij * 2^(shift - e_i) * 2^(-e_j)),  sum_ij += q_ij
 *
 * to nearest even, held within +-2^51: the CPU's integers for the CPU's products.
 *
 * The product is bound by arithmetic, 2 TILE^2 rows operations at the tensor cores' BF16 rate; the
 * conversion by memory, 16 TILE^2 bytes of sums: about a sixth of the product's time for 8192 rows.
 * So a tile is converted on the side stream while the compute stream multiplies the next one, into
 * the other of two tiles; both (16 MiB each) stay in the second cache. Tiles of one operation add
 * to different sums, integers, so their order does not matter. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"

static const int64_t GRAM_TILE = 2048;
/* What the alignment of two tiles and two copies takes at most. */
static const size_t ROUNDING_BYTES = 4 * 256;

typedef struct product_work {
    rp_gpu *gpu;
    rp_cmat a, b;
    const int *row_exponent, *col_exponent; /* [a.cols], [b.cols] of the GPU */
    int shift;
    int64_t *sum;                   /* [a.cols, b.cols] */
    bool is_gram;                   /* b is a: the lower triangle */
    int64_t a_panel, b_panel, tile; /* columns of each at once */
    int64_t a_ld, b_ld;
    __nv_bfloat16 *a_copy, *b_copy; /* [rows, ld] */
    float *product[2];              /* [tile, tile] */
    int turn;                       /* the one that is made next */
} product_work;

/* The integer of one product. Not a number counts as the upper bound. */
static __device__ int64_t integer_of(float product, double scale)
{
    const double limit = 2251799813685248.0;
    double v = (double)product * scale;

    v = v < limit ? v : limit;
    v = v > -limit ? v : -limit;
    return (int64_t)llrint(v);
}

/* sum, row_exponent, col_exponent: those of the tile's first row and column. */
template <int W>
static __global__ void add_tile_kernel(int64_t *sum, int64_t sum_ld, rp_cmat product,
                                       const int *row_exponent, const int *col_exponent, int shift,
                                       bool is_diagonal)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();
    const int64_t end = is_diagonal ? row + 1 : product.cols;

    if (row < product.rows && col < product.cols && col < end) {
        const double row_scale = rp_power_of_two(shift - row_exponent[row]);
        const rp_pack<float, W> p = rp_load<W>(product.data + row * product.ld + col);
        rp_pack<int64_t, W> q = rp_load<W>(sum + row * sum_ld + col);

        for (int i = 0; i < W && col + i < end; i++) {
            q.v[i] += integer_of(p.v[i], row_scale * rp_power_of_two(-col_exponent[col + i]));
        }
        rp_store(sum + row * sum_ld + col, q);
    }
}

/* Rows are columns i .. of a, columns are columns j .. of b, which lie in the copies from i0 and j0
 * on. */
static void add_tile(product_work *work, const __nv_bfloat16 *b_copy, int64_t i0, int64_t j0,
                     int64_t i, int64_t j, int64_t rows, int64_t cols)
{
    const cudaStream_t side = work->gpu->side.stream;
    const int turn = work->turn;
    const int64_t n = work->b.cols;
    const rp_cmat product = rp_cmat_of(work->product[turn], rows, cols, work->tile);
    int64_t *const sum = work->sum + i * n + j;
    const bool is_wide = cols % 2 == 0 && n % 2 == 0 && reinterpret_cast<uintptr_t>(sum) % 16 == 0;
    const bool is_diagonal = work->is_gram && i == j;
    const rp_cover cover = rp_cover_of(rows, is_wide ? cols / 2 : cols);
    rp_gemm gemm = rp_gemm_of(RP_GEMM_BF16, rows, cols, work->a.rows);

    gemm.c = work->product[turn], gemm.c_ld = work->tile;
    gemm.a = work->a_copy + (i - i0), gemm.a_ld = work->a_ld;
    gemm.b = b_copy + (j - j0), gemm.b_ld = work->b_ld;
    gemm.is_a_transposed = true;
    rp_gpu_side_begin(work->gpu, turn);
    rp_gemm_run(work->gpu, &gemm);
    rp_gpu_side_make(work->gpu, turn);
    if (is_wide) {
        RP_LAUNCH_ON(work->gpu, side, add_tile_kernel<2>, cover.grid, cover.block, 0, sum, n,
                     product, work->row_exponent + i, work->col_exponent + j, work->shift,
                     is_diagonal);
    } else {
        RP_LAUNCH_ON(work->gpu, side, add_tile_kernel<1>, cover.grid, cover.block, 0, sum, n,
                     product, work->row_exponent + i, work->col_exponent + j, work->shift,
                     is_diagonal);
    }
    rp_gpu_side_use(work->gpu, turn);
    work->turn = 1 - turn;
}

static void add_panels(product_work *work, const __nv_bfloat16 *b_copy, int64_t i0, int64_t j0)
{
    const int64_t i_end = RP_MIN(i0 + work->a_panel, work->a.cols);
    const int64_t j_end = RP_MIN(j0 + work->b_panel, work->b.cols);

    for (int64_t i = i0; i < i_end; i += work->tile) {
        for (int64_t j = j0; j < j_end && !(work->is_gram && j > i); j += work->tile) {
            add_tile(work, b_copy, i0, j0, i, j, RP_MIN(work->tile, i_end - i),
                     RP_MIN(work->tile, j_end - j));
        }
    }
}

static void copy_panel(const product_work *work, __nv_bfloat16 *copy, int64_t ld, rp_cmat x,
                       int64_t first, int64_t panel)
{
    const int64_t cols = RP_MIN(panel, x.cols - first);

    rp_gemm_copy_bf16(work->gpu, copy, ld, rp_cmat_of(x.data + first, x.rows, cols, x.ld));
}

static void add_product(product_work *work)
{
    for (int64_t i = 0; i < work->a.cols && work->a.rows > 0; i += work->a_panel) {
        copy_panel(work, work->a_copy, work->a_ld, work->a, i, work->a_panel);
        for (int64_t j = 0; j < work->b.cols && !(work->is_gram && j > i); j += work->b_panel) {
            if (work->is_gram && j == i) {
                add_panels(work, work->a_copy, i, j);
                continue;
            }
            if (i == 0 || work->b_panel < work->b.cols) {
                copy_panel(work, work->b_copy, work->b_ld, work->b, j, work->b_panel);
            }
            add_panels(work, work->b_copy, i, j);
        }
    }
    rp_gpu_side_end(work->gpu);
}

/* Columns of panels, whose two copies fit `capacity` columns: all, or whole tiles. */
static int64_t panel_of(int64_t cols, int64_t capacity)
{
    const int64_t room = capacity / 2;

    RP_ASSERT(room >= 8);
    if (rp_gemm_padded(cols) <= room) {
        return cols;
    }
    return room < GRAM_TILE ? room / 8 * 8 : room / GRAM_TILE * GRAM_TILE;
}

static void set_panels(product_work *work, size_t room_bytes)
{
    const size_t tile_bytes = (size_t)GRAM_TILE * GRAM_TILE * sizeof(float);
    const size_t product_bytes = RP_MIN(tile_bytes, room_bytes / 8); /* of two */
    const size_t column_bytes = (size_t)RP_MAX(work->a.rows, 1) * sizeof(__nv_bfloat16);
    const int64_t capacity = (int64_t)((room_bytes - 2 * product_bytes) / column_bytes);
    const int64_t a_ld = rp_gemm_padded(work->a.cols), b_ld = rp_gemm_padded(work->b.cols);
    const bool is_whole = (work->is_gram ? a_ld : a_ld + b_ld) <= capacity;

    work->a_panel = is_whole ? work->a.cols : panel_of(work->a.cols, capacity);
    work->b_panel = is_whole ? work->b.cols : panel_of(work->b.cols, capacity);
    work->a_ld = rp_gemm_padded(work->a_panel);
    work->b_ld = rp_gemm_padded(work->b_panel);
    work->tile = GRAM_TILE;
    while ((size_t)(work->tile * work->tile) * sizeof(float) > product_bytes) {
        work->tile /= 2;
    }
}

static void start_product(product_work *work, const rp_exec *exec, const int *row_exponent,
                          const int *col_exponent)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};

    work->gpu = exec->gpu;
    work->row_exponent = rp_gpu_take_put(&scratch, row_exponent, work->a.cols);
    work->col_exponent =
        work->is_gram ? work->row_exponent : rp_gpu_take_put(&scratch, col_exponent, work->b.cols);
    set_panels(work, rp_gpu_scratch_bytes(work->gpu) - scratch.taken_bytes - ROUNDING_BYTES);
    work->product[0] = rp_gpu_take<float>(&scratch, work->tile * work->tile);
    work->product[1] = rp_gpu_take<float>(&scratch, work->tile * work->tile);
    work->a_copy = rp_gpu_take<__nv_bfloat16>(&scratch, work->a.rows * work->a_ld);
    work->b_copy = work->is_gram && work->a_panel == work->a.cols
                       ? work->a_copy
                       : rp_gpu_take<__nv_bfloat16>(&scratch, work->b.rows * work->b_ld);
}

void rp_gram_add_cuda(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum)
{
    product_work work = {};

    work.a = work.b = x;
    work.shift = shift;
    work.sum = sum;
    work.is_gram = true;
    start_product(&work, exec, exponent, exponent);
    add_product(&work);
}

void rp_cross_add_cuda(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                       const int *col_exponent, int shift, int64_t *sum)
{
    product_work work = {};

    work.a = a;
    work.b = b;
    work.shift = shift;
    work.sum = sum;
    start_product(&work, exec, row_exponent, col_exponent);
    add_product(&work);
}
