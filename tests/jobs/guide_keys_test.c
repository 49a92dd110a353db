/* The user guide's reference of job file keys is the table of keys.
 *
 * usage: guide_keys GUIDE [--write]. Makes Markdown of the table and compares it with what stands
 * in the guide between the two marks; --write puts it there. */
#include "jobs/job.h"

#include "base/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char begin_mark[] = "<!-- keys -->\n";
static const char end_mark[] = "<!-- /keys -->\n";

static void print_rows(FILE *f, const rp_option *rows, const char *prefix);

static void print_row(FILE *f, const rp_option *row, const char *prefix)
{
    const bool is_list = row->type == RP_OPTION_ITEMS || row->type == RP_OPTION_VARIANTS;
    const char *star = row->is_required ? " *" : "";
    char name[256], value[512] = "";

    (void)snprintf(name, sizeof(name), "%s%s", prefix, row->name);
    if (row->rows != NULL) {
        fprintf(f, "| **`%s%s`**%s | %s | | %s |\n", name, is_list ? "[]" : "", star,
                is_list ? "a list" : "", row->help);
        (void)snprintf(name, sizeof(name), "%s%s%s.", prefix, row->name, is_list ? "[]" : "");
        print_rows(f, row->rows, name);
        return;
    }
    rp_option_describe(row, value, sizeof(value));
    fprintf(f, "| `%s`%s | %s | %s%s%s | %s |\n", name, star, value,
            row->fallback == NULL ? "" : "`", row->fallback == NULL ? "" : row->fallback,
            row->fallback == NULL ? "" : "`", row->help);
}

static void print_rows(FILE *f, const rp_option *rows, const char *prefix)
{
    for (const rp_option *row = rows; row->name != NULL; row++) {
        print_row(f, row, prefix);
    }
}

static char *keys_as_markdown(void)
{
    char *text = NULL;
    size_t nbytes = 0;
    FILE *f = open_memstream(&text, &nbytes);

    if (f == NULL) {
        return NULL;
    }
    fprintf(f, "| key | value | default | |\n| --- | --- | --- | --- |\n");
    print_rows(f, rp_job_keys(), "");
    fprintf(f, "\nRequired keys have a star (in what the job uses); `[]` is an entry of a list.\n");
    return fclose(f) == 0 ? text : NULL;
}

/* The guide with `keys` between its marks; NULL when a mark is missing. */
static char *guide_with(const char *guide, const char *keys)
{
    const char *begin = strstr(guide, begin_mark), *end = strstr(guide, end_mark);
    char *text = NULL;

    if (begin == NULL || end == NULL || end < begin) {
        return NULL;
    }
    begin += strlen(begin_mark);
    if (asprintf(&text, "%.*s%s%s", (int)(begin - guide), guide, keys, end) < 0) {
        return NULL;
    }
    return text;
}

int main(int argc, char **argv)
{
    char *guide = NULL, *keys = keys_as_markdown(), *wanted = NULL;
    size_t nbytes = 0;
    rp_status st = RP_OK;
    int rc = 1;

    if (argc < 2 || keys == NULL) {
        return 64;
    }
    RP_TRY(rp_fs_read_file(&guide, &nbytes, argv[1], 1 << 20));
    wanted = guide_with(guide, keys);
    if (wanted == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: no place for the keys", argv[1]);
        goto out;
    }
    if (strcmp(wanted, guide) == 0) {
        rc = 0;
    } else if (argc > 2 && strcmp(argv[2], "--write") == 0) {
        RP_TRY(rp_fs_write_file(argv[1], wanted, strlen(wanted)));
        rc = 0;
    } else {
        fprintf(stderr, "%s: its keys are not those of the program; run: %s %s --write\n", argv[1],
                argv[0], argv[1]);
    }
out:
    if (st != RP_OK) {
        fprintf(stderr, "%s\n", rp_error_message());
    }
    free(guide);
    free(keys);
    free(wanted);
    return rc;
}
