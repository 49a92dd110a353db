/* What mpi/ knows of a communicator: a table of transports of host memory (MPI, serial), and one of
 * transports of GPU memory (staged through the former, NCCL). */
#ifndef RP_MPI_COMM_PRIVATE_H
#define RP_MPI_COMM_PRIVATE_H

/* The C interface alone, in C++ too. */
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <pthread.h>

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* MPI's counts are int. */
#define RP_COMM_MESSAGE_BYTES ((size_t)1 << 30)

/* Tags on rp_comm.notices. */
enum { RP_TAG_NOTICE = 0, RP_TAG_GPU_FAILURE };

typedef struct rp_comm_ops {
    const char *name;
    void (*barrier)(rp_comm *comm);
    void (*bcast)(rp_comm *comm, void *data, size_t nbytes, int root);
    void (*allgatherv)(rp_comm *comm, const void *send, void *recv, const size_t *nbytes);
    /* One chunk; root < 0: the sum on all ranks. */
    void (*sum_i64)(rp_comm *comm, int64_t *data, int64_t n, int root);
    void (*max_f64)(rp_comm *comm, double *data, int64_t n);
    void (*max_f32)(rp_comm *comm, float *data, int64_t n);
    void (*sum_f32)(rp_comm *comm, float *data, int64_t n); /* one chunk */
    /* To the rank `step` above and from the rank `step` below (modulo their number), which have the
     * same numbers of bytes, at most RP_COMM_MESSAGE_BYTES each way. Nothing is sent for 0. */
    void (*sendrecv)(rp_comm *comm, const void *send, size_t send_bytes, void *recv,
                     size_t recv_bytes, int step);
    /* Passes a notice to this rank's neighbours; takes one notice of theirs, if it waits for it or
     * one is there. */
    void (*notify)(rp_comm *comm);
    bool (*receive_notice)(rp_comm *comm, bool is_waiting);
    void (*destroy)(rp_comm *comm);
} rp_comm_ops;

/* A reduction is cut into pieces of 64 MiB, so that the transport's own buffers stay small. */
#define RP_COMM_CHUNK_BYTES ((size_t)64 << 20)

typedef enum rp_comm_reduction {
    RP_COMM_SUM_I64 = 0,
    RP_COMM_SUM_F32,
    RP_COMM_MAX_F32,
    RP_COMM_REDUCTION_COUNT
} rp_comm_reduction;
/* Collective. Of data on the host, without counts; root < 0: on all ranks. */
void rp_comm_reduce_host(rp_comm *comm, rp_comm_reduction reduction, void *data, int64_t n,
                         int root);
size_t rp_comm_reduction_elem_bytes(rp_comm_reduction reduction);

/* Local. Where a rank's piece starts; the rank `step` above, modulo their number, |step| < nranks.
 */
size_t rp_comm_offset(const size_t *nbytes, int rank);
int rp_comm_above(const rp_comm *comm, int step);
void rp_comm_count_alltoallv(rp_comm *comm, const size_t *send_bytes, const size_t *recv_bytes);

/* Two ranks and more, data in the exec's GPU. */
typedef struct rp_comm_gpu_ops {
    const char *name;
    void (*bcast)(rp_comm *comm, const rp_exec *exec, void *data, size_t nbytes, int root);
    void (*allgatherv)(rp_comm *comm, const rp_exec *exec, const void *send, void *recv,
                       const size_t *nbytes);
    void (*alltoallv)(rp_comm *comm, const rp_exec *exec, const void *send,
                      const size_t *send_bytes, void *recv, const size_t *recv_bytes);
    void (*reduce)(rp_comm *comm, const rp_exec *exec, rp_comm_reduction reduction, void *data,
                   int64_t n, int root);
} rp_comm_gpu_ops;
extern const rp_comm_gpu_ops rp_comm_staged_ops;

/* Local. Ends all ranks after a call of MPI that failed. */
void rp_comm_check_mpi(const rp_comm *comm, int code, const char *call);

/* Local. Waits for what rp_comm_open_gpu_ahead has begun. */
void rp_comm_await_gpu(rp_comm *comm);
/* Collective on comm, when any rank's watch has a failure: ends NCCL on all ranks, whose data go by
 * MPI from now on. The message is the same on all. */
void rp_comm_gpu_settle(rp_comm *comm, char message[RP_MESSAGE_BYTES]);

/* Of 2^n ranks at most. */
#define RP_MAX_NOTICE_STEPS 31

typedef struct rp_comm_watch rp_comm_watch; /* mpi/comm_watch.h */
typedef struct rp_nccl rp_nccl;             /* mpi/comm_nccl.h */

struct rp_comm {
    const rp_comm_ops *ops;
    int rank, nranks;
    int node_rank, node_nranks;
    MPI_Comm mpi; /* MPI_COMM_NULL in the serial case */
    MPI_Comm notices;
    int n_notices;                         /* received */
    MPI_Request sent[RP_MAX_NOTICE_STEPS]; /* notices on their way */
    bool is_notified;
    const rp_comm_gpu_ops *gpu_ops;
    void *stage;                        /* RP_COMM_CHUNK_BYTES; NULL until a GPU's data come by */
    rp_comm_watch *watch;               /* NULL until NCCL was tried */
    rp_nccl *nccl;                      /* NULL when there is none, and after it failed */
    char transport[RP_MESSAGE_BYTES];   /* between GPUs, for the log */
    char gpu_failure[RP_MESSAGE_BYTES]; /* "" until all ranks agreed on one */
    rp_comm_counts counts;
    char host[64];
    pthread_t opener; /* of this rank's GPU */
    bool is_opening;  /* the thread is to be joined */
};

#ifdef __cplusplus
}
#endif
#endif
