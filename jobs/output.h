/* Outputs: every rank writes the tensors that it is dealt, into files whose places are known
 * beforehand. */
#ifndef RP_JOBS_OUTPUT_H
#define RP_JOBS_OUTPUT_H

#include "jobs/session.h"
#include "model/gguf_map.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where one stored part goes. */
typedef struct rp_store_place {
    int64_t file;
    size_t offset_bytes, nbytes;
} rp_store_place;

/* One model tensor in an output: how it is made and where its parts go. */
typedef struct rp_store_item {
    const rp_weight_info *info;      /* of the source */
    const rp_linear *linear;         /* NULL: not a linear of a layer */
    int form;                        /* RP_FORM_NONE: the source's values */
    const rp_gguf_block_type *block; /* GGUF's type of the tensor */
    rp_dtype dtype;                  /* type of a dense tensor, not GGUF */
    rp_gguf_row_order order;         /* GGUF: rows of Q and K */
    bool is_copy;                    /* GGUF: the source's bytes */
    bool is_container;               /* parts by the container's encoder; needs the whole form */
    int n_parts;
    rp_store_place places[RP_MAX_PARTS];
} rp_store_item;

typedef struct rp_store_file {
    char *path;
    void *header; /* [header_bytes] first bytes */
    size_t header_bytes, total_bytes;
    void *extra; /* [extra_bytes] at extra_offset: a small tensor that is not of the source; NULL */
    size_t extra_offset, extra_bytes;
} rp_store_file;

/* All of one output, the same on every rank. */
typedef struct rp_store {
    const rp_output_format *format;
    int index;                     /* of the output */
    char *path;                    /* final: a folder, or a .gguf file (the first of several) */
    char *work_path;               /* the folder while it is written; equal to path for a file */
    const rp_container *container; /* NULL: gguf and plain */
    rp_container_opts container_opts;
    rp_store_file *files;
    int64_t n_files;
    rp_store_item *items;
    int64_t n_items;
    char *index_json; /* of sharded safetensors, or NULL */
    size_t total_bytes;
} rp_store;

/* Local. Lays output `index` of the session's job out: names, types, offsets; reads and writes
 * nothing. */
RP_CHECKED rp_status rp_store_create(rp_store **out, const rp_session *session, int index);
void rp_store_destroy(rp_store **store);

/* Collective. Writes the output: everything, synced, before it has its final name. */
RP_CHECKED rp_status rp_store_write(rp_store *store, rp_session *session);
/* Collective. Reads the output back through the reader and compares every tensor with what was
 * meant, bit for bit. */
RP_CHECKED rp_status rp_store_verify(const rp_store *store, rp_session *session);

/* For the layouts (output_safetensors.c, output_gguf.c): one function a format kind. */
rp_status rp_store_lay_out_safetensors(rp_store *store, const rp_session *session);
rp_status rp_store_lay_out_gguf(rp_store *store, const rp_session *session);
/* Local. All keys of a GGUF output; file_type is llama.cpp's number. */
rp_status rp_store_put_gguf_keys(rp_gguf_writer *writer, const rp_session *session,
                                 int32_t file_type);
/* Local. config.json and what else stands beside the tensors, into store->work_path. Rank 0. */
rp_status rp_store_write_sidecars(const rp_store *store, const rp_session *session);

#ifdef __cplusplus
}
#endif
#endif
