/* rankpress status: how far a job is, from its files alone; works while it runs, and from a login
 * node. */
#include "jobs/calibrate.h"
#include "jobs/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/job.h"
#include "jobs/manifest.h"
#include "jobs/print.h"
#include "jobs/run.h"
#include "model/gguf_map.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)

typedef struct job_state {
    const char *state; /* "done", "running", "stopped" */
    int64_t layers_done, n_layers, generation;
    char *last_error; /* of rank 0's log, NULL: none */
    json_t *report;   /* NULL: not done */
} job_state;

static rp_status read_manifest(job_state *out, const char *dir)
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
    for (int64_t l = 0; l < out->n_layers; l++) {
        rp_calibrate_facts_unit(unit, sizeof(unit), l, RP_SITE_COUNT - 1);
        (void)rp_manifest_find(&manifest, unit, &n);
        if (n == 0) {
            break;
        }
        out->layers_done = l + 1;
    }
out:
    rp_manifest_clear(&manifest);
    free(file);
    free(path);
    return st;
}

static rp_status read_model(job_state *out, const rp_job *job)
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

/* The message of the last event "end" of rank 0's log. */
static rp_status read_log(job_state *out, const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_strprintf(&path, "%s/%s/rank-0000.jsonl", dir, RP_LOG_DIR));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_FILE_BYTES));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *event = json_loads(line, 0, NULL);
        const char *message = json_string_value(json_object_get(event, "message"));
        const char *name = json_string_value(json_object_get(event, "event"));
        if (name != NULL && strcmp(name, "end") == 0 && message != NULL) {
            free(out->last_error);
            out->last_error = NULL;
            st = rp_strdup(&out->last_error, message);
        }
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
        is_live = stat(path, &info) == 0 && time(NULL) - info.st_mtime < 120;
    }
    free(path);
    return is_live;
}

static rp_status read_state(job_state *out, const char *dir)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    char *path = NULL;
    char *report = NULL;

    RP_TRY(rp_fs_join(&path, dir, RP_JOB_FILE));
    RP_TRY(rp_fs_join(&report, dir, RP_REPORT_FILE));
    if (!rp_fs_exists(path)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not a folder of a started job: it has no %s", dir,
                     RP_JOB_FILE);
        goto out;
    }
    RP_TRY(rp_job_load(&job, path, NULL, 0));
    RP_TRY(read_model(out, job));
    RP_TRY(read_manifest(out, dir));
    RP_TRY(read_log(out, dir));
    out->state = is_locked(dir) ? "running" : "stopped";
    if (rp_fs_exists(report)) {
        RP_TRY(rp_json_load(&out->report, report));
        out->state = "done";
    }
out:
    free(report);
    free(path);
    rp_job_destroy(&job);
    return st;
}

static rp_status print_state(const rp_cli *cli, const job_state *state)
{
    rp_status st = RP_OK;
    json_t *root = NULL;

    if (!cli->is_json) {
        (void)printf("%s: %s\n", cli->args[0], state->state);
        (void)printf("  layers solved  %lld of %lld\n", (long long)state->layers_done,
                     (long long)state->n_layers);
        (void)printf("  commits        %lld\n", (long long)state->generation);
        if (state->report != NULL) {
            (void)printf("  seconds        %.1f\n",
                         json_number_value(json_object_get(state->report, "seconds")));
        }
        if (state->last_error != NULL && state->report == NULL) {
            (void)printf("  last message   %s\n", state->last_error);
        }
        return RP_OK;
    }
    root = json_pack("{s:s, s:s, s:I, s:I, s:I, s:s?}", "path", cli->args[0], "state", state->state,
                     "layers_done", (json_int_t)state->layers_done, "layers",
                     (json_int_t)state->n_layers, "commits", (json_int_t)state->generation,
                     "last_message", state->last_error);
    RP_TRY(rp_json_made(root));
    RP_TRY(rp_print_json(root));
out:
    json_decref(root);
    return st;
}

rp_status rp_cmd_status(const rp_cli *cli)
{
    rp_status st = RP_OK;
    job_state state = {0};

    RP_TRY(read_state(&state, cli->args[0]));
    RP_TRY(print_state(cli, &state));
out:
    json_decref(state.report);
    free(state.last_error);
    return st;
}
