#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "rank.h"

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

static struct rank_test signed_of(const double *d, size_t n)
{
    struct rank_test t;
    assert_int_equal(rank_signed(d, n, &t, NULL), 0);
    return t;
}

static struct rank_test sum_of(const double *x, size_t a, const double *y, size_t b)
{
    struct rank_test t;
    assert_int_equal(rank_sum(x, a, y, b, &t, NULL), 0);
    return t;
}

static struct rank_test trend_of(const double *x, size_t n)
{
    struct rank_test t;
    assert_int_equal(rank_trend(x, n, &t, NULL), 0);
    return t;
}

/* R 4, ?wilcox.test: Hollander and Wolfe's depression scores, paired. */
static const double depression_before[] = {1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30};
static const double depression_after[] = {0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};

static void signed_rank_gives_the_documented_example(void **state)
{
    (void)state;
    double d[9];
    for (size_t i = 0; i < 9; i++) {
        d[i] = depression_before[i] - depression_after[i];
    }
    struct rank_test t = signed_of(d, 9);
    assert_true(t.exact);
    assert_near(t.statistic, 40, 0);
    assert_near(t.p_greater, 0.01953125, 1e-12); /* R prints 0.01953 */
    assert_near(t.p_two_sided, 0.0390625, 1e-12);
    /* Hollander and Wolfe, examples 3.3 and 3.4: 0.46, and (0.010, 0.786) at 96.1 %. */
    struct rank_interval ci;
    assert_int_equal(rank_hodges_lehmann(d, 9, 0.95, &ci, NULL), 0);
    assert_near(ci.estimate, 0.46, 1e-9);
    assert_near(ci.low, 0.010, 1e-9);
    assert_near(ci.high, 0.786, 1e-9);
    assert_near(ci.level, 0.961, 0.0005);
}

/* R 4, ?wilcox.test: permeability of the human chorioamnion. */
static void rank_sum_gives_the_documented_example(void **state)
{
    (void)state;
    const double x[] = {0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
    const double y[] = {1.15, 0.88, 0.90, 0.74, 1.21};
    struct rank_test t = sum_of(x, 10, y, 5);
    assert_near(t.statistic, 35, 0);
    assert_near(t.p_greater, 0.1272, 0.00005);
    assert_near(t.p_two_sided, 0.2544, 0.0001);
    struct rank_test back = sum_of(y, 5, x, 10);
    assert_near(back.statistic, 15, 0);
    assert_near(back.p_less, t.p_greater, 1e-12);
}

/* R 4, ?wilcox.test: airquality, ozone in May and August: W = 127.5, p = 0.0001208 by R's normal
 * approximation, as there are ties; the exact one is near it. */
static void rank_sum_with_ties_gives_the_documented_statistic(void **state)
{
    (void)state;
    const double may[] = {41, 36, 12, 18, 28, 23, 19, 8, 7,  16, 11, 14,  18,
                          14, 34, 6,  30, 11, 1,  11, 4, 32, 23, 45, 115, 37};
    const double august[] = {39, 9,  16, 78, 35, 66, 122, 89,  110, 44, 28,  65, 22,
                             59, 23, 31, 44, 21, 9,  45,  168, 73,  76, 118, 84, 85};
    struct rank_test t = sum_of(may, 26, august, 26);
    assert_true(t.exact);
    assert_near(t.statistic, 127.5, 0);
    assert_near(t.p_two_sided, 0.0001208, 0.00006);
}

/* Wilcoxon and Wilcox, "Some Rapid Approximate Statistical Procedures" (1964): the largest T that
 * is significant at two-sided 5 % and 1 %. */
static void signed_rank_matches_the_table_of_critical_values(void **state)
{
    (void)state;
    const int table[][3] = {{6, 0, -1},     {8, 3, 0},      {10, 8, 3},
                            {15, 25, 15},   {20, 52, 37},   {25, 89, 68},
                            {30, 137, 109}, {40, 264, 220}, {50, 434, 373}};
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        size_t n = (size_t)table[row][0];
        for (int column = 1; column <= 2; column++) {
            double alpha = column == 1 ? 0.05 : 0.01;
            for (int over = 0; over <= 1; over++) {
                int wanted = table[row][column] + over;
                if (wanted < 0) {
                    continue;
                }
                /* A sample whose positive ranks add up to `wanted`: greedy from the largest. */
                double d[64];
                int left = wanted;
                for (size_t i = n; i >= 1; i--) {
                    bool positive = (int)i <= left;
                    left -= positive ? (int)i : 0;
                    d[i - 1] = positive ? (double)i : -(double)i;
                }
                struct rank_test t = signed_of(d, n);
                assert_near(t.statistic, wanted, 0);
                assert_true(over ? t.p_two_sided > alpha : t.p_two_sided <= alpha);
            }
        }
    }
}

