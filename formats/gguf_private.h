/* Private to formats/gguf*.c: what a reader holds. */
#ifndef RP_FORMATS_GGUF_PRIVATE_H
#define RP_FORMATS_GGUF_PRIVATE_H

#include "formats/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rp_gguf {
    char *path;
    int fd; /* -1: parsed from memory */
    size_t file_bytes;
    uint32_t version;
    size_t alignment;
    uint8_t *header; /* the first `loaded` bytes of the file */
    size_t loaded, capacity;
    size_t header_bytes; /* up to the end of the tensor infos */
    int64_t n_kvs, n_tensors;
    rp_gguf_kv *kvs;           /* [n_kvs], file order */
    const rp_gguf_kv **by_key; /* sorted */
    rp_gguf_tensor *tensors;   /* [n_tensors], file order */
    const rp_gguf_tensor **by_name;
    rp_gguf **more; /* [n_more] files behind the first of a split model; their tensors are listed
                       with the first's */
    int n_more;
};

/* Local. One file alone, whatever its split keys say. */
RP_CHECKED rp_status rp_gguf_open_file(rp_gguf **out, const char *path);
/* Local. Makes the list by name anew; RP_ERR_FORMAT when a tensor occurs twice. */
RP_CHECKED rp_status rp_gguf_index_tensors(rp_gguf *gguf);

#ifdef __cplusplus
}
#endif
#endif
