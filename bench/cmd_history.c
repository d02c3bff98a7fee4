/* codeq-bench history: a metric over the commits that have result sets, and where it changed. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd.h"
#include "history_index.h"
#include "metric.h"
#include "scenario.h"
#include "set.h"
#include "trend.h"
#include "verdict.h"

#define METRIC_DEFAULT "cycle.instructions_per_op"
#define CHART_COLUMNS 72
#define CHANGES_SHOWN 12
/* Timed series are searched in their newest values: all that trend_steps takes where one is shown,
 * fewer where many are, so that the answer comes within two seconds. */
#define SEARCHED_ONE TREND_VALUES_MAX
#define SEARCHED_MANY 150

static const char help[] =
    "codeq-bench history shows a metric over the commits that have result sets, and its "
    "changes.\n\n"
    "usage: codeq-bench history [OPTION...] [METRIC|SCENARIO]\n\n"
    "METRIC is an id such as claim.latency_ns_p99 and is shown for every scenario; SCENARIO shows\n"
    "all its metrics. Without one: " METRIC_DEFAULT ".\n\n"
    "  --scenario ID    with METRIC: only this scenario\n"
    "  --env ENV8       sets of this environment (default: that of the newest set)\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --index DIR      where the index is kept (default: .index below them)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "A counted metric is exact: every difference is a change. A timed one changes where its level\n"
    "does (E-divisive, p < 0.005, 2 % and more, at least 3 commits long, the last 500 sets); such "
    "a\n"
    "change is a hypothesis: compare the two commits.\n\n"
    "exit codes: 0 ok, 2 usage or no sets, 5 a set is broken or newer than this program\n\n"
    "examples:\n"
    "  codeq-bench history\n"
    "  codeq-bench history claim.latency_ns_p99 --scenario scheduler-create-claim-complete\n"
    "  codeq-bench history json-large --json\n";

struct history_options {
    const char *results_dir;
    const char *index_dir;
    const char *scenario;
    const char *env8;
    const char *what;
    bool as_json;
};

/* --- the order of commits --- */

struct commit_time {
    char hash[65];
    int64_t at; /* seconds since the epoch */
    size_t rank; /* in git's order, oldest first */
};

struct commit_times {
    struct commit_time *items;
    size_t count;
};

static int by_hash(const void *a, const void *b)
{
    return strcmp(((const struct commit_time *)a)->hash, ((const struct commit_time *)b)->hash);
}

/* When git committed what; empty outside a checkout. */
static void read_commit_times(const char *results_dir, struct commit_times *out)
{
    const char *argv[] = {"git",          "-C",        results_dir,       "log", "--all",
                          "--topo-order", "--reverse", "--format=%H %ct", NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC, &text,
                         &errors, NULL);
    size_t capacity = 0;
    for (char *line = text; code == 0 && line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (out->count == capacity) {
            capacity = capacity == 0 ? 256 : 2 * capacity;
            out->items = reallocarray(out->items, capacity, sizeof *out->items);
            if (out->items == NULL) {
                abort();
            }
        }
        struct commit_time *item = &out->items[out->count];
        if (sscanf(line, "%64s %" SCNd64, item->hash, &item->at) == 2) {
            item->rank = out->count++;
        }
        line = end != NULL ? end + 1 : NULL;
    }
    if (code >= 0) {
        free(text);
        free(errors);
    }
    if (out->count > 0) {
        qsort(out->items, out->count, sizeof *out->items, by_hash);
    }
}

/* --- series --- */

struct point {
    int64_t at; /* of the commit where git knows it, else of the set */
    size_t rank;
    uint32_t set;
    double value;
};

struct series {
    char metric[METRIC_ID_BYTES_MAX];
    char scenario[64];
    struct point *points;
    size_t count;
    size_t left_out; /* results of other revisions of the scenario */
    struct trend_change *changes; /* `at` counts points from `searched_from` */
    size_t change_count;
    size_t searched_from;
};

struct history {
    const struct history_options *options;
    struct history_index index;
    struct commit_times times;
    int64_t *set_at; /* by set */
    size_t *set_rank;
    char env8[16];
    size_t other_env; /* sets of other environments */
    struct series *series;
    size_t count;
};

static const char *set_env8(const struct history_set *set)
{
    const char *slash = strrchr(set->key, '/');
    return slash != NULL ? slash + 1 : "";
}

