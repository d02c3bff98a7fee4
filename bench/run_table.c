#include "run_table.h"

#include <math.h>
#include <string.h>

#include "metric.h"

#define NUMBER_BYTES 40

char *run_table_number(double value, char *out, size_t bytes)
{
    char plain[NUMBER_BYTES];
    double size = fabs(value);
    int digits = size == floor(size) || size >= 10000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
    snprintf(plain, sizeof plain, "%.*f", digits, value);
    size_t whole = strcspn(plain, ".");
    size_t from = plain[0] == '-' ? 1 : 0;
    size_t n = 0;
    for (size_t i = 0; plain[i] != '\0' && n + 2 < bytes; i++) {
        if (i > from && i < whole && (whole - i) % 3 == 0) {
            out[n++] = ',';
        }
        out[n++] = plain[i];
    }
    out[n] = '\0';
    return out;
}

static const struct json *find(const struct json *summary, const char *scope, const char *name)
{
    char id[METRIC_ID_BYTES_MAX];
    snprintf(id, sizeof id, "%s.%s", scope, name);
    for (const struct json *c = json_first(json_get(summary, "metrics")); c != NULL;
         c = json_next(c)) {
        if (strcmp(json_string(json_get(c, "id"), ""), id) == 0) {
            return c;
        }
    }
    return NULL;
}

static void print_row(FILE *out, const struct json *metric, const struct metric *row)
{
    const struct json *value = json_get(metric, "value");
    char number[NUMBER_BYTES], spread[NUMBER_BYTES];
    run_table_number(json_number(value, 0), number, sizeof number);
    int count = (int)json_count(json_get(metric, "values"));
    char note[120];
    if (row->class == METRIC_TIMED) {
        double mad = json_number(json_get(metric, "mad"), 0);
        run_table_number(mad, spread, sizeof spread);
        snprintf(note, sizeof note, "median of %d runs, +-%s", count, spread);
    } else if (strcmp(json_string(json_get(metric, "status"), ""), "exact") == 0) {
        snprintf(note, sizeof note, "exact in %d of %d", count, count);
    } else {
        run_table_number(json_number(json_get(metric, "range"), 0), spread, sizeof spread);
        snprintf(note, sizeof note, "jittery: range %s in %d", spread, count);
    }
    fprintf(out, "  %-26s %16s   %s\n", row->title, number, note);
}

static void format_us(const struct json *metric, char *out, size_t bytes)
{
    const struct json *value = json_get(metric, "value");
    if (value == NULL || json_type(value) != JSON_NUMBER) {
        snprintf(out, bytes, "-");
        return;
    }
    snprintf(out, bytes, "%.1f", json_number(value, 0) / 1e3);
}

static void print_latencies(FILE *out, const struct json *summary)
{
    static const char *const scopes[] = {"create", "claim", "complete"};
    static const char *const names[] = {"latency_ns_p50", "latency_ns_p90", "latency_ns_p99",
                                        "latency_ns_p999", "latency_ns_max"};
    bool head = false, hidden = false;
    for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
        const struct json *p50 = find(summary, scopes[s], names[0]);
        if (p50 == NULL) {
            continue;
        }
        if (!head) {
            fprintf(out, "\n  %-12s %9s %9s %9s %9s %9s   %s\n", "latency, us", "p50", "p90", "p99",
                    "p99.9", "max", "calls a run");
            head = true;
        }
        fprintf(out, "  %-12s", scopes[s]);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char text[NUMBER_BYTES];
            format_us(find(summary, scopes[s], names[i]), text, sizeof text);
            hidden = hidden || text[0] == '-';
            fprintf(out, " %9s", text);
        }
        const struct json *samples = json_first(json_get(p50, "samples"));
        double least = INFINITY;
        for (; samples != NULL; samples = json_next(samples)) {
            least = fmin(least, json_number(samples, 0));
        }
        char text[NUMBER_BYTES];
        fprintf(out, "   %s+\n", run_table_number(least, text, sizeof text));
    }
    if (hidden) {
        fputs("  -: fewer than 20 samples beyond it\n", out);
    }
}

void run_table_print(FILE *out, const struct json *summary, const char *title)
{
    const char *operation = json_string(json_get(summary, "operation"), "");
    const char *placement = json_string(json_get(summary, "placement"), "");
    const struct json *scenario = json_get(summary, "scenario");
    fprintf(out, "%s%s%s\n", json_string(json_get(scenario, "id"), ""),
            title[0] != '\0' ? ": " : "", title);
    int64_t batch = json_int(json_get(summary, "batch"), 1);
    fprintf(out, "  one op is one task through %s", operation);
    if (batch > 1) {
        fprintf(out, ", %lld tasks a call", (long long)batch);
    }
    fprintf(out, "; closed loop, 1 connection, %s\n",
            strcmp(placement, "free") == 0 ? "as deployed: client and Redis free to move"
                                           : "client and Redis on one core");
    for (size_t i = 0; i < metric_count; i++) {
        const struct metric *row = &metric_table[i];
        const struct json *metric = find(summary, row->run_scope ? "run" : operation, row->name);
        if (metric != NULL && strncmp(row->name, "latency_", 8) != 0) {
            print_row(out, metric, row);
        }
    }
    print_latencies(out, summary);
}
