#include "load_set.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "env.h"
#include "load/screen.h"
#include "programs.h"
#include "result.h"
#include "summary.h"

static void add_hist(struct json *hdr, const char *name, const struct hist *hist)
{
    if (hist_count(hist) == 0) {
        return;
    }
    struct json *h = json_add_object(hdr, name);
    json_add_string(h, "enc", "HDR-V2");
    json_add_int(h, "lo", hist->config.lowest_ns);
    json_add_int(h, "hi", hist->config.highest_ns);
    json_add_int(h, "sig", hist->config.digits);
    json_add_int(h, "n", hist_count(hist));
    json_add_int(h, "clamped", hist_clamped(hist));
    char *text = hist_encode(hist);
    json_add_string(h, "b64", text != NULL ? text : "");
    free(text);
}

static void add_windows(struct json *line, const struct load_result *r)
{
    struct json *windows = json_add_object(line, "win");
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        const struct load_endpoint_result *endpoint = &r->endpoints[e];
        if (endpoint->completed == 0) {
            continue;
        }
        size_t last = r->window_count;
        while (last > 0 && endpoint->windows[last - 1].count == 0) {
            last--;
        }
        struct json *list = json_add_array(windows, load_endpoint_name((enum load_endpoint)e));
        for (size_t i = 0; i < last; i++) {
            const struct load_window *w = &endpoint->windows[i];
            struct json *one = json_new_array();
            json_append(one, json_new_number((double)w->p50_ns));
            json_append(one, json_new_number((double)w->p99_ns));
            json_append(one, json_new_number((double)w->count));
            json_append(list, one);
        }
    }
}

/* A line of runs.ndjson, kind "timed": an operation is a finished task, or a created one where no
 * worker takes part. Source: results/README.md. */
struct json *load_set_line(const struct load_plan *plan, const struct load_measured *run,
                           int64_t repeat, const struct load_options *o)
{
    const struct load_result *r = &run->result;
    struct json *line = json_new_object();
    char now[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(clock_system()), now);
    uint64_t ops = r->finished > 0 ? r->finished : r->created;
    uint64_t errors = 0;
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        errors += r->endpoints[e].failed;
    }
    json_add_int(line, "v", 1);
    json_add_int(line, "run", repeat);
    json_add_string(line, "kind", "timed");
    json_add_int(line, "repeat", repeat);
    json_add_int(line, "scale", 1);
    json_add_string(line, "t0", now);
    json_add_int(line, "seed", (int64_t)plan->load->spec.seed);
    json_add_int(line, "ops", (int64_t)(ops > 0 ? ops : 1));
    json_add_int(line, "errors", (int64_t)errors);
    bool open = false;
    for (size_t i = 0; i < plan->load->spec.role_count; i++) {
        open = open || plan->load->spec.roles[i].open;
    }
    json_add_string(line, "mode", open ? "open" : "closed");
    json_add_string(line, "placement", load_placement_name(o->placement));
    json_add_int(line, "dur_ns", r->elapsed_ns);
    json_add_number(line, "rate", round((double)ops / ((double)r->elapsed_ns / 1e9)));
    json_add_int(line, "cpu_us", run->codeqd_cpu_us > 0 ? run->codeqd_cpu_us : 0);
    json_add_int(line, "redis_cpu_us", run->redis_cpu_us > 0 ? run->redis_cpu_us : 0);
    json_add_int(line, "rss_kb", run->codeqd_rss_kb);
    json_add_number(line, "steal_ratio", round(run->noise.steal_ratio * 1e4) / 1e4);
    json_add_number(line, "ctxsw_per_sec", round(run->noise.context_switches_per_sec));
    json_add_string(line, "noise", run->noise_words);
    if (run->switches >= 0 && run->faults >= 0) { /* less than before: Redis began again */
        json_add_int(line, "involuntary_switches", run->switches);
        json_add_int(line, "major_faults", run->faults);
    }
    if (run->noise.mhz_min > 0) {
        json_add_number(line, "mhz_min", run->noise.mhz_min);
        json_add_number(line, "mhz_max", run->noise.mhz_max);
    }
    const struct redis_look *look = &run->redis_after;
    if (look->version[0] != '\0') {
        struct json *redis = json_add_object(line, "redis");
        json_add_string(redis, "version", look->version);
        json_add_number(redis, "memory_peak_bytes", look->peak_bytes);
        json_add_number(redis, "forks", look->forks);
        json_add_number(redis, "fork_us", look->fork_us);
        json_add_int(redis, "latency_events", look->events);
        json_add_int(redis, "latency_worst_ms", look->event_worst_ms);
    }
    json_add_int(line, "lag_p99_ns", hist_quantile_ns(&r->send_lag, 0.99));
    json_add_number(line, "generator_cpu_ratio", round(r->cpu_ratio * 1e4) / 1e4);
    json_add_bool(line, "generator_realtime", r->realtime);
    if (r->void_reason[0] != '\0') {
        json_add_string(line, "void", r->void_reason);
    } else {
        json_add_null(line, "void");
    }
    if (run->steadiness == LOAD_NOT_JUDGED) {
        json_add_null(line, "steady");
    } else {
        json_add_bool(line, "steady", run->steadiness == LOAD_SETTLED);
        json_add_number(line, "warm_cut", (double)r->warm_cut_ns / (double)NS_PER_SEC);
    }
    struct slo_figure figures[LOAD_FIGURES_MAX];
    size_t count = load_figures(r, figures, LOAD_FIGURES_MAX);
    struct json *kept = json_add_object(line, "figures");
    for (size_t i = 0; i < count; i++) {
        if (!isnan(figures[i].value)) {
            json_add_number(kept, figures[i].name, figures[i].value);
        }
    }
    struct json *statuses = json_add_object(line, "statuses");
    for (int s = 0; s < 600; s++) {
        if (r->statuses[s] > 0) {
            char key[8];
            snprintf(key, sizeof key, "%d", s);
            json_add_int(statuses, key, (int64_t)r->statuses[s]);
        }
    }
    struct json *hdr = json_add_object(line, "hdr");
    add_hist(hdr, "create", &r->endpoints[LOAD_CREATE].latency);
    add_hist(hdr, "claim", &r->endpoints[LOAD_CLAIM].latency);
    add_hist(hdr, "complete", &r->endpoints[LOAD_RESULT].latency);
    add_windows(line, r);
    return line;
}

