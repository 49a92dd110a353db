/* A YAML document as a tree that remembers where everything was written.
 *
 * One document of mappings, lists and scalars; keys are scalars. Aliases, anchors, tags, doubled
 * keys and further documents are errors: a job file means what it shows. Scalars stay text. */
#ifndef RP_JOBS_YAML_H
#define RP_JOBS_YAML_H

#include "base/owner.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_yaml_kind { RP_YAML_SCALAR = 0, RP_YAML_MAP, RP_YAML_LIST } rp_yaml_kind;

typedef struct rp_yaml {
    rp_yaml_kind kind;
    char *text; /* of a scalar */
    bool is_quoted;
    char *key;          /* when it is an entry of a mapping */
    const char *origin; /* "job.yaml"; borrowed */
    int line, column;   /* from 1; 0: no place but the origin */
    int key_line, key_column;
    struct rp_yaml *first, *last; /* children of a mapping or list */
    struct rp_yaml *next;         /* sibling */
} rp_yaml;

/* Local. Nodes live as long as owner; origin must too. RP_ERR_CONFIG "job.yaml:3:1: ...". */
RP_CHECKED rp_status rp_yaml_parse(rp_yaml **out, rp_owner *owner, const char *text, size_t nbytes,
                                   const char *origin);
/* Local. Sets the node at `path` ("a.b.0.c") below root from "a.b.0.c=value"; the value is YAML.
 * Missing mappings are made; a list index is of an entry there, or the next one. The assignment is
 * the new nodes' origin and must live as long. */
RP_CHECKED rp_status rp_yaml_assign(rp_yaml *root, rp_owner *owner, const char *assignment);
/* Local. New nodes, for writing. text is copied; key NULL in a list. */
RP_CHECKED rp_status rp_yaml_add(rp_yaml **out, rp_owner *owner, rp_yaml *parent, rp_yaml_kind kind,
                                 const char *key, const char *text);
/* Local. The tree as block-style YAML; caller frees. */
RP_CHECKED rp_status rp_yaml_write(char **out, const rp_yaml *root);
/* Local. The entry of a mapping, or NULL. */
rp_yaml *rp_yaml_find(const rp_yaml *map, const char *key);
/* Local. RP_ERR_CONFIG "origin:line:column: message" at the node, or at its key. */
rp_status rp_yaml_fail(const rp_yaml *node, const char *fmt, ...) RP_PRINTF(2, 3);
rp_status rp_yaml_fail_key(const rp_yaml *node, const char *fmt, ...) RP_PRINTF(2, 3);
/* Local. "mapping", "list", "value". */
const char *rp_yaml_kind_name(rp_yaml_kind kind);

#ifdef __cplusplus
}
#endif
#endif
