/* Importance of the columns of weights: taken from importance matrices that the recipe names, or
 * from the sums of squares of this job's own calibration inputs, which it can also write.
 *
 * A site's sums go into the checkpoint as the unit "layer/N/site/S/imatrix", f32, so that a resumed
 * job writes the same file. */
#ifndef RP_JOBS_IMPORTANCE_H
#define RP_JOBS_IMPORTANCE_H

#include <jansson.h>

#include "formats/imatrix.h"
#include "jobs/session.h"
#include "jobs/site_input.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_importance rp_importance;

/* Local. Reads the files that the recipe names and finds each linear's entry in its step's file;
 * the embedding's and the output tensor's in the first. RP_ERR_FORMAT with tensor and lengths when
 * an entry does not fit. Borrows the session's job, linears and config. */
RP_CHECKED rp_status rp_importance_create(rp_importance **out, const rp_session *session);
void rp_importance_destroy(rp_importance **importance);

/* Local. Mean squares [cols] of a linear's inputs; NULL: all columns are equal. Where the recipe
 * asks for the job's own, it is that of the site that was last collected. */
const float *rp_importance_of_linear(const rp_importance *importance, const rp_linear *linear);
/* Local. The same of another tensor of the model, by its Hugging Face name. */
const float *rp_importance_of_tensor(const rp_importance *importance, const char *name);
/* Local. The first file that the recipe names, and its path; NULL when it names none. */
const rp_imatrix *rp_importance_file(const rp_importance *importance, const char **path);
/* Local. One line in the log when the files have nothing for some tensors. */
void rp_importance_warn(const rp_importance *importance);
/* Local. {"file", "entries", "chunks", "used", "missing"} of the files; NULL: of none. New
 * reference. */
json_t *rp_importance_report(const rp_importance *importance);

/* Collective. Sums over all ranks of a site's input, if anything wants them. */
RP_CHECKED rp_status rp_importance_collect(rp_importance *importance, rp_session *session,
                                           int64_t layer, rp_site site, const rp_site_input *input);
/* Local. Adds what it does. */
void rp_importance_collect_traffic(rp_traffic *traffic, const rp_session *session, int64_t layer,
                                   rp_site site);
/* Local. On rank 0 the site's sums into the open checkpoint generation, if they are to be written.
 */
RP_CHECKED rp_status rp_importance_put(const rp_importance *importance, rp_session *session,
                                       int64_t layer, rp_site site);
/* Local. Are the site's sums in the checkpoint, or not wanted there. */
bool rp_importance_has(const rp_session *session, int64_t layer, rp_site site);
/* Collective. Writes the job's importance matrix from the checkpoint, if it is asked for. */
RP_CHECKED rp_status rp_importance_write(rp_session *session);

#ifdef __cplusplus
}
#endif
#endif
