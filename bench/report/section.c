#include "report/section.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/flame.h"
#include "base/hist.h"
#include "base/stacks.h"
#include "metric.h"
#include "profile_table.h"
#include "report/html.h"
#include "result.h"

#define TOP_ROWS 20
#define SAMPLES_BEYOND_MIN 20
#define FILE_BYTES_MAX (8 * 1024 * 1024)

/* ---- figures ---- */

static const struct json *find_metric(const struct json *summary, const char *id)
{
    for (const struct json *m = json_first(json_get(summary, "metrics")); m != NULL;
         m = json_next(m)) {
        if (strcmp(json_string(json_get(m, "id"), ""), id) == 0) {
            return m;
        }
    }
    return NULL;
}

static const char *format_value(double value, char *text, size_t bytes)
{
    double size = fabs(value);
    if (isnan(value)) {
        return "-";
    }
    if (size >= 100000 || (size >= 100 && value == floor(value))) {
        snprintf(text, bytes, "%.0f", value);
    } else {
        snprintf(text, bytes, "%.*f", size >= 1000 ? 1 : size >= 10 ? 2 : 3, value);
    }
    /* Thousands apart by a thin space, so that digits can be counted. */
    char *dot = strchr(text, '.');
    size_t whole = dot != NULL ? (size_t)(dot - text) : strlen(text);
    char spaced[64] = "";
    size_t at = 0;
    for (size_t i = 0; text[i] != '\0' && at + 4 < sizeof spaced; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && text[i - 1] != '-') {
            memcpy(spaced + at, "\xe2\x80\xaf", 3);
            at += 3;
        }
        spaced[at++] = text[i];
    }
    spaced[at] = '\0';
    snprintf(text, bytes, "%s", spaced);
    return text;
}

static double value_of(const struct json *metric)
{
    return metric != NULL ? json_number(json_get(metric, "value"), (double)NAN) : (double)NAN;
}

static void print_cards(struct buf *out, const struct section_side *a, const struct section_side *b)
{
    static const struct {
        const char *suffix;
        const char *label;
    } cards[] = {
        {"throughput_per_sec", "operations a second"},
        {"latency_ns_p50", "ns, median"},
        {"instructions_per_op", "instructions an op"},
        {"allocs_per_op", "allocations an op"},
        {"alloc_bytes_per_op", "bytes allocated an op"},
        {"round_trips_per_op", "round trips an op"},
        {"redis_calls_per_op", "Redis calls an op"},
        {"syscalls_per_op", "system calls an op"},
    };
    const char *operation = json_string(json_get(a->summary, "operation"), "cycle");
    html_raw(out, "<ul class=\"cards\">\n");
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        char id[128];
        snprintf(id, sizeof id, "%s.%s", i == 0 ? "run" : operation, cards[i].suffix);
        double now = value_of(find_metric((b != NULL ? b : a)->summary, id));
        double before = b != NULL ? value_of(find_metric(a->summary, id)) : (double)NAN;
        if (isnan(now)) {
            continue;
        }
        char text[64];
        html_raw(out, "<li><b>%s</b>", format_value(now, text, sizeof text));
        html_text(out, cards[i].label);
        if (!isnan(before) && before > 0) {
            html_raw(out, "<br><span class=\"dim\">%+.2f %%</span>", (now / before - 1) * 100);
        }
        html_raw(out, "</li>\n");
    }
    html_raw(out, "</ul>\n");
}

/* ---- the metric tables ---- */

