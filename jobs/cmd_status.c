/* rankpress status: how far a job is, from its files alone; works while it runs, and from a login
 * node. What Slurm says of its jobs is asked for and not needed. */
#include "jobs/cmd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/progress.h"
#include "formats/json.h"
#include "jobs/job_state.h"
#include "jobs/print.h"
#include "jobs/text_buffer.h"

/* Of the last so many jobs Slurm is asked for their states. */
#define ASKED_JOBS 20
#define STATE_CHARS 24

typedef struct slurm_states {
    char id[ASKED_JOBS][RP_SLURM_ID_CHARS];
    char state[ASKED_JOBS][STATE_CHARS];
    int n;
} slurm_states;

/* None without Slurm, or where it has forgotten the jobs. */
static rp_status ask_slurm(slurm_states *out, const rp_slurm_jobs *jobs)
{
    rp_status st = RP_OK;
    const int64_t first = RP_MAX(0, jobs->n - ASKED_JOBS);
    rp_text text = {0};
    char *command = NULL;
    FILE *pipe = NULL;
    char line[256];

    out->n = 0;
    if (jobs->n == 0) {
        return RP_OK;
    }
    RP_TRY(rp_text_open(&text));
    rp_text_put(&text, "timeout 5 squeue -h -t all -o '%%i %%T' -j ");
    for (int64_t i = first; i < jobs->n; i++) {
        rp_text_put(&text, "%s%s", i > first ? "," : "", jobs->items[i].id);
    }
    rp_text_put(&text, " 2>/dev/null");
    RP_TRY(rp_text_finish(&text, &command));
    pipe = popen(command, "re");
    while (pipe != NULL && out->n < ASKED_JOBS && fgets(line, sizeof(line), pipe) != NULL) {
        out->n += sscanf(line, "%23[0-9] %23[A-Z_]", out->id[out->n], out->state[out->n]) == 2;
    }
out:
    if (pipe != NULL) {
        (void)pclose(pipe);
    }
    free(command);
    rp_text_discard(&text);
    return st;
}

/* What Slurm says of a job, "" when it says nothing. */
static const char *state_of(const slurm_states *states, const char *id)
{
    for (int i = 0; i < states->n; i++) {
        if (strcmp(states->id[i], id) == 0) {
            return states->state[i];
        }
    }
    return "";
}

/* After the end of a node Slurm itself puts the job back into the queue; a lock may be left. */
static bool is_waiting(const rp_slurm_jobs *jobs, const slurm_states *states)
{
    return jobs->n > 0 && strcmp(state_of(states, jobs->items[jobs->n - 1].id), "PENDING") == 0;
}

static void print_stage(const rp_job_state *s)
{
    const rp_job_stage *stage = &s->stage;
    const double left = rp_job_state_seconds_left(s);
    char time_text[32];

    if (stage->what == NULL || s->report != NULL) {
        return;
    }
    (void)printf("  stage          %s, %.0f of %.0f %s", stage->what, floor(stage->done),
                 stage->total, stage->unit);
    if (stage->per_second > 0) {
        (void)printf(", %.3g %s/s", stage->per_second, stage->unit);
    }
    (void)printf("\n");
    if (left >= 0 && strcmp(s->state, "running") == 0) {
        rp_progress_format_seconds(time_text, sizeof(time_text), left);
        (void)printf("  time left      about %s in this stage\n", time_text);
    }
}

static void print_jobs(const rp_slurm_jobs *jobs, const slurm_states *states)
{
    for (int64_t i = 0; i < jobs->n; i++) {
        const rp_slurm_job *job = &jobs->items[i];
        (void)printf("  %-14s %s %s", i == 0 ? "Slurm jobs" : "", job->id, job->event);
        if (job->code >= 0) {
            (void)printf(" with exit code %d", job->code);
        }
        (void)printf("%s%s\n", *state_of(states, job->id) != '\0' ? ", " : "",
                     state_of(states, job->id));
    }
}

