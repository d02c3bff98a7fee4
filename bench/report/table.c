#include "report/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metric.h"
#include "report/figure.h"
#include "report/html.h"
#include "stats.h"
#include "verdict.h"

#define BAR_RATIO 0.1 /* half the width of a bar */
#define INTERVAL_RUNS_MIN 4 /* fewer values on a side give no interval */
#define INTERVAL_LEVEL 0.99
#define INTERVAL_RESAMPLES 999
#define VALUES_MAX 256

static const struct json *judgement(const struct json *comparison, const char *scenario,
                                    const char *id)
{
    for (const struct json *s = json_first(json_get(comparison, "scenarios")); s != NULL;
         s = json_next(s)) {
        if (strcmp(json_string(json_get(s, "scenario"), ""), scenario) != 0) {
            continue;
        }
        for (const struct json *m = json_first(json_get(s, "metrics")); m != NULL;
             m = json_next(m)) {
            if (strcmp(json_string(json_get(m, "id"), ""), id) == 0) {
                return m;
            }
        }
    }
    return NULL;
}

struct table_row table_row_of(const char *scenario, const struct json *a,
                              const struct json *b_summary, const struct json *comparison)
{
    const char *id = json_string(json_get(a, "id"), "");
    return (struct table_row){
        .scenario = scenario,
        .a = a,
        .b = b_summary != NULL ? figure_metric(b_summary, id) : NULL,
        .judged = judgement(comparison, scenario, id),
    };
}

enum table_verdict table_row_verdict(const struct table_row *row)
{
    const char *word = json_string(json_get(row->judged, "verdict"), "");
    return strcmp(word, "same") == 0           ? TABLE_SAME
           : strcmp(word, "better") == 0       ? TABLE_BETTER
           : strcmp(word, "worse") == 0        ? TABLE_WORSE
           : strcmp(word, "inconclusive") == 0 ? TABLE_INCONCLUSIVE
                                               : TABLE_NOT_JUDGED;
}

struct interval {
    double low; /* ratios b / a, less 1 */
    double effect;
    double high;
    bool known;
    const char *from;
};

static size_t values_of(const struct json *metric, double out[VALUES_MAX])
{
    size_t count = 0;
    for (const struct json *c = json_first(json_get(metric, "values"));
         c != NULL && count < VALUES_MAX; c = json_next(c)) {
        double value = json_number(c, (double)NAN);
        if (isfinite(value)) {
            out[count++] = value;
        }
    }
    return count;
}

/* Paired where compare measured pairs; exact where it is counted; else of independent runs. */
static struct interval interval_of(const struct table_row *row)
{
    const struct json *j = row->judged;
    double a = figure_value(row->a);
    double b = figure_value(row->b);
    struct interval out = {.from = ""};
    if (j != NULL && json_get(j, "low") != NULL) {
        out.low = json_number(json_get(j, "low"), (double)NAN) - 1;
        out.high = json_number(json_get(j, "high"), (double)NAN) - 1;
        out.effect = json_number(json_get(j, "effect"), (double)NAN) - 1;
        out.from = "99 % interval of pairs";
    } else if (!isfinite(a) || !isfinite(b) || a <= 0) {
        return out;
    } else if (strcmp(json_string(json_get(row->a, "class"), ""), "counted") == 0) {
        double noise = json_number(json_get(j, "noise"), 0) / a;
        out = (struct interval){b / a - 1 - noise, b / a - 1, b / a - 1 + noise, false, "exact"};
        out.from = noise > 0 ? "range of the repeats" : "exact";
    } else {
        double of_a[VALUES_MAX];
        double of_b[VALUES_MAX];
        size_t na = values_of(row->a, of_a);
        size_t nb = values_of(row->b, of_b);
        struct rank_interval found;
        out.low = out.high = out.effect = b / a - 1;
        out.from = "medians; too few runs for an interval";
        if (na >= INTERVAL_RUNS_MIN && nb >= INTERVAL_RUNS_MIN &&
            stats_bootstrap_ratio(of_a, na, of_b, nb, INTERVAL_LEVEL, INTERVAL_RESAMPLES, 1, &found,
                                  NULL) == 0) {
            out.low = found.low - 1;
            out.high = found.high - 1;
            out.from = "99 % bootstrap of separate runs";
        }
    }
    out.known = isfinite(out.low) && isfinite(out.high) && isfinite(out.effect);
    return out;
}

