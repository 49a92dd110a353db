/* Containers: which schemes they hold, words computed by hand, configs, and forms that come back
 * from the written file through the readers of packed linears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/container.h"
#include "formats/json.h"
#include "formats/packed.h"
#include "tests/formats/make_files.h"

#define ROWS 64
#define COLS 96

static const rp_container_opts v1 = {.v2 = false, .dense_type = RP_BF16};
static const rp_container_opts v2 = {.v2 = true, .dense_type = RP_F16};

static json_t *json_of(const char *text)
{
    json_t *root = NULL;

    assert_int_equal(rp_json_parse(&root, text, strlen(text), "text"), RP_OK);
    return root;
}

static uint32_t next_random(void)
{
    static uint32_t random = 1;

    random = random * 1664525 + 1013904223;
    return random >> 8;
}

/* Any codes and parameters that the grid allows. */
static rp_form random_form(const rp_grid *grid, int64_t rows, int64_t cols)
{
    const uint32_t top = (1u << grid->bits) - 1;
    const uint32_t low = (uint32_t)grid->zero_min;
    rp_form form;

    assert_int_equal(rp_form_create_codes(&form, grid, rows, cols), RP_OK);
    for (int64_t i = 0; i < rows * cols; i++) {
        form.codes[i] = (uint8_t)(next_random() & top);
    }
    for (int64_t i = 0; i < rows * rp_form_params_per_row(&form); i += 2) {
        const int64_t middle = (top + 1) / 2;
        const float scale = 0.001f + (float)(next_random() % 1000) * 1e-5f;
        form.params[i] = rp_round_to_dtype(scale, grid->scale_type);
        form.params[i + 1] =
            grid->is_symmetric ? (float)middle : (float)(low + next_random() % (top + 1 - low));
    }
    return form;
}

/* The encoded parts as one safetensors file; the parts' bytes are changed by `change` first. */
typedef void (*change_fn)(rp_part *part, void *bytes);
static void write_form(const rp_container *container, const rp_container_opts *opts,
                       const rp_form *form, change_fn change)
{
    rp_part parts[RP_MAX_PARTS];
    int n_parts = 0;
    rp_safetensors_layout layout;
    char *file = NULL;

    assert_int_equal(
        container->parts(opts, "m", &form->grid, form->rows, form->cols, parts, &n_parts), RP_OK);
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, n_parts, 0), RP_OK);
    assert_int_equal(rp_alloc(&file, layout.files[0].total_bytes), RP_OK);
    memcpy(file, layout.files[0].header, layout.files[0].header_bytes);
    for (int i = 0; i < n_parts; i++) {
        char *bytes = file + layout.places[i].offset_bytes;
        assert_int_equal(container->encode(opts, form, i, bytes), RP_OK);
        if (change != NULL) {
            change(&parts[i], bytes);
        }
    }
    (void)make_file("model.safetensors", file, layout.files[0].total_bytes);
    free(file);
    rp_safetensors_layout_destroy(&layout);
}

/* The values that the reader sees, over several ranges of rows. */
static void expect_values(const char *quant_config, const float *want, int64_t rows, int64_t cols)
{
    static const int64_t ranges[][2] = {{0, 64}, {5, 37}, {63, 1}, {32, 32}, {16, 0}};
    json_t *quant = json_of(quant_config);
    const rp_packed_reader *reader =
        rp_packed_reader_find(json_string_value(json_object_get(quant, "quant_method")));
    rp_hf_folder *folder = NULL;
    rp_packed_linear linear;
    float *got = NULL;

    assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_OK);
    assert_int_equal(reader->check_config(quant), RP_OK);
    assert_int_equal(reader->bind(&linear, folder, "m", quant), RP_OK);
    assert_int_equal(linear.rows, rows);
    assert_int_equal(linear.cols, cols);
    assert_int_equal(rp_alloc_array(&got, (size_t)(rows * cols), sizeof(*got)), RP_OK);
    for (size_t i = 0; i < RP_COUNT(ranges); i++) {
        const size_t nbytes = (size_t)(ranges[i][1] * cols) * sizeof(*got);
        assert_int_equal(reader->read_rows(&linear, ranges[i][0], ranges[i][1], got), RP_OK);
        assert_memory_equal(got, want + ranges[i][0] * cols, nbytes);
    }
    free(got);
    rp_hf_folder_close(&folder);
    json_decref(quant);
}

