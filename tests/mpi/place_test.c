/* Collectives on data in a place that is the host's. Exit code 0 on all ranks, or the failing
 * check's message. */
#include "tests/jobs/rank_check.h"
#include "tests/mpi/place_checks.h"

int main(void)
{
    rp_comm *comm = NULL;
    rp_exec *exec = NULL;

    CHECK(rp_comm_create_world(&comm) == RP_OK);
    CHECK(rp_exec_create(&exec, 1, RP_PRODUCTS_F32) == RP_OK);
    check_place_collectives(comm, exec, 1000);
    if (rp_comm_nranks(comm) <= 2) { /* more than a piece */
        check_place_collectives(comm, exec, ((int64_t)9 << 20) + 1);
    }
    check_place_counts(comm, exec);
    rp_exec_destroy(&exec);
    rp_comm_destroy(&comm);
    return 0;
}
