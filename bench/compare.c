#include "compare.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare_parts.h"
#include "result.h"
#include "set.h"
#include "summary.h"

/* --- budgets --- */

#define BUDGETS_SCHEMA "codeq-lab.budgets/1"

struct allowed {
    char metric[METRIC_ID_BYTES_MAX];
    char scenario[128]; /* "*": every one */
    double to; /* the value that is still taken */
    char reason[160];
};

struct compare_budgets {
    struct metric_budget *by_metric; /* as metric_table */
    struct allowed *allowed; /* those that have not expired */
    size_t allowed_count;
};

static int read_limits(struct compare_budgets *budgets, const struct json *limits, struct err *err)
{
    for (const struct json *c = json_first(limits); c != NULL; c = json_next(c)) {
        const struct metric *metric = metric_by_name(json_key(c));
        if (metric == NULL || metric->class != METRIC_COUNTED) {
            return err_set(err, -EBADMSG, "budgets.%.60s: no counted metric of that name",
                           json_key(c));
        }
        struct metric_budget *budget = &budgets->by_metric[metric - metric_table];
        for (const struct json *f = json_first(c); f != NULL; f = json_next(f)) {
            double value = json_number(f, -1);
            double *field = strcmp(json_key(f), "warn_ratio") == 0      ? &budget->warn_ratio
                            : strcmp(json_key(f), "fail_ratio") == 0    ? &budget->fail_ratio
                            : strcmp(json_key(f), "fail_absolute") == 0 ? &budget->fail_absolute
                                                                        : NULL;
            if (field == NULL || !(value >= 0)) {
                return err_set(err, -EBADMSG,
                               "budgets.%s.%.60s: give warn_ratio, fail_ratio, fail_absolute, each "
                               "a number from 0",
                               metric->name, json_key(f));
            }
            *field = value;
        }
    }
    return 0;
}

static int read_allowed(struct compare_budgets *budgets, const struct json *list, const char *today,
                        struct err *err)
{
    size_t index = 0;
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c), index++) {
        struct allowed allowed = {.to = json_number(json_get(c, "to"), (double)NAN)};
        const char *expires = json_string(json_get(c, "expires"), "");
        snprintf(allowed.metric, sizeof allowed.metric, "%s",
                 json_string(json_get(c, "metric"), ""));
        snprintf(allowed.scenario, sizeof allowed.scenario, "%s",
                 json_string(json_get(c, "scenario"), ""));
        snprintf(allowed.reason, sizeof allowed.reason, "%s",
                 json_string(json_get(c, "reason"), ""));
        if (metric_find(allowed.metric) == NULL || allowed.scenario[0] == '\0' ||
            allowed.reason[0] == '\0' || isnan(allowed.to) || strlen(expires) != 10 ||
            expires[4] != '-' || expires[7] != '-' ||
            json_string(json_get(c, "owner"), NULL) == NULL) {
            return err_set(err, -EBADMSG,
                           "allowed[%zu]: give metric, scenario (or *), to, reason, owner, expires "
                           "(2026-12-31)",
                           index);
        }
        if (strcmp(expires, today) < 0) {
            continue;
        }
        budgets->allowed =
            reallocarray(budgets->allowed, budgets->allowed_count + 1, sizeof *budgets->allowed);
        if (budgets->allowed == NULL) {
            abort();
        }
        budgets->allowed[budgets->allowed_count++] = allowed;
    }
    return 0;
}

struct compare_budgets *compare_budgets_read(const char *path, const char *today, struct err *err)
{
    struct compare_budgets *budgets = calloc(1, sizeof *budgets);
    struct json *json = NULL;
    if (budgets == NULL ||
        (budgets->by_metric = calloc(metric_count, sizeof(struct metric_budget))) == NULL) {
        abort();
    }
    for (size_t i = 0; i < metric_count; i++) {
        budgets->by_metric[i] = metric_table[i].budget;
    }
    if (path == NULL) {
        return budgets;
    }
    int code = set_read_json(path, BUDGETS_SCHEMA, &json, err);
    if (code == 0) {
        code = read_limits(budgets, json_get(json, "budgets"), err);
        if (code == 0) {
            code = read_allowed(budgets, json_get(json, "allowed"), today, err);
        }
        if (code != 0) {
            err_prefix(err, code, "%s", path);
        }
    }
    json_free(json);
    if (code != 0) {
        compare_budgets_free(budgets);
        return NULL;
    }
    return budgets;
}

