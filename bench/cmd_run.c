#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/args.h"
#include "base/json.h"
#include "cmd.h"
#include "measure.h"
#include "programs.h"
#include "report_files.h"
#include "result.h"
#include "revision.h"
#include "run_table.h"
#include "tracer.h"

#define SCENARIOS_MAX 64
#define SCENARIO_SET_BYTES_MAX 400000

static const char help[] =
    "codeq-bench run measures scenarios, counts what an operation costs, and writes a result set.\n"
    "\n"
    "usage: codeq-bench run [OPTION...] [SCENARIO...]\n\n"
    "SCENARIO is an id (--list shows them) or a file. Without one:\n"
    "scheduler-create-claim-complete --profile.\n\n"
    "what is measured\n"
    "  --profile         keep profiles: callgrind, massif, dhat and their tables\n"
    "  --quick           counts only, two repeats; without SCENARIO, of every micro-scenario\n"
    "  --repeat N        timed runs and counted repeats, 1..100 (default: as the scenario says)\n"
    "  --commit REV      that commit, built from git, under the present scenarios (default: the\n"
    "                    program beside this one, filed under the checkout's commit)\n"
    "  --live-profile S  of scenarios that load the service (load-*): S seconds of where it uses\n"
    "                    the CPU, and of where it waits; see codeq-bench load --help\n"
    "  --tool T          of such scenarios: callgrind, massif or dhat of the service, as there\n"
    "  --trace           keep what codeq-trace saw of one process run: system calls, waits, Redis\n"
    "                    commands, leases (needs CAP_BPF and CAP_PERFMON, or root)\n"
    "  --as-deployed     leave driver and Redis free to move between cores (default: both on one)\n"
    "where\n"
    "  --out DIR         result sets go there (default: results/ of the checkout in this folder)\n"
    "  --drive PATH      measure that driver (default: the codeq-drive beside this program)\n"
    "  --scenarios DIR   find scenarios there (default: scenarios/ of the checkout)\n"
    "what is shown\n"
    "  --list            list the scenarios and end\n"
    "  --json            one JSON object on stdout\n"
    "  --help            this text\n\n"
    "Scenarios that load the service (load-*) go to `codeq-bench load`, which has more options.\n"
    "A run that was broken off goes on where it stopped when the same command is given again.\n\n"
    "examples:\n"
    "  codeq-bench run\n"
    "  codeq-bench run --quick\n"
    "  codeq-bench run --commit HEAD~3 --quick --profile scheduler-batch\n"
    "  codeq-bench run json-small json-large --repeat 5\n"
    "  codeq-bench run scheduler-batch --profile --out /tmp/results\n";

struct run_options {
    struct measure_options measure;
    bool as_deployed, json, list;
    const char *out, *drive, *scenarios_dir, *commit, *live_seconds;
    const char *tools[3];
    int tool_count;
    char **ids;
    int id_count;
};

struct run_plan {
    struct scenario *scenarios[SCENARIOS_MAX];
    size_t count;
};

static void plan_fini(struct run_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        scenario_free(plan->scenarios[i]);
    }
}

static int plan_add(struct run_plan *plan, const char *path, struct err *err)
{
    if (plan->count == SCENARIOS_MAX) {
        return err_set(err, -E2BIG, "more than %d scenarios", SCENARIOS_MAX);
    }
    struct scenario *scenario = scenario_read(path, err);
    if (scenario == NULL) {
        return -EINVAL;
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (strcmp(plan->scenarios[i]->id, scenario->id) == 0) {
            scenario_free(scenario);
            return 0;
        }
    }
    plan->scenarios[plan->count++] = scenario;
    return 0;
}

static int is_json(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return n > 5 && strcmp(entry->d_name + n - 5, ".json") == 0;
}

/* A scenario of roles loads the service; it belongs to the load command. A file that cannot be read
 * is not one: reading it as the other kind says why. out_title may be NULL. */
static bool has_roles(const char *path, char *out_title, size_t bytes)
{
    struct json *json = json_parse_file(path, SCENARIO_FILE_BYTES_MAX, NULL);
    bool has = json_get(json, "roles") != NULL && json_get(json, "workload") == NULL;
    if (out_title != NULL) {
        snprintf(out_title, bytes, "%s", json_string(json_get(json, "title"), ""));
    }
    json_free(json);
    return has;
}

