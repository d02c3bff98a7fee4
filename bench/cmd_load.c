#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/process.h"
#include "cmd.h"
#include "digest.h"
#include "env.h"
#include "fields.h"
#include "live_profile.h"
#include "load/saturation.h"
#include "load/screen.h"
#include "load/spec.h"
#include "load/warmup.h"
#include "noise.h"
#include "programs.h"
#include "redis_watch.h"
#include "report_files.h"
#include "result.h"
#include "scenario.h"
#include "service.h"
#include "service_tool.h"
#include "steady.h"
#include "summary.h"

static const char help[] =
    "codeq-bench load drives the HTTP service as a scenario says and judges its objectives.\n"
    "\n"
    "usage: codeq-bench load [OPTION...] SCENARIO...\n\n"
    "SCENARIO is an id from scenarios/ (load-*) or a file. A private Redis and codeqd are started\n"
    "for each run, unless --target names a deployment. Latency runs from the intended start.\n\n"
    "how much is offered\n"
    "  --short              the scenario's short form: seconds instead of minutes\n"
    "  --duration TIME      arrivals end after that (250ms, 10s, 5m)\n"
    "  --rate-scale X       arrival rates times X\n"
    "  --runs N             process runs, 1..100 (default 1)\n"
    "what is driven\n"
    "  --codeqd PATH        that service (default: the codeqd beside this program)\n"
    "  --target URL         a service that runs already: http://host:port\n"
    "  --redis URL          the target's Redis, to read its INFO: "
    "redis://[[user]:password@]host:port\n"
    "  --producer-token T   of the target (default dev-token)\n"
    "  --worker-token T     of the target (default dev-token)\n"
    "  --pinned             service and Redis share one core, the generator has another\n"
    "where\n"
    "  --out DIR            result sets go there (default: results/ of the checkout)\n"
    "  --scenarios DIR      find scenarios there (default: scenarios/ of the checkout)\n"
    "  --no-result          write no result set\n"
    "what is looked at\n"
    "  --live-profile S     one more run, after the others and not kept: S seconds (1..300) of "
    "where\n"
    "                       codeqd and redis-server use the CPU, S of where they wait; needs root "
    "or\n"
    "                       CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE\n"
    "  --tool T             callgrind, massif or dhat; may be given several times: one more run, "
    "at a\n"
    "                       tenth of the rates for 3 seconds at most, with codeqd under that tool "
    "of\n"
    "                       Valgrind; callgrind counts Redis in a run of its own, too\n"
    "what is shown\n"
    "  --json               one JSON object on stdout\n"
    "  --help               this text\n\n"
    "exit codes: 0 objectives kept, 1 one missed or tasks lost or early, 2 usage or environment,\n"
    "4 the run is void (the generator could not keep up) or never steady, 130 interrupted\n\n"
    "examples:\n"
    "  codeq-bench load load-sustained --short\n"
    "  codeq-bench load load-burst-drain\n"
    "  codeq-bench load load-sustained --duration 30s --rate-scale 4 --pinned\n"
    "  codeq-bench load load-sustained --short --live-profile 5\n"
    "  codeq-bench load load-sustained --short --tool callgrind --tool massif\n"
    "  codeq-bench load load-mixed-priorities --target http://127.0.0.1:8080\n"
    "  codeq-bench load load-sustained --target http://codeq:8080 --redis redis://redis:6379\n";

#define STEADY_SECONDS_MIN 10
#define STEADY_ANSWERS_MIN 20 /* in each part, on the mean */

struct load_options {
    bool brief, json, pinned, no_result;
    int64_t duration_ns; /* 0: as the scenario says */
    double rate_scale;
    int64_t runs;
    bool tools[PROFILE_TOOL_COUNT];
    int64_t live_seconds; /* 0: no live profile */
    const char *codeqd, *target, *redis, *producer_token, *worker_token, *out, *scenarios_dir;
};

/* A scenario of roles, with what of it belongs to the lab rather than to the load. */
struct plan {
    char *text;
    char sha256[DIGEST_BYTES];
    char redis_sha256[DIGEST_BYTES];
    char id[SCENARIO_ID_BYTES];
    char title[160];
    int64_t rev;
    struct json *json;
    const char *redis_config[SCENARIO_REDIS_ARGS_MAX + 1];
    unsigned redis_masters; /* 0: one server */
    const char *service_args[SCENARIO_REDIS_ARGS_MAX + 1];
    struct load_scenario *load;
};

