#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd.h"
#include "env.h"
#include "live_profile.h"
#include "load/screen.h"
#include "load/stall.h"
#include "load_measure.h"
#include "load_plan.h"
#include "load_set.h"
#include "programs.h"
#include "report_files.h"
#include "result.h"

static const char help[] =
    "codeq-bench load drives the HTTP service as a scenario says and judges its objectives.\n"
    "\n"
    "usage: codeq-bench load [OPTION...] SCENARIO...\n"
    "       codeq-bench load --self-check\n\n"
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
    "  --pinned             codeqd and Redis share one core (default: the generator has one,\n"
    "                       codeqd and Redis have all others)\n"
    "  --as-deployed        leave generator, codeqd and Redis to the kernel, as with --target\n"
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
    "is it to be trusted\n"
    "  --self-check         no scenario: 10 s at 1,000/s against a server of 50 us that stands "
    "still\n"
    "                       for 1 s of them: p99 has to be 905 ms, as long as 1 request in 100 "
    "waited\n"
    "what is shown\n"
    "  --json               one JSON object on stdout\n"
    "  --help               this text\n\n"
    "exit codes: 0 objectives kept, 1 one missed or tasks lost or early, 2 usage or environment,\n"
    "4 the run is void (the generator could not keep up) or never steady, 6 the self-check "
    "failed,\n"
    "130 interrupted\n\n"
    "examples:\n"
    "  codeq-bench load load-sustained --short\n"
    "  codeq-bench load load-burst-drain\n"
    "  codeq-bench load load-sustained --duration 30s --rate-scale 4 --pinned\n"
    "  codeq-bench load load-sustained --short --live-profile 5\n"
    "  codeq-bench load load-sustained --short --tool callgrind --tool massif\n"
    "  codeq-bench load load-mixed-priorities --target http://127.0.0.1:8080\n"
    "  codeq-bench load load-sustained --target http://codeq:8080 --redis redis://redis:6379\n";

static int judge(const struct load_plan *plan, const struct load_measured *run, FILE *out,
                 struct json *list, struct err *err)
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
    if (run->steadiness == LOAD_UNSTEADY && exit_code == CMD_OK) {
        exit_code = CMD_INCONCLUSIVE;
    }
    return run->result.void_reason[0] != '\0' ? CMD_INCONCLUSIVE : exit_code;
}

/* What a latency means: a closed loop's does not show how long clients wait under load. */
static void print_loops(const struct load_spec *spec)
{
    uint64_t open = 0, closed = 0, workers = 0;
    for (size_t i = 0; i < spec->role_count; i++) {
        const struct load_role *role = &spec->roles[i];
        *(role->kind == LOAD_WORKER ? &workers : role->open ? &open : &closed) += role->concurrency;
    }
    printf("  loops     %s%s", open > 0 ? "create: open loop" : "",
           open > 0 && closed > 0 ? "; " : "");
    if (closed > 0) {
        printf("create: closed loop of %llu", (unsigned long long)closed);
    }
    if (workers > 0) {
        printf("%sclaim and result: closed loop of %llu", open + closed > 0 ? "; " : "",
               (unsigned long long)workers);
    }
    fputs("\n", stdout);
}