static const struct json *verdict_of(const struct json *comparison, const char *scenario,
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

/* The change as a bar around its zero line: to the right is more. Full width is 10 %. */
static void print_bar(struct buf *out, double ratio, bool good)
{
    double clipped = fmax(-0.1, fmin(0.1, ratio));
    double width = fabs(clipped) / 0.1 * 50;
    double x = clipped < 0 ? 50 - width : 50;
    html_raw(out,
             "<svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\" "
             "aria-label=\"%+.2f %%\"><rect x=\"%.2f\" y=\"1\" width=\"%.2f\" height=\"8\" "
             "fill=\"var(--%s)\"/><line x1=\"50\" x2=\"50\" y1=\"0\" y2=\"10\" "
             "stroke=\"var(--dim)\"/></svg>",
             ratio * 100, x, fmax(width, 0.5), good ? "better" : "worse");
}

static void print_samples(struct buf *out, const struct json *metric, bool counted)
{
    size_t runs = json_count(json_get(metric, "values"));
    const struct json *samples = json_get(metric, "samples");
    if (counted) {
        const char *status = json_string(json_get(metric, "status"), "exact");
        html_raw(out, "%zu repeats, ", runs);
        html_text(out, status);
    } else {
        html_raw(out, "%zu runs", runs);
        if (samples != NULL) {
            double total = 0;
            for (const struct json *c = json_first(samples); c != NULL; c = json_next(c)) {
                total += json_number(c, 0);
            }
            char text[64];
            html_raw(out, ", %s samples", format_value(total, text, sizeof text));
        }
    }
}

static void print_metric_row(struct buf *out, const char *scenario, const struct json *a,
                             const struct json *b, bool two, const struct json *comparison)
{
    const char *id = json_string(json_get(a, "id"), "?");
    bool counted = strcmp(json_string(json_get(a, "class"), ""), "counted") == 0;
    bool lower = strcmp(json_string(json_get(a, "better"), "lower"), "lower") == 0;
    char text[64];
    html_raw(out, "<tr><td class=\"code\">");
    html_text(out, id);
    html_raw(out, "</td><td>%s</td>", format_value(value_of(a), text, sizeof text));
    if (two) {
        double before = value_of(a);
        double after = value_of(b);
        html_raw(out, "<td>%s</td>", format_value(after, text, sizeof text));
        if (isnan(before) || isnan(after)) {
            html_raw(out, "<td></td><td></td>");
        } else if (before > 0) {
            double ratio = after / before - 1;
            html_raw(out, "<td>%+.3f %%</td><td>", ratio * 100);
            print_bar(out, ratio, (ratio < 0) == lower);
            html_raw(out, "</td>");
        } else {
            html_raw(out, "<td>%+.3f</td><td></td>", after - before);
        }
        const struct json *v = verdict_of(comparison, scenario, id);
        const char *verdict = json_string(json_get(v, "verdict"), "");
        html_raw(out, "<td class=\"text %s\">",
                 strcmp(verdict, "worse") == 0    ? "worse"
                 : strcmp(verdict, "better") == 0 ? "better"
                                                  : "");
        html_text(out, verdict);
        html_raw(out, "</td>");
    }
    html_raw(out, "<td class=\"text\">");
    html_text(out, json_string(json_get(a, "unit"), ""));
    html_raw(out, "</td><td class=\"text dim\">");
    print_samples(out, two && b != NULL ? b : a, counted);
    html_raw(out, "</td></tr>\n");
}

static void print_metrics(struct buf *out, const char *scenario, const struct section_side *a,
                          const struct section_side *b, const struct json *comparison)
{
    static const char *const classes[] = {"counted", "timed"};
    static const char *const captions[] = {
        "Counted: exact, and what a gate reads",
        "Timed: medians over runs, to explain; closed loop where the run says so"};
    for (int c = 0; c < 2; c++) {
        html_raw(out,
                 "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s "
                 "metrics\"><table><caption>%s</caption><thead><tr><th class=\"text\">metric</th>",
                 classes[c], captions[c]);
        buf_puts(out, b != NULL ? "<th>A</th><th>B</th><th>change</th><th>&minus;10 % &hellip; "
                                  "+10 %</th><th class=\"text\">verdict</th>"
                                : "<th>value</th>");
        html_raw(out, "<th class=\"text\">unit</th><th class=\"text\">rests on</th></tr></thead>"
                      "<tbody>\n");
        for (const struct json *m = json_first(json_get(a->summary, "metrics")); m != NULL;
             m = json_next(m)) {
            if (strcmp(json_string(json_get(m, "class"), ""), classes[c]) == 0) {
                const char *id = json_string(json_get(m, "id"), "");
                print_metric_row(out, scenario, m, b != NULL ? find_metric(b->summary, id) : NULL,
                                 b != NULL, comparison);
            }
        }
        html_raw(out, "</tbody></table></div>\n");
    }
}

/* ---- latency ---- */

/* All timed runs' histograms of one operation, merged. */
static bool merge_hists(const struct result_runs *runs, const char *operation, struct hist *out)
{
    bool has = false;
    for (size_t i = 0; i < runs->count; i++) {
        const struct json *h = json_get(json_get(runs->lines[i], "hdr"), operation);
        const char *text = json_string(json_get(h, "b64"), NULL);
        struct hist one;
        if (text == NULL || hist_decode(&one, text, strlen(text), NULL) != 0) {
            continue;
        }
        if (!has) {
            *out = one;
            has = true;
        } else {
            hist_merge(out, &one, NULL);
            hist_fini(&one);
        }
    }
    return has;
}

static void read_runs(const struct section_side *side, struct result_runs *out)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/runs.ndjson", side->dir);
    if (result_runs_read(path, true, out, NULL) != 0) {
        *out = (struct result_runs){0};
    }
}

