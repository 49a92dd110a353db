/* From the calibration text to sequences of ids, the same for any number of ranks. */
#include "jobs/calibration_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

int64_t rp_calibration_seq_len(const rp_job *job, const rp_model_config *config)
{
    if (job->calibration.max_seq_length > 0) {
        return job->calibration.max_seq_length;
    }
    return RP_MIN(2048, config->max_position);
}

rp_blocks rp_calibration_blocks(const rp_job *job, const rp_model_config *config)
{
    return rp_blocks_make(job->calibration.num_samples, rp_calibration_seq_len(job, config),
                          job->calibration.block_tokens);
}

/* The i-th draw of n: Fisher-Yates on an index list, numbers from a hash of (seed, i). */
static rp_status draw_windows(int64_t *windows, int64_t n_all, int64_t n_wanted, int64_t seed)
{
    for (int64_t i = 0; i < n_all; i++) {
        windows[i] = i;
    }
    for (int64_t i = 0; seed != 0 && i < n_wanted; i++) {
        RP_ASSERT(i < n_all); /* n_wanted <= n_all: the text is long enough */
        const int64_t key[2] = {seed, i};
        const uint64_t random = rp_hash_bytes(key, sizeof(key)).lo;
        const int64_t j = i + (int64_t)(random % (uint64_t)(n_all - i));
        const int64_t kept = windows[i];
        windows[i] = windows[j];
        windows[j] = kept;
    }
    return RP_OK;
}

static rp_status read_windows(rp_session *s, const rp_blocks *blocks, int32_t *out)
{
    rp_status st = RP_OK;
    const rp_job_calibration *c = &s->job->calibration;
    const bool has_bos = c->add_bos && s->config->bos_id >= 0;
    const int64_t step = blocks->seq_len - has_bos; /* text tokens of a window */
    int32_t *ids = NULL;
    int64_t *windows = NULL;
    int64_t n = 0;

    RP_TRY(rp_session_tokenize(s, c->text, &ids, &n));
    if (n < blocks->n_seqs * step) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: calibration text too short: it has %lld tokens, but %lld samples of %lld "
                     "tokens need %lld",
                     c->text, (long long)n, (long long)blocks->n_seqs, (long long)blocks->seq_len,
                     (long long)(blocks->n_seqs * step));
        goto out;
    }
    RP_TRY(rp_alloc_array(&windows, (size_t)(n / step), sizeof(*windows)));
    RP_TRY(draw_windows(windows, n / step, blocks->n_seqs, c->seed));
    for (int64_t i = 0; i < blocks->n_seqs; i++) {
        int32_t *seq = out + i * blocks->seq_len;
        if (has_bos) {
            seq[0] = s->config->bos_id;
        }
        memcpy(seq + has_bos, ids + windows[i] * step, (size_t)step * sizeof(*ids));
    }
out:
    free(windows);
    free(ids);
    return st;
}

/* Rank 0, unless it has read the text already, or no text is needed. */
static rp_status keep_windows(rp_session *s)
{
    rp_status st = RP_OK;
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    int32_t *ids = NULL;

    if (rp_comm_rank(s->comm) != 0 || s->calibration_ids != NULL || !s->linears.needs_calibration ||
        s->job->calibration.text == NULL) {
        return RP_OK;
    }
    RP_TRY(rp_alloc_array(&ids, (size_t)(blocks.n_seqs * blocks.seq_len), sizeof(*ids)));
    RP_TRY(read_windows(s, &blocks, ids));
    s->calibration_ids = ids;
    ids = NULL;
out:
    free(ids);
    return st;
}

void rp_calibration_read_ahead(rp_session *session)
{
    const bool is_read = session->backend == RP_BACKEND_CUDA && keep_windows(session) == RP_OK;

    (void)is_read;
}

rp_status rp_calibration_read(rp_session *session)
{
    return rp_agree(session->comm, keep_windows(session));
}

rp_status rp_calibration_ids(rp_session *session, const rp_blocks *blocks, int32_t **ids)
{
    rp_status st = RP_OK;
    const size_t n = (size_t)(blocks->n_seqs * blocks->seq_len);

    st = rp_alloc_array(ids, n, sizeof(**ids));
    if (st == RP_OK && session->job->calibration.text == NULL) {
        st = RP_FAIL(RP_ERR_CONFIG, "%s: calibration.text is missing: the recipe needs statistics",
                     session->job->origin);
    }
    if (st == RP_OK && session->calibration_ids != NULL) {
        memcpy(*ids, session->calibration_ids, n * sizeof(**ids));
    } else if (st == RP_OK && rp_comm_rank(session->comm) == 0) {
        st = read_windows(session, blocks, *ids);
    }
    RP_TRY(rp_agree(session->comm, st));
    rp_comm_bcast(session->comm, *ids, n * sizeof(**ids), 0);
out:
    if (st != RP_OK) {
        free(*ids);
        *ids = NULL;
    }
    return st;
}
