/* Sizes are those of the whole file: an output is laid out once, and what its layout has beyond the
 * tensors does not depend on their types. */
#include "jobs/size_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/calibration_text.h"
#include "jobs/evaluate.h"
#include "jobs/importance.h"
#include "jobs/output.h"
#include "jobs/print.h"
#include "jobs/round_rows.h"
#include "jobs/type_measure.h"

#define UNIT_BYTES 32
/* Header of a file of a split one, but for its tensors' entries; 192 bytes in fact. */
#define PART_HEADER_BYTES 256

/* One output's choice in the making. */
typedef struct target {
    rp_session *s;
    int64_t k;
    const rp_output_format *format;
    rp_gguf_types *types;            /* the session's: of the plain mix at first */
    size_t limit_bytes, other_bytes; /* of the file; what is not tensors */
} target;

/* A set of types and what it is found to be. */
typedef struct outcome {
    rp_gguf_types types;
    size_t nbytes;
    bool is_largest;     /* no limit was felt */
    rp_eval_result eval; /* on text kept aside */
} outcome;

/* ---- Sizes ---- */

static size_t tensor_bytes(const rp_gguf_mix_tensor *t, const rp_gguf_block_type *type)
{
    const size_t rows = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);

    return RP_DIV_UP(rp_gguf_row_bytes(type, t->ne[0]) * rows, RP_GGUF_ALIGNMENT) *
           RP_GGUF_ALIGNMENT;
}

static size_t tensors_bytes(const rp_gguf_types *types)
{
    size_t total = 0;

    for (int64_t i = 0; i < types->n; i++) {
        total += tensor_bytes(&types->items[i], types->items[i].type);
    }
    return total;
}

size_t rp_size_target_bytes(const rp_session *session, int64_t k)
{
    const rp_output_format *format = &session->job->output.formats.items[k];

    if (format->target_bpw > 0) {
        return (size_t)(format->target_bpw * (double)rp_weights_elems(session->weights) / 8);
    }
    return (size_t)format->target_bytes;
}

size_t rp_size_target_most(const rp_session *session, int64_t k, size_t laid_out)
{
    const size_t most = laid_out + rp_gguf_row_bytes(rp_gguf_block_type_find("Q8_0"),
                                                     rp_weights_elems(session->weights) / 32 * 32);

    return RP_MAX(laid_out, RP_MIN(rp_size_target_bytes(session, k), most));
}

static rp_status open_target(target *t, rp_session *s, int64_t k)
{
    rp_status st = RP_OK;
    rp_store *store = NULL;

    *t = (target){.s = s,
                  .k = k,
                  .format = &s->job->output.formats.items[k],
                  .types = &s->linears.types[k],
                  .limit_bytes = rp_size_target_bytes(s, k)};
    RP_TRY(rp_store_create(&store, s, (int)k));
    t->other_bytes = store->total_bytes - tensors_bytes(t->types);
    if (t->format->max_shard_bytes > 0) { /* more parts with other types: two beside each other do
                                             not fit in one */
        t->other_bytes +=
            PART_HEADER_BYTES * (2 * (t->limit_bytes / (size_t)t->format->max_shard_bytes) + 1);
    }
out:
    rp_store_destroy(&store);
    return st;
}

/* ---- The candidates ---- */

/* Is the type of this tensor to be chosen. */
static bool is_free(const target *t, const rp_gguf_mix_tensor *tensor)
{
    const rp_model_config *config = t->s->config;
    const char *output = config->tie_embeddings ? "token_embd.weight" : "output.weight";
    const bool is_measured = strcmp(tensor->name, output) == 0 ||
                             (strncmp(tensor->name, "blk.", 4) == 0 && tensor->ndim == 2);

    return is_measured && !rp_gguf_types_is_given(tensor, config, t->format);
}

/* The candidates for one tensor; given types are the only ones. */
static void list_types(const target *t, const rp_gguf_mix_tensor *tensor,
                       const rp_gguf_block_type *types[RP_MAX_CHOICES], rp_choice_item *item)
{
    if (is_free(t, tensor)) {
        item->n = rp_type_candidates(types, tensor->ne[0]);
    } else {
        types[0] = tensor->type;
        item->n = 1;
    }
    for (int i = 0; i < item->n; i++) {
        item->nbytes[i] = tensor_bytes(tensor, types[i]);
        item->loss[i] = 0;
    }
}

