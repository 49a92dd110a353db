/* Model cards: README.md beside the written weights, as the Hugging Face hub shows it.
 *
 * A card holds measured figures, so it is written after the evaluation, into a folder that has its
 * final name already. Nothing in it depends on the number of ranks, threads or seconds: the folder
 * of a model stays the same byte for byte however it was made. */
#ifndef RP_JOBS_MODEL_CARD_H
#define RP_JOBS_MODEL_CARD_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_CARD_FILE "README.md"
#define RP_CARD_OF_ALL ((size_t)-1)

/* Local. The card of one output of the report, or of all (the output folder's own), in new memory.
 * job_lines: the keys that decide the bytes, from rp_job_lines. */
RP_CHECKED rp_status rp_model_card(char **text, const json_t *report, size_t output,
                                   const char *job_lines);

#ifdef __cplusplus
}
#endif
#endif
