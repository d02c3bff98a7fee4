#include "stats_json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "rank.h"
#include "stats.h"
#include "trend.h"

#define LEVEL_DEFAULT 0.99
#define RATIO_MIN_DEFAULT 0.02

struct vector {
    double *values;
    size_t n;
};

/* What a function reads besides its own fields; freed by stats_json. */
struct call {
    struct fields fields;
    struct err *err;
    struct json *out;
    struct vector vectors[4];
    size_t vectors_count;
};

/* An array of numbers, required unless optional. Owned by the call. */
static struct vector read_vector(struct call *call, const char *name, bool optional)
{
    if (!optional) {
        fields_require(&call->fields, name);
    }
    const struct json *array = fields_array(&call->fields, name);
    size_t n = json_count(array);
    if (array == NULL) {
        return (struct vector){NULL, 0};
    }
    if (n > STATS_VALUES_MAX) {
        fields_fail(&call->fields, name, "has %zu values: at most %d are taken", n,
                    STATS_VALUES_MAX);
        return (struct vector){NULL, 0};
    }
    struct vector *v = &call->vectors[call->vectors_count++];
    v->values = calloc(n + 1, sizeof *v->values);
    if (v->values == NULL) {
        abort();
    }
    for (const struct json *c = json_first(array); c != NULL; c = json_next(c)) {
        if (json_type(c) != JSON_NUMBER) {
            fields_fail(&call->fields, name, "value %zu is %s: give numbers", v->n + 1,
                        json_type_name(json_type(c)));
            return *v;
        }
        v->values[v->n++] = json_number(c, 0);
    }
    return *v;
}

static int64_t *read_counts(struct call *call, const char *name, size_t *out_n)
{
    struct vector v = read_vector(call, name, false);
    int64_t *counts = calloc(v.n + 1, sizeof *counts);
    if (counts == NULL) {
        abort();
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.values[i] != floor(v.values[i]) || fabs(v.values[i]) > 0x1p53) {
            fields_fail(&call->fields, name, "value %zu is %g: counts are whole", i + 1,
                        v.values[i]);
            break;
        }
        counts[i] = (int64_t)v.values[i];
    }
    *out_n = v.n;
    return counts;
}

static double read_level(struct call *call)
{
    return fields_number(&call->fields, "level", 0.5, 0.999999, LEVEL_DEFAULT);
}

static void add_bound(struct json *out, const char *name, double value)
{
    if (isfinite(value)) {
        json_add_number(out, name, value);
    } else {
        json_add_null(out, name);
    }
}

static void add_test(struct call *call, const struct rank_test *test)
{
    json_add_number(call->out, "statistic", test->statistic);
    json_add_number(call->out, "p_two_sided", test->p_two_sided);
    json_add_number(call->out, "p_less", test->p_less);
    json_add_number(call->out, "p_greater", test->p_greater);
    json_add_int(call->out, "n", (int64_t)test->n);
    json_add_bool(call->out, "exact", test->exact);
}

static void add_interval(struct call *call, const struct rank_interval *interval)
{
    json_add_number(call->out, "estimate", interval->estimate);
    add_bound(call->out, "low", interval->low);
    add_bound(call->out, "high", interval->high);
    json_add_number(call->out, "level", interval->level);
}

static void add_changes(struct call *call, const struct trend_change *changes, size_t count)
{
    struct json *array = json_add_array(call->out, "changes");
    for (size_t i = 0; i < count; i++) {
        struct json *one = json_new_object();
        json_add_int(one, "at", (int64_t)changes[i].at);
        json_add_number(one, "before", changes[i].before);
        json_add_number(one, "after", changes[i].after);
        json_add_number(one, "p", changes[i].p);
        json_append(array, one);
    }
}

/* "d", or "x" less "y". */
static struct vector read_differences(struct call *call)
{
    struct vector d = read_vector(call, "d", true);
    struct vector x = read_vector(call, "x", true);
    struct vector y = read_vector(call, "y", true);
    if (d.values != NULL && (x.values != NULL || y.values != NULL)) {
        fields_fail(&call->fields, "d", "stands beside x or y: give differences or pairs");
    } else if (d.values == NULL && (x.values == NULL || y.values == NULL)) {
        fields_fail(&call->fields, "d", "is missing: give d, or x and y");
    } else if (d.values == NULL && x.n != y.n) {
        fields_fail(&call->fields, "y", "has %zu values and x has %zu: pairs need as many", y.n,
                    x.n);
    } else if (d.values == NULL) {
        d = x;
        for (size_t i = 0; i < d.n; i++) {
            d.values[i] -= y.values[i];
        }
    }
    return d;
}

static int call_wilcoxon(struct call *call)
{
    struct vector d = read_differences(call);
    struct rank_test test;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : rank_signed(d.values, d.n, &test, call->err);
    if (rc == 0) {
        add_test(call, &test);
    }
    return rc;
}

