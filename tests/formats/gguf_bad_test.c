/* Every field of a small GGUF file made wrong, one row of a table each: one clear line that names
 * file and cause, and RP_ERR_FORMAT. Then split models whose parts do not belong together. The
 * cases are those of llama.cpp's own test of its reader, and more. */
#include "formats/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "tests/formats/make_files.h"

/* ---- A good file, and where its fields are ---- */

typedef enum field {
    NOTHING = 0, /* no change */
    MAGIC,
    VERSION,
    N_TENSORS,
    N_KVS,
    ALIGN_KEY_BYTES, /* general.alignment, u32 */
    ALIGN_TYPE,
    ALIGN_VALUE,
    LIST_KEY, /* "list.a", array of 2 u32 */
    LIST_TYPE,
    LIST_ELEM_TYPE,
    LIST_COUNT,
    TEXTS_TYPE, /* "texts", array of 2 strings */
    TEXTS_COUNT,
    TEXTS_FIRST_BYTES,
    TEXT_KEY, /* "list.b", a string */
    TEXT_BYTES,
    A_NAME_BYTES, /* tensor "a", F32 [8, 2] */
    A_NAME,
    A_NDIMS,
    A_NE0,
    A_NE1,
    A_TYPE,
    A_OFFSET,
    B_NAME, /* tensor "b", Q8_0 [32] */
    B_NE0,
    B_TYPE,
    B_OFFSET,
    END, /* the value is a number of bytes to take off */
    FIELD_COUNT
} field;

typedef struct image {
    uint8_t data[1024];
    size_t nbytes;
    size_t at[FIELD_COUNT];
} image;

static void put(image *to, field what, const void *data, size_t nbytes)
{
    assert_true(to->nbytes + nbytes <= sizeof(to->data));
    to->at[what] = to->nbytes;
    memcpy(to->data + to->nbytes, data, nbytes);
    to->nbytes += nbytes;
}

static void put_u32(image *to, field what, uint32_t value)
{
    put(to, what, &value, sizeof(value));
}

static void put_u64(image *to, field what, uint64_t value)
{
    put(to, what, &value, sizeof(value));
}

static void put_text(image *to, field length, field what, const char *text)
{
    put_u64(to, length, strlen(text));
    put(to, what, text, strlen(text));
}

static void put_keys(image *to)
{
    put_text(to, ALIGN_KEY_BYTES, NOTHING, "general.alignment");
    put_u32(to, ALIGN_TYPE, RP_GGUF_U32);
    put_u32(to, ALIGN_VALUE, 64);
    put_text(to, NOTHING, LIST_KEY, "list.a");
    put_u32(to, LIST_TYPE, RP_GGUF_ARRAY);
    put_u32(to, LIST_ELEM_TYPE, RP_GGUF_U32);
    put_u64(to, LIST_COUNT, 2);
    put_u64(to, NOTHING, 7);
    put_text(to, NOTHING, NOTHING, "texts");
    put_u32(to, NOTHING, RP_GGUF_ARRAY);
    put_u32(to, TEXTS_TYPE, RP_GGUF_STRING);
    put_u64(to, TEXTS_COUNT, 2);
    put_text(to, TEXTS_FIRST_BYTES, NOTHING, "alpha");
    put_text(to, NOTHING, NOTHING, "");
    put_text(to, NOTHING, TEXT_KEY, "list.b");
    put_u32(to, NOTHING, RP_GGUF_STRING);
    put_text(to, TEXT_BYTES, NOTHING, "text");
}

static void put_good(image *to)
{
    memset(to, 0, sizeof(*to));
    put(to, MAGIC, "GGUF", 4);
    put_u32(to, VERSION, 3);
    put_u64(to, N_TENSORS, 2);
    put_u64(to, N_KVS, 4);
    put_keys(to);
    put_text(to, A_NAME_BYTES, A_NAME, "a");
    put_u32(to, A_NDIMS, 2);
    put_u64(to, A_NE0, 8);
    put_u64(to, A_NE1, 2);
    put_u32(to, A_TYPE, 0);
    put_u64(to, A_OFFSET, 0);
    put_text(to, NOTHING, B_NAME, "b");
    put_u32(to, NOTHING, 1);
    put_u64(to, B_NE0, 32);
    put_u32(to, B_TYPE, 8);
    put_u64(to, B_OFFSET, 64);
    to->nbytes = (to->nbytes + 63) / 64 * 64 + 64 + 34;
    assert_true(to->nbytes <= sizeof(to->data));
    to->at[END] = to->nbytes;
}

