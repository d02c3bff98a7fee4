#include "load_measure.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "cmd.h"
#include "load/saturation.h"
#include "load/screen.h"
#include "load/warmup.h"
#include "programs.h"
#include "result.h"
#include "service.h"
#include "service_tool.h"
#include "steady.h"

#define STEADY_SECONDS_MIN 10
#define STEADY_ANSWERS_MIN 20 /* in each part, on the mean */

/* Steady is asked of runs that offer one constant rate and have no faults. */
static bool is_meant_steady(const struct load_scenario *scenario)
{
    bool open = false;
    for (size_t i = 0; i < scenario->spec.role_count; i++) {
        const struct load_role *role = &scenario->spec.roles[i];
        if (role->kind != LOAD_PRODUCER) {
            continue;
        }
        if (!role->open || role->phase_count != 1 || role->delay_ratio > 0 ||
            role->phases[0].start_rate_per_sec < role->phases[0].end_rate_per_sec ||
            role->phases[0].start_rate_per_sec > role->phases[0].end_rate_per_sec) {
            return false;
        }
        open = true;
    }
    return open && scenario->fault_count == 0;
}

/* The windows are the parts of the arrivals' time; the drain behind them is not looked at. What was
 * warm-up is cut out of the figures. Source: reference "measurement", steady state. */
static void judge_steadiness(const struct load_scenario *scenario, struct load_measured *run)
{
    struct load_endpoint_result *claims = &run->result.endpoints[LOAD_CLAIM];
    if (!is_meant_steady(scenario) ||
        scenario->spec.duration_ns < STEADY_SECONDS_MIN * NS_PER_SEC ||
        claims->completed < LOAD_PARTS * STEADY_ANSWERS_MIN) {
        return;
    }
    double p50[LOAD_PARTS];
    double rate[LOAD_PARTS];
    for (int i = 0; i < LOAD_PARTS; i++) {
        p50[i] = (double)hist_quantile_ns(&claims->parts[i], 0.5);
        rate[i] = (double)hist_count(&claims->parts[i]);
    }
    int cut = steady_cut(p50, rate, LOAD_PARTS, scenario->spec.seed, NULL);
    if (cut >= 0) {
        run->steadiness = LOAD_SETTLED;
        load_cut_warmup(&run->result, cut);
    } else if (cut == -ENODATA) {
        run->steadiness = LOAD_UNSTEADY;
    }
}

static volatile sig_atomic_t stop_requested;

struct watch {
    struct load_screen screen;
    struct live_profile *live; /* NULL: none; the load ends when it is whole */
    const struct service *service; /* NULL: a deployment that was not started here */
    int64_t at_ns; /* of the last look at what they use; 0: none */
    int64_t cpu_ns[2];
};

static double ratio_of(int64_t now_ns, int64_t before_ns, int64_t elapsed_ns)
{
    return now_ns >= before_ns && before_ns >= 0 ? (double)(now_ns - before_ns) / (double)elapsed_ns
                                                 : (double)NAN;
}

#define LOOK_NS (NS_PER_SEC / 2) /* shorter looks jump about */

static void look_at_cpu(struct watch *watch)
{
    int64_t now_ns = clock_monotonic_ns(clock_system());
    int64_t elapsed_ns = now_ns - watch->at_ns;
    if (watch->service == NULL || elapsed_ns < LOOK_NS) {
        return;
    }
    int64_t cpu_ns[2] = {process_cpu_ns(watch->service->codeqd.pid),
                         service_redis_cpu_ns(watch->service)};
    if (watch->at_ns > 0) {
        watch->screen.codeqd_cpu_ratio = ratio_of(cpu_ns[0], watch->cpu_ns[0], elapsed_ns);
        watch->screen.redis_cpu_ratio = ratio_of(cpu_ns[1], watch->cpu_ns[1], elapsed_ns);
    }
    watch->at_ns = now_ns;
    memcpy(watch->cpu_ns, cpu_ns, sizeof cpu_ns);
}

static void draw(void *arg, const struct load_progress *progress)
{
    struct watch *watch = arg;
    if (cmd_stopped()) {
        stop_requested = 1;
    }
    if (watch->live != NULL && live_profile_tick(watch->live, progress->elapsed_ns)) {
        stop_requested = 1;
    }
    look_at_cpu(watch);
    load_screen_draw(&watch->screen, progress);
}

