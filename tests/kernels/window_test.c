/* Blocks seen through a window hold the same wherever the rows are kept: on the host, in a GPU, or
 * on the host and streamed through a GPU; whatever is used in which order. */
#include "kernels/window.h"

#include <stdlib.h>
#include <string.h>

#include "gpu_pair.h"

enum {
    BLOCK_ROWS = 24,
    COLS = 40,
    MAX_BLOCKS = 7,
    N_SIDES = 3,
    CPU = 0,
    RESIDENT = 1,
    STREAMED = 2
};

const size_t gpu_arena_bytes = 4 << 20;

/* One of the places, and what operations see there beside the window. */
typedef struct side {
    const rp_exec *exec;
    const rp_kernel_ops *ops;
    rp_window *window;
    float *values; /* [place] [2 BLOCK_ROWS, COLS] what is written and added */
    float *seen;   /* [place] [BLOCK_ROWS, COLS] the sum of all that was read */
} side;

typedef struct use {
    int64_t block, n_read, n_write;
    int64_t shift; /* of the values */
} use;

static side sides[N_SIDES];
static rp_window_shape shape;
static uint32_t state;

static uint32_t draw(uint32_t n)
{
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % n;
}

static void fill(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)draw(2001) / 1000 - 1;
    }
}

static void begin(int64_t rows)
{
    static float values[2 * BLOCK_ROWS * COLS];
    static float first[MAX_BLOCKS * BLOCK_ROWS * COLS];

    shape = (rp_window_shape){rows, BLOCK_ROWS, COLS};
    fill(values, RP_COUNT(values));
    fill(first, RP_COUNT(first));
    for (int i = 0; i < N_SIDES; i++) {
        side *const s = &sides[i];
        s->exec = i == CPU ? cpu : &gpu;
        s->ops = i == CPU ? rp_kernels_cpu() : rp_kernels_cuda();
        assert_int_equal(rp_window_create(&s->window, s->exec, &shape, i == STREAMED), RP_OK);
        assert_int_equal(rp_window_cols(s->window), COLS);
        assert_int_equal(rp_place_alloc(s->exec, &s->values, RP_COUNT(values), sizeof(float)),
                         RP_OK);
        assert_int_equal(rp_place_alloc(s->exec, &s->seen, BLOCK_ROWS * COLS, sizeof(float)),
                         RP_OK);
        rp_place_put(s->exec, s->values, values, sizeof(values));
        rp_place_zero(s->exec, s->seen, BLOCK_ROWS * COLS * sizeof(float));
        rp_window_put(s->window, 0, rows, COLS, first);
    }
}

static void end(void)
{
    for (int i = 0; i < N_SIDES; i++) {
        rp_window_destroy(&sides[i].window);
        rp_place_free(sides[i].exec, sides[i].values);
        rp_place_free(sides[i].exec, sides[i].seen);
    }
}

static int64_t n_blocks(void)
{
    return RP_DIV_UP(shape.rows, BLOCK_ROWS);
}

/* What is only read is added up; what is read and written grows; what is only written is set. */
static void apply(side *s, const use *u)
{
    const int64_t rows = RP_MIN(BLOCK_ROWS, shape.rows - u->block * BLOCK_ROWS);
    const int64_t grown = RP_MIN(u->n_read, u->n_write);
    const float *const values = s->values + u->shift * COLS;
    float *const data = rp_window_use(s->window, u->block, u->n_read, u->n_write);

    assert_true((data == NULL) == (u->n_read == 0 && u->n_write == 0));
    if (u->n_write == 0 && u->n_read > 0) {
        s->ops->add(s->exec, rp_mat_of(s->seen, rows, u->n_read, COLS),
                    rp_cmat_of(data, rows, u->n_read, COLS));
    }
    if (grown > 0) {
        s->ops->add(s->exec, rp_mat_of(data, rows, grown, COLS),
                    rp_cmat_of(values, rows, grown, COLS));
    }
    if (u->n_write > grown) {
        const int64_t cols = u->n_write - grown;
        s->ops->subtract(s->exec, rp_mat_of(data + grown, rows, cols, COLS),
                         rp_cmat_of(values + grown, rows, cols, COLS),
                         rp_cmat_of(s->values + grown, rows, cols, COLS));
    }
}

static void apply_to_all(const use *u)
{
    for (int i = 0; i < N_SIDES; i++) {
        apply(&sides[i], u);
    }
}

/* A pass over all blocks, as calibration makes them. */
static void pass(int64_t n_read, int64_t n_write)
{
    const int64_t shift = draw(BLOCK_ROWS);

    for (int64_t b = 0; b < n_blocks(); b++) {
        const use u = {b, n_read, n_write, shift};
        apply_to_all(&u);
    }
}