static void add_number_or_null(struct json *array, double value)
{
    if (isnan(value)) {
        struct json *holder = json_parse("null", 4, NULL);
        json_append(array, holder);
    } else {
        json_append(array, json_new_number(value));
    }
}

static struct json *new_chart(struct json *charts, const char *x, const char *x_label,
                              const char *y, const char *y_label, bool log)
{
    struct json *chart = json_new_object();
    json_add_string(chart, "x", x);
    json_add_string(chart, "xLabel", x_label);
    json_add_string(chart, "y", y);
    json_add_string(chart, "yLabel", y_label);
    json_add_bool(chart, "log", log);
    json_append(charts, chart);
    return chart;
}

static void print_chart_box(struct buf *out, const struct json *charts, const char *what)
{
    html_raw(out, "<h3>");
    html_text(out, what);
    html_raw(out, "</h3>\n<div class=\"chart\" data-chart=\"%zu\" role=\"img\" aria-label=\"",
             json_count(charts) - 1);
    html_text(out, what);
    html_raw(out, "\"></div>\n");
}

struct latency {
    const char *operation;
    struct hist hist[2];
    bool has[2];
};

static void print_quantiles(struct buf *out, struct latency *ops, size_t count, bool two)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    html_raw(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"quantiles\">"
                  "<table><caption>Quantiles in microseconds; \"-\": fewer than 20 samples lie "
                  "beyond</caption><thead><tr><th class=\"text\">operation</th><th>samples</th>"
                  "<th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead>"
                  "<tbody>\n");
    for (size_t i = 0; i < count; i++) {
        for (int s = 0; s < 2; s++) {
            const struct hist *hist = &ops[i].hist[s];
            if (!ops[i].has[s]) {
                continue;
            }
            html_raw(out, "<tr><td>");
            html_text(out, ops[i].operation);
            html_raw(out, "%s</td><td>%" PRId64 "</td>",
                     !two     ? ""
                     : s == 0 ? " A"
                              : " B",
                     hist_count(hist));
            for (int q = 0; q < 4; q++) {
                if (hist_beyond_quantile(hist, quantiles[q]) < SAMPLES_BEYOND_MIN) {
                    html_raw(out, "<td>-</td>");
                } else {
                    html_raw(out, "<td>%.2f</td>",
                             (double)hist_quantile_ns(hist, quantiles[q]) / 1e3);
                }
            }
            html_raw(out, "<td>%.2f</td></tr>\n", (double)hist_max_ns(hist) / 1e3);
        }
    }
    html_raw(out, "</tbody></table></div>\n");
}

