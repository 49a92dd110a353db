/* GGUF: a file written and read back, every rule broken once, blocks by hand, encoding of forms. */
#include "formats/gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "tests/formats/image.h"
#include "tests/formats/make_files.h"

/* ---- A file as bytes ---- */

static void put_u32(image *to, uint32_t value)
{
    put(to, &value, sizeof(value));
}

static void put_u64(image *to, uint64_t value)
{
    put(to, &value, sizeof(value));
}

static void put_text(image *to, const char *text)
{
    put_u64(to, strlen(text));
    put(to, text, strlen(text));
}

static void put_head(image *to, uint32_t version, uint64_t n_tensors, uint64_t n_kvs)
{
    to->nbytes = 0;
    put(to, "GGUF", 4);
    put_u32(to, version);
    put_u64(to, n_tensors);
    put_u64(to, n_kvs);
}

static void put_key_u32(image *to, const char *key, uint32_t value)
{
    put_text(to, key);
    put_u32(to, RP_GGUF_U32);
    put_u32(to, value);
}

static void put_tensor(image *to, const char *name, uint64_t ne0, uint32_t type, uint64_t offset)
{
    put_text(to, name);
    put_u32(to, 1);
    put_u64(to, ne0);
    put_u32(to, type);
    put_u64(to, offset);
}

static void put_data(image *to, size_t nbytes)
{
    const uint8_t zero = 0;

    while (to->nbytes % 32 != 0) {
        put(to, &zero, 1);
    }
    for (size_t i = 0; i < nbytes; i++) {
        put(to, &zero, 1);
    }
}

static void assert_broken(const image *file, const char *cause)
{
    rp_gguf *gguf = NULL;

    assert_int_equal(rp_gguf_parse(&gguf, file->data, file->nbytes, "broken.gguf"), RP_ERR_FORMAT);
    assert_null(gguf);
    assert_non_null(strstr(rp_error_message(), "broken.gguf"));
    if (strstr(rp_error_message(), cause) == NULL) {
        fail_msg("want \"%s\", found \"%s\"", cause, rp_error_message());
    }
}

static void broken_heads(void **state)
{
    image file;

    (void)state;
    put_head(&file, 3, 0, 0);
    memcpy(file.data, "GGML", 4);
    assert_broken(&file, "not a GGUF file");
    put_head(&file, 1, 0, 0);
    assert_broken(&file, "version 1");
    put_head(&file, 4, 0, 0);
    assert_broken(&file, "version 4");
    put_head(&file, 3u << 24, 0, 0);
    assert_broken(&file, "big-endian");
    put_head(&file, 3, UINT64_MAX, 0);
    assert_broken(&file, "tensors do not fit");
    put_head(&file, 3, 0, (uint64_t)1 << 62);
    assert_broken(&file, "keys do not fit");
    file.nbytes = 20;
    assert_broken(&file, "cut header");
    file.nbytes = 0;
    assert_broken(&file, "cut header");
}

static void broken_keys(void **state)
{
    image file;

    (void)state;
    put_head(&file, 3, 0, 1);
    put_text(&file, "");
    put_u32(&file, RP_GGUF_U32);
    put_u64(&file, 0);
    assert_broken(&file, "key 0 has 0 bytes");
    put_head(&file, 3, 0, 1);
    put_u64(&file, UINT64_MAX);
    put_u64(&file, 0);
    assert_broken(&file, "more than 2^30");
    put_head(&file, 3, 0, 1);
    put_text(&file, "a\nb");
    put_u64(&file, 0);
    assert_broken(&file, "control character");
    put_head(&file, 3, 0, 1);
    put_text(&file, "strange");
    put_u32(&file, 13);
    put_u64(&file, 0);
    assert_broken(&file, "strange: unknown value type 13");
    put_head(&file, 3, 0, 2);
    put_key_u32(&file, "twin", 1);
    put_key_u32(&file, "twin", 2);
    assert_broken(&file, "twin: occurs twice");
    put_head(&file, 3, 0, 1);
    put_key_u32(&file, "cut", 1);
    file.nbytes--;
    assert_broken(&file, "cut: cut header");
    put_head(&file, 3, 0, 1);
    put_key_u32(&file, "general.alignment", 48);
    assert_broken(&file, "general.alignment: 48");
    put_head(&file, 3, 0, 1);
    put_key_u32(&file, "general.alignment", 0);
    assert_broken(&file, "general.alignment: 0");
}

