#include "rank.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static int check_values(const double *values, size_t n, struct err *err)
{
    if (n > RANK_VALUES_MAX) {
        return err_set(err, -EINVAL, "%zu values: at most %d are taken", n, RANK_VALUES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return err_set(err, -EINVAL, "value %zu is not a finite number", i + 1);
        }
    }
    return 0;
}

double rank_normal_cdf(double z)
{
    return erfc(-z * M_SQRT1_2) / 2;
}

double rank_normal_quantile(double p)
{
    /* Bisection to the last bit: it is asked a few times a report. */
    double low = -40;
    double high = 40;
    for (int i = 0; i < 200; i++) {
        double middle = (low + high) / 2;
        if (middle <= low || middle >= high) {
            break; /* neighbours: nothing lies between them */
        }
        if (rank_normal_cdf(middle) < p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A value that remembers where it came from. */
struct ranked {
    double value;
    size_t from;
    int rank2; /* twice the midrank, so that it is whole */
};

static int by_ranked_value(const void *a, const void *b)
{
    return by_value(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value);
}

/* Sort, and give equal values the mean of their ranks. Returns the sum of t^3 - t over the ties. */
static double assign_midranks(struct ranked *r, size_t n)
{
    double ties = 0;
    qsort(r, n, sizeof *r, by_ranked_value);
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && r[end].value == r[i].value) {
            end++;
        }
        for (size_t k = i; k < end; k++) {
            r[k].rank2 = (int)(i + 1 + end); /* ranks i+1..end */
        }
        double t = (double)(end - i);
        ties += t * t * t - t;
        i = end;
    }
    return ties;
}

static void set_p(struct rank_test *test, double less, double greater)
{
    test->p_less = fmin(less, 1);
    test->p_greater = fmin(greater, 1);
    test->p_two_sided = fmin(1, 2 * fmin(less, greater));
}

/* Tails of a normal approximation, half a step towards the middle. */
static void set_p_normal(struct rank_test *test, double mean, double variance, double half_step)
{
    if (variance <= 0) {
        set_p(test, 1, 1);
        return;
    }
    double sd = sqrt(variance);
    set_p(test, rank_normal_cdf((test->statistic - mean + half_step) / sd),
          rank_normal_cdf(-(test->statistic - mean - half_step) / sd));
}

/* Tails of counts[0..top] at the index observed. */
static void set_p_counts(struct rank_test *test, const double *counts, size_t top, size_t observed)
{
    double below = 0;
    double above = 0;
    double all = 0;
    for (size_t i = 0; i <= top; i++) {
        all += counts[i];
        below += i <= observed ? counts[i] : 0;
        above += i >= observed ? counts[i] : 0;
    }
    set_p(test, below / all, above / all);
}

/* counts[s] = in how many sign patterns the positive ranks add up to s. Counts go to 2^64: sums of
 * positive doubles, so every one is right to 14 digits and more. Returns the largest sum. */
static size_t signed_counts(const int *ranks, size_t n, double *counts)
{
    size_t top = 0;
    counts[0] = 1;
    for (size_t i = 0; i < n; i++) {
        size_t rank = (size_t)ranks[i];
        memset(counts + top + 1, 0, rank * sizeof *counts);
        top += rank;
        for (size_t s = top; s >= rank; s--) {
            counts[s] += counts[s - rank];
        }
    }
    return top;
}

int rank_signed(const double *d, size_t n, struct rank_test *out, struct err *err)
{
    int rc = check_values(d, n, err);
    if (rc != 0) {
        return rc;
    }
    struct ranked *r = checked(calloc(n + 1, sizeof *r));
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (d[i] != 0) {
            r[used++] = (struct ranked){fabs(d[i]), i, 0};
        }
    }
    double ties = assign_midranks(r, used);
    size_t v2 = 0;
    for (size_t i = 0; i < used; i++) {
        v2 += d[r[i].from] > 0 ? (size_t)r[i].rank2 : 0;
    }
    struct rank_test test = {.statistic = (double)v2 / 2, .n = used, .exact = true};
    if (used <= RANK_SIGNED_EXACT_MAX) {
        int ranks[RANK_SIGNED_EXACT_MAX];
        double counts[RANK_SIGNED_EXACT_MAX * (RANK_SIGNED_EXACT_MAX + 1) + 1];
        for (size_t i = 0; i < used; i++) {
            ranks[i] = r[i].rank2;
        }
        size_t top = signed_counts(ranks, used, counts);
        set_p_counts(&test, counts, top, v2);
    } else {
        double m = (double)used;
        test.exact = false;
        set_p_normal(&test, m * (m + 1) / 4, m * (m + 1) * (2 * m + 1) / 24 - ties / 48, 0.5);
    }
    free(r);
    *out = test;
    return 0;
}

