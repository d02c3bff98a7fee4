#include "compare_print.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct colours {
    const char *good, *bad, *weak, *off;
};

static const char *text_of(double value, char out[SET_NUMBER_BYTES])
{
    int decimals = fabs(value - round(value)) < 5e-7 ? 0 : fabs(value) < 1 ? 4 : 2;
    return set_number(value, decimals, out);
}

const char *comparison_plain(double value, char out[SET_NUMBER_BYTES])
{
    return text_of(value, out);
}

const char *comparison_signed(double value, char out[SET_NUMBER_BYTES])
{
    char plain[SET_NUMBER_BYTES];
    text_of(value, plain);
    snprintf(out, SET_NUMBER_BYTES, "%s%.46s", value > 0 ? "+" : "", plain);
    return out;
}

static void put_side(struct buf *out, const struct comparison_side *side)
{
    buf_puts(out, side->name);
    if (side->commit[0] != '\0' && strncmp(side->commit, side->name, strlen(side->name)) != 0) {
        buf_printf(out, " (%.10s)", side->commit);
    }
}

static double share_of(double part, double whole)
{
    return whole != 0 ? 100 * part / whole : 0.0;
}

/* --- terminal --- */

static void text_parts(struct buf *out, const struct compare_metric *m)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char d[SET_NUMBER_BYTES];
    char share[24];
    double delta = m->b - m->a;
    buf_printf(out, "\n    %s: %s, by %s\n", m->metric->title, comparison_signed(delta, d),
               m->part_kind);
    for (size_t i = 0; i < m->parts_shown; i++) {
        const struct compare_part *p = &m->parts[i];
        snprintf(share, sizeof share, "%.1f %%", share_of(p->delta, delta));
        buf_printf(out, "    %14s %9s  %12s -> %-12s %s%s%s%s\n", comparison_signed(p->delta, d),
                   share, text_of(p->before, a), text_of(p->after, b), p->name,
                   p->note != NULL ? " (" : "", p->note != NULL ? p->note : "",
                   p->note != NULL ? ")" : "");
    }
    snprintf(share, sizeof share, "%.1f %%", share_of(m->remainder, delta));
    buf_printf(out, "    %14s %9s  %28s remainder: %zu others\n",
               comparison_signed(m->remainder, d), share, "", m->part_count - m->parts_shown);
}

static void text_counted(struct buf *out, const struct compare_metric *m,
                         const struct colours *colours)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char d[SET_NUMBER_BYTES];
    char percent[24] = "";
    double delta = m->b - m->a;
    if (m->a != 0 && delta != 0) {
        snprintf(percent, sizeof percent, "%+.3f", 100 * delta / m->a);
    }
    const char *colour = m->verdict == VERDICT_WORSE                        ? colours->bad
                         : m->verdict == VERDICT_BETTER                     ? colours->good
                         : m->verdict == VERDICT_INCONCLUSIVE || m->warning ? colours->weak
                                                                            : "";
    buf_printf(out, "    %-24s %14s %14s %12s %9s  %s%s%s", m->metric->title, text_of(m->a, a),
               text_of(m->b, b), delta != 0 ? comparison_signed(delta, d) : "0", percent, colour,
               m->leak ? "worse: leak" : verdict_name(m->verdict),
               colour[0] != '\0' ? colours->off : "");
    if (m->noise > 0) {
        buf_printf(out, " (jittery, range %s)", text_of(m->noise, d));
    }
    if (m->allowed[0] != '\0') {
        buf_printf(out, " (allowed: %s)", m->allowed);
    } else if (m->warning) {
        buf_puts(out, " (warning: near its budget)");
    }
    buf_puts(out, "\n");
}

/* "[+0.1, +2.3]", or that the data give no bound. */
static const char *interval_text(double low, double high, char out[64])
{
    if (!isfinite(high) || low <= 0) {
        return strcpy(out, "[too few pairs]");
    }
    snprintf(out, 64, "[%+.1f, %+.1f]", 100 * (low - 1), 100 * (high - 1));
    return out;
}

static const char *seen_text(double effect, char out[32])
{
    if (!isfinite(effect)) {
        return strcpy(out, "none");
    }
    snprintf(out, 32, "%.1f %%", 100 * effect);
    return out;
}

