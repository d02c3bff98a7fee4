#include "load/load.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/json.h"
#include "load/actor.h"
#include "load/lag.h"

#define EVENTS_MAX 64 /* then the schedule is looked at again */
#define UNREAD_NS NS_PER_MS /* an open producer's answer is read no later than this */
/* A core that sleeps wakes late, by 50 us and more in a virtual machine. So that an arrival long
 * after the one before leaves in time, the wait before it ends so much earlier, and what is left is
 * spent looking for answers: at most a quarter of the time. */
#define AWAKE_NS (80 * NS_PER_US)
#define AWAKE_GAP_NS (4 * AWAKE_NS)
#define PROGRESS_NS (250 * NS_PER_MS)
#define FINISH_NS (5 * NS_PER_SEC) /* for answers that are still out when all else is over */
#define CPU_RATIO_MAX 0.8
#define HIST_MAX_NS (120 * NS_PER_SEC)

const char *load_endpoint_name(enum load_endpoint endpoint)
{
    static const char *const names[] = {"create", "claim", "empty", "result", "heartbeat", "nack"};
    return endpoint < LOAD_ENDPOINTS ? names[endpoint] : "?";
}

static void send_arrivals(struct load *load, int64_t now)
{
    for (size_t i = 0; i < load->spec->role_count && !load->stopping; i++) {
        struct role_state *role = &load->roles[i];
        while (role->spec->open && role->next_arrival_ns >= 0 && role->idle_count > 0 &&
               load->start_ns + role->next_arrival_ns <= now) {
            int64_t intended_ns = load->start_ns + role->next_arrival_ns;
            struct actor *actor = &role->actors[role->idle[--role->idle_count]];
            role->next_arrival_ns = arrival_next_ns(&role->arrival);
            if (role->next_arrival_ns >= 0) {
                role->next_arrival_ns += role->spec->start_ns;
            }
            role->gap_ns = load->start_ns + role->next_arrival_ns - intended_ns;
            actor_create(load, actor, intended_ns);
        }
    }
}

/* What has a schedule goes first, and is looked at again behind each worker's step: a step costs a
 * system call, and many of them fall due at once. */
static void send_due(struct load *load)
{
    int64_t now = now_ns();
    send_arrivals(load, now);
    for (struct timer *first;
         (first = timer_first(&load->timers)) != NULL && first->at_ns <= now;) {
        actor_due(load, actor_of(first), now);
        send_arrivals(load, now_ns());
    }
}

/* How long to wait for the first of: a timer, an arrival, latest_ns. */
static int64_t wait_of(const struct load *load, int64_t latest_ns, int64_t now)
{
    const struct timer *first = timer_first(&load->timers);
    int64_t wait_ns = (first != NULL && first->at_ns < latest_ns ? first->at_ns : latest_ns) - now;
    for (size_t i = 0; i < load->spec->role_count && !load->stopping; i++) {
        const struct role_state *role = &load->roles[i];
        if (role->spec->open && role->next_arrival_ns >= 0 && role->idle_count > 0) {
            int64_t left_ns = load->start_ns + role->next_arrival_ns - now;
            left_ns -= role->gap_ns >= AWAKE_GAP_NS ? AWAKE_NS : 0;
            wait_ns = left_ns < wait_ns ? left_ns : wait_ns;
        }
    }
    return wait_ns > 0 ? wait_ns : 0;
}

/* Whether answers to open producers end the wait. Nothing is done upon such an answer and the
 * kernel stamps it, so where something is due soon anyway it is read then: one wait a request and
 * not two. Not where a producer has no connection left to send with. */
static void watch_open(struct load *load, int64_t wait_ns)
{
    bool watch = wait_ns > UNREAD_NS || load->stopping;
    for (size_t i = 0; i < load->spec->role_count && !watch; i++) {
        const struct role_state *role = &load->roles[i];
        watch = role->spec->open && role->next_arrival_ns >= 0 && role->idle_count == 0;
    }
    if (watch != load->open_watched) {
        struct epoll_event event = {.events = watch ? EPOLLIN : 0, .data.ptr = NULL};
        epoll_ctl(load->epoll_fd, EPOLL_CTL_MOD, load->open_fd, &event);
        load->open_watched = watch;
    }
}

static void take_events(struct load *load, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr != NULL) { /* else open_fd, which was read before */
            actor_on_event(load, events[i].data.ptr, events[i].events);
            send_arrivals(load, now_ns());
        }
    }
}

