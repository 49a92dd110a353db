/* Every rule of the safetensors format, broken once; the layout against golden headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "tests/formats/make_files.h"

#define ONE(name, dtype, shape, begin, end)                                                        \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void good_files_open(void **state)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        int64_t count;
    } good[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}    ", 0, 0},
        {"{" ONE("a", "F32", "[2]", "0", "8") "}", 8, 1},
        {"{" ONE("scalar", "I64", "[]", "0", "8") "," ONE("none", "F16", "[0,7]", "8", "8") "}", 8,
         2},
        {"{" ONE("b", "F4", "[2,3]", "1", "4") "," ONE("a", "BOOL", "[1]", "0", "1") "}", 4, 2},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(good); i++) {
        rp_safetensors *file = NULL;
        const char *path = make_safetensors("good", good[i].header, good[i].data_bytes);
        assert_int_equal(rp_safetensors_open(&file, path), RP_OK);
        assert_int_equal(rp_safetensors_count(file), good[i].count);
        rp_safetensors_close(&file);
        assert_null(file);
    }
}

static void entries_are_found_and_read(void **state)
{
    const char *header =
        "{" ONE("w", "BF16", "[2,3]", "4", "16") "," ONE("a", "F32", "[1]", "0", "4") "}";
    rp_safetensors *file = NULL;
    const rp_safetensors_entry *entry = NULL;
    unsigned char bytes[4];

    (void)state;
    assert_int_equal(rp_safetensors_open(&file, make_safetensors("good", header, 16)), RP_OK);
    assert_string_equal(rp_safetensors_at(file, 0)->name, "a");
    assert_null(rp_safetensors_find(file, "b"));
    entry = rp_safetensors_find(file, "w");
    assert_non_null(entry);
    assert_int_equal(entry->dtype, RP_BF16);
    assert_int_equal(entry->ndim, 2);
    assert_int_equal(entry->shape[1], 3);
    assert_int_equal(entry->offset_bytes, 8 + strlen(header) + 4);
    assert_int_equal(entry->nbytes, 12);
    assert_int_equal(rp_safetensors_read(file, entry, 6, 4, bytes), RP_OK);
    assert_memory_equal(bytes, ((unsigned char[]){10, 11, 12, 13}), 4);
    assert_int_equal(rp_safetensors_read(file, entry, 9, 4, bytes), RP_ERR_INTERNAL);
    rp_safetensors_close(&file);
}

static void expect_refused(const char *path, const char *cause)
{
    rp_safetensors *file = NULL;

    assert_int_equal(rp_safetensors_open(&file, path), RP_ERR_FORMAT);
    assert_null(file);
    if (strstr(rp_error_message(), path) == NULL || strstr(rp_error_message(), cause) == NULL) {
        fail_msg("want \"%s\", got \"%s\"", cause, rp_error_message());
    }
}

static void broken_headers_are_refused(void **state)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *cause;
    } bad[] = {
        {" {}", 0, "padded with spaces"},
        {"{}\n", 0, "padded with spaces"},
        {"[]", 0, "padded with spaces"},
        {"", 0, "padded with spaces"},
        {"{\"a\":{}", 0, "near end of file"},
        {"{\"a\xff\":{}}", 0, "unable to decode byte"},
        {"{\"a\":1}", 0, "tensor a: want an object"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "want an object"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\":1}}", 4,
         "want an object"},
        {"{\"__metadata__\":{\"n\":1}}", 0, "__metadata__.n is not a string"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
        {"{" ONE("a", "F33", "[1]", "0", "4") "}", 4, "unknown dtype \"F33\""},
        {"{" ONE("a", "F32", "1", "0", "4") "}", 4, "\"shape\""},
        {"{" ONE("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "\"shape\""},
        {"{" ONE("a", "F32", "[1.0]", "0", "4") "}", 4, "shape[0]"},
        {"{" ONE("a", "F32", "[-1]", "0", "4") "}", 4, "shape[0]"},
        {"{" ONE("a", "F32", "[9223372036854775808]", "0", "4") "}", 4, "too big integer"},
        {"{" ONE("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4, "shape overflows"},
        {"{" ONE("a", "F32", "[9223372036854775807]", "0", "4") "}", 4, "shape overflows"},
        {"{" ONE("a", "F4", "[3]", "0", "1") "}", 1, "no whole bytes"},
        {"{" ONE("a", "F32", "[2]", "0", "4") "}", 4, "need 8 bytes, offsets give 4"},
        {"{" ONE("a", "F32", "[1]", "4", "0") "}", 4, "\"data_offsets\""},
        {"{" ONE("a", "F32", "[1]", "-4", "0") "}", 4, "\"data_offsets\""},
        {"{" ONE("a", "F32", "[1]", "0", "4.0") "}", 4, "\"data_offsets\""},
        {"{" ONE("a", "F32", "[1]", "0", "4,8") "}", 8, "\"data_offsets\""},
        {"{" ONE("a", "F32", "[1]", "0", "4") "}", 3, "ends at byte 4 of 3"},
        {"{" ONE("a", "F32", "[1]", "0", "4") "}", 5, "cover 4 of 5 bytes"},
        {"{" ONE("a", "F32", "[1]", "4", "8") "}", 8, "leaving a hole"},
        {"{" ONE("a", "U8", "[4]", "0", "4") "," ONE("b", "U8", "[4]", "3", "7") "}", 7,
         "tensor b: begins at byte 3, overlapping"},
        {"{" ONE("a", "U8", "[4]", "0", "4") "," ONE("b", "U8", "[4]", "5", "9") "}", 9,
         "tensor b: begins at byte 5, leaving a hole"},
        {"{" ONE("a", "U8", "[4]", "0", "4") "," ONE("a", "U8", "[4]", "4", "8") "}", 8,
         "duplicate"},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        expect_refused(make_safetensors("bad", bad[i].header, bad[i].data_bytes), bad[i].cause);
    }
}

static void broken_lengths_are_refused(void **state)
{
    (void)state;
    expect_refused(make_file("bad", "\1\0\0", 3), "too small");
    expect_refused(make_file("bad", "\3\0\0\0\0\0\0\0{}", 10), "cut file");
    expect_refused(make_file("bad", "\1\341\365\5\0\0\0\0{}", 10), "more than the 100000000");
    expect_refused(make_file("bad", "\377\377\377\377\377\377\377\377{}", 10), "more than");
    expect_refused(scratch_path("absent"), "cannot open");
    expect_refused("/tmp", "not a regular file");
}

/* ---- Layout ---- */