/* Mann and Whitney's table as in every textbook: largest U significant at two-sided 5 % and 1 %. */
static void rank_sum_matches_the_table_of_critical_values(void **state)
{
    (void)state;
    const int table[][4] = {{5, 5, 2, 0},     {5, 8, 6, 2},     {8, 8, 13, 7},     {10, 10, 23, 16},
                            {10, 15, 39, 29}, {15, 15, 64, 51}, {20, 20, 127, 105}};
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        size_t a = (size_t)table[row][0];
        size_t b = (size_t)table[row][1];
        for (int column = 2; column <= 3; column++) {
            double alpha = column == 2 ? 0.05 : 0.01;
            for (int over = 0; over <= 1; over++) {
                int wanted = table[row][column] + over;
                /* y are 1..b; x_i is placed above as many of them as are still wanted. */
                double x[32];
                double y[32];
                int left = wanted;
                for (size_t i = 0; i < b; i++) {
                    y[i] = (double)i + 1;
                }
                for (size_t i = 0; i < a; i++) {
                    int above = left < (int)b ? left : (int)b;
                    x[i] = above + 0.5 + (double)i / 1000;
                    left -= above;
                }
                struct rank_test t = sum_of(x, a, y, b);
                assert_near(t.statistic, wanted, 0);
                assert_true(over ? t.p_two_sided > alpha : t.p_two_sided <= alpha);
            }
        }
    }
}

/* Kendall, "Rank Correlation Methods", table of P(S >= s); Gilbert, "Statistical Methods for
 * Environmental Pollution Monitoring", table A18. */
static void trend_matches_the_table_of_kendalls_s(void **state)
{
    (void)state;
    const struct {
        size_t n;
        int s;
        double p;
    } table[] = {{4, 4, 0.167},   {4, 6, 0.042},  {5, 8, 0.042},   {5, 10, 0.0083},
                 {8, 16, 0.031},  {9, 18, 0.038}, {10, 11, 0.190}, {10, 19, 0.054},
                 {10, 21, 0.036}, {10, 23, 0.023}};
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        /* Begin rising and move values down until S is as wanted: one swap of neighbours takes 2.
         */
        double x[16];
        size_t n = table[row].n;
        for (size_t i = 0; i < n; i++) {
            x[i] = (double)i;
        }
        int s = (int)(n * (n - 1) / 2);
        for (size_t pass = 0; s > table[row].s; pass++) {
            for (size_t i = 0; i + 1 < n && s > table[row].s; i++) {
                if (x[i] < x[i + 1]) {
                    double kept = x[i];
                    x[i] = x[i + 1];
                    x[i + 1] = kept;
                    s -= 2;
                }
            }
        }
        struct rank_test t = trend_of(x, n);
        assert_near(t.statistic, table[row].s, 0);
        assert_near(t.p_greater, table[row].p, 0.0005);
    }
}

/* Every sign pattern counted one by one. */
static void signed_rank_equals_enumeration_with_ties_and_zeros(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 21);
    for (int round = 0; round < 300; round++) {
        double d[10];
        size_t n = rng_below(&rng, 11);
        for (size_t i = 0; i < n; i++) {
            d[i] = (double)rng_below(&rng, 9) - 4; /* many ties, some zeros */
        }
        struct rank_test t = signed_of(d, n);
        double abs_ranks[10];
        double observed = 0;
        size_t used = 0;
        for (size_t i = 0; i < n; i++) {
            if (d[i] == 0) {
                continue;
            }
            double below = 0;
            double equal = 0;
            for (size_t k = 0; k < n; k++) {
                below += d[k] != 0 && fabs(d[k]) < fabs(d[i]);
                equal += fabs(d[k]) == fabs(d[i]);
            }
            abs_ranks[used] = below + (equal + 1) / 2;
            observed += d[i] > 0 ? abs_ranks[used] : 0;
            used++;
        }
        double less = 0;
        double greater = 0;
        for (unsigned signs = 0; signs < 1U << used; signs++) {
            double v = 0;
            for (size_t i = 0; i < used; i++) {
                v += signs >> i & 1 ? abs_ranks[i] : 0;
            }
            less += v <= observed;
            greater += v >= observed;
        }
        assert_near(t.statistic, observed, 0);
        assert_int_equal(t.n, used);
        assert_near(t.p_less, less / (1U << used), 1e-12);
        assert_near(t.p_greater, greater / (1U << used), 1e-12);
    }
}

