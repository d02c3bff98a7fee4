#include "verdict.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

const char *verdict_name(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_SAME:
        return "same";
    case VERDICT_BETTER:
        return "better";
    case VERDICT_WORSE:
        return "worse";
    case VERDICT_INCONCLUSIVE:
        return "inconclusive";
    case VERDICT_NOT_COMPARABLE:
        return "not comparable";
    }
    return "unknown";
}

const char *verdict_reason_name(enum verdict_reason reason)
{
    switch (reason) {
    case VERDICT_CLEAR:
        return "clear";
    case VERDICT_WIDE:
        return "interval too wide";
    case VERDICT_FEW_PAIRS:
        return "too few pairs";
    case VERDICT_UNSTEADY:
        return "unsteady runs";
    case VERDICT_FEW_SAMPLES:
        return "too few samples beyond the quantile";
    case VERDICT_FAMILY:
        return "not beyond chance among all metrics";
    case VERDICT_MODES:
        return "a mode's share changed";
    }
    return "unknown";
}

/* ln(b / a) of each pair into d. */
static int differences(const struct verdict_pairs *pairs, double *d, struct err *err)
{
    if (pairs->pairs > VERDICT_PAIRS_MAX) {
        return err_set(err, -EINVAL, "%zu pairs: at most %d are judged", pairs->pairs,
                       VERDICT_PAIRS_MAX);
    }
    for (size_t i = 0; i < pairs->pairs; i++) {
        double a = pairs->a[i];
        double b = pairs->b[i];
        if (!(a > 0 && b > 0 && isfinite(a) && isfinite(b))) {
            return err_set(err, -EDOM, "pair %zu has %g and %g: both must be above 0", i + 1, a, b);
        }
        d[i] = log(b) - log(a);
    }
    return 0;
}

/* Two groups of runs on either side, their shares, and the p that the shares are the same. The cut
 * comes from the side whose gap is clearer, so that a plain shift of b does not look like modes. */
static int judge_modes(const struct verdict_pairs *pairs, struct verdict_timed *v, struct err *err)
{
    size_t n = pairs->pairs;
    double log_a[VERDICT_PAIRS_MAX];
    double log_b[VERDICT_PAIRS_MAX];
    for (size_t i = 0; i < n; i++) {
        log_a[i] = log(pairs->a[i]);
        log_b[i] = log(pairs->b[i]);
    }
    struct stats_modes a;
    struct stats_modes b;
    double gap_min = log1p(pairs->effect_min);
    int rc = stats_modes(log_a, n, gap_min, &a, err);
    rc = rc != 0 ? rc : stats_modes(log_b, n, gap_min, &b, err);
    if (rc != 0 || !(a.two || b.two)) {
        return rc;
    }
    double cut = !b.two || (a.two && a.gap_mads >= b.gap_mads) ? a.cut : b.cut;
    int64_t high_a = 0;
    int64_t high_b = 0;
    for (size_t i = 0; i < n; i++) {
        high_a += log_a[i] > cut;
        high_b += log_b[i] > cut;
    }
    v->modes = true;
    v->share_high_a = (double)high_a / (double)n;
    v->share_high_b = (double)high_b / (double)n;
    return stats_fisher(high_a, (int64_t)n - high_a, high_b, (int64_t)n - high_b, &v->share_p, err);
}

/* How many pairs an interval of this half width, which shrinks with the square root of their
 * number, needs to fit into `room`. 0 when out of reach. */
static size_t pairs_for(size_t pairs, double half, double room)
{
    double needed = room > 0 ? (double)pairs * (half / room) * (half / room) : INFINITY;
    double more = ceil(needed) - (double)pairs;
    return more > 20 * VERDICT_PAIRS_MAX ? 0 : more < 1 ? 1 : (size_t)more;
}

/* Verdict of the interval alone: effect and bounds as logarithms, turned so that above 0 is worse.
 */
