/* rankpress imatrix: statistics of an importance matrix, and several merged into one. */
#include "jobs/cmd.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/imatrix_stats.h"
#include "formats/json.h"
#include "jobs/print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct table {
    rp_imatrix *imatrix;
    rp_imatrix_stats *stats; /* [imatrix->n] */
    rp_imatrix_layer_stats *layers;
    int64_t n_layers;
} table;

static void close_table(table *t)
{
    free(t->layers);
    free(t->stats);
    rp_imatrix_destroy(&t->imatrix);
}

static rp_status open_table(table *t, const char *path)
{
    rp_status st = RP_OK;

    RP_TRY(rp_imatrix_open(&t->imatrix, path));
    RP_TRY(rp_imatrix_stats_make(&t->stats, t->imatrix));
    RP_TRY(rp_imatrix_layer_stats_make(&t->layers, &t->n_layers, t->stats, (int64_t)t->imatrix->n));
out:
    return st;
}

/* ---- JSON ---- */

static rp_status append(json_t *list, json_t *value)
{
    if (value == NULL || json_array_append_new(list, value) != 0) {
        return rp_json_made(NULL);
    }
    return RP_OK;
}

/* What the file says of itself. Caller drops the reference. */
static rp_status describe(json_t **out, const char *path, const rp_imatrix *m)
{
    rp_status st = RP_OK;
    json_t *datasets = NULL;

    *out = json_pack("{s:s, s:s, s:[], s:I, s:I}", "file", path, "format",
                     m->is_dat ? "dat" : "gguf", "datasets", "chunk_count",
                     (json_int_t)m->chunk_count, "chunk_size", (json_int_t)m->chunk_size);
    RP_TRY(rp_json_made(*out));
    datasets = json_object_get(*out, "datasets");
    for (size_t i = 0; i < m->n_datasets; i++) {
        json_t *name = json_string(m->datasets[i]);
        RP_TRY(append(datasets, name != NULL ? name : json_null())); /* not UTF-8: no JSON form */
    }
out:
    return st;
}

static json_t *tensor_json(const rp_imatrix_stats *s)
{
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "tensor",
                     s->entry->name, "layer", (json_int_t)s->layer, "n", (json_int_t)s->n, "sum",
                     s->sum, "min", s->min, "max", s->max, "mean", s->mean, "stddev", s->stddev,
                     "active", s->active, "entropy", s->entropy, "entropy_norm", s->entropy_norm,
                     "zd", s->zd, "cosine_similarity", s->cossim);
}

static rp_status print_json(const char *path, const table *t)
{
    rp_status st = RP_OK;
    json_t *root = NULL;
    json_t *tensors = json_array();
    json_t *layers = json_array();

    RP_TRY(describe(&root, path, t->imatrix));
    for (size_t i = 0; i < t->imatrix->n; i++) {
        RP_TRY(append(tensors, tensor_json(&t->stats[i])));
    }
    for (int64_t i = 0; i < t->n_layers; i++) {
        const rp_imatrix_layer_stats *l = &t->layers[i];
        RP_TRY(
            append(layers, json_pack("{s:I, s:f, s:f, s:f}", "layer", (json_int_t)l->layer, "sum",
                                     l->sum, "zd", l->zd, "cosine_similarity", l->cossim)));
    }
    if (json_object_set(root, "tensors", tensors) != 0 ||
        json_object_set(root, "layers", layers) != 0) {
        RP_TRY(rp_json_made(NULL));
    }
    RP_TRY(rp_print_json(root));
out:
    json_decref(layers);
    json_decref(tensors);
    json_decref(root);
    return st;
}

/* ---- text ---- */

/* "attn_q" of "blk.3.attn_q.weight"; the whole name when it is another. */
static const char *short_name(const char *name, int *length)
{
    const char *start = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;
    const char *end = NULL;

    start = start != NULL ? start + 1 : name;
    end = strstr(start, ".weight");
    *length = (int)(end != NULL && end > start ? (size_t)(end - start) : strlen(start));
    return start;
}

/* Tensors of one kind stand together, the greatest sum first. */
static int compare_stats(const void *a, const void *b)
{
    const rp_imatrix_stats *left = a;
    const rp_imatrix_stats *right = b;
    int left_length = 0;
    int right_length = 0;
    const char *left_name = short_name(left->entry->name, &left_length);
    const char *right_name = short_name(right->entry->name, &right_length);
    const int order = strncmp(left_name, right_name, (size_t)RP_MIN(left_length, right_length));

    if (order != 0 || left_length != right_length) {
        return order != 0 ? order : left_length - right_length;
    }
    if (left->sum != right->sum) {
        return left->sum > right->sum ? -1 : 1;
    }
    return strcmp(left->entry->name, right->entry->name);
}