static rp_status take_plain_mix(const target *t, bool *is_found)
{
    rp_status st = RP_OK;
    const rp_gguf_mix *best = NULL; /* mixes of other main types are for models of other making */
    size_t most = 0;

    for (const rp_gguf_mix *mix = rp_gguf_mix_table(); mix->name != NULL; mix++) {
        size_t nbytes = 0;
        if (!rp_type_is_candidate(rp_gguf_block_type_find(mix->base))) {
            continue;
        }
        RP_TRY(rp_gguf_types_set_mix(t->types, t->s->weights, t->format, mix, true));
        nbytes = t->other_bytes + tensors_bytes(t->types);
        if (nbytes <= t->limit_bytes && nbytes > most) {
            most = nbytes;
            best = mix;
        }
    }
    *is_found = best != NULL;
    RP_TRY(rp_gguf_types_set_mix(t->types, t->s->weights, t->format,
                                 best != NULL ? best : rp_gguf_mix_find("Q2_K"), true));
out:
    return st;
}

static void take_smallest(const target *t)
{
    for (int64_t i = 0; i < t->types->n; i++) {
        rp_gguf_mix_tensor *tensor = &t->types->items[i];
        const rp_gguf_block_type *types[RP_MAX_CHOICES];
        rp_choice_item item;
        list_types(t, tensor, types, &item);
        tensor->type = types[0];
        for (int c = 1; c < item.n; c++) {
            if (tensor_bytes(tensor, types[c]) < tensor_bytes(tensor, tensor->type)) {
                tensor->type = types[c];
            }
        }
    }
}

static rp_status prepare(const target *t)
{
    rp_status st = RP_OK;
    const double elems = (double)rp_weights_elems(t->s->weights);
    bool is_found = false;
    size_t least = 0;

    RP_TRY(take_plain_mix(t, &is_found));
    if (is_found) {
        return RP_OK;
    }
    take_smallest(t);
    least = t->other_bytes + tensors_bytes(t->types);
    if (least > t->limit_bytes) {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "output %s: %zu bytes are asked for: the smallest possible file has %zu "
                     "(target_bpw %.4f)",
                     t->format->name, t->limit_bytes, least,
                     8 * (double)least / elems + 0.6e-4); /* rounded up */
    }
out:
    return st;
}

rp_status rp_size_target_prepare(rp_session *session)
{
    rp_status st = RP_OK;
    bool is_changed = false;

    for (int64_t k = 0; k < session->job->output.formats.n; k++) {
        target t;
        if (rp_size_target_bytes(session, k) > 0) {
            RP_TRY(open_target(&t, session, k));
            RP_TRY(prepare(&t));
            is_changed = true;
        }
    }
    if (is_changed) {
        RP_TRY(rp_linears_take_types(&session->linears, session->job));
    }
out:
    return st;
}

/* ---- The choice ---- */

/* What rounding a matrix to a candidate does to the predictions: what was measured for the probe's
 * type, in proportion to the losses. */
static double expected_kl(const rp_type_tensor *m, const rp_gguf_block_type *type)
{
    const int i = rp_type_index(m, type);
    const double probe = m->loss[m->probe];

    return i >= 0 && probe > 0 ? m->probe_kl * m->loss[i] / probe : 0;
}

static const rp_type_tensor *measured_of(const target *t, const rp_type_losses *losses,
                                         const rp_gguf_mix_tensor *tensor)
{
    return tensor->index < 0
               ? NULL
               : rp_type_losses_find(losses, rp_weights_at(t->s->weights, tensor->index)->name);
}

/* *is_largest: the limit leaves every tensor its largest type. */
static rp_status choose_types(const target *t, const rp_type_losses *losses, rp_gguf_types *out,
                              bool *is_largest)
{
    rp_status st = RP_OK;
    const int64_t n = out->n;
    rp_choice_item *items = NULL;
    const rp_gguf_block_type *(*types)[RP_MAX_CHOICES] = NULL;
    int *picks = NULL;

    RP_TRY(rp_calloc(&items, (size_t)n, sizeof(*items)));
    RP_TRY(rp_calloc(&types, (size_t)n, sizeof(*types)));
    RP_TRY(rp_calloc(&picks, (size_t)n, sizeof(*picks)));
    for (int64_t i = 0; i < n; i++) {
        const rp_gguf_mix_tensor *tensor = &out->items[i];
        const rp_type_tensor *m = measured_of(t, losses, tensor);
        list_types(t, tensor, types[i], &items[i]);
        for (int c = 0; m != NULL && is_free(t, tensor) && c < items[i].n; c++) {
            items[i].loss[c] = expected_kl(m, types[i][c]);
        }
    }
    *is_largest = t->other_bytes + rp_choice_most_bytes(items, n) <= t->limit_bytes;
    RP_TRY(rp_choose_options(picks, items, n, t->limit_bytes - t->other_bytes));
    for (int64_t i = 0; i < n; i++) {
        rp_gguf_mix_tensor *tensor = &out->items[i];
        if (is_free(t, tensor)) {
            tensor->type = types[i][picks[i]];
            tensor->is_fallback = !rp_type_is_candidate(tensor->type);
        }
    }
out:
    free(picks);
    free(types);
    free(items);
    return st;
}

