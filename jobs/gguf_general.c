/* general.* keys of a GGUF made from a Hugging Face folder, as llama.cpp's converter fills them:
 * the front matter of the model card (README.md), generation_config.json, and the folder's name.
 *
 * The converter also guesses base name, version and fine-tuning from the parts of the name; here
 * they are only what the card says. */
#include "jobs/gguf_general.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/yaml.h"

#define MAX_CARD_BYTES ((size_t)4 << 20)
#define MAX_NAMES 4

/* ---- The card ---- */

/* End of the front matter: the line "---" behind the first; NULL when there is none. */
static const char *front_matter(const char *text, size_t *nbytes)
{
    const char *begin = strncmp(text, "---\n", 4) == 0 ? text + 4 : NULL;
    const char *line = begin;

    while (line != NULL && strncmp(line, "---\n", 4) != 0 && strcmp(line, "---") != 0) {
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    *nbytes = line == NULL ? 0 : (size_t)(line - begin);
    return line == NULL ? NULL : begin;
}

/* *out stays NULL when there is no card, or none that can be read: a card is nobody's duty. */
static rp_status load_card(rp_yaml **out, rp_owner *owner, const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;
    const char *front = NULL;

    RP_TRY(rp_fs_join(&path, dir, "README.md"));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_CARD_BYTES));
    front = front_matter(text, &nbytes);
    if (front != NULL) {
        st = rp_yaml_parse(out, owner, front, nbytes, "README.md");
        if (st == RP_ERR_CONFIG || (st == RP_OK && (*out)->kind != RP_YAML_MAP)) {
            *out = NULL;
            st = RP_OK;
        }
    }
out:
    free(text);
    free(path);
    return st;
}

/* The first of these keys that the card has. */
static const rp_yaml *find_first(const rp_yaml *card, const char *const names[MAX_NAMES])
{
    const rp_yaml *found = NULL;

    for (int i = 0; card != NULL && found == NULL && i < MAX_NAMES && names[i] != NULL; i++) {
        found = rp_yaml_find(card, names[i]);
    }
    return found;
}

/* The values of a key: its own, or those of its list; before NULL: the first. NULL behind the last.
 */
static const rp_yaml *next_value(const rp_yaml *node, const rp_yaml *before)
{
    const rp_yaml *value = NULL;

    if (node == NULL || node->kind == RP_YAML_SCALAR) {
        return node != NULL && before == NULL && *node->text != '\0' ? node : NULL;
    }
    value = before != NULL ? before->next : node->first;
    while (value != NULL && (node->kind != RP_YAML_LIST || value->kind != RP_YAML_SCALAR)) {
        value = value->next;
    }
    return value;
}

static int64_t count_values(const rp_yaml *node)
{
    int64_t n = 0;

    for (const rp_yaml *v = next_value(node, NULL); v != NULL; v = next_value(node, v)) {
        n++;
    }
    return n;
}

/* The values with commas between them; NULL when there is none. Caller frees. */
static rp_status text_of(char **out, const rp_yaml *node)
{
    rp_status st = RP_OK;

    *out = NULL;
    for (const rp_yaml *v = next_value(node, NULL); v != NULL; v = next_value(node, v)) {
        char *joined = NULL;
        RP_TRY(rp_strprintf(&joined, "%s%s%s", *out == NULL ? "" : *out, *out == NULL ? "" : ",",
                            v->text));
        free(*out);
        *out = joined;
    }
out:
    return st;
}

static rp_status put_texts(rp_gguf_writer *writer, const rp_yaml *card)
{
    static const struct {
        const char *key;
        const char *names[MAX_NAMES];
    } rows[] = {
        {"general.author", {"author", "model_author", "model_creator"}},
        {"general.version", {"version", "model_version"}},
        {"general.organization", {"organization", "model_organization"}},
        {"general.finetune", {"finetune", "model_finetune"}},
        {"general.basename", {"basename", "model_basename", "model_type"}},
        {"general.description", {"description", "model_description"}},
        {"general.license", {"license"}},
        {"general.license.name", {"license_name"}},
        {"general.license.link", {"license_link"}},
        {"general.source.url", {"url", "model_url"}},
        {"general.source.doi", {"doi", "model_doi"}},
        {"general.source.uuid", {"uuid", "model_uuid"}},
        {"general.source.repo_url", {"repo_url", "model_repo_url"}},
    };
    rp_status st = RP_OK;
    char *text = NULL;

    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        free(text);
        RP_TRY(text_of(&text, find_first(card, rows[i].names)));
        if (text != NULL) {
            RP_TRY(rp_gguf_put_string(writer, rows[i].key, text));
        }
    }
out:
    free(text);
    return st;
}

