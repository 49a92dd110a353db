/* GGUF files, version 3 (2 is read too): header | key-value pairs | tensor infos | padding | data.
 *
 * The reader holds the header in memory and trusts no length in it: each count and size is checked
 * against the bytes of the file before anything is allocated. The writer builds the header and says
 * at which offsets the tensors belong; the caller writes their bytes. Format: ggml's docs/gguf.md
 * and the checks of its src/gguf.cpp. */
#ifndef RP_FORMATS_GGUF_H
#define RP_FORMATS_GGUF_H

#include "formats/gguf_blocks.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GGUF_MAX_DIMS 4
#define RP_GGUF_NAME_BYTES 64 /* a tensor's name with its NUL */
#define RP_GGUF_ALIGNMENT 32  /* of files that we write */

typedef enum rp_gguf_value_type {
    RP_GGUF_U8 = 0,
    RP_GGUF_I8,
    RP_GGUF_U16,
    RP_GGUF_I16,
    RP_GGUF_U32,
    RP_GGUF_I32,
    RP_GGUF_F32,
    RP_GGUF_BOOL,
    RP_GGUF_STRING,
    RP_GGUF_ARRAY,
    RP_GGUF_U64,
    RP_GGUF_I64,
    RP_GGUF_F64,
    RP_GGUF_VALUE_TYPE_COUNT
} rp_gguf_value_type;

/* Bytes of a string in the file: no NUL behind it, any bytes within. */
typedef struct rp_gguf_string {
    const char *data;
    size_t nbytes;
} rp_gguf_string;

typedef struct rp_gguf_kv {
    char *key; /* NUL-terminated */
    rp_gguf_value_type type;
    rp_gguf_value_type elem_type; /* of an array, else equal to type */
    int64_t count;                /* elements of an array, else 1 */
    const uint8_t *data;          /* numbers little-endian and unaligned: use the functions below */
    size_t nbytes;                /* of data */
    size_t *string_offset;        /* [count] of strings: from data to each one's bytes */
    size_t *string_bytes;         /* [count] */
} rp_gguf_kv;

typedef struct rp_gguf_tensor {
    char name[RP_GGUF_NAME_BYTES];
    int ndim;
    int64_t ne[RP_GGUF_MAX_DIMS]; /* ne[0] runs fastest; dims beyond ndim are 1 */
    const rp_gguf_block_type *type;
    int part;      /* file of a split model that holds it, from 0 */
    size_t offset; /* from the start of its file */
    size_t nbytes;
} rp_gguf_tensor;

/* ---- Reader ---- */

typedef struct rp_gguf rp_gguf; /* immutable */

/* Local. Reads and checks the header of a file. RP_ERR_FORMAT names path, key or tensor, cause. Any
 * part of a split model (NAME-00001-of-0000N.gguf) opens the whole: keys of the first part, tensors
 * of all. */
RP_CHECKED rp_status rp_gguf_open(rp_gguf **out, const char *path);
/* Local. One view of the parts of a split model in their order, each opened or parsed alone. Takes
 * the parts, also on failure: parts[0] becomes *out. */
RP_CHECKED rp_status rp_gguf_join(rp_gguf **out, rp_gguf **parts, int n);
/* Local. The same from a whole file in memory (copied); `origin` stands for the path. */
RP_CHECKED rp_status rp_gguf_parse(rp_gguf **out, const void *data, size_t nbytes,
                                   const char *origin);
void rp_gguf_close(rp_gguf **gguf);
/* Local. Of the first part. */
const char *rp_gguf_path(const rp_gguf *gguf);
/* Local. Number of files, their size together, the path of one. */
int rp_gguf_part_count(const rp_gguf *gguf);
size_t rp_gguf_file_bytes(const rp_gguf *gguf);
const char *rp_gguf_part_path(const rp_gguf *gguf, int part);
uint32_t rp_gguf_version(const rp_gguf *gguf);
/* Local. The bytes of keys and tensor infos, for hashing. Borrowed. */
const uint8_t *rp_gguf_header(const rp_gguf *gguf, size_t *nbytes);

/* Local. All in file order; find gives NULL when absent. Borrowed. */
int64_t rp_gguf_kv_count(const rp_gguf *gguf);
const rp_gguf_kv *rp_gguf_kv_at(const rp_gguf *gguf, int64_t index);
const rp_gguf_kv *rp_gguf_kv_find(const rp_gguf *gguf, const char *key);
int64_t rp_gguf_tensor_count(const rp_gguf *gguf);
const rp_gguf_tensor *rp_gguf_tensor_at(const rp_gguf *gguf, int64_t index);
const rp_gguf_tensor *rp_gguf_tensor_find(const rp_gguf *gguf, const char *name);
/* Local, thread-safe. nbytes at offset within the tensor. */
RP_CHECKED rp_status rp_gguf_read(const rp_gguf *gguf, const rp_gguf_tensor *tensor, size_t offset,
                                  size_t nbytes, void *dst);

/* Local. The value of a key. An absent key: the default is left in *out when `required` is false,
 * else RP_ERR_FORMAT; RP_ERR_FORMAT too when the type is another or the value does not fit. The
 * integers take every integer type. rp_gguf_get_string gives a copy with a NUL (caller frees; NULL
 * when absent); a NUL within is refused. */
