/* Checks before anything is written: whose folder it is, the lock, the job in it, the space. */
#include "jobs/out_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibrate.h"
#include "jobs/environ.h"
#include "jobs/manifest.h"
#include "jobs/run.h"

#define MAX_JOB_BYTES ((size_t)16 << 20)

static void warn(void *ctx, const char *text)
{
    const rp_session *s = ctx;

    RP_LOG(RP_LOG_WARN, "warning", rp_log_str("text", text));
    if (!s->cli->is_quiet) {
        (void)fprintf(stderr, "rankpress: warning: %s\n", text);
    }
}

/* Nothing in it but what a job that was killed at its very start leaves: locks, and the job's file
 * in the making. */
static bool is_empty(const char *dir)
{
    DIR *stream = RP_FAULT("opendir") ? NULL : opendir(dir);
    const struct dirent *entry = NULL;
    bool found = false;

    if (stream == NULL) {
        return true;
    }
    while ((entry = readdir(stream)) != NULL && !found) {
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                strncmp(entry->d_name, ".lock", 5) != 0 &&
                strcmp(entry->d_name, RP_JOB_FILE ".tmp") != 0;
    }
    (void)closedir(stream);
    return !found;
}

/* The folder's job must be this one. */
static rp_status check_same_job(const rp_job *job, const char *job_path)
{
    rp_status st = RP_OK;
    rp_job *before = NULL;
    char *old_lines = NULL;
    char *new_lines = NULL;
    char *differences = NULL;

    RP_TRY(rp_job_load(&before, job_path, NULL, 0));
    RP_TRY(rp_job_lines(&old_lines, before));
    RP_TRY(rp_job_lines(&new_lines, job));
    RP_TRY(rp_manifest_job_differences(&differences, old_lines, new_lines));
    if (differences[0] != '\0') {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "%s was started with another job (%s): use another output.dir, or that job",
                     job->output.dir, differences);
    }
out:
    free(differences);
    free(new_lines);
    free(old_lines);
    rp_job_destroy(&before);
    return st;
}

rp_status rp_out_folder_check(const rp_job *job)
{
    rp_status st = RP_OK;
    char *job_path = NULL;

    RP_TRY(rp_fs_join(&job_path, job->output.dir, RP_JOB_FILE));
    if (rp_fs_exists(job_path)) {
        RP_TRY(check_same_job(job, job_path));
    } else if (!is_empty(job->output.dir)) {
        st = RP_FAIL(RP_ERR_CONFIG, "%s: output folder is not empty and holds no job to go on with",
                     job->output.dir);
    }
out:
    free(job_path);
    return st;
}

static rp_status write_job(const rp_session *s, const char *job_path)
{
    rp_status st = RP_OK;
    char *text = NULL;

    RP_TRY(rp_job_to_yaml(&text, s->job));
    RP_TRY(rp_fs_write_file(job_path, text, strlen(text)));
out:
    free(text);
    return st;
}

static rp_status check_space(const rp_session *s, size_t needed_bytes)
{
    struct statvfs info;
    size_t free_bytes = 0;

    if (RP_FAULT("statvfs") || statvfs(s->job->output.dir, &info) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot ask for free space: %s",
                       s->job->output.dir, strerror(errno));
    }
    free_bytes = (size_t)info.f_bavail * info.f_frsize;
    if (free_bytes < needed_bytes) {
        return RP_FAIL(RP_ERR_IO, "%s: no space: the job writes up to %.1f MB, %.1f MB are free",
                       s->job->output.dir, (double)needed_bytes / 1e6, (double)free_bytes / 1e6);
    }
    return RP_OK;
}

/* Rank 0, under the lock. */
static rp_status claim(const rp_session *s, size_t needed_bytes)
{
    rp_status st = RP_OK;
    char *job_path = NULL;
    char *log_dir = NULL;

    RP_TRY(rp_fs_join(&job_path, s->job->output.dir, RP_JOB_FILE));
    RP_TRY(rp_fs_join(&log_dir, s->job->output.dir, RP_LOG_DIR));
    RP_TRY(rp_out_folder_check(s->job));
    RP_TRY(check_space(s, needed_bytes));
    RP_TRY(write_job(s, job_path));
    RP_TRY(rp_fs_make_dirs(log_dir));
out:
    free(log_dir);
    free(job_path);
    return st;
}