/* What is due is sent, then answers are read: those to open producers first, so that a task is
 * known to be made before the worker that has it already is heard. */
static void wait_and_read(struct load *load, int64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event open_events[EVENTS_MAX];
    struct timespec wait = {wait_ns / NS_PER_SEC, wait_ns % NS_PER_SEC};
    int n = epoll_pwait2(load->epoll_fd, events, EVENTS_MAX, &wait, NULL);
    send_arrivals(load, now_ns());
    if (load->open_in_flight > 0 || load->open_watched) {
        take_events(load, open_events, epoll_wait(load->open_fd, open_events, EVENTS_MAX, 0));
    }
    take_events(load, events, n);
}

static bool producers_over(const struct load *load, int64_t now)
{
    for (size_t i = 0; i < load->spec->role_count; i++) {
        const struct role_state *role = &load->roles[i];
        if (role->spec->kind != LOAD_PRODUCER) {
            continue;
        }
        if (role->in_flight > 0 || (role->spec->open && role->next_arrival_ns >= 0) ||
            (!role->spec->open && role->running > 0)) {
            return false;
        }
    }
    return now - load->start_ns >= load->spec->duration_ns || load->spec->role_count > 0;
}

static bool has_workers(const struct load *load)
{
    for (size_t i = 0; i < load->spec->role_count; i++) {
        if (load->roles[i].spec->kind == LOAD_WORKER && load->roles[i].running > 0) {
            return true;
        }
    }
    return false;
}

static void close_window(struct load *load)
{
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        struct hist *hist = &load->window_hist[e];
        if (load->window < load->result->window_count) {
            load->result->endpoints[e].windows[load->window] = (struct load_window){
                .count = (uint64_t)hist_count(hist),
                .p50_ns = hist_quantile_ns(hist, 0.5),
                .p99_ns = hist_quantile_ns(hist, 0.99),
                .max_ns = hist_max_ns(hist),
            };
        }
        hist_clear(hist);
    }
    load->window++;
}

static void report(struct load *load, int64_t now, load_progress_fn *progress, void *arg)
{
    static const double seconds = (double)PROGRESS_NS / (double)NS_PER_SEC;
    const struct load_result *result = load->result;
    uint64_t done = result->endpoints[LOAD_RESULT].completed;
    if (!has_workers(load)) {
        done = result->completed;
    }
    /* The last whole second: the one that runs has too few values at its start. */
    struct load_window last = {0};
    if (load->window > 0 && load->window <= result->window_count) {
        last = result->endpoints[LOAD_CLAIM].windows[load->window - 1];
    }
    struct load_progress p = {
        .elapsed_ns = now - load->start_ns,
        .duration_ns = load->spec->duration_ns,
        .offered = result->offered,
        .completed = done,
        .failed = result->failed,
        .waiting = load->in_flight,
        .offered_per_sec = (double)(result->offered - load->last_offered) / seconds,
        .completed_per_sec = (double)(done - load->last_completed) / seconds,
        .claim_p50_ns = last.p50_ns,
        .claim_p99_ns = last.p99_ns,
        .claim_max_ns = last.max_ns,
        .send_lag_p99_ns = hist_quantile_ns(&result->send_lag, 0.99),
        .backlog = load->ledger.created > load->ledger.finished
                       ? load->ledger.created - load->ledger.finished
                       : 0,
    };
    load->last_offered = result->offered;
    load->last_completed = done;
    progress(arg, &p);
}

