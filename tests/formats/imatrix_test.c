/* Importance matrices: both kinds of file written and read back, merging by hand, statistics by
 * hand, every rule broken once. */
#include "formats/imatrix_stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "formats/gguf.h"
#include "tests/formats/image.h"
#include "tests/formats/make_files.h"

#define Q "blk.0.attn_q.weight"
#define EXPERTS "blk.1.ffn_up_exps.weight"

static void must(rp_status st)
{
    if (st != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
}

static rp_imatrix_entry *add(rp_imatrix *m, const char *name, int64_t n_values, int64_t n_mats)
{
    rp_imatrix_entry *entry = NULL;

    must(rp_imatrix_add(&entry, m, name, n_values, n_mats));
    return entry;
}

/* A dense entry of four columns and one of two experts with three, the second without tokens. */
static rp_imatrix *make_matrix(float scale, int64_t tokens)
{
    rp_imatrix *m = NULL;
    rp_imatrix_entry *entry = NULL;

    must(rp_imatrix_create(&m));
    entry = add(m, EXPERTS, 6, 2);
    entry->sums[0] = 3 * scale;
    entry->sums[2] = 6 * scale;
    entry->counts[0] = tokens / 2;
    entry = add(m, Q, 4, 1);
    for (int i = 0; i < 4; i++) {
        entry->sums[i] = (float)(1 + i) * scale;
    }
    entry->counts[0] = tokens;
    must(rp_imatrix_add_dataset(m, "a text"));
    must(rp_imatrix_seal(m));
    m->chunk_size = 8;
    m->chunk_count = tokens / 8;
    return m;
}

static void check_importance(const rp_imatrix *m, const char *name, const float *want, int64_t n)
{
    float got[8];
    const rp_imatrix_entry *entry = rp_imatrix_find(m, name);

    assert_non_null(entry);
    assert_int_equal(entry->n_values, n);
    rp_imatrix_importance(entry, got);
    for (int64_t i = 0; i < n; i++) {
        assert_true(got[i] == want[i]);
    }
}

static void test_gguf_round_trip(void **state)
{
    const float q[4] = {0.25F, 0.5F, 0.75F, 1};
    const float experts[6] = {1.5F, 0, 3, 1, 1, 1};
    const char *path = scratch_path("a.gguf");
    rp_imatrix *m = make_matrix(4, 16);

    (void)state;
    must(rp_imatrix_write(m, path));
    rp_imatrix_destroy(&m);
    must(rp_imatrix_open(&m, path));
    assert_int_equal(m->n, 2);
    assert_false(m->is_dat);
    assert_int_equal(m->chunk_size, 8);
    assert_int_equal(m->chunk_count, 2);
    assert_int_equal(m->n_datasets, 1);
    assert_string_equal(m->datasets[0], "a text");
    check_importance(m, Q, q, 4);
    check_importance(m, EXPERTS, experts, 6);
    assert_null(rp_imatrix_find(m, "blk.0.attn_k.weight"));
    rp_imatrix_destroy(&m);
    rp_imatrix_destroy(&m);
}

/* The older kind keeps means, not counts of matrices; its chunks have an assumed length. */
static void test_dat_round_trip(void **state)
{
    const float q[4] = {0.25F, 0.5F, 0.75F, 1};
    const float experts[6] = {1.5F, 0, 3, 1, 1, 1};
    const char *path = scratch_path("a.dat");
    rp_imatrix *m = make_matrix(4, 16);

    (void)state;
    (void)add(m, "blk.9.unseen.weight", 2, 1); /* no token: cannot be held */
    must(rp_imatrix_seal(m));
    must(rp_imatrix_write(m, path));
    rp_imatrix_destroy(&m);
    must(rp_imatrix_open(&m, path));
    assert_true(m->is_dat);
    assert_int_equal(m->n, 2);
    assert_int_equal(m->chunk_size, RP_IMATRIX_DAT_CHUNK);
    assert_int_equal(m->chunk_count, 2);
    assert_string_equal(m->datasets[0], "a text");
    check_importance(m, Q, q, 4);
    check_importance(m, EXPERTS, experts, 6);
    assert_int_equal(rp_imatrix_find(m, Q)->counts[0], 2 * RP_IMATRIX_DAT_CHUNK);
    rp_imatrix_destroy(&m);
}

static void test_merge(void **state)
{
    const float q[4] = {0.5F, 1, 1.5F, 2};       /* (4 + 20) / (16 + 32) */
    const float experts[6] = {3, 0, 6, 1, 1, 1}; /* (12 + 60) / (8 + 16) */
    rp_imatrix *into = make_matrix(4, 16);
    rp_imatrix *from = make_matrix(20, 32);

    (void)state;
    add(from, "blk.0.attn_k.weight", 1, 1)->counts[0] = 40;
    must(rp_imatrix_seal(from));
    must(rp_imatrix_merge(into, from));
    assert_int_equal(into->n, 3);
    assert_int_equal(into->n_datasets, 2);
    assert_int_equal(into->chunk_size, 8);
    assert_int_equal(into->chunk_count, 6); /* 48 tokens in chunks of 8 */
    check_importance(into, Q, q, 4);
    check_importance(into, EXPERTS, experts, 6);
    assert_string_equal(into->entries[0].name, "blk.0.attn_k.weight");
    rp_imatrix_destroy(&from);
    rp_imatrix_destroy(&into);
}

/* One count for all experts, as a .dat has it, stands for each of them. */
static void test_merge_spreads_counts(void **state)
{
    for (int turn = 0; turn < 2; turn++) {
        rp_imatrix *m = make_matrix(4, 16);
        rp_imatrix *single = NULL;
        const rp_imatrix_entry *merged = NULL;
        (void)state;
        must(rp_imatrix_create(&single));
        add(single, EXPERTS, 6, 1)->counts[0] = 10;
        must(rp_imatrix_seal(single));
        must(turn == 0 ? rp_imatrix_merge(m, single) : rp_imatrix_merge(single, m));
        merged = rp_imatrix_find(turn == 0 ? m : single, EXPERTS);
        assert_int_equal(merged->n_mats, 2);
        assert_int_equal(merged->counts[0], 18);
        assert_int_equal(merged->counts[1], 10);
        rp_imatrix_destroy(&single);
        rp_imatrix_destroy(&m);
    }
}

static void test_merge_refuses(void **state)
{
    rp_imatrix *m = make_matrix(4, 16);
    rp_imatrix *other = NULL;

    (void)state;
    must(rp_imatrix_create(&other));
    (void)add(other, Q, 5, 1);
    must(rp_imatrix_seal(other));
    assert_int_equal(rp_imatrix_merge(m, other), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), Q ": 5 values"));
    rp_imatrix_destroy(&other);
    rp_imatrix_destroy(&m);

    other = make_matrix(3.0e38F / 4, 16);
    m = make_matrix(3.0e38F / 4, 16);
    assert_int_equal(rp_imatrix_merge(m, other), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "overflows"));
    rp_imatrix_destroy(&other);
    rp_imatrix_destroy(&m);
}

