/* See importance.h. */
#include "jobs/importance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibration_text.h"
#include "model/gguf_map.h"
#include "sharding/column_sums.h"

/* Tensors beside the linears that an output may quantise. */
static const char *const other_tensors[] = {"model.embed_tokens.weight", "lm_head.weight"};

struct rp_importance {
    const rp_linears *linears;
    /* From files. */
    const char *path; /* of the first file; NULL: none */
    rp_imatrix *file;
    float **values; /* [linears->n]; NULL: no entry, or none asked for */
    float *others[RP_COUNT(other_tensors)];
    int64_t n_used, n_missing;
    char first_missing[RP_GGUF_NAME_BYTES];
    /* The job's own. */
    rp_column_sums sums;
    float *site_sums; /* [widest] of the site last collected */
    float *means;     /* [widest] the same, a token */
};

/* ---- From files ---- */

/* The entry's mean squares; *values stays NULL when the file has none. Caller frees. */
static rp_status take_entry(float **values, rp_importance *im, const rp_imatrix *file,
                            const char *path, const char *hf_name, int64_t cols)
{
    rp_status st = RP_OK;
    char name[RP_GGUF_NAME_BYTES] = "";
    const rp_imatrix_entry *entry = NULL;

    if (rp_gguf_name_from_hf(name, hf_name)) {
        entry = rp_imatrix_find(file, name);
    }
    if (entry == NULL) {
        return RP_OK;
    }
    if (entry->n_values != cols) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: entry %s: %lld values, but the model's tensor has %lld columns", path,
                     name, (long long)entry->n_values, (long long)cols);
        goto out;
    }
    RP_TRY(rp_alloc_array(values, (size_t)cols, sizeof(**values)));
    rp_imatrix_importance(entry, *values);
    im->n_used++;
out:
    return st;
}

/* Every linear whose step names this file. */
static rp_status take_linears(rp_importance *im, const rp_imatrix *file, const char *path)
{
    rp_status st = RP_OK;
    char name[160];

    for (int64_t i = 0; i < im->linears->n; i++) {
        const rp_linear *linear = &im->linears->items[i];
        if (linear->n_forms == 0 || linear->choice.imatrix == NULL ||
            strcmp(linear->choice.imatrix, path) != 0) {
            continue;
        }
        (void)snprintf(name, sizeof(name), "%s.weight", linear->module);
        RP_TRY(take_entry(&im->values[i], im, file, path, name, linear->cols));
        if (im->values[i] == NULL) {
            im->n_missing++;
            if (im->first_missing[0] == '\0') {
                (void)rp_gguf_name_from_hf(im->first_missing, name);
            }
        }
    }
out:
    return st;
}

/* Was the file of this step read for one before it. */
static bool is_known(const rp_recipe *recipe, int64_t step)
{
    for (int64_t i = 0; i < step; i++) {
        if (recipe->items[i].imatrix != NULL &&
            strcmp(recipe->items[i].imatrix, recipe->items[step].imatrix) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_path(const char *imatrix)
{
    return imatrix != NULL && strcmp(imatrix, RP_IMATRIX_NONE) != 0 &&
           strcmp(imatrix, RP_IMATRIX_CALIBRATION) != 0;
}

static rp_status take_files(rp_importance *im, const rp_session *s)
{
    rp_status st = RP_OK;
    const rp_recipe *recipe = &s->job->recipe;
    rp_imatrix *file = NULL;

    for (int64_t i = 0; i < recipe->n; i++) {
        const char *path = recipe->items[i].imatrix;
        if (!is_path(path) || is_known(recipe, i)) {
            continue;
        }
        RP_TRY(rp_imatrix_open(&file, path));
        RP_TRY(take_linears(im, file, path));
        if (im->file == NULL) {
            for (size_t k = 0; k < RP_COUNT(other_tensors); k++) {
                RP_TRY(take_entry(&im->others[k], im, file, path, other_tensors[k],
                                  s->config->hidden_size));
            }
            im->path = path;
            im->file = file;
            file = NULL;
        }
        rp_imatrix_destroy(&file);
    }
out:
    rp_imatrix_destroy(&file);
    return st;
}

static rp_status set_up_sums(rp_importance *im, const rp_session *s)
{
    rp_status st = RP_OK;
    int64_t widest = 0;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        widest = RP_MAX(widest, rp_model_site_width(s->config, (rp_site)site));
    }
    if (s->linears.needs_calibration) {
        RP_TRY(rp_column_sums_create(&im->sums, widest));
        RP_TRY(rp_alloc_array(&im->site_sums, (size_t)widest, sizeof(*im->site_sums)));
        RP_TRY(rp_alloc_array(&im->means, (size_t)widest, sizeof(*im->means)));
    }
out:
    return st;
}

rp_status rp_importance_create(rp_importance **out, const rp_session *session)
{
    rp_status st = RP_OK;
    rp_importance *im = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&im, 1, sizeof(*im)));
    im->linears = &session->linears;
    RP_TRY(rp_calloc(&im->values, (size_t)im->linears->n, sizeof(*im->values)));
    RP_TRY(take_files(im, session));
    RP_TRY(set_up_sums(im, session));
    *out = im;
    im = NULL;
out:
    rp_importance_destroy(&im);
    return st;
}