/* The largest k with P(V < k) < tail, V the signed-rank statistic of n untied values; 0 when even
 * P(V <= 0) is not below. *out_below is P(V < k). */
static size_t signed_cut(size_t n, double tail, double *out_below)
{
    if (n > RANK_SIGNED_EXACT_MAX) {
        double m = (double)n;
        double mean = m * (m + 1) / 4;
        double sd = sqrt(m * (m + 1) * (2 * m + 1) / 24);
        double k = floor(mean + rank_normal_quantile(tail) * sd);
        k = k < 0 ? 0 : k;
        *out_below = rank_normal_cdf((k - 0.5 - mean) / sd);
        return (size_t)k;
    }
    int ranks[RANK_SIGNED_EXACT_MAX];
    double counts[RANK_SIGNED_EXACT_MAX * (RANK_SIGNED_EXACT_MAX + 1) / 2 + 1];
    for (size_t i = 0; i < n; i++) {
        ranks[i] = (int)i + 1;
    }
    size_t top = signed_counts(ranks, n, counts);
    double all = ldexp(1, (int)n);
    double below = 0;
    size_t k = 0;
    while (k <= top && (below + counts[k]) / all < tail) {
        below += counts[k++];
    }
    *out_below = below / all;
    return k;
}

int rank_hodges_lehmann(const double *d, size_t n, double level, struct rank_interval *out,
                        struct err *err)
{
    int rc = check_values(d, n, err);
    if (rc != 0) {
        return rc;
    }
    if (n == 0 || !(level > 0 && level < 1)) {
        return err_set(err, -EINVAL, n == 0 ? "no values" : "the level is between 0 and 1");
    }
    size_t walsh_count = n * (n + 1) / 2;
    double *walsh = checked(calloc(walsh_count, sizeof *walsh));
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i; k < n; k++) {
            walsh[at++] = d[i] / 2 + d[k] / 2;
        }
    }
    qsort(walsh, walsh_count, sizeof *walsh, by_value);
    size_t middle = walsh_count / 2;
    double below;
    size_t cut = signed_cut(n, (1 - level) / 2, &below);
    struct rank_interval made = {
        .estimate =
            walsh_count % 2 == 1 ? walsh[middle] : walsh[middle - 1] / 2 + walsh[middle] / 2,
        .low = -INFINITY,
        .high = INFINITY,
        .level = 1,
        .exact = n <= RANK_SIGNED_EXACT_MAX,
    };
    if (cut > 0) {
        made.low = walsh[cut - 1];
        made.high = walsh[walsh_count - cut];
        made.level = 1 - 2 * below;
    }
    free(walsh);
    *out = made;
    return 0;
}

/* counts[s] = in how many ways `chosen` of the ranks add up to s. Source: the same recursion with
 * the number of chosen ones as a second index. Returns the row of `chosen`, inside *out_table. */
static double *subset_counts(const struct ranked *r, size_t n, size_t chosen, size_t top,
                             double **out_table)
{
    size_t row = top + 1;
    double *table = checked(calloc((chosen + 1) * row, sizeof *table));
    table[0] = 1;
    size_t reach = 0; /* largest sum so far, of any number of ranks */
    for (size_t i = 0; i < n; i++) {
        size_t rank = (size_t)r[i].rank2;
        size_t most = i + 1 < chosen ? i + 1 : chosen;
        reach = reach + rank < top ? reach + rank : top;
        for (size_t c = most; c >= 1; c--) {
            double *to = table + c * row;
            const double *from = table + (c - 1) * row;
            for (size_t s = reach; s >= rank; s--) {
                to[s] += from[s - rank];
            }
        }
    }
    *out_table = table;
    return table + chosen * row;
}