/* Every choice of which values are x, counted one by one. */
static void rank_sum_equals_enumeration_with_ties(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 22);
    for (int round = 0; round < 200; round++) {
        double all[11];
        size_t a = 1 + rng_below(&rng, 5);
        size_t b = 1 + rng_below(&rng, 6);
        size_t n = a + b;
        for (size_t i = 0; i < n; i++) {
            all[i] = (double)rng_below(&rng, 6);
        }
        struct rank_test t = sum_of(all, a, all + a, b);
        double less = 0;
        double greater = 0;
        double count = 0;
        for (unsigned chosen = 0; chosen < 1U << n; chosen++) {
            if (__builtin_popcount(chosen) != (int)a) {
                continue;
            }
            double u = 0;
            for (size_t i = 0; i < n; i++) {
                for (size_t k = 0; k < n; k++) {
                    if ((chosen >> i & 1) && !(chosen >> k & 1)) {
                        u += all[i] > all[k] ? 1 : all[i] == all[k] ? 0.5 : 0;
                    }
                }
            }
            count++;
            less += u <= t.statistic;
            greater += u >= t.statistic;
        }
        assert_near(t.p_less, less / count, 1e-12);
        assert_near(t.p_greater, greater / count, 1e-12);
    }
}

static long kendall_s(const double *x, size_t n)
{
    long s = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            s += (x[k] > x[i]) - (x[k] < x[i]);
        }
    }
    return s;
}

/* All orders of x, each counted as often as its ties make it appear: Heap's algorithm. */
static void count_orders(double *x, size_t n, size_t size, long observed, double counts[3])
{
    if (size <= 1) {
        long s = kendall_s(x, n);
        counts[0]++;
        counts[1] += s <= observed;
        counts[2] += s >= observed;
        return;
    }
    for (size_t i = 0; i < size; i++) {
        count_orders(x, n, size - 1, observed, counts);
        size_t other = size % 2 == 0 ? i : 0;
        double kept = x[other];
        x[other] = x[size - 1];
        x[size - 1] = kept;
    }
}

static void trend_equals_enumeration_with_ties(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 23);
    for (int round = 0; round < 60; round++) {
        double x[7];
        size_t n = rng_below(&rng, 8);
        for (size_t i = 0; i < n; i++) {
            x[i] = (double)rng_below(&rng, 5);
        }
        struct rank_test t = trend_of(x, n);
        double counts[3] = {0, 0, 0};
        count_orders(x, n, n, (long)t.statistic, counts);
        assert_near(t.p_less, counts[1] / counts[0], 1e-12);
        assert_near(t.p_greater, counts[2] / counts[0], 1e-12);
    }
}

static void the_largest_exact_sizes_agree_with_the_normal_curve(void **state)
{
    (void)state;
    double d[65];
    for (size_t i = 0; i < 65; i++) {
        d[i] = (i % 3 == 0 ? -1.0 : 1.0) * (double)(i + 1);
    }
    struct rank_test t = signed_of(d, 64);
    assert_true(t.exact);
    double z = (t.statistic - 64 * 65 / 4.0 - 0.5) / sqrt(64.0 * 65 * 129 / 24);
    assert_near(t.p_greater, rank_normal_cdf(-z), 0.0005);
    assert_false(signed_of(d, 65).exact);
    assert_near(signed_of(d, 65).p_greater, t.p_greater, 0.005);
    /* All positive: exactly 2^-64, which a 64-bit count could not hold. */
    for (size_t i = 0; i < 64; i++) {
        d[i] = fabs(d[i]);
    }
    assert_near(signed_of(d, 64).p_greater * 0x1p64, 1, 1e-12);

    double x[65];
    double y[65];
    for (size_t i = 0; i < 65; i++) {
        x[i] = (double)(i * 7 % 65) + 0.3;
        y[i] = (double)(i * 7 % 65) - 6;
    }
    struct rank_test exact = sum_of(x, 64, y, 64);
    struct rank_test normal = sum_of(x, 65, y, 65);
    assert_true(exact.exact);
    assert_false(normal.exact);
    z = (exact.statistic - 64 * 64 / 2.0 - 0.5) / sqrt(64.0 * 64 * 129 / 12);
    assert_near(exact.p_greater, rank_normal_cdf(-z), 0.002);
    assert_near(exact.p_less + exact.p_greater, 1, 0.03);
    assert_near(normal.p_greater, exact.p_greater, 0.02);

    for (size_t i = 0; i < 65; i++) {
        x[i] = (double)(i * 17 % 65) + (double)i / 4;
    }
    exact = trend_of(x, 64);
    normal = trend_of(x, 65);
    assert_true(exact.exact);
    assert_false(normal.exact);
    z = (exact.statistic - 1) / sqrt(64.0 * 63 * 133 / 18);
    assert_near(exact.p_greater, rank_normal_cdf(-z), 0.002);
    assert_near(normal.p_greater, exact.p_greater, 0.05);
}