static rp_status add_values(rp_gguf_writer *writer, const rp_yaml *node)
{
    rp_status st = RP_OK;

    for (const rp_yaml *v = next_value(node, NULL); v != NULL; v = next_value(node, v)) {
        RP_TRY(rp_gguf_add_string(writer, v->text));
    }
out:
    return st;
}

/* Two keys of the card make one list. */
static rp_status put_lists(rp_gguf_writer *writer, const rp_yaml *card)
{
    static const struct {
        const char *key;
        const char *names[2][MAX_NAMES];
    } rows[] = {
        {"general.tags", {{"tags"}, {"pipeline_tag"}}},
        {"general.languages", {{"languages"}, {"language"}}},
    };
    rp_status st = RP_OK;

    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_yaml *first = find_first(card, rows[i].names[0]);
        const rp_yaml *second = find_first(card, rows[i].names[1]);
        const int64_t n = count_values(first) + count_values(second);
        if (n > 0) {
            RP_TRY(rp_gguf_put_strings(writer, rows[i].key, n));
            RP_TRY(add_values(writer, first));
            RP_TRY(add_values(writer, second));
        }
    }
out:
    return st;
}

/* ---- Names ---- */

static bool is_version(const char *word, size_t n)
{
    size_t i = word[0] == 'v' ? 1 : 0;

    if (i == 0) {
        return isdigit((unsigned char)word[0]) != 0; /* any word that starts with a digit */
    }
    for (; i < n && (isdigit((unsigned char)word[i]) != 0 || (word[i] == '.' && i > 1)); i++) {
    }
    return n > 1 && i == n;
}

/* Each run of letters begins with a capital. */
static void capitalise(char *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || isalpha((unsigned char)word[i - 1]) == 0) {
            word[i] = (char)toupper((unsigned char)word[i]);
        }
    }
}

/* "tiny-llama-v2-Chat" -> "Tiny Llama v2 Chat": words in lower case, but not versions. */
static void title_of(char *name)
{
    char *word = name;

    for (char *c = name; *c != '\0'; c++) {
        *c = *c == '-' ? ' ' : *c;
    }
    while (*word != '\0') {
        const size_t n = strcspn(word, " ");
        bool is_lower = true;
        for (size_t i = 0; i < n; i++) {
            is_lower = is_lower && isupper((unsigned char)word[i]) == 0;
        }
        if (n > 0 && is_lower && !is_version(word, n)) {
            capitalise(word, n);
        }
        word += n + strspn(word + n, " ");
    }
}

/* "owner/name" of config.json's _name_or_path when it is one, else the folder's name. Caller frees.
 */
static rp_status model_id(char **out, const char *dir, const json_t *config)
{
    const char *path = json_string_value(json_object_get(config, "_name_or_path"));
    const char *slash = path == NULL ? NULL : strchr(path, '/');
    size_t n = strlen(dir);
    size_t begin = 0;

    if (path != NULL && *path != '\0' && *path != '.' &&
        (slash == NULL || (slash != path && strchr(slash + 1, '/') == NULL))) {
        return rp_strdup(out, path);
    }
    while (n > 1 && dir[n - 1] == '/') {
        n--;
    }
    for (begin = n; begin > 0 && dir[begin - 1] != '/'; begin--) {
    }
    return rp_strprintf(out, "%.*s", (int)(n - begin), dir + begin);
}

rp_status rp_gguf_general_name(char **out, const char *dir, const json_t *config)
{
    static const char *const names[MAX_NAMES] = {"name", "model_name"};
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *card = NULL;
    char *id = NULL;

    RP_TRY(load_card(&card, &owner, dir));
    RP_TRY(text_of(out, find_first(card, names)));
    if (*out == NULL) {
        RP_TRY(model_id(&id, dir, config));
        RP_TRY(rp_strdup(out, strchr(id, '/') != NULL ? strchr(id, '/') + 1 : id));
        title_of(*out);
    }
out:
    free(id);
    rp_owner_destroy(&owner);
    return st;
}

/* "5.8M", "15M", "1.1B": at least two digits. */
static rp_status put_size_label(rp_gguf_writer *writer, const rp_yaml *card, int64_t n_params)
{
    static const char *const names[MAX_NAMES] = {"size_label", "model_size_label"};
    static const struct {
        double above, scale;
        char suffix;
    } units[] = {{1e12, 1e-12, 'T'}, {1e9, 1e-9, 'B'}, {1e6, 1e-6, 'M'}, {0, 1e-3, 'K'}};
    rp_status st = RP_OK;
    char *text = NULL;
    size_t u = 0;

    RP_TRY(text_of(&text, find_first(card, names)));
    if (text == NULL) {
        while ((double)n_params <= units[u].above && u + 1 < RP_COUNT(units)) {
            u++;
        }
        const double scaled = (double)n_params * units[u].scale;
        const int digits = scaled >= 9.5 ? 0 : 1;
        RP_TRY(rp_strprintf(&text, "%.*f%c", digits, scaled, units[u].suffix));
    }
    RP_TRY(rp_gguf_put_string(writer, "general.size_label", text));
out:
    free(text);
    return st;
}