static void plan_free(struct plan *plan)
{
    free(plan->text);
    json_free(plan->json);
    load_scenario_free(plan->load);
}

/* {"--option": "value", ...} into args, and as text into joined. */
static void read_args(struct fields *f, const char *name, const char **args, char joined[2048])
{
    size_t n = 0;
    for (const struct json *c = json_first(fields_object(f, name)); c != NULL; c = json_next(c)) {
        if (json_string(c, NULL) == NULL || strncmp(json_key(c), "--", 2) != 0 ||
            n + 2 > SCENARIO_REDIS_ARGS_MAX) {
            fields_fail(f, name, "has '%.60s': give \"--option\": \"value\"", json_key(c));
            break;
        }
        args[n++] = json_key(c);
        args[n++] = json_string(c, "");
        size_t at = strlen(joined);
        snprintf(joined + at, 2048 - at, "%s %s\n", json_key(c), json_string(c, ""));
    }
}

static int read_redis(struct plan *plan, const struct json *redis, struct err *err)
{
    struct fields f;
    fields_begin(&f, redis, "redis", err);
    char joined[2048] = "";
    read_args(&f, "config", plan->redis_config, joined);
    if (json_get(redis, "cluster_masters") != NULL) {
        plan->redis_masters =
            (unsigned)fields_int(&f, "cluster_masters", 3, REDIS_CLUSTER_NODES_MAX, 3);
        size_t at = strlen(joined);
        snprintf(joined + at, sizeof joined - at, "cluster of %u\n", plan->redis_masters);
    }
    digest_bytes(joined, strlen(joined), plan->redis_sha256);
    return fields_end(&f);
}

static int read_service(struct plan *plan, const struct json *service, struct err *err)
{
    struct fields f;
    fields_begin(&f, service, "service", err);
    char joined[2048] = "";
    read_args(&f, "config", plan->service_args, joined);
    return fields_end(&f);
}

