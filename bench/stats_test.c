#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "stats.h"

static void assert_near(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance)) {
        fail_msg("got %.12g, expected %.12g within %g", got, expected, tolerance);
    }
}

static double draw_normal(struct rng *rng)
{
    return rank_normal_quantile((rng_unit(rng) * (1 - 1e-9)) + 5e-10);
}

static void medians_and_mads_of_small_samples(void **state)
{
    (void)state;
    const double v[] = {1, 1, 2, 2, 4, 6, 9}; /* median 2, distances 1 1 0 0 2 4 7 */
    assert_near(stats_median(v, 7), 2, 0);
    assert_near(stats_mad(v, 7), 1, 0);
    const double unsorted[] = {9, 1, 4, 2};
    assert_near(stats_median(unsorted, 4), 3, 0);
    assert_near(stats_median(unsorted, 1), 9, 0);
    assert_near(stats_mad(unsorted, 1), 0, 0);
    assert_true(isnan(stats_median(unsorted, 0)) && isnan(stats_mad(unsorted, 0)));
    assert_near(unsorted[0], 9, 0); /* the input is left as it was */
}

/* R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and p.adjust(1:5 / 100, "holm"). */
static void holm_gives_the_known_adjustments(void **state)
{
    (void)state;
    double p[] = {0.01, 0.04, 0.03, 0.005};
    const double expected[] = {0.03, 0.06, 0.06, 0.02};
    assert_int_equal(stats_holm(p, 4, p, NULL), 0); /* in place */
    for (size_t i = 0; i < 4; i++) {
        assert_near(p[i], expected[i], 1e-12);
    }
    const double row[] = {0.01, 0.02, 0.03, 0.04, 0.05};
    const double adjusted[] = {0.05, 0.08, 0.09, 0.09, 0.09};
    double out[5];
    assert_int_equal(stats_holm(row, 5, out, NULL), 0);
    for (size_t i = 0; i < 5; i++) {
        assert_near(out[i], adjusted[i], 1e-12);
    }
    const double large[] = {0.9, 0.8};
    assert_int_equal(stats_holm(large, 2, out, NULL), 0);
    assert_true(out[0] == 1 && out[1] == 1);
    const double wrong[] = {0.5, 1.5};
    assert_int_equal(stats_holm(wrong, 2, out, NULL), -EINVAL);
}

static void holm_holds_the_familys_error(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 31);
    enum { ROUNDS = 20000, FAMILY = 12 };
    int wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double p[FAMILY];
        for (size_t i = 0; i < FAMILY; i++) {
            p[i] = rng_unit(&rng);
        }
        assert_int_equal(stats_holm(p, FAMILY, p, NULL), 0);
        bool any = false;
        for (size_t i = 0; i < FAMILY; i++) {
            any = any || p[i] <= 0.01;
        }
        wrong += any;
    }
    assert_true(wrong <= ROUNDS * 0.01 + 4 * sqrt(ROUNDS * 0.01));
    assert_true(wrong >= ROUNDS * 0.005);
}

/* Conover, "Practical Nonparametric Statistics", and every table of intervals for a median. */
static void the_medians_ranks_are_those_of_the_tables(void **state)
{
    (void)state;
    const struct {
        int64_t n;
        int64_t low;
        int64_t high;
        double level;
    } table[] = {{6, 1, 6, 0.969},   {10, 2, 9, 0.979},   {15, 4, 12, 0.965},
                 {20, 6, 15, 0.959}, {50, 18, 33, 0.967}, {100, 40, 61, 0.965}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct stats_ranks r;
        assert_int_equal(stats_quantile_ranks(table[i].n, 0.5, 0.95, &r, NULL), 0);
        assert_int_equal(r.low, table[i].low);
        assert_int_equal(r.high, table[i].high);
        assert_near(r.level, table[i].level, 0.0006);
    }
}

/* Sums of the binomial distribution written out, for every n to 40 and many p. */
static void quantile_ranks_equal_plain_sums(void **state)
{
    (void)state;
    const double ps[] = {0.01, 0.1, 0.25, 0.5, 0.7, 0.9, 0.99, 0.999};
    for (int n = 1; n <= 40; n++) {
        for (size_t k = 0; k < sizeof ps / sizeof *ps; k++) {
            double cdf[42]; /* cdf[i] = P(N < i) */
            cdf[0] = 0;
            for (int i = 0; i <= n; i++) {
                double pmf = exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) +
                                 i * log(ps[k]) + (n - i) * log1p(-ps[k]));
                cdf[i + 1] = cdf[i] + pmf;
            }
            int low = 0;
            while (cdf[low + 1] <= 0.005) {
                low++; /* P(N < low) stays at most 0.005 */
            }
            int high = n + 1;
            while (1 - cdf[high - 1] <= 0.005) {
                high--; /* P(N >= high) likewise */
            }
            struct stats_ranks r;
            assert_int_equal(stats_quantile_ranks(n, ps[k], 0.99, &r, NULL), 0);
            assert_int_equal(r.low, low);
            assert_int_equal(r.high, high);
            assert_near(r.level, cdf[high] - cdf[low], 1e-9);
        }
    }
}