/* ---- The comparison ---- */

typedef struct rounding {
    const rp_gguf_types *types;
    const rp_type_losses *losses;
} rounding;

static rp_status round_as_chosen(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                                 float *values)
{
    const rounding *r = ctx;
    const rp_session *s = r->losses->s;
    const rp_gguf_mix_tensor *tensor = rp_gguf_types_find(r->types, info->name);
    const rp_type_tensor *m = rp_type_losses_find(r->losses, info->name);

    (void)row0;
    if (tensor == NULL || tensor->type == info->block) { /* copied */
        return RP_OK;
    }
    return rp_round_matrix(s->exec, tensor->type,
                           m != NULL ? m->importance
                                     : rp_importance_of_tensor(s->importance, info->name),
                           nrows, info->shape[1], values, values);
}

/* Collective. Sequences kept aside, one behind the other; none when there is but one block. */
static rp_status kept_aside_ids(rp_session *s, int32_t **ids, int64_t *n_ids, int64_t *seq_len)
{
    rp_status st = RP_OK;
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);

    RP_TRY(rp_calibration_ids(s, &blocks, ids));
    *n_ids = 0;
    *seq_len = blocks.seq_len;
    for (int64_t seq = 0; seq < blocks.n_seqs; seq++) {
        if (rp_blocks_is_kept_aside(&blocks, seq / blocks.seqs_per_block)) {
            memmove(*ids + *n_ids, *ids + seq * blocks.seq_len,
                    (size_t)blocks.seq_len * sizeof(**ids));
            *n_ids += blocks.seq_len;
        }
    }
out:
    return st;
}

static rp_status evaluate(outcome *o, const rp_type_losses *losses, const rp_evaluator *e,
                          const char *what)
{
    rp_status st = RP_OK;
    rp_session *s = losses->s;
    rounding r = {&o->types, losses};
    const rp_weights_filter filter = {round_as_chosen, &r};
    rp_weights *view = NULL;

    RP_TRY(rp_agree(s->comm, rp_weights_open_view(&view, s->weights, &filter)));
    RP_TRY(rp_evaluate(&o->eval, e, view, s->weights, what));
out:
    rp_weights_close(&view);
    return st;
}

/* Collective. KL divergence of both on text kept aside. */
static rp_status compare(outcome *chosen, outcome *plain, const rp_type_losses *losses)
{
    rp_status st = RP_OK;
    rp_session *s = losses->s;
    rp_exec exec = *s->exec;
    int32_t *ids = NULL;
    rp_evaluator e = {.comm = s->comm,
                      .ops = s->ops,
                      .exec = &exec,
                      .opts = rp_eval_opts_default(),
                      .progress = rp_session_prints(s) ? stderr : NULL,
                      .stop = &s->stop};

    exec.products = RP_PRODUCTS_F32;
    RP_TRY(kept_aside_ids(s, &ids, &e.n_ids, &e.opts.context));
    e.ids = ids;
    if (e.n_ids > 0) {
        RP_TRY(evaluate(chosen, losses, &e, "compare chosen types"));
        RP_TRY(evaluate(plain, losses, &e, "compare plain mix"));
    }
out:
    free(ids);
    return st;
}

/* ---- The record ---- */

static json_t *kl_of(const outcome *o)
{
    return o->eval.n_scored > 0 ? json_real(o->eval.kl) : json_null();
}

static json_t *tensors_json(const target *t, const rp_gguf_types *types,
                            const rp_type_losses *losses)
{
    json_t *tensors = json_array();

    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_mix_tensor *tensor = &types->items[i];
        const rp_type_tensor *m = measured_of(t, losses, tensor);
        json_t *entry = json_pack("{s:s, s:s}", "name", tensor->name, "type", tensor->type->name);
        if (m != NULL && is_free(t, tensor)) {
            (void)json_object_set_new(entry, "expected_kl",
                                      json_real(expected_kl(m, tensor->type)));
        }
        (void)json_array_append_new(tensors, entry);
    }
    return tensors;
}

