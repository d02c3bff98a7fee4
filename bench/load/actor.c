#include "load/actor.h"

#include "load/lag.h"
#include "load/warmup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define RETRY_NS (50 * NS_PER_MS)
#define EARLY_SLACK_NS (2 * NS_PER_MS) /* two clock readings, each cut to ms */

static int64_t wall_of(const struct load *load, int64_t monotonic_ns)
{
    return monotonic_ns + load->wall_offset_ns;
}

static double draw_mix(struct rng *rng, const struct load_mix *mix, size_t count, double fallback)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        total += mix[i].weight;
    }
    double at = rng_unit(rng) * total;
    for (size_t i = 0; i < count; i++) {
        at -= mix[i].weight;
        if (at < 0) {
            return mix[i].value;
        }
    }
    return count > 0 ? mix[count - 1].value : fallback;
}

static uint32_t draw_tenant(struct load *load)
{
    struct load_mix mix[LOAD_TENANTS_MAX];
    for (size_t i = 0; i < load->spec->tenant_count; i++) {
        mix[i] = (struct load_mix){(double)i, load->spec->tenants[i].weight};
    }
    return (uint32_t)draw_mix(&load->rng, mix, load->spec->tenant_count, 0);
}

static bool is_worker(const struct actor *actor)
{
    return actor->role->spec->kind == LOAD_WORKER;
}

static bool role_may_send(const struct load *load, const struct role_state *role, int64_t now)
{
    if (load->stopping) {
        return false;
    }
    const struct load_role *spec = role->spec;
    int64_t elapsed_ns = now - load->start_ns;
    if (spec->duration_ns > 0 && elapsed_ns >= spec->start_ns + spec->duration_ns) {
        return false;
    }
    if (spec->kind == LOAD_WORKER) {
        return true;
    }
    return elapsed_ns < load->spec->duration_ns &&
           (spec->operations_max == 0 || role->operations < spec->operations_max);
}

/* ---- sending ---- */

static void drop_connection(struct load *load, struct actor *actor)
{
    if (actor->conn.state != HTTP_CLOSED) {
        http_conn_close(&actor->conn); /* also leaves epoll */
        load->result->broken_connections++;
    }
    actor->registered = false;
}

static int connect_actor(struct load *load, struct actor *actor)
{
    if (actor->conn.state == HTTP_CLOSED) {
        int code = http_conn_open(&actor->conn, &load->spec->target);
        if (code != 0) {
            return code;
        }
        actor->registered = false;
    }
    if (!actor->registered) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = actor};
        int epoll_fd = actor->role->spec->open ? load->open_fd : load->epoll_fd;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, actor->conn.fd, &event) != 0) {
            return -errno;
        }
        actor->registered = true;
    }
    return 0;
}

static int64_t write_request(struct load *load, struct actor *actor)
{
    const struct load_role *spec = actor->role->spec;
    const struct load_tenant *tenant = &load->spec->tenants[actor->tenant];
    const char *host = load->spec->target.host;
    switch (actor->request) {
    case LOAD_CREATE: {
        struct codeq_create tasks[LOAD_BATCH_MAX];
        for (uint32_t i = 0; i < actor->seq_count; i++) {
            double bytes = draw_mix(&load->rng, spec->payload_bytes, spec->payload_bytes_count, 64);
            tasks[i] = (struct codeq_create){
                .command = spec->command,
                .run = load->run_mark,
                .seq = actor->seqs[i],
                .tenant = actor->tenant,
                .payload_bytes = (uint32_t)bytes,
                .filler = load->filler + rng_below(&load->rng, 4096),
                .priority = ledger_priority(&load->ledger, actor->seqs[i]),
                .max_attempts = spec->max_attempts,
                .run_at_ms = actor->due_ns[i] / NS_PER_MS,
            };
        }
        return codeq_write_create(&actor->conn, host, tenant->producer_token, tasks,
                                  actor->seq_count, spec->batch > 1);
    }
    case LOAD_CLAIM:
    case LOAD_EMPTY:
        return codeq_write_claim(&actor->conn, host, tenant->worker_token, spec->command,
                                 spec->lease_seconds, spec->wait_seconds, spec->batch);
    case LOAD_RESULT:
        return codeq_write_result(&actor->conn, host, tenant->worker_token, actor->held,
                                  actor->held_count, spec->batch > 1);
    case LOAD_HEARTBEAT:
        return codeq_write_heartbeat(&actor->conn, host, tenant->worker_token, &actor->held[0],
                                     spec->lease_seconds);
    case LOAD_NACK:
        return codeq_write_nack(&actor->conn, host, tenant->worker_token, &actor->held[0]);
    case LOAD_ENDPOINTS:
        break;
    }
    return -EINVAL;
}

