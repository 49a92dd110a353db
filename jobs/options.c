/* Values of options: text to field and back, defaults, suggestions. The command line's grammar is
 * in options_args.c. */
#include "jobs/options.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- text to numbers ---- */

static bool parse_int(int64_t *out, const char *text)
{
    char *end = NULL;
    const bool is_start = (*text >= '0' && *text <= '9') || *text == '-' || *text == '+';
    const double size = strtod(text, NULL);

    *out = strtoll(text, &end, 10);
    return is_start && end != text && *end == '\0' && fabs(size) < 9.2e18;
}

static bool parse_real(double *out, const char *text)
{
    char *end = NULL;
    const bool is_start =
        (*text >= '0' && *text <= '9') || *text == '-' || *text == '+' || *text == '.';

    *out = strtod(text, &end);
    return is_start && end != text && *end == '\0' && isfinite(*out);
}

static const struct {
    const char *suffix;
    double bytes;
} byte_units[] = {
    {"TiB", 1099511627776.0},
    {"TB", 1e12},
    {"GiB", 1073741824.0},
    {"GB", 1e9},
    {"MiB", 1048576.0},
    {"MB", 1e6},
    {"KiB", 1024},
    {"kB", 1e3},
    {"KB", 1e3},
    {"B", 1},
    {"", 1},
};

bool rp_parse_bytes(int64_t *out, const char *text)
{
    char *end = NULL;
    const double number = strtod(text, &end);

    if (*text < '0' || *text > '9' || end == text) {
        return false;
    }
    end += strspn(end, " ");
    for (size_t i = 0; i < RP_COUNT(byte_units); i++) {
        if (strcmp(end, byte_units[i].suffix) == 0) {
            const double bytes = number * byte_units[i].bytes;
            if (!(bytes < 9e18)) {
                return false;
            }
            *out = llround(bytes);
            return true;
        }
    }
    return false;
}

/* "[D-]HH:MM[:SS]", Slurm's way. */
static bool parse_clock(double *out, const char *text)
{
    int days = 0, h = 0, m = 0, s = 0, used = 0;

    if (strchr(text, '-') != NULL) {
        if (sscanf(text, "%d-%n", &days, &used) != 1 || used == 0) {
            return false;
        }
        text += used;
    }
    used = 0;
    if (sscanf(text, "%d:%d:%d%n", &h, &m, &s, &used) != 3) {
        s = 0;
        used = 0;
        if (sscanf(text, "%d:%d%n", &h, &m, &used) != 2) {
            return false;
        }
    }
    if (text[used] != '\0' || days < 0 || h < 0 || m < 0 || m > 59 || s < 0 || s > 59) {
        return false;
    }
    *out = 86400.0 * days + 3600.0 * h + 60.0 * m + s;
    return true;
}

/* "1h30m", "45m", "90s", "90". */
bool rp_parse_seconds(double *out, const char *text)
{
    static const char units[] = "dhms";
    static const double seconds[] = {86400, 3600, 60, 1};
    double sum = 0;
    size_t next = 0;

    if (strchr(text, ':') != NULL) {
        return parse_clock(out, text);
    }
    if (*text == '\0') {
        return false;
    }
    while (*text != '\0') {
        char *end = NULL;
        const double number = strtod(text, &end);
        const char *unit = *end == '\0' ? &units[3] : strchr(units, *end);
        if (*text < '0' || *text > '9' || unit == NULL || (size_t)(unit - units) < next) {
            return false;
        }
        next = (size_t)(unit - units) + 1;
        sum += number * seconds[unit - units];
        text = *end == '\0' ? end : end + 1;
    }
    *out = sum;
    return isfinite(sum);
}

/* ---- rows and words by name ---- */

const rp_option *rp_options_find(const rp_option *rows, const char *name)
{
    for (const rp_option *row = rows; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0) {
            return row;
        }
    }
    return NULL;
}

/* In any case: "q4_k_m" is Q4_K_M. */
static const rp_option_word *find_word(const rp_option_word *words, const char *text)
{
    for (const rp_option_word *w = words; w != NULL && w->word != NULL; w++) {
        if (strcasecmp(w->word, text) == 0) {
            return w;
        }
    }
    return NULL;
}