int rank_sum(const double *x, size_t x_count, const double *y, size_t y_count,
             struct rank_test *out, struct err *err)
{
    int rc = check_values(x, x_count, err);
    if (rc == 0) {
        rc = check_values(y, y_count, err);
    }
    if (rc != 0) {
        return rc;
    }
    size_t n = x_count + y_count;
    struct rank_test test = {.exact = true, .n = n};
    if (x_count == 0 || y_count == 0) {
        test.n = 0;
        set_p(&test, 1, 1);
        *out = test;
        return 0;
    }
    struct ranked *r = checked(calloc(n, sizeof *r));
    for (size_t i = 0; i < n; i++) {
        r[i] = (struct ranked){i < x_count ? x[i] : y[i - x_count], i, 0};
    }
    double ties = assign_midranks(r, n);
    size_t sum2 = 0;
    for (size_t i = 0; i < n; i++) {
        sum2 += r[i].from < x_count ? (size_t)r[i].rank2 : 0;
    }
    double a = (double)x_count;
    double b = (double)y_count;
    test.statistic = (double)sum2 / 2 - a * (a + 1) / 2;
    if (x_count <= RANK_SUM_EXACT_MAX && y_count <= RANK_SUM_EXACT_MAX) {
        size_t top = 0; /* of the x_count largest ranks */
        for (size_t i = y_count; i < n; i++) {
            top += (size_t)r[i].rank2;
        }
        double *table;
        double *counts = subset_counts(r, n, x_count, top, &table);
        set_p_counts(&test, counts, top, sum2);
        free(table);
    } else {
        double all = a + b;
        test.exact = false;
        set_p_normal(&test, a * b / 2, a * b / 12 * (all + 1 - ties / (all * (all - 1))), 0.5);
    }
    free(r);
    *out = test;
    return 0;
}

/* Multiply poly (0..*top) by the Gaussian binomial [kept + added choose added]: the inversions that
 * `added` equal values have with `kept` others when every order is equally likely. Its coefficient
 * at s is the number of partitions of s into at most `added` parts of at most `kept` each. */
static void mix_in(double *poly, size_t *top, size_t kept, size_t added)
{
    size_t end = *top + kept * added;
    for (size_t s = *top + 1; s <= end; s++) {
        poly[s] = 0;
    }
    size_t row = kept * added + 1;
    double *ways = checked(calloc((added + 1) * row, sizeof *ways)); /* [parts][sum] */
    ways[0] = 1;
    for (size_t part = 0; part <= kept; part++) {
        /* Rising c lets one size be used again; size 0 stands for a part that is not there. */
        for (size_t c = 1; c <= added; c++) {
            double *to = ways + c * row;
            const double *from = ways + (c - 1) * row;
            for (size_t s = part; s < row; s++) {
                to[s] += from[s - part];
            }
        }
    }
    const double *gauss = ways + added * row;
    double *product = checked(calloc(end + 1, sizeof *product));
    for (size_t i = 0; i <= *top; i++) {
        for (size_t s = 0; s < row; s++) {
            product[i + s] += poly[i] * gauss[s];
        }
    }
    memcpy(poly, product, (end + 1) * sizeof *poly);
    free(product);
    free(ways);
    *top = end;
}

int rank_trend(const double *series, size_t n, struct rank_test *out, struct err *err)
{
    int rc = check_values(series, n, err);
    if (rc != 0) {
        return rc;
    }
    long s = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            s += (series[k] > series[i]) - (series[k] < series[i]);
        }
    }
    struct rank_test test = {.statistic = (double)s, .n = n, .exact = true};
    double *sorted = checked(calloc(n + 1, sizeof *sorted));
    memcpy(sorted, series, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    bool exact = n <= RANK_TREND_EXACT_MAX;
    double *poly = checked(calloc(exact ? n * (n + 1) / 2 + 1 : 1, sizeof *poly));
    size_t top = 0;
    double m = (double)n;
    double variance18 = m * (m - 1) * (2 * m + 5);
    poly[0] = 1;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && sorted[end] == sorted[i]) {
            end++;
        }
        double t = (double)(end - i);
        variance18 -= t * (t - 1) * (2 * t + 5);
        if (exact) {
            mix_in(poly, &top, i, end - i);
        }
        i = end;
    }
    if (exact) {
        /* S = untied pairs - 2 * inversions, and top is the number of untied pairs. */
        size_t inversions = (size_t)((long)top - s) / 2;
        set_p_counts(&test, poly, top, top - inversions);
    } else {
        test.exact = false;
        set_p_normal(&test, 0, variance18 / 18, 1);
    }
    free(poly);
    free(sorted);
    *out = test;
    return 0;
}