static void add_spectrum(struct json *charts, struct latency *ops, size_t count, bool two)
{
    struct json *chart =
        new_chart(charts, "nines", "percentile (log of 1 - q)", "ns", "latency", true);
    struct json *xs = json_add_array(chart, "xs");
    struct json *series = json_add_array(chart, "series");
    const double step = 0.05;
    const int steps = (int)(5 / step);
    for (int i = 0; i <= steps; i++) {
        json_append(xs, json_new_number(i * step));
    }
    for (size_t o = 0; o < count; o++) {
        for (int s = 0; s < 2; s++) {
            if (!ops[o].has[s]) {
                continue;
            }
            struct json *line = json_new_object();
            char label[96];
            snprintf(label, sizeof label, "%.64s%s", ops[o].operation,
                     !two     ? ""
                     : s == 0 ? " A"
                              : " B");
            json_add_string(line, "label", label);
            struct json *ys = json_add_array(line, "ys");
            for (int i = 0; i <= steps; i++) {
                double q = 1 - pow(10, -i * step);
                bool known = hist_beyond_quantile(&ops[o].hist[s], q) >= SAMPLES_BEYOND_MIN;
                add_number_or_null(ys, known ? (double)hist_quantile_ns(&ops[o].hist[s], q)
                                             : (double)NAN);
            }
            json_append(series, line);
        }
    }
}

/* Twelve bins an octave would be lost in the width of a screen: six are seen. */
static void add_histogram(struct json *charts, struct latency *ops, size_t count, bool two)
{
    struct json *chart = new_chart(charts, "ns", "latency", "count", "operations", false);
    json_add_bool(chart, "separate", true);
    json_add_bool(chart, "xLog", true);
    struct json *series = json_add_array(chart, "series");
    const double bins_per_octave = 6;
    for (size_t o = 0; o < count; o++) {
        for (int s = 0; s < 2; s++) {
            if (!ops[o].has[s]) {
                continue;
            }
            struct json *line = json_new_object();
            char label[96];
            snprintf(label, sizeof label, "%.64s%s", ops[o].operation,
                     !two     ? ""
                     : s == 0 ? " A"
                              : " B");
            json_add_string(line, "label", label);
            struct json *xs = json_add_array(line, "xs");
            struct json *ys = json_add_array(line, "ys");
            double bin = -1;
            double in_bin = 0;
            for (struct hist_bucket b = HIST_BEGIN; hist_next(&ops[o].hist[s], &b);) {
                double middle = ((double)b.low_ns + (double)b.high_ns) / 2;
                double at = floor(log2(fmax(1, middle)) * bins_per_octave);
                if (at > bin && in_bin > 0) {
                    json_append(xs, json_new_number(pow(2, (bin + 0.5) / bins_per_octave)));
                    json_append(ys, json_new_number(in_bin));
                    in_bin = 0;
                }
                bin = at;
                in_bin += (double)b.count;
            }
            if (in_bin > 0) {
                json_append(xs, json_new_number(pow(2, (bin + 0.5) / bins_per_octave)));
                json_append(ys, json_new_number(in_bin));
            }
            json_append(series, line);
        }
    }
}