/* The file of an id, or the file itself. */
static void path_of(const char *id, const char *dir, char out[RESULT_PATH_MAX])
{
    if (strchr(id, '/') != NULL || strstr(id, ".json") != NULL) {
        snprintf(out, RESULT_PATH_MAX, "%s", id);
    } else {
        snprintf(out, RESULT_PATH_MAX, "%.800s/%.200s.json", dir, id);
    }
}

static int plan_all(struct run_plan *plan, const char *dir, struct err *err)
{
    struct dirent **entries = NULL;
    int count = scandir(dir, &entries, is_json, alphasort);
    if (count < 0) {
        return err_set(err, -errno, "%s: %s", dir, strerror(errno));
    }
    int code = 0;
    for (int i = 0; i < count; i++) {
        char path[RESULT_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
        if (code == 0 && !has_roles(path, NULL, 0)) {
            code = plan_add(plan, path, err);
        }
        free(entries[i]);
    }
    free(entries);
    return code;
}

static int plan_build(struct run_plan *plan, const struct run_options *options, const char *dir,
                      struct err *err)
{
    if (options->list || (options->id_count == 0 && options->measure.counts_only)) {
        return plan_all(plan, dir, err);
    }
    static char *only[] = {(char *)(uintptr_t)SCENARIO_DEFAULT};
    char **ids = options->id_count > 0 ? options->ids : only;
    int count = options->id_count > 0 ? options->id_count : 1;
    int code = 0;
    for (int i = 0; i < count && code == 0; i++) {
        char path[RESULT_PATH_MAX];
        path_of(ids[i], dir, path);
        if (access(path, R_OK) != 0 && strchr(ids[i], '/') == NULL) {
            return err_set(err, -ENOENT,
                           "scenario '%s': not in %s: `codeq-bench run --list` shows them", ids[i],
                           dir[0] != '\0' ? dir : "scenarios/");
        }
        code = plan_add(plan, path, err);
    }
    return code;
}

static int parse(int argc, char **argv, struct run_options *out)
{
    static const struct option options[] = {
        {"profile", no_argument, NULL, 'p'},
        {"trace", no_argument, NULL, 't'},
        {"quick", no_argument, NULL, 'q'},
        {"repeat", required_argument, NULL, 'r'},
        {"as-deployed", no_argument, NULL, 'a'},
        {"commit", required_argument, NULL, 'c'},
        {"out", required_argument, NULL, 'o'},
        {"drive", required_argument, NULL, 'd'},
        {"scenarios", required_argument, NULL, 's'},
        {"live-profile", required_argument, NULL, 'L'},
        {"tool", required_argument, NULL, 'T'},
        {"list", no_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct err err;
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            out->measure.profile = true;
            break;
        case 't':
            out->measure.trace = true;
            break;
        case 'q':
            out->measure.counts_only = true;
            break;
        case 'r':
            if (args_int(optarg, 1, 100, &out->measure.repeats, &err) != 0) {
                fprintf(stderr, "codeq-bench: --repeat: %s\n", err.text);
                return CMD_USAGE;
            }
            break;
        case 'a':
            out->as_deployed = true;
            break;
        case 'c':
            out->commit = optarg;
            break;
        case 'o':
            out->out = optarg;
            break;
        case 'd':
            out->drive = optarg;
            break;
        case 's':
            out->scenarios_dir = optarg;
            break;
        case 'T':
            if (out->tool_count == 3) {
                fputs("codeq-bench: run: --tool: there are three\n", stderr);
                return CMD_USAGE;
            }
            out->tools[out->tool_count++] = optarg;
            break;
        case 'L':
            out->live_seconds = optarg;
            break;
        case 'l':
            out->list = true;
            break;
        case 'j':
            out->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(CMD_OK);
        default:
            return CMD_USAGE;
        }
    }
    if (out->commit != NULL && out->drive != NULL) {
        fputs("codeq-bench: --commit and --drive: give one of them\n", stderr);
        return CMD_USAGE;
    }
    out->ids = argv + optind;
    out->id_count = argc - optind;
    if (out->id_count == 0 && !out->measure.counts_only) {
        out->measure.profile = true;
    }
    return CMD_OK;
}

static void print_loads(const char *dir)
{
    struct dirent **entries = NULL;
    int count = scandir(dir, &entries, is_json, alphasort);
    for (int i = 0; i < count; i++) {
        char path[RESULT_PATH_MAX], title[160];
        snprintf(path, sizeof path, "%.700s/%s", dir, entries[i]->d_name);
        if (has_roles(path, title, sizeof title)) {
            printf("%-34.*s %s\n", (int)(strlen(entries[i]->d_name) - 5), entries[i]->d_name,
                   title);
        }
        free(entries[i]);
    }
    free(entries);
}

static void print_list(const struct run_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        printf("%-34s %s\n", plan->scenarios[i]->id, plan->scenarios[i]->title);
    }
}