static int run_loop(struct load *load, const volatile sig_atomic_t *stop,
                    load_progress_fn *progress, void *progress_arg)
{
    int64_t window_ns = load->start_ns + NS_PER_SEC;
    int64_t progress_ns = progress != NULL ? load->start_ns + PROGRESS_NS : INT64_MAX;
    int64_t finish_ns = INT64_MAX;
    size_t next_action = 0;
    for (;;) {
        if (*stop) {
            return -EINTR;
        }
        int64_t now = now_ns();
        for (; now >= window_ns; window_ns += NS_PER_SEC) {
            close_window(load);
        }
        if (progress != NULL && now >= progress_ns) {
            report(load, now, progress, progress_arg);
            progress_ns = now + PROGRESS_NS;
        }
        if (!load->producers_over && producers_over(load, now)) {
            load->producers_over = true;
            load->producers_end_ns = now;
            load->end_ns = now + load->spec->drain_ns;
        }
        if (!load->stopping && load->producers_over) {
            bool drained = load->ledger.finished >= load->ledger.created;
            if (drained || now >= load->end_ns || !has_workers(load)) {
                load->result->drain_ns = drained ? now - load->producers_end_ns : -1;
                load->stopping = true;
            }
        }
        /* Open producers that cannot get rid of their arrivals: no longer than the drain. */
        if (!load->stopping &&
            now - load->start_ns >= load->spec->duration_ns + load->spec->drain_ns) {
            load->stopping = true;
        }
        if (load->stopping) {
            if (finish_ns == INT64_MAX) {
                finish_ns = now + FINISH_NS;
            }
            if (load->in_flight == 0 || now >= finish_ns) {
                close_window(load);
                return 0;
            }
        }
        for (; next_action < load->spec->action_count &&
               load->spec->actions[next_action].at_ns <= now - load->start_ns;
             next_action++) {
            const struct load_action *action = &load->spec->actions[next_action];
            action->act(action->arg);
        }
        send_due(load);
        int64_t latest_ns = window_ns < progress_ns ? window_ns : progress_ns;
        if (latest_ns > finish_ns) {
            latest_ns = finish_ns;
        }
        if (next_action < load->spec->action_count &&
            latest_ns > load->start_ns + load->spec->actions[next_action].at_ns) {
            latest_ns = load->start_ns + load->spec->actions[next_action].at_ns;
        }
        int64_t wait_ns = wait_of(load, latest_ns, now_ns());
        watch_open(load, wait_ns);
        wait_and_read(load, wait_ns);
    }
}

/* ---- set-up and the end ---- */

/* Words, so that compression and caches see text and not one letter; no byte needs escaping. */
static char *make_filler(struct rng *rng)
{
    static const char *const words[] = {
        "order",   "invoice",  "render", "resize", "index", "notify",  "report",   "thumbnail",
        "archive", "customer", "region", "retry",  "batch", "segment", "shipment", "payment"};
    size_t bytes = LOAD_PAYLOAD_BYTES_MAX + 8192;
    char *filler = malloc(bytes + 16);
    if (filler == NULL) {
        abort();
    }
    size_t at = 0;
    while (at < bytes) {
        const char *word = words[rng_below(rng, sizeof words / sizeof *words)];
        for (; *word != '\0' && at < bytes; word++) {
            filler[at++] = *word;
        }
        filler[at++] = ' ';
    }
    filler[bytes] = '\0';
    return filler;
}

static const struct hist_config digits_2 = {HIST_LOWEST_NS_DEFAULT, HIST_MAX_NS, 2};
static const struct hist_config digits_3 = {HIST_LOWEST_NS_DEFAULT, HIST_MAX_NS, 3};

static int result_init(struct load_result *result, size_t windows)
{
    *result = (struct load_result){.window_count = windows, .drain_ns = -1};
    int code = 0;
    for (int e = 0; e < LOAD_ENDPOINTS && code == 0; e++) {
        struct load_endpoint_result *endpoint = &result->endpoints[e];
        code = hist_init(&endpoint->latency, &digits_3, NULL);
        code = code != 0 ? code : hist_init(&endpoint->service, &digits_3, NULL);
        for (int p = 0; p <= LOAD_PARTS && code == 0; p++) {
            code = hist_init(&endpoint->parts[p], &digits_3, NULL);
        }
        endpoint->windows = calloc(windows, sizeof *endpoint->windows);
        code = endpoint->windows == NULL ? -ENOMEM : code;
    }
    struct hist *more[] = {&result->send_lag, &result->lateness, &result->redelivery,
                           &result->queue_wait_all};
    for (size_t i = 0; i < sizeof more / sizeof *more && code == 0; i++) {
        code = hist_init(more[i], &digits_3, NULL);
    }
    for (int p = 0; p < LOAD_PRIORITIES && code == 0; p++) {
        code = hist_init(&result->queue_wait[p], &digits_2, NULL);
    }
    return code;
}

void load_result_fini(struct load_result *result)
{
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        hist_fini(&result->endpoints[e].latency);
        hist_fini(&result->endpoints[e].service);
        for (int p = 0; p <= LOAD_PARTS; p++) {
            hist_fini(&result->endpoints[e].parts[p]);
        }
        free(result->endpoints[e].windows);
        result->endpoints[e].windows = NULL;
    }
    hist_fini(&result->send_lag);
    hist_fini(&result->lateness);
    hist_fini(&result->redelivery);
    hist_fini(&result->queue_wait_all);
    for (int p = 0; p < LOAD_PRIORITIES; p++) {
        hist_fini(&result->queue_wait[p]);
    }
}

