#include "export.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pprof.h"
#include "base/stacks.h"
#include "metric.h"
#include "profile_table.h"

static const char *const format_names[EXPORT_FORMATS] = {
    "pprof", "folded", "speedscope", "chrome", "csv", "openmetrics", "benchstat"};

static const struct {
    const char *name;
    const char *type; /* of pprof */
    const char *unit;
    int column; /* of heap.tsv */
} weights[EXPORT_WEIGHTS] = {
    {"instructions", "instructions", "count", 0},
    {"bytes", "alloc_space", "bytes", HEAP_BYTES},
    {"blocks", "alloc_objects", "count", HEAP_BLOCKS},
    {"live", "inuse_space", "bytes", HEAP_LIVE_BYTES},
    {"peak", "peak_space", "bytes", HEAP_PEAK_BYTES},
};

const char *export_format_name(enum export_format format)
{
    return format_names[format];
}

int export_format_parse(const char *name, enum export_format *out)
{
    for (int i = 0; i < EXPORT_FORMATS; i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *out = (enum export_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

int export_is_profile(enum export_format format)
{
    return format == EXPORT_PPROF || format == EXPORT_FOLDED || format == EXPORT_SPEEDSCOPE ||
           format == EXPORT_CHROME;
}

const char *export_weight_name(enum export_weight weight)
{
    return weights[weight].name;
}

int export_weight_parse(const char *name, enum export_weight *out)
{
    for (int i = 0; i < EXPORT_WEIGHTS; i++) {
        if (strcmp(name, weights[i].name) == 0) {
            *out = (enum export_weight)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* ---- profiles ---- */

static int read_stacks(enum export_weight weight, const char *dir, struct stacks *out,
                       struct err *err)
{
    struct profile_table table;
    bool heap = weight != EXPORT_INSTRUCTIONS;
    int code =
        profile_table_read(&table, heap ? PROFILE_TABLE_HEAP : PROFILE_TABLE_FOLDED, dir, err);
    if (code != 0) {
        return code;
    }
    struct buf folded = BUF_INIT;
    for (size_t i = 0; i < table.count; i++) {
        int64_t value = table.rows[i].value[weights[weight].column];
        if (value > 0) {
            buf_printf(&folded, "%s %" PRId64 "\n", table.rows[i].text[0], value);
        }
    }
    if (folded.bytes == 0) {
        code = err_set(err, -ENODATA, "%s: no stack has any %s", dir, weights[weight].name);
    } else {
        code = stacks_parse_folded(out, folded.data, folded.bytes, err);
    }
    buf_fini(&folded);
    profile_table_fini(&table);
    return code;
}

static void put_json(struct buf *out, const struct json *json)
{
    char *text = json_print(json);
    buf_puts(out, text);
    buf_puts(out, "\n");
    free(text);
}

/* Source: jlfwong/speedscope:src/lib/file-format-spec.ts. */
static void put_speedscope(struct buf *out, struct stacks *stacks, enum export_weight weight,
                           const char *name)
{
    struct json *root = json_new_object();
    json_add_string(root, "$schema", "https://www.speedscope.app/file-format-schema.json");
    json_add_string(root, "name", name);
    json_add_string(root, "exporter", "codeq-bench " CODEQ_VERSION);
    struct json *frames = json_add_array(json_add_object(root, "shared"), "frames");
    stacks_sort(stacks);
    for (size_t i = 0; i < stacks_names(stacks); i++) {
        struct json *frame = json_new_object();
        json_add_string(frame, "name", stacks_name(stacks, (uint32_t)i));
        json_append(frames, frame);
    }
    struct json *profile = json_new_object();
    json_add_string(profile, "type", "sampled");
    json_add_string(profile, "name", name);
    json_add_string(profile, "unit", strcmp(weights[weight].unit, "bytes") == 0 ? "bytes" : "none");
    json_add_int(profile, "startValue", 0);
    json_add_number(profile, "endValue", (double)stacks_total(stacks));
    struct json *samples = json_add_array(profile, "samples");
    struct json *values = json_add_array(profile, "weights");
    for (size_t i = 0; i < stacks_count(stacks); i++) {
        struct stack stack = stacks_at(stacks, i);
        struct json *sample = json_new_array();
        for (size_t f = 0; f < stack.depth; f++) {
            json_append(sample, json_new_number(stack.frames[f]));
        }
        json_append(samples, sample);
        json_append(values, json_new_number((double)stack.value));
    }
    json_append(json_add_array(root, "profiles"), profile);
    put_json(out, root);
    json_free(root);
}

static void add_event(struct json *events, const char *phase, const char *name, int64_t at)
{
    struct json *event = json_new_object();
    json_add_string(event, "ph", phase);
    json_add_string(event, "name", name);
    json_add_string(event, "cat", "profile");
    json_add_number(event, "ts", (double)at);
    json_add_int(event, "pid", 1);
    json_add_int(event, "tid", 1);
    json_append(events, event);
}

/* A microsecond stands for one instruction, byte or block: the stacks beside one another, frames
 * that neighbours share drawn as one. Source: the "Trace Event Format" of Chromium's documents. */
static void put_chrome(struct buf *out, struct stacks *stacks, enum export_weight weight,
                       const char *name)
{
    struct json *root = json_new_object();
    struct json *events = json_add_array(root, "traceEvents");
    struct json *other = json_add_object(root, "otherData");
    json_add_string(other, "name", name);
    json_add_string(other, "one_microsecond_is", weights[weight].name);
    struct stack last = {.depth = 0};
    int64_t at = 0;
    stacks_sort(stacks);
    for (size_t i = 0; i <= stacks_count(stacks); i++) {
        struct stack stack = {.depth = 0};
        if (i < stacks_count(stacks)) {
            stack = stacks_at(stacks, i);
        }
        size_t shared = 0;
        while (shared < stack.depth && shared < last.depth &&
               stack.frames[shared] == last.frames[shared]) {
            shared++;
        }
        for (size_t f = last.depth; f-- > shared;) {
            add_event(events, "E", stacks_name(stacks, last.frames[f]), at);
        }
        for (size_t f = shared; f < stack.depth; f++) {
            add_event(events, "B", stacks_name(stacks, stack.frames[f]), at);
        }
        at += stack.depth > 0 ? stack.value : 0;
        last = stack;
    }
    put_json(out, root);
    json_free(root);
}

int export_profile(enum export_format format, enum export_weight weight, const char *dir,
                   const char *name, struct buf *out, struct err *err)
{
    struct stacks *stacks = stacks_new();
    int code = read_stacks(weight, dir, stacks, err);
    if (code == 0 && format == EXPORT_PPROF) {
        const struct pprof_options options = {weights[weight].type, weights[weight].unit, 0};
        unsigned char *data = NULL;
        size_t bytes = 0;
        code = pprof_encode(stacks, &options, &data, &bytes, err);
        if (code == 0) {
            buf_append(out, data, bytes);
            free(data);
        }
    } else if (code == 0 && format == EXPORT_FOLDED) {
        stacks_print_folded(stacks, out);
    } else if (code == 0 && format == EXPORT_SPEEDSCOPE) {
        put_speedscope(out, stacks, weight, name);
    } else if (code == 0) {
        put_chrome(out, stacks, weight, name);
    }
    stacks_free(stacks);
    return code;
}

/* ---- metrics ---- */

struct metric_row {
    const char *scenario;
    const struct json *metric;
};

static const char *text_of(const struct json *object, const char *key)
{
    return json_string(json_get(object, key), "");
}

static double number_of(const struct json *object, const char *key)
{
    return json_number(json_get(object, key), (double)NAN);
}

/* A cell of text: quoted where it must be; what a spreadsheet would take for a formula is not one.
 * Source: RFC 4180. */
static void put_cell(struct buf *out, const char *text)
{
    bool formula = text[0] != '\0' && strchr("=+-@\t\r", text[0]) != NULL;
    buf_puts(out, "\"");
    buf_puts(out, formula ? "'" : "");
    for (const char *p = text; *p != '\0'; p++) {
        buf_append(out, p, 1);
        if (*p == '"') {
            buf_puts(out, "\"");
        }
    }
    buf_puts(out, "\"");
}

static void put_number(struct buf *out, double value)
{
    if (isfinite(value)) {
        struct json *number = json_new_number(value);
        char *text = json_print(number);
        buf_puts(out, text);
        free(text);
        json_free(number);
    }
}

static double spread_of(const struct json *metric)
{
    double mad = number_of(metric, "mad");
    return isfinite(mad) ? mad : number_of(metric, "range");
}

static double samples_of(const struct json *metric)
{
    double total = 0;
    for (const struct json *c = json_first(json_get(metric, "samples")); c != NULL;
         c = json_next(c)) {
        total += json_number(c, 0);
    }
    return total;
}

static void put_csv_row(struct buf *out, const struct result_set *set, const struct metric_row *row)
{
    put_cell(out, set->commit);
    buf_puts(out, ",");
    put_cell(out, set->env8);
    buf_puts(out, ",");
    put_cell(out, set->created);
    buf_puts(out, ",");
    put_cell(out, row->scenario);
    static const char *const texts[] = {"id", "class", "unit", "better"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        buf_puts(out, ",");
        put_cell(out, text_of(row->metric, texts[i]));
    }
    buf_puts(out, ",");
    put_number(out, number_of(row->metric, "value"));
    buf_puts(out, ",");
    put_number(out, spread_of(row->metric));
    buf_printf(out, ",%zu,", json_count(json_get(row->metric, "values")));
    put_number(out, samples_of(row->metric));
    buf_puts(out, "\r\n");
}

/* A label's value. Source: OpenMetrics 1.0, "Escaping". */
static void put_label(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%s=\"", name);
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '\\' || *p == '"') {
            buf_puts(out, "\\");
            buf_append(out, p, 1);
        } else if (*p == '\n') {
            buf_puts(out, "\\n");
        } else {
            buf_append(out, p, 1);
        }
    }
    buf_puts(out, "\"");
}

/* Samples of a metric stand together, as the format wants: one pass over the rows a metric. */
static void put_openmetrics(struct buf *out, const struct result_set *set,
                            const struct metric_row *rows, size_t count)
{
    for (size_t m = 0; m < metric_count; m++) {
        const struct metric *metric = &metric_table[m];
        bool begun = false;
        for (size_t i = 0; i < count; i++) {
            const char *id = text_of(rows[i].metric, "id");
            double value = number_of(rows[i].metric, "value");
            if (metric_find(id) != metric || !isfinite(value)) {
                continue;
            }
            if (!begun) {
                buf_printf(out, "# TYPE codeq_bench_%s gauge\n# HELP codeq_bench_%s %s, %s.\n",
                           metric->name, metric->name, metric->title,
                           metric->class == METRIC_COUNTED ? "counted" : "median over runs");
                begun = true;
            }
            char scope[METRIC_ID_BYTES_MAX];
            snprintf(scope, sizeof scope, "%.*s", (int)strcspn(id, "."), id);
            buf_printf(out, "codeq_bench_%s{", metric->name);
            put_label(out, "commit", set->commit);
            buf_puts(out, ",");
            put_label(out, "environment", set->env8);
            buf_puts(out, ",");
            put_label(out, "scenario", rows[i].scenario);
            buf_puts(out, ",");
            put_label(out, "operation", scope);
            buf_puts(out, "} ");
            put_number(out, value);
            buf_puts(out, "\n");
        }
    }
    buf_puts(out, "# EOF\n");
}

/* "instructions/op", "Redis-calls-executed/op", "p99-ns": a unit has no space in it. */
static void put_unit(struct buf *out, const struct metric *metric)
{
    static const struct {
        const char *name;
        const char *unit;
    } known[] = {{"time_ns_per_op", "ns/op"},
                 {"allocs_per_op", "allocs/op"},
                 {"alloc_bytes_per_op", "B/op"},
                 {"client_cpu_us_per_op", "client-CPU-us/op"},
                 {"redis_cpu_us_per_op", "Redis-CPU-us/op"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, metric->name) == 0) {
            buf_puts(out, known[i].unit);
            return;
        }
    }
    for (const char *p = metric->title; *p != '\0'; p++) {
        buf_append(out, *p == ' ' ? "-" : p, 1);
    }
    if (strncmp(metric->name, "latency_ns", 10) == 0) {
        buf_puts(out, "-ns");
    }
}

/* "BenchmarkCycle/scheduler-batch": no spaces, and no lower-case letter behind "Benchmark". */
static void put_benchmark_name(struct buf *out, const char *scope, size_t scope_bytes,
                               const char *scenario)
{
    char first = scope[0];
    if (first >= 'a' && first <= 'z') {
        first = (char)(first - 'a' + 'A');
    }
    buf_puts(out, "Benchmark");
    buf_append(out, &first, 1);
    buf_append(out, scope + 1, scope_bytes - 1);
    buf_puts(out, "/");
    for (const char *p = scenario; *p != '\0'; p++) {
        buf_append(out, *p == ' ' || *p == '\t' || *p == '\n' ? "_" : p, 1);
    }
}

/* A line for the i-th value of all metrics of one scope and scenario; false when none has one. */
static bool put_benchmark_line(struct buf *out, const struct metric_row *rows, size_t count,
                               size_t number)
{
    const char *id = text_of(rows[0].metric, "id");
    size_t scope_bytes = strcspn(id, ".");
    struct buf pairs = BUF_INIT;
    double iterations = 1;
    for (size_t i = 0; i < count; i++) {
        const struct json *value = json_first(json_get(rows[i].metric, "values"));
        const struct json *sample = json_first(json_get(rows[i].metric, "samples"));
        for (size_t k = 0; k < number && value != NULL; k++) {
            value = json_next(value);
            sample = sample != NULL ? json_next(sample) : NULL;
        }
        const struct metric *metric = metric_find(text_of(rows[i].metric, "id"));
        if (metric == NULL || !isfinite(json_number(value, (double)NAN))) {
            continue;
        }
        iterations = fmax(iterations, json_number(sample, 1));
        buf_puts(&pairs, " ");
        put_number(&pairs, json_number(value, 0));
        buf_puts(&pairs, " ");
        put_unit(&pairs, metric);
    }
    bool any = pairs.bytes > 0;
    if (any) {
        put_benchmark_name(out, id, scope_bytes, rows[0].scenario);
        buf_printf(out, " %.0f%s\n", iterations, pairs.data);
    }
    buf_fini(&pairs);
    return any;
}

static bool same_benchmark(const struct metric_row *a, const struct metric_row *b)
{
    const char *x = text_of(a->metric, "id");
    const char *y = text_of(b->metric, "id");
    size_t bytes = strcspn(x, ".");
    return strcmp(a->scenario, b->scenario) == 0 && bytes == strcspn(y, ".") &&
           memcmp(x, y, bytes) == 0;
}

/* Source: golang/proposal:design/14313-benchmark-format.md. */
static void put_benchstat(struct buf *out, const struct result_set *set,
                          const struct metric_row *rows, size_t count)
{
    buf_printf(out, "commit: %s\nenvironment: %s\n", set->commit, set->env8);
    for (size_t i = 0; i < count;) {
        size_t end = i + 1;
        while (end < count && same_benchmark(&rows[i], &rows[end])) {
            end++;
        }
        if (text_of(rows[i].metric, "id")[0] != '\0') {
            for (size_t number = 0; put_benchmark_line(out, rows + i, end - i, number); number++) {
            }
        }
        i = end;
    }
}

#define SCENARIOS_MAX 64

static bool is_plain_id(const char *id)
{
    return id[0] != '\0' && id[0] != '.' && strchr(id, '/') == NULL && strlen(id) < 100;
}

static size_t add_rows(struct metric_row **rows, size_t count, const char *scenario,
                       const struct json *summary)
{
    const struct json *metrics = json_get(summary, "metrics");
    *rows = reallocarray(*rows, count + json_count(metrics) + 1, sizeof **rows);
    if (*rows == NULL) {
        abort();
    }
    for (const struct json *m = json_first(metrics); m != NULL; m = json_next(m)) {
        (*rows)[count++] = (struct metric_row){scenario, m};
    }
    return count;
}

int export_metrics(enum export_format format, const struct result_set *set, const char *scenario,
                   struct buf *out, struct err *err)
{
    char path[RESULT_PATH_MAX + 160];
    struct json *manifest = NULL;
    struct json *summaries[SCENARIOS_MAX];
    size_t summary_count = 0;
    struct metric_row *rows = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/manifest.json", set->dir);
    int code = set_read_json(path, RESULT_SET_SCHEMA, &manifest, err);
    for (const struct json *c = json_first(json_get(manifest, "scenarios"));
         c != NULL && code == 0 && summary_count < SCENARIOS_MAX; c = json_next(c)) {
        const char *id = json_string(c, "");
        if (!is_plain_id(id) || (scenario != NULL && strcmp(scenario, id) != 0)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s/summary.json", set->dir, id);
        code = set_read_json(path, "codeq-lab.summary/1", &summaries[summary_count], err);
        if (code == 0) {
            count = add_rows(&rows, count, id, summaries[summary_count++]);
        }
    }
    if (code == 0 && count == 0) {
        code = err_set(err, -ENOENT, "%s: no scenario%s%s with metrics", set->dir,
                       scenario != NULL ? " " : "", scenario != NULL ? scenario : "");
    }
    if (code == 0 && format == EXPORT_CSV) {
        buf_puts(out, "commit,environment,created,scenario,metric,class,unit,better,value,spread,"
                      "runs,samples\r\n");
        for (size_t i = 0; i < count; i++) {
            put_csv_row(out, set, &rows[i]);
        }
    } else if (code == 0 && format == EXPORT_OPENMETRICS) {
        put_openmetrics(out, set, rows, count);
    } else if (code == 0) {
        put_benchstat(out, set, rows, count);
    }
    free(rows);
    for (size_t i = 0; i < summary_count; i++) {
        json_free(summaries[i]);
    }
    json_free(manifest);
    return code;
}
