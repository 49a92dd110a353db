/* A build without NCCL. */
#include "mpi/comm_nccl.h"

const rp_comm_gpu_ops rp_comm_nccl_ops;

const char *rp_nccl_version(char text[32])
{
    (void)text;
    return NULL;
}

rp_status rp_nccl_make_id(unsigned char id[RP_NCCL_ID_BYTES])
{
    (void)id;
    return RP_FAIL(RP_ERR_INTERNAL, "this rankpress was built without NCCL");
}

void rp_nccl_create(rp_comm *comm, rp_gpu *gpu, const unsigned char id[RP_NCCL_ID_BYTES],
                    double deadline_seconds)
{
    (void)comm, (void)gpu, (void)id, (void)deadline_seconds;
}

void rp_nccl_destroy(rp_nccl **nccl)
{
    (void)nccl;
}

void rp_nccl_abort(rp_nccl **nccl)
{
    (void)nccl;
}