/* What a reader does with it: "no change seen" where the screen had nothing to confirm. */
static void timed_words(const struct compare_timed_metric *m, char *out, size_t bytes)
{
    const struct verdict_timed *v = &m->judged;
    if (v->verdict != VERDICT_INCONCLUSIVE) {
        snprintf(out, bytes, "%s%s", verdict_name(v->verdict),
                 v->reason == VERDICT_MODES ? " (a mode's share changed)" : "");
    } else if (v->reason == VERDICT_UNSTEADY || v->reason == VERDICT_FEW_SAMPLES) {
        snprintf(out, bytes, "inconclusive (%s)", verdict_reason_name(v->reason));
    } else if (!m->flagged) {
        snprintf(out, bytes, "inconclusive (no change seen)");
    } else if (!m->confirmed) {
        snprintf(out, bytes, "inconclusive (not confirmed)");
    } else if (v->pairs_more > 0) {
        snprintf(out, bytes, "inconclusive (about %zu more pairs)", v->pairs_more);
    } else {
        snprintf(out, bytes, "inconclusive (%s)", verdict_reason_name(v->reason));
    }
}

static const char *tail_words(const struct compare_timed_tail *t)
{
    return t->samples < PAIRS_TAIL_SAMPLES_MIN  ? "inconclusive (too few samples)"
           : t->verdict != VERDICT_INCONCLUSIVE ? verdict_name(t->verdict)
           : !t->flagged                        ? "inconclusive (no change seen)"
           : t->confirmed                       ? "inconclusive (not beyond chance)"
                                                : "inconclusive (not confirmed)";
}

/* What a reader has to know of the runs before he believes the table: a line each. */
static void put_notes(struct buf *out, const struct compare_timed *timed, const char *indent)
{
    if (timed->unsteady_pairs > 0) {
        buf_printf(out, "%s%zu pair%s dropped and repeated: a run never settled%s\n", indent,
                   timed->unsteady_pairs, timed->unsteady_pairs == 1 ? " was" : "s were",
                   timed->unsteady ? "; that is too many to say anything of times" : "");
    }
    for (size_t i = 0; i < timed->metric_count; i++) {
        const struct compare_timed_metric *m = &timed->metrics[i];
        if (m->judged.modes) {
            buf_printf(out,
                       "%s%s: runs fall into two groups; in the upper one are %.0f %% of A's and "
                       "%.0f %% of B's (p = %.2g)\n",
                       indent, m->id, 100 * m->judged.share_high_a, 100 * m->judged.share_high_b,
                       m->judged.share_p);
        }
    }
    for (size_t i = 0; i < timed->metric_count; i++) {
        const struct compare_timed_metric *m = &timed->metrics[i];
        if (m->effect_min > VERDICT_EFFECT_MIN) {
            buf_printf(out,
                       "%s%s: below %.1f %% is the same here: so much like differed from like (%zu "
                       "comparison%s)\n",
                       indent, m->id, 100 * m->effect_min, timed->floor_comparisons,
                       timed->floor_comparisons == 1 ? "" : "s");
        }
    }
}

static void text_timed(struct buf *out, const struct compare_timed *timed,
                       const struct colours *colours)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char interval[64];
    char seen[32];
    char words[96];
    buf_printf(out, "\n    %-24s %14s %14s %9s %16s %6s %9s  verdict\n", "timed, medians", "A", "B",
               "%", "99 % interval", "pairs", "would see");
    for (size_t i = 0; i < timed->metric_count; i++) {
        const struct compare_timed_metric *m = &timed->metrics[i];
        const char *colour = m->judged.verdict == VERDICT_WORSE    ? colours->bad
                             : m->judged.verdict == VERDICT_BETTER ? colours->good
                                                                   : "";
        timed_words(m, words, sizeof words);
        buf_printf(out, "    %-24s %14s %14s %+9.1f %16s %6zu %9s  %s%s%s\n", m->id,
                   text_of(m->a, a), text_of(m->b, b), 100 * (m->judged.effect - 1),
                   interval_text(m->judged.low, m->judged.high, interval), m->judged.pairs,
                   seen_text(m->effect_seen, seen), colour, words,
                   colour[0] != '\0' ? colours->off : "");
    }
    put_notes(out, timed, "    ");
    for (size_t i = 0; i < timed->tail_count; i++) {
        const struct compare_timed_tail *t = &timed->tails[i];
        buf_printf(out,
                   "    %s requests above %.3f ms: %.2f times as many [%.2f, %.2f], %lld "
                   "samples: %s\n",
                   t->call, (double)t->threshold_ns / 1e6, t->ratio.estimate, t->ratio.low,
                   t->ratio.high, (long long)t->samples, tail_words(t));
    }
}