static double bar_x(double ratio)
{
    return 60 + fmax(-1, fmin(1, ratio / BAR_RATIO)) * 56;
}

/* The interval as a bar about "no change", to the right is more; the grey zone is the smallest
 * timed change that counts; an arrow where it runs out of the picture. */
static void print_bar(struct buf *out, const struct interval *i, const char *style, bool timed)
{
    double low = bar_x(i->low);
    double high = fmax(bar_x(i->high), low + 1);
    html_raw(out,
             "<svg class=\"bar %s\" viewBox=\"0 0 120 14\" role=\"img\" aria-label=\"%+.2f %%, "
             "from %+.2f to %+.2f\"><title>%+.2f %% [%+.2f, %+.2f], %s</title>",
             style, i->effect * 100, i->low * 100, i->high * 100, i->effect * 100, i->low * 100,
             i->high * 100, i->from);
    if (timed) {
        html_raw(out, "<rect class=\"zone\" x=\"%.1f\" y=\"0\" width=\"%.1f\" height=\"14\"/>",
                 bar_x(-VERDICT_EFFECT_MIN),
                 bar_x(VERDICT_EFFECT_MIN) - bar_x(-VERDICT_EFFECT_MIN));
    }
    html_raw(out,
             "<line class=\"zero\" x1=\"60\" x2=\"60\" y1=\"0\" y2=\"14\"/>"
             "<rect class=\"span\" x=\"%.1f\" y=\"5.5\" width=\"%.1f\" height=\"3\"/>",
             low, high - low);
    if (fabs(i->effect) > BAR_RATIO) {
        double tip = i->effect > 0 ? 119 : 1;
        double base = i->effect > 0 ? 110 : 10;
        html_raw(out, "<path class=\"dot\" d=\"M%.1f 7L%.1f 2V12Z\"/>", tip, base);
    } else {
        html_raw(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"7\" r=\"3.5\"/>", bar_x(i->effect));
    }
    html_raw(out, "</svg>");
}

static void print_rests_on(struct buf *out, const struct table_row *row)
{
    const struct json *metric = row->b != NULL ? row->b : row->a;
    size_t runs = json_count(json_get(metric, "values"));
    int64_t pairs = json_int(json_get(row->judged, "pairs"), 0);
    if (pairs > 0) {
        html_raw(out, "%lld pairs", (long long)pairs);
    } else if (strcmp(json_string(json_get(metric, "class"), ""), "counted") == 0) {
        html_raw(out, "%zu repeats, ", runs);
        html_text(out, json_string(json_get(metric, "status"), "exact"));
    } else {
        char text[FIGURE_BYTES];
        double samples = figure_samples(metric);
        html_raw(out, "%zu run%s", runs, runs == 1 ? "" : "s");
        if (samples > 0) {
            html_raw(out, ", %s samples", figure_text(samples, text));
        }
    }
}

static void print_name(struct buf *out, const char *id)
{
    const struct metric *metric = metric_find(id);
    html_raw(out, "<th scope=\"row\" title=\"");
    html_text(out, id);
    html_raw(out, "\">");
    if (metric == NULL) {
        html_text(out, id);
    } else {
        size_t scope = strcspn(id, ".");
        if (!metric->run_scope && (scope != 5 || memcmp(id, "cycle", 5) != 0)) {
            html_raw(out, "%.*s ", (int)scope, id); /* one of the table's own words */
        }
        /* Values bring their units. */
        html_text(out, strcmp(metric->name, "time_ns_per_op") == 0         ? "time/op"
                       : strcmp(metric->name, "client_cpu_us_per_op") == 0 ? "client CPU/op"
                       : strcmp(metric->name, "redis_cpu_us_per_op") == 0  ? "Redis CPU/op"
                                                                           : metric->title);
    }
    html_raw(out, "</th>");
}

