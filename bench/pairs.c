#include "pairs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double quantiles[] = {0.5, 0.9, 0.99};
static const char *const quantile_names[] = {"latency_ns_p50", "latency_ns_p90", "latency_ns_p99"};
#define QUANTILES (sizeof quantiles / sizeof *quantiles)
#define SAMPLES_BEYOND_MIN 20

struct pairs *pairs_new(const char *operation)
{
    struct pairs *pairs = calloc(1, sizeof *pairs);
    if (pairs == NULL) {
        abort();
    }
    snprintf(pairs->operation, sizeof pairs->operation, "%s", operation);
    return pairs;
}

void pairs_free(struct pairs *pairs)
{
    if (pairs == NULL) {
        return;
    }
    for (size_t c = 0; c < pairs->call_count; c++) {
        for (size_t i = 0; i < pairs->count; i++) {
            hist_fini(&pairs->calls[c].a[i]);
            hist_fini(&pairs->calls[c].b[i]);
        }
    }
    free(pairs);
}

/* What one line says. */
struct run {
    double figures[3];
    struct hist calls[PAIRS_CALLS_MAX];
    char names[PAIRS_CALLS_MAX][32];
    size_t call_count;
};

static const char *const figures[] = {"time_ns_per_op", "client_cpu_us_per_op",
                                      "redis_cpu_us_per_op"};
#define FIGURES (sizeof figures / sizeof *figures)

static void run_fini(struct run *run)
{
    for (size_t i = 0; i < run->call_count; i++) {
        hist_fini(&run->calls[i]);
    }
}

static int read_run(struct run *run, const struct json *line, struct err *err)
{
    double ops = json_number(json_get(line, "ops"), 0);
    double dur_ns = json_number(json_get(line, "dur_ns"), 0);
    double cpu_us = json_number(json_get(line, "cpu_us"), 0);
    double redis_cpu_us = json_number(json_get(line, "redis_cpu_us"), 0);
    memset(run, 0, sizeof *run);
    if (!(ops > 0 && dur_ns > 0 && cpu_us > 0 && redis_cpu_us > 0)) {
        return err_set(err, -EBADMSG,
                       "run: ops, dur_ns, cpu_us or redis_cpu_us is missing or not above 0");
    }
    run->figures[0] = dur_ns / ops;
    run->figures[1] = cpu_us / ops;
    run->figures[2] = redis_cpu_us / ops;
    const struct json *hdr = json_get(line, "hdr");
    for (const struct json *c = json_first(hdr); c != NULL; c = json_next(c)) {
        const char *text = json_string(json_get(c, "b64"), "");
        const char *name = json_key(c);
        if (run->call_count == PAIRS_CALLS_MAX || name == NULL || strlen(name) > 31) {
            run_fini(run);
            return err_set(err, -EBADMSG, "run: hdr: more than %d operations, or a long name",
                           PAIRS_CALLS_MAX);
        }
        int code = hist_decode(&run->calls[run->call_count], text, strlen(text), err);
        if (code != 0) {
            run_fini(run);
            return err_prefix(err, -EBADMSG, "run: hdr.%s", name);
        }
        snprintf(run->names[run->call_count++], 32, "%s", name);
    }
    return 0;
}

/* Both runs have the operations, in the order, that the first pair had. */
static bool alike(const struct pairs *pairs, const struct run *a, const struct run *b)
{
    bool same = a->call_count == b->call_count && a->call_count > 0 &&
                (pairs->count == 0 || a->call_count == pairs->call_count);
    for (size_t i = 0; same && i < a->call_count; i++) {
        same = strcmp(a->names[i], b->names[i]) == 0 &&
               (pairs->count == 0 || strcmp(a->names[i], pairs->calls[i].name) == 0) &&
               a->calls[i].total > 0 && b->calls[i].total > 0 &&
               a->calls[i].config.digits == b->calls[i].config.digits &&
               a->calls[i].config.lowest_ns == b->calls[i].config.lowest_ns;
    }
    return same;
}

static void name_metrics(struct pairs *pairs, const struct run *run)
{
    char operation[sizeof pairs->operation];
    memcpy(operation, pairs->operation, sizeof operation);
    for (size_t i = 0; i < FIGURES; i++) {
        snprintf(pairs->metrics[pairs->metric_count++].id, METRIC_ID_BYTES_MAX, "%s.%s", operation,
                 figures[i]);
    }
    for (size_t c = 0; c < run->call_count; c++) {
        snprintf(pairs->calls[c].name, sizeof pairs->calls[c].name, "%s", run->names[c]);
        for (size_t q = 0; q < QUANTILES; q++) {
            snprintf(pairs->metrics[pairs->metric_count++].id, METRIC_ID_BYTES_MAX, "%s.%s",
                     run->names[c], quantile_names[q]);
        }
    }
    pairs->call_count = run->call_count;
}

