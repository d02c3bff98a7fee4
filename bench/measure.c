#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "result.h"
#include "summary.h"
#include "traced.h"

/* What is appended together: a slope needs both of its runs. */
struct unit {
    enum run_kind kind;
    int64_t repeat;
};

struct measure {
    struct session *session;
    const struct scenario *scenario;
    const struct measure_options *options;
    struct progress *progress;
    char out_dir[RESULT_PATH_MAX]; /* SCENARIO.partial */
    char runs_path[RESULT_PATH_MAX + 16];
    struct result_runs kept; /* of a plan that was broken off */
    int64_t next_run;
};

static bool has_slope(enum run_kind kind)
{
    return kind == RUN_COUNTS || kind == RUN_SYSCALLS || kind == RUN_CALLGRIND || kind == RUN_DHAT;
}

static bool is_tool(enum run_kind kind)
{
    return kind == RUN_CALLGRIND || kind == RUN_MASSIF || kind == RUN_DHAT;
}

static int64_t repeats_of(const struct scenario *scenario, const struct measure_options *options,
                          enum run_kind kind)
{
    switch (kind) {
    case RUN_TIMED:
        return options->counts_only   ? 0
               : options->repeats > 0 ? options->repeats
                                      : scenario->timed.runs;
    case RUN_DHAT:
        return options->profile ? 1 : 0;
    case RUN_SYSCALLS:
    case RUN_COUNTS:
    case RUN_CALLGRIND:
    case RUN_MASSIF:
        break;
    }
    if (options->repeats > 0) {
        return options->repeats;
    }
    /* Two tell exact from jittery as well; the third is for the size of the range. */
    int64_t most = options->counts_only ? 2 : INT64_MAX;
    return scenario->counted.repeats < most ? scenario->counted.repeats : most;
}

static const enum run_kind kinds[] = {RUN_TIMED,     RUN_COUNTS, RUN_SYSCALLS,
                                      RUN_CALLGRIND, RUN_MASSIF, RUN_DHAT};

static double guess_unit_sec(const struct scenario *scenario, enum run_kind kind)
{
    double preload = (double)scenario->preload_tasks / 1e5;
    double ops = (double)scenario->counted.ops / 500;
    switch (kind) {
    case RUN_TIMED:
        return preload + 0.4 +
               (scenario->timed.duration_ms_max > 0 ? (double)scenario->timed.duration_ms_max / 1e3
                                                    : (double)scenario->timed.ops / 15000);
    case RUN_COUNTS:
        return 2 * preload + 0.4 + 0.1 * ops;
    case RUN_SYSCALLS:
        return 2 * preload + 0.5 + 0.2 * ops;
    case RUN_CALLGRIND:
        return 2 * preload + 1.8 + 0.5 * ops;
    case RUN_MASSIF:
        return preload + 0.8 + 0.1 * ops;
    case RUN_DHAT:
        return 2 * preload + 1.8 + 0.3 * ops;
    }
    return 1;
}

double measure_guess_sec(const struct scenario *scenario, const struct measure_options *options)
{
    double sum = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        sum += (double)repeats_of(scenario, options, kinds[i]) * guess_unit_sec(scenario, kinds[i]);
    }
    return sum;
}

/* ---- what is there already ---- */

/* Whatever changes what a run would show. Equal text: the same plan. */
static char *plan_text(const struct measure *m, const struct env *env)
{
    char env8[ENV_ID_BYTES], redis[DIGEST_BYTES];
    env_id(env, env8);
    scenario_redis_digest(m->scenario, redis);
    struct json *plan = json_new_object();
    json_add_string(plan, "scenario_sha256", m->scenario->sha256);
    json_add_string(plan, "redis_config_sha256", redis);
    json_add_string(plan, "drive_sha256", m->session->drive_sha256);
    json_add_string(plan, "env8", env8);
    json_add_string(plan, "placement", m->session->cpu >= 0 ? "one-core" : "free");
    json_add_bool(plan, "counts_only", m->options->counts_only);
    json_add_bool(plan, "profile", m->options->profile);
    json_add_bool(plan, "traced", m->session->tracer[0] != '\0');
    json_add_bool(plan, "trace", m->options->trace);
    json_add_int(plan, "repeats", m->options->repeats);
    char *text = json_print_pretty(plan);
    json_free(plan);
    return text;
}