static void round_trip(const rp_container *container, const rp_container_opts *opts,
                       const rp_scheme *scheme)
{
    const rp_module_scheme module = {.module = "m", .is_quantised = true};
    rp_module_scheme modules[1] = {module};
    rp_grid grid;
    rp_form form;
    json_t *config = NULL;
    char *text = NULL;
    float *want = NULL;

    assert_int_equal(container->grid(&grid, opts, scheme, ROWS, COLS), RP_OK);
    modules[0].grid = grid;
    form = random_form(&grid, ROWS, COLS);
    assert_int_equal(container->config(&config, opts, modules, 1, 0.01), RP_OK);
    text = json_dumps(config, 0);
    assert_int_equal(rp_alloc_array(&want, ROWS * COLS, sizeof(*want)), RP_OK);
    rp_form_decode_rows(&form, 0, ROWS, want);
    write_form(container, opts, &form, NULL);
    expect_values(text, want, ROWS, COLS);
    free(want);
    free(text);
    json_decref(config);
    rp_form_destroy(&form);
}

static void gptq_forms_come_back(void **state)
{
    static const int bits[] = {2, 3, 4, 8};
    static const int64_t groups[] = {0, 32, 40, 64, 96, 128}; /* 40, 64: ragged last groups */

    (void)state;
    for (size_t b = 0; b < RP_COUNT(bits); b++) {
        for (size_t g = 0; g < RP_COUNT(groups); g++) {
            for (int variant = 0; variant < 4; variant++) {
                const rp_scheme scheme = {
                    .bits = bits[b], .is_symmetric = variant % 2 == 0, .group_size = groups[g]};
                round_trip(rp_container_find("gptq"), variant / 2 == 0 ? &v1 : &v2, &scheme);
            }
        }
    }
}

static void compressed_tensors_forms_come_back(void **state)
{
    static const int64_t groups[] = {0, 32, 48, 96};

    (void)state;
    for (int bits = 4; bits <= 8; bits += 4) {
        for (size_t g = 0; g < RP_COUNT(groups); g++) {
            for (int variant = 0; variant < 4; variant++) {
                const rp_scheme scheme = {
                    .bits = bits, .is_symmetric = variant % 2 == 0, .group_size = groups[g]};
                round_trip(rp_container_find("compressed-tensors"), variant / 2 == 0 ? &v1 : &v2,
                           &scheme);
            }
        }
    }
}

/* ---- Words by hand ---- */

static void encode_part(const rp_container *container, const rp_container_opts *opts,
                        const rp_form *form, int index, void *dst, size_t want_bytes)
{
    rp_part parts[RP_MAX_PARTS];
    int n_parts = 0;

    assert_int_equal(
        container->parts(opts, "m", &form->grid, form->rows, form->cols, parts, &n_parts), RP_OK);
    assert_true(index < n_parts);
    assert_int_equal(parts[index].nbytes, want_bytes);
    assert_int_equal(container->encode(opts, form, index, dst), RP_OK);
}

/* Code of row n and column k is (n + k) mod 8 on a 32 x 32 matrix, zero point of row n is given. */
static rp_form golden_form(const rp_container *container, const rp_container_opts *opts, int bits,
                           bool is_symmetric)
{
    const rp_scheme scheme = {.bits = bits, .is_symmetric = is_symmetric};
    rp_grid grid;
    rp_form form;

    assert_int_equal(container->grid(&grid, opts, &scheme, 32, 32), RP_OK);
    assert_int_equal(rp_form_create_codes(&form, &grid, 32, 32), RP_OK);
    for (int n = 0; n < 32; n++) {
        for (int k = 0; k < 32; k++) {
            form.codes[n * 32 + k] = (uint8_t)((n + k) % 8);
        }
        form.params[n * 2] = 0.5f + (float)n;
        form.params[n * 2 + 1] = is_symmetric ? (float)(1 << (bits - 1)) : (float)(1 + n % 7);
    }
    return form;
}

