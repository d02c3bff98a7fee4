#include "compare_timed.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "result.h"
#include "steady.h"

#define TAIL_SCREEN_P 0.2 /* as the screen's 80 % interval */

/* So many of all pairs never settled that the rest is not to be trusted. */
static bool too_unsteady(const struct pairs *pairs)
{
    return (double)pairs->unsteady >
           VERDICT_UNSTEADY_RATIO_MAX * (double)(pairs->count + pairs->unsteady);
}

static struct verdict_pairs input_of(const struct pairs *pairs, size_t m,
                                     const struct noise_floor *floor)
{
    const struct pairs_metric *metric = &pairs->metrics[m];
    const struct metric *row = metric_find(metric->id);
    return (struct verdict_pairs){
        .a = metric->a,
        .b = metric->b,
        .pairs = pairs->count,
        .unsteady = pairs->unsteady,
        .few_samples = metric->few_samples,
        .higher_better = row != NULL && row->better == METRIC_HIGHER,
        .effect_min = fmax(VERDICT_EFFECT_MIN, noise_floor_of(floor, metric->id)),
    };
}

static bool tail_flagged(const struct pairs_tail *tail)
{
    return tail->samples_a >= PAIRS_TAIL_SAMPLES_MIN && tail->p <= TAIL_SCREEN_P;
}

bool compare_timed_flagged(const struct pairs *screen, struct err *err)
{
    struct pairs_tail tails[PAIRS_CALLS_MAX];
    if (too_unsteady(screen)) {
        return false; /* fresh pairs would be no better */
    }
    for (size_t m = 0; m < screen->metric_count; m++) {
        struct verdict_pairs input = input_of(screen, m, NULL);
        if (verdict_flagged(&input)) {
            return true;
        }
    }
    int count = pairs_tails(screen, tails, err);
    for (int i = 0; i < count; i++) {
        if (tail_flagged(&tails[i])) {
            return true;
        }
    }
    return count < 0;
}

/* What the screen saw is a hint: it may prove "same", never "worse" or "better". */
static void keep_to_hint(struct verdict_timed *judged)
{
    if (judged->verdict == VERDICT_WORSE || judged->verdict == VERDICT_BETTER) {
        judged->verdict = VERDICT_INCONCLUSIVE;
        judged->reason = VERDICT_FAMILY;
    }
}

static int judge_metrics(struct compare_timed *out, const struct pairs *screen,
                         const struct pairs *confirm, const struct noise_floor *floor,
                         uint64_t seed, struct err *err)
{
    struct verdict_timed family[PAIRS_METRICS_MAX];
    size_t of_family[PAIRS_METRICS_MAX];
    size_t gating = 0;
    out->metric_count = screen->metric_count;
    for (size_t m = 0; m < screen->metric_count; m++) {
        struct compare_timed_metric *metric = &out->metrics[m];
        struct verdict_pairs screened = input_of(screen, m, floor);
        metric->flagged = !too_unsteady(screen) && verdict_flagged(&screened);
        metric->confirmed = metric->flagged && confirm != NULL && confirm->count > 0;
        const struct pairs *judged = metric->confirmed ? confirm : screen;
        struct verdict_pairs input = input_of(judged, m, floor);
        metric->effect_min = input.effect_min;
        snprintf(metric->id, sizeof metric->id, "%s", judged->metrics[m].id);
        int code = verdict_timed(&input, &metric->judged, err);
        code = code != 0 ? code : verdict_effect_seen(&input, seed, &metric->effect_seen, err);
        if (code != 0) {
            return err_prefix(err, code, "%s", metric->id);
        }
        metric->a = stats_median(input.a, input.pairs);
        metric->b = stats_median(input.b, input.pairs);
        if (!metric->confirmed || gating == VERDICT_FAMILY_MAX) {
            keep_to_hint(&metric->judged);
        } else {
            of_family[gating] = m;
            family[gating++] = metric->judged;
        }
    }
    int code = verdict_family(family, gating, err);
    for (size_t i = 0; i < gating && code == 0; i++) {
        out->metrics[of_family[i]].judged = family[i];
    }
    return code;
}