int pairs_add(struct pairs *pairs, const struct json *a, const struct json *b, struct err *err)
{
    struct run runs[2];
    if (pairs->count + pairs->unsteady >= PAIRS_MAX) {
        return err_set(err, -E2BIG, "more than %d pairs", PAIRS_MAX);
    }
    int code = read_run(&runs[0], a, err);
    if (code != 0) {
        return code;
    }
    code = read_run(&runs[1], b, err);
    if (code == 0 && !alike(pairs, &runs[0], &runs[1])) {
        code = err_set(err, -EBADMSG, "run: hdr: its operations differ from the other runs'");
        run_fini(&runs[1]);
    }
    if (code != 0) {
        run_fini(&runs[0]);
        return code;
    }
    if (!json_bool(json_get(a, "steady"), true) || !json_bool(json_get(b, "steady"), true)) {
        run_fini(&runs[0]);
        run_fini(&runs[1]);
        pairs->unsteady++;
        return 0;
    }
    if (pairs->count == 0) {
        name_metrics(pairs, &runs[0]);
    }
    size_t at = pairs->count++;
    for (int side = 0; side < 2; side++) {
        const struct run *run = &runs[side];
        size_t m = 0;
        for (size_t i = 0; i < FIGURES; i++, m++) {
            *(side == 0 ? &pairs->metrics[m].a[at] : &pairs->metrics[m].b[at]) = run->figures[i];
        }
        for (size_t c = 0; c < run->call_count; c++) {
            *(side == 0 ? &pairs->calls[c].a[at] : &pairs->calls[c].b[at]) = run->calls[c];
            for (size_t q = 0; q < QUANTILES; q++, m++) {
                struct pairs_metric *metric = &pairs->metrics[m];
                *(side == 0 ? &metric->a[at] : &metric->b[at]) =
                    (double)hist_quantile_ns(&run->calls[c], quantiles[q]);
                metric->few_samples =
                    metric->few_samples ||
                    hist_beyond_quantile(&run->calls[c], quantiles[q]) < SAMPLES_BEYOND_MIN;
            }
        }
    }
    return 0;
}

static int judge_tail(const struct pairs_call *call, size_t count, struct pairs_tail *tail,
                      struct err *err)
{
    struct hist pooled;
    int64_t above_a[PAIRS_MAX];
    int64_t above_b[PAIRS_MAX];
    int64_t n_a[PAIRS_MAX];
    int64_t n_b[PAIRS_MAX];
    struct rank_test test;
    int code = hist_init(&pooled, &call->a[0].config, err);
    for (size_t i = 0; i < count && code == 0; i++) {
        code = hist_merge(&pooled, &call->a[i], err);
        if (code != 0) {
            hist_fini(&pooled);
        }
    }
    if (code != 0) {
        return code;
    }
    tail->call = call->name;
    tail->threshold_ns = hist_quantile_ns(&pooled, PAIRS_TAIL_P);
    tail->samples_a = hist_count(&pooled);
    hist_fini(&pooled);
    for (size_t i = 0; i < count; i++) {
        n_a[i] = hist_count(&call->a[i]);
        n_b[i] = hist_count(&call->b[i]);
        above_a[i] = hist_above(&call->a[i], tail->threshold_ns);
        above_b[i] = hist_above(&call->b[i], tail->threshold_ns);
    }
    code = stats_tail(above_a, n_a, above_b, n_b, count, VERDICT_LEVEL, &tail->ratio, &test, err);
    tail->p = code == 0 ? test.p_two_sided : 1;
    return code;
}

int pairs_tails(const struct pairs *pairs, struct pairs_tail *out, struct err *err)
{
    double p[PAIRS_CALLS_MAX];
    if (pairs->count == 0) {
        return 0;
    }
    for (size_t c = 0; c < pairs->call_count; c++) {
        int code = judge_tail(&pairs->calls[c], pairs->count, &out[c], err);
        if (code != 0) {
            return code;
        }
        p[c] = out[c].p;
    }
    int code = stats_holm(p, pairs->call_count, p, err);
    if (code != 0) {
        return code;
    }
    for (size_t c = 0; c < pairs->call_count; c++) {
        struct pairs_tail *t = &out[c];
        t->p = p[c];
        t->verdict = t->samples_a < PAIRS_TAIL_SAMPLES_MIN            ? VERDICT_INCONCLUSIVE
                     : t->p <= VERDICT_ALPHA && t->ratio.estimate > 1 ? VERDICT_WORSE
                     : t->p <= VERDICT_ALPHA                          ? VERDICT_BETTER
                                                                      : VERDICT_INCONCLUSIVE;
    }
    return (int)pairs->call_count;
}
