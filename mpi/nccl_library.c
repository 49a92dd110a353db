/* Every function of NCCL that comm_nccl.cu calls; the linker misses those that are not listed. */
#include "mpi/nccl_library.h"

#include "base/fault.h"
#include "base/mem.h"
#include "kernels/lazy.h"

#include <nccl.h>

#define NCCL_FUNCTIONS(ROW)                                                                        \
    ROW(ncclAllReduce)                                                                             \
    ROW(ncclBroadcast)                                                                             \
    ROW(ncclCommAbort)                                                                             \
    ROW(ncclCommDestroy)                                                                           \
    ROW(ncclCommFinalize)                                                                          \
    ROW(ncclCommGetAsyncError)                                                                     \
    ROW(ncclCommInitRankConfig)                                                                    \
    ROW(ncclGetErrorString)                                                                        \
    ROW(ncclGetLastError)                                                                          \
    ROW(ncclGetUniqueId)                                                                           \
    ROW(ncclGetVersion)                                                                            \
    ROW(ncclGroupEnd)                                                                              \
    ROW(ncclGroupStart)                                                                            \
    ROW(ncclRecv)                                                                                  \
    ROW(ncclReduce)                                                                                \
    ROW(ncclSend)

NCCL_FUNCTIONS(RP_LAZY_FUNCTION)

rp_status rp_nccl_load(void)
{
    static const rp_lazy_function functions[] = {NCCL_FUNCTIONS(RP_LAZY_ROW)};

    return rp_lazy_load("libnccl.so." RP_TEXT_OF(NCCL_MAJOR), functions, RP_COUNT(functions));
}
