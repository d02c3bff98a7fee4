#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd.h"
#include "compare.h"
#include "set.h"
#include "verify.h"

static const char help[] =
    "codeq-bench compare judges what a commit did to the counted metrics, and names the cause.\n\n"
    "usage: codeq-bench compare [OPTION...] A B\n\n"
    "A is the baseline, B the candidate: commits, tags, anything git can name, or folders of\n"
    "result sets.\n\n"
    "  --fail-on LIST   exit 1 on these: worse, leak, warning (default: worse,leak)\n"
    "  --budgets FILE   limits and allowed regressions (default: bench/budgets.json of the\n"
    "                   checkout, else the built-in ones)\n"
    "  --scenario ID    only this scenario\n"
    "  --results DIR    where result sets are (default: results)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "exit codes: 0 ok, 1 worse, 2 usage or no such set, 3 not comparable, 4 inconclusive,\n"
    "5 a set is broken or newer than this program\n\n"
    "examples:\n"
    "  codeq-bench compare HEAD~1 HEAD\n"
    "  codeq-bench compare v1.0 HEAD --scenario json-large --json\n"
    "  codeq-bench compare main . --fail-on worse,leak,warning\n";

#define SCENARIOS_MAX 64

struct comparison {
    struct result_set a;
    struct result_set b;
    char reason[256]; /* sets that cannot be compared at all; "" */
    struct compare_scenario *scenarios;
    size_t count;
    size_t only_a, only_b;
};

struct colours {
    const char *good, *bad, *weak, *off;
};

static struct colours colours_for(FILE *out)
{
    const char *no = getenv("NO_COLOR");
    if (!isatty(fileno(out)) || (no != NULL && no[0] != '\0')) {
        return (struct colours){"", "", "", ""};
    }
    return (struct colours){"\033[32m", "\033[31m", "\033[33m", "\033[0m"};
}

/* --- finding the two sets --- */