/* p50 and p99 of each second of the first run that has them; the objective as a line. */
static void print_windows(struct buf *out, struct json *charts, const struct result_runs *runs,
                          const char *operation, const struct section_side *side)
{
    const struct json *windows = NULL;
    for (size_t i = 0; i < runs->count && windows == NULL; i++) {
        windows = json_get(json_get(runs->lines[i], "win"), operation);
    }
    if (json_count(windows) < 2) {
        return;
    }
    char path[1100];
    snprintf(path, sizeof path, "%s/scenario.json", side->dir);
    struct json *scenario = json_parse_file(path, FILE_BYTES_MAX, NULL);
    double limit_ns = (double)NAN;
    for (const struct json *c = json_first(json_get(scenario, "slo")); c != NULL;
         c = json_next(c)) {
        double limit_ms;
        if (sscanf(json_string(c, ""), "claim.p99_ms <= %lf", &limit_ms) == 1 &&
            strcmp(operation, "claim") == 0) {
            limit_ns = limit_ms * 1e6;
        }
    }
    json_free(scenario);
    struct json *chart = new_chart(charts, "count", "second of the run", "ns", "latency", true);
    struct json *xs = json_add_array(chart, "xs");
    struct json *series = json_add_array(chart, "series");
    static const char *const names[] = {"p50", "p99", "objective"};
    for (int s = 0; s < 3; s++) {
        if (s == 2 && isnan(limit_ns)) {
            break;
        }
        struct json *line = json_new_object();
        char label[96];
        snprintf(label, sizeof label, "%.40s %s", operation, names[s]);
        json_add_string(line, "label", label);
        struct json *ys = json_add_array(line, "ys");
        double second = 0;
        for (const struct json *w = json_first(windows); w != NULL; w = json_next(w)) {
            const struct json *p50 = json_first(w);
            const struct json *p99 = p50 != NULL ? json_next(p50) : NULL;
            double value = s == 2 ? limit_ns : json_number(s == 0 ? p50 : p99, (double)NAN);
            add_number_or_null(ys, value > 0 ? value : (double)NAN);
            if (s == 0) {
                json_append(xs, json_new_number(++second));
            }
        }
        json_append(series, line);
    }
    print_chart_box(out, charts, "Latency by second, from the intended start");
}

#define OPERATIONS_MAX 8

static void print_latency(struct buf *out, struct json *charts, const struct section_side *a,
                          const struct section_side *b, bool open)
{
    struct latency ops[OPERATIONS_MAX] = {0};
    size_t count = 0;
    struct result_runs runs[2] = {{0}, {0}};
    read_runs(a, &runs[0]);
    if (b != NULL) {
        read_runs(b, &runs[1]);
    }
    const struct json *first = NULL;
    for (size_t i = 0; i < runs[0].count && first == NULL; i++) {
        first = json_first(json_get(runs[0].lines[i], "hdr"));
    }
    for (const struct json *c = first; c != NULL && count < OPERATIONS_MAX; c = json_next(c)) {
        struct latency *op = &ops[count];
        op->operation = json_key(c);
        op->has[0] = merge_hists(&runs[0], op->operation, &op->hist[0]);
        op->has[1] = merge_hists(&runs[1], op->operation, &op->hist[1]);
        count += op->has[0] || op->has[1];
    }
    if (count > 0) {
        html_raw(out, "<details%s><summary>Latency</summary>\n", open ? " open" : "");
        add_spectrum(charts, ops, count, b != NULL);
        print_chart_box(out, charts, "Percentile spectrum");
        print_quantiles(out, ops, count, b != NULL);
        add_histogram(charts, ops, count, b != NULL);
        print_chart_box(out, charts, "Histogram");
        print_windows(out, charts, &runs[b != NULL], "claim", b != NULL ? b : a);
        html_raw(out, "</details>\n");
    }
    for (size_t i = 0; i < count; i++) {
        for (int s = 0; s < 2; s++) {
            if (ops[i].has[s]) {
                hist_fini(&ops[i].hist[s]);
            }
        }
    }
    result_runs_free(&runs[0]);
    result_runs_free(&runs[1]);
}

/* ---- where it goes ---- */

static struct stacks *read_stacks(const char *dir)
{
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_FOLDED, dir, NULL) != 0) {
        return NULL;
    }
    struct stacks *stacks = stacks_new();
    struct buf folded = BUF_INIT;
    for (size_t i = 0; i < table.count; i++) {
        if (table.rows[i].value[0] > 0) {
            buf_printf(&folded, "%s %" PRId64 "\n", table.rows[i].text[0], table.rows[i].value[0]);
        }
    }
    if (folded.bytes > 0) {
        stacks_parse_folded(stacks, folded.data, folded.bytes, NULL);
    }
    buf_fini(&folded);
    profile_table_fini(&table);
    return stacks;
}