RP_CHECKED rp_status rp_gguf_get_int(int64_t *out, const rp_gguf *gguf, const char *key,
                                     bool required);
RP_CHECKED rp_status rp_gguf_get_float(double *out, const rp_gguf *gguf, const char *key,
                                       bool required);
RP_CHECKED rp_status rp_gguf_get_bool(bool *out, const rp_gguf *gguf, const char *key,
                                      bool required);
RP_CHECKED rp_status rp_gguf_get_string(char **out, const rp_gguf *gguf, const char *key,
                                        bool required);
/* Local. The array of a key with elements of this type, or RP_ERR_FORMAT; NULL when absent and not
 * required. */
RP_CHECKED rp_status rp_gguf_get_array(const rp_gguf_kv **out, const rp_gguf *gguf, const char *key,
                                       rp_gguf_value_type elem_type, bool required);
/* Local. Element `index` of a value of an integer type, of F32 or F64, or of strings. */
int64_t rp_gguf_kv_int(const rp_gguf_kv *kv, int64_t index);
double rp_gguf_kv_float(const rp_gguf_kv *kv, int64_t index);
rp_gguf_string rp_gguf_kv_string(const rp_gguf_kv *kv, int64_t index);
/* Local. "u32", "str" ... */
const char *rp_gguf_value_type_name(rp_gguf_value_type type);

/* ---- Writer ---- */

typedef struct rp_gguf_writer rp_gguf_writer;

RP_CHECKED rp_status rp_gguf_writer_create(rp_gguf_writer **out);
void rp_gguf_writer_destroy(rp_gguf_writer **writer);
/* Local. Adds a key; keys are written in the order of the calls and must differ. */
RP_CHECKED rp_status rp_gguf_put_u32(rp_gguf_writer *writer, const char *key, uint32_t value);
RP_CHECKED rp_status rp_gguf_put_i32(rp_gguf_writer *writer, const char *key, int32_t value);
RP_CHECKED rp_status rp_gguf_put_f32(rp_gguf_writer *writer, const char *key, float value);
RP_CHECKED rp_status rp_gguf_put_bool(rp_gguf_writer *writer, const char *key, bool value);
RP_CHECKED rp_status rp_gguf_put_string(rp_gguf_writer *writer, const char *key, const char *value);
RP_CHECKED rp_status rp_gguf_put_i32s(rp_gguf_writer *writer, const char *key,
                                      const int32_t *values, int64_t n);
RP_CHECKED rp_status rp_gguf_put_f32s(rp_gguf_writer *writer, const char *key, const float *values,
                                      int64_t n);
/* An array of strings is opened with its length and filled one by one. */
RP_CHECKED rp_status rp_gguf_put_strings(rp_gguf_writer *writer, const char *key, int64_t n);
RP_CHECKED rp_status rp_gguf_add_string(rp_gguf_writer *writer, const char *value);

/* Local. Adds a tensor behind those before; ne[0] runs fastest. RP_ERR_CONFIG when the name is too
 * long or ne[0] does not fill blocks. */
RP_CHECKED rp_status rp_gguf_add_tensor(rp_gguf_writer *writer, const char *name,
                                        const rp_gguf_block_type *type, int ndim,
                                        const int64_t *ne);
/* Local. A key of another file as it is there. */
RP_CHECKED rp_status rp_gguf_put_kv(rp_gguf_writer *writer, const rp_gguf_kv *kv);
/* Local. Before finish: files with at most so many bytes of tensors each (a larger tensor has a
 * file of its own) when all do not fit into one; 0, the default: one file. */
void rp_gguf_writer_split(rp_gguf_writer *writer, size_t max_part_bytes);
/* Local. After the last key and tensor: the bytes before the data, padding included. *header is
 * borrowed. */
RP_CHECKED rp_status rp_gguf_writer_finish(rp_gguf_writer *writer, const uint8_t **header,
                                           size_t *header_bytes);
/* Local. After finish: tensor `index` in order of adding with its offset in the file, and the size
 * of the file. Bytes between tensors and behind the last are zero. */
const rp_gguf_tensor *rp_gguf_writer_tensor(const rp_gguf_writer *writer, int64_t index);
size_t rp_gguf_writer_file_bytes(const rp_gguf_writer *writer);
/* Local. After finish, of a split model: number of files; header (borrowed) and size of each. */
int rp_gguf_writer_part_count(const rp_gguf_writer *writer);
const uint8_t *rp_gguf_writer_header(const rp_gguf_writer *writer, int index, size_t *header_bytes);
size_t rp_gguf_writer_part_bytes(const rp_gguf_writer *writer, int index);
/* Local. Where a file that was to be written as `path` is: there, or in parts (the first's path);
 * NULL when it is not there. Caller frees. */
RP_CHECKED rp_status rp_gguf_find_written(char **out, const char *path);
/* Local. "PREFIX-00001-of-00003.gguf" for part 0 of 3. Caller frees. */
RP_CHECKED rp_status rp_gguf_split_path(char **out, const char *prefix, int part, int n);

#ifdef __cplusplus
}
#endif
#endif
