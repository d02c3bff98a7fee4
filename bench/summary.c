#include "summary.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hist.h"
#include "metric.h"

#define VALUES_MAX 1024 /* runs or repeats of one metric */
#define METRICS_MAX 64

struct series {
    char id[METRIC_ID_BYTES_MAX];
    const struct metric *metric;
    double values[VALUES_MAX]; /* NAN: not to be shown */
    int64_t samples[VALUES_MAX];
    size_t count;
    bool has_samples;
};

struct summary {
    struct series *series[METRICS_MAX];
    size_t count;
};

static struct series *series_get(struct summary *summary, const char *scope, const char *name)
{
    char id[METRIC_ID_BYTES_MAX];
    snprintf(id, sizeof id, "%s.%s", scope, name);
    for (size_t i = 0; i < summary->count; i++) {
        if (strcmp(summary->series[i]->id, id) == 0) {
            return summary->series[i];
        }
    }
    const struct metric *metric = metric_find(id);
    if (metric == NULL || summary->count == METRICS_MAX) {
        return NULL;
    }
    struct series *series = calloc(1, sizeof *series);
    if (series == NULL) {
        abort();
    }
    snprintf(series->id, sizeof series->id, "%s", id);
    series->metric = metric;
    summary->series[summary->count++] = series;
    return series;
}

static int series_add(struct summary *summary, const char *scope, const char *name, double value,
                      int64_t samples, struct err *err)
{
    struct series *series = series_get(summary, scope, name);
    if (series == NULL) {
        return err_set(err, -EINVAL, "metric '%.30s.%.60s' is not known", scope, name);
    }
    if (series->count == VALUES_MAX) {
        return err_set(err, -E2BIG, "more than %d values of %s", VALUES_MAX, series->id);
    }
    series->values[series->count] = value;
    series->samples[series->count++] = samples;
    series->has_samples = series->has_samples || samples >= 0;
    return 0;
}

/* ---- timed ---- */

static int add_quantiles(struct summary *summary, const char *scope, const struct hist *hist,
                         struct err *err)
{
    static const struct {
        const char *name;
        double p;
    } rows[] = {{"latency_ns_p50", 0.5},
                {"latency_ns_p90", 0.9},
                {"latency_ns_p99", 0.99},
                {"latency_ns_p999", 0.999}};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof rows / sizeof *rows; i++) {
        bool enough = hist_beyond_quantile(hist, rows[i].p) >= SUMMARY_SAMPLES_BEYOND_MIN;
        double value = enough ? (double)hist_quantile_ns(hist, rows[i].p) : (double)NAN;
        code = series_add(summary, scope, rows[i].name, value, hist_count(hist), err);
    }
    if (code == 0) {
        code = series_add(summary, scope, "latency_ns_max", (double)hist_max_ns(hist),
                          hist_count(hist), err);
    }
    return code;
}

static int add_hdrs(struct summary *summary, const struct json *hdrs, struct err *err)
{
    int code = 0;
    for (const struct json *c = json_first(hdrs); c != NULL && code == 0; c = json_next(c)) {
        const char *text = json_string(json_get(c, "b64"), "");
        struct hist hist;
        code = hist_decode(&hist, text, strlen(text), err);
        if (code != 0) {
            return err_prefix(err, code, "hdr.%.40s", json_key(c));
        }
        if (hist_count(&hist) != json_int(json_get(c, "n"), -1)) {
            code =
                err_set(err, -EINVAL, "hdr.%.40s: n is not the number of its values", json_key(c));
        } else {
            code = add_quantiles(summary, json_key(c), &hist, err);
        }
        hist_fini(&hist);
    }
    return code;
}

static int add_timed(struct summary *summary, const char *operation, const struct json *run,
                     struct err *err)
{
    double ops = json_number(json_get(run, "ops"), 0);
    static const struct {
        const char *field, *name;
        bool required; /* not where sets of earlier harnesses lack it */
    } rows[] = {{"dur_ns", "time_ns_per_op", true},
                {"cpu_us", "client_cpu_us_per_op", true},
                {"redis_cpu_us", "redis_cpu_us_per_op", true},
                {"redis_script_us", "redis_script_us_per_op", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].required && json_get(run, rows[i].field) == NULL) {
            continue;
        }
        double value = json_number(json_get(run, rows[i].field), (double)NAN);
        if (!(value >= 0)) {
            return err_set(err, -EINVAL, "%s is missing or below 0", rows[i].field);
        }
        int code = series_add(summary, operation, rows[i].name, value / ops, -1, err);
        if (code != 0) {
            return code;
        }
    }
    double dur_ns = json_number(json_get(run, "dur_ns"), 0);
    int code = series_add(summary, "run", "throughput_per_sec", ops / (dur_ns / 1e9), -1, err);
    return code != 0 ? code : add_hdrs(summary, json_get(run, "hdr"), err);
}

