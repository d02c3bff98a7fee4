#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "rank.h"
#include "trend.h"

static double draw_normal(struct rng *rng)
{
    return rank_normal_quantile((rng_unit(rng) * (1 - 1e-9)) + 5e-10);
}

static struct trend_change found[TREND_VALUES_MAX];

static int steps_of(const double *values, size_t n)
{
    const struct trend_options options = {.ratio_min = 0.02, .seed = 1};
    int count = trend_steps(values, n, &options, found, NULL);
    assert_true(count >= 0);
    return count;
}

static void every_difference_of_an_exact_metric_is_a_change(void **state)
{
    (void)state;
    const double v[] = {7, 7, 7, 8, 8, 7, 7, 7.0000001};
    struct trend_change c[3];
    assert_int_equal(trend_exact(v, 8, c, 3), 3);
    assert_int_equal(c[0].at, 3);
    assert_true(c[0].before == 7 && c[0].after == 8 && c[0].p == 0);
    assert_int_equal(c[1].at, 5);
    assert_int_equal(c[2].at, 7);
    assert_int_equal(trend_exact(v, 8, c, 1), 3); /* says how many there are */
    assert_int_equal(trend_exact(v, 1, c, 3), 0);
    assert_int_equal(trend_exact(v, 0, c, 3), 0);
}

static void a_step_is_found_where_it_is(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 41);
    int hits = 0;
    for (int round = 0; round < 40; round++) {
        double v[60];
        size_t at = 5 + rng_below(&rng, 50);
        for (size_t i = 0; i < 60; i++) {
            v[i] = (i < at ? 100 : 110) + draw_normal(&rng);
        }
        int n = steps_of(v, 60);
        assert_in_range(n, 1, 2);
        for (int k = 0; k < n; k++) {
            if (found[k].at == at) {
                hits++;
                assert_true(fabs(found[k].before - 100) < 1.5 && fabs(found[k].after - 110) < 1.5);
                assert_true(found[k].p > 0 && found[k].p < TREND_P_BELOW);
            }
        }
    }
    assert_true(hits >= 39);
}

static void several_steps_are_found_even_when_the_level_comes_back(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 42);
    double v[120];
    for (size_t i = 0; i < 120; i++) {
        double level = i < 30 ? 50 : i < 50 ? 55 : i < 80 ? 50 : 70;
        v[i] = level * (1 + 0.01 * draw_normal(&rng));
    }
    assert_int_equal(steps_of(v, 120), 3);
    assert_in_range(found[0].at, 29, 31);
    assert_in_range(found[1].at, 49, 51);
    assert_in_range(found[2].at, 79, 81);
}

static void spikes_are_not_steps(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 43);
    for (int round = 0; round < 60; round++) {
        double v[100];
        for (size_t i = 0; i < 100; i++) {
            v[i] = 100 + draw_normal(&rng);
        }
        size_t width = 1 + (size_t)round % 2; /* one or two values that come back */
        size_t at = rng_below(&rng, 98);
        for (size_t i = 0; i < width; i++) {
            v[at + i] = 200;
        }
        int n = steps_of(v, 100);
        for (int k = 0; k < n; k++) {
            assert_true(found[k].after < 150 && found[k].before < 150);
        }
        assert_int_equal(n, 0);
    }
}

static void a_level_of_three_at_the_end_is_a_step(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 44);
    double v[60];
    for (size_t i = 0; i < 60; i++) {
        v[i] = (i < 57 ? 100 : 150) + draw_normal(&rng);
    }
    assert_int_equal(steps_of(v, 60), 1);
    assert_int_equal(found[0].at, 57);
    assert_int_equal(steps_of(v, 59), 0); /* two of them might be a spike */
}

static void small_steps_are_left_out(void **state)
{
    (void)state;
    double v[40];
    for (size_t i = 0; i < 40; i++) {
        v[i] = (i < 20 ? 100 : 101) + 0.01 * (double)(i % 3);
    }
    assert_int_equal(steps_of(v, 40), 0);
    const struct trend_options finer = {.ratio_min = 0.005, .seed = 1};
    assert_int_equal(trend_steps(v, 40, &finer, found, NULL), 1);
    assert_int_equal(found[0].at, 20);
}

/* 300 series of 60 values without a step: the test asks for p < 0.005, once or at most a few times
 * a series. */
