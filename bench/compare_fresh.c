#include "compare_fresh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "cmd.h"
#include "compare.h"
#include "measure.h"
#include "programs.h"
#include "run_process.h"
#include "set.h"
#include "summary.h"

static const char *const side_names[] = {"a", "b"};

struct work {
    struct compare_fresh *out;
    const struct compare_fresh_options *options;
    struct session sessions[2];
    struct json *hello[2];
    struct scenario *scenarios[COMPARE_SCENARIOS_MAX];
    size_t scenario_count;
    struct progress progress;
    int64_t began_ns;
    int64_t deadline_ns;
};

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* --- the work folder --- */

/* "<tree16>-<toolchain8>" of a built revision. */
static void build_name(const struct revision *revision, char out[64])
{
    char sha256[DIGEST_BYTES];
    if (revision->program[0] != '\0') {
        bool read = digest_file(revision->program, sha256, NULL) == 0;
        snprintf(out, 64, "%.16s-program", read ? sha256 : "unreadable");
        return;
    }
    char path[REVISION_PATH_BYTES];
    snprintf(path, sizeof path, "%s", revision->build_dir);
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    slash = strrchr(path, '/');
    snprintf(out, 64, "%.60s", slash != NULL ? slash + 1 : path);
}

static int open_work(struct work *work, struct err *err)
{
    struct compare_fresh *out = work->out;
    char names[2][64];
    char lab[DIGEST_BYTES];
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    bool own = cache != NULL && cache[0] == '/';
    build_name(&out->a, names[0]);
    build_name(&out->b, names[1]);
    int code = digest_file("/proc/self/exe", lab, err);
    if (code != 0) {
        return code;
    }
    snprintf(out->dir, sizeof out->dir, "%.600s%s/codeq-lab/compare/%s_%s_%.8s",
             own                              ? cache
             : home != NULL && home[0] == '/' ? home
                                              : "/tmp",
             own ? "" : "/.cache", names[0], names[1], lab);
    code = result_make_dirs(out->dir, err);
    if (code != 0) {
        return code;
    }
    char path[RESULT_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/lock", out->dir);
    out->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (out->lock < 0) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    if (lockf(out->lock, F_TLOCK, 0) != 0) {
        return err_set(err, -EBUSY,
                       "%s: another comparison of these two is running: wait for it, or end it",
                       out->dir);
    }
    return 0;
}

void compare_fresh_forget(struct compare_fresh *fresh)
{
    if (fresh->dir[0] != '\0') {
        remove_tree(fresh->dir);
    }
}

void compare_fresh_fini(struct compare_fresh *fresh)
{
    for (size_t i = 0; i < COMPARE_SCENARIOS_MAX; i++) {
        free(fresh->timed[i]);
        fresh->timed[i] = NULL;
    }
    if (fresh->lock >= 0) {
        close(fresh->lock);
        fresh->lock = -1;
    }
}

/* --- what is measured --- */

static int read_scenarios(struct work *work, struct err *err)
{
    static const char *const only[] = {SCENARIO_DEFAULT};
    const struct compare_fresh_options *o = work->options;
    const char *const *ids = o->scenario_count > 0 ? o->scenarios : only;
    size_t count = o->scenario_count > 0 ? o->scenario_count : 1;
    for (size_t i = 0; i < count && i < COMPARE_SCENARIOS_MAX; i++) {
        char path[RESULT_PATH_MAX];
        if (strchr(ids[i], '/') != NULL) {
            snprintf(path, sizeof path, "%.1000s", ids[i]);
        } else {
            snprintf(path, sizeof path, "%.700s/%.200s.json", o->scenarios_dir, ids[i]);
        }
        if (access(path, R_OK) != 0) {
            return err_set(err, -ENOENT,
                           "scenario '%.100s': not in %.300s: `codeq-bench run --list` shows them",
                           ids[i], o->scenarios_dir);
        }
        work->scenarios[i] = scenario_read(path, err);
        if (work->scenarios[i] == NULL) {
            return -ENOENT;
        }
        work->scenario_count++;
    }
    return 0;
}

static void tell_build(void *arg, const char *line)
{
    (void)arg;
    if (isatty(STDERR_FILENO) == 1) {
        fprintf(stderr, "\r\033[Kcodeq-bench: %s", line);
        fflush(stderr);
    }
}

static int build_one(const char *name, struct revision *out, struct err *err)
{
    if (revision_take_program(name, out)) {
        return 0;
    }
    int code = revision_resolve(".", name, out, err);
    return code != 0 ? code : revision_build(".", out, "codeq-drive", tell_build, NULL, err);
}

static int build_both(struct work *work, struct err *err)
{
    struct compare_fresh *out = work->out;
    int code = build_one(work->options->a, &out->a, err);
    code = code != 0 ? code : build_one(work->options->b, &out->b, err);
    tell_build(NULL, "");
    if (isatty(STDERR_FILENO) == 1) {
        fputs("\r\033[K", stderr);
    }
    if (code == -EOPNOTSUPP) {
        snprintf(out->reason, sizeof out->reason, "%s", err->text);
        return 0;
    }
    if (code == 0) {
        out->same_program = revision_same_program(&out->a, &out->b, "codeq-drive");
    }
    return code;
}

/* The drivers, and whether today's laboratory can ask both the same questions. */
static int open_sessions(struct work *work, struct err *err)
{
    struct compare_fresh *out = work->out;
    char counter[RESULT_PATH_MAX];
    programs_alloc_count(counter, sizeof counter);
    if (counter[0] == '\0') {
        return err_set(err, -ENOENT, "libcodeq-alloccount.so: not beside this program: build it");
    }
    struct env envs[2];
    char env8[2][ENV_ID_BYTES];
    int core = session_core();
    for (int side = 0; side < 2; side++) {
        const struct revision *revision = side == 0 ? &out->a : &out->b;
        char drive[REVISION_PATH_BYTES];
        revision_program(revision, "codeq-drive", drive);
        work->sessions[side] = (struct session){.cpu = core, .stopped = cmd_stopped};
        int code = session_open(&work->sessions[side], drive, counter, err);
        code = code != 0 ? code : run_hello(&work->sessions[side], &work->hello[side], err);
        code = code != 0 ? code : run_check_build(work->hello[side], err);
        if (code == -EPROTONOSUPPORT) {
            snprintf(out->reason, sizeof out->reason, "'%s': %.300s", revision->name, err->text);
            return 0;
        }
        if (code != 0) {
            return err_prefix(err, code, "'%s'", revision->name);
        }
        env_collect(&envs[side], "", json_get(work->hello[side], "build"));
        env_id(&envs[side], env8[side]);
        if (strcmp(env_get(&envs[side], "valgrind"), "none") == 0) {
            return err_set(err, -ENOENT,
                           "valgrind: not found: instructions cannot be counted: install valgrind");
        }
        snprintf(out->set[side], RESULT_PATH_MAX, "%.900s/%s/%s", out->dir, side_names[side],
                 env8[side]);
        code = result_make_dirs(out->set[side], err);
        if (code == 0) {
            char path[RESULT_PATH_MAX + 16];
            char *text = env_print(&envs[side]);
            snprintf(path, sizeof path, "%s/env.json", out->set[side]);
            code = result_write_file(path, text, strlen(text), err);
            free(text);
        }
        if (code != 0) {
            return code;
        }
    }
    snprintf(out->env8, sizeof out->env8, "%s", env8[1]);
    if (strcmp(env8[0], env8[1]) != 0) {
        for (size_t i = 0; i < envs[0].identity_count; i++) {
            const struct env_field *field = &envs[0].identity[i];
            const char *other = env_get(&envs[1], field->name);
            if (strcmp(field->value, other) != 0) {
                snprintf(out->reason, sizeof out->reason,
                         "%s differs: '%.100s' in A, '%.100s' in B", field->name, field->value,
                         other);
                return 0;
            }
        }
        snprintf(out->reason, sizeof out->reason, "env8 differs: '%s' in A, '%s' in B", env8[0],
                 env8[1]);
    }
    return 0;
}

/* Measured before by a comparison that was killed. */
static bool is_counted(const struct work *work, const char *set, const struct scenario *scenario)
{
    char path[2 * RESULT_PATH_MAX];
    struct json *summary = NULL;
    (void)work;
    snprintf(path, sizeof path, "%s/%s/summary.json", set, scenario->id);
    bool done = set_read_json(path, SUMMARY_SCHEMA, &summary, NULL) == 0 &&
                strcmp(json_string(json_get(json_get(summary, "scenario"), "sha256"), ""),
                       scenario->sha256) == 0;
    json_free(summary);
    return done;
}

static int count_side(struct work *work, int side, const struct scenario *scenario, struct err *err)
{
    const struct measure_options options = {
        .counts_only = true, .profile = true, .repeats = work->options->repeats};
    struct env env;
    char *summary = NULL;
    if (is_counted(work, work->out->set[side], scenario)) {
        return 0;
    }
    env_collect(&env, "", json_get(work->hello[side], "build"));
    int code = measure_scenario(&work->sessions[side], scenario, &options, &env,
                                work->out->set[side], &work->progress, &summary, err);
    free(summary);
    return code != 0
               ? err_prefix(err, code, "'%s'", side == 0 ? work->options->a : work->options->b)
               : 0;
}

static bool no_time_for(const struct work *work, double sec)
{
    return work->deadline_ns != INT64_MAX && now_ns() + (int64_t)(sec * 1e9) > work->deadline_ns;
}

static void leave_out(struct compare_fresh *out, const char *what, const char *scenario)
{
    size_t n = strlen(out->left_out);
    snprintf(out->left_out + n, sizeof out->left_out - n, "%s%s of %s", n > 0 ? ", " : "", what,
             scenario);
}

static double counts_guess_sec(const struct work *work, const struct scenario *scenario)
{
    const struct measure_options options = {
        .counts_only = true, .profile = true, .repeats = work->options->repeats};
    return 2 * measure_guess_sec(scenario, &options);
}

static int count_all(struct work *work, struct err *err)
{
    struct compare_fresh *out = work->out;
    int code = 0;
    for (size_t i = 0; i < work->scenario_count && code == 0; i++) {
        const struct scenario *scenario = work->scenarios[i];
        /* The first is measured whatever the budget: without it there is no answer at all. */
        if (i > 0 && no_time_for(work, counts_guess_sec(work, scenario))) {
            leave_out(out, "everything", scenario->id);
            continue;
        }
        for (int side = 0; side < 2 && code == 0; side++) {
            code = count_side(work, side, scenario, err);
        }
        if (code == 0) {
            work->scenarios[i] = work->scenarios[out->scenario_count];
            work->scenarios[out->scenario_count] = (struct scenario *)(uintptr_t)scenario;
            snprintf(out->scenarios[out->scenario_count++], SCENARIO_ID_BYTES, "%s", scenario->id);
        }
    }
    return code;
}

/* Like with like: what was seen is noise, and is remembered as such. */
static int keep_noise(const char *path, const struct compare_timed *timed, struct err *err)
{
    const char *ids[PAIRS_METRICS_MAX];
    double effects[PAIRS_METRICS_MAX];
    if (timed->unsteady) {
        return 0;
    }
    for (size_t i = 0; i < timed->metric_count; i++) {
        ids[i] = timed->metrics[i].id;
        effects[i] = timed->metrics[i].judged.effect;
    }
    return noise_floor_add(path, ids, effects, timed->metric_count, timed->screen_pairs, err);
}

static int time_all(struct work *work, struct err *err)
{
    struct compare_fresh *out = work->out;
    int code = 0;
    for (size_t i = 0; i < out->scenario_count && code == 0; i++) {
        struct compare_timed *timed = calloc(1, sizeof *timed);
        if (timed == NULL) {
            abort();
        }
        char path[RESULT_PATH_MAX];
        struct noise_floor floor;
        noise_floor_path(out->env8, work->scenarios[i], path, sizeof path);
        noise_floor_read(path, &floor);
        const struct compare_timed_options options = {.dir = out->dir,
                                                      .floor = &floor,
                                                      .seed = work->options->seed,
                                                      .deadline_ns = work->deadline_ns,
                                                      .progress = &work->progress};
        code = compare_timed_run(timed, &work->sessions[0], &work->sessions[1], work->scenarios[i],
                                 &options, err);
        if (code == 0 && timed->pairs_left_out > 0) {
            char what[64];
            snprintf(what, sizeof what, "%zu timed pairs", timed->pairs_left_out);
            leave_out(out, what, out->scenarios[i]);
        }
        out->timed[i] = timed;
        if (code == 0 && out->same_program) {
            code = keep_noise(path, timed, err);
        }
    }
    return code;
}

static int measure_both(struct work *work, struct err *err)
{
    double guess = 0;
    for (size_t i = 0; i < work->scenario_count; i++) {
        guess += counts_guess_sec(work, work->scenarios[i]);
        guess += work->options->counts_only ? 0 : compare_timed_guess_sec(work->scenarios[i]);
    }
    progress_start(&work->progress, guess);
    int code = count_all(work, err);
    if (code == 0 && !work->options->counts_only) {
        code = time_all(work, err);
    }
    progress_end(&work->progress);
    return code;
}

int compare_fresh_run(struct compare_fresh *out, const struct compare_fresh_options *options,
                      struct err *err)
{
    *out = (struct compare_fresh){.lock = -1};
    struct work work = {.out = out, .options = options, .began_ns = now_ns()};
    work.deadline_ns = options->budget_ns > 0 ? work.began_ns + options->budget_ns : INT64_MAX;
    int code = read_scenarios(&work, err);
    code = code != 0 ? code : build_both(&work, err);
    if (code == 0 && out->reason[0] == '\0' && (!out->same_program || options->even_same)) {
        code = open_work(&work, err);
        code = code != 0 ? code : open_sessions(&work, err);
        if (code == 0 && out->reason[0] == '\0') {
            code = measure_both(&work, err);
        }
    }
    for (int side = 0; side < 2; side++) {
        session_close(&work.sessions[side]);
        json_free(work.hello[side]);
    }
    for (size_t i = 0; i < work.scenario_count; i++) {
        scenario_free(work.scenarios[i]);
    }
    out->sec = (double)(now_ns() - work.began_ns) / 1e9;
    return code;
}
