/* codeq-bench selftest: can this laboratory be trusted, here and today? */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "cmd.h"
#include "noise.h"
#include "pairs.h"
#include "programs.h"
#include "result.h"

#define SCHEMA "codeq-lab.selftest/1"
#define STEP_TIMEOUT_NS (1200 * NS_PER_SEC)
#define CHECKS_MAX 32
#define TIMED_PAIRS 12
#define TIMED_PAIRS_LONG 24
#define TIMED_OPS 10000 /* 12 pairs: 120,000 samples an operation */

static const char help[] =
    "codeq-bench selftest measures one program against itself, then programs that are worse in a\n"
    "known way, and fails when compare sees what is not there or misses what is.\n\n"
    "usage: codeq-bench selftest [OPTION...]\n\n"
    "Run it in a checkout: the programs are built there with meson's option -Dplant=NAME.\n\n"
    "  --seed N         chooses the function that is planted in (default: 1)\n"
    "  --counts-only    leave out the timed checks\n"
    "  --long           three repeats of every count, twice the timed pairs\n"
    "  --builds DIR     build there (default: codeq-lab/plants in the user's cache)\n"
    "  --record FILE    write the findings there as JSON\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "exit codes: 0 trust it, 6 do not, 2 usage or environment\n\n"
    "examples:\n"
    "  codeq-bench selftest\n"
    "  codeq-bench selftest --counts-only --seed 7\n"
    "  codeq-bench selftest --long --record results/.selftest/today.json\n";

static const char *const places[] = {"create", "claim", "complete"};

/* A planted change, what must be found, and what else follows from it. Names are of the metric
 * table, without scope; lists end with NULL. */
static const struct plant {
    const char *name;
    const char *must; /* "" : no counted metric may move */
    bool leak;
    bool blames_function; /* the first part of `must` names the planted function */
    bool at_claim_only;
    const char *may[8];
} plants[] = {
    {"instructions", "instructions_per_op", false, true, false, {NULL}},
    {"allocation",
     "allocs_per_op",
     false,
     true,
     false,
     {"alloc_bytes_per_op", "instructions_per_op", NULL}},
    {"round-trip",
     "round_trips_per_op",
     false,
     false,
     true,
     {"instructions_per_op", "redis_calls_per_op", "redis_commands_per_op", "bytes_to_redis_per_op",
      "bytes_from_redis_per_op", "syscalls_per_op", NULL}},
    {"leak",
     "live_bytes_per_op",
     true,
     false,
     false,
     {"allocs_per_op", "alloc_bytes_per_op", "heap_peak_bytes", NULL}},
    {"busy-loop", "instructions_per_op", false, true, false, {NULL}},
    {"stall", "", false, false, false, {NULL}}, /* found by its tail */
};
#define PLANTS (sizeof plants / sizeof *plants)

struct check {
    char name[64];
    char found[400];
    bool ok;
    double sec;
};

struct selftest {
    int64_t seed;
    bool counts_only;
    bool is_long;
    bool as_json;
    const char *builds;
    const char *record;
    const char *place; /* the planted function: "claim" */
    char root[RESULT_PATH_MAX];
    char work[64]; /* result sets; removed at the end */
    char self[RESULT_PATH_MAX];
    struct check checks[CHECKS_MAX];
    size_t count;
};

static struct check *new_check(struct selftest *t, const char *format, const char *name)
{
    struct check *check = &t->checks[t->count++];
    snprintf(check->name, sizeof check->name, format, name);
    return check;
}

static void end_check(struct selftest *t, struct check *check, int64_t began_ns)
{
    check->sec = (double)(clock_monotonic_ns(clock_system()) - began_ns) / 1e9;
    if (!t->as_json) {
        printf("%-4s %-34s %6.1f s  %s\n", check->ok ? "ok" : "FAIL", check->name, check->sec,
               check->found);
        fflush(stdout);
    }
}

/* Run a program; its stdout in *out_text, the caller's. -EIO with the end of what it said. */
static int run_step(const char *const *argv, int code_max, char **out_text, struct err *err)
{
    struct child_options options = {.argv = argv, .cpu = -1};
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + STEP_TIMEOUT_NS, out_text,
                         &errors, err);
    if (code > code_max) {
        size_t n = strlen(errors);
        const char *said = n > 0 ? errors : *out_text;
        n = strlen(said);
        code = err_set(err, -EIO, "%s %s ended with %d: %s", argv[0], argv[1], code,
                       n > 300 ? said + n - 300 : said);
        free(*out_text);
        *out_text = NULL;
    }
    free(errors);
    return code;
}

