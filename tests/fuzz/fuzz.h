/* A fuzz target: bytes to a reader, plus good inputs to start from. Linked with fuzz_main.c it is a
 * test that mutates the seeds in a fixed way; its LLVMFuzzerTestOneInput also fits libFuzzer. */
#ifndef RP_TESTS_FUZZ_H
#define RP_TESTS_FUZZ_H

#include "base/status.h"

/* Returns 0. A crash, a sanitizer's report or an outcome that fuzz_check refuses is a finding. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);
/* Seed `index` in memory to be freed; NULL behind the last. */
uint8_t *fuzz_seed(int index, size_t *nbytes);

/* What a reader may say of any bytes: RP_OK, or RP_ERR_FORMAT with a message of one line. */
static inline void fuzz_check(rp_status status)
{
    if (status != RP_OK && (status != RP_ERR_FORMAT || rp_error_message()[0] == '\0')) {
        __builtin_trap();
    }
}

#endif