void rp_importance_destroy(rp_importance **importance)
{
    rp_importance *im = *importance;

    *importance = NULL;
    if (im == NULL) {
        return;
    }
    for (int64_t i = 0; im->values != NULL && i < im->linears->n; i++) {
        free(im->values[i]);
    }
    for (size_t k = 0; k < RP_COUNT(other_tensors); k++) {
        free(im->others[k]);
    }
    rp_imatrix_destroy(&im->file);
    rp_column_sums_destroy(&im->sums);
    free(im->values);
    free(im->site_sums);
    free(im->means);
    free(im);
}

const float *rp_importance_of_linear(const rp_importance *importance, const rp_linear *linear)
{
    if (linear->choice.weighs_by_own_sums) {
        return importance->means;
    }
    return importance->values[linear - importance->linears->items];
}

const float *rp_importance_of_tensor(const rp_importance *importance, const char *name)
{
    for (size_t k = 0; k < RP_COUNT(other_tensors); k++) {
        if (strcmp(name, other_tensors[k]) == 0) {
            return importance->others[k];
        }
    }
    return NULL;
}

const rp_imatrix *rp_importance_file(const rp_importance *importance, const char **path)
{
    *path = importance->path;
    return importance->file;
}

void rp_importance_warn(const rp_importance *importance)
{
    if (importance->n_missing > 0) {
        RP_LOG(RP_LOG_WARN, "no_importance", rp_log_str("file", importance->path),
               rp_log_i64("tensors", importance->n_missing),
               rp_log_str("first", importance->first_missing));
    }
}

json_t *rp_importance_report(const rp_importance *importance)
{
    const rp_importance none = {.path = NULL};
    const rp_importance *im = importance != NULL ? importance : &none;

    return json_pack("{s:s?, s:I, s:I, s:I, s:I}", "file", im->path, "entries",
                     (json_int_t)(im->file != NULL ? im->file->n : 0), "chunks",
                     (json_int_t)(im->file != NULL ? im->file->chunk_count : 0), "used",
                     (json_int_t)im->n_used, "missing", (json_int_t)im->n_missing);
}

/* ---- The job's own ---- */

/* Does the output, or a linear of the site, want them. */
static bool is_wanted(const rp_session *s, int64_t layer, rp_site site)
{
    if (s->job->output.imatrix != NULL) {
        return true;
    }
    for (int k = 0; k < RP_SLOT_LINEARS; k++) {
        const rp_linear *linear = rp_linears_at(&s->linears, layer, (rp_slot)k);
        if (rp_slot_info_of((rp_slot)k)->site == site && linear->n_forms > 0 &&
            linear->choice.weighs_by_own_sums) {
            return true;
        }
    }
    return false;
}

rp_status rp_importance_collect(rp_importance *importance, rp_session *session, int64_t layer,
                                rp_site site, const rp_site_input *input)
{
    rp_status st = RP_OK;
    rp_column_sums *sums = &importance->sums;
    const int64_t cols = rp_model_site_width(session->config, site);
    const int64_t n_tokens = input->blocks.n_seqs * input->blocks.seq_len;
    const int64_t end = input->mine.first + input->mine.count;
    float *out = importance->site_sums;
    double start = rp_clock_seconds();

    if (!is_wanted(session, layer, site)) {
        return RP_OK;
    }
    rp_column_sums_begin(sums, cols, n_tokens,
                         input->blocks.seqs_per_block * input->blocks.seq_len);
    for (int64_t b = input->mine.first; b < end && st == RP_OK; b++) {
        st = rp_stop_poll(&session->stop);
        if (st == RP_OK) {
            st = rp_column_sums_observe(sums, session->ops, session->exec,
                                        rp_site_block(input, input->rows, b, cols));
        }
    }
    RP_TRY(rp_agree(session->comm, st));
    rp_column_sums_agree(sums, session->comm);
    for (int64_t b = input->mine.first; b < end; b++) {
        rp_column_sums_add(sums, session->ops, session->exec,
                           rp_site_block(input, input->rows, b, cols));
    }
    rp_column_sums_finish(sums, session->comm, out);
    for (int64_t i = 0; i < cols; i++) {
        importance->means[i] = out[i] / (float)n_tokens;
    }
    rp_session_lap(session, RP_PHASE_GRAM, &start);
out:
    return st;
}