/* Build codeq-drive with the plant, or bring the build up to date; its path into drive. */
static int build_plant(const struct selftest *t, const char *name, const char *place,
                       char drive[RESULT_PATH_MAX], struct err *err)
{
    char dir[RESULT_PATH_MAX];
    char plant[48];
    char plant_at[48];
    char *out = NULL;
    snprintf(dir, sizeof dir, "%.800s/%s-%s", t->builds, name, place);
    snprintf(plant, sizeof plant, "-Dplant=%s", name);
    snprintf(plant_at, sizeof plant_at, "-Dplant_at=%s", place);
    snprintf(drive, RESULT_PATH_MAX, "%.900s/build.ninja", dir);
    int code = 0;
    if (access(drive, R_OK) != 0) {
        const char *setup[] = {
            "meson",        "setup",         dir, t->root, plant, plant_at, "-Dtests=false",
            "-Debpf=false", "-Dbench=false", NULL};
        code = result_make_dirs(t->builds, err);
        code = code != 0 ? code : run_step(setup, 0, &out, err);
        free(out);
        out = NULL;
    }
    if (code == 0) {
        const char *compile[] = {"meson", "compile", "-C", dir, "-j2", "codeq-drive", NULL};
        code = run_step(compile, 0, &out, err);
        free(out);
    }
    snprintf(drive, RESULT_PATH_MAX, "%.900s/src/codeq-drive", dir);
    return code;
}

/* Count with profiles; the set's folder into set_dir. */
static int measure(const struct selftest *t, const char *drive, const char *name,
                   char set_dir[RESULT_PATH_MAX], struct err *err)
{
    char out_dir[RESULT_PATH_MAX];
    char *out = NULL;
    snprintf(out_dir, sizeof out_dir, "%s/%s", t->work, name);
    const char *argv[] = {
        t->self,  "run",   "--quick", "--profile", "--repeat", t->is_long ? "3" : "1",
        "--json", "--out", out_dir,   "--drive",   drive,      SCENARIO_DEFAULT,
        NULL};
    int code = run_step(argv, 0, &out, err);
    if (code != 0) {
        return code;
    }
    struct json *answer = json_parse(out, strlen(out), err);
    free(out);
    if (answer == NULL) {
        return err_prefix(err, -EBADMSG, "run --json");
    }
    snprintf(set_dir, RESULT_PATH_MAX, "%s", json_string(json_get(answer, "set"), ""));
    json_free(answer);
    return 0;
}

static bool is_one_of(const char *id, const char *const *names)
{
    const char *dot = strchr(id, '.');
    for (; dot != NULL && *names != NULL; names++) {
        if (strcmp(dot + 1, *names) == 0) {
            return true;
        }
    }
    return false;
}

/* Judge what compare said of a plant, NULL: of the same program twice. */
static void judge_counts(const struct selftest *t, const struct plant *plant,
                         const struct json *answer, struct check *check)
{
    static const char *const none[] = {NULL};
    const char *const must[] = {plant != NULL && plant->must[0] != '\0' ? plant->must : NULL, NULL};
    bool found = must[0] == NULL;
    char blamed[64];
    snprintf(blamed, sizeof blamed, "store_%s", t->place);
    check->ok = true;
    snprintf(check->found, sizeof check->found, "%s",
             json_string(json_get(answer, "headline"), "compare said nothing"));
    const struct json *scenario = json_first(json_get(answer, "scenarios"));
    if (scenario == NULL) {
        check->ok = false;
    }
    for (const struct json *m = json_first(json_get(scenario, "metrics")); m != NULL;
         m = json_next(m)) {
        const char *id = json_string(json_get(m, "id"), "");
        const char *verdict = json_string(json_get(m, "verdict"), "");
        if (strcmp(verdict, "same") == 0 || strcmp(verdict, "inconclusive") == 0) {
            continue;
        }
        bool worse = strcmp(verdict, "worse") == 0;
        if (worse && is_one_of(id, must)) {
            const char *part =
                json_string(json_get(json_first(json_get(m, "parts")), "name"), "nothing");
            found = !plant->leak || json_bool(json_get(m, "leak"), false);
            if (plant->blames_function && strstr(part, blamed) == NULL) {
                check->ok = false;
                snprintf(check->found, sizeof check->found, "%s is blamed on %s, not on %s", id,
                         part, blamed);
                return;
            }
        } else if (!worse || !is_one_of(id, plant != NULL ? plant->may : none)) {
            check->ok = false;
            snprintf(check->found, sizeof check->found, "false alarm: %s is %s (%g to %g)", id,
                     verdict, json_number(json_get(m, "a"), 0), json_number(json_get(m, "b"), 0));
            return;
        }
    }
    if (!found) {
        check->ok = false;
        snprintf(check->found, sizeof check->found, "not found: %s is not worse", plant->must);
    }
}