void compare_budgets_free(struct compare_budgets *budgets)
{
    if (budgets != NULL) {
        free(budgets->by_metric);
        free(budgets->allowed);
        free(budgets);
    }
}

/* --- verdicts --- */

void compare_judge(struct compare_metric *m, const struct compare_budgets *budgets,
                   const char *scenario)
{
    const struct metric_budget *budget = &budgets->by_metric[m->metric - metric_table];
    double growth = m->metric->better == METRIC_LOWER ? m->b - m->a : m->a - m->b;
    double limit = fmax(budget->fail_absolute, budget->fail_ratio * fabs(m->a));
    /* What slopes of whole numbers lose when they are divided. */
    double rounding = 1e-9 * fmax(fabs(m->a), fabs(m->b));
    double sure = limit + 3 * m->noise + rounding;
    m->leak = strcmp(m->metric->name, "live_bytes_per_op") == 0 && m->b > 3 * m->noise + rounding;
    m->warning = false;
    m->verdict = VERDICT_SAME;
    if (growth > sure) {
        m->verdict = VERDICT_WORSE;
    } else if (growth < -sure) {
        m->verdict = VERDICT_BETTER;
    } else if (m->noise > 0 && fabs(growth) > limit + rounding) {
        m->verdict = VERDICT_INCONCLUSIVE;
    }
    if (m->leak) {
        m->verdict = VERDICT_WORSE;
    }
    m->warning = m->verdict == VERDICT_SAME && budget->warn_ratio > 0 &&
                 growth > budget->warn_ratio * fabs(m->a) + 3 * m->noise + rounding;
    m->allowed[0] = '\0';
    for (size_t i = 0; m->verdict == VERDICT_WORSE && i < budgets->allowed_count; i++) {
        const struct allowed *allowed = &budgets->allowed[i];
        bool enough = m->metric->better == METRIC_LOWER ? m->b <= allowed->to + rounding
                                                        : m->b >= allowed->to - rounding;
        if (strcmp(allowed->metric, m->id) == 0 && enough &&
            (strcmp(allowed->scenario, "*") == 0 || strcmp(allowed->scenario, scenario) == 0)) {
            m->verdict = VERDICT_SAME;
            m->warning = true;
            snprintf(m->allowed, sizeof m->allowed, "%s", allowed->reason);
        }
    }
}

bool compare_env_differs(const struct json *a, const struct json *b, char *out_text, size_t bytes)
{
    const struct json *x = json_get(a, "identity");
    const struct json *y = json_get(b, "identity");
    for (const struct json *c = json_first(x); c != NULL; c = json_next(c)) {
        const char *other = json_string(json_get(y, json_key(c)), NULL);
        if (other == NULL || strcmp(other, json_string(c, "")) != 0) {
            snprintf(out_text, bytes, "%.60s differs: '%.80s' in A, '%.80s' in B", json_key(c),
                     json_string(c, ""), other != NULL ? other : "nothing");
            return true;
        }
    }
    for (const struct json *c = json_first(y); c != NULL; c = json_next(c)) {
        if (json_get(x, json_key(c)) == NULL) {
            snprintf(out_text, bytes, "%.60s differs: 'nothing' in A, '%.80s' in B", json_key(c),
                     json_string(c, ""));
            return true;
        }
    }
    return false;
}

static const struct json *find_metric(const struct json *summary, const char *id)
{
    for (const struct json *c = json_first(json_get(summary, "metrics")); c != NULL;
         c = json_next(c)) {
        if (strcmp(json_string(json_get(c, "id"), ""), id) == 0) {
            return c;
        }
    }
    return NULL;
}

static bool read_value(const struct json *json, double *out_value, double *out_range)
{
    *out_value = json_number(json_get(json, "value"), (double)NAN);
    *out_range = json_number(json_get(json, "range"), (double)NAN);
    return isfinite(*out_value) && isfinite(*out_range) && *out_range >= 0;
}