static void a_far_quantile_of_few_values_has_no_upper_bound(void **state)
{
    (void)state;
    struct stats_ranks r;
    /* 0.999^5295 is just above 0.005, 0.999^5296 below. */
    assert_int_equal(stats_quantile_ranks(5295, 0.999, 0.99, &r, NULL), 0);
    assert_int_equal(r.high, 5296);
    assert_int_equal(stats_quantile_ranks(5296, 0.999, 0.99, &r, NULL), 0);
    assert_int_equal(r.high, 5296);
    /* 1e8 values in reasonable time; the normal curve says 99,900,000 +- 2.576 * 316.07. */
    assert_int_equal(stats_quantile_ranks(100000000, 0.999, 0.99, &r, NULL), 0);
    assert_near((double)r.low, 99900000 - 814, 3);
    assert_near((double)r.high, 99900001 + 814, 3);
    assert_near(r.level, 0.99, 0.0001);
    const double few[] = {5, 1, 4, 2, 3};
    struct rank_interval ci;
    assert_int_equal(stats_quantile_interval(few, 5, 0.5, 0.95, &ci, NULL), 0);
    assert_true(isinf(ci.low) && isinf(ci.high) && ci.estimate == 3);
    assert_int_equal(stats_quantile_interval(few, 5, 0.5, 0.90, &ci, NULL), 0);
    assert_true(ci.low == 1 && ci.high == 5);
}

static void quantile_intervals_cover_as_often_as_they_say(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 32);
    enum { ROUNDS = 4000, N = 200 };
    int covered = 0;
    double level = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double v[N];
        for (size_t i = 0; i < N; i++) {
            v[i] = rng_unit(&rng); /* its quantile p is p */
        }
        struct rank_interval ci;
        assert_int_equal(stats_quantile_interval(v, N, 0.9, 0.95, &ci, NULL), 0);
        covered += ci.low <= 0.9 && 0.9 <= ci.high;
        level = ci.level;
    }
    assert_near((double)covered / ROUNDS, level, 4 * sqrt(0.05 * 0.95 / ROUNDS));
}

static void the_bootstrap_is_repeatable_and_follows_scale(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 33);
    double a[30];
    double b[25];
    double doubled[25];
    for (size_t i = 0; i < 30; i++) {
        a[i] = 100 + 5 * draw_normal(&rng);
    }
    for (size_t i = 0; i < 25; i++) {
        b[i] = 110 + 5 * draw_normal(&rng);
        doubled[i] = 2 * b[i];
    }
    struct rank_interval one;
    struct rank_interval two;
    assert_int_equal(stats_bootstrap_ratio(a, 30, b, 25, 0.99, 9999, 7, &one, NULL), 0);
    assert_int_equal(stats_bootstrap_ratio(a, 30, b, 25, 0.99, 9999, 7, &two, NULL), 0);
    assert_true(one.low == two.low && one.high == two.high);
    assert_int_equal(stats_bootstrap_ratio(a, 30, b, 25, 0.99, 9999, 8, &two, NULL), 0);
    assert_near(two.low, one.low, 0.01); /* another seed, much the same */
    assert_near(one.estimate, stats_median(b, 25) / stats_median(a, 30), 1e-15);
    assert_true(one.low < one.estimate && one.estimate < one.high);
    assert_int_equal(stats_bootstrap_ratio(a, 30, doubled, 25, 0.99, 9999, 7, &two, NULL), 0);
    assert_near(two.low, 2 * one.low, 1e-12);
    assert_near(two.high, 2 * one.high, 1e-12);
}