static void print_summary(const char *path, const rp_imatrix *m)
{
    (void)printf("%s: importance matrix (%s), %zu tensors, %lld chunks of %lld tokens\n", path,
                 m->is_dat ? "dat" : "GGUF", m->n, (long long)m->chunk_count,
                 (long long)m->chunk_size);
    for (size_t i = 0; i < m->n_datasets; i++) {
        (void)printf("  data set: %s\n", m->datasets[i]);
    }
}

static void print_text(const char *path, table *t)
{
    const size_t n = t->imatrix->n;

    print_summary(path, t->imatrix);
    qsort(t->stats, n, sizeof(*t->stats), compare_stats);
    (void)printf("\n%5s  %-20s %14s %10s %13s %10s %10s %8s %7s %9s %8s %8s %8s\n", "layer",
                 "tensor", "sum(act^2)", "min", "max", "mean", "stddev", "active", "n", "entropy",
                 "E (norm)", "ZD", "CosSim");
    for (size_t i = 0; i < n; i++) {
        const rp_imatrix_stats *s = &t->stats[i];
        char layer[24] = "-";
        int length = 0;
        const char *name = short_name(s->entry->name, &length);
        if (s->layer >= 0) {
            (void)snprintf(layer, sizeof(layer), "%lld", (long long)s->layer);
        }
        (void)printf("%5s  %-20.*s %14.4f %10.4f %13.4f %10.4f %10.4f %6.2f %% %7lld %9.4f %6.2f "
                     "%% %6.2f %% %8.4f\n",
                     layer, length, name, s->sum, s->min, s->max, s->mean, s->stddev,
                     100 * s->active, (long long)s->n, s->entropy, 100 * s->entropy_norm,
                     100 * s->zd, s->cossim);
    }
    (void)printf("\n%5s  %14s %8s %8s   means over the layer's columns\n", "layer", "sum(act^2)",
                 "ZD", "CosSim");
    for (int64_t i = 0; i < t->n_layers; i++) {
        const rp_imatrix_layer_stats *l = &t->layers[i];
        (void)printf("%5lld  %14.4f %6.2f %% %8.4f\n", (long long)l->layer, l->sum, 100 * l->zd,
                     l->cossim);
    }
}

/* ---- verbs ---- */

static rp_status show(const rp_cli *cli)
{
    rp_status st = RP_OK;
    table t = {0};

    if (cli->n_args != 2) {
        return RP_FAIL(RP_ERR_USAGE, "imatrix show: want one FILE, got %d operands",
                       cli->n_args - 1);
    }
    RP_TRY(open_table(&t, cli->args[1]));
    if (cli->is_json) {
        RP_TRY(print_json(cli->args[1], &t));
    } else {
        print_text(cli->args[1], &t);
    }
out:
    close_table(&t);
    return st;
}

static rp_status merge_file(rp_imatrix *into, const char *path)
{
    rp_status st = RP_OK;
    rp_imatrix *from = NULL;

    RP_TRY(rp_imatrix_open(&from, path));
    st = rp_imatrix_merge(into, from);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", path);
    }
out:
    rp_imatrix_destroy(&from);
    return st;
}

/* A name that is there is refused: OUT comes first, and a list of inputs alone would lose one. */
static rp_status merge(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const char *path = cli->args[1];
    rp_imatrix *merged = NULL;
    json_t *root = NULL;

    if (cli->n_args < 3) {
        return RP_FAIL(RP_ERR_USAGE, "imatrix merge: want OUT and at least one IN");
    }
    if (rp_fs_exists(path)) {
        return RP_FAIL(RP_ERR_USAGE, "imatrix merge: OUT comes first, and %s exists", path);
    }
    RP_TRY(rp_imatrix_open(&merged, cli->args[2]));
    for (int i = 3; i < cli->n_args; i++) {
        RP_TRY(merge_file(merged, cli->args[i]));
    }
    RP_TRY(rp_imatrix_write(merged, path));
    rp_imatrix_destroy(&merged);
    RP_TRY(rp_imatrix_open(&merged, path));
    if (cli->is_json) {
        RP_TRY(describe(&root, path, merged));
        RP_TRY(rp_print_json(root));
    } else {
        print_summary(path, merged);
    }
out:
    json_decref(root);
    rp_imatrix_destroy(&merged);
    return st;
}

rp_status rp_cmd_imatrix(const rp_cli *cli)
{
    static const struct {
        const char *name;
        rp_status (*run)(const rp_cli *cli);
    } verbs[] = {{"show", show}, {"merge", merge}};

    for (size_t i = 0; i < RP_COUNT(verbs); i++) {
        if (strcmp(cli->args[0], verbs[i].name) == 0) {
            return verbs[i].run(cli);
        }
    }
    return RP_FAIL(RP_ERR_USAGE, "imatrix: want show or merge, got \"%s\"", cli->args[0]);
}