static void answered(struct load *load, struct actor *actor, int code);

/* Send actor's next request, due at intended_ns. A connection that cannot be had or used is a
 * failed request, like any other answer. */
static void send_request(struct load *load, struct actor *actor, enum load_endpoint request,
                         int64_t intended_ns)
{
    actor->request = request;
    actor->intended_ns = intended_ns;
    int code = connect_actor(load, actor);
    int64_t bytes = code == 0 ? write_request(load, actor) : code;
    actor->sent_ns = now_ns();
    if (actor->role->spec->open) { /* a closed loop has no schedule to be late for */
        load->open_in_flight++;
        hist_record(&load->result->send_lag, lag_ns(intended_ns, actor->free_ns, actor->sent_ns));
    }
    load->in_flight++;
    actor->role->in_flight++;
    code = bytes < 0 ? (int)bytes : http_conn_send(&actor->conn, (size_t)bytes);
    if (code != 0) {
        answered(load, actor, code);
    }
}

void actor_create(struct load *load, struct actor *actor, int64_t intended_ns)
{
    const struct load_role *spec = actor->role->spec;
    actor->tenant = load->spec->tenant_count > 1 ? draw_tenant(load) : 0;
    uint32_t count = spec->batch;
    if (spec->operations_max > 0 && spec->operations_max - actor->role->operations < count) {
        count = (uint32_t)(spec->operations_max - actor->role->operations);
    }
    actor->seq_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        double priority = draw_mix(&load->rng, spec->priority, spec->priority_count, 0);
        bool delayed = spec->delay_ratio > 0 && rng_unit(&load->rng) < spec->delay_ratio;
        int64_t seq = ledger_issue(&load->ledger, actor->role->queue_base + actor->tenant,
                                   (uint8_t)priority, delayed);
        if (seq < 0) {
            load->stopping = true;
            snprintf(load->result->void_reason, sizeof load->result->void_reason,
                     "more than %d tasks in one run: shorten it or lower the rate",
                     LEDGER_TASKS_MAX);
            return;
        }
        actor->seqs[i] = (uint64_t)seq;
        actor->due_ns[i] = 0;
        if (delayed) {
            int64_t span_ms = spec->delay_max_ms - spec->delay_min_ms;
            int64_t delay_ms =
                spec->delay_min_ms + (int64_t)rng_below(&load->rng, (uint64_t)span_ms + 1);
            int64_t due_ns = wall_of(load, now_ns()) + delay_ms * NS_PER_MS;
            actor->due_ns[i] = due_ns - due_ns % NS_PER_MS; /* what the request can say */
        }
        actor->seq_count++;
    }
    actor->role->operations += count;
    load->result->offered++;
    send_request(load, actor, LOAD_CREATE, intended_ns);
}

static void worker_claim(struct load *load, struct actor *actor, int64_t intended_ns)
{
    uint32_t queue = actor->role->queue_base + actor->tenant;
    uint64_t above = 0;
    for (int priority = LOAD_PRIORITIES - 1; priority >= 0; priority--) {
        actor->above_at_send[priority] = above;
        above += ledger_waiting(&load->ledger, queue, (uint8_t)priority);
    }
    send_request(load, actor, LOAD_CLAIM, intended_ns);
}

