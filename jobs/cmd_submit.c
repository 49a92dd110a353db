/* rankpress submit: everything that can be wrong is found before anything is written, for all
 * variants; then folder by folder the job, its batch script, and sbatch. */
#include "jobs/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/out_folder.h"
#include "jobs/plan.h"
#include "jobs/run.h"
#include "jobs/size_target.h"
#include "jobs/slurm_events.h"
#include "jobs/slurm_script.h"
#include "jobs/sweep.h"

/* A job ready to be written and submitted. */
typedef struct submission {
    rp_job *job; /* with absolute paths */
    char *yaml, *script;
} submission;

static rp_status check_launcher(const rp_job *job)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;

    if (slurm->container_image != NULL && slurm->launcher != RP_LAUNCHER_SRUN) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: cluster.slurm.container_image needs launcher: srun",
                       job->origin);
    }
    if (slurm->container_image == NULL && slurm->container_mounts.n > 0) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "%s: cluster.slurm.container_mounts is there without container_image",
                       job->origin);
    }
    return RP_OK;
}

/* What Slurm will give a rank, where the job does not say what a rank takes. */
static void inherit_limits(rp_job *job)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;

    if (job->cluster.threads == 0) {
        job->cluster.threads = slurm->cpus_per_task;
    }
    if (job->cluster.memory_per_rank == 0 && slurm->mem_bytes > 0) {
        job->cluster.memory_per_rank = slurm->mem_bytes / slurm->tasks_per_node;
    }
}

/* As plan does, for the fewest nodes. Takes the job. The memory of a node is not known here unless
 * the job says it. */
static rp_status check_plan(const rp_cli *cli, rp_job *job)
{
    rp_status st = RP_OK;
    rp_planning p;
    const int nranks =
        (int)(strtol(job->cluster.slurm.nodes, NULL, 10) * job->cluster.slurm.tasks_per_node);

    RP_TRY(rp_planning_open(&p, cli, job, nranks));
    if (job->cluster.memory_per_rank > 0) {
        RP_TRY(rp_agree(cli->comm, rp_plan_check(&p.plan, &p.session)));
    }
    RP_TRY(rp_agree(cli->comm, rp_out_folder_check(job)));
out:
    rp_planning_close(&p);
    return st;
}

/* Local. *job is made from the file, the command line and the variant. */
static rp_status load(rp_job **job, const rp_cli *cli, const rp_variant *variant)
{
    rp_status st = RP_OK;
    const int n_args = cli->n_args - 1;
    const char **overrides = NULL;
    char *dir = NULL;
    int n = 0;

    *job = NULL;
    RP_TRY(rp_job_load(job, cli->args[0], cli->args + 1, n_args));
    if (variant == NULL) {
        goto out;
    }
    RP_TRY(rp_strprintf(&dir, "output.dir=\"%s/%s\"", (*job)->output.dir, variant->name));
    RP_TRY(rp_calloc(&overrides, (size_t)n_args + (size_t)variant->n_overrides + 1,
                     sizeof(*overrides)));
    for (int i = 0; i < n_args; i++) {
        overrides[n++] = cli->args[1 + i];
    }
    for (int i = 0; i < variant->n_overrides; i++) {
        overrides[n++] = variant->overrides[i];
    }
    overrides[n++] = dir;
    rp_job_destroy(job);
    st = rp_job_load(job, cli->args[0], overrides, n);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s: variant %s", cli->sweep, variant->name);
    }
out:
    free(overrides);
    free(dir);
    return st;
}

static rp_status make_texts(submission *out, rp_job *job)
{
    rp_status st = RP_OK;

    RP_TRY(check_launcher(job));
    inherit_limits(job);
    RP_TRY(rp_job_to_yaml(&out->yaml, job));
    RP_TRY(rp_job_parse(&out->job, out->yaml, strlen(out->yaml), job->origin, NULL, 0));
    RP_TRY(rp_slurm_script(&out->script, out->job));
out:
    return st;
}

/* Collective. */
static rp_status prepare(submission *out, const rp_cli *cli, const rp_variant *variant)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;

    st = load(&job, cli, variant);
    if (st == RP_OK) {
        st = make_texts(out, job);
    }
    if (st != RP_OK) {
        rp_job_destroy(&job);
    }
    RP_TRY(rp_agree(cli->comm, st));
    RP_TRY(check_plan(cli, job));
out:
    return st;
}

