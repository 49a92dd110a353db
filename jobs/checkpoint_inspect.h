/* What is in a checkpoint file or manifest, for `rankpress inspect`. */
#ifndef RP_JOBS_CHECKPOINT_INSPECT_H
#define RP_JOBS_CHECKPOINT_INSPECT_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. True when the file begins like a checkpoint's HDF5 file or like a manifest. */
bool rp_checkpoint_is_file(const char *path);
/* Local. {"format", "bytes", "units": [{"unit", "kind", "row0", "rows", "total_rows", "cols",
 * "grid", "xxh3", "is_good"} ...]} of an .h5 file (its data are read and their hashes compared), or
 * {"format", "generation", "job_hash", "files", "units", "job"} of a manifest. New reference. */
RP_CHECKED rp_status rp_checkpoint_inspect(json_t **out, const char *path);

#ifdef __cplusplus
}
#endif
#endif
