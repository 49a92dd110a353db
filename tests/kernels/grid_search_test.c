/* The searches give the same bits in vectors of every width that the processor has. Their results
 * themselves are compared by grid_gguf_test. */
#include "kernels/grid_search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 1;

/* Gaussian or so; with a few zeros. */
static float sample(void)
{
    float sum = 0.0f;

    for (int k = 0; k < 5; k++) {
        seed = seed * 1664525u + 1013904223u;
        sum += (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return seed % 64 == 0 ? 0.0f : sum;
}

static void fill(rp_search_tile *t, int n, int ngroups)
{
    memset(t, 0, sizeof(*t));
    t->n = n;
    t->ngroups = ngroups;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < ngroups; k++) {
            const float x = k == 3 ? 1e-39f * sample() : sample();
            t->x[i][k] = k == 5 ? -1.0f - 1e-6f * fabsf(x) : x;
            t->w[i][k] = t->x[i][k] * t->x[i][k];
        }
    }
}

static void assert_same(const rp_search_tile *t, bool has_codes, const rp_search_result *a,
                        const rp_search_result *b)
{
    assert_memory_equal(a->scale, b->scale, (size_t)t->ngroups * sizeof(float));
    assert_memory_equal(a->min, b->min, (size_t)t->ngroups * sizeof(float));
    for (int i = 0; i < t->n && has_codes; i++) {
        assert_memory_equal(a->code[i], b->code[i], (size_t)t->ngroups);
    }
}

typedef enum search {
    SYMMETRIC,
    ANY_SYMMETRIC,
    DESCENT,
    POSITIVE,
    MIN,
    MIN_ABSOLUTE,
    LEVELS
} search;

static void run(const rp_search_functions *f, search kind, const rp_search_tile *tiles,
                rp_search_result *out)
{
    const rp_search_steps steps = {-0.5f, 0.1f, 15, kind == MIN_ABSOLUTE};

    switch (kind) {
    case SYMMETRIC:
    case ANY_SYMMETRIC:
        f->symmetric(tiles, 16, kind == SYMMETRIC, out);
        break;
    case DESCENT:
        f->descent(2, tiles, 4, out);
        break;
    case POSITIVE:
        f->positive(tiles, 63, out);
        break;
    case MIN:
    case MIN_ABSOLUTE:
        f->min(tiles, 15, &steps, out);
        break;
    case LEVELS:
        f->levels(tiles, out);
        break;
    }
}

/* Tiles that are full, and such that leave vectors partly empty. */
static void widths_agree(void **state)
{
    static const int counts[4] = {RP_SEARCH_GROUPS, 1, 7, 40};
    static rp_search_tile tiles[2];
    static rp_search_result want[2], got[2];

    (void)state;
    for (int lanes = 8; lanes <= 16; lanes *= 2) {
        const rp_search_functions *wide = rp_search_functions_of(lanes);
        for (int trial = 0; trial < 40 && wide != NULL; trial++) {
            const int n = trial % 2 == 0 ? 16 : 32;
            fill(&tiles[0], n, counts[trial % 4]);
            fill(&tiles[1], n, counts[(trial / 4) % 4]);
            for (int kind = SYMMETRIC; kind <= LEVELS; kind++) {
                run(rp_search_functions_of(4), (search)kind, tiles, want);
                run(wide, (search)kind, tiles, got);
                assert_same(&tiles[0], kind != LEVELS, &want[0], &got[0]);
                if (kind == DESCENT) {
                    assert_same(&tiles[1], true, &want[1], &got[1]);
                }
            }
        }
    }
}