static void no_data_and_no_difference_are_no_evidence(void **state)
{
    (void)state;
    const double zeros[12] = {0};
    assert_near(signed_of(zeros, 12).p_two_sided, 1, 0);
    assert_int_equal(signed_of(zeros, 12).n, 0);
    assert_near(signed_of(zeros, 0).p_two_sided, 1, 0);
    assert_near(sum_of(zeros, 6, zeros, 6).p_two_sided, 1, 0);
    assert_near(sum_of(zeros, 0, zeros, 6).p_two_sided, 1, 0);
    assert_near(trend_of(zeros, 12).p_two_sided, 1, 0);
    assert_near(trend_of(zeros, 0).p_two_sided, 1, 0);
    assert_near(trend_of(zeros, 1).p_two_sided, 1, 0);
    double many[70] = {0};
    assert_near(signed_of(many, 70).p_two_sided, 1, 0);
    assert_near(sum_of(many, 70, many, 70).p_two_sided, 1, 0);
    assert_near(trend_of(many, 70).p_two_sided, 1, 0);
    struct rank_interval ci;
    assert_int_equal(rank_hodges_lehmann(zeros, 12, 0.99, &ci, NULL), 0);
    assert_true(ci.low == 0 && ci.high == 0 && ci.estimate == 0);
}

static void tiny_samples_have_no_bounds(void **state)
{
    (void)state;
    double d[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct rank_interval ci;
    for (size_t n = 1; n <= 7; n++) { /* 2 * 2^-7 > 0.01 */
        assert_int_equal(rank_hodges_lehmann(d, n, 0.99, &ci, NULL), 0);
        assert_true(isinf(ci.low) && ci.low < 0 && isinf(ci.high) && ci.high > 0);
        assert_near(ci.level, 1, 0);
        assert_near(ci.estimate, ((double)n + 1) / 2, 1e-12);
    }
    assert_int_equal(rank_hodges_lehmann(d, 8, 0.99, &ci, NULL), 0);
    assert_true(ci.low == 1 && ci.high == 8);
    assert_near(ci.level, 1 - 2.0 / 256, 1e-12);
}

static void the_interval_holds_exactly_the_shifts_the_test_accepts(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 24);
    for (int round = 0; round < 60; round++) {
        double d[40];
        double shifted[40];
        size_t n = 8 + rng_below(&rng, 33);
        for (size_t i = 0; i < n; i++) {
            d[i] = draw_normal(&rng) + 0.3;
        }
        struct rank_interval ci;
        assert_int_equal(rank_hodges_lehmann(d, n, 0.99, &ci, NULL), 0);
        assert_true(ci.level >= 0.99 && ci.low <= ci.estimate && ci.estimate <= ci.high);
        const double width = 1e-7;
        const double at[] = {ci.low - width, ci.low + width, ci.high - width, ci.high + width};
        for (int k = 0; k < 4; k++) {
            for (size_t i = 0; i < n; i++) {
                shifted[i] = d[i] - at[k];
            }
            bool rejected = signed_of(shifted, n).p_two_sided < 0.01;
            assert_int_equal(rejected, k == 0 || k == 3);
        }
    }
}

