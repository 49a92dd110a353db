/* - {name: w3, recipe.0.gptq.bits: 3} */
#include "jobs/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/yaml.h"

#define MAX_SWEEP_BYTES ((size_t)1 << 20)

/* "KEY=VALUE" with the value as YAML. */
static rp_status format_override(const char **out, rp_owner *owner, const rp_yaml *entry)
{
    rp_status st = RP_OK;
    rp_yaml value = *entry;
    const rp_yaml map = {.kind = RP_YAML_MAP, .first = &value, .last = &value};
    char key[] = "v";
    char *text = NULL; /* "v: VALUE\n" */
    const char *start = NULL;
    char *assignment = NULL;

    value.key = key;
    value.next = NULL;
    RP_TRY(rp_yaml_write(&text, &map));
    start = text + 2 + strspn(text + 2, " ");
    RP_TRY(rp_strprintf(&assignment, "%s=%.*s", entry->key, (int)strlen(start) - 1, start));
    RP_TRY(rp_owner_take(owner, assignment));
    *out = assignment;
out:
    free(text);
    return st;
}

static rp_status read_name(rp_variant *out, rp_owner *owner, const rp_yaml *node)
{
    const rp_yaml *name = node->kind == RP_YAML_MAP ? rp_yaml_find(node, "name") : NULL;

    if (name == NULL || name->kind != RP_YAML_SCALAR) {
        return rp_yaml_fail(node, "want a mapping with a name and the keys of the variant");
    }
    if (name->text[0] == '\0' || name->text[0] == '.' || strchr(name->text, '/') != NULL) {
        return rp_yaml_fail(name, "want the plain name of a folder, got \"%s\"", name->text);
    }
    return rp_owner_strndup(owner, &out->name, name->text, strlen(name->text));
}

static rp_status read_variant(rp_variant *out, rp_owner *owner, const rp_yaml *node)
{
    rp_status st = RP_OK;
    size_t n = 0;

    RP_TRY(read_name(out, owner, node));
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        n++;
    }
    RP_TRY(rp_owner_calloc(owner, &out->overrides, n, sizeof(out->overrides[0])));
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        if (strcmp(child->key, "name") != 0) {
            RP_TRY(format_override(&out->overrides[out->n_overrides], owner, child));
            out->n_overrides++;
        }
    }
out:
    return st;
}

static rp_status check_names(const rp_sweep *sweep, const rp_yaml *root)
{
    const rp_yaml *node = root->first;

    for (int64_t i = 0; i < sweep->n && node != NULL; i++, node = node->next) {
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(sweep->items[i].name, sweep->items[k].name) == 0) {
                return rp_yaml_fail(node, "the name \"%s\" is there twice", sweep->items[i].name);
            }
        }
    }
    return RP_OK;
}

rp_status rp_sweep_load(rp_sweep *out, const char *path)
{
    rp_status st = RP_OK;
    rp_yaml *root = NULL;
    char *text = NULL;
    char *origin = NULL;
    size_t nbytes = 0;
    int64_t i = 0;

    *out = (rp_sweep){.n = 0};
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_SWEEP_BYTES));
    RP_TRY(rp_owner_strndup(&out->owner, &origin, path, strlen(path)));
    RP_TRY(rp_yaml_parse(&root, &out->owner, text, nbytes, origin));
    if (root->kind != RP_YAML_LIST || root->first == NULL) {
        st = rp_yaml_fail(root, "want a list of variants");
        goto out;
    }
    for (const rp_yaml *node = root->first; node != NULL; node = node->next) {
        out->n++;
    }
    RP_TRY(rp_owner_calloc(&out->owner, &out->items, (size_t)out->n, sizeof(out->items[0])));
    for (const rp_yaml *node = root->first; node != NULL; node = node->next, i++) {
        RP_TRY(read_variant(&out->items[i], &out->owner, node));
    }
    RP_TRY(check_names(out, root));
out:
    free(text);
    return st;
}

void rp_sweep_destroy(rp_sweep *sweep)
{
    rp_owner_destroy(&sweep->owner);
    *sweep = (rp_sweep){.n = 0};
}
