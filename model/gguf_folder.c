/* What a Hugging Face folder says of its tokenizer beside tokenizer.json, in one object for GGUF's
 * keys: tokenizer_config.json, chat templates in files of their own, ids of special tokens of
 * config.json. */
#include "model/gguf_map.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"

#define MAX_TEMPLATE_BYTES ((size_t)16 << 20)
#define JINJA ".jinja"

/* The text of dir/name as a JSON string; *out stays NULL when there is no such file. */
static rp_status load_text(json_t **out, const char *dir, const char *name)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_fs_join(&path, dir, name));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_TEMPLATE_BYTES));
    *out = json_stringn(text, nbytes);
    if (*out == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not UTF-8", path);
    }
out:
    free(text);
    free(path);
    return st;
}

/* An object of dir/name; an empty one when there is no such file. */
static rp_status load_object(json_t **out, const char *dir, const char *name)
{
    rp_status st = RP_OK;
    char *path = NULL;

    *out = NULL;
    RP_TRY(rp_fs_join(&path, dir, name));
    if (rp_fs_exists(path)) {
        RP_TRY(rp_json_load(out, path));
    } else {
        *out = json_object();
    }
    if (!json_is_object(*out)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: want an object at the top", path);
    }
out:
    free(path);
    return st;
}

static int is_jinja(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);

    return length > strlen(JINJA) && strcmp(entry->d_name + length - strlen(JINJA), JINJA) == 0;
}

/* additional_chat_templates/NAME.jinja, by name, behind the one called default. */
static rp_status add_named_templates(json_t **value, const char *dir)
{
    rp_status st = RP_OK;
    char *folder = NULL;
    struct dirent **entries = NULL;
    json_t *list = NULL;
    int n = 0;

    RP_TRY(rp_fs_join(&folder, dir, "additional_chat_templates"));
    n = rp_fs_is_dir(folder) ? scandir(folder, &entries, is_jinja, alphasort) : 0;
    if (n <= 0) {
        goto out;
    }
    list = json_pack("[{s:s, s:O}]", "name", "default", "template", *value);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        json_t *text = NULL;
        RP_TRY(load_text(&text, folder, name));
        (void)json_array_append_new(
            list,
            json_pack("{s:s%, s:o}", "name", name, strlen(name) - strlen(JINJA), "template", text));
    }
    json_decref(*value);
    *value = json_incref(list);
out:
    for (int i = 0; i < n; i++) {
        free(entries[i]);
    }
    free(entries);
    json_decref(list);
    free(folder);
    return st;
}

/* chat_template.jinja and its like, or chat_template.json of older folders. */
static rp_status load_templates(json_t *config, const char *dir)
{
    rp_status st = RP_OK;
    json_t *value = NULL;
    json_t *older = NULL;

    RP_TRY(load_text(&value, dir, "chat_template.jinja"));
    if (value != NULL) {
        RP_TRY(add_named_templates(&value, dir));
    } else {
        RP_TRY(load_object(&older, dir, "chat_template.json"));
        value = json_incref(json_object_get(older, "chat_template"));
    }
    if (value != NULL) {
        (void)json_object_set(config, "chat_template", value);
    }
out:
    json_decref(older);
    json_decref(value);
    return st;
}

static rp_status load_ids(json_t *config, const char *dir)
{
    static const char *const names[] = {"bos_token_id", "eos_token_id", "unk_token_id",
                                        "sep_token_id", "pad_token_id", "cls_token_id",
                                        "mask_token_id"};
    rp_status st = RP_OK;
    json_t *model = NULL;

    RP_TRY(load_object(&model, dir, "config.json"));
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const json_t *id = json_object_get(model, names[i]);
        if (json_is_integer(id)) {
            (void)json_object_set_new(config, names[i], json_integer(json_integer_value(id)));
        }
    }
out:
    json_decref(model);
    return st;
}

rp_status rp_gguf_load_tokenizer_config(json_t **out, const char *dir)
{
    rp_status st = RP_OK;
    json_t *config = NULL;

    *out = NULL;
    RP_TRY(load_object(&config, dir, "tokenizer_config.json"));
    if (json_object_get(config, "chat_template") == NULL) {
        RP_TRY(load_templates(config, dir));
    }
    RP_TRY(load_ids(config, dir));
    *out = config;
    config = NULL;
out:
    json_decref(config);
    return st;
}