/* ---- Statistics ---- */

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * (1 + fabs(want)))) {
        fail_msg("got %.17g, want %.17g", got, want);
    }
}

static void test_stats(void **state)
{
    rp_imatrix *m = NULL;
    rp_imatrix_entry *entry = NULL;
    rp_imatrix_stats *stats = NULL;
    rp_imatrix_layer_stats *layers = NULL;
    int64_t n_layers = 0;

    (void)state;
    must(rp_imatrix_create(&m));
    entry = add(m, "blk.10.x.weight", 4, 2); /* means 4, 0; the second matrix saw nothing */
    entry->sums[0] = 8;
    entry->sums[2] = 6;
    entry->counts[0] = 2;
    entry = add(m, "blk.9.x.weight", 4, 1); /* means 1, 1, 1, 5 */
    entry->sums[0] = entry->sums[1] = entry->sums[2] = 3;
    entry->sums[3] = 15;
    entry->counts[0] = 3;
    (void)add(m, "output.weight", 2, 1);
    must(rp_imatrix_seal(m));
    must(rp_imatrix_stats_make(&stats, m));
    assert_int_equal(stats[0].layer, 10);
    assert_int_equal(stats[0].n, 2);
    near(stats[0].sum, 4);
    near(stats[0].active, 0.5);
    near(stats[0].entropy, 0);
    near(stats[0].cossim, (8 * 3 + 6 * 3) / (10 * sqrt(252)));
    assert_int_equal(stats[1].layer, 9);
    near(stats[1].sum, 8);
    near(stats[1].min, 1);
    near(stats[1].max, 5);
    near(stats[1].mean, 2);
    near(stats[1].stddev, sqrt(3));
    near(stats[1].zd, 0.25);
    near(stats[1].entropy, 3.0 / 8 * 3 + 5.0 / 8 * log2(8.0 / 5));
    near(stats[1].entropy_norm, stats[1].entropy / 2);
    near(stats[1].cossim, 0);
    assert_int_equal(stats[2].layer, -1);
    assert_int_equal(stats[2].n, 0);
    near(stats[2].max, 0);
    must(rp_imatrix_layer_stats_make(&layers, &n_layers, stats, 3));
    assert_int_equal(n_layers, 2);
    assert_int_equal(layers[0].layer, 9);
    near(layers[0].zd, 0.25);
    near(layers[1].sum, 4);
    near(layers[1].cossim, stats[0].cossim);
    free(layers);
    free(stats);
    rp_imatrix_destroy(&m);
}

