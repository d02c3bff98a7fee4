#include "trend.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "stats.h"

size_t trend_exact(const double *values, size_t n, struct trend_change *changes, size_t changes_max)
{
    size_t found = 0;
    for (size_t i = 1; i < n; i++) {
        if (values[i] != values[i - 1]) {
            if (found < changes_max) {
                changes[found] = (struct trend_change){i, values[i - 1], values[i], 0};
            }
            found++;
        }
    }
    return found;
}

/* Scratch for one search, sized for the whole series. */
struct search {
    double shuffled[TREND_VALUES_MAX];
    double prefix[TREND_VALUES_MAX + 1]; /* sum of distances within the first k values */
    double within[TREND_VALUES_MAX + 1]; /* the same from the current split to k */
    struct rng rng;
};

struct split {
    double q;
    size_t at; /* 0: none, the segment is too short */
};

/* The largest energy statistic over all splits at `at` and ends `end` of x[0..n-1]:
 * l*r/(l+r) * (2/(l*r) * between - 2/(l*(l-1)) * within left - 2/(r*(r-1)) * within right), l and r
 * at least TREND_SEGMENT_MIN. Ends before n let a step show that a later one would hide. Within
 * sums come by recurrence, so all O(n^2) pairs cost O(n^2). */
static struct split best_split(struct search *s, const double *x, size_t n)
{
    struct split best = {-INFINITY, 0};
    s->prefix[0] = 0;
    for (size_t k = 0; k < n; k++) {
        double row = 0;
        for (size_t i = 0; i < k; i++) {
            row += fabs(x[k] - x[i]);
        }
        s->prefix[k + 1] = s->prefix[k] + row;
    }
    memset(s->within, 0, (n + 1) * sizeof *s->within);
    for (size_t at = n; at-- > 0;) {
        double row = 0;
        for (size_t k = at; k < n; k++) {
            row += fabs(x[at] - x[k]);
            s->within[k + 1] += row;
        }
        if (at < TREND_SEGMENT_MIN) {
            continue;
        }
        double left = (double)at;
        double left_share = 2 * s->prefix[at] / (left - 1);
        for (size_t end = at + TREND_SEGMENT_MIN; end <= n; end++) {
            double right = (double)(end - at);
            double inside = s->within[end];
            double between = s->prefix[end] - s->prefix[at] - inside;
            double q = (2 * between - right * left_share - left * 2 * inside / (right - 1)) /
                       (left + right);
            if (q > best.q) {
                best = (struct split){q, at};
            }
        }
    }
    return best;
}

static void shuffle(double *x, size_t n, struct rng *rng)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = rng_below(rng, i);
        double kept = x[i - 1];
        x[i - 1] = x[k];
        x[k] = kept;
    }
}

/* P of a split by permutation; once it cannot come out below `below` any more the rest of the
 * shuffles is spared and 1 returned. */
static double split_p(struct search *s, const double *x, size_t n, double q, double below)
{
    size_t as_large = 0;
    memcpy(s->shuffled, x, n * sizeof *x);
    for (size_t i = 0; i < TREND_PERMUTATIONS; i++) {
        shuffle(s->shuffled, n, &s->rng);
        /* Sums in another order round differently: equal statistics count as as large. */
        as_large += best_split(s, s->shuffled, n).q >= q * (1 - 1e-9);
        if ((double)(as_large + 1) / (TREND_PERMUTATIONS + 1) >= below) {
            return 1;
        }
    }
    return (double)(as_large + 1) / (TREND_PERMUTATIONS + 1);
}

struct level {
    size_t from; /* index of its first value */
    double p; /* of the step into it */
};

static int by_from(const void *a, const void *b)
{
    size_t x = ((const struct level *)a)->from;
    size_t y = ((const struct level *)b)->from;
    return (x > y) - (x < y);
}

/* Split values[from..to-1] and then its parts; levels get the starts that were found. */
static void divide(struct search *s, const double *values, size_t from, size_t to,
                   struct level *levels, size_t *count)
{
    if (to - from < 2 * TREND_SEGMENT_MIN) {
        return;
    }
    struct split best = best_split(s, values + from, to - from);
    if (best.at == 0 || !(best.q > 0)) {
        return;
    }
    double p = split_p(s, values + from, to - from, best.q, TREND_P_BELOW);
    if (p >= TREND_P_BELOW) {
        return;
    }
    levels[(*count)++] = (struct level){from + best.at, p};
    divide(s, values, from, from + best.at, levels, count);
    divide(s, values, from + best.at, to, levels, count);
}