static void order_sets(struct history *h)
{
    h->set_at = calloc(h->index.count + 1, sizeof *h->set_at);
    h->set_rank = calloc(h->index.count + 1, sizeof *h->set_rank);
    if (h->set_at == NULL || h->set_rank == NULL) {
        abort();
    }
    int64_t newest = INT64_MIN;
    for (size_t i = 0; i < h->index.count; i++) {
        const struct history_set *set = &h->index.sets[i];
        struct commit_time wanted = {0};
        snprintf(wanted.hash, sizeof wanted.hash, "%.*s", (int)strspn(set->key, "0123456789abcdef"),
                 set->key);
        const struct commit_time *found =
            h->times.count == 0
                ? NULL
                : bsearch(&wanted, h->times.items, h->times.count, sizeof *h->times.items, by_hash);
        int64_t created_ns = 0;
        clock_parse_rfc3339(set->created, &created_ns);
        h->set_at[i] = found != NULL ? found->at : created_ns / NS_PER_SEC;
        h->set_rank[i] = found != NULL ? found->rank : SIZE_MAX;
        if (h->options->env8 == NULL && created_ns >= newest) {
            newest = created_ns;
            snprintf(h->env8, sizeof h->env8, "%s", set_env8(set));
        }
    }
    if (h->options->env8 != NULL) {
        snprintf(h->env8, sizeof h->env8, "%s", h->options->env8);
    }
    for (size_t i = 0; i < h->index.count; i++) {
        h->other_env += strcmp(set_env8(&h->index.sets[i]), h->env8) != 0;
    }
}

static int by_time(const void *a, const void *b)
{
    const struct point *x = a;
    const struct point *y = b;
    if (x->at != y->at) {
        return (x->at > y->at) - (x->at < y->at);
    }
    if (x->rank != y->rank) {
        return (x->rank > y->rank) - (x->rank < y->rank);
    }
    return (x->set > y->set) - (x->set < y->set);
}

static int by_scenario(const void *a, const void *b)
{
    return strcmp(((const struct history_row *)a)->scenario,
                  ((const struct history_row *)b)->scenario);
}

/* A row that was written twice counts once, as the index says. */
static void drop_twins(struct series *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (kept == 0 || s->points[kept - 1].set != s->points[i].set) {
            s->points[kept++] = s->points[i];
        }
    }
    s->count = kept;
}

static int find_changes(struct series *s, size_t searched_max, struct err *err)
{
    const struct metric *metric = metric_find(s->metric);
    bool exact = metric != NULL && metric->class == METRIC_COUNTED;
    s->searched_from = exact || s->count <= searched_max ? 0 : s->count - searched_max;
    size_t n = s->count - s->searched_from;
    double *values = calloc(n + 1, sizeof *values);
    s->changes = calloc(n + 1, sizeof *s->changes);
    if (values == NULL || s->changes == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        values[i] = s->points[s->searched_from + i].value;
    }
    const struct trend_options options = {.ratio_min = VERDICT_EFFECT_MIN, .seed = 1};
    int found = exact ? (int)trend_exact(values, n, s->changes, n)
                      : trend_steps(values, n, &options, s->changes, err);
    free(values);
    s->change_count = found > 0 ? (size_t)found : 0;
    return found < 0 ? found : 0;
}

/* One scenario's rows of a metric, in the order of commits. */
static void add_series(struct history *h, const char *metric, const struct history_row *rows,
                       size_t n)
{
    h->series = reallocarray(h->series, h->count + 1, sizeof *h->series);
    struct point *points = calloc(n + 1, sizeof *points);
    if (h->series == NULL || points == NULL) {
        abort();
    }
    struct series *s = &h->series[h->count++];
    *s = (struct series){.points = points};
    snprintf(s->metric, sizeof s->metric, "%s", metric);
    snprintf(s->scenario, sizeof s->scenario, "%s", rows[0].scenario);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(set_env8(&h->index.sets[rows[i].set]), h->env8) == 0) {
            points[s->count++] = (struct point){h->set_at[rows[i].set], h->set_rank[rows[i].set],
                                                rows[i].set, rows[i].value};
        }
    }
    if (s->count == 0) {
        free(points);
        h->count--;
        return;
    }
    qsort(points, s->count, sizeof *points, by_time);
    drop_twins(s);
    /* Another scenario file is another series: keep that of the newest point. */
    const char *hash = "";
    uint32_t newest = points[s->count - 1].set;
    for (size_t i = 0; i < n; i++) {
        hash = rows[i].set == newest ? rows[i].hash : hash;
    }
    bool *foreign = calloc(h->index.count + 1, sizeof *foreign);
    if (foreign == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        foreign[rows[i].set] = strcmp(rows[i].hash, hash) != 0;
    }
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (!foreign[points[i].set]) {
            points[kept++] = points[i];
        }
    }
    free(foreign);
    s->left_out = s->count - kept;
    s->count = kept;
}

