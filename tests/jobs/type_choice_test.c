/* Choices under a size beside all there are. */
#include "test.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "jobs/type_choice.h"

#define MOST_ITEMS 6

/* Numbers from a hash: the same everywhere. */
static uint64_t draw(uint64_t seed, uint64_t i)
{
    const uint64_t key[2] = {seed, i};

    return rp_hash_bytes(key, sizeof(key)).lo;
}

/* Items of one to five options; sizes are whole units; every third problem has losses that do not
 * fall with size. */
static int64_t make_items(rp_choice_item *items, uint64_t seed, size_t unit)
{
    const int64_t n = 1 + (int64_t)(draw(seed, 0) % MOST_ITEMS);

    for (int64_t i = 0; i < n; i++) {
        items[i].n = 1 + (int)(draw(seed, 10 + (uint64_t)i) % 5);
        for (int t = 0; t < items[i].n; t++) {
            const uint64_t key = 100 + (uint64_t)(i * 10 + t);
            const size_t units = 1 + draw(seed, key) % 40;
            items[i].nbytes[t] = unit * units;
            items[i].loss[t] = seed % 3 == 0 ? (double)(draw(seed, key + 1000) % 1000)
                                             : 1e6 / (double)(units + 1 + (size_t)i);
        }
    }
    return n;
}

static double loss_of(const rp_choice_item *items, int64_t n, const int *picks, size_t *nbytes)
{
    double loss = 0;

    *nbytes = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(picks[i], 0, items[i].n - 1);
        *nbytes += items[i].nbytes[picks[i]];
        loss += items[i].loss[picks[i]];
    }
    return loss;
}

/* The least loss of all choices that fit. */
static double search_all(const rp_choice_item *items, int64_t n, size_t limit)
{
    int picks[MOST_ITEMS] = {0};
    double least = -1;
    int64_t i = 0;

    while (i < n) {
        size_t nbytes = 0;
        const double loss = loss_of(items, n, picks, &nbytes);
        if (nbytes <= limit && (least < 0 || loss < least)) {
            least = loss;
        }
        for (i = 0; i < n && ++picks[i] == items[i].n; i++) {
            picks[i] = 0;
        }
    }
    return least;
}

static void check_problem(uint64_t seed, size_t unit, double slack)
{
    rp_choice_item items[MOST_ITEMS];
    int picks[MOST_ITEMS];
    const int64_t n = make_items(items, seed, unit);
    const size_t least = rp_choice_least_bytes(items, n);
    const size_t most = rp_choice_most_bytes(items, n);

    for (int part = 0; part <= 5; part++) {
        const size_t limit = least + (most - least) * (size_t)part / 4;
        size_t nbytes = 0;
        double loss = 0;
        double best = 0;
        assert_ok(rp_choose_options(picks, items, n, limit));
        loss = loss_of(items, n, picks, &nbytes);
        assert_true(nbytes <= limit);
        best = search_all(items, n, limit);
        if (loss < best - 1e-9 || loss > best * (1 + slack) + 1e-9) {
            fail_msg("problem %d part %d: %.12g, the best is %.12g", (int)seed, part, loss, best);
        }
    }
}

static void test_is_optimal(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        check_problem(seed, 1, 0);
        check_problem(seed, 84, 0);
        check_problem(seed, (size_t)1 << 40, 0); /* a shared unit of any size */
    }
}

/* A byte more on one item, and no unit is shared: sizes are rounded, limits are kept. */
static void test_odd_sizes(void **state)
{
    const size_t large = (size_t)1 << 32;
    rp_choice_item items[3];
    int picks[3];
    size_t nbytes = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        items[i] = (rp_choice_item){.n = 3,
                                    .nbytes = {large, 2 * large + 1 + (size_t)i, 4 * large + 3},
                                    .loss = {9.0 + i, 3.0 + i, 1.0}};
    }
    for (size_t limit = 3 * large; limit < 13 * large; limit += large / 7) {
        assert_ok(rp_choose_options(picks, items, 3, limit));
        (void)loss_of(items, 3, picks, &nbytes);
        assert_true(nbytes <= limit);
    }
    /* Just enough for all: nothing is left out. */
    assert_ok(rp_choose_options(picks, items, 3, rp_choice_most_bytes(items, 3)));
    assert_true(loss_of(items, 3, picks, &nbytes) == 3);
    /* Just too little for one: the limit is kept. */
    assert_ok(rp_choose_options(picks, items, 3, rp_choice_most_bytes(items, 3) - 1));
    (void)loss_of(items, 3, picks, &nbytes);
    assert_true(nbytes < rp_choice_most_bytes(items, 3));
}

static void test_equal_options(void **state)
{
    const rp_choice_item item = {.n = 3, .nbytes = {64, 64, 64}, .loss = {2, 1, 1}};
    int pick = -1;

    (void)state;
    assert_ok(rp_choose_options(&pick, &item, 1, 64));
    assert_int_equal(pick, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_optimal),
        cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_equal_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