static void broken_arrays(void **state)
{
    image file;

    (void)state;
    put_head(&file, 3, 0, 1);
    put_text(&file, "nested");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_ARRAY);
    put_u64(&file, 1);
    assert_broken(&file, "nested: array of 1 elements of type array");
    put_head(&file, 3, 0, 1);
    put_text(&file, "long");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_F64);
    put_u64(&file, (uint64_t)1 << 61);
    assert_broken(&file, "long: array of");
    put_head(&file, 3, 0, 1);
    put_text(&file, "numbers");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_F64);
    put_u64(&file, 1000000);
    assert_broken(&file, "numbers: cut header");
    put_head(&file, 3, 0, 1);
    put_text(&file, "texts");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_STRING);
    put_u64(&file, 1000000);
    assert_broken(&file, "texts: 1000000 strings do not fit");
    put_head(&file, 3, 0, 1);
    put_text(&file, "texts");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_STRING);
    put_u64(&file, 2);
    put_text(&file, "one");
    put_u64(&file, 5);
    assert_broken(&file, "texts: cut header");
}

static void broken_tensors(void **state)
{
    image file;
    char name[65];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[64] = '\0';
    put_head(&file, 3, 1, 0);
    put_tensor(&file, name, 4, 0, 0);
    put_data(&file, 16);
    assert_broken(&file, "tensor name 0 has 64 bytes");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", 4, 4, 0);
    put_data(&file, 16);
    assert_broken(&file, "tensor t: unknown type 4");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", 0, 0, 0);
    put_data(&file, 16);
    assert_broken(&file, "tensor t: dimension 0 of 0");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", (uint64_t)INT64_MAX, 0, 0);
    put_data(&file, 16);
    assert_broken(&file, "tensor t: larger than the file");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", 33, 2, 0);
    put_data(&file, 36);
    assert_broken(&file, "tensor t: rows of 33 do not fill Q4_0 blocks");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", 4, 0, 32);
    put_data(&file, 64);
    assert_broken(&file, "tensor t: offset 32, want 0");
    put_head(&file, 3, 2, 0);
    put_tensor(&file, "a", 4, 0, 0);
    put_tensor(&file, "b", 4, 0, 16);
    put_data(&file, 64);
    assert_broken(&file, "tensor b: offset 16, want 32");
    put_head(&file, 3, 2, 0);
    put_tensor(&file, "a", 4, 0, 0);
    put_tensor(&file, "a", 4, 0, 32);
    put_data(&file, 64);
    assert_broken(&file, "tensor a: occurs twice");
    put_head(&file, 3, 1, 0);
    put_tensor(&file, "t", 16, 0, 0);
    put_data(&file, 63);
    assert_broken(&file, "tensor t: cut file");
}

static void broken_shapes(void **state)
{
    image file;

    (void)state;
    put_head(&file, 3, 1, 0);
    put_text(&file, "t");
    put_u32(&file, 5);
    put_data(&file, 64);
    assert_broken(&file, "tensor t: 5 dimensions");
    put_head(&file, 3, 1, 0);
    put_text(&file, "t");
    put_u32(&file, 3);
    for (int i = 0; i < 3; i++) {
        put_u64(&file, (uint64_t)1 << 31);
    }
    put_u32(&file, 0);
    put_u64(&file, 0);
    assert_broken(&file, "tensor t: dimension 2");
}