static int judge_tails(struct compare_timed *out, const struct pairs *screen,
                       const struct pairs *confirm, struct err *err)
{
    struct pairs_tail screened[PAIRS_CALLS_MAX];
    struct pairs_tail confirmed[PAIRS_CALLS_MAX];
    int count = pairs_tails(screen, screened, err);
    if (count < 0) {
        return count;
    }
    bool both = confirm != NULL && confirm->count > 0;
    int code = both ? pairs_tails(confirm, confirmed, err) : 0;
    if (code < 0) {
        return code;
    }
    out->tail_count = (size_t)count;
    for (int i = 0; i < count; i++) {
        struct compare_timed_tail *tail = &out->tails[i];
        tail->flagged = !too_unsteady(screen) && tail_flagged(&screened[i]);
        tail->confirmed = tail->flagged && both;
        const struct pairs_tail *from = tail->confirmed ? &confirmed[i] : &screened[i];
        snprintf(tail->call, sizeof tail->call, "%s", from->call);
        tail->threshold_ns = from->threshold_ns;
        tail->samples = from->samples_a;
        tail->ratio = from->ratio;
        tail->p = from->p;
        tail->verdict =
            tail->confirmed && !too_unsteady(confirm) ? from->verdict : VERDICT_INCONCLUSIVE;
    }
    return 0;
}

int compare_timed_judge(struct compare_timed *out, const struct pairs *screen,
                        const struct pairs *confirm, const struct noise_floor *floor, uint64_t seed,
                        struct err *err)
{
    *out = (struct compare_timed){
        .screen_pairs = screen->count,
        .confirm_pairs = confirm != NULL ? confirm->count : 0,
        .unsteady_pairs = screen->unsteady + (confirm != NULL ? confirm->unsteady : 0),
        .unsteady = too_unsteady(screen) || (confirm != NULL && too_unsteady(confirm)),
        .floor_comparisons = floor != NULL ? floor->comparisons : 0,
    };
    if (screen->count == 0) {
        return 0;
    }
    int code = judge_metrics(out, screen, confirm, floor, seed, err);
    return code != 0 ? code : judge_tails(out, screen, confirm, err);
}

/* --- running --- */

struct stage {
    struct session *sides[2];
    const struct scenario *scenario;
    const struct compare_timed_options *options;
    struct pairs *pairs;
    const char *name; /* "screen" */
    uint64_t seed;
    double pair_sec; /* what one took; 0: not known yet */
    char path[RESULT_PATH_MAX];
};

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

double compare_timed_guess_sec(const struct scenario *scenario)
{
    double ops =
        (double)(scenario->timed.ops < COMPARE_TIMED_OPS ? scenario->timed.ops : COMPARE_TIMED_OPS);
    return VERDICT_SCREEN_PAIRS * 2 * (0.4 + ops / 15000);
}

/* Pairs that an earlier, killed comparison of the same two left: whole ones only. */
static int take_kept(struct stage *stage, struct err *err)
{
    struct result_runs runs = {0};
    int code = result_runs_read(stage->path, true, &runs, NULL);
    if (code != 0) {
        unlink(stage->path);
        return 0;
    }
    size_t whole = 0;
    for (size_t i = 0; i + 1 < runs.count && code == 0; i += 2) {
        code = pairs_add(stage->pairs, runs.lines[i], runs.lines[i + 1], NULL);
        whole += code == 0;
    }
    /* Written anew without half pairs and broken ends. */
    unlink(stage->path);
    code = 0;
    for (size_t i = 0; i < 2 * whole && code == 0; i++) {
        code = result_append_run(stage->path, runs.lines[i], err);
        runs.lines[i] = NULL;
    }
    result_runs_free(&runs);
    return code;
}

static int run_pair(struct stage *stage, struct err *err)
{
    struct json *lines[2] = {NULL, NULL};
    size_t pair = stage->pairs->count + stage->pairs->unsteady;
    int64_t number = (int64_t)pair;
    bool a_first = verdict_a_first(stage->seed, pair);
    int64_t began_ns = now_ns();
    int code = 0;
    for (int turn = 0; turn < 2 && code == 0; turn++) {
        int side = (turn == 0) == a_first ? 0 : 1;
        const struct run_order order = {.kind = RUN_TIMED,
                                        .repeat = number,
                                        .scale = 1,
                                        .windows = STEADY_WINDOWS,
                                        .padding_bytes = verdict_padding_bytes(stage->seed, pair)};
        code = run_process(stage->sides[side], stage->scenario, &order, &lines[side], err);
    }
    code = code != 0 ? code : pairs_add(stage->pairs, lines[0], lines[1], err);
    for (int side = 0; side < 2; side++) {
        if (code == 0) {
            json_add_int(lines[side], "run", 2 * number + side);
            code = result_append_run(stage->path, lines[side], err);
        } else {
            json_free(lines[side]);
        }
    }
    double sec = (double)(now_ns() - began_ns) / 1e9;
    stage->pair_sec = stage->pair_sec > 0 ? 0.8 * stage->pair_sec + 0.2 * sec : sec;
    return code;
}