static int plan_read(struct plan *plan, const char *path, const struct load_options *o,
                     struct err *err)
{
    static const char *const schemas[] = {SCENARIO_SCHEMA, NULL};
    *plan = (struct plan){0};
    size_t bytes = 0;
    int code = result_read_file(path, &plan->text, &bytes, err);
    if (code != 0) {
        return code;
    }
    digest_bytes(plan->text, bytes, plan->sha256);
    digest_bytes("", 0, plan->redis_sha256);
    plan->json = json_parse(plan->text, bytes, err);
    if (plan->json == NULL) {
        return err_prefix(err, -EINVAL, "scenario '%s'", path);
    }
    struct fields f;
    fields_begin(&f, plan->json, "", err);
    fields_require(&f, "schema");
    fields_choice(&f, "schema", schemas, 0);
    fields_require(&f, "id");
    snprintf(plan->id, sizeof plan->id, "%s", fields_string(&f, "id", sizeof plan->id, ""));
    if (plan->id[0] == '\0' ||
        plan->id[strspn(plan->id, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0') {
        fields_fail(&f, "id", "give lower-case letters, digits and '-'");
    }
    plan->rev = fields_int(&f, "rev", 1, 1000000, 1);
    snprintf(plan->title, sizeof plan->title, "%s",
             fields_string(&f, "title", sizeof plan->title, ""));
    const struct json *redis = fields_object(&f, "redis");
    const struct json *service = fields_object(&f, "service");
    const struct json *brief = fields_object(&f, "short");
    static const char *const of_the_load[] = {
        "seed", "duration_ms", "drain_ms", "tenants", "roles", "slo", "faults", "saturation", NULL};
    for (int i = 0; of_the_load[i] != NULL; i++) {
        fields_any(&f, of_the_load[i]);
    }
    code = fields_end(&f);
    double duration_scale = 1;
    double rate_scale = o->rate_scale;
    if (code == 0 && brief != NULL) {
        struct fields s;
        fields_begin(&s, brief, "short", err);
        double duration = fields_number(&s, "duration_scale", 1e-4, 1, 1);
        double rate = fields_number(&s, "rate_scale", 1e-3, 1e3, 1);
        code = fields_end(&s);
        if (o->brief) {
            duration_scale = duration;
            rate_scale *= rate;
        }
    }
    if (code == 0 && o->duration_ns > 0) {
        int64_t whole_ms = json_int(json_get(plan->json, "duration_ms"), 1);
        duration_scale = (double)o->duration_ns / ((double)whole_ms * (double)NS_PER_MS);
    }
    if (code == 0 && redis != NULL) {
        code = read_redis(plan, redis, err);
    }
    if (code == 0 && service != NULL) {
        code = read_service(plan, service, err);
    }
    if (code == 0) {
        plan->load = load_scenario_parse(plan->json, duration_scale, rate_scale, err);
        code = plan->load == NULL ? -EINVAL : 0;
    }
    if (code == 0 && plan->redis_masters > 0 && plan->load->fault_count > 0) {
        code = err_set(err, -EINVAL, "faults: act on one Redis: leave out redis.cluster_masters");
    }
    return code == 0 ? 0 : err_prefix(err, code, "scenario '%s'", path);
}

/* ---- one run ---- */

enum steadiness {
    NOT_JUDGED, /* too short, or the offered load is not meant to be steady */
    SETTLED,
    UNSTEADY,
};

struct run {
    struct load_result result;
    struct noise noise;
    char noise_words[512];
    struct redis_look redis_before, redis_after; /* of the first server, version "": not known */
    int64_t switches, faults; /* involuntary, and from disk, of codeqd and Redis; -1: not known */
    int64_t codeqd_cpu_us, redis_cpu_us, codeqd_rss_kb; /* -1: not known */
    int codeqd_exit;
    enum steadiness steadiness;
};

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
static void judge_steadiness(const struct load_scenario *scenario, struct run *run)
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
        run->steadiness = SETTLED;
        load_cut_warmup(&run->result, cut);
    } else if (cut == -ENODATA) {
        run->steadiness = UNSTEADY;
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

static int choose_core(int from_end)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) {
        return -1;
    }
    for (int i = CPU_SETSIZE - 1; i >= 0; i--) {
        if (CPU_ISSET(i, &set) && from_end-- == 0) {
            return i;
        }
    }
    return -1;
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

static int run_once(const struct plan *plan, const struct load_options *o,
                    struct live_profile *live, struct run *run, struct err *err)
{
    struct load_spec *spec = &plan->load->spec;
    struct service service = {0};
    char codeqd[RESULT_PATH_MAX] = "";
    int code = 0;
    if (o->target != NULL) {
        code = http_target_parse(&spec->target, o->target, err);
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
    } else {
        programs_codeqd(codeqd, sizeof codeqd);
        if (o->codeqd != NULL) {
            snprintf(codeqd, sizeof codeqd, "%s", o->codeqd);
        }
        if (codeqd[0] == '\0') {
            return err_set(err, -ENOENT,
                           "codeqd: not beside this program: build it, or give "
                           "--codeqd or --target");
        }
        struct service_options options = {
            .codeqd = codeqd,
            .redis_config = plan->redis_config,
            .redis_masters = plan->redis_masters,
            .codeqd_args = plan->service_args,
            .cpu = o->pinned ? choose_core(0) : -1,
            .tenant_count = spec->tenant_count,
        };
        code = service_start(&service, &options, spec, err);
        if (code == 0) {
            service_plan_faults(&service, plan->load);
        }
    }
    if (code != 0) {
        return code;
    }
    if (o->pinned) {
        int core = choose_core(1);
        cpu_set_t set;
        CPU_ZERO(&set);
        if (core >= 0) {
            CPU_SET(core, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
    }
    double saturation_per_sec = 0;
    if (plan->load->saturation_times > 0) {
        stop_requested = cmd_stopped();
        code = load_saturation_probe(spec, plan->load->saturation_ns,
                                     plan->load->saturation_concurrency, &stop_requested,
                                     &saturation_per_sec, err);
        code = code != 0 ? code
                         : load_offer(spec, plan->load->saturation_times * saturation_per_sec, err);
        if (code != 0) {
            if (o->target == NULL) {
                service_stop(&service);
            }
            return code;
        }
    }
    struct watch watch = {.live = live, .service = o->target == NULL ? &service : NULL};
    bool terminal = isatty(STDERR_FILENO) != 0;
    load_screen_init(&watch.screen, stderr, terminal, terminal && getenv("NO_COLOR") == NULL,
                     plan->id);
    const char *place = o->redis;
    if (place == NULL && service_redis_count(&service) > 0) {
        place = service_redis(&service, 0)->socket_path;
        for (size_t i = 0; i < service_redis_count(&service) && code == 0; i++) {
            code = redis_watch_events(service_redis(&service, i)->socket_path, err);
        }
    }
    if (code == 0 && place != NULL) {
        code = redis_look_take(place, &run->redis_before, err);
    }
    if (code != 0) {
        if (o->target == NULL) {
            service_stop(&service);
        }
        return code;
    }
    int64_t pauses[2][2];
    count_pauses(&service, pauses[0]);
    struct noise_sample before, after;
    int64_t cpu_ns[2] = {process_cpu_ns(service.codeqd.pid), service_redis_cpu_ns(&service)};
    noise_take(&before);
    stop_requested = cmd_stopped();
    if (live != NULL) {
        live_profile_watch(live, service.codeqd.pid, service_redis(&service, 0)->child.pid);
    }
    code = load_run(spec, &stop_requested, draw, &watch, &run->result, err);
    noise_take(&after);
    load_screen_erase(&watch.screen);
    if (live != NULL) {
        live_profile_end(live);
    }
    if (code == 0) {
        int64_t now_ns[2] = {process_cpu_ns(service.codeqd.pid), service_redis_cpu_ns(&service)};
        /* A Redis that was restarted begins at 0: its earlier use is not known. */
        run->codeqd_cpu_us = used_us(cpu_ns[0], now_ns[0]);
        run->redis_cpu_us = used_us(cpu_ns[1], now_ns[1]);
        count_pauses(&service, pauses[1]);
        run->switches = pauses[0][0] >= 0 ? pauses[1][0] - pauses[0][0] : -1;
        run->faults = pauses[0][1] >= 0 ? pauses[1][1] - pauses[0][1] : -1;
        if (place != NULL) {
            code = redis_look_take(place, &run->redis_after, err);
        }
        if (o->redis != NULL && run->redis_after.cpu_us >= run->redis_before.cpu_us) {
            run->redis_cpu_us = (int64_t)(run->redis_after.cpu_us - run->redis_before.cpu_us);
        }
        run->codeqd_rss_kb = process_rss_kb(service.codeqd.pid);
        run->result.saturation_per_sec = saturation_per_sec;
        int64_t peak_kb = process_peak_kb(service.codeqd.pid);
        run->result.service_peak_kb = peak_kb > 0 ? peak_kb : 0;
        noise_between(&before, &after, &run->noise);
        double seconds = (double)(after.at_ns - before.at_ns) / (double)NS_PER_SEC;
        double own_us = fmax(0, (double)run->codeqd_cpu_us) + fmax(0, (double)run->redis_cpu_us);
        double own = (own_us / 1e6 / seconds + run->result.cpu_ratio) / fmax(1, before.cores);
        noise_words(&run->noise, own, run->noise_words, sizeof run->noise_words);
        size_t said = strlen(run->noise_words);
        redis_words(&run->redis_before, &run->redis_after, run->noise_words + said,
                    sizeof run->noise_words - said);
        judge_steadiness(plan->load, run);
        if (code == 0 && service.fault_error.text[0] != '\0') {
            code = err_set(err, -EIO, "fault: %s", service.fault_error.text);
        }
        if (code != 0) {
            load_result_fini(&run->result);
        }
    }
    if (o->target == NULL) {
        run->codeqd_exit = service_stop(&service);
    }
    return code;
}

/* A run like the others for the profiles alone, which ends when they are whole. */
static int profile_live(const struct plan *plan, const struct load_options *o,
                        struct live_profile *live, struct err *err)
{
    struct run run = {0};
    int code = run_once(plan, o, live, &run, err);
    if (code == 0) {
        load_result_fini(&run.result);
    }
    return code == -EINTR && !cmd_stopped() ? 0 : code;
}

static void print_live(const struct live_profile *live)
{
    for (int k = 0; k < LIVE_KINDS; k++) {
        const struct live_part *part = &live->parts[k];
        printf("  %-9s ", live_kind_name((enum live_kind)k));
        if (!part->recorded) {
            printf("not measured: %s\n", part->reason);
        } else if (k == LIVE_ON_CPU) {
            printf("%lld samples of codeqd and redis-server in %.1f s\n", (long long)part->value,
                   part->seconds);
        } else {
            printf("%.3f s of their threads' waiting in %.1f s\n", (double)part->value / 1e9,
                   part->seconds);
        }
    }
}

/* ---- the service under Valgrind ---- */

#define TOOL_RATE_SCALE 0.1
#define TOOL_DURATION_NS (3 * NS_PER_SEC)

/* One load against the service that runs; -EBADMSG where it answered wrongly. */
static int load_lightly(struct plan *light, struct load_result *result, struct err *err)
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
static int run_tool(struct plan *light, const struct load_options *o, enum profile_tool kind,
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
        .cpu = -1,
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

/* All tools that were asked for, into dir. Only an interrupt fails it: what could not be measured
 * says why in service.json. */
static int run_tools(const char *path, const struct load_options *o, const char *dir,
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
        struct plan light;
        struct err why = {""};
        char key[32];
        any = true;
        service_tool_key(&named, key);
        struct json *one = json_add_object(json, key);
        int failed = plan_read(&light, path, &lo, &why);
        failed =
            failed != 0 ? failed : run_tool(&light, o, named.tool, named.of_redis, dir, one, &why);
        plan_free(&light);
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

/* ---- what is kept ---- */

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
static struct json *new_line(const struct plan *plan, const struct run *run, int64_t repeat,
                             const struct load_options *o)
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
    json_add_string(line, "placement", o->pinned ? "two-cores" : "free");
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
    if (run->steadiness == NOT_JUDGED) {
        json_add_null(line, "steady");
    } else {
        json_add_bool(line, "steady", run->steadiness == SETTLED);
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

static int write_set(const struct plan *plan, const char *plan_path, struct json *const *lines,
                     size_t count, const struct live_profile *live, const struct load_options *o,
                     const char *codeqd_version, char *out_dir, size_t out_bytes, struct err *err)
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
    env_set(&env, "program", codeqd_version);
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
        .placement = o->pinned ? "two-cores" : "free",
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
        code = run_tools(plan_path, o, dir, err);
    }
    if (code == 0) {
        code = result_write_manifest(set_dir, &commit, env8, err);
    }
    free(summary);
    return code;
}

/* ---- judgement and the screen ---- */

static int judge(const struct plan *plan, const struct run *run, FILE *out, struct json *list,
                 struct err *err)
{
    struct slo_figure figures[LOAD_FIGURES_MAX];
    size_t count = load_figures(&run->result, figures, LOAD_FIGURES_MAX);
    int exit_code = CMD_OK;
    for (size_t i = 0; i < plan->load->slo_count; i++) {
        const struct slo *slo = &plan->load->slos[i];
        const struct slo_figure *figure = NULL;
        int code = slo_find(slo, figures, count, &figure, err);
        if (code != 0) {
            return code;
        }
        enum slo_verdict verdict = slo_check(slo, figure);
        static const char *const words[] = {"pass", "FAIL", "not measured"};
        if (out != NULL) {
            fprintf(out, "  %-12s %s %s %g", words[verdict], slo->name,
                    slo_compare_text(slo->compare), slo->limit);
            if (verdict != SLO_UNKNOWN) {
                fprintf(out, "  (%.6g)", figure->value);
            }
            fputs("\n", out);
        }
        struct json *one = json_new_object();
        json_add_string(one, "objective", slo->name);
        json_add_string(one, "compare", slo_compare_text(slo->compare));
        json_add_number(one, "limit", slo->limit);
        json_add_string(one, "verdict", words[verdict]);
        json_append(list, one);
        if (verdict == SLO_FAIL) {
            exit_code = CMD_WORSE;
        }
    }
    if (run->result.lost > 0 || run->result.early > 0) {
        exit_code = CMD_WORSE;
    }
    if (run->steadiness == UNSTEADY && exit_code == CMD_OK) {
        exit_code = CMD_INCONCLUSIVE;
    }
    return run->result.void_reason[0] != '\0' ? CMD_INCONCLUSIVE : exit_code;
}

static void print_run(const struct plan *plan, const struct run *run)
{
    const struct load_result *r = &run->result;
    printf("%s: %s\n", plan->id, plan->title);
    load_print_table(stdout, r);
    double ops = (double)(r->finished > 0 ? r->finished : r->created);
    if (run->codeqd_cpu_us >= 0 && ops > 0) {
        printf("  codeqd    %.1f us of CPU a task, %.1f MiB resident",
               (double)run->codeqd_cpu_us / ops, (double)run->codeqd_rss_kb / 1024);
        if (run->redis_cpu_us >= 0) {
            printf("; Redis %.1f us a task", (double)run->redis_cpu_us / ops);
        }
        fputs("\n", stdout);
    }
    if (run->codeqd_cpu_us < 0 && run->redis_cpu_us >= 0 && ops > 0) {
        printf("  Redis     %.1f us of CPU a task, by its INFO\n", (double)run->redis_cpu_us / ops);
    }
    if (run->steadiness == SETTLED) {
        if (r->warm_cut_ns > 0) {
            printf("  steady    the first %.3g of %.3g s are warm-up: left out of latencies and "
                   "throughput\n",
                   (double)r->warm_cut_ns / 1e9, (double)r->arrivals_ns / 1e9);
        } else {
            puts("  steady    from the start");
        }
    } else if (run->steadiness == UNSTEADY) {
        puts("  UNSTEADY: claim latency or rate moved until the end: run longer, or on a quieter "
             "machine");
    }
    printf("  noise     %s\n", run->noise_words);
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

static int load_scenario(const char *path, const struct load_options *o, struct json *list,
                         struct err *err)
{
    struct plan plan;
    struct json *lines[100] = {NULL};
    size_t count = 0;
    int worst = CMD_OK;
    int code = plan_read(&plan, path, o, err);
    struct json *report = json_new_object();
    json_add_string(report, "scenario", plan.id);
    struct json *runs = json_add_array(report, "runs");
    for (int64_t i = 0; i < o->runs && code == 0; i++) {
        struct run run = {0};
        code = run_once(&plan, o, NULL, &run, err);
        if (code != 0) {
            break;
        }
        lines[count] = new_line(&plan, &run, i, o);
        struct json *one = json_new_object();
        if (!o->json) {
            print_run(&plan, &run);
        }
        int exit_code =
            judge(&plan, &run, o->json ? NULL : stdout, json_add_array(one, "slo"), err);
        fflush(stdout);
        char *text = json_print(lines[count]);
        json_put(one, "run", json_parse(text, strlen(text), NULL));
        free(text);
        json_append(runs, one);
        count++;
        load_result_fini(&run.result);
        if (exit_code < 0) {
            code = exit_code;
        } else if (exit_code > worst) {
            worst = exit_code;
        }
    }
    bool keep = code == 0 && !o->no_result && worst != CMD_INCONCLUSIVE;
    struct live_profile live;
    char trace[RESULT_PATH_MAX];
    programs_trace(trace, sizeof trace);
    live_profile_init(&live, trace, o->live_seconds);
    if (keep && o->live_seconds > 0) {
        code = profile_live(&plan, o, &live, err);
        if (code == 0 && !o->json) {
            print_live(&live);
        }
    } else if (code == 0 && o->live_seconds > 0 && !o->json) {
        puts("  live      not measured: no set is written of a run that is void or unsteady");
    }
    if (code == 0 && keep) {
        char version[128], set_dir[RESULT_PATH_MAX];
        codeqd_version(o, version, sizeof version);
        code = write_set(&plan, path, lines, count, o->live_seconds > 0 ? &live : NULL, o, version,
                         set_dir, sizeof set_dir, err);
        if (code == 0 && !o->json) {
            printf("  set       %s\n", set_dir);
            report_beside_set(set_dir, stderr);
        }
    }
    live_profile_fini(&live);
    for (size_t i = 0; i < count; i++) {
        json_free(lines[i]);
    }
    json_append(list, report);
    plan_free(&plan);
    return code != 0 ? code : worst;
}

static int choose_tool(struct load_options *o, const char *name, struct err *err)
{
    for (int t = 0; t < PROFILE_TOOL_COUNT; t++) {
        if (strcmp(name, profile_tool_name((enum profile_tool)t)) == 0) {
            o->tools[t] = true;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "load: --tool: '%.40s' is none of callgrind, massif, dhat", name);
}

static int parse(int argc, char **argv, struct load_options *o)
{
    static const struct option options[] = {
        {"short", no_argument, NULL, 's'},
        {"duration", required_argument, NULL, 'd'},
        {"rate-scale", required_argument, NULL, 'x'},
        {"runs", required_argument, NULL, 'n'},
        {"codeqd", required_argument, NULL, 'c'},
        {"target", required_argument, NULL, 't'},
        {"redis", required_argument, NULL, 'R'},
        {"producer-token", required_argument, NULL, 'P'},
        {"worker-token", required_argument, NULL, 'W'},
        {"pinned", no_argument, NULL, 'p'},
        {"live-profile", required_argument, NULL, 'L'},
        {"tool", required_argument, NULL, 'T'},
        {"out", required_argument, NULL, 'o'},
        {"scenarios", required_argument, NULL, 'S'},
        {"no-result", no_argument, NULL, 'N'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct err err = {""};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        int code = 0;
        switch (c) {
        case 's':
            o->brief = true;
            break;
        case 'd':
            code = args_duration_ns(optarg, &o->duration_ns, &err);
            break;
        case 'x':
            code = args_double(optarg, 1e-3, 1e3, &o->rate_scale, &err);
            break;
        case 'n':
            code = args_int(optarg, 1, 100, &o->runs, &err);
            break;
        case 'c':
            o->codeqd = optarg;
            break;
        case 't':
            o->target = optarg;
            break;
        case 'R':
            o->redis = optarg;
            break;
        case 'P':
            o->producer_token = optarg;
            break;
        case 'W':
            o->worker_token = optarg;
            break;
        case 'p':
            o->pinned = true;
            break;
        case 'T':
            code = choose_tool(o, optarg, &err);
            break;
        case 'L':
            code = args_int(optarg, 1, LIVE_PROFILE_SECONDS_MAX, &o->live_seconds, &err);
            code = code != 0 ? err_prefix(&err, code, "load: --live-profile") : 0;
            break;
        case 'o':
            o->out = optarg;
            break;
        case 'S':
            o->scenarios_dir = optarg;
            break;
        case 'N':
            o->no_result = true;
            break;
        case 'j':
            o->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(CMD_OK);
        default:
            return CMD_USAGE;
        }
        if (code != 0) {
            return cmd_fail(CMD_USAGE, &err);
        }
    }
    if (o->redis != NULL && (o->target == NULL || strncmp(o->redis, "redis://", 8) != 0)) {
        err_set(&err, 0,
                "load: --redis reads the INFO of a deployment that --target names: give it "
                "as redis://host:port beside --target, or leave it out");
        return cmd_fail(CMD_USAGE, &err);
    }
    bool tool = o->tools[PROFILE_CALLGRIND] || o->tools[PROFILE_MASSIF] || o->tools[PROFILE_DHAT];
    if ((tool || o->live_seconds > 0) && (o->target != NULL || o->no_result)) {
        err_set(&err, 0, "load: %s and %s: profiles are %s", tool ? "--tool" : "--live-profile",
                o->target != NULL ? "--target" : "--no-result",
                o->target != NULL ? "taken of a service that is started here: for another one use "
                                    "codeq-trace profile"
                                  : "kept in the result set");
        return cmd_fail(CMD_USAGE, &err);
    }
    if (optind == argc) {
        err_set(&err, 0,
                "load: no scenario: name one of scenarios/load-*.json, as in "
                "'codeq-bench load load-sustained --short'");
        return cmd_fail(CMD_USAGE, &err);
    }
    return CMD_OK;
}

int cmd_load(int argc, char **argv)
{
    struct load_options o = {
        .rate_scale = 1, .runs = 1, .producer_token = "dev-token", .worker_token = "dev-token"};
    int exit_code = parse(argc, argv, &o);
    if (exit_code != CMD_OK) {
        return exit_code;
    }
    struct result_commit commit;
    char dir[RESULT_PATH_MAX + 32];
    result_commit_read(".", &commit);
    programs_scenarios(commit.root, dir, sizeof dir);
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-lab.load/1");
    struct json *list = json_add_array(root, "scenarios");
    struct err err = {""};
    for (int i = optind; i < argc; i++) {
        char path[RESULT_PATH_MAX + 128];
        bool is_file = strchr(argv[i], '/') != NULL || strstr(argv[i], ".json") != NULL;
        if (is_file) {
            snprintf(path, sizeof path, "%s", argv[i]);
        } else {
            snprintf(path, sizeof path, "%s/%s.json",
                     o.scenarios_dir != NULL ? o.scenarios_dir : dir, argv[i]);
        }
        int code = load_scenario(path, &o, list, &err);
        if (code < 0) {
            exit_code = cmd_fail(code == -EINTR ? CMD_INTERRUPTED : CMD_USAGE, &err);
            break;
        }
        exit_code = code > exit_code ? code : exit_code;
    }
    if (o.json && exit_code != CMD_USAGE && exit_code != CMD_INTERRUPTED) {
        char *text = json_print_pretty(root);
        fputs(text, stdout);
        free(text);
    }
    json_free(root);
    return exit_code;
}
