/* Helper of gguf_test.py: a complete GGUF file of a model folder by plain rounding, and our own
 * view of a GGUF file.
 *
 * usage: gguf_driver write FOLDER TYPE OUT.gguf [FILE.gguf]    the file's weights, not the folder's
 *        gguf_driver values FILE.gguf TENSOR      f32 little-endian to stdout, Hugging Face order
 *        gguf_driver ids FILE.gguf                stdin: text; stdout: i32 ids, with special tokens
 *        gguf_driver logits FILE.gguf             stdin: i32 ids; stdout: f32 logits [ids, vocab]
 *        gguf_driver decode TYPE                  stdin: blocks; stdout: their f32 values
 *        gguf_driver encode TYPE COLS             stdin: f32 importance (none: first < 0) and rows;
 *                                                stdout: their blocks
 */
#include "formats/gguf_mix.h"
#include "model/gguf_map.h"
#include "model/lm.h"
#include "model/weights.h"

#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 28)
#define MAX_IDS 4096

typedef struct job {
    const char *folder, *out_path;
    const rp_gguf_block_type *type;
    rp_weights *weights;
    rp_tokenizer *tokenizer;
    json_t *tokenizer_config;
    rp_gguf_writer *writer;
    uint8_t *file;
} job;

/* Vectors F32, matrices the type asked for where it fits. */
static const rp_gguf_block_type *tensor_type(const job *j, int64_t cols)
{
    if (cols == 0) {
        return rp_gguf_block_type_find("F32");
    }
    return cols % j->type->block_elems == 0 ? j->type : rp_gguf_block_type_find("F16");
}

static rp_status put_header(job *j)
{
    rp_status st = RP_OK;
    const rp_gguf_mix *mix = rp_gguf_mix_find(j->type->name);
    const rp_model_config *config = rp_weights_config(j->weights);
    float freqs[RP_ROPE_MAX_FACTORS];
    const int64_t n_freqs = rp_gguf_rope_freqs(config, freqs);
    const uint8_t *header = NULL;
    size_t header_bytes = 0;

    RP_TRY(rp_gguf_writer_create(&j->writer));
    RP_TRY(rp_gguf_put_model(j->writer, config, "driver", mix == NULL ? 0 : mix->file_type));
    RP_TRY(rp_gguf_put_tokenizer(j->writer, config, j->tokenizer, j->tokenizer_config));
    for (int64_t i = 0; i < rp_weights_count(j->weights); i++) {
        const rp_weight_info *info = rp_weights_at(j->weights, i);
        const int64_t cols = info->ndim == 2 ? info->shape[1] : 0;
        const int64_t ne[2] = {cols > 0 ? cols : info->shape[0], info->shape[0]};
        char name[RP_GGUF_NAME_BYTES];
        if (!rp_gguf_name_from_hf(name, info->name)) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s: no GGUF name", info->name);
            goto out;
        }
        RP_TRY(rp_gguf_add_tensor(j->writer, name, tensor_type(j, cols), info->ndim, ne));
    }
    if (n_freqs > 0) {
        RP_TRY(rp_gguf_add_tensor(j->writer, RP_GGUF_ROPE_FREQS, rp_gguf_block_type_find("F32"), 1,
                                  &n_freqs));
    }
    RP_TRY(rp_gguf_writer_finish(j->writer, &header, &header_bytes));
    RP_TRY(rp_calloc(&j->file, rp_gguf_writer_file_bytes(j->writer), 1));
    memcpy(j->file, header, header_bytes);
    if (n_freqs > 0) {
        memcpy(j->file + rp_gguf_writer_tensor(j->writer, rp_weights_count(j->weights))->offset,
               freqs, (size_t)n_freqs * sizeof(freqs[0]));
    }
out:
    return st;
}

static rp_status put_tensor(job *j, int64_t index)
{
    rp_status st = RP_OK;
    const rp_weight_info *info = rp_weights_at(j->weights, index);
    const rp_gguf_tensor *t = rp_gguf_writer_tensor(j->writer, index);
    const rp_gguf_row_order order = rp_gguf_row_order_of(rp_weights_config(j->weights), info->name);
    const int64_t cols = info->ndim == 2 ? info->shape[1] : 1;
    const size_t row_bytes = rp_gguf_row_bytes(t->type, cols);
    rp_form form = {.kind = RP_FORM_DENSE};

    RP_TRY(rp_form_create_dense(&form, info->shape[0], cols));
    RP_TRY(rp_weights_read_f32(j->weights, info, 0, info->shape[0], form.values));
    for (int64_t row = 0; row < info->shape[0]; row++) {
        RP_TRY(rp_gguf_encode_rows(t->type, &form, rp_gguf_row_to_hf(order, row), 1, NULL,
                                   j->file + t->offset + (size_t)row * row_bytes));
    }
out:
    rp_form_destroy(&form);
    return st;
}

