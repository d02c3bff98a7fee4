#include "report/latency.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hist.h"
#include "report/figure.h"
#include "report/html.h"
#include "runs_hist.h"

#define OPERATIONS_MAX 12
#define SAMPLES_BEYOND_MIN 20
#define SPECTRUM_STEP 0.05 /* of log10(1 / (1 - q)) */
#define SPECTRUM_END 6
#define BINS_PER_OCTAVE 20
#define FILE_BYTES_MAX (1 << 20)

struct latency {
    const char *operation;
    struct hist hist[2];
    bool has[2];
};

static const char *side_name(bool two, int side)
{
    return !two ? "" : side == 0 ? " A" : " B";
}

static void print_quantiles(struct buf *out, const struct latency *ops, size_t count, bool two)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    char text[FIGURE_BYTES];
    html_raw(out,
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"quantiles\">"
             "<table><caption>Of all runs together; &ldquo;-&rdquo;: fewer than 20 samples lie "
             "beyond</caption><thead><tr><th scope=\"col\" class=\"text\">operation</th>"
             "<th scope=\"col\">samples</th><th scope=\"col\">p50</th><th scope=\"col\">p90</th>"
             "<th scope=\"col\">p99</th><th scope=\"col\">p99.9</th><th scope=\"col\">max</th>"
             "</tr></thead><tbody>\n");
    for (size_t i = 0; i < count; i++) {
        for (int s = 0; s < 2; s++) {
            const struct hist *hist = &ops[i].hist[s];
            if (!ops[i].has[s]) {
                continue;
            }
            html_raw(out, "<tr><th scope=\"row\">");
            html_text(out, ops[i].operation);
            html_raw(out, "%s</th><td>%s</td>", side_name(two, s),
                     figure_text((double)hist_count(hist), text));
            for (int q = 0; q < 4; q++) {
                bool known = hist_beyond_quantile(hist, quantiles[q]) >= SAMPLES_BEYOND_MIN;
                double ns = known ? (double)hist_quantile_ns(hist, quantiles[q]) : (double)NAN;
                html_raw(out, "<td>%s</td>", known ? figure_with_unit(ns, "ns", text) : "-");
            }
            html_raw(out, "<td>%s</td></tr>\n",
                     figure_with_unit((double)hist_max_ns(hist), "ns", text));
        }
    }
    html_raw(out, "</tbody></table></div>\n");
}

static void label_of(const struct latency *op, int side, bool two, char *out, size_t bytes)
{
    snprintf(out, bytes, "%.64s%s, n = %" PRId64, op->operation, side_name(two, side),
             hist_count(&op->hist[side]));
}

static void add_spectrum(struct report_data *data, const struct latency *op, bool two,
                         double limit_ns)
{
    static const struct chart_axes axes = {
        "nines", "percentile, drawn by log(1 - q)", "ns", "latency", false, true};
    struct json *chart = report_chart(data, &axes);
    for (int s = 0; s < 2; s++) {
        struct json *xs;
        struct json *ys;
        char label[128];
        if (!op->has[s]) {
            continue;
        }
        label_of(op, s, two, label, sizeof label);
        report_series(chart, label, s, s == 1, &xs, &ys);
        for (int i = 0; i * SPECTRUM_STEP <= SPECTRUM_END; i++) {
            double q = 1 - pow(10, -i * SPECTRUM_STEP);
            if (hist_beyond_quantile(&op->hist[s], q) < SAMPLES_BEYOND_MIN) {
                break;
            }
            json_append(xs, json_new_number(round(i * SPECTRUM_STEP * 100) / 100));
            json_append(ys, json_new_number((double)hist_quantile_ns(&op->hist[s], q)));
        }
    }
    if (limit_ns > 0) {
        report_chart_line(chart, "p99 objective", limit_ns);
    }
}