/* Times that another program was given the core of codeqd's and Redis's threads, and pages that
 * they waited for. */
static void count_pauses(const struct service *service, int64_t out[2])
{
    process_pauses(service->codeqd.pid, out);
    for (size_t i = 0; i < service_redis_count(service); i++) {
        int64_t more[2];
        process_pauses(service_redis(service, i)->child.pid, more);
        for (int k = 0; k < 2; k++) {
            out[k] = out[k] < 0 || more[k] < 0 ? -1 : out[k] + more[k];
        }
    }
}

static int64_t used_us(int64_t before_ns, int64_t now_ns)
{
    return before_ns >= 0 && now_ns >= before_ns ? (now_ns - before_ns) / NS_PER_US : -1;
}

/* Better said now than after five minutes of failed requests. */
static int check_target(const struct http_target *target, const char *url, struct err *err)
{
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int code =
        fd < 0 || connect(fd, (const struct sockaddr *)&target->address, target->address_bytes) != 0
            ? -errno
            : 0;
    if (fd >= 0) {
        close(fd);
    }
    return code == 0 ? 0
                     : err_set(err, code, "--target %s: %s: does codeqd run there?", url,
                               strerror(-code));
}

/* The service that is there already: where it is, and the tokens for it. */
static int aim(const struct load_plan *plan, const struct load_options *o, struct err *err)
{
    struct load_spec *spec = &plan->load->spec;
    int code = http_target_parse(&spec->target, o->target, err);
    code = code == 0 ? check_target(&spec->target, o->target, err) : code;
    for (size_t i = 0; i < spec->tenant_count; i++) {
        struct load_tenant *t = &spec->tenants[i];
        snprintf(t->producer_token, sizeof t->producer_token, "%s", o->producer_token);
        snprintf(t->worker_token, sizeof t->worker_token, "%s", o->worker_token);
    }
    const char *own = spec->tenant_count > 1          ? "several tenants"
                      : plan->load->fault_count > 0   ? "faults"
                      : plan->redis_masters > 0       ? "a Redis Cluster"
                      : plan->service_args[0] != NULL ? "settings of the service"
                                                      : NULL;
    if (code == 0 && own != NULL) {
        code = err_set(err, -EINVAL,
                       "scenario '%s' has %s: it needs a service of its own, "
                       "not --target",
                       plan->id, own);
    }
    return code;
}

/* A service and a Redis of this run's own. */
static int start(const struct load_plan *plan, const struct load_options *o,
                 const struct load_cores *cores, struct service *service, struct err *err)
{
    char codeqd[RESULT_PATH_MAX] = "";
    programs_codeqd(codeqd, sizeof codeqd);
    if (o->codeqd != NULL) {
        snprintf(codeqd, sizeof codeqd, "%s", o->codeqd);
    }
    if (codeqd[0] == '\0') {
        return err_set(err, -ENOENT,
                       "codeqd: not beside this program: build it, or give "
                       "--codeqd or --target");
    }
    const struct service_options options = {
        .codeqd = codeqd,
        .redis_config = plan->redis_config,
        .redis_masters = plan->redis_masters,
        .codeqd_args = plan->service_args,
        .cores = cores->placement != LOAD_FREE ? &cores->service : NULL,
        .tenant_count = plan->load->spec.tenant_count,
    };
    int code = service_start(service, &options, &plan->load->spec, err);
    if (code == 0) {
        service_plan_faults(service, plan->load);
    }
    return code;
}

/* Scenarios that offer a multiple of what the service can do find that out first. */
static int find_saturation(const struct load_plan *plan, double *out_per_sec, struct err *err)
{
    struct load_spec *spec = &plan->load->spec;
    if (plan->load->saturation_times <= 0) {
        return 0;
    }
    stop_requested = cmd_stopped();
    int code =
        load_saturation_probe(spec, plan->load->saturation_ns, plan->load->saturation_concurrency,
                              &stop_requested, out_per_sec, err);
    return code == 0 ? load_offer(spec, plan->load->saturation_times * *out_per_sec, err) : code;
}