static void candidates_agree(void **state)
{
    rp_candidates c = {.lo = 0.0f, .hi = 15.0f};
    RP_SEARCH_ALIGNED float want[RP_CANDIDATES];
    RP_SEARCH_ALIGNED float got[RP_CANDIDATES];
    rp_candidate_sums want_sums, got_sums;
    float x[32], w[32];

    (void)state;
    for (int trial = 0; trial < 100; trial++) {
        for (int i = 0; i < 32; i++) {
            x[i] = sample();
            w[i] = fabsf(sample());
        }
        for (int k = 0; k < RP_CANDIDATES; k++) {
            c.step[k] = k == 0 ? 0.0f : 0.2f * fabsf(sample());
            c.offset[k] = fabsf(sample());
        }
        c.is_iq4 = trial % 2 == 1;
        for (int lanes = 8; lanes <= 16; lanes *= 2) {
            const rp_search_functions *narrow = rp_search_functions_of(4);
            const rp_search_functions *wide = rp_search_functions_of(lanes);
            if (wide == NULL) {
                continue;
            }
            narrow->candidate_errors(&c, 32, x, trial % 3 == 0 ? NULL : w, want);
            wide->candidate_errors(&c, 32, x, trial % 3 == 0 ? NULL : w, got);
            assert_memory_equal(want, got, sizeof(want));
            narrow->candidate_sums(c.step, -1.0f, 15.0f, 32, x, w, &want_sums);
            wide->candidate_sums(c.step, -1.0f, 15.0f, 32, x, w, &got_sums);
            assert_memory_equal(&want_sums, &got_sums, sizeof(want_sums));
        }
    }
}

static void rounding_agrees(void **state)
{
    float x[256], step[8], offset[8];
    uint8_t want[256];
    uint8_t got[256];

    (void)state;
    for (int trial = 0; trial < 100; trial++) {
        for (int i = 0; i < 256; i++) {
            x[i] = sample();
        }
        for (int g = 0; g < 8; g++) {
            step[g] = g == 2 ? 0.0f : 0.1f * sample();
            offset[g] = fabsf(sample());
        }
        for (int lanes = 8; lanes <= 16; lanes *= 2) {
            const rp_search_functions *wide = rp_search_functions_of(lanes);
            memset(want, 99, sizeof(want));
            memset(got, 99, sizeof(got));
            if (wide != NULL) {
                rp_search_functions_of(4)->round_groups(8, 32, step, offset, -4, 3, x, want);
                wide->round_groups(8, 32, step, offset, -4, 3, x, got);
                assert_memory_equal(want, got, sizeof(want));
            }
        }
    }
}

/* Blocks of zeros, of both zeros, of ties between signs, of magnitudes whose inverse is infinite.
 */
static void fill_blocks(int nblocks, float *x)
{
    for (int i = 0; i < 32 * nblocks; i++) {
        const float v = sample();
        const int kind = i / 32 % 7;
        x[i] = kind == 1 ? 0.0f : v;
        x[i] = kind == 3 ? rintf(v) : x[i];
        x[i] = kind == 4 ? 1e-39f * v : x[i];
        x[i] = kind == 5 ? copysignf(0.0f, v) : x[i];
        x[i] = kind == 6 ? copysignf(2.0f, v) : x[i];
    }
}

/* Runs of full vectors of blocks, and such that leave some out. */
static void plain_rounding_agrees(void **state)
{
    enum { BLOCKS = 131 };
    static float x[32 * BLOCKS], want_params[2 * BLOCKS], got_params[2 * BLOCKS];
    static uint8_t want[32 * BLOCKS], got[32 * BLOCKS];

    (void)state;
    fill_blocks(BLOCKS, x);
    for (int lanes = 8; lanes <= 16; lanes *= 2) {
        const rp_search_functions *narrow = rp_search_functions_of(4);
        const rp_search_functions *wide = rp_search_functions_of(lanes);
        for (int n = 1; n <= BLOCKS && wide != NULL; n += n < 20 ? 1 : 37) {
            narrow->plain_q8(n, x, want_params, want);
            wide->plain_q8(n, x, got_params, got);
            assert_memory_equal(want_params, got_params, (size_t)n * sizeof(float));
            assert_memory_equal(want, got, (size_t)n * 32);
            narrow->plain_symmetric(n, 8, x, want_params, want);
            wide->plain_symmetric(n, 8, x, got_params, got);
            assert_memory_equal(want_params, got_params, (size_t)n * sizeof(float));
            assert_memory_equal(want, got, (size_t)n * 32);
            narrow->plain_min(n, 31, x, want_params, want);
            wide->plain_min(n, 31, x, got_params, got);
            assert_memory_equal(want_params, got_params, (size_t)n * 2 * sizeof(float));
            assert_memory_equal(want, got, (size_t)n * 32);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths_agree),
        cmocka_unit_test(candidates_agree),
        cmocka_unit_test(rounding_agrees),
        cmocka_unit_test(plain_rounding_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