struct module {
    const char *name;
    const char *colour;
    double per_op;
};

/* Which part of the program a function belongs to, from its file or object. */
static size_t module_of(const struct profile_row *row)
{
    static const struct {
        const char *part;
        size_t module;
    } rules[] = {{"service/", 0}, {"store/", 1},  {"sched/", 2},     {"base/", 3},
                 {"drive", 4},    {"hiredis", 5}, {"cjson", 6},      {"libc", 7},
                 {"ld-linux", 7}, {"libev", 8},   {"http_parser", 8}};
    for (int t = FUNCTION_FILE; t >= FUNCTION_OBJECT; t--) {
        for (size_t i = 0; row->text[t] != NULL && i < sizeof rules / sizeof *rules; i++) {
            if (strstr(row->text[t], rules[i].part) != NULL) {
                return rules[i].module;
            }
        }
    }
    return 9;
}

static void print_breakdown(struct buf *out, const struct profile_table *table)
{
    struct module modules[] = {
        {"HTTP and routes", "#4477aa", 0}, {"store", "#228833", 0},
        {"sched", "#66ccee", 0},           {"base", "#ccbb44", 0},
        {"driver", "#bbbbbb", 0},          {"hiredis", "#ee6677", 0},
        {"cJSON", "#aa3377", 0},           {"libc", "#888888", 0},
        {"event loop", "#882255", 0},      {"other", "#dddddd", 0},
    };
    size_t count = sizeof modules / sizeof *modules;
    double ops = table->ops > 0 ? (double)table->ops : 1;
    double total = 0;
    for (size_t i = 0; i < table->count; i++) {
        double self = (double)table->rows[i].value[FUNCTION_SELF] / ops;
        modules[module_of(&table->rows[i])].per_op += self;
        total += self;
    }
    if (total <= 0) {
        return;
    }
    html_raw(out, "<h3>What one operation costs: instructions by module</h3>\n"
                  "<div class=\"stack\" role=\"img\" aria-label=\"instructions by module, as "
                  "listed below\">");
    for (size_t i = 0; i < count; i++) {
        if (modules[i].per_op > 0) {
            html_raw(out, "<span style=\"width:%.3f%%;background:%s\"></span>",
                     modules[i].per_op / total * 100, modules[i].colour);
        }
    }
    html_raw(out, "</div>\n<ul class=\"legend\">\n");
    char text[64];
    for (size_t i = 0; i < count; i++) {
        if (modules[i].per_op > 0) {
            html_raw(out, "<li><i style=\"background:%s\"></i>%s %s (%.1f %%)</li>\n",
                     modules[i].colour, modules[i].name,
                     format_value(modules[i].per_op, text, sizeof text),
                     modules[i].per_op / total * 100);
        }
    }
    html_raw(out, "</ul>\n");
}

static int by_value(const void *a, const void *b, void *value)
{
    int64_t x = (*(const struct profile_row *const *)a)->value[*(int *)value];
    int64_t y = (*(const struct profile_row *const *)b)->value[*(int *)value];
    return (x < y) - (x > y);
}

static const struct profile_row **sorted_rows(const struct profile_table *table, int value)
{
    const struct profile_row **rows = malloc((table->count + 1) * sizeof *rows);
    if (rows == NULL) {
        abort();
    }
    for (size_t i = 0; i < table->count; i++) {
        rows[i] = &table->rows[i];
    }
    qsort_r(rows, table->count, sizeof *rows, by_value, &value);
    return rows;
}