static json_t *record(const target *t, const outcome *chosen, const outcome *plain, bool is_taken,
                      const rp_type_losses *losses)
{
    const outcome *taken = is_taken ? chosen : plain;

    return json_pack(
        "{s:I, s:I, s:b, s:s, s:s, s:I, s:{s:I, s:o, s:o}, s:{s:I, s:o, s:o}, s:o}", "limit_bytes",
        (json_int_t)t->limit_bytes, "bytes", (json_int_t)taken->nbytes, "is_beyond_largest",
        (int)chosen->is_largest, "taken", is_taken ? "measured" : "plain", "plain_mix",
        plain->types.mix->name, "kept_aside_tokens", (json_int_t)chosen->eval.n_scored, "measured",
        "bytes", (json_int_t)chosen->nbytes, "kl_divergence", kl_of(chosen), "types",
        rp_gguf_types_count(&chosen->types), "plain", "bytes", (json_int_t)plain->nbytes,
        "kl_divergence", kl_of(plain), "types", rp_gguf_types_count(&plain->types), "tensors",
        tensors_json(t, &taken->types, losses));
}

/* Types from the record, by name. */
static rp_status take_record(const target *t, const json_t *made)
{
    rp_status st = RP_OK;
    const json_t *entry = NULL;
    size_t i = 0;
    const json_t *tensors = json_object_get(made, "tensors");
    const rp_gguf_mix *mix = rp_gguf_mix_find(rp_json_text(made, "plain_mix"));

    if (mix == NULL || json_array_size(tensors) != (size_t)t->types->n) {
        return RP_FAIL(RP_ERR_FORMAT, "checkpoint unit types/%lld: not a choice of types",
                       (long long)t->k);
    }
    RP_TRY(rp_gguf_types_set_mix(t->types, t->s->weights, t->format, mix, true));
    json_array_foreach(tensors, i, entry)
    {
        rp_gguf_mix_tensor *tensor = &t->types->items[i];
        const rp_gguf_block_type *type = rp_gguf_block_type_find(rp_json_text(entry, "type"));
        if (type == NULL || strcmp(tensor->name, rp_json_text(entry, "name")) != 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit types/%lld: entry %zu is not of %s",
                         (long long)t->k, i, tensor->name);
            goto out;
        }
        tensor->type = type;
        if (is_free(t, tensor)) {
            tensor->is_fallback = !rp_type_is_candidate(type);
        }
    }
out:
    return st;
}

static void unit_of(char out[UNIT_BYTES], int64_t k)
{
    (void)snprintf(out, UNIT_BYTES, "types/%lld", (long long)k);
}

static rp_status put_record(const target *t, const json_t *made)
{
    rp_status st = RP_OK;
    char unit[UNIT_BYTES];
    char *text = NULL;

    if (rp_comm_rank(t->s->comm) != 0) {
        return RP_OK;
    }
    unit_of(unit, t->k);
    RP_TRY(rp_json_dump(&text, made, JSON_COMPACT));
    RP_TRY(rp_checkpoint_put_text(t->s->checkpoint, unit, text));
out:
    free(text);
    return st;
}

static rp_status get_record(json_t **out, const target *t)
{
    rp_status st = RP_OK;
    char unit[UNIT_BYTES];
    char *text = NULL;

    unit_of(unit, t->k);
    RP_TRY(rp_checkpoint_get_text(t->s->checkpoint, unit, &text));
    *out = json_loads(text, 0, NULL);
    if (*out == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s is not JSON", unit);
    }
out:
    free(text);
    return st;
}

/* ---- All together ---- */

static void print_types(const char *what, const json_t *set)
{
    char kl[RP_SIZE_TEXT_BYTES];
    const char *name = NULL;
    const json_t *count = NULL;
    json_t *types = json_object_get(set, "types");

    (void)printf("  %-10s %12lld bytes  KL %s ", what,
                 (long long)json_integer_value(json_object_get(set, "bytes")),
                 rp_print_number(kl, json_object_get(set, "kl_divergence"), 6));
    json_object_foreach(types, name, count)
    {
        (void)printf(" %s %lld", name, (long long)json_integer_value(count));
    }
    (void)printf("\n");
}

