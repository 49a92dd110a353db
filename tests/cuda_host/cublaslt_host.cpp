/* cublasLt's stand-in: products by the host's BLAS on one thread. BF16 inputs are widened to f32,
 * where their products are exact.
 *
 * It has three algorithms, which add in different orders. The fastest one is split, the next one
 * needs matrices aligned to 64 bytes; so who does not forbid the first, or says of matrices what
 * is not so, finds other bits or dies. */
#include "cublasLt.h"

#include "blas_host.h"
#include "cuda_bf16.h"

#include <vector>

struct cublasLtContext {
    int unused;
};
struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType_t scale_type;
    int32_t op[2];
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
    int32_t count;
    int64_t step;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace_bytes;
    uint32_t reductions;
    uint32_t alignment[4];
};

namespace
{

constexpr int N_CONFIGS = CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID + 1;

/* How sums are made: in one sequence, or of the halves of the inner dimension. */
enum order { WHOLE, FIRST_HALF_FIRST, SECOND_HALF_FIRST };

struct algorithm {
    uint32_t config[N_CONFIGS]; /* by cublasLtMatmulAlgoConfigAttributes_t */
    uint32_t alignment;         /* of starts, columns and steps; 0: of elements */
    size_t workspace_bytes;     /* overwritten */
    order sums;
};

const algorithm algorithms[] = {
    {{61, 20, 2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 0, 0, 16, 0, 2},
     16,
     65536,
     FIRST_HALF_FIRST},
    {{66, 24, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 3, 35, 4, 3}, 64, 16384, SECOND_HALF_FIRST},
    {{24, 15, 1, CUBLASLT_REDUCTION_SCHEME_NONE, 0, 0, 8, 0, 2}, 0, 0, WHOLE},
};
constexpr int N_ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]);

/* A product as its descriptors say. */
struct task {
    cublasLtMatmulDescOpaque_t how;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    float alpha, beta;
    const unsigned char *a_data, *b_data;
    unsigned char *c_data;
    const algorithm *by;
};

