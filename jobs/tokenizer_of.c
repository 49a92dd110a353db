/* A folder has tokenizer.json or its older files; a GGUF file has the same facts as keys. */
#include "jobs/tokenizer_of.h"

#include "base/fs.h"
#include "jobs/job_folder.h"
#include "model/gguf_map.h"

#include <inttypes.h>
#include <stdlib.h>

#define MAX_TEXT_BYTES ((size_t)4 << 30)

rp_status rp_tokenizer_of(rp_tokenizer **out, const char *path)
{
    rp_status st = RP_OK;
    rp_gguf *gguf = NULL;
    json_t *root = NULL;

    *out = NULL;
    RP_TRY(rp_job_folder_refuse(path));
    if (rp_fs_is_dir(path) || !rp_fs_exists(path)) {
        return rp_tokenizer_open(out, path);
    }
    RP_TRY(rp_gguf_open(&gguf, path));
    RP_TRY(rp_gguf_tokenizer_json(&root, gguf));
    RP_TRY(rp_tokenizer_from_json(out, root, path));
out:
    json_decref(root);
    rp_gguf_close(&gguf);
    return st;
}

rp_status rp_tokenize_file(int32_t **ids, int64_t *n_ids, const rp_tokenizer *tokenizer,
                           const char *path, int64_t vocab_size)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    *ids = NULL;
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_TEXT_BYTES));
    st = rp_tokenizer_encode(tokenizer, text, nbytes, false, ids, n_ids);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", path);
        goto out;
    }
    for (int64_t i = 0; i < *n_ids; i++) {
        if ((*ids)[i] >= vocab_size) {
            st = RP_FAIL(RP_ERR_FORMAT,
                         "%s: token %" PRId64 " has id %" PRId32
                         ", but the model has a vocabulary of %" PRId64,
                         path, i, (*ids)[i], vocab_size);
            goto out;
        }
    }
out:
    free(text);
    return st;
}
