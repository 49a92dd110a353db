/* Line by line: "{{name}}" stands for a key of cluster.slurm, or for one of the derived values
 * below. A line is repeated for each value and left out when there is none. Values are quoted for
 * the shell, which sbatch understands too; those of the raw names are lines of the user's own. */
#include "jobs/slurm_script.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "jobs/text_buffer.h"

#define NAME_CHARS 48

extern const char rp_slurm_template[];

typedef rp_status (*derive_fn)(char **out, const rp_job *job);

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static rp_status derive_job_name(char **out, const rp_job *job)
{
    const char *given = job->cluster.slurm.job_name;

    return rp_strdup(out, given != NULL ? given : base_name(job->output.dir));
}

static rp_status derive_mincpus(char **out, const rp_job *job)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;

    return rp_strprintf(out, "%lld",
                        (long long)(slurm->tasks_per_node * RP_MAX(slurm->cpus_per_task, 1)));
}

/* Slurm replaces what follows a "%" in the name of a log. */
static rp_status derive_log(char **out, const rp_job *job)
{
    rp_status st = RP_OK;
    rp_text text = {0};

    RP_TRY(rp_text_open(&text));
    for (const char *c = job->output.dir; *c != '\0'; c++) {
        rp_text_put(&text, "%s%c", *c == '%' ? "%" : "", *c);
    }
    rp_text_put(&text, "/" RP_SLURM_DIR "/job-%%j.log");
    RP_TRY(rp_text_finish(&text, out));
out:
    rp_text_discard(&text);
    return st;
}

static rp_status derive_time(char **out, const rp_job *job)
{
    const long long minutes = (long long)ceil(job->cluster.slurm.time_seconds / 60);

    if (minutes == 0) {
        return RP_OK;
    }
    return rp_strprintf(out, "%lld-%02lld:%02lld:00", minutes / 1440, minutes / 60 % 24,
                        minutes % 60);
}

static rp_status derive_mem(char **out, const rp_job *job)
{
    const int64_t nbytes = job->cluster.slurm.mem_bytes;

    if (nbytes == 0) {
        return RP_OK;
    }
    return rp_strprintf(out, "%lldM", nbytes > 0 ? (long long)(nbytes >> 20) : 0LL);
}

static rp_status derive_signal_lead(char **out, const rp_job *job)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;
    const double half = slurm->time_seconds > 0 ? slurm->time_seconds / 2 : HUGE_VAL;

    return rp_strprintf(out, "%.0f", floor(RP_MIN(slurm->signal_lead_seconds, half)));
}

static rp_status derive_mounts(char **out, const rp_job *job)
{
    rp_status st = RP_OK;
    const rp_string_list *mounts = &job->cluster.slurm.container_mounts;
    rp_text text = {0};

    if (mounts->n == 0) {
        return RP_OK;
    }
    RP_TRY(rp_text_open(&text));
    for (int64_t i = 0; i < mounts->n; i++) {
        rp_text_put(&text, "%s%s", i > 0 ? "," : "", mounts->items[i]);
    }
    RP_TRY(rp_text_finish(&text, out));
out:
    rp_text_discard(&text);
    return st;
}

static rp_status derive_program(char **out, const rp_job *job)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;
    char path[4096];
    ssize_t n = 0;

    if (slurm->program != NULL || slurm->container_image != NULL) {
        return rp_strdup(out, slurm->program != NULL ? slurm->program : "rankpress");
    }
    n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n < 0) {
        return RP_FAIL(RP_ERR_CONFIG, "cluster.slurm.program: want it, this program's own path is "
                                      "not known here");
    }
    path[n] = '\0';
    return rp_strdup(out, path);
}

static rp_status derive_out(char **out, const rp_job *job)
{
    return rp_strdup(out, job->output.dir);
}

static const struct {
    const char *name;
    derive_fn make;
} derived[] = {
    {"job_name", derive_job_name},
    {"mincpus", derive_mincpus},
    {"log", derive_log},
    {"time", derive_time},
    {"mem", derive_mem},
    {"signal_lead", derive_signal_lead},
    {"container_mounts", derive_mounts},
    {"program", derive_program},
    {"out", derive_out},
};
static const char *const raw_names[] = {"extra", "setup"};