/* A scenario's folder is to stay small enough to be committed. Source: CONTRACTS, "Result sets". */
static void warn_if_large(const char *set_dir, const char *id)
{
    char dir[RESULT_PATH_MAX + 128], path[2 * RESULT_PATH_MAX];
    struct result_list list;
    struct err ignored;
    snprintf(dir, sizeof dir, "%.800s/%s", set_dir, id);
    if (result_list_files(dir, &list, &ignored) != 0) {
        return;
    }
    int64_t bytes = 0;
    for (size_t i = 0; i < list.count; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, list.paths[i]);
        bytes += stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
    }
    result_list_free(&list);
    if (bytes > SCENARIO_SET_BYTES_MAX) {
        fprintf(stderr,
                "codeq-bench: run: %s: %lld KB, above the %d KB that a commit should carry: take "
                "fewer runs\n",
                dir, (long long)bytes / 1000, SCENARIO_SET_BYTES_MAX / 1000);
    }
}

/* Where the set lies and what to do with it. */
static void print_end(const char *set_dir, const struct result_commit *commit)
{
    printf("\nresult set: %s\n", set_dir);
    if (strcmp(commit->commit, "none") == 0) {
        puts("not in a git checkout: the set is filed under commit \"none\"");
    } else if (commit->dirty) {
        puts("the checkout has changes that are not committed: the set is filed as dirty");
    } else {
        printf("compare: codeq-bench compare %.12s HEAD\n", commit->commit);
    }
}

static int exit_code_of(int code)
{
    return code == -EINTR             ? CMD_INTERRUPTED
           : code == -EPROTONOSUPPORT ? CMD_NOT_COMPARABLE
                                      : CMD_USAGE;
}

static int write_env(const struct env *env, const char *set_dir, struct err *err)
{
    char path[RESULT_PATH_MAX + 16];
    int code = result_make_dirs(set_dir, err);
    if (code == 0) {
        char *text = env_print(env);
        snprintf(path, sizeof path, "%s/env.json", set_dir);
        code = result_write_file(path, text, strlen(text), err);
        free(text);
    }
    return code;
}

static int measure_all(struct session *session, const struct run_plan *plan,
                       const struct run_options *options, const struct env *env,
                       const struct result_commit *commit, const char *set_dir, struct err *err)
{
    char env8[ENV_ID_BYTES];
    env_id(env, env8);
    struct progress progress = {0};
    double guess = 0;
    for (size_t i = 0; i < plan->count; i++) {
        guess += measure_guess_sec(plan->scenarios[i], &options->measure);
    }
    progress_start(&progress, guess);
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.run/1");
    json_add_string(root, "set", set_dir);
    if (session->tracer[0] == '\0') {
        json_add_string(root, "not_traced", session->untraced);
    }
    struct json *list = json_add_array(root, "scenarios");
    int code = 0;
    for (size_t i = 0; i < plan->count && code == 0; i++) {
        char *summary = NULL;
        code = measure_scenario(session, plan->scenarios[i], &options->measure, env, set_dir,
                                &progress, &summary, err);
        if (code == 0) {
            code = result_write_manifest(set_dir, commit, env8, err);
            warn_if_large(set_dir, plan->scenarios[i]->id);
        }
        if (code == 0) {
            struct json *json = json_parse(summary, strlen(summary), NULL);
            if (!options->json) {
                bool shown = progress.shown;
                progress_end(&progress);
                progress.shown = shown;
                fputs(i > 0 ? "\n" : "", stdout);
                run_table_print(stdout, json, plan->scenarios[i]->title);
                if (session->tracer[0] == '\0') {
                    printf(
                        "\n  client off-CPU us/op, Redis system calls/op: not measured: needs %s\n",
                        session->untraced);
                }
                fflush(stdout);
            }
            json_append(list, json);
        }
        free(summary);
    }
    progress_end(&progress);
    if (code == 0 && options->json) {
        char *text = json_print_pretty(root);
        fputs(text, stdout);
        free(text);
    } else if (code == 0) {
        print_end(set_dir, commit);
        report_beside_set(set_dir, stderr);
    }
    json_free(root);
    return code;
}