static int compare_metrics(struct compare_scenario *out, const struct json *a, const struct json *b,
                           const char *a_dir, const char *b_dir,
                           const struct compare_budgets *budgets, struct err *err)
{
    for (const struct json *c = json_first(json_get(a, "metrics")); c != NULL; c = json_next(c)) {
        const char *id = json_string(json_get(c, "id"), "");
        const struct metric *metric = metric_find(id);
        const struct json *other = find_metric(b, id);
        /* A metric this program does not know, or that one side could not count, is no verdict. */
        if (metric == NULL || metric->class != METRIC_COUNTED || other == NULL ||
            out->metric_count == COMPARE_METRICS_MAX) {
            continue;
        }
        struct compare_metric *m = &out->metrics[out->metric_count];
        double ranges[2];
        *m = (struct compare_metric){.metric = metric};
        snprintf(m->id, sizeof m->id, "%s", id);
        if (!read_value(c, &m->a, &ranges[0]) || !read_value(other, &m->b, &ranges[1])) {
            return err_set(err, -EBADMSG, "%s/summary.json: %s: value or range is no number",
                           read_value(c, &m->a, &ranges[0]) ? b_dir : a_dir, id);
        }
        out->metric_count++;
        m->noise = fmax(ranges[0], ranges[1]);
        compare_judge(m, budgets, out->id);
        if (m->verdict == VERDICT_WORSE || m->verdict == VERDICT_BETTER || m->warning) {
            int code = compare_parts_find(m, a_dir, b_dir, err);
            if (code != 0) {
                return code;
            }
        }
        static const int weight[] = {0, 1, 3, 2, 4};
        if (weight[m->verdict] > weight[out->verdict]) {
            out->verdict = m->verdict;
        }
    }
    if (out->metric_count == 0) {
        out->verdict = VERDICT_NOT_COMPARABLE;
        snprintf(out->reason, sizeof out->reason, "no counted metric in common");
    }
    return 0;
}

static bool check_equal(struct compare_scenario *out, const char *name, const char *a,
                        const char *b)
{
    if (strcmp(a, b) == 0) {
        return true;
    }
    out->verdict = VERDICT_NOT_COMPARABLE;
    snprintf(out->reason, sizeof out->reason, "%s differs: '%.64s' in A, '%.64s' in B", name, a, b);
    return false;
}

int compare_scenario(struct compare_scenario *out, const char *a_dir, const char *b_dir,
                     const struct compare_budgets *budgets, struct err *err)
{
    char path[2 * RESULT_PATH_MAX];
    struct json *a = NULL;
    struct json *b = NULL;
    *out = (struct compare_scenario){0};
    const char *slash = strrchr(b_dir, '/');
    snprintf(out->id, sizeof out->id, "%s", slash != NULL ? slash + 1 : b_dir);
    snprintf(path, sizeof path, "%s/summary.json", a_dir);
    int code = set_read_json(path, SUMMARY_SCHEMA, &a, err);
    if (code == 0) {
        snprintf(path, sizeof path, "%s/summary.json", b_dir);
        code = set_read_json(path, SUMMARY_SCHEMA, &b, err);
    }
    if (code == 0) {
        static const char *const fields[] = {"redis_config_sha256", "operation", "placement",
                                             "rank_rule"};
        bool equal = check_equal(out, "scenario sha256",
                                 json_string(json_get(json_get(a, "scenario"), "sha256"), ""),
                                 json_string(json_get(json_get(b, "scenario"), "sha256"), ""));
        for (size_t i = 0; equal && i < sizeof fields / sizeof *fields; i++) {
            equal = check_equal(out, fields[i], json_string(json_get(a, fields[i]), ""),
                                json_string(json_get(b, fields[i]), ""));
        }
        if (equal) {
            code = compare_metrics(out, a, b, a_dir, b_dir, budgets, err);
            compare_parts_operation(a_dir, b_dir, out->grew, sizeof out->grew);
        }
    }
    json_free(a);
    json_free(b);
    if (code != 0) {
        compare_scenario_fini(out);
    }
    return code;
}

void compare_scenario_fini(struct compare_scenario *scenario)
{
    for (size_t i = 0; i < scenario->metric_count; i++) {
        struct compare_metric *m = &scenario->metrics[i];
        for (size_t p = 0; p < m->part_count; p++) {
            free(m->parts[p].name);
            free(m->parts[p].note);
        }
        free(m->parts);
    }
    scenario->metric_count = 0;
}