template <typename T> cublasStatus_t set(T *out, const void *value, size_t nbytes)
{
    if (value == nullptr || nbytes != sizeof(T)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(out, value, sizeof(T));
    return CUBLAS_STATUS_SUCCESS;
}

template <typename T> cublasStatus_t made(T **out, const T &value)
{
    *out = rp_host_call_fails() ? nullptr : new T(value);
    return *out == nullptr ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}

/* ---- What goes together ---- */

bool is_layout(const cublasLtMatrixLayoutOpaque_t *m)
{
    return m->rows > 0 && m->cols > 0 && m->rows <= INT32_MAX && m->cols <= INT32_MAX &&
           m->ld >= (int64_t)m->rows && m->ld <= INT32_MAX && m->count > 0;
}

bool is_task(const task *t, const cublasLtMatrixLayoutOpaque_t *d)
{
    const bool is_a_straight = t->how.op[0] == CUBLAS_OP_N;
    const bool is_b_straight = t->how.op[1] == CUBLAS_OP_N;
    const uint64_t inner = is_a_straight ? t->a.cols : t->a.rows;
    const int64_t c_elems = t->c.ld * (int64_t)(t->c.cols - 1) + (int64_t)t->c.rows;

    return is_layout(&t->a) && is_layout(&t->b) && is_layout(&t->c) &&
           t->c.rows == (is_a_straight ? t->a.rows : t->a.cols) &&
           t->c.cols == (is_b_straight ? t->b.cols : t->b.rows) &&
           inner == (is_b_straight ? t->b.rows : t->b.cols) && t->a.count == t->c.count &&
           t->b.count == t->c.count && (t->c.count == 1 || t->c.step >= c_elems) &&
           d->type == t->c.type && d->rows == t->c.rows && d->cols == t->c.cols &&
           d->ld == t->c.ld && d->count == t->c.count && d->step == t->c.step;
}

bool has_types(const task *t)
{
    const bool is_tf32 = t->how.compute == CUBLAS_COMPUTE_32F_FAST_TF32;

    return (is_tf32 || t->how.compute == CUBLAS_COMPUTE_32F) && t->how.scale_type == CUDA_R_32F &&
           t->a.type == t->b.type && t->c.type == CUDA_R_32F &&
           (t->a.type == CUDA_R_32F || (t->a.type == CUDA_R_16BF && !is_tf32));
}

cublasStatus_t describe(task *out, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d)
{
    if (desc == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *out = {};
    out->how = *desc;
    out->a = *a;
    out->b = *b;
    out->c = *c;
    return !is_task(out, d)  ? CUBLAS_STATUS_INVALID_VALUE
           : !has_types(out) ? CUBLAS_STATUS_NOT_SUPPORTED
                             : CUBLAS_STATUS_SUCCESS;
}

bool is_aligned(const cublasLtMatrixLayoutOpaque_t *m, uint32_t alignment)
{
    const size_t elem_bytes = rp_host_elem_bytes(m->type);

    return alignment == 0 || ((size_t)m->ld * elem_bytes % alignment == 0 &&
                              (m->count == 1 || (size_t)m->step * elem_bytes % alignment == 0));
}

bool can_compute(const algorithm *by, const task *t)
{
    const bool is_last = by == &algorithms[N_ALGORITHMS - 1];

    return (is_last || !rp_host_get_settings()->has_one_algorithm) &&
           is_aligned(&t->a, by->alignment) && is_aligned(&t->b, by->alignment) &&
           is_aligned(&t->c, by->alignment);
}

/* ---- Algorithms as the caller holds them ---- */

/* What an algorithm keeps to itself: the types that it is for. */
uint64_t seal(const task *t)
{
    return 0x5eed000000000000U | (uint64_t)t->how.compute << 8 | (uint64_t)t->a.type;
}

uint32_t config_of(const cublasLtMatmulAlgo_t *packed, int attribute)
{
    return (uint32_t)(packed->data[attribute / 2] >> (attribute % 2 * 32));
}

cublasLtMatmulAlgo_t pack(const algorithm *by, const task *t)
{
    cublasLtMatmulAlgo_t packed = {};

    for (int i = 0; i < N_CONFIGS; i++) {
        packed.data[i / 2] |= (uint64_t)by->config[i] << (i % 2 * 32);
    }
    packed.data[7] = seal(t);
    return packed;
}

/* NULL: it is none for this task. */
const algorithm *unpack(const cublasLtMatmulAlgo_t *packed, const task *t)
{
    for (const algorithm &by : algorithms) {
        const cublasLtMatmulAlgo_t own = pack(&by, t);
        if (memcmp(&own, packed, sizeof(own)) == 0 && can_compute(&by, t)) {
            return &by;
        }
    }
    return nullptr;
}

/* ---- Products ---- */

/* f32 values as they are multiplied, without gaps: BF16 widened, of TF32 the low bits cut off. */
std::vector<float> values_of(const cublasLtMatrixLayoutOpaque_t *m, const unsigned char *data,
                             bool is_cut)
{
    std::vector<float> values(m->rows * m->cols);

    for (size_t c = 0; c < m->cols; c++) {
        for (size_t r = 0; r < m->rows; r++) {
            const size_t at = c * (size_t)m->ld + r;
            float *const value = &values[c * m->rows + r];
            if (m->type == CUDA_R_16BF) {
                *value = __bfloat162float(reinterpret_cast<const __nv_bfloat16 *>(data)[at]);
            } else {
                const float full = reinterpret_cast<const float *>(data)[at];
                *value = is_cut ? __uint_as_float(__float_as_uint(full) & 0xffffe000U) : full;
            }
        }
    }
    return values;
}

/* Adds what the inner dimension from `begin` to `end` gives. */
void add_range(const task *t, const float *a, const float *b, float *c, int begin, int end,
               float beta)
{
    const bool is_a_straight = t->how.op[0] == CUBLAS_OP_N;
    const bool is_b_straight = t->how.op[1] == CUBLAS_OP_N;
    const int a_ld = (int)t->a.rows, b_ld = (int)t->b.rows;

    cblas_sgemm(CblasColMajor, rp_host_transpose((cublasOperation_t)t->how.op[0]),
                rp_host_transpose((cublasOperation_t)t->how.op[1]), (int)t->c.rows, (int)t->c.cols,
                end - begin, t->alpha, a + (is_a_straight ? (size_t)begin * t->a.rows : begin),
                a_ld, b + (is_b_straight ? begin : (size_t)begin * t->b.rows), b_ld, beta, c,
                (int)t->c.ld);
}

void multiply(const task *t, int64_t index)
{
    const bool is_cut = t->how.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const size_t input_bytes = rp_host_elem_bytes(t->a.type);
    const std::vector<float> a =
        values_of(&t->a, t->a_data + (size_t)(index * t->a.step) * input_bytes, is_cut);
    const std::vector<float> b =
        values_of(&t->b, t->b_data + (size_t)(index * t->b.step) * input_bytes, is_cut);
    float *const c = reinterpret_cast<float *>(t->c_data) + index * t->c.step;
    const int inner = (int)(t->how.op[0] == CUBLAS_OP_N ? t->a.cols : t->a.rows);
    const int middle = inner / 2;

    if (t->by->sums == WHOLE || middle == 0) {
        add_range(t, a.data(), b.data(), c, 0, inner, t->beta);
    } else if (t->by->sums == FIRST_HALF_FIRST) {
        add_range(t, a.data(), b.data(), c, 0, middle, t->beta);
        add_range(t, a.data(), b.data(), c, middle, inner, 1);
    } else {
        add_range(t, a.data(), b.data(), c, middle, inner, t->beta);
        add_range(t, a.data(), b.data(), c, 0, middle, 1);
    }
}

/* Dies when a matrix is not in this GPU's memory, or not aligned as the algorithm needs it. */
void check_memory(const cublasLtMatrixLayoutOpaque_t *m, const unsigned char *data,
                  uint32_t alignment)
{
    const size_t elem_bytes = rp_host_elem_bytes(m->type);

    for (int32_t i = 0; i < m->count; i++) {
        const rp_host_operand each = {data + (size_t)(i * m->step) * elem_bytes, m->type,
                                      (int)m->rows, (int)m->cols, (int)m->ld};
        (void)rp_host_is_sound(&each);
    }
    if (reinterpret_cast<uintptr_t>(data) % (alignment == 0 ? elem_bytes : alignment) != 0) {
        rp_host_die("cublasLt is given %p, and its algorithm needs an alignment of %u bytes", data,
                    alignment);
    }
}

} // namespace

/* ---- Descriptors ---- */

size_t cublasLtGetVersion(void)
{
    return 130000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    return made(handle, cublasLtContext());
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale_type)
{
    return made(desc, {compute, scale_type, {CUBLAS_OP_N, CUBLAS_OP_N}});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t nbytes)
{
    return set(&desc->op[attribute - CUBLASLT_MATMUL_DESC_TRANSA], value, nbytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    return made(layout, {type, rows, cols, ld, 1, 0});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t nbytes)
{
    return attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(&layout->count, value, nbytes)
                                                           : set(&layout->step, value, nbytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    return made(preference, {0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t nbytes)
{
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        return set(&preference->workspace_bytes, value, nbytes);
    }
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        return set(&preference->reductions, value, nbytes);
    }
    return set(&preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
               value, nbytes);
}

/* ---- Algorithms and products ---- */

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *packed,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t nbytes, size_t *written)
{
    const bool is_short = attribute >= CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID;
    const uint32_t config = config_of(packed, attribute);

    if (nbytes != (is_short ? 2 : 4)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(value, &config, nbytes);
    *written = nbytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t found[], int *n_found)
{
    task t;
    const cublasStatus_t status = describe(&t, desc, a, b, c, d);
    const bool is_downward = rp_host_get_settings()->prefers_downward;

    *n_found = 0;
    if (status != CUBLAS_STATUS_SUCCESS || handle == nullptr || wanted < 1) {
        return status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_INVALID_VALUE : status;
    }
    if (rp_host_call_fails()) {
        return CUBLAS_STATUS_ALLOC_FAILED;
    }
    for (int i = 0; i < N_ALGORITHMS && *n_found < wanted; i++) {
        const algorithm *const by = &algorithms[is_downward ? N_ALGORITHMS - 1 - i : i];
        bool fits =
            can_compute(by, &t) && by->workspace_bytes <= preference->workspace_bytes &&
            (by->config[CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME] & ~preference->reductions) == 0;
        for (const uint32_t alignment : preference->alignment) {
            fits = fits && by->alignment <= alignment;
        }
        if (fits) {
            found[*n_found] = {pack(by, &t), by->workspace_bytes, CUBLAS_STATUS_SUCCESS, 1.0F, {}};
            ++*n_found;
        }
    }
    return *n_found > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *packed,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    task t;
    const cublasStatus_t status = describe(&t, desc, a, b, c, d);
    const algorithm *const by = status == CUBLAS_STATUS_SUCCESS ? unpack(packed, &t) : nullptr;

    if (by == nullptr || handle == nullptr) {
        return status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : status;
    }
    result->workspaceSize = by->workspace_bytes;
    result->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *packed,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    task t;
    const cublasStatus_t status = describe(&t, desc, a_layout, b_layout, c_layout, d_layout);

    if (handle == nullptr || stream == nullptr) {
        rp_host_die("a cublasLt call without a handle or on the default stream");
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    t.by = unpack(packed, &t);
    if (t.by == nullptr) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (c != d || t.by->workspace_bytes > workspace_bytes ||
        (workspace_bytes > 0 && (!rp_host_is_device(workspace, workspace_bytes) ||
                                 reinterpret_cast<uintptr_t>(workspace) % 16 != 0))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    t.alpha = *static_cast<const float *>(alpha);
    t.beta = *static_cast<const float *>(beta);
    t.a_data = static_cast<const unsigned char *>(a);
    t.b_data = static_cast<const unsigned char *>(b);
    t.c_data = static_cast<unsigned char *>(d);
    check_memory(&t.a, t.a_data, t.by->alignment);
    check_memory(&t.b, t.b_data, t.by->alignment);
    check_memory(&t.c, t.c_data, t.by->alignment);
    if (rp_host_call_fails()) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    rp_host_ask(stream, [t, workspace]() {
        openblas_set_num_threads(1);
        memset(workspace, 0xa5, t.by->workspace_bytes);
        for (int64_t i = 0; i < t.c.count; i++) {
            multiply(&t, i);
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}