static void print_functions(struct buf *out, const struct profile_table *table,
                            const struct profile_table *before)
{
    double ops = table->ops > 0 ? (double)table->ops : 1;
    double total = (double)profile_table_sum(table, FUNCTION_SELF) / ops;
    const struct profile_row **rows = sorted_rows(table, FUNCTION_SELF);
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"functions\"><table>"
             "<caption>Functions by their own instructions per operation%s</caption><thead><tr>"
             "<th class=\"text\">function</th><th>self</th><th>share</th><th>inclusive</th>"
             "<th>calls</th>%s<th class=\"text\">file</th></tr></thead><tbody>\n",
             before != NULL ? ", B, with the change from A" : "",
             before != NULL ? "<th>change</th>" : "");
    for (size_t i = 0; i < table->count && i < TOP_ROWS; i++) {
        const struct profile_row *row = rows[i];
        double self = (double)row->value[FUNCTION_SELF] / ops;
        char text[3][64];
        html_raw(out, "<tr><td class=\"code\">");
        html_text(out, row->text[FUNCTION_NAME]);
        html_raw(
            out, "</td><td>%s</td><td>%.1f %%</td><td>%s</td><td>%s</td>",
            format_value(self, text[0], sizeof text[0]), total > 0 ? self / total * 100 : 0,
            format_value((double)row->value[FUNCTION_INCLUSIVE] / ops, text[1], sizeof text[1]),
            format_value((double)row->value[FUNCTION_CALLS] / ops, text[2], sizeof text[2]));
        if (before != NULL) {
            const char *const key[] = {row->text[0], row->text[1], row->text[2]};
            const struct profile_row *old = profile_table_find(before, key);
            double was = old != NULL && before->ops > 0
                             ? (double)old->value[FUNCTION_SELF] / (double)before->ops
                             : 0;
            double change = self - was;
            html_raw(out, "<td class=\"%s\">%+.2f</td>",
                     change > 0.005    ? "worse"
                     : change < -0.005 ? "better"
                                       : "",
                     change);
        }
        html_raw(out, "<td class=\"text code\">");
        const char *file = row->text[FUNCTION_FILE];
        bool known = file != NULL && file[0] != '\0' && strcmp(file, "???") != 0;
        html_text(out, known ? file : row->text[FUNCTION_OBJECT]);
        html_raw(out, "</td></tr>\n");
    }
    html_raw(out, "</tbody></table></div>\n");
    free(rows);
}

static void print_flame(struct buf *out, const struct section_side *a, const struct section_side *b,
                        double ops_a, double ops_b)
{
    struct stacks *before = read_stacks(a->dir);
    struct stacks *after = b != NULL ? read_stacks(b->dir) : NULL;
    if (before != NULL && (b == NULL || after != NULL)) {
        struct flame_options options = {"Flame graph of callgrind: exact stacks, instructions per "
                                        "operation",
                                        "instructions", ops_a};
        html_raw(out, "<div class=\"flame\" tabindex=\"0\" role=\"region\" "
                      "aria-label=\"flame graph\">\n");
        if (after != NULL) {
            options.title = "From A to B: red has grown, blue has shrunk";
            flame_print_diff(before, after, &options, ops_b, out);
        } else {
            flame_print(before, &options, out);
        }
        html_raw(out, "</div>\n");
    }
    stacks_free(before);
    stacks_free(after);
}

static void print_instructions(struct buf *out, const struct section_side *a,
                               const struct section_side *b)
{
    struct profile_table table[2];
    bool has[2] = {profile_table_read(&table[0], PROFILE_TABLE_FUNCTIONS, a->dir, NULL) == 0,
                   b != NULL &&
                       profile_table_read(&table[1], PROFILE_TABLE_FUNCTIONS, b->dir, NULL) == 0};
    int shown = has[1] ? 1 : 0;
    if (has[shown]) {
        html_raw(out, "<details><summary>Where the instructions go</summary>\n");
        print_breakdown(out, &table[shown]);
        if (has[0] && (b == NULL || has[1])) {
            print_flame(out, a, b, (double)table[0].ops, has[1] ? (double)table[1].ops : 0);
        }
        print_functions(out, &table[shown], has[0] && has[1] ? &table[0] : NULL);
        html_raw(out, "<p class=\"dim\">User-space instructions of the client process; the "
                      "kernel, Redis and waiting are not in them.</p></details>\n");
    }
    for (int s = 0; s < 2; s++) {
        if (has[s]) {
            profile_table_fini(&table[s]);
        }
    }
}