/* Every cut of a good file is refused or gives what is there; nothing crashes. */
static void every_cut(void **state)
{
    image file;
    rp_gguf *gguf = NULL;

    (void)state;
    put_head(&file, 3, 2, 2);
    put_key_u32(&file, "general.alignment", 32);
    put_text(&file, "list");
    put_u32(&file, RP_GGUF_ARRAY);
    put_u32(&file, RP_GGUF_STRING);
    put_u64(&file, 2);
    put_text(&file, "alpha");
    put_text(&file, "");
    put_tensor(&file, "a", 4, 0, 0);
    put_tensor(&file, "b", 32, 8, 32);
    put_data(&file, 66);
    for (size_t n = 0; n < file.nbytes; n++) {
        assert_int_equal(rp_gguf_parse(&gguf, file.data, n, "cut"), RP_ERR_FORMAT);
    }
    assert_int_equal(rp_gguf_parse(&gguf, file.data, file.nbytes, "whole"), RP_OK);
    assert_int_equal(rp_gguf_tensor_count(gguf), 2);
    assert_int_equal(rp_gguf_tensor_find(gguf, "b")->nbytes, 34);
    assert_null(rp_gguf_tensor_find(gguf, "c"));
    const rp_gguf_kv *list = rp_gguf_kv_find(gguf, "list");
    assert_int_equal(list->count, 2);
    assert_int_equal(rp_gguf_kv_string(list, 0).nbytes, 5);
    assert_memory_equal(rp_gguf_kv_string(list, 0).data, "alpha", 5);
    assert_int_equal(rp_gguf_kv_string(list, 1).nbytes, 0);
    rp_gguf_close(&gguf);
}

/* ---- Written and read back ---- */

static void write_keys(rp_gguf_writer *w)
{
    const int32_t types[3] = {1, -2, 3};
    const float scores[2] = {0.0f, -1.5f};
    char text[32];

    assert_int_equal(rp_gguf_put_string(w, "general.architecture", "llama"), RP_OK);
    assert_int_equal(rp_gguf_put_u32(w, "count", 4000000000u), RP_OK);
    assert_int_equal(rp_gguf_put_f32(w, "eps", 1e-5f), RP_OK);
    assert_int_equal(rp_gguf_put_bool(w, "yes", true), RP_OK);
    assert_int_equal(rp_gguf_put_i32s(w, "types", types, 3), RP_OK);
    assert_int_equal(rp_gguf_put_f32s(w, "scores", scores, 2), RP_OK);
    assert_int_equal(rp_gguf_put_strings(w, "tokens", 20000), RP_OK);
    for (int i = 0; i < 20000; i++) { /* more than the reader's first piece */
        (void)snprintf(text, sizeof(text), "token %d", i);
        assert_int_equal(rp_gguf_add_string(w, text), RP_OK);
    }
}

static void write_file(const char *path)
{
    rp_gguf_writer *w = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    const int64_t shape[2] = {64, 3};
    uint8_t *file = NULL;

    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    write_keys(w);
    assert_int_equal(rp_gguf_add_tensor(w, "norm.weight", rp_gguf_block_type_find("F32"), 1, shape),
                     RP_OK);
    assert_int_equal(rp_gguf_add_tensor(w, "blk.weight", rp_gguf_block_type_find("Q4_0"), 2, shape),
                     RP_OK);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &header_bytes), RP_OK);
    assert_int_equal(header_bytes % RP_GGUF_ALIGNMENT, 0);
    assert_int_equal(rp_gguf_writer_tensor(w, 0)->offset, header_bytes);
    assert_int_equal(rp_gguf_writer_tensor(w, 1)->offset, header_bytes + 256);
    /* 3 rows of 2 blocks of 18 bytes, padded to 128 */
    assert_int_equal(rp_gguf_writer_file_bytes(w), header_bytes + 256 + 128);
    file = calloc(1, rp_gguf_writer_file_bytes(w));
    assert_non_null(file);
    memcpy(file, header, header_bytes);
    file[rp_gguf_writer_tensor(w, 1)->offset + 5] = 77;
    assert_int_equal(rp_fs_write_file(path, file, rp_gguf_writer_file_bytes(w)), RP_OK);
    free(file);
    rp_gguf_writer_destroy(&w);
}

