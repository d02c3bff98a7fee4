/* codeq-bench bisect: which commit of a range changed a metric. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd.h"
#include "digest.h"
#include "metric.h"
#include "programs.h"
#include "result.h"
#include "revision.h"
#include "scenario.h"
#include "set.h"
#include "verdict.h"

#define SCHEMA "codeq-lab.bisect/1"
#define STEP_TIMEOUT_NS (4 * 3600 * NS_PER_SEC)
#define TRIES 2 /* of a timed comparison that does not tell, each with fresh pairs */

static const char help[] =
    "codeq-bench bisect finds the commit of a range that changed a metric.\n\n"
    "usage: codeq-bench bisect [OPTION...] METRIC A..B\n\n"
    "A is compared with B, then with the commit in the middle of what is left, about log2(n)\n"
    "times. A counted metric is counted once for each commit that is asked about; a timed one is\n"
    "compared in pairs of runs. Where there are several changes, the one is found with which half\n"
    "of the whole is reached. A commit that does not build, or that does not tell, is passed "
    "over.\n"
    "What was measured is kept by tree: asked again, or of another range, it is not measured "
    "again.\n"
    "\n"
    "  --scenario ID    (default: " SCENARIO_DEFAULT ")\n"
    "  --seed N         of the order within pairs (default: 1)\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "exit codes: 0 found, 2 usage or A or B cannot be measured, 3 A or B cannot be compared, 4 no\n"
    "change to find or several commits are left, 130 interrupted\n\n"
    "examples:\n"
    "  codeq-bench bisect cycle.instructions_per_op v1.0..HEAD\n"
    "  codeq-bench bisect claim.latency_ns_p50 HEAD~40..HEAD --scenario scheduler-batch\n";

/* What a comparison of A with a commit said of the metric. */
enum side {
    SIDE_UNKNOWN,
    SIDE_A, /* not changed yet */
    SIDE_B, /* changed */
    SIDE_NEITHER, /* it cannot be built or compared, or does not tell */
};

struct asked {
    struct revision revision;
    enum side side;
    double a, b; /* counted: the values; timed: 1 and the ratio to A */
    char why[300]; /* of SIDE_NEITHER */
};

struct bisect {
    const char *range;
    const char *wanted_scenario;
    const struct metric *metric;
    char metric_id[METRIC_ID_BYTES_MAX];
    bool counted, as_json;
    int64_t seed;
    struct scenario *scenario;
    char scenario_path[RESULT_PATH_MAX + 256];
    char self[RESULT_PATH_MAX];
    char cache[RESULT_PATH_MAX];
    struct revision base; /* A */
    struct revision_list list;
    struct asked *asked; /* as list */
    size_t comparisons;
};

/* --- running ourselves --- */

/* Its exit code, or negative errno with text. *out_text is the caller's where the code is not
 * negative; above 0 err holds what it said last. */
static int run_self(const char *const *argv, char **out_text, struct err *err)
{
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + STEP_TIMEOUT_NS, out_text,
                         &errors, err);
    if (cmd_stopped() || code == CMD_INTERRUPTED) {
        if (code >= 0) {
            free(*out_text);
            free(errors);
        }
        *out_text = NULL;
        return err_set(err, -EINTR, "interrupted: what was measured is kept");
    }
    if (code > 0) {
        size_t bytes = strlen(errors);
        while (bytes > 0 && errors[bytes - 1] == '\n') {
            errors[--bytes] = '\0';
        }
        const char *line = strrchr(errors, '\n');
        line = line != NULL ? line + 1 : errors;
        line += strncmp(line, "codeq-bench: ", 13) == 0 ? 13 : 0;
        line += strncmp(line, "run: ", 5) == 0 ? 5 : 0;
        err_set(err, -EIO, "%.280s", line);
    }
    if (code >= 0) {
        free(errors);
    }
    return code;
}

/* The folder of a set with the commit's counts; counted now where there is none yet. Returns an
 * exit code or negative errno, with text. */