static int call_hodges_lehmann(struct call *call)
{
    struct vector d = read_differences(call);
    double level = read_level(call);
    struct rank_interval interval;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : rank_hodges_lehmann(d.values, d.n, level, &interval, call->err);
    if (rc == 0) {
        add_interval(call, &interval);
        json_add_bool(call->out, "exact", interval.exact);
    }
    return rc;
}

static int call_mann_whitney(struct call *call)
{
    struct vector x = read_vector(call, "x", false);
    struct vector y = read_vector(call, "y", false);
    struct rank_test test;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : rank_sum(x.values, x.n, y.values, y.n, &test, call->err);
    if (rc == 0) {
        add_test(call, &test);
    }
    return rc;
}

static int call_mann_kendall(struct call *call)
{
    struct vector series = read_vector(call, "series", false);
    struct rank_test test;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : rank_trend(series.values, series.n, &test, call->err);
    if (rc == 0) {
        add_test(call, &test);
    }
    return rc;
}

static int call_bootstrap(struct call *call)
{
    struct vector a = read_vector(call, "a", false);
    struct vector b = read_vector(call, "b", false);
    double level = read_level(call);
    int64_t resamples =
        fields_int(&call->fields, "resamples", 99, STATS_RESAMPLES_MAX, STATS_RESAMPLES_DEFAULT);
    int64_t seed = fields_int(&call->fields, "seed", 0, INT64_C(1) << 53, 1);
    struct rank_interval interval;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc
                 : stats_bootstrap_ratio(a.values, a.n, b.values, b.n, level, (size_t)resamples,
                                         (uint64_t)seed, &interval, call->err);
    if (rc == 0) {
        add_interval(call, &interval);
    }
    return rc;
}

static int call_holm(struct call *call)
{
    struct vector p = read_vector(call, "p", false);
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : stats_holm(p.values, p.n, p.values, call->err);
    if (rc == 0) {
        struct json *array = json_add_array(call->out, "adjusted");
        for (size_t i = 0; i < p.n; i++) {
            json_append(array, json_new_number(p.values[i]));
        }
    }
    return rc;
}

static int call_quantile(struct call *call)
{
    struct vector values = read_vector(call, "values", false);
    fields_require(&call->fields, "p");
    double p = fields_number(&call->fields, "p", 0, 1, 0.5);
    double level = read_level(call);
    struct rank_interval interval;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc
                 : stats_quantile_interval(values.values, values.n, p, level, &interval, call->err);
    if (rc == 0) {
        add_interval(call, &interval);
    }
    return rc;
}

static int call_quantile_ranks(struct call *call)
{
    fields_require(&call->fields, "n");
    fields_require(&call->fields, "p");
    int64_t n = fields_int(&call->fields, "n", 1, INT64_C(1) << 53, 1);
    double p = fields_number(&call->fields, "p", 0, 1, 0.5);
    double level = read_level(call);
    struct stats_ranks ranks;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : stats_quantile_ranks(n, p, level, &ranks, call->err);
    if (rc == 0) {
        if (ranks.low == 0) {
            json_add_null(call->out, "low_rank");
        } else {
            json_add_int(call->out, "low_rank", ranks.low);
        }
        if (ranks.high == n + 1) {
            json_add_null(call->out, "high_rank");
        } else {
            json_add_int(call->out, "high_rank", ranks.high);
        }
        json_add_number(call->out, "level", ranks.level);
    }
    return rc;
}

static int call_tail(struct call *call)
{
    static const char *const names[] = {"above_a", "n_a", "above_b", "n_b"};
    int64_t *counts[4];
    size_t n[4];
    for (size_t i = 0; i < 4; i++) {
        counts[i] = read_counts(call, names[i], &n[i]);
        if (n[i] != n[0]) {
            fields_fail(&call->fields, names[i], "has %zu values and above_a has %zu", n[i], n[0]);
        }
    }
    double level = read_level(call);
    struct rank_interval interval;
    struct rank_test test;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc
                 : stats_tail(counts[0], counts[1], counts[2], counts[3], n[0], level, &interval,
                              &test, call->err);
    if (rc == 0) {
        add_interval(call, &interval);
        json_add_number(call->out, "p_two_sided", test.p_two_sided);
    }
    for (size_t i = 0; i < 4; i++) {
        free(counts[i]);
    }
    return rc;
}

static int call_fisher(struct call *call)
{
    static const char *const names[] = {"yes_a", "no_a", "yes_b", "no_b"};
    int64_t counts[4];
    for (size_t i = 0; i < 4; i++) {
        fields_require(&call->fields, names[i]);
        counts[i] = fields_int(&call->fields, names[i], 0, 1000000, 0);
    }
    double p;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : stats_fisher(counts[0], counts[1], counts[2], counts[3], &p, call->err);
    if (rc == 0) {
        json_add_number(call->out, "p_two_sided", p);
    }
    return rc;
}