static void text_scenario(struct buf *out, const struct compare_scenario *s,
                          const struct compare_timed *timed, const struct colours *colours)
{
    if (s->verdict == VERDICT_NOT_COMPARABLE) {
        buf_printf(out, "\n%s: %snot comparable%s: %s\n", s->id, colours->weak, colours->off,
                   s->reason);
        return;
    }
    buf_printf(out, "\n%s\n", s->id);
    buf_printf(out, "    %-24s %14s %14s %12s %9s  verdict\n", "", "A", "B", "difference", "%");
    for (size_t i = 0; i < s->metric_count; i++) {
        text_counted(out, &s->metrics[i], colours);
    }
    if (timed != NULL && timed->metric_count > 0) {
        text_timed(out, timed, colours);
    }
    for (size_t i = 0; i < s->metric_count; i++) {
        if (s->metrics[i].parts_shown > 0) {
            text_parts(out, &s->metrics[i]);
        }
    }
}

/* "A main (1a2b), B . , environment 6f57, measured now in 81 s" */
static void put_what(struct buf *out, const struct comparison *comparison)
{
    buf_puts(out, "A ");
    put_side(out, &comparison->a);
    buf_puts(out, ", B ");
    put_side(out, &comparison->b);
    if (comparison->env8[0] != '\0') {
        buf_printf(out, ", environment %s", comparison->env8);
    }
    if (comparison->fresh && comparison->count > 0) {
        buf_printf(out, ", both built and measured now in %.0f s", comparison->sec);
    } else if (!comparison->fresh && comparison->count > 0) {
        buf_puts(out, ", from result sets");
    }
    if (comparison->same_program && comparison->count > 0) {
        buf_puts(out, "; A and B are the same program");
    }
}

static void put_only(struct buf *out, const struct comparison *comparison, const char *before)
{
    for (size_t i = 0; i < comparison->only_a_count; i++) {
        buf_printf(out, "%s%s: only in A\n", before, comparison->only_a[i]);
    }
    for (size_t i = 0; i < comparison->only_b_count; i++) {
        buf_printf(out, "%s%s: only in B\n", before, comparison->only_b[i]);
    }
}

void comparison_text(const struct comparison *comparison, bool colour, struct buf *out)
{
    static const struct colours with = {"\033[32m", "\033[31m", "\033[33m", "\033[0m"};
    static const struct colours without = {"", "", "", ""};
    comparison_headline(comparison, out);
    buf_puts(out, "\n\n");
    put_what(out, comparison);
    buf_puts(out, "\n");
    for (size_t i = 0; i < comparison->count; i++) {
        text_scenario(out, &comparison->scenarios[i], comparison->timed[i],
                      colour ? &with : &without);
    }
    if (comparison->only_a_count + comparison->only_b_count > 0) {
        buf_puts(out, "\n");
        put_only(out, comparison, "");
    }
    if (comparison->left_out[0] != '\0') {
        buf_printf(out, "\nleft out by the time budget: %s\n", comparison->left_out);
    }
}

/* --- Markdown --- */

/* Text that may hold anything, as the content of a table's cell. */
static void md_text(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '&':
            buf_puts(out, "&amp;");
            break;
        case '|':
        case '*':
        case '_':
        case '`':
        case '[':
        case ']':
        case '\\':
        case '@': /* nobody is to be called by a function's name */
        case '#':
            buf_printf(out, "&#%d;", *text);
            break;
        default:
            buf_append(out, (unsigned char)*text < ' ' ? " " : text, 1);
        }
    }
}

