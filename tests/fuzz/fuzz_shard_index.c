/* Any bytes as model.safetensors.index.json beside two good shards. */
#include <stdlib.h>
#include <string.h>

#include "formats/hf_folder.h"
#include "tests/formats/make_files.h"
#include "tests/fuzz/fuzz.h"

static const char good_index[] = "{\"metadata\":{\"total_size\":4},\"weight_map\":"
                                 "{\"a\":\"s1\",\"b\":\"s2\"}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    rp_hf_folder *folder = NULL;

    (void)make_file("model.safetensors.index.json", data, nbytes);
    fuzz_check(rp_hf_folder_open(&folder, scratch_path("")));
    rp_hf_folder_close(&folder);
    return 0;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    if (index > 0) {
        return NULL;
    }
    (void)make_safetensors("s1", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                           2);
    (void)make_safetensors("s2", "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                           2);
    *nbytes = sizeof(good_index) - 1;
    return (uint8_t *)strdup(good_index);
}