static int count(const struct bisect *b, const struct revision *revision,
                 char set_dir[RESULT_PATH_MAX], struct err *err)
{
    char sets[RESULT_PATH_MAX + 8];
    struct set_list *list = calloc(1, sizeof *list);
    if (list == NULL) {
        abort();
    }
    snprintf(sets, sizeof sets, "%s/sets", b->cache);
    bool there = access(sets, F_OK) == 0 && set_find(sets, revision->commit, list, NULL) == 0;
    if (there) {
        snprintf(set_dir, RESULT_PATH_MAX, "%s", list->sets[0].dir);
    }
    free(list);
    if (there) {
        return 0;
    }
    const char *argv[] = {b->self,  "run",   "--commit", revision->commit, "--quick", "--profile",
                          "--json", "--out", sets,       b->scenario_path, NULL};
    char *out = NULL;
    int code = run_self(argv, &out, err);
    if (code == 0) {
        struct json *answer = json_parse(out, strlen(out), NULL);
        snprintf(set_dir, RESULT_PATH_MAX, "%s", json_string(json_get(answer, "set"), ""));
        json_free(answer);
    }
    free(out);
    return code;
}

/* Why compare would not compare; NULL where it did. */
static const char *refusal(const struct json *answer)
{
    const struct json *scenario = json_first(json_get(answer, "scenarios"));
    const char *whole = json_string(json_get(answer, "not_comparable"), NULL);
    return whole != NULL ? whole : json_string(json_get(scenario, "not_comparable"), NULL);
}

/* compare's answer as JSON, the caller's to free; NULL with text, *out_code says why. */
static struct json *ask_compare(const char *const *argv, const char *cached, int *out_code,
                                struct err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    *out_code = 0;
    if (cached == NULL || result_read_file(cached, &text, &bytes, NULL) != 0) {
        *out_code = run_self(argv, &text, err);
        if (*out_code < 0 || *out_code == CMD_USAGE || *out_code == CMD_UNREADABLE) {
            free(*out_code >= 0 ? text : NULL);
            return NULL;
        }
        bytes = strlen(text);
        if (cached != NULL) {
            result_write_file(cached, text, bytes, NULL); /* a cache: measured again without it */
        }
    }
    struct json *answer = json_parse(text, bytes, err);
    free(text);
    if (answer == NULL) {
        *out_code = CMD_USAGE;
        err_prefix(err, -EIO, "compare --json");
    } else if (refusal(answer) != NULL) {
        *out_code = CMD_NOT_COMPARABLE;
        err_set(err, -EIO, "%s", refusal(answer));
        json_free(answer);
        answer = NULL;
    }
    return answer;
}

/* The metric in compare's answer; NULL with text. */
static const struct json *metric_of(const struct bisect *b, const struct json *answer,
                                    struct err *err)
{
    const struct json *scenario = json_first(json_get(answer, "scenarios"));
    for (const struct json *m = json_first(json_get(scenario, "metrics")); m != NULL;
         m = json_next(m)) {
        if (strcmp(json_string(json_get(m, "id"), ""), b->metric_id) == 0) {
            return m;
        }
    }
    err_set(err, -ENOENT, "%s is not measured by scenario %s", b->metric_id, b->scenario->id);
    return NULL;
}

/* --- one comparison --- */

static int compare_counts(const struct bisect *b, const struct revision *x,
                          const struct revision *y, struct json **out_answer, struct err *err)
{
    char sets[2][RESULT_PATH_MAX];
    int code = count(b, x, sets[0], err);
    code = code != 0 ? code : count(b, y, sets[1], err);
    if (code == 0) {
        const char *argv[] = {b->self,         "compare", "--committed", "--json", "--scenario",
                              b->scenario->id, sets[0],   sets[1],       NULL};
        *out_answer = ask_compare(argv, NULL, &code, err);
        code = *out_answer != NULL ? 0 : code;
    }
    return code;
}

/* 0: asked->a and b are known. */
static int ask_counted(const struct bisect *b, struct asked *asked, struct err *err)
{
    struct json *answer = NULL;
    int code = compare_counts(b, &b->base, &asked->revision, &answer, err);
    if (code != 0) {
        return code;
    }
    const struct json *m = metric_of(b, answer, err);
    if (m == NULL) {
        code = CMD_NOT_COMPARABLE;
    } else if (json_number(json_get(m, "noise"), 1) > 0) {
        code = CMD_INCONCLUSIVE;
        err_set(err, -EIO, "its repeats differ");
    } else {
        asked->a = json_number(json_get(m, "a"), (double)NAN);
        asked->b = json_number(json_get(m, "b"), (double)NAN);
    }
    json_free(answer);
    return code;
}

/* Compare A with it in pairs. half: ln of half the whole effect, 0 for the comparison with B
 * itself. */