static void bootstrap_intervals_cover_nearly_as_often_as_they_say(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 34);
    enum { ROUNDS = 400, N = 40 };
    int covered = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double a[N];
        double b[N];
        for (size_t i = 0; i < N; i++) {
            a[i] = 100 + 5 * draw_normal(&rng);
            b[i] = 105 + 5 * draw_normal(&rng);
        }
        struct rank_interval ci;
        assert_int_equal(stats_bootstrap_ratio(a, N, b, N, 0.95, 499, (uint64_t)round, &ci, NULL),
                         0);
        covered += ci.low <= 1.05 && 1.05 <= ci.high;
    }
    assert_in_range(covered, (int)(ROUNDS * 0.92), (int)(ROUNDS * 0.99));
}

static void constant_samples_have_a_bootstrap_without_width(void **state)
{
    (void)state;
    const double four[] = {4, 4, 4};
    const double five[] = {5, 5, 5, 5};
    const double zero[] = {0, 0, 0};
    const double some_zero[] = {0, 0, 1, 1, 1};
    struct rank_interval ci;
    assert_int_equal(stats_bootstrap_ratio(four, 3, five, 4, 0.99, 999, 1, &ci, NULL), 0);
    assert_true(ci.low == 1.25 && ci.high == 1.25 && ci.estimate == 1.25);
    assert_int_equal(stats_bootstrap_ratio(four, 1, five, 1, 0.99, 999, 1, &ci, NULL), 0);
    assert_true(ci.low == 1.25);
    assert_int_equal(stats_bootstrap_ratio(zero, 3, five, 4, 0.99, 999, 1, &ci, NULL), -EDOM);
    assert_int_equal(stats_bootstrap_ratio(some_zero, 5, five, 4, 0.99, 999, 1, &ci, NULL), -EDOM);
    assert_int_equal(stats_bootstrap_ratio(four, 0, five, 4, 0.99, 999, 1, &ci, NULL), -EINVAL);
    assert_int_equal(stats_bootstrap_ratio(four, 3, five, 4, 0.99, 98, 1, &ci, NULL), -EINVAL);
    assert_int_equal(stats_bootstrap_ratio(four, 3, five, 4, 1.5, 999, 1, &ci, NULL), -EINVAL);
}

/* R: fisher.test(TeaTasting) and fisher.test(Convictions); the last is its table transposed. */
static void fisher_gives_the_documented_examples(void **state)
{
    (void)state;
    double p = 0;
    assert_int_equal(stats_fisher(3, 1, 1, 3, &p, NULL), 0);
    assert_near(p, 0.4857142857, 1e-9);
    assert_int_equal(stats_fisher(2, 10, 15, 3, &p, NULL), 0);
    assert_near(p, 0.0005367, 5e-8);
    assert_int_equal(stats_fisher(2, 15, 10, 3, &p, NULL), 0);
    assert_near(p, 0.0005367, 5e-8);
    assert_int_equal(stats_fisher(0, 0, 5, 3, &p, NULL), 0);
    assert_near(p, 1, 1e-12);
    assert_int_equal(stats_fisher(-1, 0, 5, 3, &p, NULL), -EINVAL);
    assert_int_equal(stats_fisher(1000001, 0, 5, 3, &p, NULL), -EINVAL);
}

static void a_tail_three_times_as_heavy_is_seen_as_such(void **state)
{
    (void)state;
    enum { PAIRS = 24 };
    int64_t above_a[PAIRS];
    int64_t above_b[PAIRS];
    int64_t n_a[PAIRS];
    int64_t n_b[PAIRS];
    struct rng rng;
    rng_init(&rng, 35);
    for (size_t i = 0; i < PAIRS; i++) {
        n_a[i] = 20000;
        n_b[i] = 10000; /* rates, not counts, are compared */
        above_a[i] = 20 + (int64_t)rng_below(&rng, 10);
        above_b[i] = 30 + (int64_t)rng_below(&rng, 15);
    }
    struct rank_interval ci;
    struct rank_test test;
    assert_int_equal(stats_tail(above_a, n_a, above_b, n_b, PAIRS, 0.99, &ci, &test, NULL), 0);
    assert_near(ci.estimate, 3, 0.3);
    assert_true(ci.low > 2 && ci.high < 4.5 && ci.low < ci.estimate && ci.estimate < ci.high);
    assert_true(test.p_two_sided < 1e-5);
    assert_int_equal(stats_tail(above_b, n_b, above_a, n_a, PAIRS, 0.99, &ci, NULL, NULL), 0);
    assert_near(ci.estimate, 1.0 / 3, 0.04);
}