static void check_values(const rp_gguf *g)
{
    char *text = NULL;
    int64_t count = 0;
    double eps = 0;
    bool yes = false;
    const rp_gguf_kv *array = NULL;

    assert_int_equal(rp_gguf_get_string(&text, g, "general.architecture", true), RP_OK);
    assert_string_equal(text, "llama");
    free(text);
    assert_int_equal(rp_gguf_get_int(&count, g, "count", true), RP_OK);
    assert_true(count == 4000000000);
    assert_int_equal(rp_gguf_get_float(&eps, g, "eps", true), RP_OK);
    assert_true(eps == (double)1e-5f);
    assert_int_equal(rp_gguf_get_bool(&yes, g, "yes", true), RP_OK);
    assert_true(yes);
    assert_int_equal(rp_gguf_get_array(&array, g, "types", RP_GGUF_I32, true), RP_OK);
    assert_int_equal(rp_gguf_kv_int(array, 1), -2);
    assert_int_equal(rp_gguf_get_array(&array, g, "scores", RP_GGUF_F32, true), RP_OK);
    assert_true(rp_gguf_kv_float(array, 1) == -1.5);
    assert_int_equal(rp_gguf_get_array(&array, g, "tokens", RP_GGUF_STRING, true), RP_OK);
    assert_int_equal(array->count, 20000);
    assert_memory_equal(rp_gguf_kv_string(array, 19999).data, "token 19999", 11);
}

static void check_refusals(const rp_gguf *g)
{
    char *text = NULL;
    int64_t count = 5;
    bool yes = false;
    const rp_gguf_kv *array = NULL;

    assert_int_equal(rp_gguf_get_int(&count, g, "absent", false), RP_OK);
    assert_int_equal(count, 5);
    assert_int_equal(rp_gguf_get_int(&count, g, "absent", true), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "key absent: missing"));
    assert_int_equal(rp_gguf_get_int(&count, g, "eps", true), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "key eps: want an integer, found f32"));
    assert_int_equal(rp_gguf_get_int(&count, g, "types", true), RP_ERR_FORMAT);
    assert_int_equal(rp_gguf_get_bool(&yes, g, "count", true), RP_ERR_FORMAT);
    assert_int_equal(rp_gguf_get_string(&text, g, "tokens", true), RP_ERR_FORMAT);
    assert_null(text);
    assert_int_equal(rp_gguf_get_array(&array, g, "types", RP_GGUF_F32, true), RP_ERR_FORMAT);
    assert_null(array);
}

static void round_trip(void **state)
{
    const char *path = scratch_path("round_trip.gguf");
    rp_gguf *g = NULL;
    uint8_t block[18];

    (void)state;
    write_file(path);
    assert_int_equal(rp_gguf_open(&g, path), RP_OK);
    assert_int_equal(rp_gguf_version(g), 3);
    check_values(g);
    check_refusals(g);
    const rp_gguf_tensor *t = rp_gguf_tensor_find(g, "blk.weight");
    assert_non_null(t);
    assert_string_equal(t->type->name, "Q4_0");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->ne[1], 3);
    assert_int_equal(rp_gguf_read(g, t, 0, sizeof(block), block), RP_OK);
    assert_int_equal(block[5], 77);
    rp_gguf_close(&g);
    (void)unlink(path);
    assert_int_equal(rp_gguf_open(&g, path), RP_ERR_FORMAT);
}

