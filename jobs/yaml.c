/* libyaml's events made into a tree. The event interface is used, not libyaml's own document
 * loader, because that one resolves aliases and drops doubled keys without a word. */
#include "jobs/yaml.h"

#include "base/fault.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 32

typedef struct reader {
    yaml_parser_t parser;
    rp_owner *owner;
    const char *origin;
} reader;

static rp_status fail_at(const char *origin, int line, int column, const char *fmt, va_list args)
{
    char message[RP_MESSAGE_BYTES];

    (void)vsnprintf(message, sizeof(message), fmt, args);
    if (line == 0) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %s", origin, message);
    }
    return RP_FAIL(RP_ERR_CONFIG, "%s:%d:%d: %s", origin, line, column, message);
}

rp_status rp_yaml_fail(const rp_yaml *node, const char *fmt, ...)
{
    va_list args;
    rp_status st = RP_OK;

    va_start(args, fmt);
    st = fail_at(node->origin, node->line, node->column, fmt, args);
    va_end(args);
    return st;
}

rp_status rp_yaml_fail_key(const rp_yaml *node, const char *fmt, ...)
{
    va_list args;
    rp_status st = RP_OK;

    va_start(args, fmt);
    st = node->key_line > 0 ? fail_at(node->origin, node->key_line, node->key_column, fmt, args)
                            : fail_at(node->origin, node->line, node->column, fmt, args);
    va_end(args);
    return st;
}

static rp_status fail_mark(const reader *r, yaml_mark_t mark, const char *message)
{
    return RP_FAIL(RP_ERR_CONFIG, "%s:%zu:%zu: %s", r->origin, mark.line + 1, mark.column + 1,
                   message);
}

const char *rp_yaml_kind_name(rp_yaml_kind kind)
{
    static const char *const names[] = {"value", "mapping", "list"};

    return names[kind];
}

rp_yaml *rp_yaml_find(const rp_yaml *map, const char *key)
{
    for (rp_yaml *child = map->first; child != NULL; child = child->next) {
        if (child->key != NULL && strcmp(child->key, key) == 0) {
            return child;
        }
    }
    return NULL;
}

static void link_child(rp_yaml *parent, rp_yaml *child)
{
    if (parent->last != NULL) {
        parent->last->next = child;
    } else {
        parent->first = child;
    }
    parent->last = child;
}

rp_status rp_yaml_add(rp_yaml **out, rp_owner *owner, rp_yaml *parent, rp_yaml_kind kind,
                      const char *key, const char *text)
{
    rp_status st = RP_OK;
    rp_yaml *node = NULL;

    RP_TRY(rp_owner_calloc(owner, &node, 1, sizeof(*node)));
    node->kind = kind;
    if (key != NULL) {
        RP_TRY(rp_owner_strndup(owner, &node->key, key, strlen(key)));
    }
    if (text != NULL) {
        RP_TRY(rp_owner_strndup(owner, &node->text, text, strlen(text)));
    }
    if (parent != NULL) {
        node->origin = parent->origin;
        link_child(parent, node);
    }
    *out = node;
out:
    return st;
}

/* ---- reading ---- */

static rp_status next_event(reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event) == 0) {
        const char *problem = r->parser.problem != NULL ? r->parser.problem : "not YAML";
        yaml_mark_t mark = r->parser.problem_mark;
        memset(event, 0, sizeof(*event));
        if (r->parser.error == YAML_MEMORY_ERROR) {
            return RP_FAIL(RP_ERR_MEMORY, "%s: no memory to read it", r->origin);
        }
        if (r->parser.error == YAML_READER_ERROR) {
            return RP_FAIL(RP_ERR_CONFIG, "%s: byte %zu: %s", r->origin, r->parser.problem_offset,
                           problem);
        }
        return fail_mark(r, mark, problem);
    }
    return RP_OK;
}

static rp_status refuse(const reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
                        const yaml_char_t *tag)
{
    if (event->type == YAML_ALIAS_EVENT || anchor != NULL) {
        return fail_mark(r, event->start_mark,
                         "anchors and aliases are not supported: write it out");
    }
    if (tag != NULL) {
        return fail_mark(r, event->start_mark, "tags are not supported");
    }
    return RP_OK;
}

