/* codeq-bench selftest: can this laboratory be trusted, here and today? */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd.h"
#include "noise.h"
#include "result.h"

#define SCHEMA "codeq-lab.selftest/1"
#define STEP_TIMEOUT_NS (1200 * NS_PER_SEC)
#define CHECKS_MAX 32

static const char help[] =
    "codeq-bench selftest measures one program against itself, then programs that are worse in a\n"
    "known way, and fails when compare sees what is not there or misses what is.\n\n"
    "usage: codeq-bench selftest [OPTION...]\n\n"
    "Run it in a checkout: the programs are built there with meson's option -Dplant=NAME. The\n"
    "judge is plain `codeq-bench compare`, given two programs and no plant's name.\n\n"
    "  --seed N         chooses the function that is planted in (default: 1)\n"
    "  --plant NAME     only like with like and this plant: instructions, allocation, round-trip,\n"
    "                   leak, busy-loop, stall\n"
    "  --counts-only    leave out the timed checks\n"
    "  --long           three repeats of every count\n"
    "  --builds DIR     build there (default: codeq-lab/plants in the user's cache)\n"
    "  --record FILE    write the findings there as JSON\n"
    "  --json           one JSON object on stdout\n"
    "  --help           this text\n\n"
    "exit codes: 0 trust it, 6 do not, 2 usage or environment\n\n"
    "examples:\n"
    "  codeq-bench selftest\n"
    "  codeq-bench selftest --counts-only --seed 7\n"
    "  codeq-bench selftest --plant stall\n"
    "  codeq-bench selftest --long --record results/.selftest/today.json\n";

static const char *const places[] = {"create", "claim", "complete"};

/* Where compare must put the blame. */
enum blame {
    BLAME_FUNCTION, /* the first part of the metric names the planted function */
    BLAME_CALL, /* the headline leads with the planted call's round trip */
    BLAME_TAIL, /* the planted call's tail grew, more than the others' */
};

/* A planted change, what must be found, and what else follows from it. Names are of the metric
 * table, without scope; lists end with NULL. */
