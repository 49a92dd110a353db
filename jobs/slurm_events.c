/* Lines are appended whole; a reader may find the last one cut and passes it over. */
#include "jobs/slurm_events.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/print.h"
#include "jobs/slurm_script.h"

#define EVENTS_FILE RP_SLURM_DIR "/events.jsonl"
#define MAX_FILE_BYTES ((size_t)64 << 20)

rp_status rp_slurm_note_submitted(const char *dir, const char *id)
{
    rp_status st = RP_OK;
    char line[160];
    char *path = NULL;
    int fd = -1;
    const int n =
        snprintf(line, sizeof(line),
                 "{\"time\": %lld, \"job\": \"%s\", \"event\": \"submitted\", \"code\": null}\n",
                 (long long)time(NULL), id);

    RP_TRY(rp_fs_join(&path, dir, EVENTS_FILE));
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, (size_t)n) != n) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot write: %s", path, strerror(errno));
    }
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
    return st;
}

static bool is_id(const char *text)
{
    return *text != '\0' && strlen(text) < RP_SLURM_ID_CHARS &&
           strspn(text, "0123456789") == strlen(text);
}

static rp_status take_line(rp_slurm_jobs *jobs, const char *line)
{
    rp_status st = RP_OK;
    json_t *root = json_loads(line, 0, NULL);
    const char *id = rp_json_text(root, "job");
    const json_t *code = json_object_get(root, "code");
    rp_slurm_job *job = NULL;

    if (!is_id(id)) {
        goto out;
    }
    for (int64_t i = 0; i < jobs->n; i++) {
        if (strcmp(jobs->items[i].id, id) == 0) {
            job = &jobs->items[i];
        }
    }
    if (job == NULL) {
        RP_TRY(rp_grow(&jobs->items, &jobs->capacity, (size_t)jobs->n + 1, sizeof(*jobs->items)));
        job = &jobs->items[jobs->n++];
        (void)snprintf(job->id, sizeof(job->id), "%s", id);
    }
    (void)snprintf(job->event, sizeof(job->event), "%s", rp_json_text(root, "event"));
    job->code = json_is_integer(code) ? (int)json_integer_value(code) : -1;
out:
    json_decref(root);
    return st;
}

rp_status rp_slurm_jobs_read(rp_slurm_jobs *out, const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    char *rest = NULL;
    size_t nbytes = 0;

    *out = (rp_slurm_jobs){.n = 0};
    RP_TRY(rp_fs_join(&path, dir, EVENTS_FILE));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_FILE_BYTES));
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        RP_TRY(take_line(out, line));
    }
out:
    free(text);
    free(path);
    return st;
}

void rp_slurm_jobs_clear(rp_slurm_jobs *jobs)
{
    free(jobs->items);
    *jobs = (rp_slurm_jobs){.n = 0};
}