/* A node's own facts from its first event, after the checks that all kinds share. */
static rp_status node_of_event(reader *r, const yaml_event_t *event, rp_yaml **out)
{
    rp_status st = RP_OK;
    rp_yaml *node = NULL;

    *out = NULL;
    RP_TRY(rp_owner_calloc(r->owner, &node, 1, sizeof(*node)));
    node->origin = r->origin;
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        RP_TRY(refuse(r, event, event->data.scalar.anchor, event->data.scalar.tag));
        if (memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL) {
            st = fail_mark(r, event->start_mark, "a NUL character in a value");
            goto out;
        }
        RP_TRY(rp_owner_strndup(r->owner, &node->text, (const char *)event->data.scalar.value,
                                event->data.scalar.length));
        node->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        break;
    case YAML_MAPPING_START_EVENT:
        RP_TRY(refuse(r, event, event->data.mapping_start.anchor, event->data.mapping_start.tag));
        node->kind = RP_YAML_MAP;
        break;
    case YAML_SEQUENCE_START_EVENT:
        RP_TRY(refuse(r, event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
        node->kind = RP_YAML_LIST;
        break;
    default:
        RP_TRY(refuse(r, event, NULL, NULL));
        st = fail_mark(r, event->start_mark, "want a value, a list or a mapping");
        goto out;
    }
    *out = node;
out:
    return st;
}

static rp_status check_key(const rp_yaml *key, const rp_yaml *map)
{
    const rp_yaml *twin = NULL;

    if (key->kind != RP_YAML_SCALAR) {
        return rp_yaml_fail(key, "a key must be plain text, not a %s",
                            rp_yaml_kind_name(key->kind));
    }
    twin = rp_yaml_find(map, key->text);
    if (twin != NULL) {
        return rp_yaml_fail(key, "key \"%s\" is there twice (first on line %d)", key->text,
                            twin->key_line);
    }
    return RP_OK;
}

static rp_status read_children(reader *r, rp_yaml *parent, int depth);

/* The node that starts with event, and all below it. */
static rp_status read_node(reader *r, const yaml_event_t *event, rp_yaml **out, int depth)
{
    rp_status st = RP_OK;

    RP_TRY(node_of_event(r, event, out));
    if ((*out)->kind != RP_YAML_SCALAR) {
        if (depth >= MAX_DEPTH) {
            st = rp_yaml_fail(*out, "nested deeper than %d levels", MAX_DEPTH);
            goto out;
        }
        RP_TRY(read_children(r, *out, depth + 1));
    }
out:
    return st;
}

static rp_status read_children(reader *r, rp_yaml *parent, int depth)
{
    rp_status st = RP_OK;
    yaml_event_t event = {0};
    rp_yaml *key = NULL;
    rp_yaml *node = NULL;

    for (;;) {
        RP_TRY(next_event(r, &event));
        if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT) {
            break;
        }
        RP_TRY(read_node(r, &event, &node, depth));
        yaml_event_delete(&event);
        memset(&event, 0, sizeof(event));
        if (parent->kind == RP_YAML_MAP && key == NULL) {
            RP_TRY(check_key(node, parent));
            key = node;
            continue;
        }
        if (key != NULL) {
            node->key = key->text;
            node->key_line = key->line;
            node->key_column = key->column;
            key = NULL;
        }
        link_child(parent, node);
    }
out:
    yaml_event_delete(&event);
    return st;
}

/* Takes one event and checks its type; `problem` is the message when it is another. */
static rp_status expect(reader *r, yaml_event_type_t type, const char *problem)
{
    rp_status st = RP_OK;
    yaml_event_t event = {0};

    RP_TRY(next_event(r, &event));
    if (event.type != type) {
        st = fail_mark(r, event.start_mark, problem);
    }
out:
    yaml_event_delete(&event);
    return st;
}

rp_status rp_yaml_parse(rp_yaml **out, rp_owner *owner, const char *text, size_t nbytes,
                        const char *origin)
{
    rp_status st = RP_OK;
    reader r = {.owner = owner, .origin = origin};
    yaml_event_t event = {0};

    *out = NULL;
    if (yaml_parser_initialize(&r.parser) == 0) {
        return RP_FAIL(RP_ERR_MEMORY, "%s: no memory to read it", origin);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, nbytes);
    RP_TRY(expect(&r, YAML_STREAM_START_EVENT, "want a YAML stream"));
    RP_TRY(expect(&r, YAML_DOCUMENT_START_EVENT, "it is empty"));
    RP_TRY(next_event(&r, &event));
    RP_TRY(read_node(&r, &event, out, 0));
    RP_TRY(expect(&r, YAML_DOCUMENT_END_EVENT, "want the end of the document"));
    RP_TRY(expect(&r, YAML_STREAM_END_EVENT, "a second document: want one a file"));
out:
    yaml_event_delete(&event);
    yaml_parser_delete(&r.parser);
    return st;
}

/* ---- assignments ---- */

static void clear_places(rp_yaml *node, const char *origin)
{
    node->origin = origin;
    node->line = node->column = node->key_line = node->key_column = 0;
    for (rp_yaml *child = node->first; child != NULL; child = child->next) {
        clear_places(child, origin);
    }
}