static void gptq_words_are_those_by_hand(void **state)
{
    const rp_container *gptq = rp_container_find("gptq");
    rp_form form = golden_form(gptq, &v1, 4, true);
    uint32_t qweight[4 * 32];
    uint32_t qzeros[4];
    uint16_t scales[32];
    int32_t g_idx[32];

    (void)state;
    encode_part(gptq, &v1, &form, 0, qweight, sizeof(qweight));
    assert_int_equal(qweight[0], 0x76543210);      /* k 0..7 of n 0 */
    assert_int_equal(qweight[1], 0x07654321);      /* of n 1 */
    assert_int_equal(qweight[32 + 2], 0x10765432); /* k 8..15 of n 2 */
    encode_part(gptq, &v1, &form, 1, qzeros, sizeof(qzeros));
    assert_int_equal(qzeros[3], 0x77777777);
    encode_part(gptq, &v2, &form, 1, qzeros, sizeof(qzeros));
    assert_int_equal(qzeros[3], 0x88888888);
    encode_part(gptq, &v1, &form, 2, scales, sizeof(scales));
    assert_int_equal(scales[1], 0x3e00); /* 1.5 */
    encode_part(gptq, &v1, &form, 3, g_idx, sizeof(g_idx));
    assert_int_equal(g_idx[31], 0);
    form.params[1] = 0; /* a zero point that v1 cannot store */
    assert_int_equal(gptq->encode(&v1, &form, 1, qzeros), RP_ERR_INTERNAL);
    rp_form_destroy(&form);

    form = golden_form(gptq, &v1, 3, false);
    encode_part(gptq, &v1, &form, 0, qweight, 3 * 32 * 4);
    assert_int_equal(qweight[0], 0x88fac688);
    assert_int_equal(qweight[32], 0xc688fac6);
    assert_int_equal(qweight[64], 0xfac688fa);
    encode_part(gptq, &v1, &form, 1, qzeros, 3 * 4); /* 0 1 .. 6 0 1 ..: stored zero - 1 */
    assert_int_equal(qzeros[0], 0xd11ac688);
    rp_form_destroy(&form);
}

static void compressed_tensors_words_are_those_by_hand(void **state)
{
    const rp_container *ct = rp_container_find("compressed-tensors");
    rp_form form = golden_form(ct, &v1, 4, false);
    uint32_t packed[32 * 4];
    uint16_t scale[32];
    int64_t shape[2];
    uint32_t zeros[4];

    (void)state;
    encode_part(ct, &v1, &form, 0, packed, sizeof(packed));
    assert_int_equal(packed[0], 0x76543210);
    assert_int_equal(packed[1 * 4 + 3], 0x07654321);
    encode_part(ct, &v1, &form, 1, scale, sizeof(scale));
    assert_int_equal(scale[1], 0x3fc0); /* 1.5 in bf16 */
    encode_part(ct, &v1, &form, 2, shape, sizeof(shape));
    assert_int_equal(shape[0], 32);
    assert_int_equal(shape[1], 32);
    encode_part(ct, &v1, &form, 3, zeros, sizeof(zeros));
    assert_int_equal(zeros[0], 0x17654321); /* rows 0..7: 1 2 .. 7 1 */
    rp_form_destroy(&form);
}

static void plain_files_hold_decoded_values(void **state)
{
    const rp_container *plain = rp_container_find("safetensors");
    rp_form form = golden_form(plain, &v1, 5, false);
    rp_form dense;
    uint16_t values[32 * 32];

    (void)state;
    encode_part(plain, &v1, &form, 0, values, sizeof(values));
    assert_true(rp_bf16_to_f32(values[3]) == 0.5f * (3 - 1));
    assert_true(rp_bf16_to_f32(values[2 * 32 + 1]) == 2.5f * (3 - 3));
    rp_form_destroy(&form);
    assert_int_equal(rp_form_create_dense(&dense, 1, 2), RP_OK);
    dense.values[0] = 1.5f;
    dense.values[1] = -2;
    assert_int_equal(plain->encode(&v2, &dense, 0, values), RP_OK);
    assert_int_equal(values[0], 0x3e00);
    assert_int_equal(values[1], 0xc000);
    rp_form_destroy(&dense);
}

/* ---- Rules ---- */