static const struct plant {
    const char *name;
    const char *must; /* "" : no counted metric may move */
    bool leak;
    enum blame blame;
    bool at_claim_only;
    const char *may[8];
} plants[] = {
    {"instructions", "instructions_per_op", false, BLAME_FUNCTION, false, {NULL}},
    {"allocation",
     "allocs_per_op",
     false,
     BLAME_FUNCTION,
     false,
     {"alloc_bytes_per_op", "instructions_per_op", NULL}},
    {"round-trip",
     "round_trips_per_op",
     false,
     BLAME_CALL,
     true,
     {"instructions_per_op", "redis_calls_per_op", "redis_commands_per_op", "bytes_to_redis_per_op",
      "bytes_from_redis_per_op", "syscalls_per_op", NULL}},
    {"leak",
     "live_bytes_per_op",
     true,
     BLAME_FUNCTION,
     false,
     {"allocs_per_op", "alloc_bytes_per_op", "heap_peak_bytes", NULL}},
    {"busy-loop", "instructions_per_op", false, BLAME_FUNCTION, false, {NULL}},
    {"stall", "", false, BLAME_TAIL, false, {NULL}},
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
    const char *only; /* the one plant that is checked; NULL: all */
    const char *place; /* the planted function: "claim" */
    char root[RESULT_PATH_MAX];
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

/* What plain compare says of two programs, as JSON, the caller's to free; NULL with text. */
static struct json *ask_compare(const struct selftest *t, const char *a, const char *b, bool times,
                                struct err *err)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%lld", (long long)t->seed);
    const char *argv[12] = {
        t->self,  "compare", "--fresh", "--even-same", "--json", "--repeat", t->is_long ? "3" : "1",
        "--seed", seed};
    int n = 9;
    if (!times) {
        argv[n++] = "--counts-only";
    }
    argv[n++] = a;
    argv[n] = b;
    const char *whole[13];
    memcpy(whole, argv, sizeof argv);
    whole[n + 1] = NULL;
    char *out = NULL;
    int code = run_step(whole, CMD_INCONCLUSIVE, &out, err);
    if (code < 0) {
        return NULL;
    }
    struct json *answer = json_parse(out, strlen(out), err);
    free(out);
    if (answer == NULL) {
        err_prefix(err, -EBADMSG, "compare --json");
    } else if (json_first(json_get(answer, "scenarios")) == NULL) {
        err_set(err, -EIO, "compare: %s", json_string(json_get(answer, "headline"), "nothing"));
        json_free(answer);
        answer = NULL;
    }
    return answer;
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

static void fail(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fail(struct check *check, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check->ok = false;
    vsnprintf(check->found, sizeof check->found, format, args);
    va_end(args);
}

/* Whether the blame for the metric that must be worse is where the plant is. */
static bool is_blamed(const struct selftest *t, const struct plant *plant, const struct json *m,
                      const char *headline, struct check *check)
{
    char wanted[64];
    const char *part = json_string(json_get(json_first(json_get(m, "parts")), "name"), "nothing");
    switch (plant->blame) {
    case BLAME_FUNCTION:
        snprintf(wanted, sizeof wanted, "store_%s", t->place);
        if (strstr(part, wanted) == NULL) {
            fail(check, "%s is blamed on %s, not on %s", plant->must, part, wanted);
            return false;
        }
        return true;
    case BLAME_CALL:
        snprintf(wanted, sizeof wanted, "%s makes 1 more Redis round trip", t->place);
        if (strstr(headline, wanted) == NULL) {
            fail(check, "the first sentence does not say '%s': %s", wanted, headline);
            return false;
        }
        return true;
    case BLAME_TAIL:
        break; /* no counted metric must be worse */
    }
    return true;
}

/* Judge what compare said of the counts; plant NULL: of the same program twice. */
static void judge_counts(const struct selftest *t, const struct plant *plant,
                         const struct json *answer, struct check *check)
{
    static const char *const none[] = {NULL};
    const char *const must[] = {plant != NULL && plant->must[0] != '\0' ? plant->must : NULL, NULL};
    const char *headline = json_string(json_get(answer, "headline"), "compare said nothing");
    bool found = must[0] == NULL;
    check->ok = true;
    snprintf(check->found, sizeof check->found, "%s", headline);
    const struct json *scenario = json_first(json_get(answer, "scenarios"));
    size_t seen = 0;
    for (const struct json *m = json_first(json_get(scenario, "metrics")); m != NULL;
         m = json_next(m)) {
        const char *id = json_string(json_get(m, "id"), "");
        const char *verdict = json_string(json_get(m, "verdict"), "");
        if (strcmp(json_string(json_get(m, "class"), ""), "counted") != 0) {
            continue;
        }
        seen++;
        if (strcmp(verdict, "same") == 0 || strcmp(verdict, "inconclusive") == 0) {
            continue;
        }
        bool worse = strcmp(verdict, "worse") == 0;
        if (worse && is_one_of(id, must)) {
            found = !plant->leak || json_bool(json_get(m, "leak"), false);
            if (!is_blamed(t, plant, m, headline, check)) {
                return;
            }
        } else if (!worse || !is_one_of(id, plant != NULL ? plant->may : none)) {
            fail(check, "false alarm: %s is %s (%g to %g)", id, verdict,
                 json_number(json_get(m, "a"), 0), json_number(json_get(m, "b"), 0));
            return;
        }
    }
    if (!found || seen == 0) {
        fail(check, "not found: %s is not worse: %s",
             plant != NULL ? plant->must : "nothing was counted and it", headline);
    }
}

/* Judge what it said of times: wanted is the call whose tail must have grown most; NULL: nothing
 * may have moved. */
static void judge_times(const struct json *answer, const char *wanted, struct check *check)
{
    const struct json *scenario = json_first(json_get(answer, "scenarios"));
    size_t metrics = 0;
    check->ok = true;
    for (const struct json *m = json_first(json_get(scenario, "metrics")); m != NULL;
         m = json_next(m)) {
        const char *verdict = json_string(json_get(m, "verdict"), "");
        bool moved = strcmp(verdict, "worse") == 0 || strcmp(verdict, "better") == 0;
        if (strcmp(json_string(json_get(m, "class"), ""), "timed") != 0) {
            continue;
        }
        metrics++;
        if (moved && wanted == NULL) {
            fail(check, "false alarm: %s is %s, %.3f [%.3f, %.3f]",
                 json_string(json_get(m, "id"), ""), verdict, json_number(json_get(m, "effect"), 0),
                 json_number(json_get(m, "low"), 0), json_number(json_get(m, "high"), 0));
            return;
        }
    }
    const struct json *most = NULL;
    double most_ratio = 0;
    for (const struct json *tail = json_first(json_get(scenario, "tails")); tail != NULL;
         tail = json_next(tail)) {
        const char *verdict = json_string(json_get(tail, "verdict"), "");
        double ratio = json_number(json_get(tail, "ratio"), 0);
        bool moved = strcmp(verdict, "worse") == 0 || strcmp(verdict, "better") == 0;
        if (moved && wanted == NULL) {
            fail(check, "false alarm: %s has %.2f times as many requests above %.3f ms",
                 json_string(json_get(tail, "call"), ""), ratio,
                 json_number(json_get(tail, "threshold_ns"), 0) / 1e6);
            return;
        }
        if (moved && ratio > most_ratio) {
            most = tail;
            most_ratio = ratio;
        }
    }
    if (metrics == 0 || json_bool(json_get(scenario, "unsteady"), false)) {
        fail(check, "times cannot be judged: %s",
             json_string(json_get(answer, "headline"), "nothing"));
    } else if (wanted == NULL) {
        snprintf(check->found, sizeof check->found,
                 "%zu metrics, no verdict but same or inconclusive in %.0f pairs", metrics,
                 json_number(json_get(scenario, "screen_pairs"), 0) +
                     json_number(json_get(scenario, "confirm_pairs"), 0));
    } else if (most == NULL) {
        fail(check, "not found: no tail grew: %s", json_string(json_get(answer, "headline"), ""));
    } else {
        const char *call = json_string(json_get(most, "call"), "");
        check->ok = strcmp(call, wanted) == 0 &&
                    strcmp(json_string(json_get(most, "verdict"), ""), "worse") == 0;
        snprintf(check->found, sizeof check->found,
                 "%.2f times as many %s requests above %.3f ms [%.2f, %.2f], %.0f samples%s",
                 most_ratio, call, json_number(json_get(most, "threshold_ns"), 0) / 1e6,
                 json_number(json_get(most, "low"), 0), json_number(json_get(most, "high"), 0),
                 json_number(json_get(most, "samples"), 0), check->ok ? "" : ": the wrong call");
    }
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

/* One comparison: its counts are one check, its times, where taken, another. */
static int check_pair(struct selftest *t, const struct plant *plant, const char *plain,
                      const char *drive, bool times, struct err *err)
{
    int64_t began_ns = clock_monotonic_ns(clock_system());
    struct noise_sample before;
    noise_take(&before);
    struct json *answer = ask_compare(t, plain, drive, times, err);
    if (answer == NULL) {
        return -EIO;
    }
    const char *name = plant != NULL ? plant->name : "itself";
    struct check *check =
        new_check(t, plant != NULL ? "counts, planted %s" : "counts, A against %s", name);
    judge_counts(t, plant, answer, check);
    if (!check->ok) {
        add_noise(&before, check);
    }
    end_check(t, check, began_ns);
    if (times) {
        check = new_check(t, plant != NULL ? "times, planted %s" : "times, A against %s", name);
        judge_times(answer, plant != NULL ? t->place : NULL, check);
        add_noise(&before, check);
        end_check(t, check, began_ns);
    }
    json_free(answer);
    return 0;
}

/* --- all of it --- */

static int run_all(struct selftest *t, struct err *err)
{
    char plain[RESULT_PATH_MAX];
    char drive[RESULT_PATH_MAX];
    int code = build_plant(t, "none", "claim", plain, err);
    code = code != 0 ? code : check_pair(t, NULL, plain, plain, !t->counts_only, err);
    for (size_t i = 0; i < PLANTS && code == 0; i++) {
        const struct plant *plant = &plants[i];
        if (cmd_stopped()) {
            return err_set(err, -EINTR, "interrupted");
        }
        if (t->only != NULL && strcmp(t->only, plant->name) != 0) {
            continue;
        }
        const char *chosen = t->place;
        bool times = plant->blame == BLAME_TAIL && !t->counts_only;
        t->place = plant->at_claim_only ? "claim" : chosen;
        code = build_plant(t, plant->name, t->place, drive, err);
        code = code != 0 ? code : check_pair(t, plant, plain, drive, times, err);
        t->place = chosen;
    }
    return cmd_stopped() ? err_set(err, -EINTR, "interrupted") : code;
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
        /* A build belongs to its checkout: another one's is of no use. */
        uint32_t hash = 2166136261u;
        for (const char *c = t->root; *c != '\0'; c++) {
            hash = (hash ^ (unsigned char)*c) * 16777619u;
        }
        snprintf(builds, RESULT_PATH_MAX, "%.700s%s/codeq-lab/plants/%08x",
                 own            ? cache
                 : home != NULL ? home
                                : "/tmp",
                 own ? "" : "/.cache", hash);
        t->builds = builds;
    }
    return 0;
}

static bool is_plant(const char *name)
{
    for (size_t i = 0; i < PLANTS; i++) {
        if (strcmp(plants[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

int cmd_selftest(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"counts-only", no_argument, NULL, 'c'},
        {"long", no_argument, NULL, 'l'},
        {"builds", required_argument, NULL, 'b'},
        {"record", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"plant", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {0},
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
        case 'p':
            t.only = optarg;
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
    if (t.only != NULL && !is_plant(t.only)) {
        err_set(&err, -EINVAL, "selftest: --plant %.40s: none of that name: --help lists them",
                t.only);
        return cmd_fail(CMD_USAGE, &err);
    }
    t.place = places[(size_t)t.seed % (sizeof places / sizeof *places)];
    int code = prepare(&t, builds, &err);
    if (code != 0) {
        return cmd_fail(CMD_USAGE, &err);
    }
    code = run_all(&t, &err);
    if (code != 0) {
        return cmd_fail(code == -EINTR ? CMD_INTERRUPTED : CMD_USAGE, &err);
    }
    return finish(&t, &err);
}
