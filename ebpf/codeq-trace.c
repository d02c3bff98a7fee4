/* codeq-trace: the table of views and what they share: options, the loop, the way out. */
#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/clock.h"
#include "claims.h"
#include "commands.h"
#include "cost.h"
#include "leases.h"
#include "profile.h"
#include "serve.h"
#include "sink_json.h"
#include "sink_screen.h"
#include "syscalls.h"
#include "timeline.h"
#include "view.h"

#define TICK_MS 20
#define REFRESH_NS (200 * NS_PER_MS)

static const struct view *const views[] = {
    &syscalls_view, &commands_view, &leases_view, &profile_view, &timeline_view, &serve_view,
};
#define VIEWS_LEN (sizeof views / sizeof views[0])

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void usage(FILE *out)
{
    fputs("codeq-trace watches Redis servers, codeqd and their clients while they run; what it\n"
          "watches is not changed and knows nothing of it.\n"
          "\n"
          "usage: codeq-trace VIEW [OPTIONS]\n"
          "\n"
          "views:\n",
          out);
    for (size_t i = 0; i < VIEWS_LEN; i++) {
        fprintf(out, "  %-10s  %s\n", views[i]->name, views[i]->summary);
    }
    fputs("and:\n  cost        what each of these costs on this host, measured\n", out);
    fputs("\n"
          "which processes (default: every Redis server and codeqd, also those that start later):\n"
          "  --pid N[,N...]        these; with --cgroup: as numbered inside the container\n"
          "  --comm NAME[,NAME...] all of these names\n"
          "  --cgroup FOLDER       all of a cgroup (a container, a systemd unit) and below\n"
          "  --role server|client  what they are to Redis (default: by name)\n"
          "  --follow              wait for a process that is not there, and for its next start\n"
          "\n"
          "how long and how:\n"
          "  --duration TIME       stop by itself (default: at Ctrl-C)\n"
          "  --interval TIME       refresh so often (default: 1s)\n"
          "  --rows N              rows of a table on the screen (default: 20)\n"
          "  --json                the summary as one JSON object; with --interval: one a line\n"
          "  --help, --version\n"
          "\n"
          "examples:\n"
          "  codeq-trace syscalls\n"
          "  codeq-trace leases\n"
          "  codeq-trace commands --duration 10s\n"
          "  codeq-trace commands --comm redis-server,node --json --duration 5s\n"
          "  codeq-trace syscalls --comm redis-server --duration 10s\n"
          "  codeq-trace profile --comm codeqd --duration 30s --output cpu.svg\n"
          "\n"
          "Rights: CAP_BPF and CAP_PERFMON (Linux 5.8), or root. Kernel: 5.17 with BTF.\n"
          "Exit: 0 done; 1 nothing was seen; 2 usage, rights or kernel.\n",
          out);
}

static int fail(const char *view, const struct err *err)
{
    fprintf(stderr, "codeq-trace: %s%s%s\n", view != NULL ? view : "", view != NULL ? ": " : "",
            err->text);
    return 2;
}

enum option_id {
    OPT_PID = 256,
    OPT_COMM,
    OPT_CGROUP,
    OPT_ROLE,
    OPT_FOLLOW,
    OPT_DURATION,
    OPT_INTERVAL,
    OPT_ROWS,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION,
    OPT_FIRST_OWN, /* from here on only where a view says so */
    OPT_RAW = OPT_FIRST_OWN,
    OPT_SAMPLE,
    OPT_RULES,
    OPT_OFF_CPU,
    OPT_FREQUENCY,
    OPT_OUTPUT,
    OPT_LISTEN,
    OPT_VIA,
    OPT_EVENTS,
    OPT_SHOW_KEYS,
    OPT_SYSCALLS,
};