static void flush_bin(struct json *xs, struct json *ys, double bin, double share)
{
    json_append(xs, json_new_number(round(pow(2, (bin + 0.5) / BINS_PER_OCTAVE))));
    json_append(ys, json_new_number(share));
}

/* Shares, not counts: two sets rarely have as many samples. */
static void add_histogram(struct report_data *data, const struct latency *op, bool two)
{
    static const struct chart_axes axes = {"ns", "latency", "percent", "share of all calls",
                                           true, false};
    struct json *chart = report_chart(data, &axes);
    for (int s = 0; s < 2; s++) {
        struct json *xs;
        struct json *ys;
        char label[128];
        if (!op->has[s]) {
            continue;
        }
        label_of(op, s, two, label, sizeof label);
        report_series(chart, label, s, s == 1, &xs, &ys);
        double total = (double)hist_count(&op->hist[s]);
        double bin = -1;
        double in_bin = 0;
        for (struct hist_bucket b = HIST_BEGIN; hist_next(&op->hist[s], &b);) {
            double middle = ((double)b.low_ns + (double)b.high_ns) / 2;
            double at = floor(log2(fmax(1, middle)) * BINS_PER_OCTAVE);
            if (at > bin && in_bin > 0) {
                flush_bin(xs, ys, bin, round(in_bin / total * 1e7) / 1e5);
                in_bin = 0;
                if (at > bin + 2) { /* nothing between: the line goes down to it */
                    flush_bin(xs, ys, bin + 1, 0);
                    flush_bin(xs, ys, at - 1, 0);
                }
            }
            bin = at;
            in_bin += (double)b.count;
        }
        if (in_bin > 0) {
            flush_bin(xs, ys, bin, round(in_bin / total * 1e7) / 1e5);
        }
    }
}

static const struct json *first_windows(const struct result_runs *runs, const char *operation)
{
    for (size_t i = 0; i < runs->count; i++) {
        const struct json *windows = json_get(json_get(runs->lines[i], "win"), operation);
        if (json_count(windows) >= 2) {
            return windows;
        }
    }
    return NULL;
}

/* p50 and p99 of each second of the first run that has them. */
static bool add_seconds(struct json *chart, const struct json *windows, int side, bool two)
{
    if (windows == NULL) {
        return false;
    }
    for (int line = 0; line < 2; line++) {
        struct json *xs;
        struct json *ys;
        char label[32];
        snprintf(label, sizeof label, "%s%s", line == 0 ? "p50" : "p99", side_name(two, side));
        report_series(chart, label, side, line == 0, &xs, &ys);
        double second = 0;
        for (const struct json *w = json_first(windows); w != NULL; w = json_next(w)) {
            const struct json *p50 = json_first(w);
            const struct json *p99 = p50 != NULL ? json_next(p50) : NULL;
            double value = json_number(line == 0 ? p50 : p99, (double)NAN);
            json_append(xs, json_new_number(++second));
            figure_append(ys, value > 0 ? value : (double)NAN);
        }
    }
    return true;
}

/* The same of each run, where runs have no seconds. */
static bool add_runs(struct json *chart, const struct result_runs *runs, const char *operation,
                     int side, bool two)
{
    struct json *xs[2];
    struct json *ys[2];
    int number = 0;
    for (size_t i = 0; i < runs->count; i++) {
        const struct json *h = json_get(json_get(runs->lines[i], "hdr"), operation);
        const char *text = json_string(json_get(h, "b64"), NULL);
        struct hist one;
        if (text == NULL || hist_decode(&one, text, strlen(text), NULL) != 0) {
            continue;
        }
        for (int line = 0; line < 2; line++) {
            if (number == 0) {
                char label[32];
                snprintf(label, sizeof label, "%s%s", line == 0 ? "p50" : "p99",
                         side_name(two, side));
                report_series(chart, label, side, line == 0, &xs[line], &ys[line]);
            }
            double q = line == 0 ? 0.5 : 0.99;
            bool known = hist_beyond_quantile(&one, q) >= SAMPLES_BEYOND_MIN;
            json_append(xs[line], json_new_number(number + 1));
            figure_append(ys[line], known ? (double)hist_quantile_ns(&one, q) : (double)NAN);
        }
        number++;
        hist_fini(&one);
    }
    return number > 0;
}