static const rp_option_word *find_value(const rp_option_word *words, int64_t value)
{
    for (const rp_option_word *w = words; w != NULL && w->word != NULL; w++) {
        if (w->value == value) {
            return w;
        }
    }
    return NULL;
}

#define NAME_CHARS 48

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c == '-' ? '_' : c;
}

/* Edits (insert, delete, replace, swap of neighbours) between two names; large when one is too
 * long.
 */
static int edit_distance(const char *a, const char *b)
{
    int d[3][NAME_CHARS + 1];
    const int na = (int)strnlen(a, NAME_CHARS + 1);
    const int nb = (int)strnlen(b, NAME_CHARS + 1);

    if (na > NAME_CHARS || nb > NAME_CHARS) {
        return NAME_CHARS;
    }
    for (int j = 0; j <= nb; j++) {
        d[0][j] = j;
    }
    for (int i = 1; i <= na; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int cost = lower(a[i - 1]) != lower(b[j - 1]);
            row[j] = RP_MIN(RP_MIN(up[j] + 1, row[j - 1] + 1), up[j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = RP_MIN(row[j], up2[j - 2] + 1);
            }
        }
    }
    return d[na % 3][nb];
}

/* Keeps the nearer of *best and candidate; near means a third of the name's letters. */
static void consider(const char **best, int *best_distance, const char *candidate, const char *name)
{
    const int distance = edit_distance(candidate, name);

    if (distance < *best_distance && distance * 3 <= (int)strlen(candidate) + 1) {
        *best = candidate;
        *best_distance = distance;
    }
}

const char *rp_options_suggest(const rp_option *rows, const char *name)
{
    const char *best = NULL;
    int distance = NAME_CHARS;

    for (const rp_option *row = rows; row->name != NULL; row++) {
        consider(&best, &distance, row->name, name);
    }
    return best;
}

const char *rp_words_suggest(const rp_option_word *words, const char *name)
{
    const char *best = NULL;
    int distance = NAME_CHARS;

    for (const rp_option_word *w = words; w != NULL && w->word != NULL; w++) {
        consider(&best, &distance, w->word, name);
    }
    return best;
}

/* ---- what a value may be ---- */

static const char *const type_names[] = {
    [RP_OPTION_FLAG] = "true or false",
    [RP_OPTION_BOOL] = "true or false",
    [RP_OPTION_INT] = "an integer",
    [RP_OPTION_REAL] = "a number",
    [RP_OPTION_BYTES] = "a size",
    [RP_OPTION_SECONDS] = "a time such as 90s or 1h30m",
    [RP_OPTION_WORD] = "",
    [RP_OPTION_STRING] = "text",
    [RP_OPTION_PATH] = "a path",
    [RP_OPTION_STRINGS] = "a list of text",
    [RP_OPTION_SECTION] = "a mapping",
    [RP_OPTION_ITEMS] = "a list of mappings",
    [RP_OPTION_VARIANTS] = "a list",
};

static size_t append(char *out, size_t out_bytes, size_t n, const char *text)
{
    const int added = snprintf(out + n, out_bytes - n, "%s", text);

    return RP_MIN(n + (size_t)added, out_bytes - 1);
}

static void format_bytes(char *out, size_t out_bytes, int64_t value)
{
    for (size_t i = 0; i < RP_COUNT(byte_units); i++) {
        const int64_t unit = (int64_t)byte_units[i].bytes;
        if (unit > 1 && value > 0 && value % unit == 0) {
            (void)snprintf(out, out_bytes, "%" PRId64 "%s", value / unit, byte_units[i].suffix);
            return;
        }
    }
    (void)snprintf(out, out_bytes, "%" PRId64, value);
}

static size_t append_bounds(const rp_option *row, char *out, size_t out_bytes, size_t n)
{
    char low[40];
    char high[40];
    char bounds[100];

    if (!(row->min < row->max)) {
        return n;
    }
    switch (row->type) {
    case RP_OPTION_INT:
        (void)snprintf(low, sizeof(low), "%.0f", row->min);
        (void)snprintf(high, sizeof(high), "%.0f", row->max);
        break;
    case RP_OPTION_REAL:
        (void)snprintf(low, sizeof(low), "%.15g", row->min);
        (void)snprintf(high, sizeof(high), "%.15g", row->max);
        break;
    case RP_OPTION_BYTES:
        format_bytes(low, sizeof(low), (int64_t)row->min);
        format_bytes(high, sizeof(high), (int64_t)row->max);
        break;
    default:
        return n;
    }
    (void)snprintf(bounds, sizeof(bounds), " from %s to %s", low, high);
    return append(out, out_bytes, n, bounds);
}