static rp_part part_of(const char *name, rp_dtype dtype, int64_t rows, int64_t cols)
{
    rp_part part = {.dtype = dtype, .ndim = 2, .shape = {rows, cols}};

    (void)snprintf(part.name, sizeof(part.name), "%s", name);
    part.nbytes = (size_t)(rows * cols) * rp_dtype_bytes(dtype);
    return part;
}

static void one_file_is_the_reference_writers(void **state)
{
    const rp_part parts[] = {
        part_of("b", RP_BF16, 2, 3),
        part_of("c", RP_F32, 1, 2),
        part_of("a", RP_BF16, 1, 1),
        part_of("d", RP_I64, 1, 1),
    };
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"d\":{\"dtype\":\"I64\",\"shape\":[1,1],\"data_offsets\":[0,8]},"
                         "\"c\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
                         "\"a\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[16,18]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[18,30]}}";
    const size_t padded_bytes = (strlen(header) + 7) / 8 * 8;
    rp_safetensors_layout layout;

    (void)state;
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 4, 0), RP_OK);
    assert_int_equal(layout.n_files, 1);
    assert_null(layout.index);
    assert_string_equal(layout.files[0].name, "model.safetensors");
    assert_int_equal(layout.files[0].header_bytes, 8 + padded_bytes);
    assert_int_equal(layout.files[0].total_bytes, 8 + padded_bytes + 30);
    assert_int_equal((unsigned char)layout.files[0].header[0], padded_bytes & 0xff);
    assert_int_equal((unsigned char)layout.files[0].header[1], padded_bytes >> 8);
    assert_memory_equal(layout.files[0].header + 8, header, strlen(header));
    assert_int_equal(layout.places[0].offset_bytes, 8 + padded_bytes + 18);
    assert_int_equal(layout.places[3].offset_bytes, 8 + padded_bytes);
    rp_safetensors_layout_destroy(&layout);
}