static void noise_rarely_has_steps(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 45);
    int wrong = 0;
    const struct trend_options any = {.ratio_min = 0, .seed = 5};
    for (int round = 0; round < 300; round++) {
        double v[60];
        for (size_t i = 0; i < 60; i++) {
            v[i] = 100 + draw_normal(&rng) + (rng_below(&rng, 20) == 0 ? 10 : 0);
        }
        wrong += trend_steps(v, 60, &any, found, NULL) > 0;
    }
    print_message("series of noise with a step: %d of 300\n", wrong);
    assert_true(wrong <= 6); /* 0.5 % of 300 is 1.5; 6 is beyond three standard deviations */
}

static void the_answer_depends_on_the_seed_alone(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 46);
    double v[80];
    for (size_t i = 0; i < 80; i++) {
        v[i] = 100 + (i > 37 ? 3 : 0) + 2 * draw_normal(&rng);
    }
    const struct trend_options options = {.ratio_min = 0, .seed = 9};
    struct trend_change first[80];
    int n = trend_steps(v, 80, &options, first, NULL);
    assert_true(n > 0);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(trend_steps(v, 80, &options, found, NULL), n);
        for (int i = 0; i < n; i++) {
            assert_int_equal(first[i].at, found[i].at);
            assert_true(first[i].p == found[i].p);
        }
    }
}

static void short_constant_and_broken_series(void **state)
{
    (void)state;
    double v[TREND_VALUES_MAX + 1];
    for (size_t i = 0; i <= TREND_VALUES_MAX; i++) {
        v[i] = 3;
    }
    for (size_t n = 0; n < 20; n++) {
        assert_int_equal(steps_of(v, n), 0);
    }
    assert_int_equal(steps_of(v, TREND_VALUES_MAX), 0);
    struct err err = {""};
    const struct trend_options options = {.ratio_min = 0.02, .seed = 1};
    assert_int_equal(trend_steps(v, TREND_VALUES_MAX + 1, &options, found, &err), -E2BIG);
    v[7] = NAN;
    assert_int_equal(trend_steps(v, 20, &options, found, &err), -EINVAL);
    /* Six values have 20 ways to be split in half: no p below 0.1 is possible. */
    const double six[] = {1, 1, 1, 9, 9, 9};
    assert_int_equal(steps_of(six, 6), 0);
}

static void one_step_is_told_from_none_at_the_level_asked_for(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 48);
    int steps = 0;
    int noise = 0;
    for (int round = 0; round < 400; round++) {
        double v[20];
        for (size_t i = 0; i < 20; i++) {
            v[i] = draw_normal(&rng);
        }
        noise += trend_has_step(v, 20, 0.05, (uint64_t)round, NULL);
        for (size_t i = 8; i < 20; i++) {
            v[i] += 4;
        }
        steps += trend_has_step(v, 20, 0.05, (uint64_t)round, NULL);
    }
    assert_in_range(noise, 6, 38); /* 20 expected, four standard deviations */
    assert_true(steps >= 398);
    const double five[] = {1, 1, 9, 9, 9};
    assert_int_equal(trend_has_step(five, 5, 0.05, 1, NULL), 0);
    const double wrong[] = {1, 1, NAN, 9, 9, 9};
    assert_int_equal(trend_has_step(wrong, 6, 0.05, 1, NULL), -EINVAL);
}

static double cpu_sec(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void five_hundred_values_take_under_a_second(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 47);
    static double v[TREND_VALUES_MAX];
    for (size_t i = 0; i < TREND_VALUES_MAX; i++) {
        v[i] = 100 + 5 * (double)(i / 100) + draw_normal(&rng); /* four steps */
    }
    double from = cpu_sec();
    assert_int_equal(steps_of(v, TREND_VALUES_MAX), 4);
    double took = cpu_sec() - from;
    print_message("500 values with four steps: %.2f s of CPU\n", took);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
    assert_true(took < 20);
#else
    assert_true(took < 1);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_difference_of_an_exact_metric_is_a_change),
        cmocka_unit_test(a_step_is_found_where_it_is),
        cmocka_unit_test(several_steps_are_found_even_when_the_level_comes_back),
        cmocka_unit_test(spikes_are_not_steps),
        cmocka_unit_test(a_level_of_three_at_the_end_is_a_step),
        cmocka_unit_test(small_steps_are_left_out),
        cmocka_unit_test(noise_rarely_has_steps),
        cmocka_unit_test(the_answer_depends_on_the_seed_alone),
        cmocka_unit_test(short_constant_and_broken_series),
        cmocka_unit_test(one_step_is_told_from_none_at_the_level_asked_for),
        cmocka_unit_test(five_hundred_values_take_under_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