rp_status rp_shell_quote(char **out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./,:=@%+";
    rp_status st = RP_OK;
    rp_text quoted = {0};

    if (*text != '\0' && strspn(text, plain) == strlen(text)) {
        return rp_strdup(out, text);
    }
    RP_TRY(rp_text_open(&quoted));
    rp_text_put(&quoted, "'");
    for (const char *c = text; *c != '\0'; c++) {
        rp_text_put(&quoted, "%s%c", *c == '\'' ? "'\\'" : "", *c);
    }
    rp_text_put(&quoted, "'");
    RP_TRY(rp_text_finish(&quoted, out));
out:
    rp_text_discard(&quoted);
    return st;
}

/* What one name stands for: items, or one value (NULL: none). */
typedef struct values {
    rp_string_list items;
    char *value;
} values;

static rp_status find_values(values *out, const rp_job *job, const char *name)
{
    const rp_job_slurm *slurm = &job->cluster.slurm;
    const rp_option *row = rp_options_find(rp_slurm_keys, name);
    rp_status st = RP_OK;

    for (size_t i = 0; i < RP_COUNT(derived); i++) {
        if (strcmp(derived[i].name, name) == 0) {
            return derived[i].make(&out->value, job);
        }
    }
    if (row == NULL) {
        return RP_FAIL(RP_ERR_INTERNAL, "slurm/job.sbatch.in: no value \"%s\"", name);
    }
    if (row->type == RP_OPTION_STRINGS) {
        memcpy(&out->items, (const char *)slurm + row->offset, sizeof(out->items));
        return RP_OK;
    }
    RP_TRY(rp_option_format(&out->value, row, slurm));
    if (out->value != NULL && row->fallback != NULL && strcmp(out->value, "site") == 0) {
        free(out->value);
        out->value = NULL;
    }
out:
    return st;
}

/* One line of the template, line[n] with its newline, for one value. */
static rp_status put_line(rp_text *text, const char *line, size_t n, const char *name,
                          const char *value)
{
    rp_status st = RP_OK;
    char *word = NULL;
    bool is_raw = false;
    const char *brace = memmem(line, n, "{{", 2);
    const size_t before = (size_t)(brace - line);
    const size_t after = before + strlen(name) + 4;

    for (size_t i = 0; i < RP_COUNT(raw_names); i++) {
        is_raw = is_raw || strcmp(raw_names[i], name) == 0;
    }
    if (!is_raw) {
        RP_TRY(rp_shell_quote(&word, value));
    }
    rp_text_put(text, "%.*s%s%.*s", (int)before, line, is_raw ? value : word, (int)(n - after),
                line + after);
out:
    free(word);
    return st;
}

static rp_status put_lines(rp_text *text, const rp_job *job, const char *line, size_t n)
{
    rp_status st = RP_OK;
    const char *brace = memmem(line, n, "{{", 2);
    char name[NAME_CHARS] = "";
    values found = {.value = NULL};

    if (brace == NULL || sscanf(brace, "{{%47[a-z_]}}", name) != 1) {
        rp_text_put(text, "%.*s", (int)n, line);
        return RP_OK;
    }
    RP_TRY(find_values(&found, job, name));
    if (found.value != NULL) {
        RP_TRY(put_line(text, line, n, name, found.value));
    }
    for (int64_t i = 0; i < found.items.n; i++) {
        RP_TRY(put_line(text, line, n, name, found.items.items[i]));
    }
out:
    free(found.value);
    return st;
}

rp_status rp_slurm_script(char **out, const rp_job *job)
{
    rp_status st = RP_OK;
    rp_text text = {0};

    *out = NULL;
    RP_TRY(rp_text_open(&text));
    for (const char *line = rp_slurm_template; *line != '\0';) {
        const size_t n = strcspn(line, "\n") + 1;
        RP_TRY(put_lines(&text, job, line, n));
        line += n;
    }
    RP_TRY(rp_text_finish(&text, out));
out:
    rp_text_discard(&text);
    return st;
}