/* What the run used of the machine, from the looks before and after it. */
struct looks {
    int64_t pauses[2]; /* of codeqd and Redis */
    int64_t cpu_ns[2]; /* codeqd, Redis */
    struct noise_sample noise;
};

static void look(const struct service *service, struct looks *out)
{
    count_pauses(service, out->pauses);
    out->cpu_ns[0] = process_cpu_ns(service->codeqd.pid);
    out->cpu_ns[1] = service_redis_cpu_ns(service);
    noise_take(&out->noise);
}

static void compare_looks(const struct looks *before, const struct looks *after,
                          const struct load_options *o, struct load_measured *run)
{
    /* A Redis that was restarted begins at 0: its earlier use is not known. */
    run->codeqd_cpu_us = used_us(before->cpu_ns[0], after->cpu_ns[0]);
    run->redis_cpu_us = used_us(before->cpu_ns[1], after->cpu_ns[1]);
    if (o->redis != NULL && run->redis_after.cpu_us >= run->redis_before.cpu_us) {
        run->redis_cpu_us = (int64_t)(run->redis_after.cpu_us - run->redis_before.cpu_us);
    }
    run->switches = before->pauses[0] >= 0 ? after->pauses[0] - before->pauses[0] : -1;
    run->faults = before->pauses[1] >= 0 ? after->pauses[1] - before->pauses[1] : -1;
    noise_between(&before->noise, &after->noise, &run->noise);
    double seconds = (double)(after->noise.at_ns - before->noise.at_ns) / (double)NS_PER_SEC;
    double own_us = fmax(0, (double)run->codeqd_cpu_us) + fmax(0, (double)run->redis_cpu_us);
    double own = (own_us / 1e6 / seconds + run->result.cpu_ratio) / fmax(1, before->noise.cores);
    noise_words(&run->noise, own, run->noise_words, sizeof run->noise_words);
    size_t said = strlen(run->noise_words);
    redis_words(&run->redis_before, &run->redis_after, run->noise_words + said,
                sizeof run->noise_words - said);
}

/* Load what is there: service (none of it with a target) and the plan's target. */
static int load_once(const struct load_plan *plan, const struct load_options *o,
                     struct service *service, struct live_profile *live, struct load_measured *run,
                     struct err *err)
{
    double saturation_per_sec = 0;
    int code = find_saturation(plan, &saturation_per_sec, err);
    const char *place = o->redis;
    if (place == NULL && service_redis_count(service) > 0) {
        place = service_redis(service, 0)->socket_path;
    }
    for (size_t i = 0; i < service_redis_count(service) && code == 0; i++) {
        code = redis_watch_events(service_redis(service, i)->socket_path, err);
    }
    if (code == 0 && place != NULL) {
        code = redis_look_take(place, &run->redis_before, err);
    }
    if (code != 0) {
        return code;
    }
    struct watch watch = {.live = live, .service = o->target == NULL ? service : NULL};
    bool terminal = isatty(STDERR_FILENO) != 0;
    load_screen_init(&watch.screen, stderr, terminal, terminal && getenv("NO_COLOR") == NULL,
                     plan->id);
    struct looks before, after;
    look(service, &before);
    stop_requested = cmd_stopped();
    if (live != NULL) {
        live_profile_watch(live, service->codeqd.pid, service_redis(service, 0)->child.pid);
    }
    code = load_run(&plan->load->spec, &stop_requested, draw, &watch, &run->result, err);
    load_screen_erase(&watch.screen);
    if (live != NULL) {
        live_profile_end(live);
    }
    if (code != 0) {
        return code;
    }
    look(service, &after);
    code = place != NULL ? redis_look_take(place, &run->redis_after, err) : 0;
    compare_looks(&before, &after, o, run);
    run->codeqd_rss_kb = process_rss_kb(service->codeqd.pid);
    int64_t peak_kb = process_peak_kb(service->codeqd.pid);
    run->result.service_peak_kb = peak_kb > 0 ? peak_kb : 0;
    run->result.saturation_per_sec = saturation_per_sec;
    judge_steadiness(plan->load, run);
    if (code == 0 && service->fault_error.text[0] != '\0') {
        code = err_set(err, -EIO, "fault: %s", service->fault_error.text);
    }
    if (code != 0) {
        load_result_fini(&run->result);
    }
    return code;
}