static void schemes_that_do_not_fit_are_refused(void **state)
{
    static const struct {
        const char *container;
        rp_scheme scheme;
        int64_t rows, cols;
        const char *rule;
    } bad[] = {
        {"gptq", {.bits = 5}, 64, 64, "2, 3, 4 or 8 bits, not 5"},
        {"gptq", {.bits = 4}, 64, 172, "multiples of 32"},
        {"gptq", {.bits = 4}, 172, 64, "multiples of 32"},
        {"compressed-tensors", {.bits = 3}, 64, 64, "4 or 8 bits, not 3"},
        {"compressed-tensors", {.bits = 4, .group_size = 32}, 64, 176, "group_size 32"},
        {"compressed-tensors", {.bits = 4, .is_symmetric = true}, 64, 172, "multiples of 8"},
        {"compressed-tensors", {.bits = 8}, 65, 64, "multiples of 4"},
        {"safetensors", {.bits = 9}, 64, 64, "2 to 8 bits"},
    };
    rp_grid grid;

    (void)state;
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        const rp_container *container = rp_container_find(bad[i].container);
        assert_int_equal(container->grid(&grid, &v1, &bad[i].scheme, bad[i].rows, bad[i].cols),
                         RP_ERR_CONFIG);
        if (strstr(rp_error_message(), bad[i].rule) == NULL) {
            fail_msg("want \"%s\", got \"%s\"", bad[i].rule, rp_error_message());
        }
    }
    assert_null(rp_container_find("zip"));
}

static void expect_config(const char *container, const rp_container_opts *opts,
                          const rp_module_scheme *modules, int64_t n, const char *want_text)
{
    json_t *want = json_of(want_text);
    json_t *got = NULL;

    assert_int_equal(rp_container_find(container)->config(&got, opts, modules, n, 0.25), RP_OK);
    json_object_del(json_object_get(got, "meta"), "quantizer"); /* holds our version */
    if (!json_equal(got, want)) {
        fail_msg("got %s", json_dumps(got, JSON_INDENT(2)));
    }
    json_decref(got);
    json_decref(want);
}

static void configs_name_the_exceptions(void **state)
{
    const rp_grid g4 = {
        .ops = rp_grid_find("affine"), .bits = 4, .is_symmetric = true, .group = 128};
    const rp_grid g8 = {.ops = rp_grid_find("affine"), .bits = 8, .mse = true};
    const rp_module_scheme modules[] = {
        {"model.layers.0.q", true, g8, false}, {"model.layers.0.k", true, g4, true},
        {"model.layers.0.v", true, g4, true},  {"model.layers.0.o", false, {0}, false},
        {"lm_head", false, {0}, false},
    };
    json_t *none = NULL;

    (void)state;
    expect_config("gptq", &v2, modules, 5,
                  "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"desc_act\":false,"
                  "\"sym\":true,\"lm_head\":false,\"true_sequential\":true,\"static_groups\":true,"
                  "\"damp_percent\":0.25,\"checkpoint_format\":\"gptq_v2\","
                  "\"pack_dtype\":\"int32\",\"meta\":{},\"dynamic\":{"
                  "\"+:^model\\\\.layers\\\\.0\\\\.q$\":{\"bits\":8,\"group_size\":-1,"
                  "\"sym\":false},\"-:^model\\\\.layers\\\\.0\\\\.o$\":{}}}");
    expect_config("compressed-tensors", &v1, modules, 5,
                  "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\","
                  "\"quantization_status\":\"compressed\",\"config_groups\":{\"group_0\":{"
                  "\"targets\":[\"model.layers.0.q\"],\"weights\":{\"num_bits\":8,"
                  "\"type\":\"int\",\"symmetric\":false,\"strategy\":\"channel\","
                  "\"group_size\":null,\"dynamic\":false,\"observer\":\"mse\",\"actorder\":null},"
                  "\"input_activations\":null,\"output_activations\":null},\"group_1\":{"
                  "\"targets\":[\"model.layers.0.k\",\"model.layers.0.v\"],\"weights\":{"
                  "\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"group\","
                  "\"group_size\":128,\"dynamic\":false,\"observer\":\"minmax\","
                  "\"actorder\":\"weight\"},\"input_activations\":null,"
                  "\"output_activations\":null}},\"ignore\":[\"model.layers.0.o\",\"lm_head\"],"
                  "\"kv_cache_scheme\":null,\"global_compression_ratio\":null,"
                  "\"sparsity_config\":{}}");
    assert_int_equal(rp_container_find("gptq")->config(&none, &v1, modules + 3, 2, 0), RP_OK);
    assert_null(none);
    assert_int_equal(rp_container_find("safetensors")->config(&none, &v1, modules, 5, 0), RP_OK);
    assert_null(none);
}

