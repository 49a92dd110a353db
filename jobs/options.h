/* Options as data: one table row each (name, type, bounds, default, help).
 *
 * The same rows describe the keys of a job file and the options of the command line; they feed the
 * parsers, the checks, --help, the man page, the completion and the record kept with a job. A row
 * says where in a C struct its value lives; values travel as text and are turned into fields by one
 * function and back by another. */
#ifndef RP_JOBS_OPTIONS_H
#define RP_JOBS_OPTIONS_H

#include "base/owner.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_string_list {
    char **items;
    int64_t n;
} rp_string_list;

typedef enum rp_option_type {
    RP_OPTION_FLAG = 0, /* bool; on the command line without a value */
    RP_OPTION_BOOL,     /* bool: true or false */
    RP_OPTION_INT,      /* int64_t */
    RP_OPTION_REAL,     /* double */
    RP_OPTION_BYTES,    /* int64_t: 5GB, 3.9GiB, 1048576 */
    RP_OPTION_SECONDS,  /* double: 90, 45m, 1h30m, 01:30:00, 2-12:00:00 */
    RP_OPTION_WORD,     /* int64_t: the value of one of `words` */
    RP_OPTION_STRING,   /* char *, NULL when not given; with `words` one of them */
    RP_OPTION_PATH,    /* char *: a file or folder, relative to the working folder; or of `words` */
    RP_OPTION_STRINGS, /* rp_string_list; with `words` each one of them */
    /* Job files only: */
    RP_OPTION_SECTION,  /* a struct, described by `rows` */
    RP_OPTION_ITEMS,    /* {T *items; int64_t n}: a list of mappings, each described by `rows` */
    RP_OPTION_VARIANTS, /* {T *items; int64_t n}: a list of mappings with one key, the variant.
                         * `rows` are the variants, all SECTIONs of the same T, whose first member
                         * is an int64_t: the index of the variant */
} rp_option_type;

/* A word that stands for a value: "auto" for 0 threads, "channel" for group size -1. */
typedef struct rp_option_word {
    const char *word; /* NULL ends a list */
    int64_t value;
} rp_option_word;

typedef struct rp_option {
    const char *name; /* NULL ends a table */
    rp_option_type type;
    size_t offset;        /* of the field in the struct that the table describes */
    const char *fallback; /* the default, as text; NULL: none (a STRING or list stays empty) */
    double min, max;      /* of numbers, words apart */
    const rp_option_word *words;
    const struct rp_option *rows; /* of SECTION, ITEMS and VARIANTS */
    size_t item_bytes;            /* of one T */
    bool is_required;
    bool is_bare; /* first row of an entry: its value may stand for the entry, as if required */
    rp_status (*check)(const char *text); /* of STRING and STRINGS beyond `words`; may be NULL */
    bool is_local;   /* not part of the job hash: paths, threads, time limits, logging */
    const char *arg; /* what --help calls the value: "FILE" */
    const char *help;
} rp_option;

/* Local. Sets the field of `row` in `object` from text. RP_ERR_USAGE with "want an integer from 1
 * to 8, got \"x\""; the caller puts the place before it. Not for SECTION, ITEMS, VARIANTS and
 * STRINGS.
 */
RP_CHECKED rp_status rp_option_set(const rp_option *row, void *object, rp_owner *owner,
                                   const char *text);
/* Local. Appends to a STRINGS field. */
RP_CHECKED rp_status rp_option_append(const rp_option *row, void *object, rp_owner *owner,
                                      const char *text);
/* Local. Sets every field of a table to its default; sections too. */
RP_CHECKED rp_status rp_options_set_defaults(const rp_option *rows, void *object, rp_owner *owner);
/* Local. The field as text that rp_option_set reads back to the same value; caller frees; NULL when
 * there is none. */
RP_CHECKED rp_status rp_option_format(char **out, const rp_option *row, const void *object);
/* Local. Is the text one of the row's words. */
bool rp_option_is_word(const rp_option *row, const char *text);
/* Local. The row by name, or NULL. */
const rp_option *rp_options_find(const rp_option *rows, const char *name);
/* Local. The name of a row (or the word of a list) most like `name`, or NULL when none is near. */
const char *rp_options_suggest(const rp_option *rows, const char *name);
const char *rp_words_suggest(const rp_option_word *words, const char *name);
/* Local. "integer from 2 to 8, or scheme": what a value may be, into out [out_bytes]. */
void rp_option_describe(const rp_option *row, char *out, size_t out_bytes);

/* Local. "5GB", "3.9GiB", "1048576" to bytes; false when it is not a size. */
bool rp_parse_bytes(int64_t *out, const char *text);
/* Local. "90", "45m", "1h30m", "01:30:00", "2-12:00:00" to seconds; false when it is not a time. */
bool rp_parse_seconds(double *out, const char *text);

/* Local. Reads "--name value", "--name=value", "--flag" and operands of argv[first..argc-1] ("--"
 * ends options) into object. operands [argc] gets pointers into argv. RP_ERR_USAGE with a
 * suggestion. */
RP_CHECKED rp_status rp_options_parse_args(const rp_option *rows, void *object, rp_owner *owner,
                                           int argc, char **argv, int first, const char **operands,
                                           int *n_operands);

#ifdef __cplusplus
}
#endif
#endif