/* ---- Wrong fields ---- */

typedef struct change {
    field what;
    int nbytes; /* of the value */
    uint64_t value;
} change;

#define MINUS_ONE UINT64_MAX
#define TWO_30 ((uint64_t)1 << 30)

static const struct {
    const char *cause; /* in the message */
    change changes[3];
} rows[] = {
    /* head */
    {"not a GGUF file", {{MAGIC, 4, 0x4c4d4747}}},
    {"not a GGUF file", {{MAGIC, 4, 0x47475546}}}, /* the other byte order */
    {"version 0", {{VERSION, 4, 0}}},
    {"version 1", {{VERSION, 4, 1}}},
    {"version 4", {{VERSION, 4, 4}}},
    {"big-endian", {{VERSION, 4, 3u << 24}}},
    {"tensors do not fit", {{N_TENSORS, 8, MINUS_ONE}}},
    {"tensors do not fit", {{N_TENSORS, 8, (uint64_t)1 << 62}}},
    {"want", {{N_TENSORS, 8, 3}}}, /* one more than there are: padding is no tensor */
    {"keys do not fit", {{N_KVS, 8, MINUS_ONE}}},
    {"keys do not fit", {{N_KVS, 8, (uint64_t)1 << 63}}},
    {"cut header", {{END, 8, 1010}}},
    {"wrong.gguf: keys: ", {{N_KVS, 8, 20}}}, /* tensor infos are no keys */
    /* keys */
    {"key 0 has 0 bytes", {{ALIGN_KEY_BYTES, 8, 0}}},
    {"more than 2^30", {{ALIGN_KEY_BYTES, 8, MINUS_ONE}}},
    {"cut header", {{ALIGN_KEY_BYTES, 8, TWO_30}}},
    {"control character", {{LIST_KEY, 1, '\n'}}},
    {"list.a: unknown value type 13", {{LIST_TYPE, 4, 13}}},
    {"list.a: unknown value type 4294967295", {{LIST_TYPE, 4, MINUS_ONE}}},
    {"list.a: occurs twice", {{TEXT_KEY, 6, 0x612e7473696cull}}}, /* list.b */
    {"list.a: unknown value type 13", {{LIST_ELEM_TYPE, 4, 13}}},
    {"list.a: array of 2 elements of type array", {{LIST_ELEM_TYPE, 4, RP_GGUF_ARRAY}}},
    {"list.a: array of", {{LIST_COUNT, 8, TWO_30 + 1}}},
    {"list.a: array of", {{LIST_COUNT, 8, (uint64_t)1 << 61}}},
    {"list.a: array of", {{LIST_COUNT, 8, MINUS_ONE}}},
    {"list.a: cut header", {{LIST_COUNT, 8, TWO_30}}},
    {"texts: array of", {{TEXTS_COUNT, 8, MINUS_ONE}}},
    {"texts: 1073741824 strings do not fit", {{TEXTS_COUNT, 8, TWO_30}}},
    {"texts: cut header", {{TEXTS_FIRST_BYTES, 8, 1000}}},
    {"more than 2^30", {{TEXTS_FIRST_BYTES, 8, MINUS_ONE}}},
    {"list.b: cut header", {{TEXT_BYTES, 8, 1000}}},
    {"more than 2^30", {{TEXT_BYTES, 8, TWO_30 + 1}}},
    /* alignment */
    {"general.alignment: 0", {{ALIGN_VALUE, 4, 0}}},
    {"general.alignment: 48", {{ALIGN_VALUE, 4, 48}}},
    {"general.alignment: 4294967295", {{ALIGN_VALUE, 4, UINT32_MAX}}},
    {"general.alignment: want u32, found i32", {{ALIGN_TYPE, 4, RP_GGUF_I32}}},
    {"general.alignment: want u32, found f32", {{ALIGN_TYPE, 4, RP_GGUF_F32}}},
    {"tensor b: offset 64, want 128", {{ALIGN_VALUE, 4, 128}}},
    {"tensor b: offset", {{ALIGN_VALUE, 4, 1u << 31}}},
    /* tensor infos */
    {"tensor name 0 has 0 bytes", {{A_NAME_BYTES, 8, 0}}},
    {"tensor name 0 has 64 bytes", {{A_NAME_BYTES, 8, 64}}},
    {"more than 2^30", {{A_NAME_BYTES, 8, MINUS_ONE}}},
    {"control character", {{A_NAME, 1, 0x7f}}},
    {"tensor a: occurs twice", {{B_NAME, 1, 'a'}}},
    {"tensor a: 5 dimensions", {{A_NDIMS, 4, 5}}},
    {"tensor a: 4294967295 dimensions", {{A_NDIMS, 4, UINT32_MAX}}},
    {"tensor a: dimension 0 of 0", {{A_NE0, 8, 0}}},
    {"tensor a: dimension 1 of 0", {{A_NE1, 8, 0}}},
    {"tensor a: dimension 0 of 18446744073709551615", {{A_NE0, 8, MINUS_ONE}}},
    {"tensor a: dimension 1 of 9223372036854775808", {{A_NE1, 8, (uint64_t)1 << 63}}},
    {"tensor a: dimension 1 of", {{A_NE0, 8, TWO_30 << 2}, {A_NE1, 8, TWO_30 << 2}}},
    {"tensor a: larger than the file", {{A_NE0, 8, INT64_MAX}, {A_NE1, 8, 1}}},
    {"tensor a: larger than the file", {{A_NE0, 8, INT64_MAX / 2}}},
    /* 2^64 - 16 bytes: they fit, padded they do not */
    {"tensor a: larger than the file", {{A_NE0, 8, ((uint64_t)1 << 62) - 4}, {A_NE1, 8, 1}}},
    /* two tensors of I8 that together have more bytes than 2^64 */
    {"tensor a: larger than the file",
     {{A_NE0, 8, 0x7fffffffffffffc0}, {A_NE1, 8, 1}, {A_TYPE, 4, 24}}},
    {"tensor a: unknown type 4", {{A_TYPE, 4, 4}}},
    {"tensor a: unknown type 31", {{A_TYPE, 4, 31}}},
    {"tensor a: unknown type 1000", {{A_TYPE, 4, 1000}}},
    {"tensor a: unknown type 4294967295", {{A_TYPE, 4, MINUS_ONE}}},
    {"tensor a: rows of 8 do not fill Q4_0 blocks", {{A_TYPE, 4, 2}}},
    {"tensor b: rows of 32 do not fill Q4_K blocks of 256", {{B_TYPE, 4, 12}}},
    {"tensor b: rows of 33 do not fill Q8_0 blocks", {{B_NE0, 8, 33}}},
    {"tensor a: offset 64, want 0", {{A_OFFSET, 8, 64}}},
    {"tensor b: offset 0, want 64", {{B_OFFSET, 8, 0}}},
    {"tensor b: offset 65, want 64", {{B_OFFSET, 8, 65}}},
    {"tensor b: offset 18446744073709551615", {{B_OFFSET, 8, MINUS_ONE}}},
    /* data */
    {"tensor b: cut file", {{END, 8, 1}}},
    {"tensor b: cut file", {{END, 8, 34}}},
    {"tensor b: cut file", {{B_NE0, 8, 64}}},
    {"tensor a: cut file", {{END, 8, 64 + 34}}},
};