static const struct option option_table[] = {
    {"pid", required_argument, NULL, OPT_PID},
    {"comm", required_argument, NULL, OPT_COMM},
    {"cgroup", required_argument, NULL, OPT_CGROUP},
    {"role", required_argument, NULL, OPT_ROLE},
    {"follow", no_argument, NULL, OPT_FOLLOW},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"interval", required_argument, NULL, OPT_INTERVAL},
    {"rows", required_argument, NULL, OPT_ROWS},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"raw-tracepoints", no_argument, NULL, OPT_RAW},
    {"sample", required_argument, NULL, OPT_SAMPLE},
    {"rules", required_argument, NULL, OPT_RULES},
    {"off-cpu", no_argument, NULL, OPT_OFF_CPU},
    {"frequency", required_argument, NULL, OPT_FREQUENCY},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"via", required_argument, NULL, OPT_VIA},
    {"events", no_argument, NULL, OPT_EVENTS},
    {"show-keys", no_argument, NULL, OPT_SHOW_KEYS},
    {"syscalls", no_argument, NULL, OPT_SYSCALLS},
    {NULL, 0, NULL, 0},
};

static bool takes(const struct view *view, const char *name)
{
    const char *list = view->options;
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)) != NULL; p += n) {
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* 0: go on; 1: done (help); negative: errno with text. */
static int parse(int argc, char **argv, const struct view *view, struct view_options *options,
                 struct target *target, struct err *err)
{
    int index = 0;
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":", option_table, &index)) != -1;) {
        int code = 0;
        int64_t number = 0;
        if (c >= OPT_FIRST_OWN && !takes(view, option_table[index].name)) {
            return err_set(err, -EINVAL,
                           "--%s: not an option of this view: see codeq-trace %s --help",
                           option_table[index].name, view->name);
        }
        switch (c) {
        case OPT_PID:
            code = target_add_pids(target, optarg, err);
            break;
        case OPT_COMM:
            code = target_add_comms(target, optarg, err);
            break;
        case OPT_CGROUP:
            code = target_set_cgroup(target, optarg, err);
            break;
        case OPT_ROLE:
            if (strcmp(optarg, "server") != 0 && strcmp(optarg, "client") != 0) {
                return err_set(err, -EINVAL, "--role: '%s' is neither server nor client", optarg);
            }
            target->role = optarg[0] == 's' ? TARGET_SERVER : TARGET_CLIENT;
            break;
        case OPT_FOLLOW:
            options->follow = true;
            break;
        case OPT_DURATION:
            code = args_duration_ns(optarg, &options->duration_ns, err);
            code = code != 0 ? err_prefix(err, code, "--duration") : 0;
            break;
        case OPT_INTERVAL:
            code = args_duration_ns(optarg, &options->interval_ns, err);
            if (code == 0 && options->interval_ns < 100 * NS_PER_MS) {
                code = err_set(err, -EINVAL, "'%s' is below 100ms", optarg);
            }
            code = code != 0 ? err_prefix(err, code, "--interval") : 0;
            options->interval_given = true;
            break;
        case OPT_ROWS:
            code = args_int(optarg, 1, 10000, &number, err);
            options->rows_max = (int)number;
            code = code != 0 ? err_prefix(err, code, "--rows") : 0;
            break;
        case OPT_JSON:
            options->json = true;
            break;
        case OPT_HELP:
            printf("codeq-trace %s: %s\n\nusage: codeq-trace %s [OPTIONS]\n\n", view->name,
                   view->summary, view->name);
            printf("options of its own (the common ones: codeq-trace --help):\n%s", view->help);
            return 1;
        case OPT_VERSION:
            puts("codeq-trace " CODEQ_VERSION);
            return 1;
        case OPT_RAW:
            options->raw_tracepoints = true;
            break;
        case OPT_SAMPLE:
            if (strncmp(optarg, "1/", 2) != 0) {
                return err_set(err, -EINVAL, "--sample: '%s': write it like 1/8", optarg);
            }
            code = args_int(optarg + 2, 1, 1000000, &number, err);
            options->sample = (int)number;
            code = code != 0 ? err_prefix(err, code, "--sample") : 0;
            break;
        case OPT_RULES:
            if (options->rules_len == 8) {
                return err_set(err, -EINVAL, "--rules: more than 8 files");
            }
            options->rules[options->rules_len++] = optarg;
            break;
        case OPT_OFF_CPU:
            options->off_cpu = true;
            break;
        case OPT_FREQUENCY:
            code = args_int(optarg, 1, 999, &number, err);
            options->frequency_hz = (int)number;
            code = code != 0 ? err_prefix(err, code, "--frequency") : 0;
            break;
        case OPT_OUTPUT:
            options->output = optarg;
            break;
        case OPT_LISTEN:
            options->listen = optarg;
            break;
        case OPT_EVENTS:
            options->events = true;
            break;
        case OPT_SHOW_KEYS:
            options->show_keys = true;
            break;
        case OPT_SYSCALLS:
            options->syscalls = true;
            break;
        case OPT_VIA:
            if (strcmp(optarg, "wire") != 0 && strcmp(optarg, "usdt") != 0) {
                return err_set(err, -EINVAL, "--via: '%s' is neither wire nor usdt", optarg);
            }
            options->via = optarg;
            break;
        case ':':
            return err_set(err, -EINVAL, "%s: needs a value", argv[optind - 1]);
        default:
            return err_set(err, -EINVAL, "%s: unknown option: see codeq-trace --help",
                           argv[optind - 1]);
        }
        if (code != 0) {
            return code;
        }
    }
    if (optind < argc) {
        return err_set(err, -EINVAL, "'%s': unexpected: see codeq-trace --help", argv[optind]);
    }
    return 0;
}