void rp_option_describe(const rp_option *row, char *out, size_t out_bytes)
{
    const bool is_words_only =
        row->words != NULL && (row->type == RP_OPTION_WORD || row->type == RP_OPTION_STRING);
    size_t n = 0;

    if (row->type == RP_OPTION_STRINGS && row->words != NULL) {
        n = append(out, out_bytes, n, "a list of ");
    } else if (!is_words_only) {
        n = append(out, out_bytes, n, type_names[row->type]);
    }
    n = append_bounds(row, out, out_bytes, n);
    for (const rp_option_word *w = row->words; w != NULL && w->word != NULL; w++) {
        const bool is_first = w == row->words && (is_words_only || row->type == RP_OPTION_STRINGS);
        const char *join = w[1].word == NULL ? " or " : ", ";
        n = append(out, out_bytes, n, is_first ? "" : join);
        n = append(out, out_bytes, n, w->word);
    }
    out[n] = '\0';
}

bool rp_option_is_word(const rp_option *row, const char *text)
{
    return find_word(row->words, text) != NULL;
}

static rp_status fail_value(const rp_option *row, const char *text)
{
    const char *near = rp_words_suggest(row->words, text);
    char want[512];

    rp_option_describe(row, want, sizeof(want));
    if (near != NULL) {
        return RP_FAIL(RP_ERR_USAGE, "want %s, got \"%s\" (did you mean \"%s\"?)", want, text,
                       near);
    }
    return RP_FAIL(RP_ERR_USAGE, "want %s, got \"%s\"", want, text);
}

/* ---- fields ---- */

static void *field_of(const rp_option *row, void *object)
{
    return (char *)object + row->offset;
}

static const void *const_field_of(const rp_option *row, const void *object)
{
    return (const char *)object + row->offset;
}

static bool is_in_bounds(const rp_option *row, double value)
{
    return row->min >= row->max || (value >= row->min && value <= row->max);
}

static rp_status set_int(const rp_option *row, int64_t *field, const char *text)
{
    const rp_option_word *word = find_word(row->words, text);
    int64_t value = 0;
    bool is_good = false;

    if (word != NULL) {
        *field = word->value;
        return RP_OK;
    }
    if (row->type == RP_OPTION_BYTES) {
        is_good = rp_parse_bytes(&value, text);
    } else if (row->type == RP_OPTION_INT) {
        is_good = parse_int(&value, text);
    }
    if (!is_good || !is_in_bounds(row, (double)value)) {
        return fail_value(row, text);
    }
    *field = value;
    return RP_OK;
}

static rp_status set_real(const rp_option *row, double *field, const char *text)
{
    const rp_option_word *word = find_word(row->words, text);
    double value = 0;
    bool is_good = false;

    if (word != NULL) {
        *field = (double)word->value;
        return RP_OK;
    }
    is_good =
        row->type == RP_OPTION_SECONDS ? rp_parse_seconds(&value, text) : parse_real(&value, text);
    if (!is_good || !is_in_bounds(row, value)) {
        return fail_value(row, text);
    }
    *field = value;
    return RP_OK;
}

static rp_status set_bool(const rp_option *row, bool *field, const char *text)
{
    const bool is_true = strcmp(text, "true") == 0;

    if (!is_true && strcmp(text, "false") != 0) {
        return fail_value(row, text);
    }
    *field = is_true;
    return RP_OK;
}

/* Gives the text to keep: a word as the table spells it. */
static rp_status check_string(const char **out, const rp_option *row, const char *text)
{
    const rp_option_word *word = find_word(row->words, text);

    if (*text == '\0') {
        return RP_FAIL(RP_ERR_USAGE, "want %s, got an empty one", type_names[row->type]);
    }
    if (row->type != RP_OPTION_PATH && row->words != NULL && word == NULL) {
        return fail_value(row, text);
    }
    *out = word != NULL ? word->word : text;
    return row->check != NULL ? row->check(text) : RP_OK;
}

