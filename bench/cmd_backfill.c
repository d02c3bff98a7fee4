/* codeq-bench backfill: measure the commits of a range that have no result set yet. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/child.h"
#include "base/clock.h"
#include "cmd.h"
#include "env.h"
#include "programs.h"
#include "result.h"
#include "revision.h"
#include "scenario.h"
#include "set.h"
#include "summary.h"

#define STEP_TIMEOUT_NS (4 * 3600 * NS_PER_SEC)
#define SCENARIOS_MAX 64
#define SUBJECT_COLUMNS 60

static const char help[] =
    "codeq-bench backfill measures the commits of a range that have no result set yet, oldest "
    "first.\n\n"
    "usage: codeq-bench backfill [OPTION...] A..B\n\n"
    "The commits are those after A up to B along first parents; each is built from git and\n"
    "measured under the present laboratory and scenarios, as `codeq-bench run --commit` does. One\n"
    "that was measured on this machine under the same scenario files is skipped; one without a\n"
    "driver, or that does not build, is named and passed over. Interrupted, it goes on where it\n"
    "stopped.\n\n"
    "  --scenario ID     measure this one; may be given several times (default: " SCENARIO_DEFAULT
    ")\n"
    "  --quick           counts only, two repeats\n"
    "  --repeat N        timed runs and counted repeats, 1..100 (default: as the scenario says)\n"
    "  --out DIR         result sets are there (default: results/ of the checkout)\n"
    "  --scenarios DIR   find scenarios there (default: scenarios/ of the checkout)\n"
    "  --dry-run         only say what would be measured\n"
    "  --help            this text\n\n"
    "exit codes: 0 ok, 2 usage or a commit that could not be measured, 130 interrupted\n\n"
    "examples:\n"
    "  codeq-bench backfill v1.0..HEAD\n"
    "  codeq-bench backfill HEAD~20..HEAD --quick --scenario json-large --dry-run\n";

struct backfill {
    const char *range;
    const char *out; /* --out */
    char results_dir[RESULT_PATH_MAX];
    char scenarios_dir[RESULT_PATH_MAX + 32];
    const char *ids[SCENARIOS_MAX];
    struct scenario *scenarios[SCENARIOS_MAX];
    size_t count;
    bool quick, dry_run;
    const char *repeat;
    struct env machine; /* without what a build adds */
    size_t measured, had, without_driver, failed;
};

/* --- what is there already --- */

/* The machine's fields of env.json are today's; those of the build are the commit's own. */
static bool same_machine(const struct backfill *b, const char *set_dir)
{
    char path[RESULT_PATH_MAX + 16];
    struct json *env = NULL;
    snprintf(path, sizeof path, "%s/env.json", set_dir);
    if (set_read_json(path, ENV_SCHEMA, &env, NULL) != 0) {
        return false;
    }
    const struct json *identity = json_get(env, "identity");
    bool same = true;
    for (size_t i = 0; i < b->machine.identity_count; i++) {
        const struct env_field *field = &b->machine.identity[i];
        const char *value = json_string(json_get(identity, field->name), "");
        same = same && strcmp(value, field->value) == 0;
    }
    json_free(env);
    return same;
}

static bool has_timed(const struct json *summary)
{
    for (const struct json *m = json_first(json_get(summary, "metrics")); m != NULL;
         m = json_next(m)) {
        if (strcmp(json_string(json_get(m, "class"), ""), "timed") == 0) {
            return true;
        }
    }
    return false;
}

static bool has_scenario(const struct backfill *b, const char *set_dir,
                         const struct scenario *scenario)
{
    char path[2 * RESULT_PATH_MAX];
    struct json *summary = NULL;
    snprintf(path, sizeof path, "%s/%s/summary.json", set_dir, scenario->id);
    bool has = set_read_json(path, SUMMARY_SCHEMA, &summary, NULL) == 0 &&
               strcmp(json_string(json_get(json_get(summary, "scenario"), "sha256"), ""),
                      scenario->sha256) == 0 &&
               (b->quick || has_timed(summary));
    json_free(summary);
    return has;
}