/* ---- counted ---- */

static const struct {
    const char *kind, *total, *name;
    bool slope;
} counted_rows[] = {
    {"callgrind", "instructions", "instructions_per_op", true},
    {"counts", "allocs", "allocs_per_op", true},
    {"counts", "alloc_bytes", "alloc_bytes_per_op", true},
    {"counts", "live_bytes", "live_bytes_per_op", true},
    {"counts", "round_trips", "round_trips_per_op", true},
    {"counts", "redis_commands", "redis_commands_per_op", true},
    {"counts", "redis_calls", "redis_calls_per_op", true},
    {"counts", "bytes_to_redis", "bytes_to_redis_per_op", true},
    {"counts", "bytes_from_redis", "bytes_from_redis_per_op", true},
    {"syscalls", "syscalls", "syscalls_per_op", true},
    {"massif", "heap_peak_bytes", "heap_peak_bytes", false},
};

static const struct json *find_run(struct json *const *runs, size_t count, const char *kind,
                                   int64_t repeat, int64_t scale)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(json_string(json_get(runs[i], "kind"), ""), kind) == 0 &&
            json_int(json_get(runs[i], "repeat"), -1) == repeat &&
            json_int(json_get(runs[i], "scale"), -1) == scale) {
            return runs[i];
        }
    }
    return NULL;
}

/* Of a run of system calls that codeq-trace watched. */
static int add_traced(struct summary *summary, const char *operation, const struct json *run,
                      struct err *err)
{
    static const struct {
        const char *total, *name;
        double divisor;
    } rows[] = {{"off_cpu_ns", "off_cpu_us_per_op", 1e3},
                {"redis_syscalls", "redis_syscalls_per_op", 1}};
    double ops = json_number(json_get(run, "ops"), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct json *total = json_get(json_get(run, "totals"), rows[i].total);
        double value = json_number(total, (double)NAN);
        if (total == NULL) {
            continue;
        }
        if (!(value >= 0) || !(ops > 0)) {
            return err_set(err, -EINVAL, "%s is below 0, or there are no ops", rows[i].total);
        }
        int code =
            series_add(summary, operation, rows[i].name, value / rows[i].divisor / ops, -1, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int add_counted(struct summary *summary, const char *operation, struct json *const *runs,
                       size_t count, struct err *err)
{
    for (size_t row = 0; row < sizeof counted_rows / sizeof *counted_rows; row++) {
        const char *name = counted_rows[row].name;
        const char *scope = metric_by_name(name)->run_scope ? "run" : operation;
        for (int64_t repeat = 0; repeat < VALUES_MAX; repeat++) {
            const struct json *one = find_run(runs, count, counted_rows[row].kind, repeat, 1);
            const struct json *two = find_run(runs, count, counted_rows[row].kind, repeat, 2);
            if (one == NULL || (two == NULL && counted_rows[row].slope)) {
                break;
            }
            const char *total = counted_rows[row].total;
            double a = json_number(json_get(json_get(one, "totals"), total), (double)NAN);
            double value = a;
            if (counted_rows[row].slope) {
                double b = json_number(json_get(json_get(two, "totals"), total), (double)NAN);
                double ops =
                    json_number(json_get(two, "ops"), 0) - json_number(json_get(one, "ops"), 0);
                if (!(ops > 0)) {
                    return err_set(err, -EINVAL, "%s, repeat %lld: scale 2 has no more ops",
                                   counted_rows[row].kind, (long long)repeat);
                }
                value = (b - a) / ops;
            }
            if (isnan(value)) {
                break; /* not counted on that machine: the metric is absent */
            }
            int code = series_add(summary, scope, name, value, -1, err);
            if (code != 0) {
                return code;
            }
        }
    }
    return 0;
}

/* ---- text ---- */

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *values, size_t count)
{
    double sorted[VALUES_MAX];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_number);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static void add_number_or_null(struct json *object, const char *key, double value)
{
    if (isnan(value)) {
        json_add_null(object, key);
    } else {
        json_add_number(object, key, value);
    }
}

static void add_series(struct json *array, const struct series *series)
{
    const struct metric *metric = series->metric;
    struct json *object = json_new_object();
    json_add_string(object, "id", series->id);
    json_add_string(object, "class", metric_class_name(metric->class));
    json_add_string(object, "unit", metric->unit);
    json_add_string(object, "better", metric_better_name(metric->better));
    struct json *values = json_add_array(object, "values");
    double min = INFINITY, max = -INFINITY;
    bool whole = true;
    for (size_t i = 0; i < series->count; i++) {
        double value = series->values[i];
        whole = whole && !isnan(value);
        min = fmin(min, value);
        max = fmax(max, value);
        if (isnan(value)) {
            json_append(values, json_parse("null", 4, NULL));
        } else {
            json_append(values, json_new_number(value));
        }
    }
    double middle = whole ? median(series->values, series->count) : (double)NAN;
    add_number_or_null(object, "value", middle);
    if (metric->class == METRIC_COUNTED) {
        json_add_number(object, "range", max - min);
        json_add_string(object, "status", max - min == 0 ? "exact" : "jittery");
    } else {
        double distances[VALUES_MAX];
        for (size_t i = 0; i < series->count; i++) {
            distances[i] = fabs(series->values[i] - middle);
        }
        add_number_or_null(object, "mad", whole ? median(distances, series->count) : (double)NAN);
        if (series->has_samples) {
            struct json *samples = json_add_array(object, "samples");
            for (size_t i = 0; i < series->count; i++) {
                json_append(samples, json_new_number((double)series->samples[i]));
            }
        }
    }
    json_append(array, object);
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct series *const *)a)->id, (*(struct series *const *)b)->id);
}