static void md_parts(struct buf *out, const struct compare_metric *m)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char d[SET_NUMBER_BYTES];
    double delta = m->b - m->a;
    buf_printf(out,
               "\n%s by %s\n\n| difference | share | A | B | |\n| --: | --: | --: | --: | --- |\n",
               m->metric->title, m->part_kind);
    for (size_t i = 0; i < m->parts_shown; i++) {
        const struct compare_part *p = &m->parts[i];
        buf_printf(out, "| %s | %.1f %% | %s | %s | ", comparison_signed(p->delta, d),
                   share_of(p->delta, delta), text_of(p->before, a), text_of(p->after, b));
        md_text(out, p->name);
        if (p->note != NULL) {
            buf_puts(out, " (");
            md_text(out, p->note);
            buf_puts(out, ")");
        }
        buf_puts(out, " |\n");
    }
    buf_printf(out, "| %s | %.1f %% | | | remainder: %zu others |\n",
               comparison_signed(m->remainder, d), share_of(m->remainder, delta),
               m->part_count - m->parts_shown);
}

static void md_scenario(struct buf *out, const struct compare_scenario *s,
                        const struct compare_timed *timed)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char d[SET_NUMBER_BYTES];
    char words[96];
    char interval[64];
    char seen[32];
    buf_puts(out, "\n**");
    md_text(out, s->id);
    buf_puts(out, "**\n");
    if (s->verdict == VERDICT_NOT_COMPARABLE) {
        buf_puts(out, "\nnot comparable: ");
        md_text(out, s->reason);
        buf_puts(out, "\n");
        return;
    }
    buf_puts(out,
             "\n| counted | A | B | difference | verdict |\n| --- | --: | --: | --: | --- |\n");
    for (size_t i = 0; i < s->metric_count; i++) {
        const struct compare_metric *m = &s->metrics[i];
        buf_printf(out, "| %s | %s | %s | %s | %s%s |\n", m->metric->title, text_of(m->a, a),
                   text_of(m->b, b), m->b != m->a ? comparison_signed(m->b - m->a, d) : "0",
                   m->leak ? "worse: leak" : verdict_name(m->verdict),
                   m->allowed[0] != '\0' ? " (allowed)"
                   : m->warning          ? " (warning)"
                                         : "");
    }
    if (timed != NULL && timed->metric_count > 0) {
        buf_puts(out,
                 "\n| timed, medians | A | B | % | 99 % interval | pairs | would see | verdict "
                 "|\n| --- | --: | --: | --: | --: | --: | --: | --- |\n");
        for (size_t i = 0; i < timed->metric_count; i++) {
            const struct compare_timed_metric *m = &timed->metrics[i];
            timed_words(m, words, sizeof words);
            buf_puts(out, "| ");
            md_text(out, m->id);
            buf_printf(out, " | %s | %s | %+.1f | %s | %zu | %s | %s |\n", text_of(m->a, a),
                       text_of(m->b, b), 100 * (m->judged.effect - 1),
                       interval_text(m->judged.low, m->judged.high, interval), m->judged.pairs,
                       seen_text(m->effect_seen, seen), words);
        }
        struct buf notes = BUF_INIT;
        put_notes(&notes, timed, "- ");
        if (notes.bytes > 0) {
            buf_printf(out, "\n%s", notes.data);
        }
        buf_fini(&notes);
        for (size_t i = 0; i < timed->tail_count; i++) {
            const struct compare_timed_tail *t = &timed->tails[i];
            buf_printf(out, "%s%s requests above %.3f ms: %.2f times as many [%.2f, %.2f]: %s\n",
                       i == 0 ? "\n" : "", t->call, (double)t->threshold_ns / 1e6,
                       t->ratio.estimate, t->ratio.low, t->ratio.high, tail_words(t));
        }
    }
    for (size_t i = 0; i < s->metric_count; i++) {
        if (s->metrics[i].parts_shown > 0) {
            md_parts(out, &s->metrics[i]);
        }
    }
}

static void md_counts(struct buf *out, const struct comparison *comparison)
{
    size_t by[5] = {0, 0, 0, 0, 0};
    size_t pairs = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        for (size_t k = 0; k < comparison->scenarios[i].metric_count; k++) {
            by[comparison->scenarios[i].metrics[k].verdict]++;
        }
        if (comparison->timed[i] != NULL) {
            pairs += comparison->timed[i]->screen_pairs + comparison->timed[i]->confirm_pairs;
        }
    }
    buf_printf(out, "Counted: %zu worse, %zu better, %zu same, %zu inconclusive in %zu %s; ",
               by[VERDICT_WORSE], by[VERDICT_BETTER], by[VERDICT_SAME], by[VERDICT_INCONCLUSIVE],
               comparison->count, comparison->count == 1 ? "scenario" : "scenarios");
    if (pairs > 0) {
        buf_printf(out, "timed: %zu pairs", pairs);
    } else {
        buf_puts(out, "not timed");
    }
    if (comparison->left_out[0] != '\0') {
        buf_puts(out, "; left out by the time budget: ");
        md_text(out, comparison->left_out);
    }
    buf_puts(out, "\n");
}