/* Some set of this commit and machine has every scenario. */
static bool is_measured(const struct backfill *b, const char *hash)
{
    struct set_list *list = calloc(1, sizeof *list);
    bool measured = false;
    if (list == NULL) {
        abort();
    }
    if (set_find(b->results_dir, hash, list, NULL) == 0) {
        for (size_t i = 0; i < list->count && !measured; i++) {
            measured = same_machine(b, list->sets[i].dir);
            for (size_t k = 0; k < b->count && measured; k++) {
                measured = has_scenario(b, list->sets[i].dir, b->scenarios[k]);
            }
        }
    }
    free(list);
    return measured;
}

/* --- one commit --- */

/* Run ourselves: the commit's set is written by the same code as any other. Returns its exit code,
 * or negative errno with text; what it said last is in err. */
static int measure(const struct backfill *b, const char *hash, struct err *err)
{
    char self[RESULT_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) {
        return err_set(err, -errno, "/proc/self/exe: %s", strerror(errno));
    }
    self[n] = '\0';
    const char *argv[SCENARIOS_MAX + 16] = {self, "run",         "--commit",
                                            hash, "--scenarios", b->scenarios_dir};
    size_t k = 6;
    if (b->quick) {
        argv[k++] = "--quick";
    }
    if (b->repeat != NULL) {
        argv[k++] = "--repeat";
        argv[k++] = b->repeat;
    }
    if (b->out != NULL) {
        argv[k++] = "--out";
        argv[k++] = b->out;
    }
    argv[k++] = "--profile";
    for (size_t i = 0; i < b->count; i++) {
        argv[k++] = b->ids[i];
    }
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + STEP_TIMEOUT_NS, &out,
                         &errors, err);
    if (code > 0) {
        size_t bytes = strlen(errors);
        while (bytes > 0 && errors[bytes - 1] == '\n') {
            errors[--bytes] = '\0';
        }
        const char *line = strrchr(errors, '\n');
        line = line != NULL ? line + 1 : errors;
        static const char own[] = "codeq-bench: run: ";
        line += strncmp(line, own, sizeof own - 1) == 0 ? sizeof own - 1 : 0;
        err_set(err, -EIO, "%.300s", line);
    }
    free(out);
    free(errors);
    return code;
}

static void say(const struct revision *revision, const char *what)
{
    printf("%.12s  %-24s %.*s\n", revision->commit, what, SUBJECT_COLUMNS, revision->subject);
    fflush(stdout);
}

static int backfill_one(struct backfill *b, const char *hash, struct err *err)
{
    struct revision revision;
    int code = revision_resolve(".", hash, &revision, err);
    if (code != 0) {
        return code;
    }
    if (is_measured(b, hash)) {
        b->had++;
        say(&revision, "has a set");
        return 0;
    }
    if (b->dry_run) {
        b->measured++;
        say(&revision, "would be measured");
        return 0;
    }
    int64_t began_ns = clock_monotonic_ns(clock_system());
    code = measure(b, hash, err);
    if (cmd_stopped() || code == CMD_INTERRUPTED || code == -EINTR) {
        return err_set(err, -EINTR, "interrupted: give the same command again to go on");
    }
    char what[64];
    if (code == 0) {
        b->measured++;
        snprintf(what, sizeof what, "measured in %.0f s",
                 (double)(clock_monotonic_ns(clock_system()) - began_ns) / 1e9);
        say(&revision, what);
    } else if (code == CMD_NOT_COMPARABLE) {
        b->without_driver++;
        say(&revision, "has no driver to measure");
    } else {
        b->failed++;
        say(&revision, "failed");
        printf("              %s\n", err->text);
    }
    return 0;
}