static char *print(const struct summary_header *header, struct summary *summary)
{
    qsort(summary->series, summary->count, sizeof *summary->series, by_id);
    struct json *root = json_new_object();
    json_add_string(root, "schema", SUMMARY_SCHEMA);
    struct json *scenario = json_add_object(root, "scenario");
    json_add_string(scenario, "id", header->scenario_id);
    json_add_int(scenario, "rev", header->scenario_rev);
    json_add_string(scenario, "sha256", header->scenario_sha256);
    json_add_string(root, "redis_config_sha256", header->redis_config_sha256);
    json_add_string(root, "operation", header->operation);
    json_add_int(root, "batch", header->batch);
    json_add_string(root, "placement", header->placement);
    json_add_string(root, "rank_rule", "ceil(p*n)");
    struct json *metrics = json_add_array(root, "metrics");
    for (size_t i = 0; i < summary->count; i++) {
        add_series(metrics, summary->series[i]);
    }
    char *text = json_print_pretty(root);
    json_free(root);
    return text;
}

char *summary_derive(const struct summary_header *header, struct json *const *runs, size_t count,
                     struct err *err)
{
    struct summary summary = {0};
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        if (!(json_number(json_get(runs[i], "ops"), 0) > 0)) {
            code = err_set(err, -EINVAL, "line %zu: ops is missing or not above 0", i + 1);
        } else if (strcmp(json_string(json_get(runs[i], "kind"), ""), "timed") == 0) {
            code = add_timed(&summary, header->operation, runs[i], err);
        } else if (strcmp(json_string(json_get(runs[i], "kind"), ""), "syscalls") == 0) {
            code = add_traced(&summary, header->operation, runs[i], err);
        }
        if (code != 0) {
            err_prefix(err, code, "line %zu", i + 1);
        }
    }
    if (code == 0) {
        code = add_counted(&summary, header->operation, runs, count, err);
    }
    char *text = code == 0 ? print(header, &summary) : NULL;
    for (size_t i = 0; i < summary.count; i++) {
        free(summary.series[i]);
    }
    return text;
}

char *summary_again(const struct json *summary, struct json *const *runs, size_t count,
                    struct err *err)
{
    const struct json *scenario = json_get(summary, "scenario");
    struct summary_header header = {
        .scenario_id = json_string(json_get(scenario, "id"), ""),
        .scenario_rev = json_int(json_get(scenario, "rev"), 0),
        .scenario_sha256 = json_string(json_get(scenario, "sha256"), ""),
        .redis_config_sha256 = json_string(json_get(summary, "redis_config_sha256"), ""),
        .operation = json_string(json_get(summary, "operation"), ""),
        .batch = json_int(json_get(summary, "batch"), 0),
        .placement = json_string(json_get(summary, "placement"), ""),
    };
    if (!metric_is_operation(header.operation, strlen(header.operation))) {
        err_set(err, -EINVAL, "operation '%.40s' is not known", header.operation);
        return NULL;
    }
    return summary_derive(&header, runs, count, err);
}