void comparison_markdown(const struct comparison *comparison, struct buf *out)
{
    struct buf text = BUF_INIT;
    comparison_headline(comparison, &text);
    buf_puts(out, "**");
    md_text(out, text.data);
    buf_puts(out, "**\\\n");
    buf_clear(&text);
    put_what(&text, comparison);
    md_text(out, text.data);
    buf_puts(out, "\\\n");
    buf_fini(&text);
    md_counts(out, comparison);
    if (comparison->count + comparison->only_a_count + comparison->only_b_count == 0) {
        return;
    }
    buf_puts(out, "\n<details><summary>details</summary>\n");
    for (size_t i = 0; i < comparison->count; i++) {
        md_scenario(out, &comparison->scenarios[i], comparison->timed[i]);
    }
    buf_puts(out, "\n");
    put_only(out, comparison, "- ");
    buf_puts(out, "\n</details>\n");
}

/* --- JSON --- */

static void json_counted(struct json *list, const struct compare_metric *m)
{
    struct json *object = json_new_object();
    json_add_string(object, "id", m->id);
    json_add_string(object, "class", "counted");
    json_add_string(object, "unit", m->metric->unit);
    json_add_string(object, "verdict", verdict_name(m->verdict));
    json_add_bool(object, "leak", m->leak);
    json_add_bool(object, "warning", m->warning);
    if (m->allowed[0] != '\0') {
        json_add_string(object, "allowed", m->allowed);
    }
    json_add_number(object, "a", m->a);
    json_add_number(object, "b", m->b);
    json_add_number(object, "difference", m->b - m->a);
    json_add_number(object, "noise", m->noise);
    if (m->part_kind != NULL) {
        json_add_string(object, "part_kind", m->part_kind);
        struct json *parts = json_add_array(object, "parts");
        for (size_t i = 0; i < m->parts_shown; i++) {
            struct json *part = json_new_object();
            json_add_string(part, "name", m->parts[i].name);
            if (m->parts[i].note != NULL) {
                json_add_string(part, "note", m->parts[i].note);
            }
            json_add_number(part, "a", m->parts[i].before);
            json_add_number(part, "b", m->parts[i].after);
            json_add_number(part, "difference", m->parts[i].delta);
            json_append(parts, part);
        }
        json_add_number(object, "remainder", m->remainder);
        json_add_int(object, "remainder_parts", (int64_t)(m->part_count - m->parts_shown));
    }
    json_append(list, object);
}

/* A bound that the data do not give is left out. */
static void add_finite(struct json *object, const char *key, double value)
{
    if (isfinite(value)) {
        json_add_number(object, key, value);
    }
}

static void json_timed(struct json *list, const struct compare_timed_metric *m)
{
    const struct metric *row = metric_find(m->id);
    struct json *object = json_new_object();
    json_add_string(object, "id", m->id);
    json_add_string(object, "class", "timed");
    json_add_string(object, "unit", row != NULL ? row->unit : "");
    json_add_string(object, "verdict", verdict_name(m->judged.verdict));
    json_add_string(object, "reason", verdict_reason_name(m->judged.reason));
    json_add_bool(object, "flagged", m->flagged);
    json_add_bool(object, "confirmed", m->confirmed);
    add_finite(object, "a", m->a);
    add_finite(object, "b", m->b);
    add_finite(object, "effect", m->judged.effect);
    add_finite(object, "low", m->judged.low);
    add_finite(object, "high", m->judged.high);
    add_finite(object, "p", m->judged.p);
    json_add_int(object, "pairs", (int64_t)m->judged.pairs);
    json_add_int(object, "pairs_more", (int64_t)m->judged.pairs_more);
    add_finite(object, "effect_min", m->effect_min);
    add_finite(object, "effect_seen", m->effect_seen);
    if (m->judged.modes) {
        struct json *modes = json_add_object(object, "modes");
        json_add_number(modes, "share_high_a", m->judged.share_high_a);
        json_add_number(modes, "share_high_b", m->judged.share_high_b);
        json_add_number(modes, "p", m->judged.share_p);
    }
    json_append(list, object);
}

