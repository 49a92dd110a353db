/* See algorithms.h. Texts are those of kernels/gpu.h: the arithmetic class, then lines. */
#include "jobs/algorithms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define UNIT "algorithms"

/* ---- From the checkpoint ---- */

static rp_status take(rp_session *s)
{
    rp_status st = RP_OK;
    char *text = NULL;

    RP_TRY(rp_checkpoint_get_text(s->checkpoint, UNIT, &text));
    RP_TRY(rp_gpu_algorithms_pin(s->gpu, text));
    s->n_algorithms = rp_gpu_algorithms_count(s->gpu);
    if (s->n_algorithms > 0) {
        s->algorithms = text;
        text = NULL;
    }
    RP_LOG(RP_LOG_INFO, "algorithms", rp_log_i64("pinned", s->n_algorithms));
out:
    free(text);
    return st;
}

rp_status rp_algorithms_take(rp_session *session)
{
    rp_session *s = session;

    if (s->gpu == NULL || s->checkpoint == NULL || !rp_checkpoint_has(s->checkpoint, UNIT)) {
        return RP_OK;
    }
    return rp_agree(s->comm, take(s));
}

/* ---- Into it ---- */

/* Collective. The ranks' texts, one after the other. */
static rp_status gather(char **out, const rp_session *s)
{
    rp_status st = RP_OK;
    const int nranks = rp_comm_nranks(s->comm);
    char *own = NULL;
    size_t *nbytes = NULL;
    size_t own_bytes = 0;
    size_t total_bytes = 0;

    RP_TRY(rp_agree(s->comm, rp_gpu_algorithms_format(&own, s->gpu)));
    RP_TRY(rp_agree(s->comm, rp_calloc(&nbytes, (size_t)nranks, sizeof(*nbytes))));
    own_bytes = strlen(own);
    rp_comm_allgather(s->comm, &own_bytes, nbytes, sizeof(own_bytes));
    for (int r = 0; r < nranks; r++) {
        total_bytes += nbytes[r];
    }
    RP_TRY(rp_agree(s->comm, rp_alloc(out, total_bytes + 1)));
    rp_comm_allgatherv(s->comm, own, *out, nbytes);
    (*out)[total_bytes] = '\0';
out:
    free(nbytes);
    free(own);
    return st;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t shape_bytes(const char *line)
{
    const char *end = strstr(line, RP_GPU_ALGORITHM);

    return end == NULL ? strlen(line) : (size_t)(end - line);
}

/* Lines in order, of which each is taken once, behind the class, which every text begins with. */
static rp_status join(char *out, const char *arithmetic, char *const *lines, size_t n)
{
    const char *before = arithmetic;
    size_t used = strlen(arithmetic);

    memcpy(out, arithmetic, used);
    out[used++] = '\n';
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(lines[i]);
        const size_t shape = shape_bytes(lines[i]);
        if (strcmp(lines[i], before) == 0 || strcmp(lines[i], arithmetic) == 0) {
            continue;
        }
        if (shape == shape_bytes(before) && strncmp(lines[i], before, shape) == 0) {
            return RP_FAIL(RP_ERR_INTERNAL, "two ranks compute %.*s by different algorithms",
                           (int)shape, lines[i]);
        }
        memcpy(out + used, lines[i], length);
        used += length;
        out[used++] = '\n';
        before = lines[i];
    }
    out[used] = '\0';
    return RP_OK;
}

/* texts: taken to pieces. */
static rp_status merge(char **out, const char *arithmetic, char *texts)
{
    rp_status st = RP_OK;
    const size_t nbytes = strlen(texts);
    char **lines = NULL;
    char *rest = NULL;
    size_t capacity = 0;
    size_t n = 0;

    for (char *line = strtok_r(texts, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        RP_TRY(rp_grow(&lines, &capacity, n + 1, sizeof(*lines)));
        lines[n++] = line;
    }
    if (lines != NULL) {
        qsort(lines, n, sizeof(*lines), compare_lines);
    }
    RP_TRY(rp_alloc(out, nbytes + 2));
    RP_TRY(join(*out, arithmetic, lines, n));
out:
    free(lines);
    return st;
}

static rp_status put(rp_session *s, char *texts)
{
    rp_status st = RP_OK;
    char *merged = NULL;

    RP_TRY(merge(&merged, rp_gpu_class(s->gpu), texts));
    if (rp_comm_rank(s->comm) == 0 &&
        (s->algorithms == NULL || strcmp(merged, s->algorithms) != 0)) {
        RP_TRY(rp_checkpoint_put_text(s->checkpoint, UNIT, merged));
    }
    free(s->algorithms);
    s->algorithms = merged;
    s->n_algorithms = rp_gpu_algorithms_count(s->gpu);
    merged = NULL;
out:
    free(merged);
    return st;
}

rp_status rp_algorithms_put(rp_session *session)
{
    rp_status st = RP_OK;
    rp_session *s = session;
    char *texts = NULL;

    if (s->gpu == NULL ||
        !rp_comm_any(s->comm, rp_gpu_algorithms_count(s->gpu) != s->n_algorithms)) {
        return RP_OK;
    }
    RP_TRY(gather(&texts, s));
    RP_TRY(rp_agree(s->comm, put(s, texts)));
out:
    free(texts);
    return st;
}