/* What a closed-loop actor does when its time has come. */
void actor_due(struct load *load, struct actor *actor, int64_t now)
{
    const struct load_role *spec = actor->role->spec;
    int64_t due_ns = actor->timer.at_ns;
    timer_clear(&load->timers, &actor->timer);
    if (is_worker(actor) && actor->held_count > 0) {
        if (now < actor->work_end_ns) {
            send_request(load, actor, LOAD_HEARTBEAT, due_ns);
        } else if (spec->nack_ratio > 0 && actor->held_count == 1 &&
                   rng_unit(&load->rng) < spec->nack_ratio) {
            send_request(load, actor, LOAD_NACK, due_ns);
        } else {
            send_request(load, actor, LOAD_RESULT, due_ns);
        }
        return;
    }
    if (!role_may_send(load, actor->role, now)) {
        actor->ended = true;
        actor->role->running--;
        return;
    }
    if (is_worker(actor)) {
        worker_claim(load, actor, due_ns);
    } else {
        actor_create(load, actor, due_ns);
    }
}

/* ---- answers ---- */

static void record(struct load *load, struct actor *actor, enum load_endpoint endpoint, int64_t now)
{
    struct load_endpoint_result *to = &load->result->endpoints[endpoint];
    hist_record(&to->latency, now - actor->intended_ns);
    hist_record(&to->parts[load_part(now - load->start_ns, load->spec->duration_ns)],
                now - actor->intended_ns);
    hist_record(&to->service, now - actor->sent_ns);
    hist_record(&load->window_hist[endpoint], now - actor->intended_ns);
    to->completed++;
    load->result->elapsed_ns = now - load->start_ns;
}

static void release(struct load *load, struct actor *actor, int64_t now)
{
    struct role_state *role = actor->role;
    actor->free_ns = now;
    if (role->spec->open) {
        role->idle[role->idle_count++] = (uint32_t)(actor - role->actors);
    } else {
        timer_set(&load->timers, &actor->timer, now + role->spec->think_ns);
    }
}

static void create_answered(struct load *load, struct actor *actor, bool ok, int64_t now)
{
    if (ok) {
        bool refused[LOAD_BATCH_MAX] = {false};
        if (actor->role->spec->batch > 1) {
            codeq_read_refused(actor->conn.body, actor->conn.body_bytes, refused, actor->seq_count);
        }
        for (uint32_t i = 0; i < actor->seq_count; i++) {
            if (!refused[i]) {
                int64_t due_ns = actor->due_ns[i] != 0 ? actor->due_ns[i] : wall_of(load, now);
                ledger_created(&load->ledger, actor->seqs[i], due_ns);
            }
        }
        record(load, actor, LOAD_CREATE, now);
        load->result->completed++;
    } else {
        load->result->failed++;
    }
    release(load, actor, now);
}

static void note_delivery(struct load *load, struct actor *actor, const struct codeq_task *task,
                          int64_t now)
{
    struct load_result *result = load->result;
    uint32_t queue = actor->role->queue_base + actor->tenant;
    int64_t lease_ns = (int64_t)actor->role->spec->lease_seconds * NS_PER_SEC;
    if (!task->ours || task->tenant != actor->tenant) {
        result->foreign++;
        return;
    }
    uint8_t priority = ledger_priority(&load->ledger, task->seq);
    struct ledger_arrival arrival =
        ledger_delivered(&load->ledger, task->seq, queue, wall_of(load, now),
                         wall_of(load, actor->sent_ns) + lease_ns, EARLY_SLACK_NS);
    if (arrival.what == LEDGER_FOREIGN) {
        result->foreign++;
        return;
    }
    /* Sound, not complete: more tasks waited above this one when the claim was sent than all the
     * workers together could have taken meanwhile. */
    if (arrival.what == LEDGER_FIRST && !arrival.delayed &&
        actor->above_at_send[priority] > load->worker_hands) {
        result->misordered++;
    }
    if (arrival.wait_ns == INT64_MIN) {
        return;
    }
    int64_t wait_ns = arrival.wait_ns > 0 ? arrival.wait_ns : 0;
    if (arrival.delayed) {
        hist_record(&result->lateness, wait_ns);
    } else if (arrival.crashed) {
        hist_record(&result->redelivery, wait_ns);
    } else if (arrival.what == LEDGER_FIRST) {
        hist_record(&result->queue_wait[priority], wait_ns);
        hist_record(&result->queue_wait_all, wait_ns);
    }
}