/* The objective for the operation's p99 in nanoseconds; 0 without one. */
static double objective_ns(const struct section_side *side, const char *operation)
{
    char path[1100];
    double limit_ns = 0;
    snprintf(path, sizeof path, "%s/scenario.json", side->dir);
    struct json *scenario = json_parse_file(path, FILE_BYTES_MAX, NULL);
    for (const struct json *c = json_first(json_get(scenario, "slo")); c != NULL;
         c = json_next(c)) {
        char name[128];
        double limit_ms;
        if (sscanf(json_string(c, ""), "%100s <= %lf", name, &limit_ms) != 2) {
            continue;
        }
        size_t bytes = strlen(operation);
        if (strncmp(name, operation, bytes) == 0 && strcmp(name + bytes, ".p99_ms") == 0) {
            limit_ns = limit_ms * 1e6;
        }
    }
    json_free(scenario);
    return limit_ns;
}

static void print_operation(struct buf *out, struct report_data *data, const struct latency *op,
                            const struct result_runs runs[2], bool two, double limit_ns)
{
    html_raw(out, "<h3>");
    html_text(out, op->operation);
    html_raw(out, "</h3>\n<div class=\"charts\">\n");
    add_spectrum(data, op, two, limit_ns);
    report_chart_box(out, data, "Percentile spectrum");
    add_histogram(data, op, two);
    report_chart_box(out, data, "Histogram");
    const struct json *windows[2] = {first_windows(&runs[0], op->operation),
                                     first_windows(&runs[1], op->operation)};
    bool seconds = windows[0] != NULL || windows[1] != NULL;
    struct chart_axes axes = {"run", seconds ? "second of the run" : "run", "ns", "latency", false,
                              true};
    struct json *chart = report_chart(data, &axes);
    for (int s = 0; s < 2; s++) {
        if (seconds) {
            add_seconds(chart, windows[s], s, two);
        } else {
            add_runs(chart, &runs[s], op->operation, s, two);
        }
    }
    if (limit_ns > 0) {
        report_chart_line(chart, "p99 objective", limit_ns);
    }
    report_chart_box(out, data, seconds ? "p50 and p99 of each second" : "p50 and p99 of each run");
    html_raw(out, "</div>\n");
}

void latency_print(struct buf *out, struct report_data *data, const struct section_side *a,
                   const struct section_side *b)
{
    struct latency ops[OPERATIONS_MAX] = {0};
    size_t count = 0;
    struct result_runs runs[2] = {a->runs, {0}}; /* borrowed */
    if (b != NULL) {
        runs[1] = b->runs;
    }
    const struct json *first = runs_hist_operations(&runs[0]);
    for (const struct json *c = first; c != NULL && count < OPERATIONS_MAX; c = json_next(c)) {
        struct latency *op = &ops[count];
        op->operation = json_key(c);
        op->has[0] = runs_hist(&runs[0], op->operation, &op->hist[0], NULL);
        op->has[1] = runs_hist(&runs[1], op->operation, &op->hist[1], NULL);
        count += op->has[0] || op->has[1];
    }
    if (count > 0) {
        html_raw(out, "<details><summary>Latency</summary>\n");
        print_quantiles(out, ops, count, b != NULL);
        for (size_t i = 0; i < count; i++) {
            print_operation(out, data, &ops[i], runs, b != NULL,
                            objective_ns(b != NULL ? b : a, ops[i].operation));
        }
        html_raw(out, "</details>\n");
    }
    for (size_t i = 0; i < count; i++) {
        for (int s = 0; s < 2; s++) {
            if (ops[i].has[s]) {
                hist_fini(&ops[i].hist[s]);
            }
        }
    }
}