static int read_scenarios(struct backfill *b, struct err *err)
{
    for (size_t i = 0; i < b->count; i++) {
        char path[RESULT_PATH_MAX + 256];
        if (strchr(b->ids[i], '/') != NULL) {
            snprintf(path, sizeof path, "%.1000s", b->ids[i]);
        } else {
            snprintf(path, sizeof path, "%s/%.200s.json", b->scenarios_dir, b->ids[i]);
        }
        b->scenarios[i] = scenario_read(path, err);
        if (b->scenarios[i] == NULL) {
            return -EINVAL;
        }
    }
    return 0;
}

static int backfill(struct backfill *b, struct err *err)
{
    struct result_commit here;
    struct revision_list list = {0};
    result_commit_read(".", &here);
    if (b->out != NULL) {
        snprintf(b->results_dir, sizeof b->results_dir, "%.1000s", b->out);
    } else {
        snprintf(b->results_dir, sizeof b->results_dir, "%.900s/results", here.root);
    }
    if (b->scenarios_dir[0] == '\0') {
        programs_scenarios(here.root, b->scenarios_dir, sizeof b->scenarios_dir);
    }
    int code = read_scenarios(b, err);
    code = code != 0 ? code : revision_list_read(".", b->range, &list, err);
    if (code == 0) {
        env_collect(&b->machine, "", NULL);
    }
    for (size_t i = 0; i < list.count && code == 0; i++) {
        code = cmd_stopped() ? err_set(err, -EINTR, "interrupted")
                             : backfill_one(b, list.hashes[i], err);
    }
    if (code == 0) {
        printf("\n%zu commits: %zu %s, %zu had a set, %zu without a driver, %zu failed\n",
               list.count, b->measured, b->dry_run ? "to measure" : "measured", b->had,
               b->without_driver, b->failed);
    }
    revision_list_free(&list);
    for (size_t i = 0; i < b->count; i++) {
        scenario_free(b->scenarios[i]);
    }
    return code;
}

/* -1: go on. */
static int parse(int argc, char **argv, struct backfill *out, struct err *err)
{
    static const struct option options[] = {
        {"scenario", required_argument, NULL, 's'},
        {"quick", no_argument, NULL, 'q'},
        {"repeat", required_argument, NULL, 'r'},
        {"out", required_argument, NULL, 'o'},
        {"scenarios", required_argument, NULL, 'S'},
        {"dry-run", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int64_t ignored = 0;
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's':
            if (out->count == SCENARIOS_MAX) {
                return err_set(err, CMD_USAGE, "--scenario: at most %d", SCENARIOS_MAX);
            }
            out->ids[out->count++] = optarg;
            break;
        case 'q':
            out->quick = true;
            break;
        case 'r':
            if (args_int(optarg, 1, 100, &ignored, err) != 0) {
                return err_prefix(err, CMD_USAGE, "--repeat");
            }
            out->repeat = optarg;
            break;
        case 'o':
            out->out = optarg;
            break;
        case 'S':
            snprintf(out->scenarios_dir, sizeof out->scenarios_dir, "%.1000s", optarg);
            break;
        case 'n':
            out->dry_run = true;
            break;
        case 'h':
            fputs(help, stdout);
            return CMD_OK;
        default:
            return err_set(err, CMD_USAGE, "codeq-bench backfill --help lists the options");
        }
    }
    if (argc - optind != 1) {
        return err_set(err, CMD_USAGE, "give one range of commits, as A..B");
    }
    out->range = argv[optind];
    if (out->count == 0) {
        out->ids[out->count++] = SCENARIO_DEFAULT;
    }
    return -1;
}

int cmd_backfill(int argc, char **argv)
{
    struct backfill *b = calloc(1, sizeof *b);
    struct err err = {""};
    if (b == NULL) {
        abort();
    }
    int code = parse(argc, argv, b, &err);
    if (code == -1) {
        code = backfill(b, &err);
    }
    if (code != CMD_OK) {
        err_prefix(&err, code, "backfill");
        code = cmd_fail(code == -EINTR ? CMD_INTERRUPTED : CMD_USAGE, &err);
    } else if (b->failed > 0) {
        code = CMD_USAGE;
    }
    free(b);
    return code;
}