static int add_metric(struct history *h, const char *metric, const char *scenario, struct err *err)
{
    struct history_row *rows = NULL;
    size_t n = 0;
    int code = history_index_read(&h->index, metric, &rows, &n, err);
    if (code == 0 && n > 0) {
        qsort(rows, n, sizeof *rows, by_scenario);
    }
    for (size_t i = 0; i < n && code == 0;) {
        size_t end = i + 1;
        while (end < n && strcmp(rows[end].scenario, rows[i].scenario) == 0) {
            end++;
        }
        if (scenario == NULL || strcmp(rows[i].scenario, scenario) == 0) {
            add_series(h, metric, rows + i, end - i);
        }
        i = end;
    }
    free(rows);
    return code;
}

static const char *const scopes[] = {"cycle", "create", "claim", "complete", "run"};

static int collect(struct history *h, struct err *err)
{
    const char *what = h->options->what != NULL ? h->options->what : METRIC_DEFAULT;
    if (metric_find(what) != NULL) {
        return add_metric(h, what, h->options->scenario, err);
    }
    int code = 0;
    for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
        for (size_t m = 0; m < metric_count && code == 0; m++) {
            char id[METRIC_ID_BYTES_MAX];
            snprintf(id, sizeof id, "%s.%s", scopes[s], metric_table[m].name);
            if (metric_find(id) != NULL) {
                code = add_metric(h, id, what, err);
            }
        }
    }
    if (code == 0 && h->count == 0) {
        code =
            err_set(err, -ENOENT,
                    "history: '%.60s' is neither a metric nor a scenario that has results", what);
    }
    return code;
}

/* --- output --- */

static void commit_of(const struct history *h, uint32_t set, char out[80])
{
    const char *key = h->index.sets[set].key;
    snprintf(out, 80, "%.*s", (int)strcspn(key, "/"), key);
}

static void short_commit(const struct history *h, uint32_t set, char out[32])
{
    char full[80];
    commit_of(h, set, full);
    const char *dirty = strstr(full, "-dirty");
    snprintf(out, 32, "%.12s%s", full, dirty != NULL ? "-dirty" : "");
}

static const char *figure(double value, char out[SET_NUMBER_BYTES])
{
    return set_number(value, value == floor(value) || fabs(value) >= 1e5 ? 0 : 2, out);
}

/* The last points as bars between the least and the largest. */
static void print_chart(const struct series *s)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    size_t from = s->count > CHART_COLUMNS ? s->count - CHART_COLUMNS : 0;
    double least = s->points[from].value;
    double most = least;
    for (size_t i = from; i < s->count; i++) {
        least = fmin(least, s->points[i].value);
        most = fmax(most, s->points[i].value);
    }
    fputs("  ", stdout);
    for (size_t i = from; i < s->count; i++) {
        int bar = most > least ? (int)((s->points[i].value - least) / (most - least) * 7.999) : 0;
        fputs(bars[bar], stdout);
    }
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    printf("  %s..%s\n", figure(least, a), figure(most, b));
}

static void print_series(const struct history *h, const struct series *s)
{
    const struct metric *metric = metric_find(s->metric);
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char commit[32];
    printf("%s %s: %zu sets, newest %s %s\n", s->scenario, s->metric, s->count,
           figure(s->points[s->count - 1].value, a), metric->unit);
    print_chart(s);
    if (s->left_out > 0) {
        printf("  %zu results of other revisions of the scenario are left out\n", s->left_out);
    }
    if (s->searched_from > 0) {
        printf("  changes are looked for in the last %zu\n", s->count - s->searched_from);
    }
    size_t first = s->change_count > CHANGES_SHOWN ? s->change_count - CHANGES_SHOWN : 0;
    if (first > 0) {
        printf("  %zu earlier changes (--json has them)\n", first);
    }
    for (size_t i = first; i < s->change_count; i++) {
        const struct trend_change *c = &s->changes[i];
        char percent[32] = "";
        if (c->before != 0) {
            snprintf(percent, sizeof percent, "%+.2f %%",
                     100 * (c->after - c->before) / fabs(c->before));
        }
        short_commit(h, s->points[s->searched_from + c->at].set, commit);
        bool better = (c->after > c->before) == (metric->better == METRIC_HIGHER);
        printf("  %-20s %14s -> %-14s %12s  %s", commit, figure(c->before, a), figure(c->after, b),
               percent, better ? "better" : "worse");
        if (metric->class == METRIC_TIMED) {
            printf(" (p %.3f)", c->p);
        }
        puts("");
    }
    if (s->change_count == 0) {
        puts("  no change");
    }
}

