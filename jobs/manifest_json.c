/* The text form of a manifest (docs/formats/checkpoint.md).
 *
 *   {"format": "rankpress checkpoint", "xxh3": "<32 hex>", "body": <body>}\n
 *
 * The head up to the body has a fixed length, so the hash covers the body's bytes as they stand and
 * a reader needs no canonical JSON to check it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json.h"
#include "jobs/manifest.h"

#define HEAD_FORMAT "{\"format\": \"rankpress checkpoint\", \"xxh3\": \"%s\", \"body\": "
static const char tail[] = "}\n";
enum { TAIL_BYTES = sizeof(tail) - 1, VERSION = 2 };

static rp_status need(const void *made)
{
    return made != NULL ? RP_OK : rp_json_made(NULL);
}

/* Appends to, or sets in, a container; takes the reference to value. */
static rp_status append(json_t *array, json_t *value)
{
    return need(json_array_append_new(array, value) == 0 ? array : NULL);
}

static rp_status job_to_json(json_t *array, const char *job_text)
{
    rp_status st = RP_OK;
    const char *line = job_text == NULL ? "" : job_text;

    while (*line != '\0') {
        const size_t n = strcspn(line, "\n");
        RP_TRY(append(array, json_stringn(line, n)));
        line += n + (line[n] != '\0');
    }
out:
    return st;
}

static rp_status piece_to_json(json_t *array, const rp_manifest_piece *piece)
{
    char hex[RP_HASH_HEX_BYTES];

    rp_hash_hex(hex, piece->hash);
    return append(array, json_pack("{s:I, s:I, s:I, s:I, s:s}", "file", (json_int_t)piece->file,
                                   "row0", (json_int_t)piece->row0, "rows", (json_int_t)piece->rows,
                                   "bytes", (json_int_t)piece->nbytes, "xxh3", hex));
}

static rp_status units_to_json(json_t *units, const rp_manifest *manifest)
{
    rp_status st = RP_OK;
    json_t *pieces = NULL; /* borrowed: of the current unit */

    for (size_t p = 0; p < manifest->n_pieces; p++) {
        const rp_manifest_piece *piece = &manifest->pieces[p];
        if (p == 0 || strcmp(piece->unit, piece[-1].unit) != 0) {
            pieces = json_array();
            RP_TRY(need(
                json_object_set_new(units, piece->unit,
                                    json_pack("{s:I, s:o}", "total_rows",
                                              (json_int_t)piece->total_rows, "pieces", pieces)) == 0
                    ? pieces
                    : NULL));
        }
        RP_TRY(piece_to_json(pieces, piece));
    }
out:
    return st;
}

static rp_status body_to_json(json_t **out, const rp_manifest *manifest)
{
    rp_status st = RP_OK;
    char hex[RP_HASH_HEX_BYTES];
    json_t *job = json_array();
    json_t *files = json_array();
    json_t *units = json_object();
    json_t *body = NULL;

    rp_hash_hex(hex, manifest->job_hash);
    body = json_pack("{s:i, s:I, s:s, s:o, s:o, s:o}", "version", VERSION, "generation",
                     (json_int_t)manifest->generation, "job_hash", hex, "job", job, "files", files,
                     "units", units);
    RP_TRY(need(body));
    RP_TRY(job_to_json(job, manifest->job_text));
    for (size_t f = 0; f < manifest->n_files; f++) {
        const rp_manifest_file *file = &manifest->files[f];
        RP_TRY(append(files, json_pack("{s:s, s:I, s:I}", "name", file->name, "bytes",
                                       (json_int_t)file->nbytes, "generation",
                                       (json_int_t)file->generation)));
    }
    RP_TRY(units_to_json(units, manifest));
    *out = body;
    body = NULL;
out:
    json_decref(body);
    return st;
}

rp_status rp_manifest_format(char **out, size_t *nbytes, const rp_manifest *manifest)
{
    rp_status st = RP_OK;
    json_t *body = NULL;
    char *text = NULL;
    char hex[RP_HASH_HEX_BYTES];

    *out = NULL;
    RP_TRY(body_to_json(&body, manifest));
    RP_TRY(rp_json_dump(&text, body, JSON_INDENT(1)));
    rp_hash_hex(hex, rp_hash_bytes(text, strlen(text)));
    RP_TRY(rp_strprintf(out, HEAD_FORMAT "%s%s", hex, text, tail));
    *nbytes = strlen(*out);
out:
    free(text);
    json_decref(body);
    return st;
}

/* Non-negative integer member. */
static bool get_count(json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);

    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 0;
}

static bool get_hash(json_t *object, const char *key, rp_hash *out)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL && rp_hash_parse(out, text);
}

/* A name of ours and nothing that leads out of the folder: orphans are removed by these names. */
static bool is_file_name(const char *name)
{
    long long generation = 0;
    int rank = 0;
    char again[64];

    if (name == NULL || sscanf(name, "g%lld-r%d", &generation, &rank) != 2) {
        return false;
    }
    (void)snprintf(again, sizeof(again), "g%06lld-r%04d%s.h5", generation, rank,
                   rp_ends_with(name, "p.h5") ? "p" : "");
    return strcmp(again, name) == 0;
}