/* Where codeq-trace may look on, it counts system calls and waits; else ptrace counts the driver's
 * calls and the rest is not measured. */
static int choose_tracer(struct session *session, bool needed, struct err *err)
{
    struct err why = {""};
    char program[sizeof session->tracer];
    programs_trace(program, sizeof program);
    if (tracer_check(program, session->dir, &why) == 0) {
        snprintf(session->tracer, sizeof session->tracer, "%s", program);
        return 0;
    }
    snprintf(session->untraced, sizeof session->untraced, "%s", why.text);
    return needed ? err_set(err, -EPERM, "--trace: needs %s", why.text) : 0;
}

/* Build the commit and name it as result sets do; its driver into drive. -EPROTONOSUPPORT when it
 * has none. */
static int build_commit(const char *name, struct result_commit *commit, char drive[RESULT_PATH_MAX],
                        struct err *err)
{
    struct revision revision, parent;
    char before[160];
    int code = revision_resolve(".", name, &revision, err);
    if (code == 0 && revision.commit[0] == '\0') {
        return err_set(err, -EINVAL,
                       "--commit %s: it has changes that are not committed: leave --commit out to "
                       "measure them",
                       name);
    }
    code = code != 0 ? code : revision_build(".", &revision, "codeq-drive", NULL, NULL, err);
    if (code != 0) {
        return code == -EOPNOTSUPP ? -EPROTONOSUPPORT : code;
    }
    snprintf(before, sizeof before, "%s^", revision.commit);
    bool has_parent = revision_resolve(".", before, &parent, NULL) == 0;
    snprintf(commit->commit, sizeof commit->commit, "%s", revision.commit);
    snprintf(commit->tree, sizeof commit->tree, "%s", revision.tree);
    snprintf(commit->parent, sizeof commit->parent, "%s", has_parent ? parent.commit : "none");
    commit->dirty = false;
    revision_program(&revision, "codeq-drive", drive);
    return 0;
}

static int run(const struct run_options *options, struct err *err)
{
    struct result_commit commit;
    result_commit_read(".", &commit);
    char scenarios_dir[RESULT_PATH_MAX + 32], drive[RESULT_PATH_MAX], counter[RESULT_PATH_MAX];
    programs_scenarios(commit.root, scenarios_dir, sizeof scenarios_dir);
    if (options->scenarios_dir != NULL) {
        snprintf(scenarios_dir, sizeof scenarios_dir, "%s", options->scenarios_dir);
    }
    struct run_plan plan = {0};
    struct session session = {.cpu = options->as_deployed ? -1 : session_core(),
                              .stopped = cmd_stopped};
    struct json *hello = NULL;
    int code = plan_build(&plan, options, scenarios_dir, err);
    if (code != 0 || options->list) {
        if (code == 0) {
            print_list(&plan);
            print_loads(scenarios_dir);
        }
        goto out;
    }
    programs_drive(drive, sizeof drive);
    if (options->drive != NULL) {
        snprintf(drive, sizeof drive, "%s", options->drive);
    }
    if (options->commit != NULL) {
        code = build_commit(options->commit, &commit, drive, err);
        if (code != 0) {
            goto out;
        }
    }
    programs_alloc_count(counter, sizeof counter);
    if (drive[0] == '\0' || counter[0] == '\0') {
        code = err_set(err, -ENOENT, "%s: not beside this program: build it%s",
                       drive[0] == '\0' ? "codeq-drive" : "libcodeq-alloccount.so",
                       drive[0] == '\0' ? ", or give --drive" : "");
        goto out;
    }
    code = session_open(&session, drive, counter, err);
    code = code == 0 ? choose_tracer(&session, options->measure.trace, err) : code;
    if (code == 0) {
        code = run_hello(&session, &hello, err);
    }
    if (code == 0) {
        code = run_check_build(hello, err);
    }
    if (code != 0) {
        goto out;
    }
    struct env env;
    env_collect(&env, "", json_get(hello, "build"));
    if (strcmp(env_get(&env, "valgrind"), "none") == 0) {
        code = err_set(err, -ENOENT,
                       "valgrind: not found: instructions cannot be counted: install "
                       "valgrind");
        goto out;
    }
    char env8[ENV_ID_BYTES], folder[96], set_dir[RESULT_PATH_MAX];
    env_id(&env, env8);
    result_commit_folder(&commit, folder, sizeof folder);
    if (options->out != NULL) {
        snprintf(set_dir, sizeof set_dir, "%.700s/%s/%s", options->out, folder, env8);
    } else {
        snprintf(set_dir, sizeof set_dir, "%.700s/results/%s/%s", commit.root, folder, env8);
    }
    snprintf(commit.program, sizeof commit.program, "%s", drive);
    code = write_env(&env, set_dir, err);
    if (code == 0) {
        code = measure_all(&session, &plan, options, &env, &commit, set_dir, err);
    }
out:
    session_close(&session);
    json_free(hello);
    plan_fini(&plan);
    return code;
}

