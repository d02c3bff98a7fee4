/* The judgement on one metric, from numbers alone. Pure; any thread.
 *
 * A timed metric is judged from pairs of process runs, A (baseline) and B (candidate) in random
 * order within the pair. d = ln(b / a) of each pair; the effect is exp of their Hodges-Lehmann
 * middle, the interval that of the exact signed-rank distribution, p that of the signed-rank test.
 *
 * Two stages, each with fresh pairs and its length fixed beforehand, so that nobody stops when he
 * likes what he sees: verdict_flagged screens all metrics laxly, verdict_timed and verdict_family
 * judge the flagged ones. The verdicts come from the second stage alone, so the chance of one false
 * "worse" or "better" in the family is at most VERDICT_ALPHA whatever the screen let through. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stats.h"

#define VERDICT_LEVEL 0.99
#define VERDICT_ALPHA 0.01
#define VERDICT_SCREEN_LEVEL 0.80
#define VERDICT_SCREEN_PAIRS 16
#define VERDICT_CONFIRM_PAIRS 48
#define VERDICT_PAIRS_MAX 512
#define VERDICT_FAMILY_MAX 12 /* timed metrics that gate; the others are information */
#define VERDICT_EFFECT_MIN 0.02 /* smaller effects are "same", unless the noise floor is higher */
#define VERDICT_UNSTEADY_RATIO_MAX 0.25 /* of all pairs run */

enum verdict {
    VERDICT_SAME, /* a claim with its own proof, not a lack of evidence */
    VERDICT_BETTER,
    VERDICT_WORSE,
    VERDICT_INCONCLUSIVE,
    VERDICT_NOT_COMPARABLE,
};

const char *verdict_name(enum verdict verdict);

enum verdict_reason {
    VERDICT_CLEAR,
    VERDICT_WIDE, /* inconclusive: the interval allows for too much; see pairs_more */
    VERDICT_FEW_PAIRS, /* inconclusive: no interval at this level from so few */
    VERDICT_UNSTEADY, /* inconclusive: too many pairs had a run that never settled */
    VERDICT_FEW_SAMPLES, /* inconclusive: a run has too few samples beyond the quantile */
    VERDICT_FAMILY, /* inconclusive: not beyond chance among all metrics looked at */
    VERDICT_MODES, /* better or worse: a mode's share changed */
};

const char *verdict_reason_name(enum verdict_reason reason);

struct verdict_pairs {
    const double *a; /* one value a run, all above 0 */
    const double *b;
    size_t pairs;
    size_t unsteady; /* pairs left out because a run never settled */
    bool few_samples; /* some run's quantile has fewer than 20 samples beyond it */
    bool higher_better;
    double effect_min; /* m as a ratio, 0.02; the larger of 2 % and the scenario's noise floor */
};

struct verdict_timed {
    enum verdict verdict;
    enum verdict_reason reason;
    double effect; /* b / a; 1.05: 5 % more */
    double low; /* of the VERDICT_LEVEL interval; 0 and INFINITY when unbounded */
    double high;
    double p; /* two-sided; verdict_family adjusts it */
    size_t pairs;
    size_t pairs_more; /* inconclusive: about so many would decide; 0: cannot be told */
    bool modes; /* runs of a or b fall into two groups */
    double share_high_a; /* then: shares of runs in the higher one, and the p of their difference */
    double share_high_b;
    double share_p;
};

/* Judge one metric. -EINVAL or -EDOM with text: a value that is not finite or not above 0, too many
 * pairs. No pairs are inconclusive. */
int verdict_timed(const struct verdict_pairs *pairs, struct verdict_timed *out, struct err *err);

/* The smallest change (0.03 for 3 %) that so many pairs of this spread would have shown as better
 * or worse in 95 of 100 comparisons; INFINITY when there are too few. For the line beside every
 * verdict. The pairs are resampled about their own middle, so that bursts count as they are; it
 * takes some ten milliseconds. Errors as verdict_timed. */
int verdict_effect_seen(const struct verdict_pairs *pairs, uint64_t seed, double *out_effect,
                        struct err *err);

/* The screen: is it worth fresh pairs? Its own errors count as "yes". */
bool verdict_flagged(const struct verdict_pairs *pairs);

/* The second stage's metrics together: adjust their p by Holm and take back better and worse where
 * the adjusted p is above VERDICT_ALPHA. */
int verdict_family(struct verdict_timed *metrics, size_t n, struct err *err);

/* Pairs still to run for `wanted` steady ones; -ENODATA once so many were unsteady that the limit
 * cannot be kept. */
int verdict_pairs_left(size_t wanted, size_t steady, size_t unsteady);

/* Whether A goes first in this pair, and how many bytes of padding the environment of both runs
 * gets (0..4096, against effects of stack placement). By the seed and the pair's number alone. */
bool verdict_a_first(uint64_t seed, size_t pair);
size_t verdict_padding_bytes(uint64_t seed, size_t pair);