static void shards_fill_in_order(void **state)
{
    const rp_part parts[] = {
        part_of("e", RP_U8, 1, 4), part_of("big", RP_U8, 1, 11), part_of("d", RP_U8, 1, 6),
        part_of("c", RP_U8, 1, 1), part_of("a", RP_U8, 1, 9),
    };
    static const int file_of[] = {1, 0, 1, 2, 2};
    const char *index = "{\n"
                        "  \"metadata\": {\n"
                        "    \"total_size\": 31\n"
                        "  },\n"
                        "  \"weight_map\": {\n"
                        "    \"a\": \"model-00003-of-00003.safetensors\",\n"
                        "    \"big\": \"model-00001-of-00003.safetensors\",\n"
                        "    \"c\": \"model-00003-of-00003.safetensors\",\n"
                        "    \"d\": \"model-00002-of-00003.safetensors\",\n"
                        "    \"e\": \"model-00002-of-00003.safetensors\"\n"
                        "  }\n"
                        "}\n";
    rp_safetensors_layout layout;

    (void)state;
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 5, 10), RP_OK);
    assert_int_equal(layout.n_files, 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(layout.places[i].file, file_of[i]);
    }
    assert_string_equal(layout.files[1].name, "model-00002-of-00003.safetensors");
    assert_string_equal(layout.index, index);
    rp_safetensors_layout_destroy(&layout);
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 0, 10), RP_OK);
    assert_int_equal(layout.n_files, 1);
    rp_safetensors_layout_destroy(&layout);
}

static void a_name_given_twice_is_refused(void **state)
{
    const rp_part parts[] = {part_of("a", RP_U8, 1, 4), part_of("a", RP_F32, 1, 4)};
    rp_safetensors_layout layout;

    (void)state;
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 2, 0), RP_ERR_INTERNAL);
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 2, 16), RP_ERR_INTERNAL);
    assert_null(layout.files);
}

static void what_is_laid_out_opens(void **state)
{
    const rp_part parts[] = {part_of("x.\"quoted\"", RP_F16, 3, 3), part_of("y", RP_I32, 5, 1)};
    rp_safetensors_layout layout;
    rp_safetensors *file = NULL;
    char *bytes = NULL;

    (void)state;
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, 2, 0), RP_OK);
    assert_int_equal(rp_calloc(&bytes, 1, layout.files[0].total_bytes), RP_OK);
    memcpy(bytes, layout.files[0].header, layout.files[0].header_bytes);
    assert_int_equal(rp_safetensors_open(&file, make_file(layout.files[0].name, bytes,
                                                          layout.files[0].total_bytes)),
                     RP_OK);
    for (int i = 0; i < 2; i++) {
        const rp_safetensors_entry *entry = rp_safetensors_find(file, parts[i].name);
        assert_non_null(entry);
        assert_int_equal(entry->offset_bytes, layout.places[i].offset_bytes);
        assert_int_equal(entry->nbytes, parts[i].nbytes);
    }
    rp_safetensors_close(&file);
    free(bytes);
    rp_safetensors_layout_destroy(&layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_open),
        cmocka_unit_test(entries_are_found_and_read),
        cmocka_unit_test(broken_headers_are_refused),
        cmocka_unit_test(broken_lengths_are_refused),
        cmocka_unit_test(one_file_is_the_reference_writers),
        cmocka_unit_test(shards_fill_in_order),
        cmocka_unit_test(a_name_given_twice_is_refused),
        cmocka_unit_test(what_is_laid_out_opens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