static int read_env(const struct result_set *set, struct json **out, struct err *err)
{
    char path[RESULT_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/env.json", set->dir);
    return set_read_json(path, "codeq-lab.env/1", out, err);
}

/* The newest pair of equal env8; without one, the newest of each and why they differ. */
static int choose_pair(struct comparison *comparison, const struct set_list *a,
                       const struct set_list *b, struct err *err)
{
    for (size_t i = 0; i < b->count; i++) {
        for (size_t k = 0; k < a->count; k++) {
            if (strcmp(a->sets[k].env8, b->sets[i].env8) == 0) {
                comparison->a = a->sets[k];
                comparison->b = b->sets[i];
                return 0;
            }
        }
    }
    struct json *x = NULL;
    struct json *y = NULL;
    comparison->a = a->sets[0];
    comparison->b = b->sets[0];
    int code = read_env(&comparison->a, &x, err);
    if (code == 0) {
        code = read_env(&comparison->b, &y, err);
    }
    if (code == 0 && !compare_env_differs(x, y, comparison->reason, sizeof comparison->reason)) {
        snprintf(comparison->reason, sizeof comparison->reason,
                 "env8 differs: '%s' in A, '%s' in B", comparison->a.env8, comparison->b.env8);
    }
    json_free(x);
    json_free(y);
    return code;
}

static int find_pair(struct comparison *comparison, const char *results_dir, const char *a,
                     const char *b, struct err *err)
{
    struct set_list *lists = calloc(2, sizeof *lists);
    struct verify_counts counts;
    if (lists == NULL) {
        abort();
    }
    int code = set_find(results_dir, a, &lists[0], err);
    if (code == 0) {
        code = set_find(results_dir, b, &lists[1], err);
    }
    if (code == 0) {
        code = choose_pair(comparison, &lists[0], &lists[1], err);
    }
    const struct result_set *sets[] = {&comparison->a, &comparison->b};
    for (int i = 0; i < 2 && code == 0; i++) {
        code = verify_set(sets[i]->dir, &counts, err);
        if (code != 0) {
            code = code == -EOPNOTSUPP ? code : -EBADMSG;
            err_prefix(err, code, "%s", sets[i]->dir);
        }
    }
    free(lists);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_summary(const struct result_set *set, const char *scenario)
{
    char path[2 * RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/summary.json", set->dir, scenario);
    return access(path, R_OK) == 0;
}

static int compare_all(struct comparison *comparison, const char *only,
                       const struct compare_budgets *budgets, struct err *err)
{
    struct result_list files;
    char *names[SCENARIOS_MAX];
    size_t count = 0;
    int code = result_list_files(comparison->b.dir, &files, err);
    if (code != 0) {
        return code;
    }
    for (size_t i = 0; i < files.count && count < SCENARIOS_MAX; i++) {
        char *slash = strchr(files.paths[i], '/');
        if (slash == NULL || strcmp(slash, "/summary.json") != 0) {
            continue;
        }
        *slash = '\0';
        if (only != NULL && strcmp(only, files.paths[i]) != 0) {
            continue;
        }
        if (has_summary(&comparison->a, files.paths[i])) {
            names[count++] = files.paths[i];
        } else {
            comparison->only_b++;
        }
    }
    qsort(names, count, sizeof *names, by_name);
    comparison->scenarios = calloc(count + 1, sizeof *comparison->scenarios);
    if (comparison->scenarios == NULL) {
        abort();
    }
    for (size_t i = 0; i < count && code == 0; i++) {
        char a_dir[RESULT_PATH_MAX];
        char b_dir[RESULT_PATH_MAX];
        snprintf(a_dir, sizeof a_dir, "%.800s/%.200s", comparison->a.dir, names[i]);
        snprintf(b_dir, sizeof b_dir, "%.800s/%.200s", comparison->b.dir, names[i]);
        code = compare_scenario(&comparison->scenarios[i], a_dir, b_dir, budgets, err);
        comparison->count += code == 0;
    }
    result_list_free(&files);
    if (code == 0 && comparison->count == 0) {
        snprintf(comparison->reason, sizeof comparison->reason, "no scenario in common%s%s",
                 only != NULL ? ": " : "", only != NULL ? only : "");
    }
    return code;
}

/* --- the verdict of all --- */

static bool fails(const struct compare_metric *m, const char *fail_on)
{
    return (m->verdict == COMPARE_WORSE && !m->leak && strstr(fail_on, "worse") != NULL) ||
           (m->leak && m->verdict == COMPARE_WORSE && strstr(fail_on, "leak") != NULL) ||
           (m->warning && strstr(fail_on, "warning") != NULL);
}

static int exit_code_of(const struct comparison *comparison, const char *fail_on)
{
    bool worse = false;
    bool unsure = false;
    bool refused = comparison->reason[0] != '\0';
    for (size_t i = 0; i < comparison->count; i++) {
        const struct compare_scenario *s = &comparison->scenarios[i];
        refused = refused || s->verdict == COMPARE_NOT_COMPARABLE;
        for (size_t k = 0; k < s->metric_count; k++) {
            worse = worse || fails(&s->metrics[k], fail_on);
            unsure = unsure || s->metrics[k].verdict == COMPARE_INCONCLUSIVE;
        }
    }
    return worse ? CMD_WORSE : refused ? CMD_NOT_COMPARABLE : unsure ? CMD_INCONCLUSIVE : CMD_OK;
}

/* The metric that leads the first line: what costs most outside the process comes first. */
static int lead_rank(const struct compare_metric *m)
{
    static const char *const order[] = {
        "round_trips_per_op", "redis_commands_per_op", "live_bytes_per_op", "instructions_per_op",
        "redis_calls_per_op", "allocs_per_op",         "syscalls_per_op"};
    int rank = 0;
    while (rank < 7 && strcmp(order[rank], m->metric->name) != 0) {
        rank++;
    }
    return rank;
}

static const struct compare_metric *find_lead(const struct comparison *comparison,
                                              enum compare_verdict verdict,
                                              const struct compare_scenario **out_scenario,
                                              size_t *out_count)
{
    const struct compare_metric *lead = NULL;
    *out_count = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        for (size_t k = 0; k < comparison->scenarios[i].metric_count; k++) {
            const struct compare_metric *m = &comparison->scenarios[i].metrics[k];
            if (m->verdict != verdict) {
                continue;
            }
            (*out_count)++;
            if (lead == NULL || lead_rank(m) < lead_rank(lead)) {
                lead = m;
                *out_scenario = &comparison->scenarios[i];
            }
        }
    }
    return lead;
}

static const char *signed_number(double value, char out[SET_NUMBER_BYTES])
{
    char plain[SET_NUMBER_BYTES];
    int decimals = fabs(value - round(value)) < 5e-7 ? 0 : fabs(value) < 1 ? 4 : 2;
    set_number(value, decimals, plain);
    snprintf(out, SET_NUMBER_BYTES, "%s%.46s", value > 0 ? "+" : "", plain);
    return out;
}

static const char *plain_number(double value, char out[SET_NUMBER_BYTES])
{
    int decimals = fabs(value - round(value)) < 5e-7 ? 0 : fabs(value) < 1 ? 4 : 2;
    return set_number(value, decimals, out);
}

/* One sentence: the verdict and its cause. */
static void first_line(struct buf *out, const struct comparison *comparison)
{
    const struct compare_scenario *scenario = NULL;
    size_t count;
    char n[SET_NUMBER_BYTES];
    char p[SET_NUMBER_BYTES];
    if (comparison->reason[0] != '\0') {
        buf_printf(out, "not comparable: %s", comparison->reason);
        return;
    }
    const enum compare_verdict order[] = {COMPARE_WORSE, COMPARE_INCONCLUSIVE, COMPARE_BETTER};
    for (size_t i = 0; i < 3; i++) {
        const struct compare_metric *m = find_lead(comparison, order[i], &scenario, &count);
        if (m == NULL) {
            continue;
        }
        double delta = m->b - m->a;
        if (order[i] == COMPARE_INCONCLUSIVE) {
            buf_printf(out,
                       "inconclusive: %s of %s is jittery: its repeats differ by %s, too much to "
                       "judge a change of %s",
                       m->metric->title, scenario->id, plain_number(m->noise, p),
                       signed_number(delta, n));
            return;
        }
        buf_printf(out, "%s: ", compare_verdict_name(order[i]));
        if (m->leak) {
            buf_printf(out, "%s leaks %s B per operation", scenario->id, plain_number(m->b, n));
        } else {
            buf_printf(out, "%s has %s %s", scenario->id, signed_number(delta, n),
                       m->metric->title);
            if (m->a != 0) {
                buf_printf(out, " (%+.2f %%)", 100 * delta / m->a);
            }
        }
        if (m->parts_shown > 0) {
            const struct compare_part *part = &m->parts[0];
            buf_printf(out, ", %s of them in %s %s%s%s%s", signed_number(part->delta, p),
                       m->part_kind, part->name, part->note != NULL ? " (" : "",
                       part->note != NULL ? part->note : "", part->note != NULL ? ")" : "");
        }
        if (count > 1) {
            buf_printf(out, "; %zu more %s %s", count - 1, count == 2 ? "metric is" : "metrics are",
                       compare_verdict_name(order[i]));
        }
        return;
    }
    size_t metrics = 0;
    size_t refused = 0;
    size_t warnings = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        metrics += comparison->scenarios[i].metric_count;
        refused += comparison->scenarios[i].verdict == COMPARE_NOT_COMPARABLE;
        for (size_t k = 0; k < comparison->scenarios[i].metric_count; k++) {
            warnings += comparison->scenarios[i].metrics[k].warning;
        }
    }
    if (refused > 0) {
        buf_printf(out, "not comparable: %zu of %zu scenarios, the first because ", refused,
                   comparison->count);
        for (size_t i = 0; i < comparison->count; i++) {
            if (comparison->scenarios[i].verdict == COMPARE_NOT_COMPARABLE) {
                buf_puts(out, comparison->scenarios[i].reason);
                return;
            }
        }
    }
    buf_printf(out, "same: no counted metric left its budget (%zu metrics in %zu scenarios)",
               metrics, comparison->count);
    if (warnings > 0) {
        buf_printf(out, "; %zu %s", warnings, warnings == 1 ? "warning" : "warnings");
    }
}

/* --- output --- */

static void print_parts(const struct compare_metric *m)
{
    char a[SET_NUMBER_BYTES];
    char b[SET_NUMBER_BYTES];
    char d[SET_NUMBER_BYTES];
    double delta = m->b - m->a;
    char share[24];
    printf("\n    %s: %s, by %s\n", m->metric->title, signed_number(delta, d), m->part_kind);
    for (size_t i = 0; i < m->parts_shown; i++) {
        const struct compare_part *p = &m->parts[i];
        snprintf(share, sizeof share, "%.1f %%", delta != 0 ? 100 * p->delta / delta : 0.0);
        printf("    %14s %9s  %12s -> %-12s %s%s%s%s\n", signed_number(p->delta, d), share,
               plain_number(p->before, a), plain_number(p->after, b), p->name,
               p->note != NULL ? " (" : "", p->note != NULL ? p->note : "",
               p->note != NULL ? ")" : "");
    }
    snprintf(share, sizeof share, "%.1f %%", delta != 0 ? 100 * m->remainder / delta : 0.0);
    printf("    %14s %9s  %28s remainder: %zu others\n", signed_number(m->remainder, d), share, "",
           m->part_count - m->parts_shown);
}

static void print_scenario(const struct compare_scenario *s, const struct colours *colours)
{
    if (s->verdict == COMPARE_NOT_COMPARABLE) {
        printf("\n%s: %snot comparable%s: %s\n", s->id, colours->weak, colours->off, s->reason);
        return;
    }
    printf("\n%s\n", s->id);
    printf("    %-24s %14s %14s %12s %9s  %s\n", "", "A", "B", "difference", "%", "verdict");
    for (size_t i = 0; i < s->metric_count; i++) {
        const struct compare_metric *m = &s->metrics[i];
        char a[SET_NUMBER_BYTES];
        char b[SET_NUMBER_BYTES];
        char d[SET_NUMBER_BYTES];
        char percent[24] = "";
        double delta = m->b - m->a;
        if (m->a != 0 && delta != 0) {
            snprintf(percent, sizeof percent, "%+.3f", 100 * delta / m->a);
        }
        const char *colour = m->verdict == COMPARE_WORSE                        ? colours->bad
                             : m->verdict == COMPARE_BETTER                     ? colours->good
                             : m->verdict == COMPARE_INCONCLUSIVE || m->warning ? colours->weak
                                                                                : "";
        printf("    %-24s %14s %14s %12s %9s  %s%s%s", m->metric->title, plain_number(m->a, a),
               plain_number(m->b, b), delta != 0 ? signed_number(delta, d) : "0", percent, colour,
               m->leak ? "worse: leak" : compare_verdict_name(m->verdict),
               colour[0] != '\0' ? colours->off : "");
        if (m->noise > 0) {
            printf(" (jittery, range %s)", plain_number(m->noise, d));
        }
        if (m->allowed[0] != '\0') {
            printf(" (allowed: %s)", m->allowed);
        } else if (m->warning) {
            printf(" (warning: near its budget)");
        }
        puts("");
    }
    for (size_t i = 0; i < s->metric_count; i++) {
        if (s->metrics[i].parts_shown > 0) {
            print_parts(&s->metrics[i]);
        }
    }
}

static void json_metric(struct json *list, const struct compare_metric *m)
{
    struct json *object = json_new_object();
    json_add_string(object, "id", m->id);
    json_add_string(object, "unit", m->metric->unit);
    json_add_string(object, "verdict", compare_verdict_name(m->verdict));
    json_add_bool(object, "leak", m->leak);
    json_add_bool(object, "warning", m->warning);
    if (m->allowed[0] != '\0') {
        json_add_string(object, "allowed", m->allowed);
    }
    json_add_number(object, "a", m->a);
    json_add_number(object, "b", m->b);
    json_add_number(object, "difference", m->b - m->a);
    json_add_number(object, "noise", m->noise);
    if (m->part_kind != NULL) {
        json_add_string(object, "part_kind", m->part_kind);
        struct json *parts = json_add_array(object, "parts");
        for (size_t i = 0; i < m->parts_shown; i++) {
            struct json *part = json_new_object();
            json_add_string(part, "name", m->parts[i].name);
            if (m->parts[i].note != NULL) {
                json_add_string(part, "note", m->parts[i].note);
            }
            json_add_number(part, "a", m->parts[i].before);
            json_add_number(part, "b", m->parts[i].after);
            json_add_number(part, "difference", m->parts[i].delta);
            json_append(parts, part);
        }
        json_add_number(object, "remainder", m->remainder);
        json_add_int(object, "remainder_parts", (int64_t)(m->part_count - m->parts_shown));
    }
    json_append(list, object);
}

static void json_set(struct json *root, const char *key, const struct result_set *set)
{
    struct json *object = json_add_object(root, key);
    json_add_string(object, "commit", set->commit);
    json_add_string(object, "env8", set->env8);
}

static void print_json(const struct comparison *comparison, const char *sentence, int exit_code)
{
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.compare/1");
    json_add_string(root, "sentence", sentence);
    json_add_int(root, "exit_code", exit_code);
    json_set(root, "a", &comparison->a);
    json_set(root, "b", &comparison->b);
    if (comparison->reason[0] != '\0') {
        json_add_string(root, "not_comparable", comparison->reason);
    }
    struct json *scenarios = json_add_array(root, "scenarios");
    for (size_t i = 0; i < comparison->count; i++) {
        const struct compare_scenario *s = &comparison->scenarios[i];
        struct json *object = json_new_object();
        json_add_string(object, "id", s->id);
        json_add_string(object, "verdict", compare_verdict_name(s->verdict));
        if (s->reason[0] != '\0') {
            json_add_string(object, "not_comparable", s->reason);
        }
        struct json *metrics = json_add_array(object, "metrics");
        for (size_t k = 0; k < s->metric_count; k++) {
            json_metric(metrics, &s->metrics[k]);
        }
        json_append(scenarios, object);
    }
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

static void print_text(const struct comparison *comparison, const char *sentence)
{
    struct colours colours = colours_for(stdout);
    char a[32];
    char b[32];
    set_short_name(&comparison->a, a);
    set_short_name(&comparison->b, b);
    printf("%s\n\nA %s, B %s, environment %s\n", sentence, a, b, comparison->b.env8);
    for (size_t i = 0; i < comparison->count; i++) {
        print_scenario(&comparison->scenarios[i], &colours);
    }
    if (comparison->only_b > 0) {
        printf("\n%zu scenarios of B are not in A\n", comparison->only_b);
    }
}

static struct compare_budgets *read_budgets(const char *path, struct err *err)
{
    struct result_commit here;
    char own[2 * RESULT_PATH_MAX];
    char now[CLOCK_RFC3339_BYTES];
    if (path == NULL) {
        result_commit_read(".", &here);
        snprintf(own, sizeof own, "%s/bench/budgets.json", here.root);
        path = access(own, R_OK) == 0 ? own : NULL;
    }
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    now[10] = '\0';
    return compare_budgets_read(path, now, err);
}

static int compare(const char *a, const char *b, const char *results_dir, const char *scenario,
                   const char *fail_on, const struct compare_budgets *budgets, bool as_json)
{
    struct comparison comparison = {0};
    struct err err = {""};
    struct buf sentence = BUF_INIT;
    int code = find_pair(&comparison, results_dir, a, b, &err);
    if (code == 0 && comparison.reason[0] == '\0') {
        code = compare_all(&comparison, scenario, budgets, &err);
    }
    int exit_code;
    if (code != 0) {
        exit_code = cmd_fail(code == -ENOENT ? CMD_USAGE : CMD_UNREADABLE, &err);
    } else {
        exit_code = exit_code_of(&comparison, fail_on);
        first_line(&sentence, &comparison);
        if (as_json) {
            print_json(&comparison, sentence.data, exit_code);
        } else {
            print_text(&comparison, sentence.data);
        }
    }
    for (size_t i = 0; i < comparison.count; i++) {
        compare_scenario_fini(&comparison.scenarios[i]);
    }
    free(comparison.scenarios);
    buf_fini(&sentence);
    return exit_code;
}

static bool fail_on_is_known(const char *list)
{
    for (const char *at = list;;) {
        size_t bytes = strcspn(at, ",");
        if (!((bytes == 5 && memcmp(at, "worse", 5) == 0) ||
              (bytes == 4 && memcmp(at, "leak", 4) == 0) ||
              (bytes == 7 && memcmp(at, "warning", 7) == 0))) {
            return false;
        }
        if (at[bytes] == '\0') {
            return true;
        }
        at += bytes + 1;
    }
}

int cmd_compare(int argc, char **argv)
{
    static const struct option options[] = {
        {"fail-on", required_argument, NULL, 'f'},
        {"budgets", required_argument, NULL, 'b'},
        {"scenario", required_argument, NULL, 's'},
        {"results", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *results_dir = "results";
    const char *budgets_path = NULL;
    const char *scenario = NULL;
    const char *fail_on = "worse,leak";
    bool as_json = false;
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            fail_on = optarg;
            if (!fail_on_is_known(fail_on)) {
                err_set(&err, 0, "compare: --fail-on %s: give worse, leak, warning", fail_on);
                return cmd_fail(CMD_USAGE, &err);
            }
            break;
        case 'b':
            budgets_path = optarg;
            break;
        case 's':
            scenario = optarg;
            break;
        case 'r':
            results_dir = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (argc - optind != 2) {
        err_set(&err, 0, "compare: give two revisions or folders: codeq-bench compare --help");
        return cmd_fail(CMD_USAGE, &err);
    }
    struct compare_budgets *budgets = read_budgets(budgets_path, &err);
    if (budgets == NULL) {
        return cmd_fail(CMD_USAGE, &err);
    }
    int code =
        compare(argv[optind], argv[optind + 1], results_dir, scenario, fail_on, budgets, as_json);
    compare_budgets_free(budgets);
    return code;
}