static int open_partial(struct measure *m, const struct env *env, struct err *err)
{
    char plan_path[RESULT_PATH_MAX + 16], scenario_path[RESULT_PATH_MAX + 16];
    snprintf(plan_path, sizeof plan_path, "%s/plan.json", m->out_dir);
    snprintf(scenario_path, sizeof scenario_path, "%s/scenario.json", m->out_dir);
    char *plan = plan_text(m, env);
    char *there = NULL;
    size_t bytes = 0;
    int code = 0;
    bool same = result_read_file(plan_path, &there, &bytes, NULL) == 0 && strcmp(there, plan) == 0;
    free(there);
    if (same && result_runs_read(m->runs_path, true, &m->kept, NULL) == 0) {
        if (m->kept.cut && truncate(m->runs_path, m->kept.cut_at) != 0) {
            code = err_set(err, -errno, "%s: %s", m->runs_path, strerror(errno));
        }
        m->next_run = (int64_t)m->kept.count;
    } else {
        struct stat st;
        if (lstat(m->out_dir, &st) == 0) {
            char absolute[RESULT_PATH_MAX];
            if (realpath(m->out_dir, absolute) == NULL || remove_tree(absolute) != 0) {
                code = err_set(err, -EIO, "%s: cannot be replaced", m->out_dir);
            }
        }
        if (code == 0) {
            code = result_make_dirs(m->out_dir, err);
        }
        if (code == 0) {
            code =
                result_write_file(scenario_path, m->scenario->text, strlen(m->scenario->text), err);
        }
        if (code == 0) {
            code = result_write_file(plan_path, plan, strlen(plan), err);
        }
    }
    free(plan);
    return code;
}

static bool is_done(const struct measure *m, const struct unit *unit)
{
    int64_t scales = 0;
    for (size_t i = 0; i < m->kept.count; i++) {
        const struct json *run = m->kept.lines[i];
        if (strcmp(json_string(json_get(run, "kind"), ""), run_kind_name(unit->kind)) == 0 &&
            json_int(json_get(run, "repeat"), -1) == unit->repeat) {
            scales |= json_int(json_get(run, "scale"), 0);
        }
    }
    return scales == (has_slope(unit->kind) ? 3 : 1);
}

/* ---- one unit ---- */

static int keep_raw(struct measure *m, int64_t scale, char *out_dir, size_t bytes, struct err *err)
{
    snprintf(out_dir, bytes, "%s/raw%lld", m->session->dir, (long long)scale);
    remove_tree(out_dir);
    if (rename(m->session->run_dir, out_dir) != 0) {
        return err_set(err, -errno, "%s: %s", out_dir, strerror(errno));
    }
    return 0;
}

/* Half of what ran between START and STOP must lie below the region's frame, and an operation that
 * speaks to Redis cannot cost less than this: else the region was not what was counted. */
#define INSTRUCTIONS_PER_OP_MIN 500

static int check_floor(const struct profile_totals *totals, const int64_t ops[2], struct err *err)
{
    for (int i = 0; i < 2; i++) {
        if (totals->instructions[i] < totals->outside_instructions[i] ||
            totals->instructions[i] < INSTRUCTIONS_PER_OP_MIN * ops[i]) {
            return err_set(err, -ENODATA,
                           "callgrind: %lld instructions for %lld operations, %lld outside the "
                           "region: the region was not counted: look for an inlined %s",
                           (long long)totals->instructions[i], (long long)ops[i],
                           (long long)totals->outside_instructions[i], PROFILE_REGION);
        }
    }
    return 0;
}

