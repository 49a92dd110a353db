/* What a job in progress has open, and the seconds and FLOP of its phases. */
#ifndef RP_JOBS_SESSION_H
#define RP_JOBS_SESSION_H

#include "jobs/checkpoint.h"
#include "jobs/cmd.h"
#include "jobs/job.h"
#include "jobs/linears.h"
#include "jobs/lock.h"
#include "jobs/stop.h"
#include "jobs/watchdog.h"
#include "kernels/ops.h"
#include "kernels/place.h"
#include "model/tokenizer.h"
#include "model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_phase {
    RP_PHASE_READ = 0, /* waiting for weights */
    RP_PHASE_FORWARD,
    RP_PHASE_GRAM,
    RP_PHASE_REDUCE,
    RP_PHASE_FACTOR,
    RP_PHASE_SOLVE,
    RP_PHASE_EXCHANGE,
    RP_PHASE_CHECKPOINT,
    RP_PHASE_WRITE,
    RP_PHASE_FSYNC,
    RP_PHASE_VERIFY,
    RP_PHASE_EVALUATE,
    RP_PHASE_COUNT
} rp_phase;

const char *rp_phase_name(rp_phase phase);

typedef struct rp_session {
    const rp_cli *cli;
    rp_job *job;
    rp_comm *comm;            /* borrowed */
    const rp_kernel_ops *ops; /* the CPU's, until rp_session_use_gpu */
    rp_exec *exec;
    rp_backend backend;   /* CPU or CUDA */
    rp_gpu *gpu;          /* NULL until rp_session_open_gpu */
    rp_exec gpu_exec;     /* what the ranks' GPUs are connected by */
    char arithmetic[160]; /* the arithmetic class */
    rp_weights *weights;
    const rp_model_config *config;
    rp_tokenizer *tokenizer;
    rp_linears linears;
    bool streams_activations; /* of calibration, on the host, a GPU sees them block by block */
    int64_t write_elems;      /* values of an output in hand at once, at least a unit's */
    int32_t *calibration_ids; /* rank 0's, if it read the text ahead; else NULL */
    struct rp_importance *importance; /* of the linears' columns */
    rp_lock *lock;
    rp_watchdog *watchdog;     /* NULL: nobody watches */
    rp_checkpoint *checkpoint; /* NULL: the job needs none */
    char *algorithms;          /* of all ranks' products, as the checkpoint has them; or NULL */
    int64_t n_algorithms;      /* this rank's, then */
    rp_stop_plan stop;
    char doing[64];                       /* "in layer 3 of 30": what a stop interrupts */
    json_t *size_targets[RP_MAX_OUTPUTS]; /* what was chosen for outputs with a size target */
    double seconds[RP_PHASE_COUNT];       /* this rank's */
    double flop[RP_PHASE_COUNT];          /* this rank's */
} rp_session;

/* Collective on comm. Opens the model, the tokenizer where the job needs one, threads and kernels;
 * checks the recipe against the model. Nothing is written. Caller closes in any case. Takes the
 * job. `is_run`: rp_session_open_gpu will follow, so the GPU begins to be opened meanwhile. */
RP_CHECKED rp_status rp_session_open(rp_session *out, const rp_cli *cli, rp_job *job, bool is_run);
/* Collective. With the CUDA back end this rank's GPU is opened and place_bytes of it are taken, and
 * the ranks' GPUs connected; with the other nothing happens. */
RP_CHECKED rp_status rp_session_open_gpu(rp_session *session, size_t place_bytes);
/* Logically collective. Operations run on the open GPU from now on, if there is one. */
void rp_session_use_gpu(rp_session *session);
void rp_session_close(rp_session *session);
/* Local. The same; after a failure rank 0 also removes the output folder if it is empty. */
void rp_session_close_failed(rp_session *session, rp_status status);
/* Local. Threads of a rank: `asked`, or the cores that this rank has to itself when 0. */
int rp_session_threads(const rp_comm *comm, int64_t asked);
/* Local. Adds now - *start to a phase and sets *start to now. */
void rp_session_lap(rp_session *session, rp_phase phase, double *start);
/* Local. Says what the session is doing from now on, "while writing". */
void rp_session_does(rp_session *session, const char *fmt, ...) RP_PRINTF(2, 3);
/* Local. Is this the rank that prints, and may it. */
bool rp_session_prints(const rp_session *session);
/* Local. The text's ids, no special tokens; RP_ERR_FORMAT when the file is missing or an id is out
 * of range. */
RP_CHECKED rp_status rp_session_tokenize(const rp_session *session, const char *path, int32_t **ids,
                                         int64_t *n_ids);

#ifdef __cplusplus
}
#endif
#endif