static void apply(image *file, const change *c)
{
    if (c->what == END) {
        file->nbytes -= RP_MIN((size_t)c->value, file->nbytes);
    } else if (c->what != NOTHING) {
        memcpy(file->data + file->at[c->what], &c->value, (size_t)c->nbytes);
    }
}

static void assert_refused(rp_status status, const char *origin, const char *cause)
{
    assert_int_equal(status, RP_ERR_FORMAT);
    if (strstr(rp_error_message(), cause) == NULL || strstr(rp_error_message(), origin) == NULL ||
        strchr(rp_error_message(), '\n') != NULL) {
        fail_msg("want \"%s\" and \"%s\", found \"%s\"", origin, cause, rp_error_message());
    }
}

static void good_file(void **state)
{
    image file;
    rp_gguf *gguf = NULL;

    (void)state;
    put_good(&file);
    assert_int_equal(rp_gguf_parse(&gguf, file.data, file.nbytes, "good"), RP_OK);
    assert_int_equal(rp_gguf_tensor_count(gguf), 2);
    assert_int_equal(rp_gguf_tensor_find(gguf, "a")->offset % 64, 0);
    assert_int_equal(rp_gguf_tensor_find(gguf, "b")->nbytes, 34);
    assert_int_equal(rp_gguf_kv_find(gguf, "texts")->nbytes, 8 + 5 + 8);
    rp_gguf_close(&gguf);
}

static void wrong_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        image file;
        rp_gguf *gguf = NULL;
        put_good(&file);
        for (size_t k = 0; k < RP_COUNT(rows[i].changes); k++) {
            apply(&file, &rows[i].changes[k]);
        }
        assert_refused(rp_gguf_parse(&gguf, file.data, file.nbytes, "wrong.gguf"), "wrong.gguf",
                       rows[i].cause);
        assert_null(gguf);
    }
}

