/* Any bytes as a safetensors file: opened, listed, first and last bytes of every tensor read. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "tests/formats/make_files.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    rp_safetensors *file = NULL;

    fuzz_check(rp_safetensors_open(&file, make_file("fuzz", data, nbytes)));
    for (int64_t i = 0; file != NULL && i < rp_safetensors_count(file); i++) {
        const rp_safetensors_entry *entry = rp_safetensors_at(file, i);
        char ends[2];
        if (entry->nbytes > 0) {
            fuzz_check(rp_safetensors_read(file, entry, 0, 1, ends));
            fuzz_check(rp_safetensors_read(file, entry, entry->nbytes - 1, 1, ends));
        }
    }
    rp_safetensors_close(&file);
    return 0;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    static const struct {
        const char *header;
        size_t data_bytes;
    } seeds[] = {
        {"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],"
         "\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[],"
         "\"data_offsets\":[24,26]},\"c\":{\"dtype\":\"F4\",\"shape\":[2],"
         "\"data_offsets\":[26,27]}}   ",
         27},
        {"{\"a\\u00e9\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[0,0]}}", 0},
        {"{}", 0},
    };
    uint8_t *bytes = NULL;

    if (index >= (int)RP_COUNT(seeds)) {
        return NULL;
    }
    const size_t header_bytes = strlen(seeds[index].header);
    *nbytes = 8 + header_bytes + seeds[index].data_bytes;
    bytes = calloc(1, *nbytes);
    if (bytes != NULL) {
        bytes[0] = (uint8_t)header_bytes;
        bytes[1] = (uint8_t)(header_bytes >> 8);
        memcpy(bytes + 8, seeds[index].header, header_bytes);
    }
    return bytes;
}