/* ---- What is refused ---- */

static void refused_bytes(const void *data, size_t nbytes, const char *message)
{
    rp_imatrix *m = NULL;
    const rp_status st = rp_imatrix_parse(&m, data, nbytes, "f");

    if (st != RP_ERR_FORMAT || m != NULL || strstr(rp_error_message(), message) == NULL) {
        fail_msg("want \"%s\", got status %d: %s", message, (int)st, rp_error_message());
    }
}

static void put_i32(image *to, int32_t value)
{
    put(to, &value, sizeof(value));
}

static void put_text(image *to, const char *text)
{
    put_i32(to, (int32_t)strlen(text));
    put(to, text, strlen(text));
}

static image dat_entry(const char *name, int32_t n_entries, int32_t n_chunks, int32_t n_values,
                       float value)
{
    image file = {.nbytes = 0};

    put_i32(&file, n_entries);
    put_text(&file, name);
    put_i32(&file, n_chunks);
    put_i32(&file, n_values);
    put(&file, &value, sizeof(value));
    return file;
}

static void refused_dat(image file, const char *message)
{
    refused_bytes(file.data, file.nbytes, message);
}

static void test_bad_dat(void **state)
{
    image file = {.nbytes = 0};
    rp_imatrix *m = NULL;

    (void)state;
    file = dat_entry("w", 1, 0, 1, 2); /* no chunks: the value as it stands; nothing behind it */
    must(rp_imatrix_parse(&m, file.data, file.nbytes, "f"));
    check_importance(m, "w", (const float[]){2}, 1);
    rp_imatrix_destroy(&m);
    refused_bytes("", 0, "f: cut file: no number of entries");
    refused_dat(dat_entry("w", 0, 1, 1, 2),
                "f: not an importance matrix: no GGUF at its start, and 0");
    refused_dat(dat_entry("w", -1, 1, 1, 2), "-1 entries do not fit into 21 bytes");
    refused_dat(dat_entry("w", 2, 1, 1, 2), "2 entries do not fit");
    refused_dat(dat_entry("", 1, 1, 1, 2), "f: not an importance matrix"); /* 20 bytes hold none */
    refused_dat(dat_entry("a\nb", 1, 1, 1, 2), "holds a control character");
    refused_dat(dat_entry("w", 1, -1, 1, 2), "f: entry w: -1 chunks");
    refused_dat(dat_entry("w", 1, 1, 0, 2), "f: entry w: 0 values do not fit");
    refused_dat(dat_entry("w", 1, 1, INT32_MAX, 2),
                "2147483647 values do not fit into the 4 bytes");
    refused_dat(dat_entry("w", 1, 1, 1, -1), "f: entry w: value 0 is -512, no sum of squares");
    refused_dat(dat_entry("w", 1, 1, 1, NAN), "no sum of squares");
    refused_dat(dat_entry("w", 1, 1, 1, 3.0e38F), "value 0 is inf");
    for (size_t cut = file.nbytes - 1; cut >= 4; cut--) {
        refused_bytes(file.data, cut, "f: ");
    }
    file = dat_entry("w", 1, 1, 1, 2);
    put_i32(&file, 3);
    must(rp_imatrix_parse(&m, file.data, file.nbytes, "f")); /* chunks alone at the end */
    assert_int_equal(m->chunk_count, 3);
    rp_imatrix_destroy(&m);
    put_text(&file, "text");
    put_i32(&file, 0);
    refused_dat(file, "f: 4 bytes behind its end");
    file.nbytes -= 8;
    refused_dat(file, "f: name of a data set of 4 bytes at 29, want 0 to 0");
    file = dat_entry("w", 1, 1, 1, 2);
    put_i32(&file, -3);
    refused_dat(file, "f: -3 chunks");
    file = dat_entry("w", 2, 1, 1, 2);
    put(&file, file.data + 4, 17);
    refused_dat(file, "f: entry w: occurs twice");
    file =
        dat_entry("w234567890123456789012345678901234567890123456789012345678901234", 1, 1, 1, 2);
    refused_dat(file, "entry's name of 64 bytes at 8, want 1 to 63");
}

