#include "stats.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static int check_values(const double *values, size_t n, struct err *err)
{
    if (n == 0 || n > STATS_VALUES_MAX) {
        return err_set(err, -EINVAL, "%zu values: 1 to %d are taken", n, STATS_VALUES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return err_set(err, -EINVAL, "value %zu is not a finite number", i + 1);
        }
    }
    return 0;
}

static int check_level(double level, struct err *err)
{
    if (!(level > 0 && level < 1)) {
        return err_set(err, -EINVAL, "the level is between 0 and 1, 0.99 for example");
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *sorted_copy(const double *values, size_t n)
{
    double *copy = checked(malloc((n + 1) * sizeof *copy));
    memcpy(copy, values, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_value);
    return copy;
}

static double sorted_median(const double *sorted, size_t n)
{
    if (n == 0) {
        return NAN;
    }
    return n % 2 == 1 ? sorted[n / 2] : sorted[n / 2 - 1] / 2 + sorted[n / 2] / 2;
}

double stats_median(const double *values, size_t n)
{
    double *sorted = sorted_copy(values, n);
    double median = sorted_median(sorted, n);
    free(sorted);
    return median;
}

double stats_mad(const double *values, size_t n)
{
    double median = stats_median(values, n);
    double *distance = checked(malloc((n + 1) * sizeof *distance));
    for (size_t i = 0; i < n; i++) {
        distance[i] = fabs(values[i] - median);
    }
    double mad = stats_median(distance, n);
    free(distance);
    return mad;
}

/* The median of n draws with replacement from sorted values; drawn is scratch of n counters. */
static double resampled_median(const double *sorted, size_t n, uint32_t *drawn, struct rng *rng)
{
    memset(drawn, 0, n * sizeof *drawn);
    for (size_t i = 0; i < n; i++) {
        drawn[rng_below(rng, n)]++;
    }
    /* The two middle draws, the same one when n is odd. */
    size_t want[2] = {(n - 1) / 2, n / 2};
    double middle[2] = {0, 0};
    size_t seen = 0;
    for (size_t i = 0, k = 0; i < n && k < 2; i++) {
        seen += drawn[i];
        while (k < 2 && seen > want[k]) {
            middle[k++] = sorted[i];
        }
    }
    return middle[0] / 2 + middle[1] / 2;
}

int stats_bootstrap_ratio(const double *a, size_t a_count, const double *b, size_t b_count,
                          double level, size_t resamples, uint64_t seed, struct rank_interval *out,
                          struct err *err)
{
    int rc = check_values(a, a_count, err);
    rc = rc != 0 ? rc : check_values(b, b_count, err);
    rc = rc != 0 ? rc : check_level(level, err);
    if (rc != 0) {
        return rc;
    }
    if (resamples < 99 || resamples > STATS_RESAMPLES_MAX) {
        return err_set(err, -EINVAL, "%zu resamples: 99 to %d are drawn", resamples,
                       STATS_RESAMPLES_MAX);
    }
    double *sa = sorted_copy(a, a_count);
    double *sb = sorted_copy(b, b_count);
    size_t larger = a_count > b_count ? a_count : b_count;
    uint32_t *drawn = checked(calloc(larger, sizeof *drawn));
    double *ratios = checked(calloc(resamples, sizeof *ratios));
    struct rng rng;
    rng_init(&rng, seed);
    double whole = sorted_median(sa, a_count);
    for (size_t i = 0; i < resamples && rc == 0; i++) {
        double below = resampled_median(sa, a_count, drawn, &rng);
        double above = resampled_median(sb, b_count, drawn, &rng);
        if (!(whole > 0 && below > 0)) {
            rc = err_set(err, -EDOM, "a ratio needs medians above 0");
            break;
        }
        ratios[i] = above / below;
    }
    if (rc == 0) {
        qsort(ratios, resamples, sizeof *ratios, by_value);
        /* Ranks k and resamples + 1 - k, so that each tail is k / (resamples + 1). */
        double tail = (1 - level) / 2 * (double)(resamples + 1);
        size_t k = tail < 1 ? 1 : (size_t)(tail + 1e-9);
        *out = (struct rank_interval){
            .estimate = sorted_median(sb, b_count) / whole,
            .low = ratios[k - 1],
            .high = ratios[resamples - k],
            .level = level,
        };
    }
    free(ratios);
    free(drawn);
    free(sb);
    free(sa);
    return rc;
}

struct numbered {
    double value;
    size_t from;
};

static int by_numbered_value(const void *a, const void *b)
{
    return by_value(&((const struct numbered *)a)->value, &((const struct numbered *)b)->value);
}

int stats_holm(const double *p, size_t n, double *out, struct err *err)
{
    int rc = check_values(p, n, err);
    if (rc != 0) {
        return rc;
    }
    struct numbered *order = checked(calloc(n, sizeof *order));
    for (size_t i = 0; i < n && rc == 0; i++) {
        order[i] = (struct numbered){p[i], i};
        if (p[i] < 0 || p[i] > 1) {
            rc = err_set(err, -EINVAL, "p value %zu is %g: it lies in 0..1", i + 1, p[i]);
        }
    }
    if (rc == 0) {
        qsort(order, n, sizeof *order, by_numbered_value);
        double least = 0; /* a larger p is never adjusted to less than a smaller one */
        for (size_t i = 0; i < n; i++) {
            least = fmax(least, fmin(1, (double)(n - i) * order[i].value));
            out[order[i].from] = least;
        }
    }
    free(order);
    return rc;
}

/* Weights of binomial(n, p) relative to that at the mode, walked from value to value. They are
 * below any use after some ten standard deviations, so a walk takes some multiple of sqrt(n) steps.
 */
struct binomial {
    double n;
    double odds;
    double mode;
};

#define BINOMIAL_NEGLIGIBLE 1e-25

static double step_down(const struct binomial *b, double k)
{
    return k / (b->n - k + 1) / b->odds; /* pmf(k - 1) / pmf(k) */
}

static double step_up(const struct binomial *b, double k)
{
    return (b->n - k) / (k + 1) * b->odds; /* pmf(k + 1) / pmf(k) */
}

int stats_quantile_ranks(int64_t n, double p, double level, struct stats_ranks *out,
                         struct err *err)
{
    int rc = check_level(level, err);
    if (rc != 0) {
        return rc;
    }
    if (n < 1 || n > INT64_C(1) << 53 || !(p > 0 && p < 1)) {
        return err_set(err, -EINVAL, "a quantile needs values and p between 0 and 1");
    }
    struct binomial b = {(double)n, p / (1 - p), floor(((double)n + 1) * p)};
    b.mode = fmin(b.mode, b.n);
    double all = 1;
    double low = b.mode; /* the ends of what is not negligible, and the weights there */
    double low_weight = 1;
    double high = b.mode;
    double high_weight = 1;
    while (low > 0 && low_weight > BINOMIAL_NEGLIGIBLE) {
        low_weight *= step_down(&b, low);
        low -= 1;
        all += low_weight;
    }
    while (high < b.n && high_weight > BINOMIAL_NEGLIGIBLE) {
        high_weight *= step_up(&b, high);
        high += 1;
        all += high_weight;
    }
    /* With N values below the quantile, the low-th smallest is at or under it when N >= low, and
     * the high-th is above it when N < high. */
    double tail = (1 - level) / 2 * all * (1 + 1e-12);
    double below = 0;
    while (below + low_weight <= tail) {
        below += low_weight;
        low_weight *= step_up(&b, low);
        low += 1;
    }
    double above = 0;
    while (above + high_weight <= tail) {
        above += high_weight;
        high_weight *= step_down(&b, high);
        high -= 1;
    }
    *out = (struct stats_ranks){(int64_t)low, (int64_t)high + 1, 1 - (below + above) / all};
    return 0;
}

int stats_quantile_interval(const double *values, size_t n, double p, double level,
                            struct rank_interval *out, struct err *err)
{
    int rc = check_values(values, n, err);
    struct stats_ranks ranks;
    rc = rc != 0 ? rc : stats_quantile_ranks((int64_t)n, p, level, &ranks, err);
    if (rc != 0) {
        return rc;
    }
    double *sorted = sorted_copy(values, n);
    double rank = ceil(p * (double)n * (1 - 0x1p-51)); /* the rank rule; see base/hist.h */
    *out = (struct rank_interval){
        .estimate = sorted[rank < 1 ? 0 : (size_t)rank - 1],
        .low = ranks.low == 0 ? -INFINITY : sorted[ranks.low - 1],
        .high = ranks.high == (int64_t)n + 1 ? INFINITY : sorted[ranks.high - 1],
        .level = ranks.level,
        .exact = true,
    };
    free(sorted);
    return 0;
}

int stats_tail(const int64_t *above_a, const int64_t *n_a, const int64_t *above_b,
               const int64_t *n_b, size_t pairs, double level, struct rank_interval *out,
               struct rank_test *out_test, struct err *err)
{
    if (pairs == 0 || pairs > RANK_VALUES_MAX) {
        return err_set(err, -EINVAL, "%zu pairs: 1 to %d are taken", pairs, RANK_VALUES_MAX);
    }
    double *d = checked(calloc(pairs, sizeof *d));
    struct rank_interval interval;
    struct rank_test test;
    int rc = 0;
    for (size_t i = 0; i < pairs && rc == 0; i++) {
        if (above_a[i] < 0 || above_b[i] < 0 || above_a[i] > n_a[i] || above_b[i] > n_b[i] ||
            n_a[i] == 0 || n_b[i] == 0) {
            rc = err_set(err, -EINVAL,
                         "pair %zu: %" PRId64 " of %" PRId64 " and %" PRId64 " of %" PRId64
                         " requests: the first lies in 0..second, and that is above 0",
                         i + 1, above_a[i], n_a[i], above_b[i], n_b[i]);
        } else {
            d[i] = log(((double)above_b[i] + 0.5) / (double)n_b[i]) -
                   log(((double)above_a[i] + 0.5) / (double)n_a[i]);
        }
    }
    rc = rc != 0 ? rc : rank_hodges_lehmann(d, pairs, level, &interval, err);
    rc = rc != 0 ? rc : rank_signed(d, pairs, &test, err);
    free(d);
    if (rc == 0) {
        interval.estimate = exp(interval.estimate);
        interval.low = exp(interval.low); /* 0 when unbounded */
        interval.high = exp(interval.high);
        *out = interval;
        if (out_test != NULL) {
            *out_test = test;
        }
    }
    return rc;
}

int stats_fisher(int64_t yes_a, int64_t no_a, int64_t yes_b, int64_t no_b, double *out_p,
                 struct err *err)
{
    const int64_t counts[] = {yes_a, no_a, yes_b, no_b};
    for (size_t i = 0; i < 4; i++) {
        if (counts[i] < 0 || counts[i] > 1000000) {
            return err_set(err, -EINVAL, "a count is %" PRId64 ": 0 to 1000000 are taken",
                           counts[i]);
        }
    }
    /* yes_a is hypergeometric given the margins; weights relative to the observed table. */
    double a = (double)(yes_a + no_a);
    double b = (double)(yes_b + no_b);
    double yes = (double)(yes_a + yes_b);
    double from = fmax(0, yes - b);
    double to = fmin(a, yes);
    double all = 0;
    double tail = 0;
    double base = lgamma((double)yes_a + 1) + lgamma((double)no_a + 1) + lgamma((double)yes_b + 1) +
                  lgamma((double)no_b + 1);
    for (double k = from; k <= to; k++) {
        double w = base - lgamma(k + 1) - lgamma(a - k + 1) - lgamma(yes - k + 1) -
                   lgamma(b - yes + k + 1);
        all += exp(w);
        tail += w <= 1e-7 ? exp(w) : 0; /* as likely but for rounding counts as no likelier */
    }
    *out_p = fmin(1, tail / all);
    return 0;
}

int stats_modes(const double *values, size_t n, double gap_min, struct stats_modes *out,
                struct err *err)
{
    int rc = check_values(values, n, err);
    if (rc != 0) {
        return rc;
    }
    struct stats_modes modes = {0};
    if (n < STATS_MODE_VALUES_MIN) {
        *out = modes;
        return 0;
    }
    double *sorted = sorted_copy(values, n);
    size_t least = (size_t)ceil(STATS_MODE_SHARE * (double)n);
    size_t at = least;
    for (size_t i = least; i <= n - least; i++) {
        if (sorted[i] - sorted[i - 1] > sorted[at] - sorted[at - 1]) {
            at = i;
        }
    }
    double gap = sorted[at] - sorted[at - 1];
    double *distance = checked(malloc(n * sizeof *distance));
    for (size_t i = 0; i < n; i++) {
        double median = i < at ? sorted_median(sorted, at) : sorted_median(sorted + at, n - at);
        distance[i] = fabs(sorted[i] - median);
    }
    double mad = stats_median(distance, n);
    modes.gap_mads = gap == 0 ? 0 : gap / mad; /* infinite for two groups of equal values */
    modes.two = gap > gap_min && modes.gap_mads > STATS_MODE_GAP_MADS;
    modes.cut = sorted[at - 1] / 2 + sorted[at] / 2;
    modes.share_high = (double)(n - at) / (double)n;
    free(distance);
    free(sorted);
    *out = modes;
    return 0;
}