/* Scenarios that load the service go to the load command, whose options these are a part of.
 * -1: none of them is one. */
static int forward_loads(const struct run_options *options)
{
    struct result_commit commit;
    char dir[RESULT_PATH_MAX + 32], path[RESULT_PATH_MAX], runs[24];
    result_commit_read(".", &commit);
    programs_scenarios(commit.root, dir, sizeof dir);
    const char *scenarios_dir = options->scenarios_dir != NULL ? options->scenarios_dir : dir;
    int loads = 0;
    for (int i = 0; i < options->id_count; i++) {
        path_of(options->ids[i], scenarios_dir, path);
        loads += has_roles(path, NULL, 0);
    }
    if (loads == 0 || options->list) {
        return -1;
    }
    struct err err;
    if (options->commit != NULL) {
        err_set(&err, 0,
                "run: --commit: scenarios that load the service are measured of the present "
                "program alone");
        return cmd_fail(CMD_USAGE, &err);
    }
    if (loads < options->id_count) {
        err_set(&err, 0,
                "run: some of these scenarios load the service and some do not: run the "
                "two kinds apart");
        return cmd_fail(CMD_USAGE, &err);
    }
    const char *argv[SCENARIOS_MAX + 24] = {"load", "--scenarios", scenarios_dir};
    int argc = 3;
    if (options->measure.repeats > 0) {
        snprintf(runs, sizeof runs, "%lld", (long long)options->measure.repeats);
        argv[argc++] = "--runs";
        argv[argc++] = runs;
    }
    if (options->out != NULL) {
        argv[argc++] = "--out";
        argv[argc++] = options->out;
    }
    for (int i = 0; i < options->tool_count; i++) {
        argv[argc++] = "--tool";
        argv[argc++] = options->tools[i];
    }
    if (options->live_seconds != NULL) {
        argv[argc++] = "--live-profile";
        argv[argc++] = options->live_seconds;
    }
    if (options->measure.counts_only) {
        argv[argc++] = "--short";
    }
    if (options->json) {
        argv[argc++] = "--json";
    }
    for (int i = 0; i < options->id_count && i < SCENARIOS_MAX; i++) {
        argv[argc++] = options->ids[i];
    }
    return cmd_load(argc, (char **)(uintptr_t)argv);
}

int cmd_run(int argc, char **argv)
{
    struct run_options options = {0};
    int usage = parse(argc, argv, &options);
    if (usage != CMD_OK) {
        return usage;
    }
    int forwarded = forward_loads(&options);
    if (forwarded >= 0) {
        return forwarded;
    }
    struct err err = {""};
    if ((options.live_seconds != NULL || options.tool_count > 0) && !options.list) {
        err_set(
            &err, 0,
            "run: --live-profile, --tool: none of these scenarios loads the service: name one of "
            "load-*");
        return cmd_fail(CMD_USAGE, &err);
    }
    int code = run(&options, &err);
    if (code != 0) {
        /* A stop that met a child or a reply halfway shows as its failure: the stop is the cause.
         */
        if (cmd_stopped()) {
            code = err_set(&err, -EINTR, "interrupted");
        }
        err_prefix(&err, code, "run");
        return cmd_fail(exit_code_of(code), &err);
    }
    return CMD_OK;
}