static void add_series_json(const struct history *h, struct json *list, const struct series *s)
{
    const struct metric *metric = metric_find(s->metric);
    char commit[80];
    struct json *one = json_new_object();
    json_add_string(one, "metric", s->metric);
    json_add_string(one, "scenario", s->scenario);
    json_add_string(one, "unit", metric->unit);
    json_add_string(one, "class", metric_class_name(metric->class));
    json_add_string(one, "better", metric_better_name(metric->better));
    json_add_int(one, "left_out", (int64_t)s->left_out);
    struct json *points = json_add_array(one, "points");
    for (size_t i = 0; i < s->count; i++) {
        struct json *point = json_new_object();
        commit_of(h, s->points[i].set, commit);
        json_add_string(point, "commit", commit);
        json_add_string(point, "created", h->index.sets[s->points[i].set].created);
        json_add_number(point, "value", s->points[i].value);
        json_append(points, point);
    }
    struct json *changes = json_add_array(one, "changes");
    for (size_t i = 0; i < s->change_count; i++) {
        const struct trend_change *c = &s->changes[i];
        struct json *change = json_new_object();
        size_t at = s->searched_from + c->at;
        commit_of(h, s->points[at].set, commit);
        json_add_int(change, "at", (int64_t)at);
        json_add_string(change, "commit", commit);
        json_add_number(change, "before", c->before);
        json_add_number(change, "after", c->after);
        if (metric->class == METRIC_TIMED) {
            json_add_number(change, "p", c->p);
        }
        json_append(changes, change);
    }
    json_append(list, one);
}

static void print_all(const struct history *h)
{
    if (h->options->as_json) {
        struct json *root = json_new_object();
        json_add_string(root, "schema", "codeq-lab.history/1");
        json_add_string(root, "env8", h->env8);
        json_add_int(root, "sets", (int64_t)h->index.count);
        json_add_int(root, "sets_of_other_environments", (int64_t)h->other_env);
        struct json *list = json_add_array(root, "series");
        for (size_t i = 0; i < h->count; i++) {
            add_series_json(h, list, &h->series[i]);
        }
        char *text = json_print_pretty(root);
        fputs(text, stdout);
        free(text);
        json_free(root);
        return;
    }
    for (size_t i = 0; i < h->count; i++) {
        fputs(i > 0 ? "\n" : "", stdout);
        print_series(h, &h->series[i]);
    }
    if (h->count == 0) {
        puts("no set of this environment has the metric");
    }
    if (h->other_env > 0) {
        printf("\nenvironment %s; %zu sets of others are left out (--env)\n", h->env8,
               h->other_env);
    }
}

static int run(const struct history_options *options, struct err *err)
{
    struct history h = {.options = options};
    int code = history_index_open(&h.index, options->results_dir, options->index_dir, err);
    if (code == 0 && h.index.count == 0) {
        code = err_set(err, -ENOENT, "history: %s has no result sets: codeq-bench run makes them",
                       options->results_dir);
    }
    if (code == 0) {
        read_commit_times(options->results_dir, &h.times);
        order_sets(&h);
        code = collect(&h, err);
    }
    for (size_t i = 0; i < h.count && code == 0; i++) {
        code = find_changes(&h.series[i], h.count > 1 ? SEARCHED_MANY : SEARCHED_ONE, err);
    }
    if (code == 0) {
        print_all(&h);
    }
    for (size_t i = 0; i < h.count; i++) {
        free(h.series[i].points);
        free(h.series[i].changes);
    }
    free(h.series);
    free(h.set_at);
    free(h.set_rank);
    free(h.times.items);
    history_index_close(&h.index);
    return code;
}

int cmd_history(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"scenario", required_argument, NULL, 's'},
        {"env", required_argument, NULL, 'e'},
        {"results", required_argument, NULL, 'r'},
        {"index", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct history_options options = {.results_dir = "results"};
    struct err err;
    for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        switch (c) {
        case 's':
            options.scenario = optarg;
            break;
        case 'e':
            options.env8 = optarg;
            break;
        case 'r':
            options.results_dir = optarg;
            break;
        case 'i':
            options.index_dir = optarg;
            break;
        case 'j':
            options.as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (argc - optind > 1) {
        err_set(&err, -EINVAL, "history: give one metric or scenario, not %d", argc - optind);
        return cmd_fail(CMD_USAGE, &err);
    }
    options.what = argc > optind ? argv[optind] : NULL;
    int code = run(&options, &err);
    if (code != 0) {
        bool unreadable = code == -EBADMSG || code == -EOPNOTSUPP;
        return cmd_fail(unreadable ? CMD_UNREADABLE : CMD_USAGE, &err);
    }
    return CMD_OK;
}