static rp_status files_from_json(rp_manifest *out, json_t *files, const char *origin)
{
    rp_status st = RP_OK;
    size_t index = 0;
    json_t *file = NULL;

    json_array_foreach(files, index, file)
    {
        const char *name = json_string_value(json_object_get(file, "name"));
        int64_t nbytes = 0;
        int64_t generation = 0;
        if (!is_file_name(name) || !get_count(file, "bytes", &nbytes) ||
            !get_count(file, "generation", &generation)) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: files[%zu] is not {name, bytes, generation}", origin,
                         index);
            goto out;
        }
        RP_TRY(rp_manifest_add_file(out, name, (size_t)nbytes, generation, NULL));
    }
out:
    return st;
}

static rp_status unit_from_json(rp_manifest *out, const char *unit, json_t *value,
                                const char *origin)
{
    rp_status st = RP_OK;
    int64_t total_rows = 0;
    json_t *pieces = json_object_get(value, "pieces");
    size_t index = 0;
    json_t *piece = NULL;

    if (rp_manifest_check_unit(unit) != RP_OK || !get_count(value, "total_rows", &total_rows) ||
        !json_is_array(pieces)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: unit \"%s\" is not {total_rows, pieces}", origin, unit);
        goto out;
    }
    json_array_foreach(pieces, index, piece)
    {
        int64_t file = 0;
        int64_t nbytes = 0;
        rp_manifest_piece p = {.unit = (char *)unit, .total_rows = total_rows};
        if (!get_count(piece, "file", &file) || !get_count(piece, "row0", &p.row0) ||
            !get_count(piece, "rows", &p.rows) || !get_count(piece, "bytes", &nbytes) ||
            !get_hash(piece, "xxh3", &p.hash) || (size_t)file >= out->n_files ||
            p.row0 > total_rows || p.rows > total_rows - p.row0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: piece %zu of unit \"%s\" is not valid", origin, index,
                         unit);
            goto out;
        }
        p.file = (size_t)file;
        p.nbytes = (size_t)nbytes;
        RP_TRY(rp_manifest_add_piece(out, &p));
    }
out:
    return st;
}

static rp_status job_from_json(rp_manifest *out, json_t *job)
{
    rp_status st = RP_OK;
    size_t index = 0;
    size_t nbytes = 1;
    size_t at = 0;
    json_t *line = NULL;

    json_array_foreach(job, index, line)
    {
        nbytes += json_string_length(line) + 1;
    }
    RP_TRY(rp_alloc(&out->job_text, nbytes));
    json_array_foreach(job, index, line)
    {
        const size_t n = json_string_length(line);
        if (n > 0) {
            memcpy(out->job_text + at, json_string_value(line), n);
        }
        at += n;
        out->job_text[at++] = '\n';
    }
    out->job_text[at] = '\0';
out:
    return st;
}

static rp_status body_from_json(rp_manifest *out, json_t *body, const char *origin)
{
    rp_status st = RP_OK;
    json_t *files = json_object_get(body, "files");
    json_t *units = json_object_get(body, "units");
    json_t *job = json_object_get(body, "job");
    const char *unit = NULL;
    json_t *value = NULL;
    int64_t version = 0;

    if (!get_count(body, "version", &version) || version != VERSION) {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "%s: checkpoint format version %lld, this program reads version %d: go on "
                     "with the program that wrote it, or remove its folder to begin again",
                     origin, (long long)version, VERSION);
        goto out;
    }
    if (!get_count(body, "generation", &out->generation) ||
        !get_hash(body, "job_hash", &out->job_hash) || !json_is_array(files) ||
        !json_is_object(units) || !json_is_array(job)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: the body is not {generation, job_hash, job, files, units}",
                     origin);
        goto out;
    }
    RP_TRY(job_from_json(out, job));
    RP_TRY(files_from_json(out, files, origin));
    json_object_foreach(units, unit, value)
    {
        RP_TRY(unit_from_json(out, unit, value, origin));
    }
    rp_manifest_sort(out);
out:
    return st;
}

/* The body's place in the text, its hash compared. */
static rp_status find_body(const char **body, size_t *body_bytes, const char *text, size_t nbytes,
                           const char *origin)
{
    char head[sizeof(HEAD_FORMAT) + RP_HASH_HEX_BYTES];
    char hex[RP_HASH_HEX_BYTES] = "";
    size_t head_bytes = 0;

    head_bytes =
        (size_t)snprintf(head, sizeof(head), HEAD_FORMAT, "00000000000000000000000000000000");
    if (nbytes < head_bytes + TAIL_BYTES ||
        strncmp(text + nbytes - TAIL_BYTES, tail, TAIL_BYTES) != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: cut or not a manifest", origin);
    }
    *body = text + head_bytes;
    *body_bytes = nbytes - head_bytes - TAIL_BYTES;
    rp_hash_hex(hex, rp_hash_bytes(*body, *body_bytes));
    (void)snprintf(head, sizeof(head), HEAD_FORMAT, hex);
    if (strncmp(text, head, head_bytes) != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: damaged: its hash does not fit its body", origin);
    }
    return RP_OK;
}

rp_status rp_manifest_parse(rp_manifest *out, const char *text, size_t nbytes, const char *origin)
{
    rp_status st = RP_OK;
    const char *body = NULL;
    size_t body_bytes = 0;
    json_t *json = NULL;

    memset(out, 0, sizeof(*out));
    RP_TRY(find_body(&body, &body_bytes, text, nbytes, origin));
    RP_TRY(rp_json_parse(&json, body, body_bytes, origin));
    RP_TRY(body_from_json(out, json, origin));
out:
    if (st != RP_OK) {
        rp_manifest_clear(out);
    }
    json_decref(json);
    return st;
}