static int ask_timed(const struct bisect *b, struct asked *asked, double half, int64_t seed,
                     struct err *err)
{
    char number[24];
    char cached[RESULT_PATH_MAX + 96];
    snprintf(number, sizeof number, "%lld", (long long)seed);
    snprintf(cached, sizeof cached, "%s/%.16s-%.16s-%s.json", b->cache, b->base.tree,
             asked->revision.tree, number);
    const char *argv[] = {
        b->self, "compare",    "--fresh",        "--json",       "--seed",
        number,  "--scenario", b->scenario_path, b->base.commit, asked->revision.commit,
        NULL};
    int code = 0;
    struct json *answer = ask_compare(argv, cached, &code, err);
    if (answer == NULL) {
        return code;
    }
    code = 0;
    asked->a = asked->b = 1;
    if (!json_bool(json_get(answer, "same_program"), false)) {
        const struct json *m = metric_of(b, answer, err);
        double low = log(json_number(json_get(m, "low"), 0));
        double high = log(json_number(json_get(m, "high"), (double)INFINITY));
        const char *verdict = json_string(json_get(m, "verdict"), "");
        bool moved = strcmp(verdict, "worse") == 0 || strcmp(verdict, "better") == 0;
        bool clear = low > half || high < half;
        asked->b = json_number(json_get(m, "effect"), (double)NAN);
        if (m == NULL) {
            code = CMD_NOT_COMPARABLE;
        } else if (half == 0 ? !moved : !clear) {
            code = CMD_INCONCLUSIVE;
            err_set(err, -EIO, "does not tell: %s in %lld pairs", verdict,
                    (long long)json_number(json_get(m, "pairs"), 0));
        }
    }
    json_free(answer);
    return code;
}

/* By how much the metric is moved: of B it is the whole. */
static double moved(const struct bisect *b, const struct asked *asked)
{
    return b->counted ? asked->b - asked->a : log(asked->b);
}

static void tell(const struct bisect *b, const struct asked *asked)
{
    if (b->as_json) {
        return;
    }
    char change[64] = "";
    static const char *const names[] = {"", "as A", "as B", "passed over"};
    if (asked->side != SIDE_NEITHER) {
        double ratio = asked->a != 0 ? asked->b / asked->a - 1 : 0;
        snprintf(change, sizeof change, "%+.2f %%", 100 * ratio);
    }
    printf("  %.12s  %-11s  %9s  %.60s\n", asked->revision.commit, names[asked->side], change,
           asked->side == SIDE_NEITHER ? asked->why : asked->revision.subject);
    fflush(stdout);
}

/* Which side a commit between is on. 0, or -EINTR with text. */
static int ask(struct bisect *b, size_t at, double whole, struct err *err)
{
    struct asked *asked = &b->asked[at];
    int code = revision_resolve(".", b->list.hashes[at], &asked->revision, err);
    b->comparisons++;
    if (code == 0 && b->counted) {
        code = ask_counted(b, asked, err);
    } else if (code == 0) {
        code = CMD_INCONCLUSIVE;
        for (int64_t i = 0; i < TRIES && code == CMD_INCONCLUSIVE; i++) {
            code = ask_timed(b, asked, whole / 2, b->seed + i, err);
        }
    }
    if (code == -EINTR) {
        return code;
    }
    if (code != 0) {
        asked->side = SIDE_NEITHER;
        snprintf(asked->why, sizeof asked->why, "%.299s", err->text);
    } else {
        asked->side = moved(b, asked) / whole >= 0.5 ? SIDE_B : SIDE_A;
    }
    tell(b, asked);
    return 0;
}

/* The commit to ask about next: nearest to the middle of (low, high), both of them known. SIZE_MAX:
 * none is left. low counts from 1, 0 is A. */
static size_t next_of(const struct bisect *b, size_t low, size_t high)
{
    size_t best = SIZE_MAX;
    double middle = ((double)low + (double)high) / 2;
    for (size_t i = low; i + 1 < high; i++) {
        if (b->asked[i].side == SIDE_UNKNOWN &&
            (best == SIZE_MAX || fabs((double)i + 1 - middle) < fabs((double)best + 1 - middle))) {
            best = i;
        }
    }
    return best;
}

/* --- the answer --- */

static void number_of(double value, char out[SET_NUMBER_BYTES])
{
    set_number(value, value == floor(value) ? 0 : 2, out);
}

/* What the counts of the two commits beside the change say made it; "" when they say nothing. */
static int find_cause(const struct bisect *b, const struct revision *before,
                      const struct revision *after, char out[600], struct err *err)
{
    struct json *answer = NULL;
    out[0] = '\0';
    int code = compare_counts(b, before, after, &answer, err);
    if (code == 0) {
        snprintf(out, 600, "%s", json_string(json_get(answer, "headline"), ""));
        json_free(answer);
    }
    return code == -EINTR ? code : 0;
}

