#include "steady.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>

#include "rank.h"
#include "stats.h"
#include "trend.h"

/* Whether the medians of the series' quarters lie within STEADY_LEVEL_RATIO. */
static bool is_one_level(const double *series, size_t n)
{
    double low = INFINITY;
    double high = 0;
    for (size_t q = 0; q < 4; q++) {
        size_t from = q * n / 4;
        double median = stats_median(series + from, (q + 1) * n / 4 - from);
        low = fmin(low, median);
        high = fmax(high, median);
    }
    return high <= low * (1 + STEADY_LEVEL_RATIO);
}

/* 1: steady, 0: not, or negative errno. */
static int is_steady(const double *series, size_t n, uint64_t seed, struct err *err)
{
    struct rank_test test;
    if (is_one_level(series, n)) {
        return 1;
    }
    int rc = rank_trend(series, n, &test, err);
    if (rc != 0) {
        return rc;
    }
    if (test.p_two_sided <= STEADY_TREND_P) {
        return 0;
    }
    rc = trend_has_step(series, n, STEADY_STEP_P, seed, err);
    return rc < 0 ? rc : !rc;
}

int steady_cut(const double *p50, const double *rate, size_t windows, uint64_t seed,
               struct err *err)
{
    if (windows < 2 * TREND_SEGMENT_MIN) {
        return err_set(err, -EINVAL, "%zu windows are too few to see a warm-up", windows);
    }
    for (size_t i = 0; i < windows; i++) {
        if (!isfinite(p50[i]) || !isfinite(rate[i])) {
            return err_set(err, -EINVAL, "window %zu has no figures", i);
        }
    }
    for (size_t cut = 0; cut <= windows / 2; cut++) {
        const double *series[] = {p50 + cut, rate + cut};
        int steady = 1;
        for (size_t i = 0; i < 2 && steady == 1; i++) {
            steady = is_steady(series[i], windows - cut, seed + i, err);
        }
        if (steady < 0) {
            return steady;
        }
        if (steady == 1) {
            return (int)cut;
        }
    }
    return err_set(err, -ENODATA, "no window from which the run was steady");
}
