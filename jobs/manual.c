/* The man page. */
#include "jobs/help.h"

#include "jobs/job.h"

#include <string.h>

#define PATH_CHARS 256

/* ---- keys of a job file ---- */

/* Called for every key below the root; `path` of a list's entries has "[]" behind the list. */
typedef void (*key_fn)(FILE *f, const char *path, const rp_option *row);

static void walk_keys(FILE *f, const char *path, const rp_option *rows, key_fn fn)
{
    char below[PATH_CHARS];

    for (const rp_option *row = rows; row->name != NULL; row++) {
        (void)snprintf(below, sizeof(below), "%.120s%s%.120s", path, *path != '\0' ? "." : "",
                       row->name);
        fn(f, below, row);
        if (row->type == RP_OPTION_ITEMS || row->type == RP_OPTION_VARIANTS) {
            (void)snprintf(below, sizeof(below), "%.120s%s%.120s[]", path, *path != '\0' ? "." : "",
                           row->name);
        }
        if (row->rows != NULL) {
            walk_keys(f, below, row->rows, fn);
        }
    }
}

static const char *default_of(const rp_option *row)
{
    return row->is_required ? "required" : row->fallback != NULL ? row->fallback : "none";
}

/* ---- man page ---- */

/* roff: backslashes and leading dots are its own; "-" is written as a minus sign. */
static void put_roff(FILE *f, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\\') {
            (void)fputs("\\e", f);
        } else if (*c == '-') {
            (void)fputs("\\-", f);
        } else {
            (void)fputc(*c, f);
        }
    }
}

/* ".TP" entry: bold term, what follows it, text. */
static void put_entry(FILE *f, const char *prefix, const char *term, const char *arg)
{
    (void)fputs(".TP\n\\fB", f);
    put_roff(f, prefix);
    put_roff(f, term);
    (void)fputs("\\fR", f);
    if (arg != NULL) {
        (void)fputs(" \\fI", f);
        put_roff(f, arg);
        (void)fputs("\\fR", f);
    }
    (void)fputc('\n', f);
}

static void put_line(FILE *f, const char *text)
{
    put_roff(f, text);
    (void)fputc('\n', f);
}

static void put_option(FILE *f, const rp_option *row)
{
    char name[64];

    rp_help_option_name(row, name, sizeof(name));
    put_entry(f, "--", name, row->arg);
    put_roff(f, row->help);
    if (row->fallback != NULL) {
        (void)fputs(" (default: ", f);
        put_roff(f, row->fallback);
        (void)fputc(')', f);
    }
    (void)fputc('\n', f);
}

static void put_command(FILE *f, const rp_command *command)
{
    char usage[RP_USAGE_BYTES];

    rp_help_usage(command, usage, sizeof(usage));
    (void)fputs(".SS \"", f);
    put_roff(f, usage);
    (void)fputs("\"\n", f);
    put_roff(f, command->summary);
    (void)fputs(".\n.PP\n", f);
    put_line(f, command->description);
    for (const rp_option *row = command->options; row->name != NULL; row++) {
        put_option(f, row);
    }
}

static void put_key(FILE *f, const char *path, const rp_option *row)
{
    char type[512];

    put_entry(f, "", path, NULL);
    put_line(f, row->help);
    if (row->rows == NULL) {
        rp_option_describe(row, type, sizeof(type));
        (void)fputs("(", f);
        put_roff(f, type);
        (void)fputs("; default: ", f);
        put_roff(f, default_of(row));
        (void)fputs(")\n", f);
    }
}

void rp_help_print_man(FILE *f)
{
    (void)fputs(
        ".TH RANKPRESS 1 \"\" \"rankpress " RP_VERSION "\" \"User Commands\"\n"
        ".SH NAME\nrankpress \\- compress large language models on clusters\n"
        ".SH SYNOPSIS\n.B rankpress\n.I COMMAND\n[\\fIOPERAND\\fR]... [\\fIOPTION\\fR]...\n"
        ".br\n.B mpirun \\-n\n.I RANKS\n.B rankpress run\n.I JOB.yaml\n"
        ".SH DESCRIPTION\n"
        "rankpress quantises the linear layers of a model in a Hugging Face folder, layer by "
        "layer, on any number of ranks, and writes files that existing runtimes load.\n"
        "The bytes that it writes do not depend on the number of ranks or threads.\n"
        "A job is one YAML file; a stopped job goes on where it was.\n"
        ".SH OPTIONS\n",
        f);
    for (const rp_global_option *g = rp_global_options(); g->name != NULL; g++) {
        put_entry(f, "--", g->name, g->arg);
        put_line(f, g->help);
    }
    (void)fputs(".SH COMMANDS\n", f);
    for (const rp_command *c = rp_commands(); c->name != NULL; c++) {
        put_command(f, c);
    }
    (void)fputs(
        ".SH JOB FILE\n"
        "Keys of the YAML file; on the command line \\fIa.b\\fR=\\fIc\\fR replaces one, and a "
        "list's entries go by their index: \\fIrecipe.0.gptq.scheme\\fR=W3A16.\n"
        "Below, [] stands for an entry of a list.\n",
        f);
    walk_keys(f, "", rp_job_keys(), put_key);
    (void)fputs(".SH EXIT STATUS\n", f);
    for (const rp_exit_code *e = rp_exit_codes(); e->meaning != NULL; e++) {
        (void)fprintf(f, ".TP\n%d\n", rp_status_exit_code(e->status));
        put_line(f, e->meaning);
    }
    (void)fputs(".SH ENVIRONMENT\n.TP\nRANKPRESS_CORETYPE\n"
                "The kernels that OpenBLAS uses (its OPENBLAS_CORETYPE); when not set, rankpress "
                "chooses them by the processor's features and starts itself again.\n"
                ".TP\nSLURM_JOB_END_TIME\n"
                "When the batch system ends the job; an automatic walltime is taken from it.\n",
                f);
}