/* ---- Files of other writers ---- */

#define GPTQ_4 "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"desc_act\":true}"
#define CT_4                                                                                       \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":{"   \
    "\"group_0\":{\"weights\":{\"num_bits\":4}}}}"

static int32_t permuted_group(int64_t k)
{
    return (int32_t)((k * 7 + 3) % COLS / 32);
}

static void permute_groups(rp_part *part, void *bytes)
{
    int32_t *g_idx = bytes;

    for (int64_t k = 0; strcmp(part->name, "m.g_idx") == 0 && k < COLS; k++) {
        g_idx[k] = permuted_group(k);
    }
}

static void act_order_groups_are_honoured(void **state)
{
    const rp_scheme scheme = {.bits = 4, .group_size = 32};
    const rp_container *gptq = rp_container_find("gptq");
    static float want[ROWS * COLS];
    rp_grid grid;
    rp_form form;

    (void)state;
    assert_int_equal(gptq->grid(&grid, &v1, &scheme, ROWS, COLS), RP_OK);
    form = random_form(&grid, ROWS, COLS);
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        const float *params = form.params + (i / COLS * 3 + permuted_group(i % COLS)) * 2;
        want[i] = params[0] * ((float)form.codes[i] - params[1]);
    }
    write_form(gptq, &v1, &form, permute_groups);
    expect_values(GPTQ_4, want, ROWS, COLS);
    rp_form_destroy(&form);
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"m." name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin        \
    "," #end "]}"
#define QWEIGHT T("qweight", "I32", "[4,32]", 0, 512)
#define QZEROS T("qzeros", "I32", "[1,4]", 512, 528)
#define SCALES T("scales", "F16", "[1,32]", 528, 592)
#define PACKED T("weight_packed", "I32", "[8,2]", 0, 64)
#define SCALE T("weight_scale", "F32", "[8,1]", 64, 96)
#define SHAPE T("weight_shape", "I64", "[2]", 96, 112)

/* Data bytes are 0 1 2 ...: read as a weight_shape they are far too large. */
static void broken_linears_are_refused(void **state)
{
    static const struct {
        const char *quant, *header;
        size_t data_bytes;
        const char *cause;
    } bad[] = {
        {GPTQ_4, "{" QWEIGHT "," QZEROS "}", 528, "tensor m.scales is missing"},
        {GPTQ_4, "{" QWEIGHT "," QZEROS "," T("scales", "I16", "[1,32]", 528, 592) "}", 592,
         "m.scales: want type F32, F16 or BF16, found I16"},
        {GPTQ_4, "{" T("qweight", "U32", "[4,32]", 0, 512) "," QZEROS "," SCALES "}", 592,
         "m.qweight: want type I32"},
        {GPTQ_4, "{" T("qweight", "I32", "[128]", 0, 512) "," QZEROS "," SCALES "}", 592,
         "m.qweight: want 2 dimensions"},
        {GPTQ_4,
         "{" T("qweight", "I32", "[1152921504606846976,0]", 0, 0) "," T(
             "qzeros", "I32", "[1,4]", 0, 16) "," T("scales", "F16", "[1,32]", 16, 80) "}",
         80, "m.qweight: want 2 dimensions and 1 to"},
        {GPTQ_4,
         "{" T("qweight", "I32", "[3,32]", 0, 384) "," T("qzeros", "I32", "[1,4]", 384, 400) "," T(
             "scales", "F16", "[1,32]", 400, 464) "," T("g_idx", "I32", "[32]", 464, 592) "}",
         592, "do not hold 32 codes of 4 bits"},
        {GPTQ_4, "{" T("qweight", "I32", "[8,16]", 0, 512) "," QZEROS "," SCALES "}", 592,
         "m.scales: want shape [2, 16], found [1, 32]"},
        {GPTQ_4, "{" QWEIGHT "," T("qzeros", "I32", "[2,2]", 512, 528) "," SCALES "}", 592,
         "m.qzeros: want shape [1, 4], found [2, 2]"},
        {CT_4, "{" PACKED "," SCALE "}", 96, "tensor m.weight_shape is missing"},
        {CT_4, "{" PACKED "," SCALE "," SHAPE "}", 112, "m.weight_packed: shape [8, 2] does not"},
        {CT_4, "{" PACKED "," SCALE "," T("weight_shape", "I64", "[1]", 96, 104) "}", 104,
         "m.weight_shape: want shape [2, 0], found [1, 0]"},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        json_t *quant = json_of(bad[i].quant);
        rp_hf_folder *folder = NULL;
        rp_packed_linear linear;
        const char *method = json_string_value(json_object_get(quant, "quant_method"));
        (void)make_safetensors("model.safetensors", bad[i].header, bad[i].data_bytes);
        assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_OK);
        assert_int_equal(rp_packed_reader_find(method)->bind(&linear, folder, "m", quant),
                         RP_ERR_FORMAT);
        if (strstr(rp_error_message(), bad[i].cause) == NULL) {
            fail_msg("want \"%s\", got \"%s\"", bad[i].cause, rp_error_message());
        }
        rp_hf_folder_close(&folder);
        json_decref(quant);
    }
}

