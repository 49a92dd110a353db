/* See job_folder.h. */
#include "jobs/job_folder.h"

#include <stdlib.h>

#include "base/fs.h"
#include "formats/gguf.h"
#include "jobs/job.h"
#include "jobs/run.h"
#include "jobs/text_buffer.h"

rp_status rp_job_folder_find_output(char **path, const char *dir, const char *name)
{
    rp_status st = RP_OK;
    char *wanted = NULL;

    RP_TRY(rp_fs_join(&wanted, dir, name));
    RP_TRY(rp_gguf_find_written(path, wanted));
out:
    free(wanted);
    return st;
}

/* "out/gptq, out/model-Q4_0.gguf"; "" when none is finished. */
static rp_status list_outputs(char **list, const char *dir, const rp_job *job)
{
    rp_status st = RP_OK;
    rp_text text = {0};
    char *path = NULL;
    const char *between = "";

    RP_TRY(rp_text_open(&text));
    for (int64_t i = 0; i < job->output.formats.n; i++) {
        free(path);
        path = NULL;
        RP_TRY(rp_job_folder_find_output(&path, dir, job->output.formats.items[i].name));
        if (path != NULL) {
            rp_text_put(&text, "%s%s", between, path);
            between = ", ";
        }
    }
    RP_TRY(rp_text_finish(&text, list));
out:
    free(path);
    rp_text_discard(&text);
    return st;
}

static rp_status fail_with_outputs(const char *dir, const char *job_path)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    char *list = NULL;

    RP_TRY(rp_job_load(&job, job_path, NULL, 0));
    RP_TRY(list_outputs(&list, dir, job));
    st =
        list[0] == '\0'
            ? RP_FAIL(RP_ERR_FORMAT, "%s: a job's folder, and it holds no finished output", dir)
            : RP_FAIL(RP_ERR_FORMAT, "%s: a job's folder, not a model; its outputs: %s", dir, list);
out:
    free(list);
    rp_job_destroy(&job);
    return st;
}

rp_status rp_job_folder_refuse(const char *path)
{
    rp_status st = RP_OK;
    char *job_path = NULL;
    char *config_path = NULL;
    char *log_path = NULL;

    RP_TRY(rp_fs_join(&job_path, path, RP_JOB_FILE));
    RP_TRY(rp_fs_join(&log_path, path, RP_LOG_DIR)); /* not beside a job file that people wrote */
    RP_TRY(rp_fs_join(&config_path, path, "config.json"));
    if (rp_fs_exists(job_path) && rp_fs_is_dir(log_path) && !rp_fs_exists(config_path)) {
        RP_TRY(fail_with_outputs(path, job_path));
    }
out:
    free(config_path);
    free(log_path);
    free(job_path);
    return st;
}