static rp_status write_file(const char *folder, const char *type, const char *out_path,
                            const char *weights_path)
{
    rp_status st = RP_OK;
    job j = {.folder = folder, .out_path = out_path, .type = rp_gguf_block_type_find(type)};

    if (j.type == NULL || !rp_gguf_can_encode(j.type)) {
        st = RP_FAIL(RP_ERR_USAGE, "%s: no type of this program", type);
        goto out;
    }
    RP_TRY(rp_weights_open(&j.weights, weights_path));
    RP_TRY(rp_tokenizer_open(&j.tokenizer, folder));
    RP_TRY(rp_gguf_load_tokenizer_config(&j.tokenizer_config, folder));
    RP_TRY(put_header(&j));
    for (int64_t i = 0; i < rp_weights_count(j.weights); i++) {
        RP_TRY(put_tensor(&j, i));
    }
    RP_TRY(rp_fs_write_file(out_path, j.file, rp_gguf_writer_file_bytes(j.writer)));
out:
    free(j.file);
    rp_gguf_writer_destroy(&j.writer);
    json_decref(j.tokenizer_config);
    rp_tokenizer_destroy(&j.tokenizer);
    rp_weights_close(&j.weights);
    return st;
}

static rp_status print_items(const void *items, size_t n, size_t item_bytes)
{
    if (fwrite(items, item_bytes, n, stdout) != n || fflush(stdout) != 0) {
        return RP_FAIL(RP_ERR_IO, "cannot write to stdout");
    }
    return RP_OK;
}

static rp_status print_values(const char *path, const char *name)
{
    rp_status st = RP_OK;
    rp_weights *weights = NULL;
    const rp_weight_info *info = NULL;
    float *values = NULL;
    size_t n = 0;

    RP_TRY(rp_weights_open(&weights, path));
    info = rp_weights_find(weights, name);
    if (info == NULL) {
        st = RP_FAIL(RP_ERR_USAGE, "%s: no tensor %s", path, name);
        goto out;
    }
    n = (size_t)(info->shape[0] * (info->ndim == 2 ? info->shape[1] : 1));
    RP_TRY(rp_alloc_array(&values, n, sizeof(*values)));
    RP_TRY(rp_weights_read_f32(weights, info, 0, info->shape[0], values));
    RP_TRY(print_items(values, n, sizeof(*values)));
out:
    free(values);
    rp_weights_close(&weights);
    return st;
}

static rp_status print_ids(const char *path)
{
    rp_status st = RP_OK;
    rp_gguf *gguf = NULL;
    json_t *root = NULL;
    rp_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t nbytes = 0;
    int32_t *ids = NULL;
    int64_t n = 0;

    RP_TRY(rp_gguf_open(&gguf, path));
    RP_TRY(rp_gguf_tokenizer_json(&root, gguf));
    RP_TRY(rp_tokenizer_from_json(&tokenizer, root, path));
    RP_TRY(rp_alloc(&text, MAX_TEXT_BYTES));
    nbytes = fread(text, 1, MAX_TEXT_BYTES, stdin);
    RP_TRY(rp_tokenizer_encode(tokenizer, text, nbytes, true, &ids, &n));
    RP_TRY(print_items(ids, (size_t)n, sizeof(*ids)));
out:
    free(ids);
    free(text);
    rp_tokenizer_destroy(&tokenizer);
    json_decref(root);
    rp_gguf_close(&gguf);
    return st;
}

