/* Values of GGUF keys by type, with messages that name the key. */
#include "formats/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool is_integer(rp_gguf_value_type type)
{
    return type != RP_GGUF_F32 && type != RP_GGUF_F64 && type != RP_GGUF_BOOL &&
           type != RP_GGUF_STRING && type != RP_GGUF_ARRAY;
}

#define LOAD(ctype)                                                                                \
    do {                                                                                           \
        ctype value;                                                                               \
        memcpy(&value, kv->data + (size_t)index * sizeof(value), sizeof(value));                   \
        return (int64_t)value;                                                                     \
    } while (0)

int64_t rp_gguf_kv_int(const rp_gguf_kv *kv, int64_t index)
{
    switch (kv->elem_type) {
    case RP_GGUF_U8:
    case RP_GGUF_BOOL:
        LOAD(uint8_t);
    case RP_GGUF_I8:
        LOAD(int8_t);
    case RP_GGUF_U16:
        LOAD(uint16_t);
    case RP_GGUF_I16:
        LOAD(int16_t);
    case RP_GGUF_U32:
        LOAD(uint32_t);
    case RP_GGUF_I32:
        LOAD(int32_t);
    case RP_GGUF_U64:
    case RP_GGUF_I64:
        LOAD(int64_t);
    default:
        return 0;
    }
}

double rp_gguf_kv_float(const rp_gguf_kv *kv, int64_t index)
{
    float single = 0.0f;
    double value = 0.0;

    if (kv->elem_type == RP_GGUF_F64) {
        memcpy(&value, kv->data + (size_t)index * sizeof(value), sizeof(value));
        return value;
    }
    memcpy(&single, kv->data + (size_t)index * sizeof(single), sizeof(single));
    return (double)single;
}

rp_gguf_string rp_gguf_kv_string(const rp_gguf_kv *kv, int64_t index)
{
    const rp_gguf_string text = {(const char *)kv->data + kv->string_offset[index],
                                 kv->string_bytes[index]};
    return text;
}

/* The key, or NULL when it is absent and need not be there. */
static rp_status find(const rp_gguf_kv **out, const rp_gguf *gguf, const char *key, bool required)
{
    *out = rp_gguf_kv_find(gguf, key);
    if (*out == NULL && required) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: key %s: missing", rp_gguf_path(gguf), key);
    }
    return RP_OK;
}

static rp_status fail_type(const rp_gguf *gguf, const rp_gguf_kv *kv, const char *want)
{
    return RP_FAIL(RP_ERR_FORMAT, "%s: key %s: want %s, found %s%s", rp_gguf_path(gguf), kv->key,
                   want, kv->type == RP_GGUF_ARRAY ? "an array of " : "",
                   rp_gguf_value_type_name(kv->elem_type));
}

rp_status rp_gguf_get_int(int64_t *out, const rp_gguf *gguf, const char *key, bool required)
{
    rp_status st = RP_OK;
    const rp_gguf_kv *kv = NULL;

    RP_TRY(find(&kv, gguf, key, required));
    if (kv == NULL) {
        goto out;
    }
    if (!is_integer(kv->type)) {
        st = fail_type(gguf, kv, "an integer");
        goto out;
    }
    if (kv->type == RP_GGUF_U64 && rp_gguf_kv_int(kv, 0) < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: more than 2^63", rp_gguf_path(gguf), key);
        goto out;
    }
    *out = rp_gguf_kv_int(kv, 0);
out:
    return st;
}

rp_status rp_gguf_get_float(double *out, const rp_gguf *gguf, const char *key, bool required)
{
    rp_status st = RP_OK;
    const rp_gguf_kv *kv = NULL;

    RP_TRY(find(&kv, gguf, key, required));
    if (kv == NULL) {
        goto out;
    }
    if (kv->type != RP_GGUF_F32 && kv->type != RP_GGUF_F64) {
        st = fail_type(gguf, kv, "f32");
        goto out;
    }
    *out = rp_gguf_kv_float(kv, 0);
out:
    return st;
}

rp_status rp_gguf_get_bool(bool *out, const rp_gguf *gguf, const char *key, bool required)
{
    rp_status st = RP_OK;
    const rp_gguf_kv *kv = NULL;

    RP_TRY(find(&kv, gguf, key, required));
    if (kv == NULL) {
        goto out;
    }
    if (kv->type != RP_GGUF_BOOL) {
        st = fail_type(gguf, kv, "bool");
        goto out;
    }
    *out = rp_gguf_kv_int(kv, 0) != 0;
out:
    return st;
}

rp_status rp_gguf_get_string(char **out, const rp_gguf *gguf, const char *key, bool required)
{
    rp_status st = RP_OK;
    const rp_gguf_kv *kv = NULL;
    rp_gguf_string text = {NULL, 0};

    *out = NULL;
    RP_TRY(find(&kv, gguf, key, required));
    if (kv == NULL) {
        goto out;
    }
    if (kv->type != RP_GGUF_STRING) {
        st = fail_type(gguf, kv, "str");
        goto out;
    }
    text = rp_gguf_kv_string(kv, 0);
    if (memchr(text.data, '\0', text.nbytes) != NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: holds a NUL", rp_gguf_path(gguf), key);
        goto out;
    }
    RP_TRY(rp_alloc(out, text.nbytes + 1));
    memcpy(*out, text.data, text.nbytes);
    (*out)[text.nbytes] = '\0';
out:
    return st;
}

rp_status rp_gguf_get_array(const rp_gguf_kv **out, const rp_gguf *gguf, const char *key,
                            rp_gguf_value_type elem_type, bool required)
{
    rp_status st = RP_OK;

    RP_TRY(find(out, gguf, key, required));
    if (*out != NULL && ((*out)->type != RP_GGUF_ARRAY || (*out)->elem_type != elem_type)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: want an array of %s", rp_gguf_path(gguf), key,
                     rp_gguf_value_type_name(elem_type));
        *out = NULL;
    }
out:
    return st;
}