static void print_for_people(const char *dir, const rp_job_state *s, const slurm_states *states)
{
    (void)printf("%s: %s\n", dir, s->state);
    print_stage(s);
    if (s->n_layers > 0) {
        (void)printf("  layers solved  %lld of %lld\n", (long long)s->layers_done,
                     (long long)s->n_layers);
    } else {
        (void)printf("  layers solved  %lld\n", (long long)s->layers_done);
    }
    (void)printf("  commits        %lld\n", (long long)s->generation);
    (void)printf("  stops so far   %lld\n", (long long)s->stops);
    if (s->report != NULL) {
        (void)printf("  seconds        %.1f\n",
                     json_number_value(json_object_get(s->report, "seconds")));
    }
    print_jobs(&s->jobs, states);
    if (s->last_message != NULL && s->report == NULL) {
        (void)printf("  last message   %s\n", s->last_message);
    }
}

static json_t *stage_json(const rp_job_state *s)
{
    const double left = rp_job_state_seconds_left(s);

    if (s->stage.what == NULL) {
        return json_null();
    }
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:o, s:I}", "name", s->stage.what, "unit",
                     s->stage.unit, "done", s->stage.done, "total", s->stage.total, "per_second",
                     s->stage.per_second, "seconds_left", left >= 0 ? json_real(left) : json_null(),
                     "time", (json_int_t)s->stage.epoch);
}

static json_t *jobs_json(const rp_slurm_jobs *jobs, const slurm_states *states)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < jobs->n; i++) {
        const rp_slurm_job *job = &jobs->items[i];
        const char *state = state_of(states, job->id);
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:s?}", "id", job->id, "event", job->event, "code",
                            job->code >= 0 ? json_integer(job->code) : json_null(), "state",
                            *state != '\0' ? state : NULL));
    }
    return list;
}

static rp_status print_as_json(const char *dir, const rp_job_state *s, const slurm_states *states)
{
    rp_status st = RP_OK;
    json_t *root = json_pack(
        "{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:s?}", "path", dir, "state", s->state, "stage",
        stage_json(s), "layers_done", (json_int_t)s->layers_done, "layers", (json_int_t)s->n_layers,
        "commits", (json_int_t)s->generation, "stops", (json_int_t)s->stops, "slurm_jobs",
        jobs_json(&s->jobs, states), "last_message", s->last_message);

    RP_TRY(rp_json_made(root));
    RP_TRY(rp_print_json(root));
out:
    json_decref(root);
    return st;
}

/* *is_over: nobody will go on with it by himself. */
static rp_status print_once(const rp_cli *cli, bool *is_over)
{
    rp_status st = RP_OK;
    rp_job_state state;
    slurm_states states;

    RP_TRY(rp_job_state_read(&state, cli->args[0]));
    RP_TRY(ask_slurm(&states, &state.jobs));
    if (state.report == NULL && is_waiting(&state.jobs, &states)) {
        state.state = "queued";
    }
    if (cli->is_json) {
        RP_TRY(print_as_json(cli->args[0], &state, &states));
    } else {
        print_for_people(cli->args[0], &state, &states);
    }
    *is_over = strcmp(state.state, "running") != 0 && strcmp(state.state, "queued") != 0;
out:
    rp_job_state_clear(&state);
    return st;
}

static void pause_for(double seconds)
{
    const double whole = floor(seconds);
    const struct timespec moment = {.tv_sec = (time_t)whole,
                                    .tv_nsec = (long)(1e9 * (seconds - whole))};

    (void)nanosleep(&moment, NULL);
}

rp_status rp_cmd_status(const rp_cli *cli)
{
    rp_status st = RP_OK;
    bool is_over = false;

    RP_TRY(print_once(cli, &is_over));
    while (cli->is_watching && !is_over) {
        (void)fflush(stdout);
        pause_for(cli->watch_seconds);
        if (isatty(STDOUT_FILENO)) {
            (void)fputs("\033[H\033[J", stdout); /* the screen is cleared */
        }
        RP_TRY(print_once(cli, &is_over));
    }
out:
    return st;
}
