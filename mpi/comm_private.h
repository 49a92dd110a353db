/* What mpi/ knows of a communicator: a table of transports (MPI, serial; NCCL later). */
#ifndef RP_MPI_COMM_PRIVATE_H
#define RP_MPI_COMM_PRIVATE_H

#include <mpi.h>

#include "mpi/comm.h"

typedef struct rp_comm_ops {
    const char *name;
    void (*barrier)(rp_comm *comm);
    void (*bcast)(rp_comm *comm, void *data, size_t nbytes, int root);
    void (*allgatherv)(rp_comm *comm, const void *send, void *recv, const size_t *nbytes);
    /* One chunk; root < 0: the sum on all ranks. */
    void (*sum_i64)(rp_comm *comm, int64_t *data, int64_t n, int root);
    void (*max_f64)(rp_comm *comm, double *data, int64_t n);
    void (*max_f32)(rp_comm *comm, float *data, int64_t n);
    /* Passes a notice to this rank's neighbours; takes one notice of theirs, if it waits for it or
     * one is there. */
    void (*notify)(rp_comm *comm);
    bool (*receive_notice)(rp_comm *comm, bool is_waiting);
    void (*destroy)(rp_comm *comm);
} rp_comm_ops;

/* Of 2^n ranks at most. */
#define RP_MAX_NOTICE_STEPS 31

struct rp_comm {
    const rp_comm_ops *ops;
    int rank, nranks;
    int node_rank, node_nranks;
    MPI_Comm mpi; /* MPI_COMM_NULL in the serial case */
    MPI_Comm notices;
    int n_notices;                         /* received */
    MPI_Request sent[RP_MAX_NOTICE_STEPS]; /* notices on their way */
    bool is_notified;
    rp_comm_counts counts;
    char host[64];
};

#endif
