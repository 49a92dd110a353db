/* --help of the program and of its commands. */
#include "jobs/help.h"

#include "base/mem.h"

#include <string.h>

#define HELP_COLUMNS 80
#define OPTION_COLUMN 26

static const rp_exit_code exit_codes[] = {
    {RP_OK, "done"},
    {RP_ERR_GATE, "done, but a gate failed; the files are kept"},
    {RP_ERR_USAGE, "command line"},
    {RP_ERR_FORMAT, "an input file is missing or not what its format says"},
    {RP_ERR_INTERNAL, "internal"},
    {RP_ERR_MEMORY, "no memory, or no device"},
    {RP_ERR_LOCKED, "the output folder is in use by a live job"},
    {RP_ERR_IO, "a read or write failed, or there is no space"},
    {RP_ERR_STOPPED, "stopped, can be resumed"},
    {RP_ERR_PERM, "permission"},
    {RP_ERR_CONFIG, "job file"},
    {RP_OK, NULL},
};

const rp_exit_code *rp_exit_codes(void)
{
    return exit_codes;
}

static void print_version(FILE *f)
{
    (void)fprintf(f, "rankpress %s\n", RP_VERSION);
}

static const rp_global_option global_options[] = {
    {"help", NULL, "print this help", rp_help_print_program},
    {"version", NULL, "print the version", print_version},
    {"man", NULL, "print the man page", rp_help_print_man},
    {"completion", "bash", "print the completion for a shell", rp_help_print_completion},
    {NULL, NULL, NULL, NULL},
};

const rp_global_option *rp_global_options(void)
{
    return global_options;
}

void rp_help_option_name(const rp_option *row, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s", row->name);
    for (char *c = out; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c;
    }
}

/* Text in lines of at most HELP_COLUMNS, from `column` on; the cursor is at `at`. */
static void print_wrapped(FILE *f, int at, int column, const char *text)
{
    bool is_line_start = at <= column;

    (void)fprintf(f, "%*s", RP_MAX(column - at, 0), "");
    at = RP_MAX(at, column);
    while (*text != '\0') {
        const int n = (int)strcspn(text, " ");
        if (!is_line_start && at + 1 + n > HELP_COLUMNS) {
            (void)fprintf(f, "\n%*s", column, "");
            at = column;
            is_line_start = true;
        }
        at += fprintf(f, "%s%.*s", is_line_start ? "" : " ", n, text);
        is_line_start = false;
        text += n;
        text += strspn(text, " ");
    }
    (void)fputc('\n', f);
}

static void print_option(FILE *f, const rp_option *row)
{
    char name[64];
    char help[512];
    int at = 0;

    rp_help_option_name(row, name, sizeof(name));
    at = fprintf(f, "  --%s%s%s", name, row->arg != NULL ? " " : "",
                 row->arg != NULL ? row->arg : "");
    (void)snprintf(help, sizeof(help), "%s%s%s%s", row->help,
                   row->fallback != NULL ? " (default: " : "",
                   row->fallback != NULL ? row->fallback : "", row->fallback != NULL ? ")" : "");
    if (at >= OPTION_COLUMN) {
        (void)fputc('\n', f);
        at = 0;
    }
    print_wrapped(f, at, OPTION_COLUMN, help);
}

void rp_help_usage(const rp_command *command, char *out, size_t out_bytes)
{
    size_t n = (size_t)snprintf(out, out_bytes, "rankpress %s%s%s", command->name,
                                *command->operands != '\0' ? " " : "", command->operands);

    for (const rp_option *row = command->options; row->name != NULL && n < out_bytes; row++) {
        if (row->is_required) {
            n += (size_t)snprintf(out + n, out_bytes - n, " --%s %s", row->name, row->arg);
        }
    }
    if (n < out_bytes) {
        (void)snprintf(out + n, out_bytes - n, " [OPTION]...");
    }
}

void rp_help_print_command(FILE *f, const rp_command *command)
{
    char usage[RP_USAGE_BYTES];

    rp_help_usage(command, usage, sizeof(usage));
    (void)fprintf(f, "usage: %s\n", usage);
    (void)fprintf(f, "%s\n\n", command->summary);
    print_wrapped(f, 0, 0, command->description);
    (void)fputs("\noptions:\n", f);
    for (const rp_option *row = command->options; row->name != NULL; row++) {
        print_option(f, row);
    }
}

void rp_help_print_program(FILE *f)
{
    (void)fputs("usage: rankpress COMMAND [OPERAND]... [OPTION]...\n"
                "       mpirun -n RANKS rankpress run JOB.yaml\n"
                "compresses large language models on clusters\n\ncommands:\n",
                f);
    for (const rp_command *c = rp_commands(); c->name != NULL; c++) {
        const int at = fprintf(f, "  %s", c->name);
        print_wrapped(f, at, 15, c->summary);
    }
    (void)fputs("\noptions:\n", f);
    for (const rp_global_option *g = global_options; g->name != NULL; g++) {
        const int at = fprintf(f, "  --%s%s%s", g->name, g->arg != NULL ? " " : "",
                               g->arg != NULL ? g->arg : "");
        print_wrapped(f, at, OPTION_COLUMN, g->help);
    }
    (void)fputs("\n`rankpress COMMAND --help` lists the options of a command; the keys of a job "
                "file are in\nrankpress(1).\n",
                f);
}