static uint32_t queue_base_of(const struct load_spec *spec, size_t role)
{
    for (size_t i = 0; i < role; i++) {
        if (strcmp(spec->roles[i].command, spec->roles[role].command) == 0) {
            return (uint32_t)(i * spec->tenant_count);
        }
    }
    return (uint32_t)(role * spec->tenant_count);
}

static int role_init(struct load *load, size_t index, struct err *err)
{
    struct role_state *role = &load->roles[index];
    const struct load_role *spec = &load->spec->roles[index];
    role->spec = spec;
    role->queue_base = queue_base_of(load->spec, index);
    role->next_arrival_ns = -1;
    if (spec->open) {
        int code = arrival_init(&role->arrival, spec->arrival, spec->phases, spec->phase_count,
                                load->spec->seed + index, err);
        if (code != 0) {
            return err_prefix(err, code, "role '%s'", spec->name);
        }
        role->next_arrival_ns = arrival_next_ns(&role->arrival);
        if (role->next_arrival_ns >= 0) {
            role->next_arrival_ns += spec->start_ns;
        }
    }
    role->actor_count = spec->concurrency;
    role->actors = calloc(role->actor_count, sizeof *role->actors);
    role->idle = calloc(role->actor_count, sizeof *role->idle);
    if (role->actors == NULL || role->idle == NULL) {
        return err_set(err, -ENOMEM, "out of memory for %u connections", role->actor_count);
    }
    for (uint32_t i = 0; i < role->actor_count; i++) {
        struct actor *actor = &role->actors[i];
        http_conn_init(&actor->conn, 2048);
        actor->conn.stamp = spec->open;
        actor->role = role;
        actor->timer.index = TIMER_NOT_SET;
        actor->free_ns = load->start_ns;
        actor->tenant = (uint32_t)(i % load->spec->tenant_count);
    }
    if (spec->open) {
        for (uint32_t i = role->actor_count; i > 0; i--) {
            role->idle[role->idle_count++] = i - 1; /* the first is on top: few stay warm */
        }
    }
    if (spec->kind == LOAD_WORKER) {
        uint32_t claims = spec->batch < CLAIM_BATCH_MAX ? spec->batch : CLAIM_BATCH_MAX;
        load->worker_hands += 2 * spec->concurrency * (claims > 0 ? claims : 1);
    }
    return 0;
}

static void start_actors(struct load *load)
{
    for (size_t i = 0; i < load->spec->role_count; i++) {
        struct role_state *role = &load->roles[i];
        for (uint32_t a = 0; a < role->actor_count; a++) {
            role->actors[a].free_ns = load->start_ns;
            if (!role->spec->open) {
                /* Spread over 10 ms, so that the first claims are no burst of our own making. */
                int64_t spread_ns = 10 * NS_PER_MS * a / role->actor_count;
                timer_set(&load->timers, &role->actors[a].timer,
                          load->start_ns + role->spec->start_ns + spread_ns);
                role->running++;
            }
        }
    }
}

static void roles_fini(struct load *load)
{
    for (size_t i = 0; i < load->spec->role_count; i++) {
        struct role_state *role = &load->roles[i];
        for (uint32_t a = 0; role->actors != NULL && a < role->actor_count; a++) {
            http_conn_fini(&role->actors[a].conn);
        }
        free(role->actors);
        free(role->idle);
    }
}

/* Tasks of this command that the server still has, over all tenants: ready, delayed, leased, dead.
 * -1 when it will not say (no admin right): then a task without a result counts as lost. */
