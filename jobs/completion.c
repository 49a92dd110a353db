/* The bash completion: commands, then a command's options, keys of a job file and paths. */
#include "jobs/help.h"

#include "jobs/job.h"

#include <string.h>

static void put_words(FILE *f, const rp_option *rows)
{
    char name[64];

    for (const rp_option *row = rows; row->name != NULL; row++) {
        rp_help_option_name(row, name, sizeof(name));
        (void)fprintf(f, "%s--%s", row == rows ? "" : " ", name);
    }
}

/* "model= output.dir= ...": the keys outside lists. */
static void put_keys(FILE *f, const char *path, const rp_option *rows)
{
    char below[128];

    for (const rp_option *row = rows; row->name != NULL; row++) {
        (void)snprintf(below, sizeof(below), "%.60s%s%.60s", path, *path != '\0' ? "." : "",
                       row->name);
        if (row->type == RP_OPTION_SECTION) {
            put_keys(f, below, row->rows);
        } else if (row->rows == NULL) {
            (void)fprintf(f, " %s=", below);
        }
    }
}

void rp_help_print_completion(FILE *f)
{
    (void)fputs("# bash completion of rankpress; made by `rankpress --completion bash`\n"
                "_rankpress()\n{\n"
                "    local current=${COMP_WORDS[COMP_CWORD]} words\n"
                "    COMPREPLY=()\n"
                "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
                "        words='",
                f);
    for (const rp_command *c = rp_commands(); c->name != NULL; c++) {
        (void)fprintf(f, "%s%s", c == rp_commands() ? "" : " ", c->name);
    }
    for (const rp_global_option *g = rp_global_options(); g->name != NULL; g++) {
        (void)fprintf(f, " --%s", g->name);
    }
    (void)fputs("'\n    else\n        case ${COMP_WORDS[1]} in\n", f);
    for (const rp_command *c = rp_commands(); c->name != NULL; c++) {
        (void)fprintf(f, "            %s) words='", c->name);
        put_words(f, c->options);
        if (strstr(c->operands, "KEY=VALUE") != NULL) {
            put_keys(f, "", rp_job_keys());
        }
        (void)fputs("' ;;\n", f);
    }
    (void)fputs(
        "            --completion) words=bash ;;\n"
        "            *) words='' ;;\n"
        "        esac\n    fi\n"
        "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
        "    if [ \"$COMP_CWORD\" -gt 1 ] && [ \"${current#-}\" = \"$current\" ]; then\n"
        "        mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$current\")\n"
        "    fi\n"
        "    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace\n"
        "}\ncomplete -o filenames -F _rankpress rankpress\n",
        f);
}
