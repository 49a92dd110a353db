/* Pieces of codes: every width with rows of every length, sizes, rows on their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "jobs/piece.h"

enum { ROWS = 19, MOST_COLS = 70 };

static rp_grid grid_of(int bits)
{
    return (rp_grid){
        .ops = rp_grid_find("affine"), .bits = bits, .group = 32, .scale_type = RP_F16};
}

static rp_form codes_of(uint8_t *codes, int bits, int64_t cols)
{
    static uint32_t random = 12345;

    for (int64_t i = 0; i < ROWS * cols; i++) {
        random = random * 1664525 + 1013904223;
        codes[i] = (uint8_t)(random >> 16 & ((1u << bits) - 1));
    }
    return (rp_form){
        .kind = RP_FORM_CODES, .rows = ROWS, .cols = cols, .grid = grid_of(bits), .codes = codes};
}

/* Packed in one piece, by several threads, every run of rows in it is what those rows are when
 * packed alone. */
static void check_rows(const rp_form *form, rp_pool *pool)
{
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    const rp_piece piece = rp_piece_of_form(form, 0, ROWS);
    const int64_t cols = form->cols;
    uint8_t back[ROWS * MOST_COLS + 1];
    void *all = NULL;

    assert_int_equal(rp_piece_parts(&piece, parts), 2);
    assert_int_equal(rp_piece_pack_codes(&all, form, pool), RP_OK);
    for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t n = 1; n <= ROWS - row; n++) {
            const size_t row_bytes = rp_piece_part_row_bytes(&parts[0]);
            const char *rows = (const char *)all + (size_t)row * row_bytes;
            const rp_form part = {.rows = n, .cols = cols, .grid = form->grid, .codes = back};
            rp_form view = *form;
            void *alone = NULL;
            view.rows = n;
            view.codes = form->codes + row * cols;
            assert_int_equal(rp_piece_pack_codes(&alone, &view, NULL), RP_OK);
            assert_memory_equal(alone, rows, (size_t)n * row_bytes);
            memset(back, 0xa5, sizeof(back));
            rp_piece_unpack_codes(&part, rows);
            assert_memory_equal(back, view.codes, (size_t)(n * cols));
            assert_int_equal(back[n * cols], 0xa5);
            free(alone);
        }
    }
    free(all);
}

static void rows_are_packed_on_their_own(void **state)
{
    uint8_t codes[ROWS * MOST_COLS];
    rp_pool *pool = NULL;

    (void)state;
    assert_int_equal(rp_pool_create(&pool, 3), RP_OK);
    for (int bits = 1; bits <= 8; bits++) {
        for (int64_t cols = 1; cols <= MOST_COLS; cols++) {
            const rp_form form = codes_of(codes, bits, cols);
            check_rows(&form, pool);
        }
    }
    rp_pool_destroy(&pool);
}

static void sizes_are_of_all_datasets(void **state)
{
    static const struct {
        const char *grid;
        int bits;
        int64_t group, cols;
        size_t codes_bytes, params_bytes; /* of a row */
    } cases[] = {
        {"affine", 4, 128, 4096, 2048, 32 * 2 * 4}, {"affine", 3, 128, 4096, 1536, 32 * 2 * 4},
        {"affine", 8, 0, 4096, 4096, 2 * 4},        {"affine", 2, 32, 70, 20, 3 * 2 * 4},
        {"Q6_K", 6, 256, 512, 384, 2 * 17 * 4},     {"TQ2_0", 2, 256, 256, 64, 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const rp_form form = {.kind = RP_FORM_CODES,
                              .rows = 7,
                              .cols = cases[i].cols,
                              .grid = {.ops = rp_grid_find(cases[i].grid),
                                       .bits = cases[i].bits,
                                       .group = cases[i].group}};
        const rp_piece piece = rp_piece_of_form(&form, 3, 10);
        assert_int_equal(rp_piece_bytes(&piece),
                         7 * (cases[i].codes_bytes + cases[i].params_bytes));
    }
    const rp_form dense = {.kind = RP_FORM_DENSE, .rows = 7, .cols = 11};
    const rp_piece piece = rp_piece_of_form(&dense, 0, 7);
    const rp_piece text = {.kind = RP_PIECE_TEXT, .dtype = RP_U8, .rows = 9, .cols = 1};
    assert_int_equal(rp_piece_bytes(&piece), 7 * 11 * 4);
    assert_int_equal(rp_piece_bytes(&text), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_packed_on_their_own),
        cmocka_unit_test(sizes_are_of_all_datasets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