static int64_t tasks_at_server(const struct load *load)
{
    int64_t total = 0;
    struct http_conn conn;
    http_conn_init(&conn, 2048);
    for (size_t r = 0; r < load->spec->role_count && total >= 0; r++) {
        if (queue_base_of(load->spec, r) != r * load->spec->tenant_count) {
            continue; /* another role's command */
        }
        for (size_t t = 0; t < load->spec->tenant_count && total >= 0; t++) {
            char path[128];
            snprintf(path, sizeof path, "/v1/codeq/admin/queues/%s", load->spec->roles[r].command);
            int64_t bytes = codeq_write_get(&conn, load->spec->target.host,
                                            load->spec->tenants[t].producer_token, path);
            int code = conn.state == HTTP_CLOSED ? http_conn_open(&conn, &load->spec->target) : 0;
            if (code == 0) {
                code = http_conn_call(&conn, (size_t)bytes, now_ns() + 5 * NS_PER_SEC);
            }
            struct json *json = code == 200 ? json_parse(conn.body, conn.body_bytes, NULL) : NULL;
            static const char *const places[] = {"ready", "delayed", "inProgress", "dlq"};
            for (int i = 0; i < 4 && total >= 0; i++) {
                int64_t n = json_int(json_get(json, places[i]), -1);
                total = n < 0 ? -1 : total + n;
            }
            json_free(json);
        }
    }
    http_conn_fini(&conn);
    return total;
}

static void finish(struct load *load, int64_t before, double cpu_sec)
{
    struct load_result *result = load->result;
    int64_t now = now_ns();
    for (size_t i = 0; i < load->spec->role_count; i++) {
        struct role_state *role = &load->roles[i];
        if (role->spec->kind == LOAD_PRODUCER) {
            result->unfinished += role->in_flight;
        }
        for (; role->next_arrival_ns >= 0 && load->start_ns + role->next_arrival_ns <= now;
             role->next_arrival_ns = arrival_next_ns(&role->arrival)) {
            result->offered++;
            result->unsent++;
        }
    }
    result->arrivals_ns = load->spec->duration_ns;
    result->created = load->ledger.created;
    result->finished = load->ledger.finished;
    result->duplicated = load->ledger.duplicated;
    result->early = load->ledger.early;
    uint64_t open = ledger_open(&load->ledger);
    int64_t after = open > 0 ? tasks_at_server(load) : 0;
    int64_t kept = after >= 0 && before >= 0 ? after - before : 0;
    result->lost = kept > 0 ? (open > (uint64_t)kept ? open - (uint64_t)kept : 0) : open;
    double elapsed_sec = (double)(now - load->start_ns) / (double)NS_PER_SEC;
    result->cpu_ratio = cpu_sec / elapsed_sec;
    result->mean_gap_ns =
        result->offered > 0 ? (double)load->spec->duration_ns / (double)result->offered : 0;
    int64_t limit_ns = lag_limit_ns(result->mean_gap_ns);
    int64_t p99_ns = hist_quantile_ns(&result->send_lag, 0.99);
    if (result->void_reason[0] != '\0') {
        return;
    }
    if (result->cpu_ratio > CPU_RATIO_MAX) {
        snprintf(result->void_reason, sizeof result->void_reason,
                 "generator saturated: it used %.0f %% of a core, more than %.0f %%",
                 result->cpu_ratio * 100, CPU_RATIO_MAX * 100);
    } else if (p99_ns > limit_ns) {
        snprintf(result->void_reason, sizeof result->void_reason,
                 "generator saturated: it sent 1 in 100 requests %.0f us late or more; "
                 "the limit at this rate is %.0f us",
                 (double)p99_ns / 1e3, (double)limit_ns / 1e3);
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int check_spec(const struct load_spec *spec, struct err *err)
{
    if (spec->role_count < 1 || spec->role_count > LOAD_ROLES_MAX || spec->tenant_count < 1 ||
        spec->tenant_count > LOAD_TENANTS_MAX) {
        return err_set(err, -EINVAL, "give 1 to %d roles and 1 to %d tenants", LOAD_ROLES_MAX,
                       LOAD_TENANTS_MAX);
    }
    uint64_t connections = 0;
    for (size_t i = 0; i < spec->role_count; i++) {
        const struct load_role *role = &spec->roles[i];
        if (role->concurrency < 1 || role->batch < 1 || role->batch > LOAD_BATCH_MAX ||
            (role->kind == LOAD_WORKER && role->batch > CLAIM_BATCH_MAX)) {
            return err_set(err, -EINVAL, "role '%s': concurrency or batch out of range",
                           role->name);
        }
        connections += role->concurrency;
    }
    if (connections > LOAD_CONNECTIONS_MAX) {
        return err_set(err, -EINVAL, "%llu connections: at most %d",
                       (unsigned long long)connections, LOAD_CONNECTIONS_MAX);
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < connections + 64) {
        rlim_t want = connections + 64;
        files.rlim_cur = want < files.rlim_max ? want : files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_cur < want) {
            return err_set(err, -EMFILE,
                           "%llu connections need %llu open files, the limit is %llu: raise it "
                           "with ulimit -n",
                           (unsigned long long)connections, (unsigned long long)want,
                           (unsigned long long)files.rlim_max);
        }
    }
    return 0;
}

/* A schedule is kept only by who gets a core when it is due, whatever else runs here: ask for a
 * realtime policy where the run has a schedule and the right is there. What is forked (a Redis that
 * comes back) does not inherit it; the kernel keeps 5 % for the others, and a generator above
 * CPU_RATIO_MAX voids its run anyway. Returns whether it was given. */
static bool keep_schedule(const struct load_spec *spec)
{
    const struct sched_param param = {.sched_priority = 1};
    for (size_t i = 0; i < spec->role_count; i++) {
        if (spec->roles[i].open) {
            return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param) == 0;
        }
    }
    return false;
}