static void judge_interval(struct verdict_timed *v, double middle, double low, double high,
                           double least)
{
    double half = (high - low) / 2;
    if (low > 0 && middle >= least) {
        v->verdict = VERDICT_WORSE;
    } else if (high < 0 && middle <= -least) {
        v->verdict = VERDICT_BETTER;
    } else if (low > -least && high < least) {
        v->verdict = VERDICT_SAME;
    } else {
        v->verdict = VERDICT_INCONCLUSIVE;
        v->reason = VERDICT_WIDE;
        /* Either the interval comes clear of no change, or it fits into what counts as the same. */
        v->pairs_more = fabs(middle) >= least ? pairs_for(v->pairs, half, fabs(middle))
                                              : pairs_for(v->pairs, half, least - fabs(middle));
    }
}

static void inconclusive(struct verdict_timed *v, enum verdict_reason reason, size_t pairs_more)
{
    v->verdict = VERDICT_INCONCLUSIVE;
    v->reason = reason;
    v->pairs_more = pairs_more;
}

int verdict_timed(const struct verdict_pairs *pairs, struct verdict_timed *out, struct err *err)
{
    double d[VERDICT_PAIRS_MAX];
    struct rank_interval interval;
    struct rank_test test;
    struct verdict_timed v = {
        .effect = 1,
        .high = INFINITY,
        .p = 1,
        .pairs = pairs->pairs,
        .share_p = 1,
    };
    int rc = differences(pairs, d, err);
    if (rc != 0) {
        return rc;
    }
    if (pairs->pairs == 0) {
        inconclusive(&v, VERDICT_FEW_PAIRS, VERDICT_SCREEN_PAIRS);
        *out = v;
        return 0;
    }
    rc = rank_hodges_lehmann(d, pairs->pairs, VERDICT_LEVEL, &interval, err);
    rc = rc != 0 ? rc : rank_signed(d, pairs->pairs, &test, err);
    rc = rc != 0 ? rc : judge_modes(pairs, &v, err);
    if (rc != 0) {
        return rc;
    }
    double least = log1p(pairs->effect_min);
    double sign = pairs->higher_better ? -1 : 1;
    v.effect = exp(interval.estimate);
    v.low = exp(interval.low);
    v.high = exp(interval.high);
    v.p = test.p_two_sided;
    if (v.modes) {
        v.p = fmin(1, 2 * fmin(v.p, v.share_p)); /* two looks at one metric */
    }
    bool bounded = isfinite(interval.low) && isfinite(interval.high);
    double low = sign > 0 ? interval.low : -interval.high;
    double high = sign > 0 ? interval.high : -interval.low;
    double all = (double)(pairs->pairs + pairs->unsteady);
    if (pairs->few_samples) {
        inconclusive(&v, VERDICT_FEW_SAMPLES, 0);
    } else if ((double)pairs->unsteady > VERDICT_UNSTEADY_RATIO_MAX * all) {
        inconclusive(&v, VERDICT_UNSTEADY, 0);
    } else if (!bounded) {
        inconclusive(&v, VERDICT_FEW_PAIRS,
                     pairs->pairs < VERDICT_SCREEN_PAIRS ? VERDICT_SCREEN_PAIRS - pairs->pairs : 0);
    } else if (v.modes && v.share_p <= VERDICT_ALPHA) {
        v.reason = VERDICT_MODES;
        v.verdict =
            (v.share_high_b > v.share_high_a) == (sign > 0) ? VERDICT_WORSE : VERDICT_BETTER;
    } else {
        judge_interval(&v, sign * interval.estimate, low, high, least);
    }
    *out = v;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

int verdict_effect_seen(const struct verdict_pairs *pairs, uint64_t seed, double *out_effect,
                        struct err *err)
{
    enum { RESAMPLES = 199, RANK_95 = 190 };
    double d[VERDICT_PAIRS_MAX];
    double drawn[VERDICT_PAIRS_MAX];
    double needed[RESAMPLES];
    struct rank_interval whole;
    size_t n = pairs->pairs;
    int rc = differences(pairs, d, err);
    if (rc == 0 && n == 0) {
        *out_effect = INFINITY;
        return 0;
    }
    rc = rc != 0 ? rc : rank_hodges_lehmann(d, n, VERDICT_LEVEL, &whole, err);
    if (rc != 0) {
        return rc;
    }
    if (!isfinite(whole.low)) {
        *out_effect = INFINITY;
        return 0;
    }
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < RESAMPLES; i++) {
        struct rank_interval one;
        for (size_t k = 0; k < n; k++) {
            drawn[k] = d[rng_below(&rng, n)] - whole.estimate;
        }
        rc = rank_hodges_lehmann(drawn, n, VERDICT_LEVEL, &one, err);
        if (rc != 0) {
            return rc;
        }
        /* A true effect e moves the interval by e: how much it takes to be judged worse here. */
        needed[i] = fmax(-one.low, log1p(pairs->effect_min) - one.estimate);
    }
    qsort(needed, RESAMPLES, sizeof *needed, by_value);
    /* Few pairs resampled look steadier than they are. The interval's own width says the same from
     * another side: an effect as large as half of it, and 1.645 standard errors. The larger one. */
    double half = (whole.high - whole.low) / 2;
    double error = half / rank_normal_quantile(0.5 + VERDICT_LEVEL / 2);
    double by_width = fmax(half, log1p(pairs->effect_min)) + rank_normal_quantile(0.95) * error;
    *out_effect = expm1(fmax(needed[RANK_95 - 1], by_width));
    return 0;
}

