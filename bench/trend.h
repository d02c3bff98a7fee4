/* Where a series of results over commits changes its level.
 *
 * A change point is a hypothesis; a paired rerun of the two commits is the verdict. Results depend
 * on values, options and seed alone. Values must be finite (-EINVAL). Out of memory aborts. Any
 * thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TREND_VALUES_MAX 500 /* of trend_steps: under a second */
#define TREND_SEGMENT_MIN 3 /* a level lasts at least this many values */
#define TREND_PERMUTATIONS 999
#define TREND_P_BELOW 0.005

struct trend_change {
    size_t at; /* index of the first value of the new level */
    double before; /* the levels: medians of the segments beside it */
    double after;
    double p; /* by permutation; 0 for exact metrics */
};

/* Every value that differs from the one before it: an exact metric has no noise to be mistaken for
 * a change. Here before and after are the two values. Returns how many there are (0..n-1); writes
 * the first changes_max of them. */
size_t trend_exact(const double *values, size_t n, struct trend_change *changes,
                   size_t changes_max);

struct trend_options {
    double ratio_min; /* smaller steps are left out: 0.02 for 2 % */
    uint64_t seed;
};

/* Steps of a noisy series, in order. E-divisive: the split that differs most by the energy distance
 * is kept while fewer than TREND_P_BELOW of TREND_PERMUTATIONS shuffles of its segment differ as
 * much, then both parts are searched. Afterwards a level that fewer than TREND_SEGMENT_MIN values
 * really reach (a spike), and one whose step is below ratio_min, join a neighbour.
 * changes needs room for n / TREND_SEGMENT_MIN. Returns how many, -EINVAL, or -E2BIG above
 * TREND_VALUES_MAX.
 * Source: Matteson and James, "A nonparametric approach for multiple change point analysis of
 * multivariate data" (2014); spikes: apache/otava issue 150. */
int trend_steps(const double *values, size_t n, const struct trend_options *options,
                struct trend_change *changes, struct err *err);

/* Does the series have one step at all, by the same test at p_below? 1, 0, or an error as above.
 * Fewer than 2 * TREND_SEGMENT_MIN values have none. */
int trend_has_step(const double *values, size_t n, double p_below, uint64_t seed, struct err *err);