/* Median distance of the runs, or the range of the repeats: how far one may trust the digit. */
static void print_spread(struct buf *out, const struct json *metric, const char *unit)
{
    char text[FIGURE_BYTES];
    const struct json *mad = json_get(metric, "mad");
    double range = json_number(json_get(metric, "range"), 0);
    html_raw(out, "<td class=\"dim\">");
    if (mad != NULL) {
        html_raw(out, "&plusmn; %s", figure_with_unit(json_number(mad, (double)NAN), unit, text));
    } else if (range > 0) {
        html_raw(out, "range %s", figure_with_unit(range, unit, text));
    } else {
        html_raw(out, "exact");
    }
    html_raw(out, "</td>");
}

void table_begin(struct buf *out, const char *label, const char *caption, bool two,
                 bool with_scenario)
{
    /* Above and not in the table: it stays in sight where the table is scrolled. */
    html_raw(out, "<p class=\"dim caption\">");
    html_text(out, caption);
    html_raw(out, "</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
    html_text(out, label);
    html_raw(
        out,
        "\"><table class=\"metrics\"><thead><tr>%s<th scope=\"col\" class=\"text\">metric</th>",
        with_scenario ? "<th scope=\"col\" class=\"text\">scenario</th>" : "");
    buf_puts(out, two ? "<th scope=\"col\" class=\"text\">verdict</th><th scope=\"col\">effect</th>"
                        "<th scope=\"col\" class=\"text\">&plusmn;10 %</th>"
                        "<th scope=\"col\">A</th><th scope=\"col\">B</th>"
                      : "<th scope=\"col\">value</th><th scope=\"col\">spread</th>");
    html_raw(out, "<th scope=\"col\" class=\"text\">rests on</th></tr></thead><tbody>\n");
}

/* Verdict, effect and bar first: on a narrow screen the values may be scrolled to. */
static void print_effect(struct buf *out, const struct table_row *row)
{
    static const char *const words[] = {"not judged", "same", "better", "worse", "inconclusive"};
    static const char *const styles[] = {"unsure", "same", "better", "worse", "unsure"};
    enum table_verdict verdict = table_row_verdict(row);
    const struct interval interval = interval_of(row);
    bool timed = strcmp(json_string(json_get(row->a, "class"), ""), "timed") == 0;
    char text[FIGURE_BYTES];
    html_raw(out, "<td class=\"text %s\">%s%s</td>", styles[verdict], words[verdict],
             json_bool(json_get(row->judged, "leak"), false) ? ", leak" : "");
    if (interval.known && json_get(row->judged, "low") != NULL) {
        html_raw(out, "<td>%+.2f %%</td>", interval.effect * 100);
    } else {
        html_raw(out, "<td>%s</td>",
                 figure_change(figure_value(row->a), figure_value(row->b), text));
    }
    html_raw(out, "<td class=\"text\">");
    if (interval.known) {
        print_bar(out, &interval, styles[verdict], timed);
    }
    html_raw(out, "</td>");
}

void table_print_row(struct buf *out, const struct table_row *row, bool two, bool with_scenario)
{
    const char *unit = json_string(json_get(row->a, "unit"), "");
    char text[FIGURE_BYTES];
    html_raw(out, "<tr>");
    if (with_scenario) {
        html_raw(out, "<td class=\"text\">");
        html_text(out, row->scenario);
        html_raw(out, "</td>");
    }
    print_name(out, json_string(json_get(row->a, "id"), "?"));
    if (two) {
        print_effect(out, row);
    }
    html_raw(out, "<td>%s</td>", figure_with_unit(figure_value(row->a), unit, text));
    if (two) {
        html_raw(out, "<td>%s</td>", figure_with_unit(figure_value(row->b), unit, text));
    } else {
        print_spread(out, row->a, unit);
    }
    html_raw(out, "<td class=\"text dim\">");
    print_rests_on(out, row);
    html_raw(out, "</td></tr>\n");
}

void table_end(struct buf *out)
{
    html_raw(out, "</tbody></table></div>\n");
}