static void codeqd_version(const struct load_options *o, char *out, size_t bytes)
{
    char path[RESULT_PATH_MAX];
    programs_codeqd(path, sizeof path);
    const char *const argv[] = {o->codeqd != NULL ? o->codeqd : path, "--version", NULL};
    out[0] = '\0';
    if (o->target == NULL) {
        env_program_line(argv, out, bytes);
    } else {
        snprintf(out, bytes, "target");
    }
}

int load_set_write(const struct load_plan *plan, const char *plan_path, struct json *const *lines,
                   size_t count, const struct live_profile *live, const struct load_options *o,
                   char *out_dir, size_t out_bytes, struct err *err)
{
    struct result_commit commit;
    result_commit_read(".", &commit);
    if (o->codeqd != NULL) {
        snprintf(commit.program, sizeof commit.program, "%s", o->codeqd);
    } else if (o->target == NULL) {
        programs_codeqd(commit.program, sizeof commit.program);
    }
    struct env env;
    env_collect(&env, "", NULL);
    char version[128];
    codeqd_version(o, version, sizeof version);
    env_set(&env, "program", version);
    char env8[ENV_ID_BYTES], folder[96], set_dir[RESULT_PATH_MAX], dir[RESULT_PATH_MAX + 128];
    env_id(&env, env8);
    result_commit_folder(&commit, folder, sizeof folder);
    snprintf(set_dir, sizeof set_dir, "%.700s%s/%s/%s", o->out != NULL ? o->out : commit.root,
             o->out != NULL ? "" : "/results", folder, env8);
    snprintf(out_dir, out_bytes, "%s", set_dir);
    snprintf(dir, sizeof dir, "%s/%s", set_dir, plan->id);
    struct summary_header header = {
        .scenario_id = plan->id,
        .scenario_rev = plan->rev,
        .scenario_sha256 = plan->sha256,
        .redis_config_sha256 = plan->redis_sha256,
        .operation = "cycle",
        .batch = 1,
        .placement = load_placement_name(o->placement),
    };
    char *summary = summary_derive(&header, lines, count, err);
    if (summary == NULL) {
        return -EINVAL;
    }
    int code = result_make_dirs(dir, err);
    char path[RESULT_PATH_MAX + 256];
    if (code == 0) {
        char *text = env_print(&env);
        snprintf(path, sizeof path, "%s/env.json", set_dir);
        code = result_write_file(path, text, strlen(text), err);
        free(text);
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/scenario.json", dir);
        code = result_write_file(path, plan->text, strlen(plan->text), err);
    }
    snprintf(path, sizeof path, "%s/runs.ndjson", dir);
    unlink(path); /* a new measurement replaces the old one whole */
    for (size_t i = 0; i < count && code == 0; i++) {
        char *text = json_print(lines[i]);
        code = result_append_run(path, json_parse(text, strlen(text), NULL), err);
        free(text);
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/summary.json", dir);
        code = result_write_file(path, summary, strlen(summary), err);
    }
    if (code == 0) {
        code = live_profile_write(live, dir, err);
    }
    if (code == 0) {
        code = load_measure_tools(plan_path, o, dir, err);
    }
    if (code == 0) {
        code = result_write_manifest(set_dir, &commit, env8, err);
    }
    free(summary);
    return code;
}