static void print_run(const struct load_plan *plan, const struct load_measured *run)
{
    const struct load_result *r = &run->result;
    printf("%s: %s\n", plan->id, plan->title);
    print_loops(&plan->load->spec);
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
    if (run->steadiness == LOAD_SETTLED) {
        if (r->warm_cut_ns > 0) {
            printf("  steady    the first %.3g of %.3g s are warm-up: left out of latencies and "
                   "throughput\n",
                   (double)r->warm_cut_ns / 1e9, (double)r->arrivals_ns / 1e9);
        } else {
            puts("  steady    from the start");
        }
    } else if (run->steadiness == LOAD_UNSTEADY) {
        puts("  UNSTEADY: claim latency or rate moved until the end: run longer, or on a quieter "
             "machine");
    }
    printf("  noise     %s\n", run->noise_words);
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

static int load_scenario(const char *path, const struct load_options *o, struct json *list,
                         struct err *err)
{
    struct load_plan plan;
    struct json *lines[100] = {NULL};
    size_t count = 0;
    int worst = CMD_OK;
    int code = load_plan_read(&plan, path, o, err);
    struct json *report = json_new_object();
    json_add_string(report, "scenario", plan.id);
    struct json *runs = json_add_array(report, "runs");
    for (int64_t i = 0; i < o->runs && code == 0; i++) {
        struct load_measured run = {0};
        code = load_measure_once(&plan, o, NULL, &run, err);
        if (code != 0) {
            break;
        }
        lines[count] = load_set_line(&plan, &run, i, o);
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
        code = load_measure_live(&plan, o, &live, err);
        if (code == 0 && !o->json) {
            print_live(&live);
        }
    } else if (code == 0 && o->live_seconds > 0 && !o->json) {
        puts("  live      not measured: no set is written of a run that is void or unsteady");
    }
    for (int t = 0; t < PROFILE_TOOL_COUNT && code == 0 && !keep && !o->json; t++) {
        if (o->tools[t]) {
            printf("  %-9s not measured: no set is written of a run that is void or unsteady\n",
                   profile_tool_name((enum profile_tool)t));
        }
    }
    if (code == 0 && keep) {
        char set_dir[RESULT_PATH_MAX];
        code = load_set_write(&plan, path, lines, count, o->live_seconds > 0 ? &live : NULL, o,
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
    load_plan_free(&plan);
    return code != 0 ? code : worst;
}

static volatile sig_atomic_t check_stopped;

static void watch_stop(void *arg, const struct load_progress *progress)
{
    (void)arg;
    (void)progress;
    check_stopped = cmd_stopped();
}

/* The generator's own proof: what it reports of a server that stands still. */
static int self_check(bool as_json)
{
    struct stall_check check;
    struct err err = {""};
    if (!as_json) {
        fprintf(stderr, "codeq-bench: load: 10 s against a server that stands still for 1 s\n");
    }
    int code =
        stall_check_run(10 * NS_PER_SEC, NS_PER_SEC, &check_stopped, watch_stop, &check, &err);
    if (code != 0) {
        return cmd_fail(code == -EINTR ? CMD_INTERRUPTED : CMD_USAGE, &err);
    }
    if (as_json) {
        struct json *json = json_new_object();
        json_add_string(json, "schema", "codeq-lab.load-check/1");
        json_add_bool(json, "ok", check.ok);
        json_add_number(json, "p99_ms", (double)check.p99_ns / 1e6);
        json_add_number(json, "expected_ms", (double)check.expected_ns / 1e6);
        json_add_number(json, "paused_ms", (double)check.paused_ns / 1e6);
        json_add_number(json, "requests", (double)check.completed);
        json_add_number(json, "lag_p99_us", (double)check.lag_p99_ns / 1e3);
        if (check.void_reason[0] != '\0') {
            json_add_string(json, "void", check.void_reason);
        }
        char *text = json_print_pretty(json);
        fputs(text, stdout);
        free(text);
        json_free(json);
    } else {
        printf("%s: p99 %.1f ms of %llu requests, %.1f ms expected: the server stood still for "
               "%.1f ms\n",
               check.ok ? "pass" : "FAIL", (double)check.p99_ns / 1e6,
               (unsigned long long)check.completed, (double)check.expected_ns / 1e6,
               (double)check.paused_ns / 1e6);
        if (check.void_reason[0] != '\0') {
            printf("nothing is proved: %s\n", check.void_reason);
        }
    }
    return check.ok ? CMD_OK : check.void_reason[0] != '\0' ? CMD_INCONCLUSIVE : CMD_LAB_FAILED;
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

static int parse(int argc, char **argv, struct load_options *o, bool *self_check)
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
        {"as-deployed", no_argument, NULL, 'a'},
        {"live-profile", required_argument, NULL, 'L'},
        {"tool", required_argument, NULL, 'T'},
        {"out", required_argument, NULL, 'o'},
        {"scenarios", required_argument, NULL, 'S'},
        {"no-result", no_argument, NULL, 'N'},
        {"self-check", no_argument, NULL, 'C'},
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
            o->placement = LOAD_TWO_CORES;
            break;
        case 'a':
            o->placement = LOAD_FREE;
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
        case 'C':
            *self_check = true;
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
    if (o->target != NULL) {
        o->placement = LOAD_FREE;
    }
    struct load_cores cores;
    load_cores_choose(&cores, o->placement);
    o->placement = cores.placement;
    bool tool = o->tools[PROFILE_CALLGRIND] || o->tools[PROFILE_MASSIF] || o->tools[PROFILE_DHAT];
    if ((tool || o->live_seconds > 0) && (o->target != NULL || o->no_result)) {
        err_set(&err, 0, "load: %s and %s: profiles are %s", tool ? "--tool" : "--live-profile",
                o->target != NULL ? "--target" : "--no-result",
                o->target != NULL ? "taken of a service that is started here: for another one use "
                                    "codeq-trace profile"
                                  : "kept in the result set");
        return cmd_fail(CMD_USAGE, &err);
    }
    if (*self_check && optind < argc) {
        err_set(&err, 0, "load: --self-check takes no scenario: leave '%.60s' out", argv[optind]);
        return cmd_fail(CMD_USAGE, &err);
    }
    if (optind == argc && !*self_check) {
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
    bool check = false;
    int exit_code = parse(argc, argv, &o, &check);
    if (exit_code != CMD_OK || check) {
        return exit_code != CMD_OK ? exit_code : self_check(o.json);
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
