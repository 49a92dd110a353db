/* What a job will hold, move and write on each rank, before any of it is done. */
#ifndef RP_JOBS_PLAN_H
#define RP_JOBS_PLAN_H

#include "jobs/backend.h"
#include "jobs/calibrate.h"
#include "jobs/output.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_plan {
    int nranks, nthreads;
    bool needs_calibration;
    rp_blocks blocks;
    rp_calibrate_memory calibrate; /* a rank */
    size_t base_bytes;             /* program, libraries, tokenizer, tables */
    size_t measure_bytes_memory;   /* while types are measured for a size target, a rank */
    size_t write_bytes_memory;     /* while outputs are written and verified, a rank */
    int64_t write_elems;           /* values in hand meanwhile: as many as memory allows */
    rp_place_bytes evaluate;
    size_t memory_bytes; /* the peak of a rank's host memory: base and the largest stage */
    size_t place_bytes;  /* of a rank's GPU: its arena; 0 on the CPU */
    rp_backend_room gpu_room;
    bool streams_activations; /* they have no room in an arena: kept on the host */
    size_t output_bytes[RP_MAX_OUTPUTS];
    size_t checkpoint_bytes; /* forms of all layers, activations, all ranks */
    size_t disk_bytes;       /* all outputs and the checkpoint */
    double forward_flop, gram_flop, factor_flop, solve_flop; /* all ranks */
    double measure_flop;                                     /* for size targets, all ranks */
} rp_plan;

/* Collective. stores: one an output, laid out. */
RP_CHECKED rp_status rp_plan_make(rp_plan *out, const rp_session *session, rp_store *const *stores,
                                  int nranks);
/* Local. RP_ERR_MEMORY when a rank would not fit cluster.memory_per_rank (or what the node has). */
RP_CHECKED rp_status rp_plan_check(const rp_plan *plan, const rp_session *session);
/* Local. RP_ERR_MEMORY when the arena has no room on the GPUs at hand. */
RP_CHECKED rp_status rp_plan_check_gpu(const rp_plan *plan);

/* A job that is looked at and not run. */
typedef struct rp_planning {
    rp_session session;
    rp_store *stores[RP_MAX_OUTPUTS]; /* the outputs, laid out */
    rp_plan plan;
} rp_planning;
/* Collective on the command's ranks. Plans the job for nranks ranks; nothing is written. Takes the
 * job. Caller closes in any case. */
RP_CHECKED rp_status rp_planning_open(rp_planning *out, const rp_cli *cli, rp_job *job, int nranks);
void rp_planning_close(rp_planning *planning);

#ifdef __cplusplus
}
#endif
#endif