struct session {
    const struct view *view;
    const struct view_options *options;
    struct target *target;
    void *state;
    struct loader *loader;
    int64_t start_ns;
    int64_t last_ns;
    bool tty;
    struct screen_options screen;
};

static void add_common_notes(struct session *session, struct report *report)
{
    uint64_t missed = 0;
    struct loader_program program;
    for (int i = 0; loader_program(session->loader, i, &program) == 0; i++) {
        missed += program.missed;
    }
    report_loss(report, "missed_hits", "hits missed: the program was running on that core", missed);
    report_loss(report, "untracked_processes", "processes beyond the most that can be traced",
                (uint64_t)session->target->overflow);
    int ended = 0;
    for (int i = 0; i < session->target->processes_len; i++) {
        ended += !session->target->processes[i].alive;
    }
    if (ended > 0) {
        report_note(report, "%d of %d traced processes have ended", ended,
                    session->target->processes_len);
    }
}

/* Collect and print; the number of rows in the first table. */
static int show(struct session *session, bool final)
{
    int64_t now_ns = clock_monotonic_ns(clock_system());
    struct report report;
    report_init(&report, session->view->name);
    report.final = final;
    report.elapsed = (double)(now_ns - session->start_ns) / 1e9;
    report.seconds = final ? report.elapsed : (double)(now_ns - session->last_ns) / 1e9;
    session->last_ns = now_ns;
    session->view->collect(session->state, &report);
    add_common_notes(session, &report);
    struct buf out = BUF_INIT;
    if (session->options->json) {
        char *text = sink_json(&report);
        buf_printf(&out, "%s\n", text);
        free(text);
    } else {
        struct winsize size = {0};
        if (session->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
            session->screen.columns = size.ws_col;
        }
        if (session->tty && !final) {
            buf_puts(&out, "\033[H\033[J");
        }
        screen_print(&report, &session->screen, &out);
        buf_puts(&out, session->tty && final ? "" : "\n");
    }
    fwrite(out.data, 1, out.bytes, stdout);
    fflush(stdout);
    buf_fini(&out);
    int rows = report.tables_len > 0 ? report.tables[0].rows_len : 0;
    report_fini(&report);
    return rows;
}