/* A GGUF file of sums [n_values] and counts [n_mats] with every value set; NULL: no such tensor. */
typedef struct gguf_parts {
    const char *sums, *counts, *type;
    int64_t n_values, n_mats;
    float value, count;
    bool has_keys;
} gguf_parts;

static void fill(uint8_t *file, const rp_gguf_writer *w, int64_t index, float value)
{
    const rp_gguf_tensor *t = rp_gguf_writer_tensor(w, index);

    for (size_t i = 0; i < t->nbytes / sizeof(value); i++) {
        memcpy(file + t->offset + i * sizeof(value), &value, sizeof(value));
    }
}

static rp_status parse_gguf(rp_imatrix **out, const gguf_parts *parts)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *type = rp_gguf_block_type_find(parts->type);
    rp_gguf_writer *w = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    uint8_t file[1024] = {0};
    int64_t n = 0;

    must(rp_gguf_writer_create(&w));
    if (parts->has_keys) {
        must(rp_gguf_put_strings(w, "imatrix.datasets", 0));
        must(rp_gguf_put_u32(w, "imatrix.chunk_count", 1));
        must(rp_gguf_put_u32(w, "imatrix.chunk_size", 1));
    }
    if (parts->sums != NULL) {
        must(rp_gguf_add_tensor(w, parts->sums, type, 1, &parts->n_values));
    }
    if (parts->counts != NULL) {
        must(rp_gguf_add_tensor(w, parts->counts, rp_gguf_block_type_find("F32"), 1,
                                &parts->n_mats));
    }
    must(rp_gguf_writer_finish(w, &header, &header_bytes));
    assert_true(rp_gguf_writer_file_bytes(w) <= sizeof(file));
    memcpy(file, header, header_bytes);
    if (parts->sums != NULL) {
        fill(file, w, n++, parts->value);
    }
    if (parts->counts != NULL) {
        fill(file, w, n, parts->count);
    }
    st = rp_imatrix_parse(out, file, rp_gguf_writer_file_bytes(w), "f");
    rp_gguf_writer_destroy(&w);
    return st;
}

static void refused_gguf(gguf_parts parts, const char *message)
{
    rp_imatrix *m = NULL;
    const rp_status st = parse_gguf(&m, &parts);

    if (st != RP_ERR_FORMAT || m != NULL || strstr(rp_error_message(), message) == NULL) {
        fail_msg("want \"%s\", got status %d: %s", message, (int)st, rp_error_message());
    }
}

static void test_bad_gguf(void **state)
{
    const gguf_parts good = {"w.in_sum2", "w.counts", "F32", 4, 2, 3, 2, true};
    gguf_parts parts = good;
    rp_imatrix *m = NULL;

    (void)state;
    must(parse_gguf(&m, &good));
    check_importance(m, "w", (const float[]){1.5F, 1.5F, 1.5F, 1.5F}, 4);
    rp_imatrix_destroy(&m);
    parts.has_keys = false;
    refused_gguf(parts, "f: key imatrix.chunk_count: missing");
    parts = good;
    parts.sums = NULL;
    refused_gguf(parts, "f: entry w: no tensor w.in_sum2");
    parts.counts = NULL;
    refused_gguf(parts, "f: not an importance matrix: no tensor ends in .in_sum2");
    parts.sums = "w.in_sum2";
    refused_gguf(parts, "f: entry w: no tensor w.counts");
    parts = good;
    parts.type = "F16";
    refused_gguf(parts, "f: tensor w.in_sum2: want F32, found F16");
    parts = good;
    parts.n_mats = 3;
    refused_gguf(parts, "f: entry w: 4 values do not share 3 counts");
    parts = good;
    parts.value = -1;
    refused_gguf(parts, "f: entry w: value 0 is -1, no sum of squares");
    parts = good;
    parts.count = INFINITY;
    refused_gguf(parts, "f: entry w: count 0 is inf, no number of tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_round_trip), cmocka_unit_test(test_dat_round_trip),
        cmocka_unit_test(test_merge),           cmocka_unit_test(test_merge_spreads_counts),
        cmocka_unit_test(test_merge_refuses),   cmocka_unit_test(test_stats),
        cmocka_unit_test(test_bad_dat),         cmocka_unit_test(test_bad_gguf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