static int check_counts(struct selftest *t, const struct plant *plant, const char *base_set,
                        const char *drive, struct err *err)
{
    int64_t began_ns = clock_monotonic_ns(clock_system());
    const char *name = plant != NULL ? plant->name : "itself";
    char set_dir[RESULT_PATH_MAX];
    char *out = NULL;
    int code = measure(t, drive, name, set_dir, err);
    if (code != 0) {
        return code;
    }
    const char *argv[] = {t->self, "compare", "--json", base_set, set_dir, NULL};
    code = run_step(argv, CMD_INCONCLUSIVE, &out, err);
    if (code < 0) {
        return code;
    }
    struct json *answer = json_parse(out, strlen(out), err);
    free(out);
    if (answer == NULL) {
        return err_prefix(err, -EBADMSG, "compare --json");
    }
    struct check *check =
        new_check(t, plant != NULL ? "counts, planted %s" : "counts, A against %s", name);
    judge_counts(t, plant, answer, check);
    json_free(answer);
    end_check(t, check, began_ns);
    return 0;
}

/* --- times --- */

/* Says in check which timed metric or tail moved; wanted: the call whose tail must have. */
static int judge_times(const struct pairs *pairs, const char *wanted, struct check *check,
                       struct err *err)
{
    struct verdict_timed verdicts[PAIRS_METRICS_MAX];
    struct pairs_tail tails[PAIRS_CALLS_MAX];
    int code = pairs_verdicts(pairs, VERDICT_EFFECT_MIN, verdicts, err);
    int count = code == 0 ? pairs_tails(pairs, tails, err) : code;
    if (count < 0) {
        return count;
    }
    check->ok = true;
    if (wanted == NULL) {
        snprintf(check->found, sizeof check->found,
                 "%zu metrics, no verdict but same or "
                 "inconclusive in %zu pairs",
                 pairs->metric_count, pairs->count);
    }
    for (size_t m = 0; m < pairs->metric_count && wanted == NULL; m++) {
        const struct verdict_timed *v = &verdicts[m];
        if (v->verdict == VERDICT_WORSE || v->verdict == VERDICT_BETTER) {
            check->ok = false;
            snprintf(check->found, sizeof check->found, "false alarm: %s is %s, %.3f [%.3f, %.3f]",
                     pairs->metrics[m].id, verdict_name(v->verdict), v->effect, v->low, v->high);
        }
    }
    const struct pairs_tail *heaviest = NULL;
    for (int i = 0; i < count; i++) {
        const struct pairs_tail *tail = &tails[i];
        bool moved = tail->verdict == VERDICT_WORSE || tail->verdict == VERDICT_BETTER;
        if (moved && wanted == NULL) {
            check->ok = false;
            snprintf(check->found, sizeof check->found,
                     "false alarm: %s has %.2f times as many requests above %.3f ms [%.2f, %.2f]",
                     tail->call, tail->ratio.estimate, (double)tail->threshold_ns / 1e6,
                     tail->ratio.low, tail->ratio.high);
        }
        if (moved && (heaviest == NULL || tail->ratio.estimate > heaviest->ratio.estimate)) {
            heaviest = tail;
        }
    }
    if (wanted != NULL) {
        check->ok = heaviest != NULL && heaviest->verdict == VERDICT_WORSE &&
                    strcmp(heaviest->call, wanted) == 0;
        if (heaviest == NULL) {
            snprintf(check->found, sizeof check->found, "not found: no tail grew");
        } else {
            snprintf(check->found, sizeof check->found,
                     "%.2f times as many %s requests above %.3f ms [%.2f, %.2f], %lld samples",
                     heaviest->ratio.estimate, heaviest->call, (double)heaviest->threshold_ns / 1e6,
                     heaviest->ratio.low, heaviest->ratio.high, (long long)heaviest->samples_a);
        }
    }
    return 0;
}

