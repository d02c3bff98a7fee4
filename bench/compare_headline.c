/* The one sentence that leads a comparison: the verdict and its cause. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compare_print.h"

/* What leads: what costs most outside the process first, a consequence after its cause (an
 * allocation also costs instructions; the reverse is not so). */
static int lead_rank(const struct compare_metric *m)
{
    static const char *const order[] = {
        "round_trips_per_op", "redis_commands_per_op", "live_bytes_per_op",  "redis_calls_per_op",
        "allocs_per_op",      "syscalls_per_op",       "instructions_per_op"};
    int rank = 0;
    while (rank < 7 && strcmp(order[rank], m->metric->name) != 0) {
        rank++;
    }
    return rank;
}

static const struct compare_metric *find_lead(const struct comparison *comparison,
                                              enum verdict verdict,
                                              const struct compare_scenario **out_scenario,
                                              size_t *out_count)
{
    const struct compare_metric *lead = NULL;
    *out_count = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        for (size_t k = 0; k < comparison->scenarios[i].metric_count; k++) {
            const struct compare_metric *m = &comparison->scenarios[i].metrics[k];
            if (m->verdict != verdict) {
                continue;
            }
            (*out_count)++;
            if (lead == NULL || lead_rank(m) < lead_rank(lead)) {
                lead = m;
                *out_scenario = &comparison->scenarios[i];
            }
        }
    }
    return lead;
}

static bool is(const struct compare_metric *m, const char *name)
{
    return strcmp(m->metric->name, name) == 0;
}

/* The part that moved most in the metric's own direction; NULL without one. */
static const struct compare_part *cause_of(const struct compare_metric *m)
{
    for (size_t i = 0; i < m->parts_shown; i++) {
        if ((m->parts[i].delta > 0) == (m->b > m->a)) {
            return &m->parts[i];
        }
    }
    return NULL;
}

/* "json_parse < decode < claim" -> the site alone. */
static void put_site(struct buf *out, const struct compare_part *part)
{
    const char *end = strstr(part->name, " < ");
    int bytes = end != NULL ? (int)(end - part->name) : (int)strlen(part->name);
    buf_printf(out, " at %.*s", bytes, part->name);
}

/* 6.4 -> "64 B leaked per 10 operations" */
static void put_leak(struct buf *out, const struct compare_metric *m)
{
    char n[SET_NUMBER_BYTES];
    const struct compare_part *part = cause_of(m);
    int per = 1;
    while (per < 1000 && fabs(m->b * per - round(m->b * per)) > 1e-6 * m->b * per) {
        per *= 10;
    }
    if (fabs(m->b * per - round(m->b * per)) > 1e-6 * m->b * per) {
        per = 1;
    }
    comparison_plain(m->b * per, n);
    if (per == 1) {
        buf_printf(out, "%s B leaked per operation", n);
    } else {
        buf_printf(out, "%s B leaked per %d operations", n, per);
    }
    if (part != NULL) {
        put_site(out, part);
    }
}

static void put_part(struct buf *out, const struct compare_metric *m)
{
    const struct compare_part *part = cause_of(m);
    char n[SET_NUMBER_BYTES];
    if (part != NULL) {
        buf_printf(out, ", %s of them in %s %s", comparison_signed(part->delta, n), m->part_kind,
                   part->name);
        if (part->note != NULL) {
            buf_printf(out, " (%s)", part->note);
        }
    }
}

static void put_cause(struct buf *out, const struct compare_scenario *s,
                      const struct compare_metric *m)
{
    double delta = m->b - m->a;
    const struct compare_part *part = cause_of(m);
    char n[SET_NUMBER_BYTES];
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    if (m->leak) {
        put_leak(out, m);
    } else if (is(m, "round_trips_per_op") || is(m, "redis_commands_per_op")) {
        const char *what = is(m, "round_trips_per_op") ? "Redis round trip" : "command to Redis";
        bool one = fabs(fabs(delta) - 1) < 1e-9;
        const char *plural = one ? "" : "s";
        if (!one && is(m, "redis_commands_per_op")) {
            what = "commands to Redis";
            plural = "";
        }
        buf_printf(out, "%s makes %s %s %s%s per operation (%s to %s)",
                   s->grew[0] != '\0' ? s->grew : s->id, comparison_plain(fabs(delta), n),
                   delta > 0 ? "more" : "fewer", what, plural, comparison_plain(m->a, a),
                   comparison_plain(m->b, b));
    } else if (is(m, "allocs_per_op") && part != NULL) {
        buf_printf(out, "%s allocations/op", comparison_signed(delta, n));
        put_site(out, part);
    } else if (is(m, "instructions_per_op") && part != NULL && delta != 0) {
        buf_printf(out, "%s instructions/op in %s", comparison_signed(part->delta, n), part->name);
        if (part->note != NULL) {
            buf_printf(out, " (%s)", part->note);
        }
        double share = 100 * part->delta / delta;
        if (share < 100.5) {
            buf_printf(out, ", %.0f %% of the %s", share, delta > 0 ? "growth" : "saving");
            if (m->a != 0) {
                buf_printf(out, " of %+.2f %%", 100 * delta / m->a);
            }
        } else { /* others went the other way */
            buf_printf(out, ", %s in all", comparison_signed(delta, n));
            if (m->a != 0) {
                buf_printf(out, " (%+.2f %%)", 100 * delta / m->a);
            }
        }
    } else {
        buf_printf(out, "%s %s", comparison_signed(delta, n), m->metric->title);
        if (m->a != 0) {
            buf_printf(out, " (%+.2f %%)", 100 * delta / m->a);
        }
        put_part(out, m);
    }
    buf_printf(out, " in %s", s->id);
}