static void names_and_rows_that_do_not_fit(void **state)
{
    rp_gguf_writer *w = NULL;
    const rp_gguf_block_type *q8 = rp_gguf_block_type_find("Q8_0");
    const int64_t good = 32;
    const int64_t bad = 33;
    char name[RP_GGUF_NAME_BYTES + 1];

    (void)state;
    memset(name, 'x', sizeof(name));
    name[RP_GGUF_NAME_BYTES] = '\0';
    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_add_tensor(w, name, q8, 1, &good), RP_ERR_CONFIG);
    assert_int_equal(rp_gguf_add_tensor(w, "t", q8, 1, &bad), RP_ERR_CONFIG);
    rp_gguf_writer_destroy(&w);
}

/* ---- Blocks ---- */

static const rp_gguf_block_type *type_of(const char *name)
{
    const rp_gguf_block_type *type = rp_gguf_block_type_find(name);

    assert_non_null(type);
    return type;
}

/* Block bytes written down by hand. d = 1 is 0x3c00, 0.5 is 0x3800, -2 is 0xc000. */
static void blocks_by_hand(void **state)
{
    uint8_t q4_0[18] = {0x00, 0x3c, 0x2f};
    uint8_t q4_1[20] = {0x00, 0x38, 0x00, 0xc0, 0x2f};
    uint8_t q5_0[22] = {0x00, 0x3c, 0x01, 0x00, 0x02, 0x80, 0x2f};
    uint8_t q5_1[24] = {0x00, 0x38, 0x00, 0xc0, 0x01, 0x00, 0x02, 0x80, 0x2f};
    uint8_t q8_0[34] = {0x00, 0xc0, 0x7f, 0x81, 0xff};
    float y[32];

    (void)state;
    rp_gguf_decode_rows(type_of("Q4_0"), q4_0, 1, 32, y);
    assert_true(y[0] == 7.0f && y[16] == -6.0f && y[1] == -8.0f);
    rp_gguf_decode_rows(type_of("Q4_1"), q4_1, 1, 32, y);
    assert_true(y[0] == 5.5f && y[16] == -1.0f && y[1] == -2.0f);
    rp_gguf_decode_rows(type_of("Q5_0"), q5_0, 1, 32, y);
    assert_true(y[0] == 15.0f && y[16] == -14.0f && y[17] == 0.0f && y[31] == 0.0f);
    assert_true(y[1] == -16.0f);
    rp_gguf_decode_rows(type_of("Q5_1"), q5_1, 1, 32, y);
    assert_true(y[0] == 13.5f && y[16] == -1.0f && y[17] == 6.0f && y[1] == -2.0f);
    rp_gguf_decode_rows(type_of("Q8_0"), q8_0, 1, 32, y);
    assert_true(y[0] == -254.0f && y[1] == 254.0f && y[2] == 2.0f && y[3] == 0.0f);
}

/* Dense rows quantised while encoding and solved codes on the same grid give the same bytes, and
 * decode to the form's own values. */
static void encode_decode(void **state)
{
    static const char *const names[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};
    enum { ROWS = 3, COLS = 96 };
    rp_form dense;
    uint32_t seed = 11;

    (void)state;
    assert_int_equal(rp_form_create_dense(&dense, ROWS, COLS), RP_OK);
    for (int i = 0; i < ROWS * COLS; i++) {
        seed = seed * 1664525u + 1013904223u;
        dense.values[i] = (float)(seed >> 8) / 16777216.0f - 0.4f;
    }
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
        const rp_gguf_block_type *type = type_of(names[k]);
        const size_t row_bytes = rp_gguf_row_bytes(type, COLS);
        uint8_t from_dense[ROWS * 102];
        uint8_t from_codes[ROWS * 102];
        float form_values[ROWS * COLS];
        float file_values[ROWS * COLS];
        rp_grid grid;
        rp_form codes;
        assert_int_equal(rp_gguf_grid(&grid, type), RP_OK);
        assert_int_equal(rp_form_create_codes(&codes, &grid, ROWS, COLS), RP_OK);
        grid.ops->quantise(&grid, ROWS, COLS, dense.values, NULL, codes.params, codes.codes);
        assert_int_equal(rp_gguf_encode_rows(type, &dense, 0, ROWS, NULL, from_dense), RP_OK);
        assert_int_equal(rp_gguf_encode_rows(type, &codes, 0, 1, NULL, from_codes), RP_OK);
        assert_int_equal(rp_gguf_encode_rows(type, &codes, 1, 2, NULL, from_codes + row_bytes),
                         RP_OK);
        assert_memory_equal(from_dense, from_codes, ROWS * row_bytes);
        rp_form_decode_rows(&codes, 0, ROWS, form_values);
        rp_gguf_decode_rows(type, from_codes, ROWS, COLS, file_values);
        assert_memory_equal(form_values, file_values, sizeof(form_values));
        /* a float type takes the decoded values of any form */
        assert_int_equal(rp_gguf_encode_rows(type_of("F32"), &codes, 0, ROWS, NULL, file_values),
                         RP_OK);
        assert_memory_equal(form_values, file_values, sizeof(form_values));
        rp_form_destroy(&codes);
    }
    rp_form_destroy(&dense);
}