static rp_status open_log(const rp_session *s)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_strprintf(&path, "%s/%s/rank-%04d.jsonl", s->job->output.dir, RP_LOG_DIR,
                        rp_comm_rank(s->comm)));
    RP_TRY(rp_log_open(path, rp_comm_rank(s->comm), (rp_log_level)s->job->cluster.log_level));
out:
    free(path);
    return st;
}

/* What the bytes of the output depend on, as lines "key=value" and as their hash. */
static rp_status identify(const rp_session *s, rp_hash *hash, char **text)
{
    rp_status st = RP_OK;
    char *lines = NULL;
    uint64_t model[2];

    RP_TRY(rp_job_lines(&lines, s->job));
    rp_weights_fingerprint(s->weights, model);
    RP_TRY(rp_strprintf(text, "%smodel=%016llx%016llx\narithmetic=%s\nversion=%s\n", lines,
                        (unsigned long long)model[0], (unsigned long long)model[1], s->arithmetic,
                        RP_VERSION));
    *hash = rp_hash_bytes(*text, strlen(*text));
out:
    free(lines);
    return st;
}

static rp_status holds_lock(void *ctx)
{
    const rp_session *s = ctx;

    return rp_lock_check(s->lock);
}

static rp_status open_checkpoint(rp_session *s)
{
    rp_status st = RP_OK;
    rp_checkpoint_opts opts = rp_checkpoint_opts_default();
    rp_hash hash = {0, 0};
    char *text = NULL;
    char *dir = NULL;

    opts.keep = (int)s->job->cluster.checkpoint.keep;
    opts.pool = s->exec->pool;
    opts.queue_bytes = rp_calibrate_queue_bytes(s, rp_comm_nranks(s->comm));
    opts.warn = warn;
    opts.warn_ctx = s;
    opts.may_write = holds_lock;
    opts.may_write_ctx = s;
    opts.loose_key = "arithmetic";
    st = identify(s, &hash, &text);
    if (st == RP_OK) {
        st = rp_fs_join(&dir, s->job->output.dir, RP_CHECKPOINT_DIR);
    }
    RP_TRY(rp_agree(s->comm, st));
    RP_TRY(rp_checkpoint_open(&s->checkpoint, s->comm, dir, hash, text, &opts));
out:
    free(dir);
    free(text);
    return st;
}

static rp_status start_watchdog(rp_session *s)
{
    rp_watchdog_opts opts = rp_watchdog_opts_default();

    opts.interval_seconds = s->job->cluster.heartbeat_seconds;
    opts.deadline_seconds = s->job->cluster.peer_deadline_seconds;
    return rp_watchdog_start(&s->watchdog, s->comm, s->job->output.dir, &opts);
}

rp_status rp_out_folder_open(rp_session *session, size_t needed_bytes)
{
    rp_status st = RP_OK;
    const bool is_first = rp_comm_rank(session->comm) == 0;
    rp_lock_opts opts = rp_lock_opts_default();

    opts.warn = warn;
    opts.warn_ctx = session;
    opts.is_forced = session->cli->is_forced;
    opts.job_id = rp_environ_job_id(&opts.restarts);
    RP_TRY(rp_agree(session->comm, is_first ? rp_fs_make_dirs(session->job->output.dir) : RP_OK));
    RP_TRY(rp_lock_take(&session->lock, session->comm, session->job->output.dir, &opts));
    RP_TRY(rp_agree(session->comm, is_first ? claim(session, needed_bytes) : RP_OK));
    RP_TRY(rp_agree(session->comm, open_log(session)));
    RP_TRY(start_watchdog(session));
    if (session->linears.needs_calibration) {
        RP_TRY(open_checkpoint(session));
    }
out:
    return st;
}