static void large_samples_have_an_interval_too(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 25);
    static double d[500];
    for (size_t i = 0; i < 500; i++) {
        d[i] = draw_normal(&rng);
    }
    struct rank_interval ci;
    assert_int_equal(rank_hodges_lehmann(d, 500, 0.99, &ci, NULL), 0);
    assert_false(ci.exact);
    double half = 2.5758 / sqrt(500) * sqrt(M_PI / 3); /* the estimator's efficiency is 3/pi */
    assert_near(ci.high - ci.low, 2 * half, 0.25 * half);
    assert_true(ci.low < 0.2 && ci.high > -0.2);
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    const double wrong[] = {1, NAN, 2};
    const double infinite[] = {1, 2, INFINITY};
    const double good[] = {1, 2, 3};
    struct rank_test t = {.n = 77};
    struct rank_interval ci = {.level = 77};
    struct err err = {""};
    assert_int_equal(rank_signed(wrong, 3, &t, &err), -EINVAL);
    assert_non_null(strstr(err.text, "value 2"));
    assert_int_equal(rank_sum(good, 3, infinite, 3, &t, &err), -EINVAL);
    assert_int_equal(rank_trend(infinite, 3, &t, &err), -EINVAL);
    assert_int_equal(rank_hodges_lehmann(wrong, 3, 0.9, &ci, &err), -EINVAL);
    assert_int_equal(rank_hodges_lehmann(good, 0, 0.9, &ci, &err), -EINVAL);
    assert_int_equal(rank_hodges_lehmann(good, 3, 1, &ci, &err), -EINVAL);
    assert_int_equal(rank_hodges_lehmann(good, 3, NAN, &ci, &err), -EINVAL);
    static double many[RANK_VALUES_MAX + 1];
    assert_int_equal(rank_signed(many, RANK_VALUES_MAX + 1, &t, &err), -EINVAL);
    assert_int_equal(t.n, 77);
    assert_near(ci.level, 77, 0);
}

/* Under "no effect" a test at 1 % is wrong in at most 1 %: 4,000 draws, four standard errors. */
static void false_alarms_stay_within_their_level(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 26);
    enum { ROUNDS = 4000, N = 24 };
    int alarms[3] = {0, 0, 0};
    int missed = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double x[N];
        double y[N];
        for (size_t i = 0; i < N; i++) {
            /* Bursts on 5 % of runs: symmetric differences with heavy tails. */
            x[i] = draw_normal(&rng) + (rng_below(&rng, 20) == 0 ? 10 : 0);
            y[i] = draw_normal(&rng) + (rng_below(&rng, 20) == 0 ? 10 : 0);
        }
        double d[N];
        for (size_t i = 0; i < N; i++) {
            d[i] = x[i] - y[i];
        }
        struct rank_interval ci;
        alarms[0] += signed_of(d, N).p_two_sided <= 0.01;
        alarms[1] += sum_of(x, N, y, N).p_two_sided <= 0.01;
        alarms[2] += trend_of(x, N).p_two_sided <= 0.01;
        assert_int_equal(rank_hodges_lehmann(d, N, 0.99, &ci, NULL), 0);
        missed += ci.low > 0 || ci.high < 0;
    }
    double limit = ROUNDS * 0.01 + 4 * sqrt(ROUNDS * 0.01 * 0.99);
    for (int i = 0; i < 3; i++) {
        assert_true(alarms[i] <= limit);
        assert_true(alarms[i] >= ROUNDS * 0.003); /* nor is the level wasted */
    }
    assert_int_equal(missed, alarms[0]);
}

static void the_normal_curve_is_right_at_published_points(void **state)
{
    (void)state;
    assert_near(rank_normal_cdf(0), 0.5, 1e-15);
    assert_near(rank_normal_cdf(1.959963984540054), 0.975, 1e-12);
    assert_near(rank_normal_cdf(-6), 9.865876450376946e-10, 1e-20);
    assert_near(rank_normal_quantile(0.995), 2.5758293035489004, 1e-10);
    assert_near(rank_normal_quantile(0.5), 0, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_rank_gives_the_documented_example),
        cmocka_unit_test(rank_sum_gives_the_documented_example),
        cmocka_unit_test(rank_sum_with_ties_gives_the_documented_statistic),
        cmocka_unit_test(signed_rank_matches_the_table_of_critical_values),
        cmocka_unit_test(rank_sum_matches_the_table_of_critical_values),
        cmocka_unit_test(trend_matches_the_table_of_kendalls_s),
        cmocka_unit_test(signed_rank_equals_enumeration_with_ties_and_zeros),
        cmocka_unit_test(rank_sum_equals_enumeration_with_ties),
        cmocka_unit_test(trend_equals_enumeration_with_ties),
        cmocka_unit_test(the_largest_exact_sizes_agree_with_the_normal_curve),
        cmocka_unit_test(no_data_and_no_difference_are_no_evidence),
        cmocka_unit_test(tiny_samples_have_no_bounds),
        cmocka_unit_test(the_interval_holds_exactly_the_shifts_the_test_accepts),
        cmocka_unit_test(large_samples_have_an_interval_too),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(false_alarms_stay_within_their_level),
        cmocka_unit_test(the_normal_curve_is_right_at_published_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