static int add_tool_totals(struct measure *m, const struct unit *unit, char raw[2][160],
                           struct json *lines[2], struct err *err)
{
    enum profile_tool tool = unit->kind == RUN_CALLGRIND ? PROFILE_CALLGRIND
                             : unit->kind == RUN_MASSIF  ? PROFILE_MASSIF
                                                         : PROFILE_DHAT;
    int64_t ops[2] = {json_int(json_get(lines[0], "ops"), 0),
                      json_int(json_get(lines[1], "ops"), 0)};
    char scratch[160];
    snprintf(scratch, sizeof scratch, "%s/kept", m->session->dir);
    mkdir(scratch, 0700);
    bool keep = m->options->profile && unit->repeat == 0;
    const char *local[] = {m->session->dir, NULL};
    struct profile_keep_options options = {
        .first = {raw[0], ops[0]},
        .second = {lines[1] != NULL ? raw[1] : NULL, ops[1]},
        .local_paths = local,
        .out_dir = keep ? m->out_dir : scratch,
    };
    struct profile_totals totals = {0};
    int code = profile_keep(tool, &options, &totals, err);
    if (code == 0 && tool == PROFILE_CALLGRIND) {
        code = check_floor(&totals, ops, err);
    }
    for (int i = 0; i < 2 && code == 0 && lines[i] != NULL; i++) {
        struct json *object = json_new_object();
        switch (tool) {
        case PROFILE_CALLGRIND:
            json_add_int(object, "instructions", totals.instructions[i]);
            break;
        case PROFILE_MASSIF:
            json_add_int(object, "heap_peak_bytes", totals.peak_bytes[i]);
            break;
        case PROFILE_DHAT:
            json_add_int(object, "allocs", totals.blocks[i]);
            json_add_int(object, "alloc_bytes", totals.bytes[i]);
            json_add_int(object, "live_bytes", totals.live_bytes[i]);
            break;
        }
        json_put(lines[i], "totals", object);
    }
    return code;
}

/* What the tracer left goes beside the runs. */
static int keep_trace(struct measure *m, struct err *err)
{
    static const char *const names[] = {TRACED_FILE, TRACED_FOLDED_FILE};
    int code = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && code == 0; i++) {
        char from[RESULT_PATH_MAX], to[RESULT_PATH_MAX + 32];
        char *text = NULL;
        size_t bytes = 0;
        snprintf(from, sizeof from, "%s/%s", m->session->run_dir, names[i]);
        snprintf(to, sizeof to, "%s/%s", m->out_dir, names[i]);
        code = result_read_file(from, &text, &bytes, err);
        code = code != 0 ? code : result_write_file(to, text, bytes, err);
        free(text);
    }
    return code;
}

/* Run it and append its lines, both or none. */
static int run_unit(struct measure *m, const struct unit *unit, struct err *err)
{
    struct json *lines[2] = {NULL, NULL};
    char raw[2][160] = {"", ""};
    int code = 0;
    for (int scale = 1; scale <= (has_slope(unit->kind) ? 2 : 1) && code == 0; scale++) {
        struct run_order order = {.kind = unit->kind, .repeat = unit->repeat, .scale = scale};
        order.trace =
            m->options->trace && unit->kind == RUN_SYSCALLS && unit->repeat == 0 && scale == 1;
        code = run_process(m->session, m->scenario, &order, &lines[scale - 1], err);
        if (code == 0 && order.trace) {
            code = keep_trace(m, err);
        }
        if (code == 0 && is_tool(unit->kind)) {
            code = keep_raw(m, scale, raw[scale - 1], sizeof raw[0], err);
        }
    }
    if (code == 0 && is_tool(unit->kind)) {
        code = add_tool_totals(m, unit, raw, lines, err);
    }
    for (int i = 0; i < 2; i++) {
        if (lines[i] != NULL && code == 0) {
            json_add_int(lines[i], "run", m->next_run++);
            code = result_append_run(m->runs_path, lines[i], err);
        } else {
            json_free(lines[i]);
        }
    }
    return code;
}

/* ---- whole ---- */