static void worker_go_on(struct load *load, struct actor *actor, int64_t at_ns)
{
    actor->held_count = 0;
    timer_set(&load->timers, &actor->timer, at_ns);
}

static void start_work(struct load *load, struct actor *actor, int64_t now)
{
    const struct load_role *spec = actor->role->spec;
    if (spec->crash_ratio > 0 && rng_unit(&load->rng) < spec->crash_ratio) {
        for (uint32_t i = 0; i < actor->held_count; i++) {
            ledger_crashed(&load->ledger, actor->held[i].seq);
        }
        load->result->crashed += actor->held_count;
        worker_go_on(load, actor, now + spec->think_ns);
        return;
    }
    int64_t span_ns = spec->work_max_ns - spec->work_min_ns;
    actor->work_end_ns =
        now + spec->work_min_ns + (int64_t)rng_below(&load->rng, (uint64_t)span_ns + 1);
    actor->lease_end_ns = actor->sent_ns + (int64_t)spec->lease_seconds * NS_PER_SEC;
    int64_t next_ns = actor->work_end_ns;
    if (spec->heartbeat_ns > 0 && now + spec->heartbeat_ns < next_ns) {
        next_ns = now + spec->heartbeat_ns;
    }
    timer_set(&load->timers, &actor->timer, next_ns);
}

static void claim_answered(struct load *load, struct actor *actor, bool ok, int64_t now)
{
    const struct load_role *spec = actor->role->spec;
    if (!ok) {
        worker_go_on(load, actor, now + RETRY_NS);
        return;
    }
    if (actor->conn.status == 204) {
        actor->request = LOAD_EMPTY;
        record(load, actor, LOAD_EMPTY, now);
        worker_go_on(load, actor, now + spec->idle_ns);
        return;
    }
    record(load, actor, LOAD_CLAIM, now);
    actor->held_count = (uint32_t)codeq_read_tasks(actor->conn.body, actor->conn.body_bytes,
                                                   load->run_mark, actor->held, CLAIM_BATCH_MAX);
    for (uint32_t i = 0; i < actor->held_count; i++) {
        note_delivery(load, actor, &actor->held[i], now);
    }
    if (actor->held_count == 0) {
        load->result->foreign++; /* a 200 that names no task */
        worker_go_on(load, actor, now + RETRY_NS);
        return;
    }
    start_work(load, actor, now);
}

static void result_answered(struct load *load, struct actor *actor, bool ok, int64_t now)
{
    const struct load_role *spec = actor->role->spec;
    if (ok) {
        record(load, actor, LOAD_RESULT, now);
        bool refused[CLAIM_BATCH_MAX] = {false};
        if (spec->batch > 1) {
            codeq_read_refused(actor->conn.body, actor->conn.body_bytes, refused,
                               actor->held_count);
        }
        for (uint32_t i = 0; i < actor->held_count; i++) {
            if (!actor->held[i].ours) {
                continue;
            }
            if (refused[i]) {
                ledger_may_return(&load->ledger, actor->held[i].seq);
            } else {
                ledger_finished(&load->ledger, actor->held[i].seq);
            }
        }
        worker_go_on(load, actor, now + spec->think_ns);
        return;
    }
    for (uint32_t i = 0; i < actor->held_count; i++) {
        ledger_may_return(&load->ledger, actor->held[i].seq);
    }
    int status = actor->conn.status;
    bool again = (status == 0 || status == 429 || status >= 500) &&
                 now + RETRY_NS < actor->lease_end_ns && !load->stopping;
    if (again) {
        timer_set(&load->timers, &actor->timer,
                  now + RETRY_NS); /* work_end is past: the result goes again */
    } else {
        worker_go_on(load, actor, now + spec->think_ns);
    }
}

