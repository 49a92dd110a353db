/* Work goes by tiles of rows, every candidate of a tile by one thread; tiles are dealt to ranks in
 * turn and their losses added up in tile order. */
#include "jobs/type_losses.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "formats/gguf_mix.h"
#include "jobs/dealt.h"
#include "jobs/importance.h"
#include "jobs/round_rows.h"

#define TILE_ROWS 64

/* By size. */
static const char *const candidates[] = {"Q2_K", "Q3_K", "IQ4_XS", "Q4_K",
                                         "Q5_K", "Q6_K", "Q8_0",   NULL};

bool rp_type_is_candidate(const rp_gguf_block_type *type)
{
    for (int c = 0; candidates[c] != NULL; c++) {
        if (strcmp(candidates[c], type->name) == 0) {
            return true;
        }
    }
    return false;
}

static int index_of(const rp_gguf_block_type *const *types, int n, const rp_gguf_block_type *type)
{
    for (int i = 0; i < n; i++) {
        if (types[i] == type) {
            return i;
        }
    }
    return -1;
}

int rp_type_candidates(const rp_gguf_block_type *out[RP_MAX_CHOICES], int64_t cols)
{
    int n = 0;

    for (int c = 0; candidates[c] != NULL; c++) {
        const rp_gguf_block_type *type =
            rp_gguf_type_for_cols(rp_gguf_block_type_find(candidates[c]), cols);
        if (index_of(out, n, type) < 0) {
            out[n++] = type;
        }
    }
    return n;
}

typedef struct tile {
    int tensor;
    int64_t row0, rows;
} tile;

/* What one tile is found to be. */
typedef struct tile_result {
    double loss[RP_MAX_CHOICES];
} tile_result;

typedef struct measuring {
    rp_type_losses *losses;
    rp_type_tensor *const *tensors;
    const float *const *w;
    const float *gram;
    int64_t cols;
    tile *tiles;
    tile_result *results;
    rp_status *statuses;
    int64_t n_tiles, capacity;
    int rank, nranks;
} measuring;

/* ---- The matrices ---- */

/* Rounding is weighted as the job's own will be; a Gram matrix' diagonal is filled in later. */
static rp_status set_importance(rp_type_tensor *t, const rp_session *s)
{
    rp_status st = RP_OK;
    const size_t cols = (size_t)t->info->shape[1];
    const float *known = NULL;

    if (t->linear == NULL) {
        known = rp_importance_of_tensor(s->importance, t->info->name);
    } else if (t->linear->choice.imatrix != NULL) {
        known = rp_importance_of_linear(s->importance, t->linear);
    }
    if (known != NULL || (t->linear != NULL && (t->linear->choice.method == RP_METHOD_GPTQ ||
                                                t->linear->choice.weighs_by_own_sums))) {
        RP_TRY(rp_calloc(&t->importance, cols, sizeof(*t->importance)));
        if (known != NULL) {
            memcpy(t->importance, known, cols * sizeof(*known));
        }
    }
out:
    return st;
}

static rp_status list_tensors(rp_type_losses *losses)
{
    rp_status st = RP_OK;
    const rp_session *s = losses->s;
    char name[160];

    losses->n = s->linears.n + 1;
    RP_TRY(rp_calloc(&losses->items, (size_t)losses->n, sizeof(*losses->items)));
    for (int64_t i = 0; i < losses->n; i++) {
        rp_type_tensor *t = &losses->items[i];
        const bool is_linear = i < s->linears.n;
        t->linear = is_linear ? &s->linears.items[i] : NULL;
        (void)snprintf(name, sizeof(name), "%s.weight",
                       is_linear                   ? t->linear->module
                       : s->config->tie_embeddings ? "model.embed_tokens"
                                                   : "lm_head");
        t->info = rp_weights_find(s->weights, name);
        if (t->info == NULL) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is missing", s->job->model, name);
            goto out;
        }
        t->n_types = rp_type_candidates(t->types, t->info->shape[1]);
        RP_TRY(set_importance(t, s));
    }
out:
    return st;
}

static int64_t widest(const rp_session *s)
{
    int64_t most = s->config->hidden_size;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        most = RP_MAX(most, rp_model_site_width(s->config, (rp_site)site));
    }
    return most;
}

/* Weights of a tile, the change, and its product with the Gram matrix. */
static size_t scratch_each_of(const rp_session *s)
{
    return 3 * (size_t)(TILE_ROWS * widest(s)) * sizeof(float);
}

size_t rp_type_losses_bytes(const rp_session *session, int nthreads)
{
    /* And a tile's codes with their parameters. */
    return (size_t)nthreads * 2 * scratch_each_of(session);
}

rp_status rp_type_losses_create(rp_type_losses *out, rp_session *session)
{
    rp_status st = RP_OK;

    *out = (rp_type_losses){.s = session, .scratch_each = scratch_each_of(session)};
    RP_TRY(list_tensors(out));
    RP_TRY(rp_alloc_array(&out->scratch, (size_t)rp_pool_nthreads(session->exec->pool),
                          out->scratch_each));
out:
    return st;
}

void rp_type_losses_destroy(rp_type_losses *losses)
{
    for (int64_t i = 0; losses->items != NULL && i < losses->n; i++) {
        free(losses->items[i].importance);
    }
    free(losses->items);
    free(losses->scratch);
    memset(losses, 0, sizeof(*losses));
}

rp_type_tensor *rp_type_losses_find(const rp_type_losses *losses, const char *name)
{
    for (int64_t i = 0; i < losses->n; i++) {
        if (strcmp(losses->items[i].info->name, name) == 0) {
            return &losses->items[i];
        }
    }
    return NULL;
}

rp_type_tensor *rp_type_losses_of_linear(const rp_type_losses *losses, const rp_linear *linear)
{
    return &losses->items[linear - losses->s->linears.items];
}

