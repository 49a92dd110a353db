/* Subcommands: one table row and one function each. */
#ifndef RP_JOBS_CMD_H
#define RP_JOBS_CMD_H

#include "jobs/options.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rp_command;

/* A parsed command line: the fields of every subcommand's options. */
typedef struct rp_cli {
    const struct rp_command *command;
    rp_owner owner;
    rp_comm *comm;     /* borrowed from main */
    const char **args; /* operands after the subcommand, borrowed from argv */
    int n_args;
    bool is_help, is_json, is_quiet;
    char *text;      /* a file */
    char *base;      /* the unquantised model's folder */
    char *tokenizer; /* the folder it is in, when not the model's */
    char *model;
    int64_t context, max_windows; /* 0: as in a job file */
    int64_t variant;              /* rp_window_variant */
    int64_t threads;              /* 0: auto */
    int64_t backend;              /* rp_backend */
    int64_t ranks;                /* 0: as many as there are */
    int64_t m, n, k;              /* 0: a range of shapes */
    int64_t products;             /* rp_products or RP_PRODUCTS_AUTO */
    bool add_bos, is_decode, is_special;
    bool is_dry_run, is_watching;
    char *sweep;      /* a file of variants */
    char *dependency; /* for sbatch */
    double watch_seconds;
    bool is_forced; /* the output folder's lock is taken whoever has it */
} rp_cli;

/* Logically collective on cli->comm: every rank calls it with the same command line. Only rank 0
 * prints. */
typedef rp_status (*rp_cmd_fn)(const rp_cli *cli);

typedef struct rp_command {
    const char *name; /* NULL ends the table */
    const char *summary;
    const char *operands; /* "JOB.yaml [KEY=VALUE]..." */
    int min_args, max_args;
    bool is_local;     /* needs no other rank: runs on rank 0 alone */
    bool is_stoppable; /* saves its work when a signal asks it to stop */
    const rp_option *options;
    rp_cmd_fn run;
    const char *description; /* a paragraph for --help and the man page */
} rp_command;

/* Local. All subcommands in the order of the help. */
const rp_command *rp_commands(void);

rp_status rp_cmd_plan(const rp_cli *cli);
rp_status rp_cmd_run(const rp_cli *cli);
rp_status rp_cmd_resume(const rp_cli *cli);
rp_status rp_cmd_status(const rp_cli *cli);
rp_status rp_cmd_submit(const rp_cli *cli);
rp_status rp_cmd_eval(const rp_cli *cli);
rp_status rp_cmd_imatrix(const rp_cli *cli);
rp_status rp_cmd_inspect(const rp_cli *cli);
rp_status rp_cmd_verify(const rp_cli *cli);
rp_status rp_cmd_tokenize(const rp_cli *cli);
rp_status rp_cmd_bench_gemm(const rp_cli *cli);

#ifdef __cplusplus
}
#endif
#endif