/* Each cut, and each byte set to 0 and to 255: refused in one line or read; nothing crashes. */
static void every_byte(void **state)
{
    image good;

    (void)state;
    put_good(&good);
    for (size_t i = 0; i < good.nbytes; i++) {
        rp_gguf *gguf = NULL;
        assert_int_equal(rp_gguf_parse(&gguf, good.data, i, "cut"), RP_ERR_FORMAT);
        for (int byte = 0; byte < 256; byte += 255) {
            image file = good;
            file.data[i] = (uint8_t)byte;
            if (rp_gguf_parse(&gguf, file.data, file.nbytes, "one byte") != RP_OK) {
                assert_refused(RP_ERR_FORMAT, "one byte", "");
            }
            rp_gguf_close(&gguf);
        }
    }
}

/* ---- Parts of a split model ---- */

typedef struct part_keys {
    int64_t no, count, n_tensors; /* split.*; -1: absent */
    const char *tensor;
} part_keys;

/* One F32 tensor of 8 equal values. */
static void write_part(const char *path, const part_keys *keys, float value)
{
    rp_gguf_writer *w = NULL;
    const int64_t ne = 8;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    char *file = NULL;

    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    if (keys->no >= 0) {
        assert_int_equal(rp_gguf_put_u32(w, "split.no", (uint32_t)keys->no), RP_OK);
    }
    if (keys->count >= 0) {
        assert_int_equal(rp_gguf_put_u32(w, "split.count", (uint32_t)keys->count), RP_OK);
    }
    if (keys->n_tensors >= 0) {
        assert_int_equal(rp_gguf_put_u32(w, "split.tensors.count", (uint32_t)keys->n_tensors),
                         RP_OK);
    }
    assert_int_equal(rp_gguf_add_tensor(w, keys->tensor, rp_gguf_block_type_find("F32"), 1, &ne),
                     RP_OK);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &header_bytes), RP_OK);
    assert_int_equal(rp_calloc(&file, rp_gguf_writer_file_bytes(w), 1), RP_OK);
    memcpy(file, header, header_bytes);
    for (int i = 0; i < ne; i++) {
        memcpy(file + header_bytes + (size_t)i * sizeof(value), &value, sizeof(value));
    }
    assert_int_equal(rp_fs_write_file(path, file, rp_gguf_writer_file_bytes(w)), RP_OK);
    free(file);
    rp_gguf_writer_destroy(&w);
}

static const char *part_name(int part)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};

    return names[part];
}

static const part_keys good_parts[] = {
    {0, 3, 3, "first"}, {1, 3, -1, "second"}, {2, 3, 3, "third"}};

static void write_good_parts(void)
{
    for (int i = 0; i < 3; i++) {
        write_part(scratch_path(part_name(i)), &good_parts[i], (float)(i + 1));
    }
}

static void good_split(void **state)
{
    (void)state;
    write_good_parts();
    for (int given = 0; given < 3; given++) { /* any part opens the whole */
        rp_gguf *gguf = NULL;
        assert_int_equal(rp_gguf_open(&gguf, scratch_path(part_name(given))), RP_OK);
        assert_int_equal(rp_gguf_part_count(gguf), 3);
        assert_int_equal(rp_gguf_tensor_count(gguf), 3);
        assert_string_equal(rp_gguf_path(gguf), scratch_path(part_name(0)));
        assert_string_equal(rp_gguf_part_path(gguf, 2), scratch_path(part_name(2)));
        for (int i = 0; i < 3; i++) {
            const rp_gguf_tensor *t = rp_gguf_tensor_find(gguf, good_parts[i].tensor);
            float values[8];
            assert_int_equal(t->part, i);
            assert_int_equal(rp_gguf_read(gguf, t, 0, sizeof(values), values), RP_OK);
            assert_true(values[7] == (float)(i + 1));
        }
        rp_gguf_close(&gguf);
    }
}

static const struct {
    const char *file, *cause;
    int part; /* written anew with these keys */
    part_keys keys;
} bad_parts[] = {
    {"m-00002-of-00003.gguf", "split.no: want 1, found 2", 1, {2, 3, 3, "second"}},
    {"m-00002-of-00003.gguf", "split.no: missing", 1, {-1, 3, 3, "second"}},
    {"m-00002-of-00003.gguf", "split.count: want 3, found 4", 1, {1, 4, 3, "second"}},
    {"m-00003-of-00003.gguf", "split.count: missing", 2, {2, -1, 3, "third"}},
    {"m-00003-of-00003.gguf", "tensor first: occurs in", 2, {2, 3, 3, "first"}},
    {"m-00001-of-00003.gguf", "split.tensors.count: want 3, found 4", 0, {0, 3, 4, "first"}},
    {"m-00001-of-00003.gguf", "split.tensors.count: missing", 0, {0, 3, -1, "first"}},
    {"m-00001-of-00003.gguf",
     "split.count: 4000000000 is out of range",
     0,
     {0, 4000000000, 3, "x"}},
    {"m-00001-of-00003.gguf", "one of 2 parts", 0, {0, 2, 3, "first"}},
};

static void wrong_parts(void **state)
{
    rp_gguf *gguf = NULL;

    (void)state;
    for (size_t i = 0; i < RP_COUNT(bad_parts); i++) {
        write_good_parts();
        write_part(scratch_path(part_name(bad_parts[i].part)), &bad_parts[i].keys, 0.0f);
        assert_refused(rp_gguf_open(&gguf, scratch_path(part_name(0))), bad_parts[i].file,
                       bad_parts[i].cause);
        assert_null(gguf);
    }
}

static void missing_parts(void **state)
{
    rp_gguf *gguf = NULL;

    (void)state;
    write_good_parts();
    assert_int_equal(unlink(scratch_path(part_name(1))), 0);
    assert_refused(rp_gguf_open(&gguf, scratch_path(part_name(2))), part_name(1),
                   "part 2 of 3 of a split model is missing");
    write_good_parts();
    assert_int_equal(rename(scratch_path(part_name(0)), scratch_path("other.gguf")), 0);
    assert_refused(rp_gguf_open(&gguf, scratch_path("other.gguf")), "other.gguf",
                   "one of 3 parts of a split model, but its name");
}

/* ---- Parts as the writer makes them ---- */

static void written_split(void **state)
{
    rp_gguf_writer *w = NULL;
    rp_gguf *parts[3] = {NULL, NULL, NULL};
    rp_gguf *gguf = NULL;
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");
    const int64_t sizes[4] = {8, 8, 100, 4}; /* 32, 32, 400 (more than a part), 16 bytes */
    const uint8_t *header = NULL;
    size_t header_bytes = 0;

    (void)state;
    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_string(w, "general.name", "split"), RP_OK);
    for (int i = 0; i < 4; i++) {
        const char name[2] = {(char)('a' + i), '\0'};
        assert_int_equal(rp_gguf_add_tensor(w, name, f32, 1, &sizes[i]), RP_OK);
    }
    rp_gguf_writer_split(w, 64);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &header_bytes), RP_OK);
    assert_int_equal(rp_gguf_writer_part_count(w), 3);
    for (int i = 0; i < 3; i++) {
        uint8_t *file = NULL;
        header = rp_gguf_writer_header(w, i, &header_bytes);
        assert_int_equal(rp_calloc(&file, rp_gguf_writer_part_bytes(w, i), 1), RP_OK);
        memcpy(file, header, header_bytes);
        assert_int_equal(rp_gguf_parse(&parts[i], file, rp_gguf_writer_part_bytes(w, i), "part"),
                         RP_OK);
        assert_int_equal(rp_gguf_kv_find(parts[i], "split.no")->type, RP_GGUF_U16);
        assert_int_equal(rp_gguf_kv_find(parts[i], "split.count")->type, RP_GGUF_U16);
        assert_int_equal(rp_gguf_kv_find(parts[i], "split.tensors.count")->type, RP_GGUF_I32);
        assert_true((rp_gguf_kv_find(parts[i], "general.name") != NULL) == (i == 0));
        free(file);
    }
    assert_int_equal(rp_gguf_join(&gguf, parts, 3), RP_OK);
    for (int i = 0; i < 4; i++) {
        const rp_gguf_tensor *wrote = rp_gguf_writer_tensor(w, i);
        const rp_gguf_tensor *read = rp_gguf_tensor_find(gguf, wrote->name);
        assert_int_equal(read->part, wrote->part);
        assert_int_equal(read->offset, wrote->offset);
    }
    rp_gguf_close(&gguf);
    rp_gguf_writer_destroy(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file),     cmocka_unit_test(wrong_fields),
        cmocka_unit_test(every_byte),    cmocka_unit_test(good_split),
        cmocka_unit_test(wrong_parts),   cmocka_unit_test(missing_parts),
        cmocka_unit_test(written_split),
    };

    (void)make_scratch_dir();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