int load_measure_once(const struct load_plan *plan, const struct load_options *o,
                      struct live_profile *live, struct load_measured *run, struct err *err)
{
    struct load_cores cores;
    struct service service = {0};
    load_cores_choose(&cores, o->placement);
    int code = o->target != NULL ? aim(plan, o, err) : start(plan, o, &cores, &service, err);
    if (code != 0) {
        return code;
    }
    load_cores_enter(&cores);
    code = load_once(plan, o, &service, live, run, err);
    load_cores_leave(&cores);
    int exit_code = o->target == NULL ? service_stop(&service) : 0;
    if (code == 0 && exit_code != 0) {
        load_result_fini(&run->result);
        code = err_set(err, -EIO, "codeqd ended with exit code %d", exit_code);
    }
    return code;
}

int load_measure_live(const struct load_plan *plan, const struct load_options *o,
                      struct live_profile *live, struct err *err)
{
    struct load_measured run = {0};
    int code = load_measure_once(plan, o, live, &run, err);
    if (code == 0) {
        load_result_fini(&run.result);
    }
    return code == -EINTR && !cmd_stopped() ? 0 : code;
}

/* ---- the service under Valgrind ---- */

#define TOOL_RATE_SCALE 0.1
#define TOOL_DURATION_NS (3 * NS_PER_SEC)

/* One load against the service that runs; -EBADMSG where it answered wrongly. */
static int load_lightly(struct load_plan *light, struct load_result *result, struct err *err)
{
    struct watch watch = {0};
    bool terminal = isatty(STDERR_FILENO) != 0;
    load_screen_init(&watch.screen, stderr, terminal, terminal && getenv("NO_COLOR") == NULL,
                     light->id);
    stop_requested = cmd_stopped();
    int code = load_run(&light->load->spec, &stop_requested, draw, &watch, result, err);
    load_screen_erase(&watch.screen);
    if (code == 0 && (result->failed > 0 || result->lost > 0 || result->created == 0)) {
        code = err_set(err, -EBADMSG, "of %llu tasks %llu were lost, %llu requests failed",
                       (unsigned long long)result->created, (unsigned long long)result->lost,
                       (unsigned long long)result->failed);
        load_result_fini(result);
    }
    return code;
}

/* Start, warm up, count, stop, keep. The scenario's faults are left out. */
static int run_tool(struct load_plan *light, const struct load_options *o, enum profile_tool kind,
                    bool of_redis, const char *dir, struct json *into, struct err *err)
{
    struct service service = {0};
    struct service_tool tool;
    struct load_result result;
    char codeqd[RESULT_PATH_MAX] = "";
    programs_codeqd(codeqd, sizeof codeqd);
    if (o->codeqd != NULL) {
        snprintf(codeqd, sizeof codeqd, "%s", o->codeqd);
    }
    int code = service_tool_init(&tool, kind, of_redis, codeqd, err);
    struct service_options options = {
        .codeqd = of_redis ? codeqd : tool.program,
        .redis_program = of_redis ? tool.program : NULL,
        .redis_config = light->redis_config,
        .tenant_count = light->load->spec.tenant_count,
    };
    light->load->spec.action_count = 0;
    bool started =
        code == 0 && (code = service_start(&service, &options, &light->load->spec, err)) == 0;
    if (code == 0) { /* queues are made, scripts loaded, buffers grown */
        code = load_lightly(light, &result, err);
        if (code == 0) {
            load_result_fini(&result);
        }
    }
    code = code == 0 ? service_tool_begin(&tool, &service, err) : code;
    int64_t ops = 0;
    int64_t requests = 0;
    if (code == 0 && (code = load_lightly(light, &result, err)) == 0) {
        ops = (int64_t)(result.finished > 0 ? result.finished : result.created);
        for (int e = 0; e < LOAD_ENDPOINTS; e++) {
            requests += (int64_t)result.endpoints[e].completed;
        }
        load_result_fini(&result);
    }
    code = code == 0 ? service_tool_end(&tool, &service, err) : code;
    int exit_code = started ? service_stop(&service) : 0;
    if (code == 0 && exit_code != 0) {
        code = err_set(err, -EIO, "codeqd ended with exit code %d", exit_code);
    }
    /* The whole process: the tasks of the warm-up are in it. */
    ops *= kind == PROFILE_CALLGRIND ? 1 : 2;
    requests *= kind == PROFILE_CALLGRIND ? 1 : 2;
    code = code == 0 ? service_tool_keep(&tool, ops, requests, dir, into, err) : code;
    service_tool_fini(&tool);
    return code;
}