static void announce(const target *t, const json_t *made)
{
    const char *taken = rp_json_text(made, "taken");
    const char *mix = rp_json_text(made, "plain_mix");
    const int64_t nbytes = json_integer_value(json_object_get(made, "bytes"));

    RP_LOG(RP_LOG_INFO, "types", rp_log_str("output", t->format->name), rp_log_str("taken", taken),
           rp_log_i64("bytes", nbytes), rp_log_i64("limit", (int64_t)t->limit_bytes));
    if (!rp_session_prints(t->s)) {
        return;
    }
    (void)printf(
        "%s: %s types taken, %lld bytes of at most %zu; KL divergence on text kept aside:\n",
        t->format->name, taken, (long long)nbytes, t->limit_bytes);
    if (json_is_true(json_object_get(made, "is_beyond_largest"))) {
        (void)printf("  the largest types do not fill what is asked for\n");
    }
    print_types("measured", json_object_get(made, "measured"));
    print_types(mix, json_object_get(made, "plain"));
}

static void destroy(outcome *o)
{
    rp_gguf_types_destroy(&o->types);
}

/* Collective. From what was measured to the types of one output. */
static rp_status choose_one(const target *t, const rp_type_losses *losses, json_t **made)
{
    rp_status st = RP_OK;
    outcome chosen = {.nbytes = 0};
    outcome plain = {.nbytes = 0};
    bool is_taken = true;

    st = rp_gguf_types_copy(&plain.types, t->types);
    if (st == RP_OK) {
        st = rp_gguf_types_copy(&chosen.types, t->types);
    }
    if (st == RP_OK) {
        st = choose_types(t, losses, &chosen.types, &chosen.is_largest);
    }
    RP_TRY(rp_agree(t->s->comm, st));
    chosen.nbytes = t->other_bytes + tensors_bytes(&chosen.types);
    plain.nbytes = t->other_bytes + tensors_bytes(&plain.types);
    RP_TRY(compare(&chosen, &plain, losses));
    is_taken = chosen.eval.n_scored == 0 || chosen.eval.kl <= plain.eval.kl;
    *made = record(t, &chosen, &plain, is_taken, losses);
    RP_TRY(rp_agree(t->s->comm, rp_json_made(*made)));
out:
    destroy(&plain);
    destroy(&chosen);
    return st;
}

/* Collective. Measures once for all outputs; the choices are one generation of the checkpoint. */
static rp_status choose_new(target *targets, int64_t n)
{
    rp_status st = RP_OK;
    rp_session *s = targets[0].s;
    rp_type_losses losses = {0};
    rp_status local = RP_OK;

    RP_TRY(rp_agree(s->comm, rp_type_losses_create(&losses, s)));
    RP_TRY(rp_type_measure(&losses, s));
    RP_TRY(rp_agree(s->comm, rp_checkpoint_begin(s->checkpoint)));
    for (int64_t i = 0; i < n; i++) {
        json_t **made = &s->size_targets[targets[i].k];
        RP_TRY(choose_one(&targets[i], &losses, made));
        local = local == RP_OK ? put_record(&targets[i], *made) : local;
    }
    RP_TRY(rp_checkpoint_commit(s->checkpoint, local));
out:
    rp_type_losses_destroy(&losses);
    return st;
}

static rp_status take_records(const target *targets, int64_t n)
{
    rp_status st = RP_OK;
    rp_session *s = targets[0].s;

    for (int64_t i = 0; i < n; i++) {
        json_t **made = &s->size_targets[targets[i].k];
        if (*made == NULL) {
            RP_TRY(get_record(made, &targets[i]));
        }
        RP_TRY(take_record(&targets[i], *made));
        announce(&targets[i], *made);
    }
    RP_TRY(rp_linears_take_types(&s->linears, s->job));
out:
    return st;
}

rp_status rp_size_target_choose(rp_session *session)
{
    rp_status st = RP_OK;
    rp_session *s = session;
    target targets[RP_MAX_OUTPUTS];
    char unit[UNIT_BYTES];
    int64_t n = 0;
    bool is_known = true;

    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        if (rp_size_target_bytes(s, k) > 0) {
            RP_TRY(rp_agree(s->comm, open_target(&targets[n++], s, k)));
            unit_of(unit, k);
            is_known = is_known && rp_checkpoint_has(s->checkpoint, unit);
        }
    }
    if (n == 0) {
        return RP_OK;
    }
    if (!is_known) {
        RP_TRY(choose_new(targets, n));
    }
    RP_TRY(rp_agree(s->comm, take_records(targets, n)));
out:
    return st;
}