/* The child called name[n] of a mapping or list; made when absent. */
static rp_status step_into(rp_yaml **out, rp_owner *owner, rp_yaml *node, const char *assignment,
                           const char *name, size_t n)
{
    rp_status st = RP_OK;
    char *key = NULL;
    char *end = NULL;
    rp_yaml *child = NULL;
    long index = 0;

    RP_TRY(rp_owner_strndup(owner, &key, name, n));
    if (n == 0 || node->kind == RP_YAML_SCALAR) {
        st = RP_FAIL(RP_ERR_CONFIG, "%s: %s", assignment,
                     n == 0 ? "a key is empty" : "it leads below a plain value");
        goto out;
    }
    if (node->kind == RP_YAML_MAP) {
        child = rp_yaml_find(node, key);
    } else {
        index = strtol(key, &end, 10);
        if (*end != '\0' || index < 0) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s: want the index of a list entry, got \"%s\"",
                         assignment, key);
            goto out;
        }
        child = node->first;
        for (; child != NULL && index > 0; index--) {
            child = child->next;
        }
        if (child == NULL && index > 0) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s: the list has no entry %s", assignment, key);
            goto out;
        }
    }
    if (child == NULL) {
        RP_TRY(rp_yaml_add(&child, owner, node, RP_YAML_MAP, node->kind == RP_YAML_MAP ? key : NULL,
                           NULL));
        clear_places(child, assignment);
    }
    *out = child;
out:
    return st;
}

rp_status rp_yaml_assign(rp_yaml *root, rp_owner *owner, const char *assignment)
{
    rp_status st = RP_OK;
    const char *equals = strchr(assignment, '=');
    rp_yaml *node = root;
    rp_yaml *value = NULL;

    if (equals == NULL || equals == assignment) {
        return RP_FAIL(RP_ERR_USAGE, "want KEY=VALUE, got \"%s\"", assignment);
    }
    RP_TRY(rp_yaml_parse(&value, owner, equals + 1, strlen(equals + 1), assignment));
    for (const char *name = assignment; name < equals;) {
        const size_t n = strcspn(name, ".=");
        RP_TRY(step_into(&node, owner, node, assignment, name, n));
        name += n + 1;
    }
    clear_places(value, assignment);
    node->kind = value->kind;
    node->text = value->text;
    node->is_quoted = value->is_quoted;
    node->first = value->first;
    node->last = value->last;
    clear_places(node, assignment);
out:
    return st;
}

/* ---- writing ---- */

static bool is_plain_safe(const char *text)
{
    static const char *const reserved[] = {"null", "~", "yes", "no", "on", "off"};
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "_./+-";

    for (size_t i = 0; i < RP_COUNT(reserved); i++) {
        if (strcasecmp(text, reserved[i]) == 0) {
            return false;
        }
    }
    return *text != '\0' && strspn(text, good) == strlen(text) &&
           (*text != '-' || (text[1] >= '0' && text[1] <= '9'));
}

static void write_scalar(FILE *f, const char *text)
{
    if (is_plain_safe(text)) {
        (void)fputs(text, f);
        return;
    }
    (void)fputc('"', f);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            (void)fprintf(f, "\\%c", *c);
        } else if (*c < 0x20) {
            (void)fprintf(f, "\\x%02x", *c);
        } else {
            (void)fputc(*c, f);
        }
    }
    (void)fputc('"', f);
}

static bool is_flat_list(const rp_yaml *node)
{
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        if (child->kind != RP_YAML_SCALAR) {
            return false;
        }
    }
    return node->kind == RP_YAML_LIST;
}

static void write_children(FILE *f, const rp_yaml *node, int indent, bool is_after_dash);

/* What stands behind "key:" or "-". The first key of a mapping in a list stays on the dash's line.
 */
static void write_value(FILE *f, const rp_yaml *node, int indent)
{
    const bool is_after_dash = node->key == NULL && node->kind == RP_YAML_MAP;

    if (node->kind == RP_YAML_SCALAR) {
        (void)fputc(' ', f);
        write_scalar(f, node->text);
        (void)fputc('\n', f);
    } else if (node->first == NULL) {
        (void)fputs(node->kind == RP_YAML_MAP ? " {}\n" : " []\n", f);
    } else if (is_flat_list(node)) {
        (void)fputs(" [", f);
        for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
            write_scalar(f, child->text);
            (void)fputs(child->next != NULL ? ", " : "]\n", f);
        }
    } else {
        (void)fputc(is_after_dash ? ' ' : '\n', f);
        write_children(f, node, indent + 2, is_after_dash);
    }
}

static void write_children(FILE *f, const rp_yaml *node, int indent, bool is_after_dash)
{
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        (void)fprintf(f, "%*s", is_after_dash ? 0 : indent, "");
        is_after_dash = false;
        if (node->kind == RP_YAML_MAP) {
            write_scalar(f, child->key);
            (void)fputc(':', f);
        } else {
            (void)fputc('-', f);
        }
        write_value(f, child, indent);
    }
}

rp_status rp_yaml_write(char **out, const rp_yaml *root)
{
    size_t nbytes = 0;
    FILE *f = RP_FAULT("alloc") ? NULL : open_memstream(out, &nbytes);

    if (f == NULL) {
        return RP_FAIL(RP_ERR_MEMORY, "no memory to write YAML");
    }
    write_children(f, root, 0, false);
    if (fclose(f) != 0) {
        free(*out);
        *out = NULL;
        return RP_FAIL(RP_ERR_MEMORY, "no memory to write YAML");
    }
    return RP_OK;
}