static int call_median(struct call *call)
{
    struct vector values = read_vector(call, "values", false);
    int rc = fields_end(&call->fields);
    if (rc == 0 && values.n == 0) {
        rc = err_set(call->err, -EINVAL, "values is empty: a median needs one value");
    }
    if (rc == 0) {
        json_add_number(call->out, "median", stats_median(values.values, values.n));
        json_add_number(call->out, "mad", stats_mad(values.values, values.n));
    }
    return rc;
}

static int call_modes(struct call *call)
{
    struct vector values = read_vector(call, "values", false);
    double gap_min = fields_number(&call->fields, "gap_min", 0, 1e300, 0);
    struct stats_modes modes;
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : stats_modes(values.values, values.n, gap_min, &modes, call->err);
    if (rc == 0) {
        json_add_bool(call->out, "two", modes.two);
        json_add_number(call->out, "cut", modes.cut);
        json_add_number(call->out, "share_high", modes.share_high);
        add_bound(call->out, "gap_mads", modes.gap_mads);
    }
    return rc;
}

static int call_trend_exact(struct call *call)
{
    struct vector series = read_vector(call, "series", false);
    int rc = fields_end(&call->fields);
    if (rc == 0) {
        struct trend_change *changes = calloc(series.n + 1, sizeof *changes);
        if (changes == NULL) {
            abort();
        }
        add_changes(call, changes, trend_exact(series.values, series.n, changes, series.n));
        free(changes);
    }
    return rc;
}

static int call_trend_steps(struct call *call)
{
    struct vector series = read_vector(call, "series", false);
    const struct trend_options options = {
        .ratio_min = fields_number(&call->fields, "ratio_min", 0, 1, RATIO_MIN_DEFAULT),
        .seed = (uint64_t)fields_int(&call->fields, "seed", 0, INT64_C(1) << 53, 1),
    };
    struct trend_change changes[TREND_VALUES_MAX];
    int rc = fields_end(&call->fields);
    rc = rc != 0 ? rc : trend_steps(series.values, series.n, &options, changes, call->err);
    if (rc >= 0) {
        add_changes(call, changes, (size_t)rc);
    }
    return rc < 0 ? rc : 0;
}

static const struct {
    const char *name;
    int (*run)(struct call *call);
    const char *summary;
} functions[] = {
    {"bootstrap-ratio", call_bootstrap, "ratio of two medians, with its interval"},
    {"fisher", call_fisher, "do two shares differ"},
    {"hodges-lehmann", call_hodges_lehmann, "middle of paired differences, with its interval"},
    {"holm", call_holm, "p values adjusted for being looked at together"},
    {"mann-kendall", call_mann_kendall, "does a series rise or fall"},
    {"mann-whitney", call_mann_whitney, "is one sample above the other"},
    {"median", call_median, "median and median distance from it"},
    {"modes", call_modes, "do values fall into two groups"},
    {"quantile-interval", call_quantile, "a quantile with its order-statistic interval"},
    {"quantile-ranks", call_quantile_ranks, "which ranks bound a quantile of n values"},
    {"tail-exceedance", call_tail, "how many times more requests lie in the tail"},
    {"trend-exact", call_trend_exact, "every change of an exact series"},
    {"trend-steps", call_trend_steps, "change points of a noisy series"},
    {"wilcoxon", call_wilcoxon, "are paired differences centred on 0"},
};
#define FUNCTIONS (sizeof functions / sizeof *functions)

void stats_json_list(FILE *out)
{
    for (size_t i = 0; i < FUNCTIONS; i++) {
        fprintf(out, "  %-18s %s\n", functions[i].name, functions[i].summary);
    }
}

struct json *stats_json(const char *name, const struct json *input, struct err *err)
{
    size_t i = 0;
    while (i < FUNCTIONS && strcmp(functions[i].name, name) != 0) {
        i++;
    }
    if (i == FUNCTIONS) {
        err_set(err, -ENOENT, "no statistic of this name: codeq-bench stats --help lists them");
        return NULL;
    }
    struct err unused;
    struct call call = {.err = err != NULL ? err : &unused, .out = json_new_object()};
    fields_begin(&call.fields, input, "", call.err);
    json_add_string(call.out, "schema", STATS_JSON_SCHEMA);
    json_add_string(call.out, "name", name);
    int rc = functions[i].run(&call);
    for (size_t k = 0; k < call.vectors_count; k++) {
        free(call.vectors[k].values);
    }
    if (rc != 0) {
        json_free(call.out);
        return NULL;
    }
    return call.out;
}
