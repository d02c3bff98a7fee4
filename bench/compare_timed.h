/* The timed side of a fresh comparison: two stages of pairs and what they say.
 *
 * Stage 1 screens every metric laxly; stage 2 takes fresh pairs and judges, by Holm, only what was
 * flagged. So "worse" and "better" come from stage 2 alone. Each stage's length is fixed before it
 * begins. Pairs are kept in a folder as they end, so that a kill costs one pair. Main thread only.
 * Source: reference "what our compare must do", 4.2 and 4.3. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "noise_floor.h"
#include "pairs.h"
#include "progress.h"
#include "run_process.h"
#include "scenario.h"

#define COMPARE_TIMED_OPS 10000 /* a run: 16 pairs give 160,000 samples of each call */
#define COMPARE_PAIRS_MIN 8 /* fewer are not worth running */

struct compare_timed_metric {
    char id[METRIC_ID_BYTES_MAX];
    double a; /* medians over runs, of the stage that was judged */
    double b;
    bool flagged; /* by the screen */
    bool confirmed; /* judged by stage 2 */
    struct verdict_timed judged;
    double effect_min; /* smaller ones are the same: 2 %, or this machine's noise floor */
    double effect_seen; /* the smallest change that would have shown; INFINITY: none */
};

struct compare_timed_tail {
    char call[32];
    int64_t threshold_ns;
    int64_t samples;
    bool flagged;
    bool confirmed;
    struct rank_interval ratio;
    double p;
    enum verdict verdict;
};

struct compare_timed {
    size_t screen_pairs;
    size_t confirm_pairs;
    size_t unsteady_pairs; /* of both stages: left out, since a run never settled */
    bool unsteady; /* too many of them: nothing can be said */
    size_t floor_comparisons; /* of like with like, that the noise floor rests on */
    size_t pairs_left_out; /* of those that the plan had */
    struct compare_timed_metric metrics[PAIRS_METRICS_MAX];
    size_t metric_count;
    struct compare_timed_tail tails[PAIRS_CALLS_MAX];
    size_t tail_count;
};

struct compare_timed_options {
    const char *dir; /* exists; keeps NAME-screen.ndjson and NAME-confirm.ndjson */
    uint64_t seed;
    int64_t deadline_ns; /* monotonic; INT64_MAX: none */
    const struct noise_floor *floor; /* NULL: none known */
    struct progress *progress;
};

/* Seconds of the screen, guessed. */
double compare_timed_guess_sec(const struct scenario *scenario);

/* 0, or with text: -EINTR, or what run_process and pairs_add say. */
int compare_timed_run(struct compare_timed *out, struct session *a, struct session *b,
                      const struct scenario *scenario, const struct compare_timed_options *options,
                      struct err *err);

/* Judge: screen alone (confirm NULL or without pairs), or both. For tests and compare_timed_run. */
int compare_timed_judge(struct compare_timed *out, const struct pairs *screen,
                        const struct pairs *confirm, const struct noise_floor *floor, uint64_t seed,
                        struct err *err);

/* Whether the screen flags anything of these pairs. */
bool compare_timed_flagged(const struct pairs *screen, struct err *err);
