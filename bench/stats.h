/* What the verdicts compute besides rank tests (rank.h): middles and spreads, resampling, several
 * tests at once, intervals of quantiles, tails, two modes.
 *
 * Values must be finite; -EINVAL with text otherwise, and results are left alone. Out of memory
 * aborts. Random numbers come from the seed alone, so equal input gives equal output. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rank.h"

#define STATS_VALUES_MAX 100000 /* of any input here */
#define STATS_RESAMPLES_MAX 100000
#define STATS_RESAMPLES_DEFAULT 9999

/* The middle value, or the mean of the two middle ones; NAN when n is 0. */
double stats_median(const double *values, size_t n);

/* Median of the distances from the median, not scaled to a standard deviation; NAN when n is 0. */
double stats_mad(const double *values, size_t n);

/* median(b) / median(a) with a percentile bootstrap interval of independent resamples; resamples is
 * 99..STATS_RESAMPLES_MAX. -EDOM: a median of a, or of a resample of it, is not above 0.
 * Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. */
int stats_bootstrap_ratio(const double *a, size_t a_count, const double *b, size_t b_count,
                          double level, size_t resamples, uint64_t seed, struct rank_interval *out,
                          struct err *err);

/* p values adjusted for being looked at together: reject where out[i] <= alpha, and the chance of
 * one false rejection or more is at most alpha, however the tests hang together. out may be p.
 * Source: Holm, "A simple sequentially rejective multiple test procedure" (1979). */
int stats_holm(const double *p, size_t n, double *out, struct err *err);

/* Which order statistics hold the quantile p between them. Ranks count from 1. */
struct stats_ranks {
    int64_t low; /* 0: below every value, unbounded */
    int64_t high; /* n + 1: above every value, unbounded */
    double level; /* reached: P(low <= number of values below the quantile < high) */
};

/* The narrowest ranks whose tails are each at most (1 - level) / 2. Assumes independent values:
 * within one run it is a lower bound. p and level in (0, 1), n in 1..2^53.
 * Source: David and Nagaraja, "Order Statistics", 7.1; the counts are binomial(n, p). */
int stats_quantile_ranks(int64_t n, double p, double level, struct stats_ranks *out,
                         struct err *err);

/* The interval itself from unsorted values; unbounded ends are infinite, estimate is the
 * ceil(p * n)-th smallest. */
int stats_quantile_interval(const double *values, size_t n, double p, double level,
                            struct rank_interval *out, struct err *err);

/* How many times more requests of B than of A lie in the tail: pairs of runs with above_* of n_*
 * requests slower than one threshold. Works on ln of ((above_b + 1/2) / n_b) / ((above_a + 1/2) /
 * n_a) by Hodges-Lehmann, so a run is one observation however many requests it made. estimate and
 * bounds are ratios; 1 is "no change". *out_test may be NULL. -EINVAL: above is negative or above
 * n. Source: Haldane, "The estimation and significance of the logarithm of a ratio of frequencies"
 * (1956), for the half. */
int stats_tail(const int64_t *above_a, const int64_t *n_a, const int64_t *above_b,
               const int64_t *n_b, size_t pairs, double level, struct rank_interval *out,
               struct rank_test *out_test, struct err *err);

/* Two shares, yes_a of yes_a + no_a against yes_b of yes_b + no_b: the two-sided exact p, the sum
 * over all tables with these margins that are no likelier. Each count is 0..1e6.
 * Source: Fisher, "Statistical Methods for Research Workers", section 21.02. */
int stats_fisher(int64_t yes_a, int64_t no_a, int64_t yes_b, int64_t no_b, double *out_p,
                 struct err *err);

/* Do the values fall into two groups? */
struct stats_modes {
    bool two;
    double cut; /* the middle of the widest gap that has STATS_MODE_SHARE on both sides */
    double share_high; /* of the values above the cut */
    double gap_mads; /* the gap in MADs, each side measured about its own median */
};

#define STATS_MODE_SHARE 0.2
#define STATS_MODE_VALUES_MIN 16
#define STATS_MODE_GAP_MADS 6.0

/* Two modes: the widest gap between sorted values, with at least a fifth of them on both sides, is
 * above gap_min (values may be rounded to a grain) and over STATS_MODE_GAP_MADS times the MAD. The
 * MAD is taken about each side's own median: about the common one it is half the distance of two
 * equal modes, and they would never be found. Normal values are called so in under 1 % of samples
 * (stats_test measures it). False when n is below STATS_MODE_VALUES_MIN. */
int stats_modes(const double *values, size_t n, double gap_min, struct stats_modes *out,
                struct err *err);
