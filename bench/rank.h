/* Tests by ranks, exact where n allows, with the intervals that belong to them.
 *
 * Nothing is assumed of the distribution but what each test names. Exact means: the distribution of
 * the statistic given the ties that are there, counted out, not approximated. Above the limits the
 * normal approximation with tie and continuity correction answers, and `exact` says so.
 *
 * Values must be finite; every function returns -EINVAL otherwise and leaves its result alone.
 * Memory is taken and returned inside; out of memory aborts. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define RANK_SIGNED_EXACT_MAX 64 /* differences that are not 0 */
#define RANK_SUM_EXACT_MAX 64 /* values a side */
#define RANK_TREND_EXACT_MAX 64
#define RANK_VALUES_MAX 2048 /* of any input here: Walsh averages are n * n / 2 */

struct rank_test {
    double statistic;
    double p_two_sided; /* twice the smaller tail, at most 1 */
    double p_less; /* P(statistic <= observed) under "no effect" */
    double p_greater; /* P(statistic >= observed) */
    size_t n; /* values that took part */
    bool exact;
};

/* Is the middle of d 0? d are differences of pairs, symmetric about their middle under "no effect".
 * statistic: sum of the ranks of the positive ones (R's V). Zeros are left out; ties get midranks.
 * With nothing but zeros n is 0 and every p is 1.
 * Source: Wilcoxon, "Individual comparisons by ranking methods" (1945); the exact distribution by
 * the recursion over ranks, Hollander and Wolfe, "Nonparametric Statistical Methods", 3.1. */
int rank_signed(const double *d, size_t n, struct rank_test *out, struct err *err);

/* A middle with its interval. Where n is too small for the level the interval is unbounded. */
struct rank_interval {
    double estimate;
    double low; /* -INFINITY when unbounded */
    double high; /* INFINITY when unbounded */
    double level; /* what is reached, at least what was asked for; 1 when unbounded */
    bool exact;
};

/* Hodges-Lehmann: the median of all (d_i + d_j) / 2, i <= j, and the interval of all shifts that
 * rank_signed at 1 - level (two-sided) would not reject; level in (0, 1). n is 1 or more. With ties
 * or zeros the interval is at least as wide as its level needs.
 * Source: Hodges and Lehmann, "Estimates of location based on rank tests" (1963); Hollander and
 * Wolfe 3.2, 3.3. */
int rank_hodges_lehmann(const double *d, size_t n, double level, struct rank_interval *out,
                        struct err *err);

/* Do x and y come from one distribution? statistic: the number of pairs with x above y, ties half
 * (R's W for wilcox.test(x, y)). With an empty side n is 0 and every p is 1.
 * Source: Mann and Whitney, "On a test of whether one of two random variables is stochastically
 * larger than the other" (1947); ties by counting all assignments of the midranks. */
int rank_sum(const double *x, size_t x_count, const double *y, size_t y_count,
             struct rank_test *out, struct err *err);

/* Does a series rise or fall? statistic: Kendall's S, the pairs that rise less those that fall.
 * Source: Mann, "Nonparametric tests against trend" (1945); Kendall, "Rank Correlation Methods".
 * The exact distribution with ties is that of the inversions of a multiset: the q-multinomial
 * coefficient (MacMahon, "Combinatory Analysis"). */
int rank_trend(const double *series, size_t n, struct rank_test *out, struct err *err);

/* The distribution function of the standard normal, and its inverse for p in (0, 1). */
double rank_normal_cdf(double z);
double rank_normal_quantile(double p);