static void json_tail(struct json *list, const struct compare_timed_tail *t)
{
    struct json *object = json_new_object();
    json_add_string(object, "call", t->call);
    json_add_string(object, "verdict", verdict_name(t->verdict));
    json_add_bool(object, "flagged", t->flagged);
    json_add_bool(object, "confirmed", t->confirmed);
    json_add_int(object, "threshold_ns", t->threshold_ns);
    json_add_int(object, "samples", t->samples);
    add_finite(object, "ratio", t->ratio.estimate);
    add_finite(object, "low", t->ratio.low);
    add_finite(object, "high", t->ratio.high);
    add_finite(object, "p", t->p);
    json_append(list, object);
}

static void json_side(struct json *root, const char *key, const struct comparison_side *side,
                      const char *env8)
{
    struct json *object = json_add_object(root, key);
    json_add_string(object, "name", side->name);
    json_add_string(object, "commit", side->commit);
    json_add_string(object, "env8", env8);
}

static void json_names(struct json *root, const char *key,
                       const char names[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES], size_t count)
{
    struct json *list = json_add_array(root, key);
    for (size_t i = 0; i < count; i++) {
        json_append(list, json_new_string(names[i]));
    }
}

static struct json *json_scenario(const struct compare_scenario *s,
                                  const struct compare_timed *timed)
{
    struct json *object = json_new_object();
    json_add_string(object, "scenario", s->id);
    json_add_string(object, "verdict", verdict_name(s->verdict));
    if (s->reason[0] != '\0') {
        json_add_string(object, "not_comparable", s->reason);
    }
    struct json *metrics = json_add_array(object, "metrics");
    for (size_t k = 0; k < s->metric_count; k++) {
        json_counted(metrics, &s->metrics[k]);
    }
    for (size_t k = 0; timed != NULL && k < timed->metric_count; k++) {
        json_timed(metrics, &timed->metrics[k]);
    }
    if (timed != NULL) {
        json_add_int(object, "screen_pairs", (int64_t)timed->screen_pairs);
        json_add_int(object, "confirm_pairs", (int64_t)timed->confirm_pairs);
        json_add_int(object, "unsteady_pairs", (int64_t)timed->unsteady_pairs);
        json_add_bool(object, "unsteady", timed->unsteady);
        json_add_int(object, "floor_comparisons", (int64_t)timed->floor_comparisons);
        struct json *tails = json_add_array(object, "tails");
        for (size_t k = 0; k < timed->tail_count; k++) {
            json_tail(tails, &timed->tails[k]);
        }
    }
    return object;
}

char *comparison_json(const struct comparison *comparison, int exit_code)
{
    struct buf sentence = BUF_INIT;
    comparison_headline(comparison, &sentence);
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.compare/1");
    json_add_string(root, "verdict", verdict_name(comparison_verdict(comparison)));
    json_add_string(root, "headline", sentence.data);
    json_add_int(root, "exit_code", exit_code);
    json_side(root, "a", &comparison->a, comparison->env8);
    json_side(root, "b", &comparison->b, comparison->env8);
    json_add_bool(root, "fresh", comparison->fresh);
    json_add_bool(root, "same_program", comparison->same_program);
    if (comparison->fresh) {
        json_add_number(root, "duration_sec", round(comparison->sec * 10) / 10);
    }
    if (comparison->reason[0] != '\0') {
        json_add_string(root, "not_comparable", comparison->reason);
    }
    struct json *scenarios = json_add_array(root, "scenarios");
    for (size_t i = 0; i < comparison->count; i++) {
        json_append(scenarios, json_scenario(&comparison->scenarios[i], comparison->timed[i]));
    }
    json_names(root, "only_in_a", comparison->only_a, comparison->only_a_count);
    json_names(root, "only_in_b", comparison->only_b, comparison->only_b_count);
    if (comparison->left_out[0] != '\0') {
        json_add_string(root, "left_out", comparison->left_out);
    }
    char *text = json_print_pretty(root);
    json_free(root);
    buf_fini(&sentence);
    return text;
}