/* Which words noise.h has for the time since `before`, behind what was found. */
static void add_noise(const struct noise_sample *before, struct check *check)
{
    struct noise_sample after;
    struct noise noise;
    char words[200];
    noise_take(&after);
    noise_between(before, &after, &noise);
    noise_words(&noise, 0.5, words, sizeof words);
    size_t n = strlen(check->found);
    snprintf(check->found + n, sizeof check->found - n, "; machine %s", words);
}

static int check_times(struct selftest *t, const char *a_drive, const char *b_drive,
                       const char *wanted, struct err *err)
{
    char path[RESULT_PATH_MAX + 64];
    char dir[RESULT_PATH_MAX];
    char counter[RESULT_PATH_MAX];
    programs_scenarios(t->root, dir, sizeof dir);
    programs_alloc_count(counter, sizeof counter);
    snprintf(path, sizeof path, "%s/%s.json", dir, SCENARIO_DEFAULT);
    struct scenario *scenario = scenario_read(path, err);
    if (scenario == NULL) {
        return -EINVAL;
    }
    scenario->timed.ops = TIMED_OPS;
    scenario->timed.warm_ops = TIMED_OPS / 10;
    scenario->timed.duration_ms_max = 0;
    int64_t began_ns = clock_monotonic_ns(clock_system());
    int cpu = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1;
    struct session a = {.cpu = cpu, .stopped = cmd_stopped};
    struct session b = {.cpu = cpu, .stopped = cmd_stopped};
    struct pairs *pairs = pairs_new(scenario->operation);
    struct noise_sample before;
    noise_take(&before);
    int code = session_open(&a, a_drive, counter, err);
    code = code != 0 ? code : session_open(&b, b_drive, counter, err);
    code = code != 0
               ? code
               : pairs_run(pairs, &a, &b, scenario, t->is_long ? TIMED_PAIRS_LONG : TIMED_PAIRS,
                           (uint64_t)t->seed, err);
    if (code == 0) {
        struct check *check =
            new_check(t, wanted != NULL ? "times, planted %s" : "times, A against %s",
                      wanted != NULL ? "stall" : "itself");
        code = judge_times(pairs, wanted, check, err);
        add_noise(&before, check);
        end_check(t, check, began_ns);
    }
    pairs_free(pairs);
    session_close(&a);
    session_close(&b);
    scenario_free(scenario);
    return code;
}

/* --- all of it --- */

static int run_all(struct selftest *t, struct err *err)
{
    char plain[RESULT_PATH_MAX];
    char drive[RESULT_PATH_MAX];
    char base_set[RESULT_PATH_MAX];
    int code = build_plant(t, "none", "claim", plain, err);
    code = code != 0 ? code : measure(t, plain, "base", base_set, err);
    code = code != 0 ? code : check_counts(t, NULL, base_set, plain, err);
    for (size_t i = 0; i < PLANTS && code == 0; i++) {
        if (cmd_stopped()) {
            return err_set(err, -EINTR, "interrupted");
        }
        const char *chosen = t->place;
        t->place = plants[i].at_claim_only ? "claim" : chosen;
        code = build_plant(t, plants[i].name, t->place, drive, err);
        code = code != 0 ? code : check_counts(t, &plants[i], base_set, drive, err);
        t->place = chosen;
    }
    if (code == 0 && !t->counts_only) {
        code = check_times(t, plain, plain, NULL, err);
        /* The stall was built last. */
        code = code != 0 ? code : check_times(t, plain, drive, t->place, err);
    }
    return code;
}

static struct json *report(const struct selftest *t, bool trusted)
{
    char now[CLOCK_RFC3339_BYTES];
    struct result_commit commit;
    result_commit_read(t->root, &commit);
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    struct json *root = json_new_object();
    json_add_string(root, "schema", SCHEMA);
    json_add_string(root, "commit", commit.commit);
    json_add_bool(root, "dirty", commit.dirty);
    json_add_string(root, "created", now);
    json_add_int(root, "seed", t->seed);
    json_add_string(root, "planted_in", t->place);
    json_add_bool(root, "long", t->is_long);
    json_add_bool(root, "trusted", trusted);
    struct json *checks = json_add_array(root, "checks");
    for (size_t i = 0; i < t->count; i++) {
        struct json *one = json_new_object();
        json_add_string(one, "name", t->checks[i].name);
        json_add_bool(one, "ok", t->checks[i].ok);
        json_add_string(one, "found", t->checks[i].found);
        json_add_number(one, "sec", (double)(int64_t)(t->checks[i].sec * 10) / 10);
        json_append(checks, one);
    }
    return root;
}

