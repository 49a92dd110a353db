/* Keys of a GGUF output: made from a Hugging Face folder, or all those of a GGUF source but the
 * ones that speak of its own tensors (llama-quantize's rule). */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/gguf_general.h"
#include "jobs/importance.h"
#include "jobs/output.h"

#define QUANTIZATION_VERSION 2
#define IMATRIX_KEYS "quantize.imatrix."

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* Where the importance of columns came from, as llama-quantize says it. */
static rp_status put_imatrix_keys(rp_gguf_writer *writer, const rp_session *s)
{
    rp_status st = RP_OK;
    const char *path = NULL;
    const rp_imatrix *file = rp_importance_file(s->importance, &path);

    if (file == NULL) {
        return RP_OK;
    }
    RP_TRY(rp_gguf_put_string(writer, IMATRIX_KEYS "file", base_name(path)));
    if (file->n_datasets > 0) {
        RP_TRY(rp_gguf_put_string(writer, IMATRIX_KEYS "dataset", file->datasets[0]));
    }
    RP_TRY(rp_gguf_put_u32(writer, IMATRIX_KEYS "entries_count", (uint32_t)file->n));
    RP_TRY(rp_gguf_put_u32(writer, IMATRIX_KEYS "chunks_count", (uint32_t)file->chunk_count));
out:
    return st;
}

static rp_status put_made_keys(rp_gguf_writer *writer, const rp_session *s, int32_t file_type)
{
    rp_status st = RP_OK;
    const char *dir = rp_weights_path(s->weights);
    rp_tokenizer *tokenizer = NULL;
    json_t *tokenizer_config = NULL;
    char *name = NULL;

    RP_TRY(rp_gguf_general_name(&name, dir, rp_weights_config_json(s->weights)));
    RP_TRY(rp_gguf_put_model(writer, s->config, name, file_type));
    RP_TRY(rp_gguf_put_general(writer, dir, rp_weights_elems(s->weights)));
    RP_TRY(rp_tokenizer_open(&tokenizer, dir));
    RP_TRY(rp_gguf_load_tokenizer_config(&tokenizer_config, dir));
    RP_TRY(rp_gguf_put_tokenizer(writer, s->config, tokenizer, tokenizer_config));
out:
    free(name);
    json_decref(tokenizer_config);
    rp_tokenizer_destroy(&tokenizer);
    return st;
}

/* Where and how the source's tensors lie; the output's own are written anew. */
static bool is_of_tensors(const char *key)
{
    static const char *const keys[] = {
        "general.alignment", "general.file_type", "general.quantization_version",
        "split.no",          "split.count",       "split.tensors.count",
    };

    for (size_t i = 0; i < RP_COUNT(keys); i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static rp_status put_source_keys(rp_gguf_writer *writer, const rp_session *s, int32_t file_type)
{
    rp_status st = RP_OK;
    const char *path = rp_weights_path(s->weights);
    const char *imatrix = NULL;
    const bool has_imatrix = rp_importance_file(s->importance, &imatrix) != NULL;
    rp_gguf *gguf = NULL;

    RP_TRY(rp_gguf_open(&gguf, path));
    for (int64_t i = 0; i < rp_gguf_kv_count(gguf); i++) {
        const rp_gguf_kv *kv = rp_gguf_kv_at(gguf, i);
        if (!is_of_tensors(kv->key) &&
            !(has_imatrix && strncmp(kv->key, IMATRIX_KEYS, strlen(IMATRIX_KEYS)) == 0)) {
            RP_TRY(rp_gguf_put_kv(writer, kv));
        }
    }
    RP_TRY(rp_gguf_put_u32(writer, "general.quantization_version", QUANTIZATION_VERSION));
    RP_TRY(rp_gguf_put_u32(writer, "general.file_type", (uint32_t)file_type));
out:
    rp_gguf_close(&gguf);
    return st;
}

rp_status rp_store_put_gguf_keys(rp_gguf_writer *writer, const rp_session *session,
                                 int32_t file_type)
{
    rp_status st = RP_OK;

    if (rp_fs_is_dir(rp_weights_path(session->weights))) {
        RP_TRY(put_made_keys(writer, session, file_type));
    } else {
        RP_TRY(put_source_keys(writer, session, file_type));
    }
    RP_TRY(put_imatrix_keys(writer, session));
out:
    return st;
}