static void print_text(const struct bisect *b, size_t low, size_t high, const char *cause)
{
    const struct asked *found = &b->asked[high - 1];
    if (high - low == 1) {
        printf("\n%.12s %s\n", found->revision.commit, found->revision.subject);
        if (b->counted) {
            char x[SET_NUMBER_BYTES], y[SET_NUMBER_BYTES];
            number_of(low > 0 ? b->asked[low - 1].b : found->a, x);
            number_of(found->b, y);
            printf("changed %s from %s to %s %s\n", b->metric_id, x, y, b->metric->unit);
        } else {
            printf("changed %s; all of the range: %+.2f %%\n", b->metric_id,
                   100 * (b->asked[b->list.count - 1].b - 1));
        }
        if (cause[0] != '\0') {
            printf("%s\n", cause);
        }
    } else {
        printf("\none of these %zu commits changed %s; all but the last could not be asked:\n",
               high - low, b->metric_id);
        for (size_t i = low; i < high; i++) {
            printf("  %.12s\n", b->list.hashes[i]);
        }
    }
    printf("%zu comparisons over %zu commits\n", b->comparisons, b->list.count);
}

static void print_json(const struct bisect *b, size_t low, size_t high, const char *cause,
                       int exit_code)
{
    static const char *const sides[] = {"", "a", "b", "neither"};
    struct json *root = json_new_object();
    json_add_string(root, "schema", SCHEMA);
    json_add_string(root, "metric", b->metric_id);
    json_add_string(root, "scenario", b->scenario->id);
    json_add_string(root, "a", b->base.commit);
    json_add_string(root, "b", b->list.hashes[b->list.count - 1]);
    json_add_int(root, "commits", (int64_t)b->list.count);
    json_add_int(root, "comparisons", (int64_t)b->comparisons);
    struct json *asked = json_add_array(root, "asked");
    for (size_t i = 0; i < b->list.count; i++) {
        const struct asked *x = &b->asked[i];
        if (x->side == SIDE_UNKNOWN) {
            continue;
        }
        struct json *one = json_new_object();
        json_add_string(one, "commit", x->revision.commit);
        json_add_string(one, "side", sides[x->side]);
        if (x->side == SIDE_NEITHER) {
            json_add_string(one, "why", x->why);
        } else {
            json_add_number(one, b->counted ? "value" : "ratio", x->b);
        }
        json_append(asked, one);
    }
    struct json *left = json_add_array(root, "changed_in");
    for (size_t i = low; i < high; i++) {
        struct json *one = json_new_object();
        json_add_string(one, "commit", b->list.hashes[i]);
        json_append(left, one);
    }
    if (high - low == 1) {
        json_add_string(root, "subject", b->asked[high - 1].revision.subject);
        json_add_string(root, "cause", cause);
    }
    json_add_int(root, "exit_code", exit_code);
    char *text = json_print_pretty(root);
    fputs(text, stdout);
    free(text);
    json_free(root);
}

/* --- all of it --- */

static int prepare(struct bisect *b, struct err *err)
{
    struct result_commit here;
    char dir[RESULT_PATH_MAX + 32];
    char lab[DIGEST_BYTES];
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    bool own = cache != NULL && cache[0] == '/';
    ssize_t n = readlink("/proc/self/exe", b->self, sizeof b->self - 1);
    if (n < 0) {
        return err_set(err, -errno, "/proc/self/exe: %s", strerror(errno));
    }
    b->self[n] = '\0';
    result_commit_read(".", &here);
    programs_scenarios(here.root, dir, sizeof dir);
    if (strchr(b->wanted_scenario, '/') != NULL) {
        snprintf(b->scenario_path, sizeof b->scenario_path, "%.1000s", b->wanted_scenario);
    } else {
        snprintf(b->scenario_path, sizeof b->scenario_path, "%s/%.200s.json", dir,
                 b->wanted_scenario);
    }
    b->scenario = scenario_read(b->scenario_path, err);
    if (b->scenario == NULL) {
        return -EINVAL;
    }
    int code = digest_file("/proc/self/exe", lab, err);
    snprintf(b->cache, sizeof b->cache, "%.600s%s/codeq-lab/bisect/%.8s-%.8s",
             own                              ? cache
             : home != NULL && home[0] == '/' ? home
                                              : "/tmp",
             own ? "" : "/.cache", lab, b->scenario->sha256);
    code = code != 0 ? code : result_make_dirs(b->cache, err);
    code = code != 0 ? code : revision_list_read(".", b->range, &b->list, err);
    if (code == 0) {
        char first[128];
        snprintf(first, sizeof first, "%.*s", (int)(strstr(b->range, "..") - b->range), b->range);
        code = revision_resolve(".", first, &b->base, err);
        b->asked = calloc(b->list.count, sizeof *b->asked);
        if (b->asked == NULL) {
            abort();
        }
    }
    return code;
}