static void encode_refuses(void **state)
{
    rp_form form;
    rp_grid grid;
    rp_form codes;
    uint8_t out[4096];

    (void)state;
    assert_int_equal(rp_form_create_dense(&form, 1, 32), RP_OK);
    memset(form.values, 0, 32 * sizeof(float));
    form.values[7] = 1e6f; /* above fp16's range */
    assert_int_equal(rp_gguf_encode_rows(type_of("F16"), &form, 0, 1, NULL, out), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "column 7"));
    assert_int_equal(rp_gguf_encode_rows(type_of("F32"), &form, 0, 1, NULL, out), RP_OK);
    form.values[7] = 1e8f;
    assert_int_equal(rp_gguf_encode_rows(type_of("Q8_0"), &form, 0, 1, NULL, out), RP_ERR_FORMAT);
    form.values[7] = NAN;
    assert_int_equal(rp_gguf_encode_rows(type_of("Q4_0"), &form, 0, 1, NULL, out), RP_ERR_FORMAT);
    assert_int_equal(rp_gguf_encode_rows(type_of("IQ2_S"), &form, 0, 1, NULL, out), RP_ERR_CONFIG);
    form.cols = 31;
    assert_int_equal(rp_gguf_encode_rows(type_of("Q4_0"), &form, 0, 1, NULL, out), RP_ERR_CONFIG);
    rp_form_destroy(&form);
    assert_int_equal(rp_gguf_grid(&grid, type_of("Q4_1")), RP_OK);
    assert_int_equal(rp_form_create_codes(&codes, &grid, 1, 32), RP_OK);
    assert_int_equal(rp_gguf_encode_rows(type_of("Q4_0"), &codes, 0, 1, NULL, out), RP_ERR_CONFIG);
    assert_non_null(strstr(rp_error_message(), "cannot hold codes of Q4_1"));
    rp_form_destroy(&codes);
    assert_int_equal(rp_gguf_grid(&grid, type_of("F16")), RP_ERR_CONFIG);
}

static void type_table(void **state)
{
    (void)state;
    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        assert_ptr_equal(rp_gguf_block_type_find(type->name), type);
        assert_ptr_equal(rp_gguf_block_type_of(type->id), type);
    }
    assert_null(rp_gguf_block_type_find("Q4_2"));
    assert_null(rp_gguf_block_type_of(4));
    assert_true(rp_gguf_row_bytes(type_of("Q6_K"), 512) == 420);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_heads),   cmocka_unit_test(broken_keys),
        cmocka_unit_test(broken_arrays),  cmocka_unit_test(broken_tensors),
        cmocka_unit_test(broken_shapes),  cmocka_unit_test(every_cut),
        cmocka_unit_test(round_trip),     cmocka_unit_test(names_and_rows_that_do_not_fit),
        cmocka_unit_test(blocks_by_hand), cmocka_unit_test(encode_decode),
        cmocka_unit_test(encode_refuses), cmocka_unit_test(type_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