static void print_tool(const struct json *one, const char *key)
{
    const char *reason = json_string(json_get(one, "not_measured"), NULL);
    double ops = fmax(1, json_number(json_get(one, "ops"), 1));
    printf("  %s: ", key);
    if (reason != NULL) {
        printf("not measured: %s\n", reason);
        return;
    }
    double instructions = json_number(json_get(one, "instructions"), -1);
    double script = json_number(json_get(one, "script_instructions"), -1);
    double peak = json_number(json_get(one, "heap_peak_bytes"), -1);
    if (instructions >= 0) {
        printf("%.0f instructions a task", instructions / ops);
        if (script >= 0) {
            printf(", %.0f of them in scripts", script / ops);
        }
    } else if (peak >= 0) {
        printf("heap at most %.1f KiB", peak / 1024);
    } else {
        printf("%.1f allocations of %.0f B a task, start and end included",
               json_number(json_get(one, "allocs"), 0) / ops,
               json_number(json_get(one, "alloc_bytes"), 0) / ops);
    }
    printf(" (%.0f tasks, %.0f requests)\n", ops, json_number(json_get(one, "requests"), 0));
}

int load_measure_tools(const char *path, const struct load_options *o, const char *dir,
                       struct err *err)
{
    static const char *const files[] = {"callgrind.out", "functions.tsv", "lines.tsv", "folded.txt",
                                        "massif.out",    "dhat.json",     "heap.tsv"};
    char file[RESULT_PATH_MAX + 256];
    for (size_t i = 0; i < 2 * sizeof files / sizeof *files; i++) { /* of an earlier measurement */
        snprintf(file, sizeof file, "%s/%s%s", dir, i % 2 != 0 ? "redis/" : "", files[i / 2]);
        unlink(file);
    }
    snprintf(file, sizeof file, "%s/redis", dir);
    rmdir(file);
    snprintf(file, sizeof file, "%s/" SERVICE_TOOL_FILE, dir);
    unlink(file);
    struct json *json = json_new_object();
    json_add_string(json, "schema", SERVICE_TOOL_SCHEMA);
    struct load_options lo = *o;
    lo.rate_scale *= TOOL_RATE_SCALE;
    if (lo.duration_ns <= 0 || lo.duration_ns > TOOL_DURATION_NS) {
        lo.duration_ns = TOOL_DURATION_NS;
    }
    int code = 0;
    bool any = false;
    for (int t = 0; t < 2 * PROFILE_TOOL_COUNT && code == 0; t++) {
        struct service_tool named = {.tool = (enum profile_tool)(t / 2), .of_redis = t % 2 != 0};
        if (!o->tools[named.tool] || (named.of_redis && named.tool != PROFILE_CALLGRIND)) {
            continue;
        }
        struct load_plan light;
        struct err why = {""};
        char key[32];
        any = true;
        service_tool_key(&named, key);
        struct json *one = json_add_object(json, key);
        int failed = load_plan_read(&light, path, &lo, &why);
        failed =
            failed != 0 ? failed : run_tool(&light, o, named.tool, named.of_redis, dir, one, &why);
        load_plan_free(&light);
        if (failed != 0 && cmd_stopped()) {
            code = err_set(err, -EINTR, "interrupted");
        } else if (failed != 0) {
            json_add_string(one, "not_measured", why.text);
        }
        if (code == 0 && !o->json) {
            print_tool(one, key);
        }
    }
    if (code == 0 && any) {
        char *text = json_print_pretty(json);
        code = result_write_file(file, text, strlen(text), err);
        free(text);
    }
    json_free(json);
    return code;
}