static void run(struct session *session)
{
    const struct view_options *options = session->options;
    int64_t refreshed_ns = session->start_ns;
    bool quiet =
        session->view->quiet || options->events || (options->json && !options->interval_given);
    while (!stop && !ferror(stdout)) {
        int64_t now_ns = clock_monotonic_ns(clock_system());
        int64_t wait_ns = TICK_MS * NS_PER_MS;
        if (options->duration_ns > 0) {
            int64_t left_ns = session->start_ns + options->duration_ns - now_ns;
            if (left_ns <= 0) {
                return;
            }
            wait_ns = left_ns < wait_ns ? left_ns : wait_ns;
        }
        struct timespec wait = {wait_ns / NS_PER_SEC, wait_ns % NS_PER_SEC};
        if (session->view->tick == NULL && wait_ns == TICK_MS * NS_PER_MS) {
            wait.tv_nsec = REFRESH_NS / 2;
        }
        ppoll(NULL, 0, &wait, NULL);
        if (session->view->tick != NULL) {
            session->view->tick(session->state);
        }
        now_ns = clock_monotonic_ns(clock_system());
        if (now_ns - refreshed_ns >= REFRESH_NS) {
            refreshed_ns = now_ns;
            int alive =
                target_refresh(session->target, &session->loader, 1, false, options->follow, NULL);
            if (alive == 0 && !options->follow) {
                return;
            }
        }
        if (!quiet && !stop && now_ns - session->last_ns >= options->interval_ns) {
            show(session, false);
        }
    }
}

static int trace(const struct view *view, const struct view_options *options, struct target *target,
                 struct err *err)
{
    struct session session = {.view = view, .options = options, .target = target};
    session.tty = isatty(STDOUT_FILENO) && !options->json && !options->events;
    session.screen = (struct screen_options){
        .rows_max = options->rows_max,
        .colour = session.tty && getenv("NO_COLOR") == NULL,
        .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
    };
    int code = loader_check(view->needs, err);
    if (code != 0) {
        return code;
    }
    code = view->open(options, target, &session.state, &session.loader, err);
    if (code != 0) {
        return code;
    }
    code = loader_load(session.loader, err);
    if (code != 0) {
        loader_print_log(session.loader, stderr);
        goto out;
    }
    code = target_refresh(target, &session.loader, 1, true, options->follow, err);
    if (code < 0) {
        goto out;
    }
    code = view->ready != NULL ? view->ready(session.state, err) : 0;
    if (code == 0) {
        code = loader_attach(session.loader, err);
    }
    if (code != 0) {
        goto out;
    }
    session.start_ns = session.last_ns = clock_monotonic_ns(clock_system());
    fprintf(stderr, "codeq-trace: %s: tracing %d %s; Ctrl-C ends it\n", view->name,
            target->processes_len, target->processes_len == 1 ? "process" : "processes");
    run(&session);
    loader_detach(session.loader);
    if (view->tick != NULL) {
        view->tick(session.state);
    }
    if (session.tty) {
        fputs("\033[H\033[J", stdout);
    }
    int rows = show(&session, true);
    code = view->finish != NULL ? view->finish(session.state, err) : 0;
    if (code == 0) {
        code = rows > 0 ? 0 : 1;
    }
out:
    view->close(session.state);
    return code;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("codeq-trace " CODEQ_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "cost") == 0) {
        return cost_main(argc - 1, argv + 1);
    }
    const struct view *view = NULL;
    for (size_t i = 0; i < VIEWS_LEN; i++) {
        if (strcmp(argv[1], views[i]->name) == 0) {
            view = views[i];
        }
    }
    struct err err = {""};
    if (view == NULL) {
        err_set(&err, -EINVAL, "'%s': no such view: see codeq-trace --help", argv[1]);
        return fail(NULL, &err);
    }
    static struct target target;
    struct view_options options = {
        .interval_ns = NS_PER_SEC, .rows_max = 20, .sample = 1, .frequency_hz = 99};
    int code = parse(argc - 1, argv + 1, view, &options, &target, &err);
    if (code != 0) {
        return code > 0 ? 0 : fail(view->name, &err);
    }
    if (options.via != NULL && strcmp(options.via, "usdt") == 0) {
        if (options.rules_len > 0 || options.sample > 1 || options.syscalls) {
            err_set(&err, -EINVAL, "--via usdt: takes none of --rules, --sample and --syscalls");
            return fail(view->name, &err);
        }
        view = &claims_view;
    }
    if (options.events || options.show_keys) {
        view = &command_events_view;
    }
    if (target.pids_len == 0 && target.comms_len == 0 && target.cgroup[0] == '\0') {
        target_add_default_comms(&target);
        options.follow = true;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    code = trace(view, &options, &target, &err);
    return code < 0 ? fail(view->name, &err) : code;
}