/* The timed metric or tail with this verdict; false when there is none. */
static bool put_timed(struct buf *out, const struct comparison *comparison, enum verdict verdict)
{
    for (size_t i = 0; i < comparison->count; i++) {
        const struct compare_timed *timed = comparison->timed[i];
        for (size_t k = 0; timed != NULL && k < timed->metric_count; k++) {
            const struct compare_timed_metric *m = &timed->metrics[k];
            if (m->confirmed && m->judged.verdict == verdict) {
                buf_printf(out, "%s is %+.1f %% [%+.1f, %+.1f] in %s, from %zu pairs", m->id,
                           100 * (m->judged.effect - 1), 100 * (m->judged.low - 1),
                           100 * (m->judged.high - 1), comparison->scenarios[i].id,
                           m->judged.pairs);
                return true;
            }
        }
        for (size_t k = 0; timed != NULL && k < timed->tail_count; k++) {
            const struct compare_timed_tail *t = &timed->tails[k];
            if (t->confirmed && t->verdict == verdict) {
                buf_printf(out,
                           "%.2f times as many %s requests above %.3f ms [%.2f, %.2f] in %s, from "
                           "%zu pairs",
                           t->ratio.estimate, t->call, (double)t->threshold_ns / 1e6, t->ratio.low,
                           t->ratio.high, comparison->scenarios[i].id, timed->confirm_pairs);
                return true;
            }
        }
    }
    return false;
}

bool comparison_unsettled(const struct compare_timed *timed)
{
    if (timed != NULL && timed->unsteady) {
        return true;
    }
    for (size_t k = 0; timed != NULL && k < timed->metric_count; k++) {
        if (timed->metrics[k].flagged && timed->metrics[k].judged.verdict == VERDICT_INCONCLUSIVE) {
            return true;
        }
    }
    for (size_t k = 0; timed != NULL && k < timed->tail_count; k++) {
        if (timed->tails[k].flagged && !timed->tails[k].confirmed) {
            return true;
        }
    }
    return false;
}

static void put_unsettled(struct buf *out, const struct comparison *comparison)
{
    for (size_t i = 0; i < comparison->count; i++) {
        const struct compare_timed *timed = comparison->timed[i];
        if (timed != NULL && timed->unsteady) {
            size_t pairs = timed->screen_pairs + timed->confirm_pairs + timed->unsteady_pairs;
            buf_printf(out,
                       "in %zu of %zu pairs a run never settled: times cannot be judged on this "
                       "machine now",
                       timed->unsteady_pairs, pairs);
            return;
        }
        for (size_t k = 0; timed != NULL && k < timed->metric_count; k++) {
            const struct compare_timed_metric *m = &timed->metrics[k];
            if (!m->flagged || m->judged.verdict != VERDICT_INCONCLUSIVE) {
                continue;
            }
            buf_printf(out, "%s may have moved (%+.1f %% in %zu pairs)", m->id,
                       100 * (m->judged.effect - 1), m->judged.pairs);
            if (!m->confirmed) {
                buf_puts(out, ", but no time was left to confirm it");
            } else if (m->judged.pairs_more > 0) {
                buf_printf(out, ": about %zu more pairs would tell", m->judged.pairs_more);
            }
            return;
        }
    }
    buf_puts(out, "the tail may have moved, but no time was left to confirm it");
}

