/* The manifest says what is safe, rank 0's log what goes on, slurm/events.jsonl what Slurm has to
 * do with it, the lock whether anybody works. All are whole at any moment, but for the last line of
 * a log. */
#include "jobs/job_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/calibrate.h"
#include "jobs/job.h"
#include "jobs/manifest.h"
#include "jobs/print.h"
#include "jobs/run.h"
#include "model/gguf_map.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)
#define LIVE_LOCK_SECONDS 120

static rp_status read_manifest(rp_job_state *out, const char *dir)
{
    rp_status st = RP_OK;
    rp_manifest manifest = {0};
    char *path = NULL;
    char *file = NULL;
    char unit[64];
    size_t n = 0;

    RP_TRY(rp_fs_join(&path, dir, RP_CHECKPOINT_DIR));
    RP_TRY(rp_fs_join(&file, path, "manifest.json"));
    if (!rp_fs_exists(file)) {
        goto out;
    }
    RP_TRY(rp_manifest_read(&manifest, path, 0));
    rp_manifest_sort(&manifest);
    out->generation = manifest.generation;
    do {
        rp_calibrate_facts_unit(unit, sizeof(unit), out->layers_done, RP_SITE_COUNT - 1);
        (void)rp_manifest_find(&manifest, unit, &n);
        out->layers_done += n > 0;
    } while (n > 0);
out:
    rp_manifest_clear(&manifest);
    free(file);
    free(path);
    return st;
}

static rp_status read_model(rp_job_state *out, const rp_job *job)
{
    rp_status st = RP_OK;
    char *path = NULL;
    json_t *root = NULL;
    rp_gguf *gguf = NULL;
    rp_model_config config;

    if (rp_fs_is_dir(job->model)) {
        RP_TRY(rp_fs_join(&path, job->model, "config.json"));
        RP_TRY(rp_json_load(&root, path));
        RP_TRY(rp_model_config_parse(&config, root));
    } else {
        RP_TRY(rp_gguf_open(&gguf, job->model));
        RP_TRY(rp_gguf_read_config(&config, gguf));
    }
    out->n_layers = config.n_layers;
out:
    rp_gguf_close(&gguf);
    json_decref(root);
    free(path);
    return st;
}

static rp_status replace_text(char **out, const char *text)
{
    free(*out);
    *out = NULL;
    return rp_strdup(out, text);
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static rp_status take_event(rp_job_state *out, const json_t *event, double *opened)
{
    rp_status st = RP_OK;
    const char *name = rp_json_text(event, "event");

    if (strcmp(name, "start") == 0) {
        out->stops++;
        out->ranks = (int64_t)number_at(event, "ranks");
        *opened = number_at(event, "epoch") - number_at(event, "t");
    } else if (strcmp(name, "end") == 0) {
        RP_TRY(replace_text(&out->last_message, rp_json_text(event, "message")));
    } else if (strcmp(name, "progress") == 0) {
        RP_TRY(replace_text(&out->stage.what, rp_json_text(event, "what")));
        RP_TRY(replace_text(&out->stage.unit, rp_json_text(event, "unit")));
        out->stage.done = number_at(event, "done");
        out->stage.total = number_at(event, "total");
        out->stage.per_second = number_at(event, "per_second");
        out->stage.epoch = *opened + number_at(event, "t");
    }
out:
    return st;
}

/* out->stops becomes the number of runs. */
static rp_status read_log(rp_job_state *out, const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    char *rest = NULL;
    double opened = 0;
    size_t nbytes = 0;

    RP_TRY(rp_strprintf(&path, "%s/%s/rank-0000.jsonl", dir, RP_LOG_DIR));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_FILE_BYTES));
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        json_t *event = json_loads(line, 0, NULL);
        st = take_event(out, event, &opened);
        json_decref(event);
        RP_TRY(st);
    }
out:
    free(text);
    free(path);
    return st;
}

/* A lock that was touched lately: the job works. */
static bool is_locked(const char *dir)
{
    char *path = NULL;
    struct stat info;
    bool is_live = false;

    if (rp_fs_join(&path, dir, ".lock") == RP_OK) {
        is_live = stat(path, &info) == 0 && time(NULL) - info.st_mtime < LIVE_LOCK_SECONDS;
    }
    free(path);
    return is_live;
}

static const char *name_state(const rp_job_state *s, const char *dir)
{
    const char *event = s->jobs.n > 0 ? s->jobs.items[s->jobs.n - 1].event : "";

    if (s->report != NULL) {
        return "done";
    }
    if (is_locked(dir)) {
        return "running";
    }
    return strcmp(event, "submitted") == 0 || strcmp(event, "requeued") == 0 ? "queued" : "stopped";
}

rp_status rp_job_state_read(rp_job_state *out, const char *dir)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    char *path = NULL;
    char *report = NULL;

    *out = (rp_job_state){.state = NULL};
    RP_TRY(rp_fs_join(&path, dir, RP_JOB_FILE));
    RP_TRY(rp_fs_join(&report, dir, RP_REPORT_FILE));
    if (!rp_fs_exists(path)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not a folder of a started job: it has no %s", dir,
                     RP_JOB_FILE);
        goto out;
    }
    RP_TRY(rp_job_load(&job, path, NULL, 0));
    if (read_model(out, job) != RP_OK) {
        out->n_layers = 0; /* a login node need not see the model */
    }
    RP_TRY(read_manifest(out, dir));
    RP_TRY(read_log(out, dir));
    RP_TRY(rp_slurm_jobs_read(&out->jobs, dir));
    if (rp_fs_exists(report)) {
        RP_TRY(rp_json_load(&out->report, report));
    }
    out->state = name_state(out, dir);
    if (strcmp(out->state, "done") == 0 || strcmp(out->state, "running") == 0) {
        out->stops -= out->stops > 0;
    }
out:
    free(report);
    free(path);
    rp_job_destroy(&job);
    return st;
}

void rp_job_state_clear(rp_job_state *state)
{
    rp_slurm_jobs_clear(&state->jobs);
    json_decref(state->report);
    free(state->last_message);
    free(state->stage.unit);
    free(state->stage.what);
    *state = (rp_job_state){.state = NULL};
}

double rp_job_state_seconds_left(const rp_job_state *state)
{
    const rp_job_stage *stage = &state->stage;

    if (stage->per_second <= 0) {
        return -1;
    }
    return RP_MAX(0, (stage->total - stage->done) / stage->per_second -
                         (difftime(time(NULL), 0) - stage->epoch));
}