rp_type_tensor *rp_type_losses_output(const rp_type_losses *losses)
{
    return &losses->items[losses->n - 1];
}

int rp_type_index(const rp_type_tensor *tensor, const rp_gguf_block_type *type)
{
    return index_of(tensor->types, tensor->n_types, type);
}

/* ---- Losses ---- */

static rp_status list_tiles(measuring *m, int n)
{
    rp_status st = RP_OK;
    size_t capacity = 0;

    for (int i = 0; i < n; i++) {
        const int64_t rows = m->tensors[i]->info->shape[0];
        for (int64_t row0 = 0; row0 < rows; row0 += TILE_ROWS) {
            RP_TRY(rp_grow(&m->tiles, &capacity, (size_t)m->n_tiles + 1, sizeof(*m->tiles)));
            m->tiles[m->n_tiles++] = (tile){i, row0, RP_MIN(TILE_ROWS, rows - row0)};
        }
    }
    RP_TRY(rp_calloc(&m->results, (size_t)m->n_tiles, sizeof(*m->results)));
    RP_TRY(rp_calloc(&m->statuses, (size_t)m->n_tiles, sizeof(*m->statuses)));
out:
    return st;
}

/* tr(delta gram delta^T); product: scratch of delta's size. */
static double loss_of(const measuring *m, int thread, const float *delta, int64_t rows,
                      float *product)
{
    const rp_session *s = m->losses->s;
    const rp_exec alone = {.products = RP_PRODUCTS_F32,
                           .scratch = rp_exec_scratch(s->exec, thread)};
    double loss = 0;

    s->ops->linear(&alone, rp_mat_of(product, rows, m->cols, m->cols),
                   rp_cmat_of(delta, rows, m->cols, m->cols),
                   rp_cmat_of(m->gram, m->cols, m->cols, m->cols), NULL, false);
    for (int64_t i = 0; i < rows * m->cols; i++) {
        loss += (double)product[i] * (double)delta[i];
    }
    return RP_MAX(loss, 0); /* rounding may leave a little less */
}

static rp_status measure_tile(const measuring *m, const tile *t, int thread, tile_result *result)
{
    rp_status st = RP_OK;
    const rp_session *s = m->losses->s;
    const rp_type_tensor *tensor = m->tensors[t->tensor];
    float *own = (float *)(void *)(m->losses->scratch + (size_t)thread * m->losses->scratch_each);
    float *delta = own + TILE_ROWS * m->cols;
    float *product = delta + TILE_ROWS * m->cols;
    const float *w = NULL;

    if (m->w != NULL) {
        w = m->w[t->tensor] + t->row0 * m->cols;
    } else {
        RP_TRY(rp_weights_read_f32(s->weights, tensor->info, t->row0, t->rows, own));
        w = own;
    }
    for (int c = 0; c < tensor->n_types; c++) {
        RP_TRY(rp_round_rows(tensor->types[c], tensor->importance, t->rows, m->cols, w, delta));
        for (int64_t i = 0; i < t->rows * m->cols; i++) {
            delta[i] -= w[i];
        }
        result->loss[c] = loss_of(m, thread, delta, t->rows, product);
    }
out:
    return st;
}

static void measure_dealt(void *ctx, int64_t index, int thread)
{
    measuring *m = ctx;
    const int64_t i = m->rank + index * m->nranks;

    m->statuses[i] = measure_tile(m, &m->tiles[i], thread, &m->results[i]);
}

static rp_status measure_local(measuring *m)
{
    const int64_t n = RP_MAX((m->n_tiles - m->rank + m->nranks - 1) / m->nranks, 0);

    rp_pool_run(m->losses->s->exec->pool, n, measure_dealt, m);
    for (int64_t i = 0; i < m->n_tiles; i++) {
        if (m->statuses[i] != RP_OK) {
            return RP_FAIL(m->statuses[i], "%s: cannot be measured",
                           m->tensors[m->tiles[i].tensor]->info->name);
        }
    }
    return RP_OK;
}

static void fill_importance(rp_type_tensor *t, const float *gram)
{
    const int64_t cols = t->info->shape[1];

    if (t->importance == NULL || t->linear == NULL || t->linear->choice.imatrix != NULL) {
        return;
    }
    for (int64_t i = 0; i < cols; i++) {
        t->importance[i] = gram[i * cols + i];
    }
}

rp_status rp_type_losses_measure(rp_type_losses *losses, rp_type_tensor *const *tensors,
                                 const float *const *w, int n, const float *gram)
{
    rp_status st = RP_OK;
    rp_session *s = losses->s;
    measuring m = {.losses = losses,
                   .tensors = tensors,
                   .w = w,
                   .gram = gram,
                   .cols = tensors[0]->info->shape[1],
                   .rank = rp_comm_rank(s->comm),
                   .nranks = rp_comm_nranks(s->comm)};
    double start = rp_clock_seconds();

    for (int i = 0; i < n; i++) {
        fill_importance(tensors[i], gram);
    }
    RP_TRY(rp_agree(s->comm, list_tiles(&m, n)));
    RP_TRY(rp_agree(s->comm, measure_local(&m)));
    RP_TRY(rp_dealt_gather(s->comm, m.results, m.n_tiles, sizeof(*m.results)));
    for (int64_t i = 0; i < m.n_tiles; i++) {
        rp_type_tensor *t = tensors[m.tiles[i].tensor];
        for (int c = 0; c < t->n_types; c++) {
            t->loss[c] += m.results[i].loss[c];
        }
    }
    rp_session_lap(s, RP_PHASE_SOLVE, &start);
out:
    free(m.tiles);
    free(m.results);
    free(m.statuses);
    return st;
}