static bool any_unsettled(const struct comparison *comparison)
{
    for (size_t i = 0; i < comparison->count; i++) {
        if (comparison_unsettled(comparison->timed[i])) {
            return true;
        }
    }
    return false;
}

static void put_more(struct buf *out, size_t count, enum verdict verdict)
{
    if (count > 1) {
        buf_printf(out, "; %zu more %s %s", count - 1, count == 2 ? "metric is" : "metrics are",
                   verdict_name(verdict));
    }
}

static bool put_refused(struct buf *out, const struct comparison *comparison)
{
    size_t refused = 0;
    const char *first = "";
    for (size_t i = comparison->count; i > 0; i--) {
        if (comparison->scenarios[i - 1].verdict == VERDICT_NOT_COMPARABLE) {
            refused++;
            first = comparison->scenarios[i - 1].reason;
        }
    }
    if (refused > 0) {
        buf_printf(out, "not comparable: %zu of %zu scenarios, the first because %s", refused,
                   comparison->count, first);
    }
    return refused > 0;
}

static void put_same(struct buf *out, const struct comparison *comparison)
{
    size_t metrics = 0;
    size_t warnings = 0;
    size_t pairs = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        metrics += comparison->scenarios[i].metric_count;
        pairs += comparison->timed[i] != NULL ? comparison->timed[i]->screen_pairs : 0;
        for (size_t k = 0; k < comparison->scenarios[i].metric_count; k++) {
            warnings += comparison->scenarios[i].metrics[k].warning;
        }
    }
    buf_printf(out, "same: no counted metric left its budget (%zu metrics in %zu %s)", metrics,
               comparison->count, comparison->count == 1 ? "scenario" : "scenarios");
    if (pairs > 0) {
        buf_printf(out, ", and no timed one was seen to move in %zu pairs", pairs);
    }
    if (warnings > 0) {
        buf_printf(out, "; %zu %s", warnings, warnings == 1 ? "warning" : "warnings");
    }
}

void comparison_headline(const struct comparison *comparison, struct buf *out)
{
    const struct compare_scenario *scenario = NULL;
    size_t count;
    char n[SET_NUMBER_BYTES];
    char p[SET_NUMBER_BYTES];
    struct buf timed = BUF_INIT;
    if (comparison->reason[0] != '\0') {
        buf_printf(out, "not comparable: %s", comparison->reason);
        return;
    }
    if (comparison->same_program && comparison->count == 0) {
        buf_puts(out, "same: A and B build the same program, byte for byte: nothing to measure");
        return;
    }
    const struct compare_metric *m = find_lead(comparison, VERDICT_WORSE, &scenario, &count);
    if (m != NULL) {
        buf_puts(out, "worse: ");
        put_cause(out, scenario, m);
        put_more(out, count, VERDICT_WORSE);
    } else if (put_timed(&timed, comparison, VERDICT_WORSE)) {
        buf_printf(out, "worse: %s", timed.data);
    } else if (put_refused(out, comparison)) {
        /* said */
    } else if ((m = find_lead(comparison, VERDICT_INCONCLUSIVE, &scenario, &count)) != NULL) {
        buf_printf(out,
                   "inconclusive: %s of %s is jittery: its repeats differ by %s, too much to "
                   "judge a change of %s",
                   m->metric->title, scenario->id, comparison_plain(m->noise, p),
                   comparison_signed(m->b - m->a, n));
    } else if (any_unsettled(comparison)) {
        buf_puts(out, "inconclusive: ");
        put_unsettled(out, comparison);
    } else if ((m = find_lead(comparison, VERDICT_BETTER, &scenario, &count)) != NULL) {
        buf_puts(out, "better: ");
        put_cause(out, scenario, m);
        put_more(out, count, VERDICT_BETTER);
    } else if (put_timed(&timed, comparison, VERDICT_BETTER)) {
        buf_printf(out, "better: %s", timed.data);
    } else {
        put_same(out, comparison);
    }
    buf_fini(&timed);
}

enum verdict comparison_verdict(const struct comparison *comparison)
{
    struct buf sentence = BUF_INIT;
    enum verdict verdict = VERDICT_SAME;
    /* One judge: the sentence begins with the verdict's name. */
    comparison_headline(comparison, &sentence);
    for (int v = VERDICT_SAME; v <= VERDICT_NOT_COMPARABLE; v++) {
        const char *name = verdict_name((enum verdict)v);
        size_t bytes = strlen(name);
        if (strncmp(sentence.data, name, bytes) == 0 && sentence.data[bytes] == ':') {
            verdict = (enum verdict)v;
        }
    }
    buf_fini(&sentence);
    return verdict;
}