/* How many pairs fit, decided before any of them is seen. */
static size_t pairs_that_fit(const struct stage *stage, size_t wanted)
{
    if (stage->options->deadline_ns == INT64_MAX) {
        return wanted;
    }
    double guess = compare_timed_guess_sec(stage->scenario) / VERDICT_SCREEN_PAIRS;
    double pair_sec = stage->pair_sec > 0 ? stage->pair_sec : guess;
    double left = (double)(stage->options->deadline_ns - now_ns()) / 1e9 / pair_sec;
    size_t more = left <= 0 ? 0 : left >= (double)wanted ? wanted : (size_t)left;
    size_t fit = stage->pairs->count + more < wanted ? stage->pairs->count + more : wanted;
    return fit >= COMPARE_PAIRS_MIN ? fit : 0;
}

static int run_stage(struct stage *stage, size_t wanted, size_t *out_left_out, struct err *err)
{
    int code = take_kept(stage, err);
    size_t planned = pairs_that_fit(stage, wanted);
    while (code == 0 &&
           verdict_pairs_left(planned, stage->pairs->count, stage->pairs->unsteady) > 0) {
        char what[160];
        snprintf(what, sizeof what, "%s: %s, pair %zu of %zu", stage->scenario->id, stage->name,
                 stage->pairs->count + 1, planned);
        progress_step(stage->options->progress, what,
                      compare_timed_guess_sec(stage->scenario) / VERDICT_SCREEN_PAIRS);
        /* A machine slower than guessed: the clock alone ends a stage, never a figure. */
        if (now_ns() > stage->options->deadline_ns && stage->pairs->count >= COMPARE_PAIRS_MIN) {
            break;
        }
        code = stage->sides[0]->stopped != NULL && stage->sides[0]->stopped()
                   ? err_set(err, -EINTR, "interrupted")
                   : run_pair(stage, err);
    }
    /* A stage that ended because too many pairs were unsteady is not short of time. */
    if (verdict_pairs_left(planned, stage->pairs->count, stage->pairs->unsteady) >= 0) {
        *out_left_out += wanted - (stage->pairs->count < wanted ? stage->pairs->count : wanted);
    }
    return code;
}

int compare_timed_run(struct compare_timed *out, struct session *a, struct session *b,
                      const struct scenario *scenario, const struct compare_timed_options *options,
                      struct err *err)
{
    struct scenario shorter = *scenario; /* texts are shared, not owned */
    if (shorter.timed.ops > COMPARE_TIMED_OPS) {
        shorter.timed.ops = COMPARE_TIMED_OPS;
    }
    if (shorter.timed.warm_ops > shorter.timed.ops / 10) {
        shorter.timed.warm_ops = shorter.timed.ops / 10;
    }
    shorter.timed.duration_ms_max = 0;
    static const char *const names[] = {"screen", "confirm"};
    static const size_t lengths[] = {VERDICT_SCREEN_PAIRS, VERDICT_CONFIRM_PAIRS};
    struct pairs *pairs[2] = {pairs_new(scenario->operation), pairs_new(scenario->operation)};
    double pair_sec = 0;
    size_t left_out = 0;
    int code = 0;
    for (int i = 0; i < 2 && code == 0; i++) {
        struct stage stage = {.sides = {a, b},
                              .scenario = &shorter,
                              .options = options,
                              .pairs = pairs[i],
                              .name = names[i],
                              .seed = options->seed + (uint64_t)i,
                              .pair_sec = pair_sec};
        snprintf(stage.path, sizeof stage.path, "%.700s/%s-%.8s-%llu-%s.ndjson", options->dir,
                 scenario->id, scenario->sha256, (unsigned long long)options->seed, names[i]);
        code = run_stage(&stage, lengths[i], &left_out, err);
        pair_sec = stage.pair_sec;
        if (code == 0 && (pairs[0]->count == 0 || !compare_timed_flagged(pairs[0], err))) {
            break;
        }
    }
    code = code != 0
               ? code
               : compare_timed_judge(out, pairs[0], pairs[1], options->floor, options->seed, err);
    if (code == 0) {
        out->pairs_left_out = left_out;
    }
    pairs_free(pairs[0]);
    pairs_free(pairs[1]);
    return code;
}