static void tails_by_hand(void **state)
{
    (void)state;
    const int64_t none[] = {0, 0};
    const int64_t some[] = {4, 4};
    const int64_t n[] = {1000, 1000};
    struct rank_interval ci;
    assert_int_equal(stats_tail(none, n, some, n, 2, 0.99, &ci, NULL, NULL), 0);
    assert_near(ci.estimate, 9, 1e-9); /* 4.5 / 0.5 */
    assert_true(ci.low == 0 && isinf(ci.high)); /* two runs bound nothing */
    const int64_t zero[] = {0, 0};
    const int64_t negative[] = {-1, 4};
    const int64_t more[] = {4, 1001};
    assert_int_equal(stats_tail(none, zero, some, n, 2, 0.99, &ci, NULL, NULL), -EINVAL);
    assert_int_equal(stats_tail(negative, n, some, n, 2, 0.99, &ci, NULL, NULL), -EINVAL);
    assert_int_equal(stats_tail(none, n, more, n, 2, 0.99, &ci, NULL, NULL), -EINVAL);
    assert_int_equal(stats_tail(none, n, some, n, 0, 0.99, &ci, NULL, NULL), -EINVAL);
}

static struct stats_modes modes_of(const double *v, size_t n)
{
    struct stats_modes m;
    assert_int_equal(stats_modes(v, n, 0, &m, NULL), 0);
    return m;
}

static void two_modes_are_found_at_any_share_from_a_fifth_on(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 36);
    for (int high = 0; high <= 10; high++) {
        int found = 0;
        for (int round = 0; round < 100; round++) {
            double v[40];
            for (int i = 0; i < 40; i++) {
                v[i] = 100 + draw_normal(&rng) + (i % 10 < high ? 20 : 0);
            }
            struct stats_modes m = modes_of(v, 40);
            found += m.two;
            if (m.two) {
                assert_near(m.share_high, high / 10.0, 1e-9);
                assert_true(m.cut > 104 && m.cut < 116);
            }
        }
        if (high >= 2 && high <= 8) {
            assert_true(found >= 98);
        } else {
            assert_true(found <= 2);
        }
    }
}

static void one_mode_is_rarely_taken_for_two(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 37);
    const size_t sizes[] = {16, 24, 48, 64};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        enum { ROUNDS = 5000 };
        int wrong = 0;
        for (int round = 0; round < ROUNDS; round++) {
            double v[64];
            for (size_t i = 0; i < sizes[k]; i++) {
                v[i] = draw_normal(&rng);
            }
            wrong += modes_of(v, sizes[k]).two;
        }
        print_message("two modes in %zu normal values: %.2f %%\n", sizes[k],
                      100.0 * wrong / ROUNDS);
        assert_true(wrong <= ROUNDS / 100);
    }
}

static void modes_of_few_equal_or_rounded_values(void **state)
{
    (void)state;
    double constant[16];
    double split[16];
    for (size_t i = 0; i < 16; i++) {
        constant[i] = 5;
        split[i] = i % 2 == 0 ? 5 : 6;
    }
    assert_false(modes_of(constant, 16).two);
    assert_true(modes_of(split, 16).two);
    struct stats_modes m;
    assert_int_equal(stats_modes(split, 16, 1, &m, NULL), 0);
    assert_false(m.two); /* a grain of 1 makes them neighbours */
    assert_false(modes_of(split, 15).two); /* too few to say */
    const double nan[10] = {NAN};
    assert_int_equal(stats_modes(nan, 10, 0, &m, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_and_mads_of_small_samples),
        cmocka_unit_test(holm_gives_the_known_adjustments),
        cmocka_unit_test(holm_holds_the_familys_error),
        cmocka_unit_test(the_medians_ranks_are_those_of_the_tables),
        cmocka_unit_test(quantile_ranks_equal_plain_sums),
        cmocka_unit_test(a_far_quantile_of_few_values_has_no_upper_bound),
        cmocka_unit_test(quantile_intervals_cover_as_often_as_they_say),
        cmocka_unit_test(the_bootstrap_is_repeatable_and_follows_scale),
        cmocka_unit_test(bootstrap_intervals_cover_nearly_as_often_as_they_say),
        cmocka_unit_test(constant_samples_have_a_bootstrap_without_width),
        cmocka_unit_test(fisher_gives_the_documented_examples),
        cmocka_unit_test(a_tail_three_times_as_heavy_is_seen_as_such),
        cmocka_unit_test(tails_by_hand),
        cmocka_unit_test(two_modes_are_found_at_any_share_from_a_fifth_on),
        cmocka_unit_test(one_mode_is_rarely_taken_for_two),
        cmocka_unit_test(modes_of_few_equal_or_rounded_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