/* ---- Where it comes from ---- */

/* general.<kind>.<index>.<field> */
static rp_status put_field(rp_gguf_writer *writer, const char *kind, int index, const char *field,
                           const char *text)
{
    char key[96];

    (void)snprintf(key, sizeof(key), "general.%s.%d.%s", kind, index, field);
    return rp_gguf_put_string(writer, key, text);
}

/* "owner/name", or an address. */
static rp_status put_source(rp_gguf_writer *writer, const char *kind, int index, const char *id)
{
    rp_status st = RP_OK;
    const char *slash = strchr(id, '/');
    char *name = NULL;
    char *owner = NULL;
    char *url = NULL;

    if (strstr(id, "://") != NULL) {
        return put_field(writer, kind, index, "repo_url", id);
    }
    RP_TRY(rp_strdup(&name, slash != NULL ? slash + 1 : id));
    title_of(name);
    RP_TRY(put_field(writer, kind, index, "name", name));
    if (slash != NULL) {
        RP_TRY(rp_strprintf(&owner, "%.*s", (int)(slash - id), id));
        title_of(owner);
        RP_TRY(put_field(writer, kind, index, "organization", owner));
        RP_TRY(rp_strprintf(&url, "https://huggingface.co/%s", id));
        RP_TRY(put_field(writer, kind, index, "repo_url", url));
    }
out:
    free(url);
    free(owner);
    free(name);
    return st;
}

static rp_status put_sources(rp_gguf_writer *writer, const rp_yaml *card)
{
    static const struct {
        const char *kind;
        const char *names[MAX_NAMES];
    } rows[] = {
        {"base_model", {"base_model", "base_models", "base_model_sources"}},
        {"dataset", {"datasets", "dataset", "dataset_sources"}},
    };
    rp_status st = RP_OK;
    char key[64];

    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_yaml *list = find_first(card, rows[i].names);
        const int64_t n = count_values(list);
        int index = 0;
        if (n > 0) {
            (void)snprintf(key, sizeof(key), "general.%s.count", rows[i].kind);
            RP_TRY(rp_gguf_put_u32(writer, key, (uint32_t)n));
        }
        for (const rp_yaml *v = next_value(list, NULL); v != NULL; v = next_value(list, v)) {
            RP_TRY(put_source(writer, rows[i].kind, index++, v->text));
        }
    }
out:
    return st;
}

/* ---- generation_config.json ---- */

static rp_status put_sampling(rp_gguf_writer *writer, const char *dir)
{
    static const struct {
        const char *key, *name;
        bool is_int;
    } rows[] = {
        {"general.sampling.top_k", "top_k", true},
        {"general.sampling.top_p", "top_p", false},
        {"general.sampling.min_p", "min_p", false},
        {"general.sampling.xtc_probability", "xtc_probability", false},
        {"general.sampling.xtc_threshold", "xtc_threshold", false},
        {"general.sampling.temp", "temperature", false},
        {"general.sampling.penalty_last_n", "penalty_last_n", true},
        {"general.sampling.penalty_repeat", "repetition_penalty", false},
        {"general.sampling.mirostat", "mirostat", true},
        {"general.sampling.mirostat_tau", "mirostat_tau", false},
        {"general.sampling.mirostat_eta", "mirostat_eta", false},
    };
    rp_status st = RP_OK;
    char *path = NULL;
    json_t *root = NULL;

    RP_TRY(rp_fs_join(&path, dir, "generation_config.json"));
    if (rp_fs_exists(path)) {
        RP_TRY(rp_json_load(&root, path));
    }
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const json_t *value = json_object_get(root, rows[i].name);
        if (rows[i].is_int && json_is_integer(value)) {
            RP_TRY(rp_gguf_put_i32(writer, rows[i].key, (int32_t)json_integer_value(value)));
        } else if (!rows[i].is_int && json_is_number(value)) {
            RP_TRY(rp_gguf_put_f32(writer, rows[i].key, (float)json_number_value(value)));
        }
    }
out:
    json_decref(root);
    free(path);
    return st;
}

rp_status rp_gguf_put_general(rp_gguf_writer *writer, const char *dir, int64_t n_params)
{
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *card = NULL;

    RP_TRY(load_card(&card, &owner, dir));
    RP_TRY(put_sampling(writer, dir));
    RP_TRY(put_texts(writer, card));
    RP_TRY(put_size_label(writer, card, n_params));
    RP_TRY(put_sources(writer, card));
    RP_TRY(put_lists(writer, card));
out:
    rp_owner_destroy(&owner);
    return st;
}
