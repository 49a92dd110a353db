/* Shards and their index: what belongs together opens, everything else is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/hf_folder.h"
#include "formats/json.h"
#include "tests/formats/make_files.h"

#define TENSOR(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"
#define INDEX "model.safetensors.index.json"

static void make_index(const char *text)
{
    (void)make_file(INDEX, text, strlen(text));
}

static void shards_open_as_one(void **state)
{
    rp_hf_folder *folder = NULL;

    (void)state;
    (void)make_safetensors("s1", TENSOR("b"), 2);
    (void)make_safetensors("s2", TENSOR("a"), 2);
    make_index("{\"metadata\":{},\"weight_map\":{\"a\":\"s2\",\"b\":\"s1\"}}");
    assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_OK);
    assert_int_equal(rp_hf_folder_count(folder), 2);
    assert_int_equal(rp_hf_folder_n_files(folder), 2);
    assert_string_equal(rp_hf_folder_at(folder, 0)->entry->name, "a");
    assert_non_null(strstr(rp_safetensors_path(rp_hf_folder_find(folder, "b")->file), "s1"));
    assert_null(rp_hf_folder_find(folder, "c"));
    assert_int_equal(rp_hf_folder_file_bytes(folder), 2 * (8 + strlen(TENSOR("a")) + 2));
    rp_hf_folder_close(&folder);
    rp_hf_folder_close(&folder);
}

static void expect_refused(const char *cause)
{
    rp_hf_folder *folder = NULL;

    assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_ERR_FORMAT);
    assert_null(folder);
    if (strstr(rp_error_message(), cause) == NULL) {
        fail_msg("want \"%s\", got \"%s\"", cause, rp_error_message());
    }
}

static void broken_indexes_are_refused(void **state)
{
    static const struct {
        const char *index, *cause;
    } bad[] = {
        {"{", INDEX ":1:"},
        {"{\"weight_map\":{\"a\":\"s2\",\n\"a\":\"s1\"}}", INDEX ":2:"},
        {"{}", "weight_map"},
        {"[]", "weight_map"},
        {"{\"weight_map\":{}}", "weight_map"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map of a"},
        {"{\"weight_map\":{\"a\":\"../s1\"}}", "\"../s1\" is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"/s1\"}}", "is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"\"}}", "is not the name of a file"},
        {"{\"weight_map\":{\"a\":\"s9\"}}", "s9: cannot open"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}", "tensor a is not in s1"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}", "tensor a is not in s1"},
        {"{\"weight_map\":{\"b\":\"s1\",\"c\":\"s2\"}}", "tensor c is not in s2"},
        {"{\"weight_map\":{\"b\":\"s1\",\"a\":\"s2\",\"c\":\"s2\"}}", "tensor c is not in s2"},
        {"{\"weight_map\":{\"a\":\"s2\",\"b\":\"s3\"}}", "tensor a is in "},
    };

    (void)state;
    (void)make_safetensors("s3", TENSOR("a"), 2);
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        make_index(bad[i].index);
        expect_refused(bad[i].cause);
    }
}

static void a_tensor_beside_the_index_is_refused(void **state)
{
    (void)state;
    (void)make_safetensors("s4",
                           "{\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                           "\"d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                           2);
    make_index("{\"weight_map\":{\"c\":\"s4\"}}");
    expect_refused("s4: tensor d is not in " INDEX);
}

static void a_single_file_goes_first(void **state)
{
    rp_hf_folder *folder = NULL;

    (void)state;
    (void)make_safetensors("model.safetensors", TENSOR("z"), 2);
    assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_OK);
    assert_non_null(rp_hf_folder_find(folder, "z"));
    rp_hf_folder_close(&folder);
    assert_int_equal(unlink(scratch_path("model.safetensors")), 0);
    assert_int_equal(unlink(scratch_path(INDEX)), 0);
    expect_refused("neither model.safetensors nor " INDEX " is there");
}

static void json_errors_name_file_and_line(void **state)
{
    json_t *root = NULL;

    (void)state;
    assert_int_equal(rp_json_parse(&root, "{\"a\": [1, 2]}", 13, "text"), RP_OK);
    json_decref(root);
    assert_int_equal(rp_json_parse(&root, "{}x", 3, "text"), RP_ERR_FORMAT);
    assert_null(root);
    assert_int_equal(rp_json_load(&root, make_file("c.json", "{\n \"a\": 1,\n \"a\": 2}", 20)),
                     RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "c.json:3:"));
    assert_int_equal(rp_json_load(&root, scratch_path("none.json")), RP_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_open_as_one),
        cmocka_unit_test(broken_indexes_are_refused),
        cmocka_unit_test(a_tensor_beside_the_index_is_refused),
        cmocka_unit_test(a_single_file_goes_first),
        cmocka_unit_test(json_errors_name_file_and_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
