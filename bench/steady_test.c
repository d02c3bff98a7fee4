#include "base/test.h"

#include <errno.h>
#include <math.h>

#include "base/rng.h"
#include "rank.h"
#include "steady.h"

static double draw_normal(struct rng *rng)
{
    return rank_normal_quantile((rng_unit(rng) * (1 - 1e-9)) + 5e-10);
}

enum { N = STEADY_WINDOWS, ROUNDS = 300 };

static void a_steady_run_loses_nothing_nearly_always(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 51);
    int whole = 0;
    int never = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double p50[N];
        double rate[N];
        for (size_t i = 0; i < N; i++) {
            p50[i] = 100 + draw_normal(&rng);
            rate[i] = 8000 + 50 * draw_normal(&rng);
        }
        int cut = steady_cut(p50, rate, N, (uint64_t)round, NULL);
        whole += cut == 0;
        never += cut < 0;
    }
    print_message("steady runs: %d of %d whole, %d thrown away\n", whole, ROUNDS, never);
    assert_true(whole >= ROUNDS * 0.90);
    assert_true(never <= ROUNDS / 100);
}

static void a_warm_up_is_cut_off(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 52);
    int right = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double p50[N];
        double rate[N];
        for (size_t i = 0; i < N; i++) {
            p50[i] = 100 + (i < 6 ? 40 : 0) + draw_normal(&rng);
            rate[i] = 8000 + 50 * draw_normal(&rng);
        }
        int cut = steady_cut(p50, rate, N, (uint64_t)round, NULL);
        /* One or two slow windows that stay in are too few for either test to see. */
        right += cut >= 4 && cut <= 7;
    }
    assert_true(right >= ROUNDS * 0.97);
}

static void a_run_that_never_settles_is_unsteady(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 53);
    int never = 0;
    struct err err;
    for (int round = 0; round < ROUNDS; round++) {
        double p50[N];
        double rate[N];
        for (size_t i = 0; i < N; i++) {
            p50[i] = 100 + draw_normal(&rng);
            rate[i] = 8000 - 60 * (double)i + 30 * draw_normal(&rng);
        }
        never += steady_cut(p50, rate, N, (uint64_t)round, &err) == -ENODATA;
    }
    assert_true(never >= ROUNDS * 0.95);
}

static void a_step_late_in_the_run_is_unsteady(void **state)
{
    (void)state;
    double p50[N];
    double rate[N];
    struct rng rng;
    rng_init(&rng, 54);
    for (size_t i = 0; i < N; i++) {
        p50[i] = (i < 15 ? 100 : 120) + draw_normal(&rng);
        rate[i] = 8000;
    }
    struct err err;
    assert_int_equal(steady_cut(p50, rate, N, 1, &err), -ENODATA);
}

/* Drifts that no comparison of runs could see. */
static void a_drift_of_three_percent_is_one_level(void **state)
{
    (void)state;
    double p50[N];
    double rate[N];
    for (size_t i = 0; i < N; i++) {
        p50[i] = 100 + 3 * (double)i / N;
        rate[i] = 8000 - 240 * (double)i / N;
    }
    assert_int_equal(steady_cut(p50, rate, N, 1, NULL), 0);
    for (size_t i = 0; i < N; i++) {
        p50[i] = 100 + 20 * (double)i / N;
    }
    assert_int_equal(steady_cut(p50, rate, N, 1, NULL), -ENODATA);
}

static void constant_and_broken_windows(void **state)
{
    (void)state;
    double flat[N];
    for (size_t i = 0; i < N; i++) {
        flat[i] = 5;
    }
    struct err err = {""};
    assert_int_equal(steady_cut(flat, flat, N, 1, &err), 0);
    assert_int_equal(steady_cut(flat, flat, 5, 1, &err), -EINVAL);
    double wrong[N] = {NAN};
    assert_int_equal(steady_cut(flat, wrong, N, 1, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_run_loses_nothing_nearly_always),
        cmocka_unit_test(a_warm_up_is_cut_off),
        cmocka_unit_test(a_run_that_never_settles_is_unsteady),
        cmocka_unit_test(a_step_late_in_the_run_is_unsteady),
        cmocka_unit_test(a_drift_of_three_percent_is_one_level),
        cmocka_unit_test(constant_and_broken_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
