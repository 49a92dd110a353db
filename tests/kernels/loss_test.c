/* Token losses from vocabulary tiles against sums over the whole row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/loss.h"

#define VOCAB 37

static void make_row(float *row, unsigned seed)
{
    for (int i = 0; i < VOCAB; i++) {
        seed = seed * 1664525U + 1013904223U;
        row[i] = (float)(seed >> 16) / 4096.0F - 8.0F;
    }
}

static double log_sum_exp(const float *row)
{
    double sum = 0;

    for (int i = 0; i < VOCAB; i++) {
        sum += exp((double)row[i]);
    }
    return log(sum);
}

static rp_loss run(const float *row, const float *other, int64_t tile, int64_t target)
{
    rp_loss loss = rp_loss_start();

    for (int64_t first = 0; first < VOCAB; first += tile) {
        const int64_t n = RP_MIN(tile, VOCAB - first);
        rp_loss_add(&loss, row + first, other == NULL ? NULL : other + first, first, n, target);
    }
    return loss;
}

static void test_against_whole_row(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 20; seed++) {
        float model[VOCAB];
        float base[VOCAB];
        make_row(model, seed);
        make_row(base, seed + 100);
        const int64_t target = seed % VOCAB;
        const double lse = log_sum_exp(model);
        const double base_lse = log_sum_exp(base);
        double kl = 0;
        for (int i = 0; i < VOCAB; i++) {
            const double log_p = (double)base[i] - base_lse;
            kl += exp(log_p) * (log_p - ((double)model[i] - lse));
        }
        for (int64_t tile = 1; tile <= VOCAB; tile += 4) {
            const rp_loss of_model = run(model, NULL, tile, target);
            const rp_loss of_base = run(base, model, tile, target);
            assert_true(fabs(rp_loss_nll(&of_model) - (lse - (double)model[target])) < 1e-6);
            assert_true(fabs(rp_loss_kl(&of_base, &of_model) - kl) < 1e-6 * (1 + kl));
            for (int i = 0; i < VOCAB; i++) {
                assert_true(model[of_model.best] >= model[i]);
            }
        }
    }
}

static void test_same_model_has_no_divergence(void **state)
{
    (void)state;
    float row[VOCAB];
    make_row(row, 5);
    const rp_loss model = run(row, NULL, 8, 3);
    const rp_loss base = run(row, row, 8, 3);
    assert_true(rp_loss_kl(&base, &model) == 0);
    assert_int_equal(base.best, model.best);
}

static void test_huge_logits_and_ties(void **state)
{
    (void)state;
    const float row[] = {-3e4F, 1e4F, 1e4F, 0.0F};
    rp_loss loss = rp_loss_start();

    rp_loss_add(&loss, row, NULL, 0, 2, 2);
    rp_loss_add(&loss, row + 2, NULL, 2, 2, 2);
    assert_true(fabs(rp_loss_nll(&loss) - log(2.0)) < 1e-9);
    assert_int_equal(loss.best, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_whole_row),
        cmocka_unit_test(test_same_model_has_no_divergence),
        cmocka_unit_test(test_huge_logits_and_ties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