static int finish(const struct selftest *t, struct err *err)
{
    size_t failed = 0;
    for (size_t i = 0; i < t->count; i++) {
        failed += !t->checks[i].ok;
    }
    struct json *root = report(t, failed == 0);
    char *text = json_print_pretty(root);
    int code = t->record != NULL ? result_write_file(t->record, text, strlen(text), err) : 0;
    if (t->as_json) {
        fputs(text, stdout);
    } else {
        printf("\n%zu checks, %zu failed: %s\n", t->count, failed,
               failed == 0 ? "the laboratory can be trusted here and now"
                           : "the laboratory cannot be trusted here and now");
    }
    free(text);
    json_free(root);
    return code != 0 ? cmd_fail(CMD_USAGE, err) : failed > 0 ? CMD_LAB_FAILED : CMD_OK;
}

static int prepare(struct selftest *t, char builds[RESULT_PATH_MAX], struct err *err)
{
    struct result_commit commit;
    result_commit_read(".", &commit);
    char path[RESULT_PATH_MAX + 32];
    snprintf(t->root, sizeof t->root, "%s", commit.root);
    snprintf(path, sizeof path, "%s/src/base/plant.h", t->root);
    if (access(path, R_OK) != 0) {
        return err_set(err, -ENOENT,
                       "selftest: %.200s is no checkout of the scheduler's sources: run it in one",
                       t->root);
    }
    ssize_t n = readlink("/proc/self/exe", t->self, sizeof t->self - 1);
    if (n < 0) {
        return err_set(err, -errno, "selftest: /proc/self/exe: %s", strerror(errno));
    }
    t->self[n] = '\0';
    if (t->builds == NULL) {
        const char *cache = getenv("XDG_CACHE_HOME");
        const char *home = getenv("HOME");
        bool own = cache != NULL && cache[0] == '/';
        snprintf(builds, RESULT_PATH_MAX, "%.700s%s/codeq-lab/plants",
                 own            ? cache
                 : home != NULL ? home
                                : "/tmp",
                 own ? "" : "/.cache");
        t->builds = builds;
    }
    snprintf(t->work, sizeof t->work, "/tmp/codeq-selftest-XXXXXX");
    return mkdtemp(t->work) != NULL
               ? 0
               : err_set(err, -errno, "selftest: %s: %s", t->work, strerror(errno));
}

int cmd_selftest(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},   {"counts-only", no_argument, NULL, 'c'},
        {"long", no_argument, NULL, 'l'},         {"builds", required_argument, NULL, 'b'},
        {"record", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    static struct selftest t = {.seed = 1};
    char builds[RESULT_PATH_MAX];
    struct err err;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            if (args_int(optarg, 0, INT64_C(1) << 53, &t.seed, &err) != 0) {
                err_prefix(&err, -EINVAL, "selftest: --seed");
                return cmd_fail(CMD_USAGE, &err);
            }
            break;
        case 'c':
            t.counts_only = true;
            break;
        case 'l':
            t.is_long = true;
            break;
        case 'b':
            t.builds = optarg;
            break;
        case 'r':
            t.record = optarg;
            break;
        case 'j':
            t.as_json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return CMD_USAGE;
        }
    }
    if (optind != argc) {
        err_set(&err, -EINVAL, "selftest: '%.60s': it takes no arguments, only options",
                argv[optind]);
        return cmd_fail(CMD_USAGE, &err);
    }
    t.place = places[(size_t)t.seed % (sizeof places / sizeof *places)];
    int code = prepare(&t, builds, &err);
    if (code != 0) {
        return cmd_fail(CMD_USAGE, &err);
    }
    code = run_all(&t, &err);
    remove_tree(t.work);
    if (code != 0) {
        return cmd_fail(code == -EINTR ? CMD_INTERRUPTED : CMD_USAGE, &err);
    }
    return finish(&t, &err);
}
