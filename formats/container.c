/* The containers. Adding one is a file container_*.c, a row here and a test. */
#include "formats/container.h"

#include "base/mem.h"
#include "formats/containers.h"

#include <stdio.h>
#include <string.h>

static const rp_container *const containers[] = {
    &rp_container_gptq,
    &rp_container_compressed_tensors,
    &rp_container_plain,
    NULL,
};

const rp_container *rp_container_find(const char *name)
{
    for (const rp_container *const *c = containers; *c != NULL; c++) {
        if (strcmp((*c)->name, name) == 0) {
            return *c;
        }
    }
    return NULL;
}

rp_status rp_part_set(rp_part *out, const char *module, const char *suffix, rp_dtype dtype,
                      int64_t d0, int64_t d1)
{
    rp_status st = RP_OK;

    memset(out, 0, sizeof(*out));
    if (snprintf(out->name, sizeof(out->name), "%s%s", module, suffix) >= (int)sizeof(out->name)) {
        st = RP_FAIL(RP_ERR_CONFIG, "tensor name %s%s is longer than %d bytes", module, suffix,
                     RP_NAME_BYTES - 1);
        goto out;
    }
    out->dtype = dtype;
    out->ndim = d1 < 0 ? 1 : 2;
    out->shape[0] = d0;
    out->shape[1] = d1 < 0 ? 0 : d1;
    RP_TRY(rp_mul_size(&out->nbytes, (size_t)d0, d1 < 0 ? 1 : (size_t)d1));
    RP_TRY(rp_mul_size(&out->nbytes, out->nbytes, rp_dtype_bytes(dtype)));
out:
    return st;
}