static void heartbeat_answered(struct load *load, struct actor *actor, bool ok, int64_t now)
{
    const struct load_role *spec = actor->role->spec;
    int status = actor->conn.status;
    if (ok) {
        int64_t lease_ns = (int64_t)spec->lease_seconds * NS_PER_SEC;
        record(load, actor, LOAD_HEARTBEAT, now);
        actor->lease_end_ns = actor->sent_ns + lease_ns;
        ledger_extended(&load->ledger, actor->held[0].seq,
                        wall_of(load, actor->sent_ns) + lease_ns);
    } else if (status >= 400 && status < 500 && status != 429) {
        /* The lease is lost: leave the task to whoever has it now. */
        ledger_may_return(&load->ledger, actor->held[0].seq);
        worker_go_on(load, actor, now + spec->think_ns);
        return;
    }
    int64_t next_ns = now + spec->heartbeat_ns;
    timer_set(&load->timers, &actor->timer,
              next_ns < actor->work_end_ns ? next_ns : actor->work_end_ns);
}

static void nack_answered(struct load *load, struct actor *actor, bool ok, int64_t now)
{
    ledger_may_return(&load->ledger, actor->held[0].seq);
    if (ok) {
        record(load, actor, LOAD_NACK, now);
        load->result->nacked++;
    }
    worker_go_on(load, actor, now + actor->role->spec->think_ns);
}

static bool status_is_success(enum load_endpoint request, uint32_t batch, int status)
{
    switch (request) {
    case LOAD_CREATE:
        return status == (batch > 1 ? 200 : 202);
    case LOAD_CLAIM:
    case LOAD_EMPTY:
        return status == 200 || status == 204;
    case LOAD_RESULT:
    case LOAD_HEARTBEAT:
    case LOAD_NACK:
        return status == 200;
    case LOAD_ENDPOINTS:
        break;
    }
    return false;
}

/* When the answer was here: by the kernel's stamp where there is one, since an open producer's
 * answers are not read at once; the wall clock may have been set between stamp and reading. */
static int64_t arrived_ns(const struct actor *actor)
{
    int64_t now = now_ns();
    if (actor->conn.stamp_wall_ns == 0) {
        return now;
    }
    int64_t at_ns = now - (clock_wall_ns(clock_system()) - actor->conn.stamp_wall_ns);
    return at_ns > now ? now : at_ns < actor->sent_ns ? actor->sent_ns : at_ns;
}

/* The request in flight has ended: code 1 with an answer in conn, negative errno without one. */
static void answered(struct load *load, struct actor *actor, int code)
{
    int64_t now = code == 1 ? arrived_ns(actor) : now_ns();
    load->in_flight--;
    load->open_in_flight -= actor->role->spec->open;
    actor->role->in_flight--;
    actor->free_ns = now;
    if (code < 0) {
        drop_connection(load, actor);
        actor->conn.status = 0;
    } else {
        if (actor->conn.status < 600) {
            load->result->statuses[actor->conn.status]++;
        }
        if (actor->conn.state == HTTP_CLOSED) {
            actor->registered = false; /* the server said close */
        }
    }
    bool ok = code == 1 &&
              status_is_success(actor->request, actor->role->spec->batch, actor->conn.status);
    if (!ok) {
        load->result->endpoints[actor->request].failed++;
    }
    switch (actor->request) {
    case LOAD_CREATE:
        create_answered(load, actor, ok, now);
        break;
    case LOAD_CLAIM:
    case LOAD_EMPTY:
        claim_answered(load, actor, ok, now);
        break;
    case LOAD_RESULT:
        result_answered(load, actor, ok, now);
        break;
    case LOAD_HEARTBEAT:
        heartbeat_answered(load, actor, ok, now);
        break;
    case LOAD_NACK:
        nack_answered(load, actor, ok, now);
        break;
    case LOAD_ENDPOINTS:
        break;
    }
}

void actor_on_event(struct load *load, struct actor *actor, uint32_t events)
{
    if (actor->conn.state == HTTP_CLOSED) {
        return; /* closed earlier in this batch of events */
    }
    bool readable = (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    bool busy = actor->conn.state == HTTP_BUSY;
    int code = http_conn_on_event(&actor->conn, readable, (events & EPOLLOUT) != 0);
    if (code == 0) {
        return;
    }
    if (busy) {
        answered(load, actor, code);
    } else {
        drop_connection(load, actor); /* an idle connection ended: open another when needed */
    }
}