static int finish(struct measure *m, const char *set_dir, char **out_summary, struct err *err)
{
    struct result_runs runs;
    int code = result_runs_read(m->runs_path, false, &runs, err);
    if (code != 0) {
        return code;
    }
    char redis[DIGEST_BYTES];
    scenario_redis_digest(m->scenario, redis);
    struct summary_header header = {
        .scenario_id = m->scenario->id,
        .scenario_rev = m->scenario->rev,
        .scenario_sha256 = m->scenario->sha256,
        .redis_config_sha256 = redis,
        .operation = m->scenario->operation,
        .batch = m->scenario->batch,
        .placement = m->session->cpu >= 0 ? "one-core" : "free",
    };
    char *summary = summary_derive(&header, runs.lines, runs.count, err);
    result_runs_free(&runs);
    if (summary == NULL) {
        return err_prefix(err, -EBADMSG, "%s", m->runs_path);
    }
    char path[RESULT_PATH_MAX + 32], final[RESULT_PATH_MAX], old[RESULT_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/summary.json", m->out_dir);
    code = result_write_file(path, summary, strlen(summary), err);
    snprintf(path, sizeof path, "%s/plan.json", m->out_dir);
    unlink(path);
    snprintf(final, sizeof final, "%s/%s", set_dir, m->scenario->id);
    snprintf(old, sizeof old, "%s.old", final);
    char absolute[RESULT_PATH_MAX];
    if (code == 0) {
        rename(final, old); /* there may be none */
        if (rename(m->out_dir, final) != 0) {
            code = err_set(err, -errno, "%s: %s", final, strerror(errno));
        }
    }
    if (realpath(old, absolute) != NULL) {
        remove_tree(absolute);
    }
    if (code != 0) {
        free(summary);
        return code;
    }
    *out_summary = summary;
    return 0;
}

/* A set with timed runs is worth more than counts: it is not replaced by them. */
static int keep_fuller(const struct measure *m, const char *set_dir, struct err *err)
{
    char path[RESULT_PATH_MAX];
    struct result_runs runs = {0};
    snprintf(path, sizeof path, "%.800s/%s/runs.ndjson", set_dir, m->scenario->id);
    bool timed = false;
    if (m->options->counts_only && result_runs_read(path, true, &runs, NULL) == 0) {
        for (size_t i = 0; i < runs.count; i++) {
            const char *kind = json_string(json_get(runs.lines[i], "kind"), "");
            timed = timed || strcmp(kind, run_kind_name(RUN_TIMED)) == 0;
        }
    }
    result_runs_free(&runs);
    return !timed ? 0
                  : err_set(err, -EEXIST,
                            "%.300s/%s has timed runs of this commit, which counts alone would "
                            "replace: give --out DIR, or leave --quick out",
                            set_dir, m->scenario->id);
}

int measure_scenario(struct session *session, const struct scenario *scenario,
                     const struct measure_options *options, const struct env *env,
                     const char *set_dir, struct progress *progress, char **out_summary,
                     struct err *err)
{
    struct measure m = {
        .session = session, .scenario = scenario, .options = options, .progress = progress};
    snprintf(m.out_dir, sizeof m.out_dir, "%s/%s.partial", set_dir, scenario->id);
    snprintf(m.runs_path, sizeof m.runs_path, "%s/runs.ndjson", m.out_dir);
    int code = keep_fuller(&m, set_dir, err);
    if (code == 0) {
        code = open_partial(&m, env, err);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && code == 0; i++) {
        int64_t repeats = repeats_of(scenario, options, kinds[i]);
        for (int64_t repeat = 0; repeat < repeats && code == 0; repeat++) {
            struct unit unit = {kinds[i], repeat};
            char what[200];
            snprintf(what, sizeof what, "%s: %s %lld of %lld", scenario->id,
                     run_kind_name(unit.kind), (long long)repeat + 1, (long long)repeats);
            progress_step(progress, what, guess_unit_sec(scenario, unit.kind));
            if (session->stopped != NULL && session->stopped()) {
                code = err_set(err, -EINTR, "interrupted");
            } else if (!is_done(&m, &unit)) {
                code = run_unit(&m, &unit, err);
                if (code != 0) {
                    err_prefix(err, code, "%s", what);
                }
            }
        }
    }
    result_runs_free(&m.kept);
    return code == 0 ? finish(&m, set_dir, out_summary, err) : code;
}