static void check_rows(void)
{
    static float rows[N_SIDES][MAX_BLOCKS * BLOCK_ROWS * COLS];
    static float seen[N_SIDES][BLOCK_ROWS * COLS];

    for (int i = 0; i < N_SIDES; i++) {
        rp_window_get(sides[i].window, 0, shape.rows, COLS, rows[i]);
        rp_place_get(sides[i].exec, seen[i], sides[i].seen, sizeof(seen[i]));
        assert_int_equal(rp_place_check(sides[i].exec), RP_OK);
        assert_memory_equal(rows[i], rows[CPU], (size_t)(shape.rows * COLS) * sizeof(float));
        assert_memory_equal(seen[i], seen[CPU], sizeof(seen[i]));
    }
}

static void passes_see_what_passes_left(void **unused)
{
    (void)unused;
    for (int64_t rows = 10; rows <= MAX_BLOCKS * BLOCK_ROWS; rows += 17) {
        begin(rows);
        pass(0, 16); /* set, */
        pass(16, 0); /* looked at twice, */
        pass(16, 0);
        pass(16, 32); /* widened, */
        pass(32, 0);
        pass(32, 16); /* narrowed, */
        pass(16, 16); /* grown */
        pass(16, 0);
        pass(COLS, COLS);
        check_rows();
        end();
    }
}

/* Mostly the next block, as if some were skipped, or any other, or the same again. */
static int64_t draw_block(int64_t before)
{
    const uint32_t kind = draw(10);
    const int64_t next = before + (kind < 6 ? 1 : 2);

    if (kind == 9) {
        return before;
    }
    return kind < 8 && next < n_blocks() ? next : draw((uint32_t)n_blocks());
}

static void write_on_host(void)
{
    static float values[BLOCK_ROWS * COLS];
    const int64_t row = draw((uint32_t)shape.rows), nrows = RP_MIN(BLOCK_ROWS, shape.rows - row);
    const int64_t ncols = 1 + draw(COLS);

    fill(values, RP_COUNT(values));
    for (int i = 0; i < N_SIDES; i++) {
        rp_window_put(sides[i].window, row, nrows, ncols, values);
    }
}

static void any_order_will_do(void **unused)
{
    (void)unused;
    for (int round = 0; round < 40; round++) {
        int64_t block = 0;
        state = (uint32_t)round;
        begin(1 + draw(MAX_BLOCKS * BLOCK_ROWS));
        for (int i = 0; i < 60; i++) {
            const int64_t n = 1 + draw(COLS);
            block = draw_block(block);
            const use u = {block, draw(3) > 0 ? n : 0, draw(3) > 0 ? 1 + draw(COLS) : 0,
                           draw(BLOCK_ROWS)};
            apply_to_all(&u);
            if (draw(30) == 0) {
                write_on_host();
            }
        }
        check_rows();
        end();
    }
}

static void the_host_finds_what_it_keeps(void **unused)
{
    float *rows[N_SIDES];
    const use grow = {2, COLS, COLS, 3};

    (void)unused;
    begin(MAX_BLOCKS * BLOCK_ROWS - 5);
    apply_to_all(&grow);
    for (int i = 0; i < N_SIDES; i++) {
        rows[i] = rp_window_on_host(sides[i].window);
    }
    assert_null(rows[RESIDENT]);
    assert_memory_equal(rows[STREAMED], rows[CPU], (size_t)(shape.rows * COLS) * sizeof(float));
    rows[STREAMED][2 * BLOCK_ROWS * COLS] = rows[CPU][2 * BLOCK_ROWS * COLS] = 7;
    rp_window_put(sides[RESIDENT].window, 2 * BLOCK_ROWS, 1, 1, rows[CPU] + 2 * BLOCK_ROWS * COLS);
    apply_to_all(&grow);
    check_rows();
    end();
}

static void memory_given_back_is_used_when_it_is_free(void **unused)
{
    const size_t most = gpu_arena_bytes - ((size_t)64 << 10);
    void *before = NULL;

    (void)unused;
    assert_int_equal(rp_place_alloc(&gpu, &before, most, 1), RP_OK);
    rp_place_zero(&gpu, before, most); /* maybe later */
    rp_place_free(&gpu, before);
    begin(MAX_BLOCKS * BLOCK_ROWS);
    pass(COLS, COLS);
    check_rows();
    end();
}

static void the_plan_counts_it(void **unused)
{
    const rp_window_shape large = {1000, 10, 3}, small = {5, 10, 3};

    (void)unused;
    assert_int_equal(rp_window_bytes(&large, false).place, 12000);
    assert_int_equal(rp_window_bytes(&large, false).host, 0);
    assert_int_equal(rp_window_bytes(&large, true).place, 240);
    assert_int_equal(rp_window_bytes(&large, true).host, 12000);
    assert_int_equal(rp_window_bytes(&small, true).place, 120);
}

static void no_rows_are_rows(void **unused)
{
    (void)unused;
    begin(0);
    check_rows();
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_see_what_passes_left),
        cmocka_unit_test(any_order_will_do),
        cmocka_unit_test(the_host_finds_what_it_keeps),
        cmocka_unit_test(memory_given_back_is_used_when_it_is_free),
        cmocka_unit_test(the_plan_counts_it),
        cmocka_unit_test(no_rows_are_rows),
    };

    if (rp_gpu_count() == 0) {
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