static double level_median(const double *values, size_t n, const struct level *levels, size_t count,
                           size_t i)
{
    size_t to = i + 1 < count ? levels[i + 1].from : n;
    return stats_median(values + levels[i].from, to - levels[i].from);
}

/* Values of level i that lie nearer to its own median than to the neighbour's. */
static size_t reached(const double *values, size_t n, const struct level *levels, size_t count,
                      size_t i, size_t neighbour)
{
    double own = level_median(values, n, levels, count, i);
    double other = level_median(values, n, levels, count, neighbour);
    size_t to = i + 1 < count ? levels[i + 1].from : n;
    size_t found = 0;
    for (size_t k = levels[i].from; k < to; k++) {
        found += fabs(values[k] - own) < fabs(values[k] - other);
    }
    return found;
}

/* Is the step into level i (1..count-1) one to report? */
static bool step_holds(const double *values, size_t n, const struct level *levels, size_t count,
                       size_t i, double ratio_min)
{
    double before = level_median(values, n, levels, count, i - 1);
    double after = level_median(values, n, levels, count, i);
    if (before == after || fabs(after - before) < ratio_min * fabs(before)) {
        return false;
    }
    return reached(values, n, levels, count, i, i - 1) >= TREND_SEGMENT_MIN &&
           reached(values, n, levels, count, i - 1, i) >= TREND_SEGMENT_MIN;
}

/* Of trend_steps and trend_has_step. */
static int check_series(const double *values, size_t n, struct err *err)
{
    if (n > TREND_VALUES_MAX) {
        return err_set(err, -E2BIG, "a series of %zu values: at most %d are searched", n,
                       TREND_VALUES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return err_set(err, -EINVAL, "value %zu is not a finite number", i + 1);
        }
    }
    return 0;
}

int trend_has_step(const double *values, size_t n, double p_below, uint64_t seed, struct err *err)
{
    int rc = check_series(values, n, err);
    if (rc != 0 || n < 2 * TREND_SEGMENT_MIN) {
        return rc;
    }
    struct search *s = calloc(1, sizeof *s);
    if (s == NULL) {
        abort();
    }
    rng_init(&s->rng, seed);
    struct split best = best_split(s, values, n);
    bool has = best.at > 0 && best.q > 0 && split_p(s, values, n, best.q, p_below) < p_below;
    free(s);
    return has ? 1 : 0;
}

int trend_steps(const double *values, size_t n, const struct trend_options *options,
                struct trend_change *changes, struct err *err)
{
    int rc = check_series(values, n, err);
    if (rc != 0) {
        return rc;
    }
    struct search *s = calloc(1, sizeof *s);
    struct level *levels = calloc(n + 1, sizeof *levels);
    if (s == NULL || levels == NULL) {
        abort();
    }
    size_t count = 1; /* level 0 is the start of the series */
    rng_init(&s->rng, options->seed);
    divide(s, values, 0, n, levels, &count);
    qsort(levels, count, sizeof *levels, by_from);
    /* Taking one step out joins two levels and changes both medians: begin again after each. The
     * smallest step goes first. */
    for (;;) {
        size_t weakest = 0;
        double least = INFINITY;
        for (size_t i = 1; i < count; i++) {
            double step = fabs(level_median(values, n, levels, count, i) -
                               level_median(values, n, levels, count, i - 1));
            if (!step_holds(values, n, levels, count, i, options->ratio_min) && step < least) {
                weakest = i;
                least = step;
            }
        }
        if (weakest == 0) {
            break;
        }
        memmove(levels + weakest, levels + weakest + 1, (count - weakest - 1) * sizeof *levels);
        count--;
    }
    for (size_t i = 1; i < count; i++) {
        changes[i - 1] = (struct trend_change){
            .at = levels[i].from,
            .before = level_median(values, n, levels, count, i - 1),
            .after = level_median(values, n, levels, count, i),
            .p = levels[i].p,
        };
    }
    free(levels);
    free(s);
    return (int)count - 1;
}