static rp_status print_logits(const char *path)
{
    rp_status st = RP_OK;
    rp_exec *exec = NULL;
    rp_weights *weights = NULL;
    rp_lm *lm = NULL;
    float *hidden = NULL;
    float *head = NULL;
    float *logits = NULL;
    int32_t ids[MAX_IDS];
    const int64_t n = (int64_t)fread(ids, sizeof(ids[0]), MAX_IDS, stdin);

    RP_TRY(rp_weights_open(&weights, path));
    const int64_t width = rp_weights_config(weights)->hidden_size;
    const int64_t vocab = rp_weights_config(weights)->vocab_size;
    RP_TRY(rp_exec_create(&exec, 1, RP_PRODUCTS_F32));
    RP_TRY(rp_lm_create(&lm, weights, NULL, rp_kernels_cpu(), exec, n));
    RP_TRY(rp_alloc_array(&hidden, (size_t)(n * width), sizeof(float)));
    RP_TRY(rp_alloc_array(&head, (size_t)(vocab * width), sizeof(float)));
    RP_TRY(rp_alloc_array(&logits, (size_t)(n * vocab), sizeof(float)));
    RP_TRY(rp_lm_hidden(lm, ids, 1, hidden, NULL));
    RP_TRY(rp_lm_read_head(lm, 0, vocab, head));
    rp_lm_logits(lm, 0, logits, rp_cmat_of(hidden, n, width, width), head, vocab);
    RP_TRY(print_items(logits, (size_t)(n * vocab), sizeof(float)));
out:
    free(logits);
    free(head);
    free(hidden);
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
    rp_weights_close(&weights);
    return st;
}

static rp_status read_items(void **items, size_t *n, size_t item_bytes)
{
    rp_status st = RP_OK;
    uint8_t *bytes = NULL;

    RP_TRY(rp_alloc(&bytes, MAX_TEXT_BYTES));
    *n = fread(bytes, 1, MAX_TEXT_BYTES, stdin) / item_bytes;
    *items = bytes;
out:
    return st;
}

static rp_status print_decoded(const char *name)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *type = rp_gguf_block_type_find(name);
    void *blocks = NULL;
    float *values = NULL;
    size_t n = 0;

    if (type == NULL || !rp_gguf_can_decode(type)) {
        st = RP_FAIL(RP_ERR_USAGE, "%s: no type that is read here", name);
        goto out;
    }
    RP_TRY(read_items(&blocks, &n, type->block_bytes));
    n *= (size_t)type->block_elems;
    RP_TRY(rp_alloc_array(&values, n, sizeof(*values)));
    rp_gguf_decode_rows(type, blocks, 1, (int64_t)n, values);
    RP_TRY(print_items(values, n, sizeof(*values)));
out:
    free(values);
    free(blocks);
    return st;
}

static rp_status print_encoded(const char *name, int64_t cols)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *type = rp_gguf_block_type_find(name);
    rp_form form = {.kind = RP_FORM_DENSE, .cols = cols};
    void *values = NULL;
    uint8_t *blocks = NULL;
    size_t n = 0;
    const float *importance = NULL;

    if (type == NULL || cols < 1) {
        st = RP_FAIL(RP_ERR_USAGE, "%s: no type that is written here", name);
        goto out;
    }
    RP_TRY(read_items(&values, &n, sizeof(float)));
    if (n < (size_t)cols) {
        st =
            RP_FAIL(RP_ERR_USAGE, "%zu numbers, want %lld of importance first", n, (long long)cols);
        goto out;
    }
    importance = values;
    form.rows = (int64_t)n / cols - 1;
    form.values = (float *)values + cols;
    RP_TRY(rp_alloc(&blocks, (size_t)form.rows * rp_gguf_row_bytes(type, cols)));
    RP_TRY(rp_gguf_encode_rows(type, &form, 0, form.rows, importance[0] < 0.0F ? NULL : importance,
                               blocks));
    RP_TRY(print_items(blocks, (size_t)form.rows, rp_gguf_row_bytes(type, cols)));
out:
    free(blocks);
    free(values);
    return st;
}

int main(int argc, char **argv)
{
    rp_status st = RP_OK;

    if ((argc == 5 || argc == 6) && strcmp(argv[1], "write") == 0) {
        st = write_file(argv[2], argv[3], argv[4], argv[argc == 6 ? 5 : 2]);
    } else if (argc == 4 && strcmp(argv[1], "values") == 0) {
        st = print_values(argv[2], argv[3]);
    } else if (argc == 3 && strcmp(argv[1], "ids") == 0) {
        st = print_ids(argv[2]);
    } else if (argc == 3 && strcmp(argv[1], "logits") == 0) {
        st = print_logits(argv[2]);
    } else if (argc == 3 && strcmp(argv[1], "decode") == 0) {
        st = print_decoded(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "encode") == 0) {
        st = print_encoded(argv[2], atoll(argv[3]));
    } else {
        st = RP_FAIL(RP_ERR_USAGE,
                     "usage: gguf_driver write FOLDER TYPE OUT [FILE] | values FILE TENSOR "
                     "| ids FILE | logits FILE | decode TYPE | encode TYPE COLS");
    }
    if (st != RP_OK) {
        (void)fprintf(stderr, "gguf_driver: %s\n", rp_error_message());
    }
    return rp_status_exit_code(st);
}