static void leave_schedule(void)
{
    const struct sched_param param = {0};
    sched_setscheduler(0, SCHED_OTHER, &param);
}

static int epolls_init(struct load *load, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->open_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0 || load->open_fd < 0 ||
        epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, load->open_fd, &event) != 0) {
        int code = -errno;
        return err_set(err, code, "epoll: %s", strerror(-code));
    }
    load->open_watched = true;
    return 0;
}

int load_run(const struct load_spec *spec, const volatile sig_atomic_t *stop,
             load_progress_fn *progress, void *progress_arg, struct load_result *out_result,
             struct err *err)
{
    int code = check_spec(spec, err);
    if (code != 0) {
        return code;
    }
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    load->spec = spec;
    load->result = out_result;
    load->epoll_fd = -1;
    load->open_fd = -1;
    rng_init(&load->rng, spec->seed);
    load->run_mark = rng_seed_system() >> 12; /* 52 bits: whole in every JSON reader */
    int64_t seconds = (spec->duration_ns + spec->drain_ns) / NS_PER_SEC + 10;
    size_t windows = (size_t)(seconds < LOAD_WINDOWS_MAX ? seconds : LOAD_WINDOWS_MAX);
    code = result_init(out_result, windows);
    uint32_t connections = 0;
    double expected = 0;
    for (size_t i = 0; i < spec->role_count && code == 0; i++) {
        code = role_init(load, i, err);
        connections += load->roles[i].actor_count;
        expected += load->roles[i].spec->open ? arrival_expected_total(&load->roles[i].arrival) *
                                                    load->roles[i].spec->batch
                                              : (double)load->roles[i].spec->operations_max;
    }
    for (int e = 0; e < LOAD_ENDPOINTS && code == 0; e++) {
        code = hist_init(&load->window_hist[e], &digits_2, NULL);
    }
    if (code == 0) {
        code = ledger_init(&load->ledger, (uint32_t)(spec->role_count * spec->tenant_count),
                           (uint64_t)(expected * 1.1), err);
    }
    if (code == 0) {
        code = timer_heap_init(&load->timers, connections);
    }
    int64_t before = code == 0 ? tasks_at_server(load) : -1;
    if (code == 0) {
        load->filler = make_filler(&load->rng);
        code = epolls_init(load, err);
    }
    if (code == 0) {
        prctl(PR_SET_TIMERSLACK, 1); /* the default adds up to 50 us to every wait */
        double cpu_sec = cpu_seconds();
        load->start_ns = now_ns() + 10 * NS_PER_MS;
        load->wall_offset_ns = clock_wall_ns(clock_system()) - now_ns();
        start_actors(load);
        out_result->realtime = keep_schedule(spec);
        code = run_loop(load, stop, progress, progress_arg);
        if (out_result->realtime) {
            leave_schedule();
        }
        if (code == 0) {
            finish(load, before, cpu_seconds() - cpu_sec);
        } else {
            err_set(err, code, "interrupted");
        }
    }
    roles_fini(load);
    ledger_fini(&load->ledger);
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        hist_fini(&load->window_hist[e]);
    }
    if (load->epoll_fd >= 0) {
        close(load->epoll_fd);
    }
    if (load->open_fd >= 0) {
        close(load->open_fd);
    }
    timer_heap_fini(&load->timers);
    free(load->filler);
    free(load);
    if (code != 0) {
        load_result_fini(out_result);
    }
    return code;
}