void rp_importance_collect_traffic(rp_traffic *traffic, const rp_session *session, int64_t layer,
                                   rp_site site)
{
    if (is_wanted(session, layer, site)) {
        rp_traffic_agree(traffic);
        rp_column_sums_traffic(traffic, rp_model_site_width(session->config, site));
    }
}

static void unit_of(char *out, size_t out_bytes, int64_t layer, rp_site site)
{
    (void)snprintf(out, out_bytes, "layer/%lld/site/%d/imatrix", (long long)layer, (int)site);
}

rp_status rp_importance_put(const rp_importance *importance, rp_session *session, int64_t layer,
                            rp_site site)
{
    char unit[64];

    if (session->job->output.imatrix == NULL || rp_comm_rank(session->comm) != 0) {
        return RP_OK;
    }
    unit_of(unit, sizeof(unit), layer, site);
    return rp_checkpoint_put_array(session->checkpoint, unit, RP_F32, importance->site_sums,
                                   rp_model_site_width(session->config, site));
}

bool rp_importance_has(const rp_session *session, int64_t layer, rp_site site)
{
    char unit[64];

    unit_of(unit, sizeof(unit), layer, site);
    return session->job->output.imatrix == NULL || rp_checkpoint_has(session->checkpoint, unit);
}

/* The linears of one site share its sums. */
static rp_status add_site(rp_imatrix *m, rp_session *s, int64_t layer, rp_site site,
                          int64_t n_tokens)
{
    rp_status st = RP_OK;
    const int64_t cols = rp_model_site_width(s->config, site);
    char text[160];
    float *sums = NULL;
    int64_t n = 0;

    unit_of(text, sizeof(text), layer, site);
    RP_TRY(rp_checkpoint_get_array(s->checkpoint, text, RP_F32, &sums, &n));
    if (n != cols) {
        st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: %lld values, want %lld", text,
                     (long long)n, (long long)cols);
        goto out;
    }
    for (int k = 0; k < RP_SLOT_LINEARS; k++) {
        const rp_linear *linear = rp_linears_at(&s->linears, layer, (rp_slot)k);
        char name[RP_GGUF_NAME_BYTES] = "";
        rp_imatrix_entry *entry = NULL;
        if (rp_slot_info_of((rp_slot)k)->site != site) {
            continue;
        }
        (void)snprintf(text, sizeof(text), "%s.weight", linear->module);
        if (!rp_gguf_name_from_hf(name, text)) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s has no name in GGUF", text);
            goto out;
        }
        RP_TRY(rp_imatrix_add(&entry, m, name, cols, 1));
        memcpy(entry->sums, sums, (size_t)cols * sizeof(*sums));
        entry->counts[0] = n_tokens;
    }
out:
    free(sums);
    return st;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static rp_status write_local(rp_session *s)
{
    rp_status st = RP_OK;
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    rp_imatrix *m = NULL;
    char *path = NULL;

    RP_TRY(rp_imatrix_create(&m));
    m->chunk_count = blocks.n_seqs;
    m->chunk_size = blocks.seq_len;
    RP_TRY(rp_imatrix_add_dataset(m, base_name(s->job->calibration.text)));
    for (int64_t i = 0; i < s->config->n_layers * RP_SITE_COUNT; i++) {
        RP_TRY(add_site(m, s, i / RP_SITE_COUNT, (rp_site)(i % RP_SITE_COUNT),
                        blocks.n_seqs * blocks.seq_len));
    }
    RP_TRY(rp_imatrix_seal(m));
    RP_TRY(rp_fs_join(&path, s->job->output.dir, s->job->output.imatrix));
    RP_TRY(rp_imatrix_write(m, path));
    RP_LOG(RP_LOG_INFO, "imatrix", rp_log_str("path", path), rp_log_i64("entries", (int64_t)m->n));
out:
    free(path);
    rp_imatrix_destroy(&m);
    return st;
}

rp_status rp_importance_write(rp_session *session)
{
    rp_status local = RP_OK;

    if (session->job->output.imatrix == NULL) {
        return RP_OK;
    }
    if (rp_comm_rank(session->comm) == 0) {
        local = write_local(session);
    }
    return rp_agree(session->comm, local);
}