static void groups_out_of_range_are_refused(void **state)
{
    json_t *quant = json_of(GPTQ_4);
    rp_hf_folder *folder = NULL;
    rp_packed_linear linear;
    static float row[32];

    (void)state; /* the filler makes g_idx[0] a large number */
    (void)make_safetensors(
        "model.safetensors",
        "{" QWEIGHT "," QZEROS "," SCALES "," T("g_idx", "I32", "[32]", 592, 720) "}", 720);
    assert_int_equal(rp_hf_folder_open(&folder, scratch_path("")), RP_OK);
    assert_int_equal(rp_packed_reader_find("gptq")->bind(&linear, folder, "m", quant), RP_OK);
    assert_int_equal(linear.reader->read_rows(&linear, 0, 1, row), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "tensor m.g_idx: group"));
    rp_hf_folder_close(&folder);
    json_decref(quant);
}

static void configs_beyond_us_are_refused(void **state)
{
    static const struct {
        const char *quant, *cause;
    } bad[] = {
        {"{\"quant_method\":\"gptq\",\"bits\":5,\"group_size\":32}", "bits"},
        {"{\"quant_method\":\"gptq\",\"bits\":4}", "group_size"},
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"format\":\"marlin\"}",
         "\"marlin\" is not supported"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}",
         "\"float-quantized\" is not supported"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}",
         "config_groups"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\","
         "\"config_groups\":{\"g\":{\"weights\":{\"num_bits\":4,\"type\":\"float\"}}}}",
         "config_groups.g.weights"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\","
         "\"config_groups\":{\"g\":{\"weights\":{\"num_bits\":4},\"input_activations\":{}}}}",
         "input_activations"},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        json_t *quant = json_of(bad[i].quant);
        const char *method = json_string_value(json_object_get(quant, "quant_method"));
        assert_int_equal(rp_packed_reader_find(method)->check_config(quant), RP_ERR_FORMAT);
        assert_non_null(strstr(rp_error_message(), bad[i].cause));
        json_decref(quant);
    }
    assert_null(rp_packed_reader_find("awq"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_forms_come_back),
        cmocka_unit_test(compressed_tensors_forms_come_back),
        cmocka_unit_test(gptq_words_are_those_by_hand),
        cmocka_unit_test(compressed_tensors_words_are_those_by_hand),
        cmocka_unit_test(plain_files_hold_decoded_values),
        cmocka_unit_test(schemes_that_do_not_fit_are_refused),
        cmocka_unit_test(configs_name_the_exceptions),
        cmocka_unit_test(act_order_groups_are_honoured),
        cmocka_unit_test(broken_linears_are_refused),
        cmocka_unit_test(groups_out_of_range_are_refused),
        cmocka_unit_test(configs_beyond_us_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