bool verdict_flagged(const struct verdict_pairs *pairs)
{
    double d[VERDICT_PAIRS_MAX];
    struct rank_interval interval;
    struct verdict_timed modes = {.share_p = 1};
    if (pairs->pairs == 0 || differences(pairs, d, NULL) != 0 ||
        rank_hodges_lehmann(d, pairs->pairs, VERDICT_SCREEN_LEVEL, &interval, NULL) != 0 ||
        judge_modes(pairs, &modes, NULL) != 0) {
        return true;
    }
    return interval.low > 0 || interval.high < 0 ||
           (modes.modes && modes.share_p <= 1 - VERDICT_SCREEN_LEVEL);
}

int verdict_family(struct verdict_timed *metrics, size_t n, struct err *err)
{
    double p[VERDICT_FAMILY_MAX];
    if (n > VERDICT_FAMILY_MAX) {
        return err_set(err, -EINVAL, "%zu timed metrics: at most %d gate together", n,
                       VERDICT_FAMILY_MAX);
    }
    if (n == 0) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        p[i] = metrics[i].p;
    }
    int rc = stats_holm(p, n, p, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        struct verdict_timed *v = &metrics[i];
        v->p = p[i];
        if ((v->verdict == VERDICT_WORSE || v->verdict == VERDICT_BETTER) && v->p > VERDICT_ALPHA) {
            inconclusive(v, VERDICT_FAMILY, v->pairs / 4 + 1);
        }
    }
    return 0;
}

int verdict_pairs_left(size_t wanted, size_t steady, size_t unsteady)
{
    /* The limit is on all pairs once `wanted` steady ones are there. */
    if ((double)unsteady > VERDICT_UNSTEADY_RATIO_MAX * (double)(wanted + unsteady)) {
        return -ENODATA;
    }
    return steady >= wanted ? 0 : (int)(wanted - steady);
}

/* A generator of its own for each pair, so that a resumed comparison draws the same. */
static struct rng pair_rng(uint64_t seed, size_t pair)
{
    struct rng rng;
    rng_init(&rng, seed ^ (UINT64_C(0xd1342543de82ef95) * ((uint64_t)pair + 1)));
    return rng;
}

bool verdict_a_first(uint64_t seed, size_t pair)
{
    struct rng rng = pair_rng(seed, pair);
    return (rng_next(&rng) & 1) != 0;
}

size_t verdict_padding_bytes(uint64_t seed, size_t pair)
{
    struct rng rng = pair_rng(seed, pair);
    rng_next(&rng); /* the coin's */
    return rng_below(&rng, 4097);
}