/* A against B: what there is to find. Returns an exit code or negative errno, with text. */
static int ask_ends(struct bisect *b, double *out_whole, struct err *err)
{
    struct asked *last = &b->asked[b->list.count - 1];
    int code = revision_resolve(".", b->list.hashes[b->list.count - 1], &last->revision, err);
    if (code != 0) {
        return code;
    }
    if (!b->as_json) {
        printf("%s in %s: %zu commits after %.12s (%s)\n", b->metric_id, b->scenario->id,
               b->list.count, b->base.commit, b->base.subject);
    }
    b->comparisons++;
    code = b->counted ? ask_counted(b, last, err) : ask_timed(b, last, 0, b->seed, err);
    if (code != 0) {
        return code;
    }
    *out_whole = moved(b, last);
    if (!isfinite(*out_whole) || fabs(*out_whole) < 1e-9) {
        return err_set(err, CMD_INCONCLUSIVE, "%s does not differ between A and B: nothing to find",
                       b->metric_id);
    }
    last->side = SIDE_B;
    tell(b, last);
    return 0;
}

static int bisect(struct bisect *b, struct err *err)
{
    double whole = 0;
    char cause[600] = "";
    int code = prepare(b, err);
    code = code != 0 ? code : ask_ends(b, &whole, err);
    size_t low = 0; /* as A; 0 is A itself, else list's number low - 1 */
    size_t high = b->list.count; /* as B: list's number high - 1 */
    for (size_t at; code == 0 && (at = next_of(b, low, high)) != SIZE_MAX;) {
        code = ask(b, at, whole, err);
        low = b->asked[at].side == SIDE_A ? at + 1 : low;
        high = b->asked[at].side == SIDE_B ? at + 1 : high;
    }
    if (code == 0 && high - low == 1) {
        code = find_cause(b, low == 0 ? &b->base : &b->asked[low - 1].revision,
                          &b->asked[high - 1].revision, cause, err);
    }
    if (code != 0) {
        return code;
    }
    int exit_code = high - low == 1 ? CMD_OK : CMD_INCONCLUSIVE;
    if (b->as_json) {
        print_json(b, low, high, cause, exit_code);
    } else {
        print_text(b, low, high, cause);
    }
    err->text[0] = '\0';
    return exit_code;
}

/* -1: go on. */
static int parse(int argc, char **argv, struct bisect *out, struct err *err)
{
    static const struct option options[] = {
        {"scenario", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'S'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's':
            out->wanted_scenario = optarg;
            break;
        case 'S':
            if (args_int(optarg, 0, INT64_C(1) << 53, &out->seed, err) != 0) {
                return err_prefix(err, CMD_USAGE, "--seed");
            }
            break;
        case 'j':
            out->as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return err_set(err, CMD_USAGE, "codeq-bench bisect --help lists the options");
        }
    }
    if (argc - optind != 2) {
        return err_set(err, CMD_USAGE, "give a metric and a range of commits, as A..B");
    }
    out->metric = metric_find(argv[optind]);
    if (out->metric == NULL) {
        return err_set(err, CMD_USAGE,
                       "'%.60s': no such metric: give one such as cycle.instructions_per_op",
                       argv[optind]);
    }
    snprintf(out->metric_id, sizeof out->metric_id, "%s", argv[optind]);
    out->counted = out->metric->class == METRIC_COUNTED;
    out->range = argv[optind + 1];
    return -1;
}

int cmd_bisect(int argc, char **argv)
{
    struct bisect b = {.wanted_scenario = SCENARIO_DEFAULT, .seed = 1};
    struct err err = {""};
    int code = parse(argc, argv, &b, &err);
    if (code == -1) {
        code = bisect(&b, &err);
        code = code == -EINTR ? CMD_INTERRUPTED : code < 0 ? CMD_USAGE : code;
    }
    if (code != CMD_OK && err.text[0] != '\0') {
        err_prefix(&err, code, "bisect");
        cmd_fail(code, &err);
    }
    free(b.asked);
    revision_list_free(&b.list);
    scenario_free(b.scenario);
    return code;
}
