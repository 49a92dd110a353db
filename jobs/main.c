/* rankpress: one program, one subcommand a run. Every rank parses the same command line; one rank
 * prints what went wrong. */
#include "jobs/cmd.h"

#include "base/hash.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/environ.h"
#include "jobs/help.h"
#include "jobs/stop.h"

#include <stdio.h>
#include <string.h>

static rp_status fail_command(const char *name)
{
    rp_option rows[32] = {{.name = NULL}};
    const char *near = NULL;
    size_t n = 0;

    for (const rp_command *c = rp_commands(); c->name != NULL && n + 1 < RP_COUNT(rows); c++) {
        rows[n++].name = c->name;
    }
    near = rp_options_suggest(rows, name);
    if (near != NULL) {
        return RP_FAIL(RP_ERR_USAGE, "no command \"%s\" (did you mean \"%s\"?)", name, near);
    }
    return RP_FAIL(RP_ERR_USAGE, "no command \"%s\"; see rankpress --help", name);
}

static const rp_command *find_command(const char *name)
{
    for (const rp_command *c = rp_commands(); c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

/* --help, --version ...: rank 0 prints. */
static rp_status run_global(const char *name, const char *value, bool is_printing)
{
    for (const rp_global_option *g = rp_global_options(); g->name != NULL; g++) {
        if (strcmp(g->name, name) != 0) {
            continue;
        }
        if (g->arg != NULL && (value == NULL || strcmp(value, g->arg) != 0)) {
            return RP_FAIL(RP_ERR_USAGE, "option --%s: want %s", name, g->arg);
        }
        if (is_printing) {
            g->print(stdout);
        }
        return RP_OK;
    }
    return RP_FAIL(RP_ERR_USAGE, "unknown option --%s; see rankpress --help", name);
}

static rp_status check_operands(const rp_cli *cli)
{
    const rp_command *c = cli->command;

    if (cli->n_args < c->min_args) {
        return RP_FAIL(RP_ERR_USAGE, "rankpress %s: want %s", c->name, c->operands);
    }
    if (cli->n_args > c->max_args) {
        return RP_FAIL(RP_ERR_USAGE, "rankpress %s: too many operands: \"%s\"", c->name,
                       cli->args[c->max_args]);
    }
    for (const rp_option *row = c->options; row->name != NULL; row++) {
        char *value = NULL;
        if (row->is_required) {
            memcpy(&value, (const char *)cli + row->offset, sizeof(value));
            if (value == NULL) {
                return RP_FAIL(RP_ERR_USAGE, "rankpress %s: option --%s is missing", c->name,
                               row->name);
            }
        }
    }
    return RP_OK;
}

static rp_status parse_command(rp_cli *cli, int argc, char **argv)
{
    rp_status st = RP_OK;

    cli->command = find_command(argv[1]);
    if (cli->command == NULL) {
        return fail_command(argv[1]);
    }
    RP_TRY(rp_owner_calloc(&cli->owner, &cli->args, (size_t)argc, sizeof(cli->args[0])));
    RP_TRY(rp_options_set_defaults(cli->command->options, cli, &cli->owner));
    RP_TRY(rp_options_parse_args(cli->command->options, cli, &cli->owner, argc, argv, 2, cli->args,
                                 &cli->n_args));
    if (!cli->is_help) {
        RP_TRY(check_operands(cli));
    }
out:
    return st;
}

static rp_status run_command(rp_comm *comm, int argc, char **argv)
{
    rp_status st = RP_OK;
    rp_cli cli = {.comm = comm};
    const bool is_first = rp_comm_rank(comm) == 0;

    RP_TRY(rp_agree(comm, parse_command(&cli, argc, argv)));
    RP_TRY(rp_agree(comm, cli.command->is_stoppable ? rp_stop_install() : RP_OK));
    rp_stop_release();
    if (cli.is_help) {
        if (is_first) {
            rp_help_print_command(stdout, cli.command);
        }
    } else if (cli.command->is_local) {
        RP_TRY(rp_agree(comm, is_first ? cli.command->run(&cli) : RP_OK));
    } else {
        RP_TRY(cli.command->run(&cli));
    }
out:
    rp_owner_destroy(&cli.owner);
    return st;
}

static rp_status dispatch(rp_comm *comm, int argc, char **argv)
{
    rp_status st = RP_OK;
    const bool is_first = rp_comm_rank(comm) == 0;

    if (argc < 2) {
        st = RP_FAIL(RP_ERR_USAGE, "want a command; see rankpress --help");
        goto out;
    }
    if (strcmp(argv[1], "-h") == 0) {
        RP_TRY(run_global("help", NULL, is_first));
    } else if (strncmp(argv[1], "--", 2) == 0) {
        RP_TRY(run_global(argv[1] + 2, argv[2], is_first));
    } else {
        RP_TRY(run_command(comm, argc, argv));
    }
    if (is_first && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        st = RP_FAIL(RP_ERR_IO, "cannot write to standard output");
    }
out:
    return st;
}

/* The lowest rank with a failure of its own prints it; with its number unless all ranks say the
 * same. Needs no memory, since its lack may be what there is to report. */
static void report(rp_comm *comm, rp_status status)
{
    const int nranks = rp_comm_nranks(comm);
    const int rank = rp_comm_rank(comm);
    const bool is_own = status != RP_OK && status != RP_ERR_PEER;
    const char *message = rp_error_message();
    const rp_hash mine = rp_hash_bytes(message, strlen(message));
    rp_hash spoken = mine;
    double order = is_own ? nranks - rank : 0;
    int speaker = 0;
    bool is_same = true;

    rp_comm_allreduce_max_f64(comm, &order, 1);
    speaker = order > 0 ? nranks - (int)order : 0;
    rp_comm_bcast(comm, &spoken, sizeof(spoken), speaker);
    is_same = !rp_comm_any(comm, !is_own || !rp_hash_equal(spoken, mine));
    if (rank == speaker && status != RP_OK) {
        if (is_same || !is_own) {
            (void)fprintf(stderr, "rankpress: %s\n", message);
        } else {
            (void)fprintf(stderr, "rankpress: rank %d: %s\n", rank, message);
        }
    }
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    rp_status status = RP_OK;
    rp_status armed = RP_OK;

    rp_stop_hold();
    rp_environ_prepare(argv);
    rp_json_init();
    armed = rp_environ_arm_faults();
    status = rp_environ_has_launcher() ? rp_comm_create_world(&comm) : rp_comm_create_serial(&comm);
    if (status != RP_OK) {
        (void)fprintf(stderr, "rankpress: %s\n", rp_error_message());
        return rp_status_exit_code(status);
    }
    status = rp_agree(comm, armed);
    if (status == RP_OK) {
        status = dispatch(comm, argc, argv);
    }
    if (status == RP_OK) {
        status = rp_agree(comm, rp_environ_write_trace());
    }
    report(comm, status);
    rp_comm_destroy(&comm);
    return rp_status_exit_code(status);
}
