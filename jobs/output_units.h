/* An output in units: items are cut into rows, and a rank goes through its units in batches. Forms
 * come from the checkpoint in the calling thread (HDF5 wants one); the rest is all threads' work.
 */
#ifndef RP_JOBS_OUTPUT_UNITS_H
#define RP_JOBS_OUTPUT_UNITS_H

#include "jobs/output.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Units are of about so many values, unless they must be whole items; so many at a time for each
 * thread, if memory allows. */
#define RP_STORE_UNIT_ELEMS ((int64_t)2 << 20)
#define RP_STORE_UNITS_A_THREAD 2
/* f32 values worked on at a time: half of a second-level cache. */
#define RP_STORE_CACHED_ELEMS ((int64_t)128 << 10)

typedef struct rp_store_unit {
    const rp_store_item *item;
    int64_t row0, nrows;
    rp_form form; /* of coded items */
    void *packed; /* its codes as the checkpoint has them, until it is worked on */
    void *bytes[RP_MAX_PARTS];
    rp_status status;
    char message[RP_MESSAGE_BYTES];
} rp_store_unit;

/* How items are cut, which rank gets a unit (`before` of `all` values lie before it), and what is
 * done with each: `work` in any thread; then `end`, unless it is NULL, in the calling thread and in
 * order. What they leave in bytes is freed. */
typedef struct rp_unit_work {
    int64_t (*rows_of)(const rp_store_item *item);
    int (*rank_of)(int64_t unit, int64_t before, int64_t all, int nranks);
    rp_status (*work)(void *ctx, rp_store_unit *unit);
    rp_status (*end)(void *ctx, rp_store_unit *unit);
    void *ctx;
} rp_unit_work;

static inline int64_t rp_store_item_rows(const rp_store_item *item)
{
    return item->info->shape[0];
}

static inline int64_t rp_store_item_cols(const rp_store_item *item)
{
    return item->info->ndim > 1 ? item->info->shape[1] : 1;
}

/* Rows of a unit that is written: whole items where the encoder or the reordering wants all rows.
 */
int64_t rp_store_written_rows(const rp_store_item *item);
/* Rows of a unit that is read back. */
int64_t rp_store_read_rows(const rp_store_item *item);
/* Values of the largest unit that is written. */
int64_t rp_store_most_elems(const rp_store *store);

/* Local. All units of the store that are this rank's. Ends at the first failure, and when the job
 * is stopped. */
RP_CHECKED rp_status rp_store_do_units(const rp_store *store, rp_session *session,
                                       const rp_unit_work *work);

#ifdef __cplusplus
}
#endif
#endif