static rp_status write_files(const submission *sub)
{
    rp_status st = RP_OK;
    const char *out_dir = sub->job->output.dir;
    char *dir = NULL;
    char *job = NULL;
    char *script = NULL;
    char *fruitless = NULL;

    RP_TRY(rp_fs_join(&dir, out_dir, RP_SLURM_DIR));
    RP_TRY(rp_fs_join(&job, out_dir, RP_JOB_FILE));
    RP_TRY(rp_fs_join(&script, out_dir, RP_SLURM_SCRIPT));
    RP_TRY(rp_fs_join(&fruitless, dir, "fruitless"));
    RP_TRY(rp_fs_make_dirs(dir));
    RP_TRY(rp_fs_write_file(job, sub->yaml, strlen(sub->yaml)));
    RP_TRY(rp_fs_write_file(script, sub->script, strlen(sub->script)));
    RP_TRY(rp_fs_remove_tree(fruitless)); /* somebody has seen to what stopped it */
out:
    free(fruitless);
    free(script);
    free(job);
    free(dir);
    return st;
}

/* Runs sbatch; id gets the number of the new job. */
static rp_status run_sbatch(char id[RP_SLURM_ID_CHARS], const char *command)
{
    rp_status st = RP_OK;
    char line[256] = "";
    int code = 0;
    FILE *pipe = NULL;

    if (system("command -v sbatch >/dev/null 2>&1") != 0) {
        return RP_FAIL(RP_ERR_CONFIG, "no sbatch here; --dry-run prints the script");
    }
    pipe = popen(command, "re");
    if (pipe == NULL) {
        return RP_FAIL(RP_ERR_INTERNAL, "cannot start sbatch: %s", strerror(errno));
    }
    if (fgets(line, sizeof(line), pipe) == NULL) {
        line[0] = '\0';
    }
    code = pclose(pipe);
    code = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
    if (code != 0 || sscanf(line, "%23[0-9]", id) != 1) {
        st =
            RP_FAIL(RP_ERR_CONFIG, "sbatch did not take the job (exit code %d): %s", code, command);
    }
    return st;
}

static rp_status submit(const rp_cli *cli, const submission *sub)
{
    rp_status st = RP_OK;
    char id[RP_SLURM_ID_CHARS] = "";
    char *path = NULL;
    char *script = NULL;
    char *dependency = NULL;
    char *command = NULL;

    RP_TRY(write_files(sub));
    RP_TRY(rp_fs_join(&path, sub->job->output.dir, RP_SLURM_SCRIPT));
    RP_TRY(rp_shell_quote(&script, path));
    RP_TRY(rp_shell_quote(&dependency, cli->dependency != NULL ? cli->dependency : ""));
    RP_TRY(rp_strprintf(
        &command, "sbatch --parsable %s%s%s%s", cli->dependency != NULL ? "--dependency=" : "",
        cli->dependency != NULL ? dependency : "", cli->dependency != NULL ? " " : "", script));
    RP_TRY(run_sbatch(id, command));
    RP_TRY(rp_slurm_note_submitted(sub->job->output.dir, id));
    (void)printf("%s\n", id);
out:
    free(command);
    free(dependency);
    free(script);
    free(path);
    return st;
}

/* Rank 0. */
static rp_status print_and_submit(const rp_cli *cli, const submission *subs, int64_t n)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < n; i++) {
        if (cli->is_dry_run || !cli->is_quiet) {
            (void)fputs(subs[i].script, stdout);
        }
        if (!cli->is_dry_run) {
            (void)fflush(stdout);
            RP_TRY(submit(cli, &subs[i]));
        }
    }
out:
    return st;
}

rp_status rp_cmd_submit(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const bool is_first = rp_comm_rank(cli->comm) == 0;
    rp_sweep sweep = {.n = 0};
    submission *subs = NULL;
    int64_t n = 1;

    if (cli->sweep != NULL) {
        RP_TRY(rp_agree(cli->comm, rp_sweep_load(&sweep, cli->sweep)));
        n = sweep.n;
    }
    RP_TRY(rp_agree(cli->comm, rp_calloc(&subs, (size_t)n, sizeof(*subs))));
    for (int64_t i = 0; i < n; i++) {
        RP_TRY(prepare(&subs[i], cli, sweep.n > 0 ? &sweep.items[i] : NULL));
    }
    RP_TRY(rp_agree(cli->comm, is_first ? print_and_submit(cli, subs, n) : RP_OK));
out:
    for (int64_t i = 0; i < n && subs != NULL; i++) {
        rp_job_destroy(&subs[i].job);
        free(subs[i].script);
        free(subs[i].yaml);
    }
    free(subs);
    rp_sweep_destroy(&sweep);
    return st;
}