/* ---- heap ---- */

static void print_heap(struct buf *out, const struct section_side *side)
{
    struct profile_table table;
    if (profile_table_read(&table, PROFILE_TABLE_HEAP, side->dir, NULL) != 0) {
        return;
    }
    double ops = table.ops > 0 ? (double)table.ops : 1;
    const struct profile_row **rows = sorted_rows(&table, HEAP_BYTES);
    html_raw(out, "<details><summary>Where the allocations are made</summary>\n"
                  "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"allocation "
                  "sites\"><table><caption>Allocation sites by bytes per operation</caption><thead>"
                  "<tr><th class=\"text\">site, innermost first</th><th>bytes an op</th><th>blocks "
                  "an op</th><th>live bytes an op</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < table.count && i < TOP_ROWS; i++) {
        const struct profile_row *row = rows[i];
        char text[3][64];
        html_raw(out, "<tr><td class=\"code site\">");
        /* The stack is stored root first; people look for the allocating call. */
        char *frames = strdup(row->text[0]);
        for (int depth = 0; frames != NULL && depth < 6; depth++) {
            char *semicolon = strrchr(frames, ';');
            html_raw(out, depth > 0 ? " &larr; " : "");
            html_text(out, semicolon != NULL ? semicolon + 1 : frames);
            if (semicolon == NULL) {
                break;
            }
            *semicolon = '\0';
        }
        free(frames);
        html_raw(out, "</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
                 format_value((double)row->value[HEAP_BYTES] / ops, text[0], sizeof text[0]),
                 format_value((double)row->value[HEAP_BLOCKS] / ops, text[1], sizeof text[1]),
                 format_value((double)row->value[HEAP_LIVE_BYTES] / ops, text[2], sizeof text[2]));
    }
    html_raw(out, "</tbody></table></div></details>\n");
    free(rows);
    profile_table_fini(&table);
}

/* The heap over the run: massif.out's snapshots. */
static void print_massif(struct buf *out, struct json *charts, const struct section_side *side)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/massif.out", side->dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    struct json *chart =
        new_chart(charts, "count", "bytes allocated so far", "count", "heap in bytes", false);
    struct json *xs = json_add_array(chart, "xs");
    struct json *series = json_add_array(chart, "series");
    struct json *line_json = json_new_object();
    json_add_string(line_json, "label", "heap");
    struct json *ys = json_add_array(line_json, "ys");
    json_append(series, line_json);
    char line[4096];
    double time = -1;
    double last = -1;
    while (fgets(line, sizeof line, file) != NULL) {
        double value;
        if (sscanf(line, "time=%lf", &value) == 1) {
            time = value;
        } else if (sscanf(line, "mem_heap_B=%lf", &value) == 1 && time > last) {
            json_append(xs, json_new_number(time));
            json_append(ys, json_new_number(value));
            last = time;
        }
    }
    fclose(file);
    html_raw(out, "<details><summary>Heap over the run</summary>\n");
    print_chart_box(out, charts, "Heap over the run (massif)");
    html_raw(out, "</details>\n");
}

void section_print(const char *id, const struct section_side *a, const struct section_side *b,
                   const struct json *comparison, bool open, struct buf *out, struct json *charts)
{
    html_raw(out, "<section>\n<h2>");
    html_text(out, id);
    html_raw(out, "</h2>\n");
    print_cards(out, a, b);
    print_metrics(out, id, a, b, comparison);
    print_latency(out, charts, a, b, open);
    print_instructions(out, a, b);
    print_heap(out, b != NULL ? b : a);
    print_massif(out, charts, b != NULL ? b : a);
    html_raw(out, "</section>\n");
}
