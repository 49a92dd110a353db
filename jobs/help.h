/* Help, man page and completion: all printed from the tables. */
#ifndef RP_JOBS_HELP_H
#define RP_JOBS_HELP_H

#include <stdio.h>

#include "jobs/cmd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An option of the program itself: `rankpress --version`. */
typedef struct rp_global_option {
    const char *name; /* NULL ends the table */
    const char *arg;  /* its only value, or NULL */
    const char *help;
    void (*print)(FILE *f);
} rp_global_option;

/* Local. */
const rp_global_option *rp_global_options(void);
void rp_help_print_program(FILE *f);
void rp_help_print_command(FILE *f, const rp_command *command);
/* Local. The man page in roff, in manual.c. */
void rp_help_print_man(FILE *f);
/* Local. The bash completion, in completion.c. */
void rp_help_print_completion(FILE *f);

/* Local. What an exit code means; NULL ends the table. */
typedef struct rp_exit_code {
    rp_status status;
    const char *meaning;
} rp_exit_code;
const rp_exit_code *rp_exit_codes(void);
#define RP_USAGE_BYTES 256
/* Local. "rankpress eval MODEL --text FILE [OPTION]..." into out [out_bytes]. */
void rp_help_usage(const rp_command *command, char *out, size_t out_bytes);
/* Local. An option's name as it is typed, "max-windows", into out [out_bytes]. */
void rp_help_option_name(const rp_option *row, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif
