/* Packing: words computed by hand, and every width and length there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "formats/bitpack.h"

static void words_are_those_of_the_formats(void **state)
{
    /* 0 1 2 ... 7 0 1 ...: eight 3-bit codes are 0xfac688, and codes 10 and 21 straddle words. */
    static const uint32_t three_bits[] = {0x88fac688, 0xc688fac6, 0xfac688fa};
    static const uint32_t two_bits[] = {0xe4e4e4e4, 0xe4e4e4e4};
    static const uint32_t four_bits[] = {0x76543210, 0x76543210, 0x76543210, 0x76543210};
    static const uint32_t eight_bits[] = {0x03020100, 0x07060504};
    uint8_t codes[32];
    uint32_t words[8];

    (void)state;
    for (int i = 0; i < 32; i++) {
        codes[i] = (uint8_t)(i % 8);
    }
    assert_int_equal(rp_bits_words(32, 3), 3);
    rp_bits_pack(words, codes, 32, 3);
    assert_memory_equal(words, three_bits, sizeof(three_bits));
    rp_bits_pack(words, codes, 32, 4);
    assert_memory_equal(words, four_bits, sizeof(four_bits));
    rp_bits_pack(words, codes, 8, 8);
    assert_memory_equal(words, eight_bits, sizeof(eight_bits));
    for (int i = 0; i < 32; i++) {
        codes[i] = (uint8_t)(i % 4);
    }
    rp_bits_pack(words, codes, 32, 2);
    assert_memory_equal(words, two_bits, sizeof(two_bits));
}

static void every_width_and_length_comes_back(void **state)
{
    enum { MOST = 100 };
    uint8_t codes[MOST];
    uint8_t back[MOST + 1];
    uint32_t words[MOST];
    uint32_t random = 12345;

    (void)state;
    for (int bits = 1; bits <= 8; bits++) {
        for (int n = 0; n <= MOST; n++) {
            const int64_t n_words = rp_bits_words(n, bits);
            for (int i = 0; i < n; i++) {
                random = random * 1664525 + 1013904223;
                codes[i] = (uint8_t)(random >> 16 & ((1u << bits) - 1));
            }
            memset(words, 0xa5, sizeof(words));
            memset(back, 0xa5, sizeof(back));
            rp_bits_pack(words, codes, n, bits);
            assert_int_equal(words[n_words], 0xa5a5a5a5); /* nothing behind the last word */
            for (int i = n * bits; i < n_words * 32; i++) {
                assert_int_equal(words[i / 32] >> (i % 32) & 1, 0);
            }
            rp_bits_unpack(back, words, n, bits);
            assert_memory_equal(back, codes, (size_t)n);
            assert_int_equal(back[n], 0xa5);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_the_formats),
        cmocka_unit_test(every_width_and_length_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