rp_status rp_option_set(const rp_option *row, void *object, rp_owner *owner, const char *text)
{
    rp_status st = RP_OK;
    void *field = field_of(row, object);
    const char *kept = text;

    switch (row->type) {
    case RP_OPTION_FLAG:
    case RP_OPTION_BOOL:
        return set_bool(row, field, text);
    case RP_OPTION_INT:
    case RP_OPTION_BYTES:
    case RP_OPTION_WORD:
        return set_int(row, field, text);
    case RP_OPTION_REAL:
    case RP_OPTION_SECONDS:
        return set_real(row, field, text);
    case RP_OPTION_STRING:
    case RP_OPTION_PATH:
        RP_TRY(check_string(&kept, row, text));
        RP_TRY(rp_owner_strndup(owner, field, kept, strlen(kept)));
        break;
    default:
        st = RP_FAIL(RP_ERR_INTERNAL, "option %s cannot be set from text", row->name);
        break;
    }
out:
    return st;
}

rp_status rp_option_append(const rp_option *row, void *object, rp_owner *owner, const char *text)
{
    rp_status st = RP_OK;
    rp_string_list *list = field_of(row, object);
    char **grown = NULL;
    const char *kept = text;

    RP_TRY(check_string(&kept, row, text));
    /* Lists are a few entries: a new array for each keeps the owner's bookkeeping trivial. */
    RP_TRY(rp_owner_calloc(owner, &grown, (size_t)list->n + 1, sizeof(*grown)));
    RP_TRY(rp_owner_strndup(owner, &grown[list->n], kept, strlen(kept)));
    for (int64_t i = 0; i < list->n; i++) {
        grown[i] = list->items[i];
    }
    list->items = grown;
    list->n++;
out:
    return st;
}

rp_status rp_options_set_defaults(const rp_option *rows, void *object, rp_owner *owner)
{
    rp_status st = RP_OK;

    for (const rp_option *row = rows; row->name != NULL; row++) {
        if (row->type == RP_OPTION_SECTION) {
            RP_TRY(rp_options_set_defaults(row->rows, field_of(row, object), owner));
        } else if (row->fallback != NULL && row->type == RP_OPTION_STRINGS) {
            RP_TRY(rp_option_append(row, object, owner, row->fallback));
        } else if (row->fallback != NULL) {
            RP_TRY(rp_option_set(row, object, owner, row->fallback));
        }
    }
out:
    return st;
}

/* The fewest digits that read back to the same number. */
static void format_real(char *out, size_t out_bytes, double value)
{
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(out, out_bytes, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            return;
        }
    }
}

rp_status rp_option_format(char **out, const rp_option *row, const void *object)
{
    const void *field = const_field_of(row, object);
    const rp_option_word *word = NULL;
    char number[64];

    *out = NULL;
    switch (row->type) {
    case RP_OPTION_FLAG:
    case RP_OPTION_BOOL:
        return rp_strdup(out, *(const bool *)field ? "true" : "false");
    case RP_OPTION_INT:
    case RP_OPTION_BYTES:
    case RP_OPTION_WORD:
        word = find_value(row->words, *(const int64_t *)field);
        if (row->type == RP_OPTION_BYTES) {
            format_bytes(number, sizeof(number), *(const int64_t *)field);
        } else {
            (void)snprintf(number, sizeof(number), "%" PRId64, *(const int64_t *)field);
        }
        return rp_strdup(out, word != NULL ? word->word : number);
    case RP_OPTION_REAL:
    case RP_OPTION_SECONDS:
        format_real(number, sizeof(number), *(const double *)field);
        if (row->words != NULL && *(const double *)field == rint(*(const double *)field)) {
            word = find_value(row->words, (int64_t) * (const double *)field);
        }
        return rp_strdup(out, word != NULL ? word->word : number);
    case RP_OPTION_STRING:
    case RP_OPTION_PATH:
        return *(char *const *)field != NULL ? rp_strdup(out, *(char *const *)field) : RP_OK;
    default:
        return RP_FAIL(RP_ERR_INTERNAL, "option %s has no text", row->name);
    }
}
