#include "claims.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "claims_shared.h"
#include "tally.h"
#include "usdt.h"
#include "view.h"

#define CONNS_MAX 4096 /* of HTTP; a power of two */
#define REQUESTS_MAX 8 /* of one connection: read and not answered yet */
#define REDIS_CONNS_MAX 256
#define SENDS_MAX 64 /* of one Redis connection that are remembered */
#define THREADS_MAX 256
#define FILES_MAX 64
#define PROBES 16

/* By the points' own names, which are also the programs'. */
static const char *const claims_points[CLAIMS_POINTS] = {
    "http_parse_begin", "http_parse_end", "claim_begin",   "claim_end",
    "redis_send",       "redis_reply",    "lease_granted", "response_written",
};

/* Calls by script; the two behind are claims seen from HTTP. */
static const char *const row_names[] = {
    "create", "claim", "heartbeat", "complete", "nack", "abandon", "sweep", "granted",
};
enum { ROW_CLAIM = 1, ROW_GRANTED = 7, ROWS };

enum stage {
    STAGE_PARSE,
    STAGE_SCHEDULER,
    STAGE_REDIS,
    STAGE_WAIT,
    STAGE_RESPONSE,
    STAGE_WHOLE,
    STAGES,
};
static const char *const stage_names[STAGES] = {
    "HTTP parse", "scheduler", "Redis wait", "parked", "response", "claim, whole",
};

struct request {
    uint64_t begin_ns; /* first byte parsed */
    uint64_t parsed_ns;
    uint64_t asked_ns; /* the look that is under way began */
    uint64_t answered_ns; /* Redis's last reply to it */
    uint64_t scheduler_ns;
    uint64_t redis_ns;
    uint64_t parked_ns;
    uint32_t looks;
    uint32_t got;
    bool broken; /* a part of it was not seen */
};

struct conn {
    uint64_t pointer; /* 0: free */
    uint64_t used_ns;
    uint32_t tgid;
    int len;
    struct request requests[REQUESTS_MAX];
};

struct send {
    uint64_t from;
    uint64_t to;
    uint64_t ns;
};

struct redis_conn {
    uint64_t pointer;
    uint64_t used_ns;
    uint32_t tgid;
    unsigned sends_len; /* ever */
    struct send sends[SENDS_MAX];
};

/* The reply that a thread is acting on: a claim's end comes inside of it. */
struct thread {
    uint32_t tid;
    uint64_t used_ns;
    uint64_t reply_ns;
    uint64_t sent_ns; /* 0: not known */
};

struct state {
    struct loader *loader;
    struct target *target;
    const struct view_options *options;
    struct tally rows[ROWS];
    struct tally stages[2][STAGES]; /* found nothing, granted */
    struct conn *conns;
    struct redis_conn *redis;
    struct thread threads[THREADS_MAX];
    struct {
        dev_t dev;
        ino_t ino;
    } files[FILES_MAX]; /* looked at */
    int files_len;
    int attached;
    uint64_t not_joined;
    uint64_t evicted;
};

static void request_reset(struct request *request, uint64_t ns)
{
    *request = (struct request){.begin_ns = ns};
}

static struct conn *conn_of(struct state *state, uint32_t tgid, uint64_t pointer, uint64_t ns,
                            bool make)
{
    uint64_t hash = (pointer ^ (uint64_t)tgid << 40) * 0x9E3779B97F4A7C15ULL >> 40;
    struct conn *oldest = NULL;
    for (uint64_t i = 0; i < PROBES; i++) {
        struct conn *conn = &state->conns[(hash + i) & (CONNS_MAX - 1)];
        if (conn->pointer == pointer && conn->tgid == tgid) {
            conn->used_ns = ns;
            return conn;
        }
        if (oldest == NULL || conn->used_ns < oldest->used_ns) {
            oldest = conn; /* a free one has 0 */
        }
    }
    if (!make) {
        return NULL;
    }
    state->evicted += oldest->len > 0;
    oldest->pointer = pointer;
    oldest->tgid = tgid;
    oldest->used_ns = ns;
    oldest->len = 0;
    return oldest;
}

static struct redis_conn *redis_of(struct state *state, uint32_t tgid, uint64_t pointer,
                                   uint64_t ns)
{
    struct redis_conn *oldest = &state->redis[0];
    for (int i = 0; i < REDIS_CONNS_MAX; i++) {
        struct redis_conn *conn = &state->redis[i];
        if (conn->pointer == pointer && conn->tgid == tgid) {
            conn->used_ns = ns;
            return conn;
        }
        if (conn->used_ns < oldest->used_ns) {
            oldest = conn;
        }
    }
    oldest->pointer = pointer;
    oldest->tgid = tgid;
    oldest->used_ns = ns;
    oldest->sends_len = 0;
    return oldest;
}

static struct thread *thread_of(struct state *state, uint32_t tid, uint64_t ns)
{
    struct thread *oldest = &state->threads[0];
    for (int i = 0; i < THREADS_MAX; i++) {
        struct thread *thread = &state->threads[i];
        if (thread->tid == tid) {
            thread->used_ns = ns;
            return thread;
        }
        if (thread->used_ns < oldest->used_ns) {
            oldest = thread;
        }
    }
    *oldest = (struct thread){.tid = tid, .used_ns = ns};
    return oldest;
}

/* Whose request came last on this connection: the one in work. */
static struct request *last_of(struct conn *conn)
{
    return conn != NULL && conn->len > 0 ? &conn->requests[conn->len - 1] : NULL;
}

static void on_parse_begin(struct state *state, const struct claims_event *event)
{
    struct conn *conn = conn_of(state, event->tgid, event->arg[0], event->ns, true);
    if (conn->len == REQUESTS_MAX) {
        state->evicted++;
        memmove(conn->requests, conn->requests + 1, sizeof conn->requests - sizeof(struct request));
        conn->len--;
    }
    request_reset(&conn->requests[conn->len++], event->ns);
}

static void on_send(struct state *state, const struct claims_event *event)
{
    struct redis_conn *conn = redis_of(state, event->tgid, event->arg[0], event->ns);
    struct send *send = &conn->sends[conn->sends_len++ % SENDS_MAX];
    *send = (struct send){event->arg[1], event->arg[2], event->ns};
}

/* When the request at this position went out: the first send that reached it. */
static uint64_t sent_at(const struct redis_conn *conn, uint64_t position)
{
    unsigned first = conn->sends_len > SENDS_MAX ? conn->sends_len - SENDS_MAX : 0;
    for (unsigned i = first; i < conn->sends_len; i++) {
        const struct send *send = &conn->sends[i % SENDS_MAX];
        if (position >= send->from && position < send->to) {
            return send->ns;
        }
    }
    return 0;
}

static void on_reply(struct state *state, const struct claims_event *event)
{
    struct redis_conn *conn = redis_of(state, event->tgid, event->arg[0], event->ns);
    struct thread *thread = thread_of(state, event->tid, event->ns);
    thread->reply_ns = event->ns;
    thread->sent_ns = sent_at(conn, event->arg[1]);
    char name[CLAIMS_TEXT_BYTES + 1];
    snprintf(name, sizeof name, "%.*s", CLAIMS_TEXT_BYTES, event->text);
    for (int r = 0; r < ROW_GRANTED; r++) {
        if (strcmp(name, row_names[r]) != 0) {
            continue;
        }
        struct tally *row = &state->rows[r];
        row->calls++;
        row->tasks += r == ROW_CLAIM ? 0 : event->arg[3]; /* of a claim: what is granted */
        if (thread->sent_ns != 0) {
            tally_time(row, event->ns - thread->sent_ns);
        } else {
            state->not_joined++;
        }
    }
}

static void on_claim_begin(struct state *state, const struct claims_event *event)
{
    struct request *request = last_of(conn_of(state, event->tgid, event->arg[0], event->ns, false));
    if (request == NULL) {
        return; /* read before the tracer came */
    }
    if (request->looks++ > 0 && request->answered_ns != 0) {
        request->parked_ns += event->ns - request->answered_ns;
    }
    request->asked_ns = event->ns;
}

static void on_claim_end(struct state *state, const struct claims_event *event)
{
    struct request *request = last_of(conn_of(state, event->tgid, event->arg[0], event->ns, false));
    if (request == NULL || request->looks == 0) {
        return;
    }
    const struct thread *thread = thread_of(state, event->tid, event->ns);
    if (thread->sent_ns < request->asked_ns || thread->reply_ns < thread->sent_ns) {
        request->broken = true; /* ended without Redis, or its send was not seen */
        return;
    }
    uint64_t from = request->looks == 1 ? request->parsed_ns : request->asked_ns;
    request->scheduler_ns += thread->sent_ns - from;
    request->redis_ns += thread->reply_ns - thread->sent_ns;
    request->answered_ns = thread->reply_ns;
    request->got += (uint32_t)event->arg[2];
    if (event->arg[2] > 0) {
        struct tally *granted = &state->rows[ROW_GRANTED];
        granted->calls++;
        granted->tasks += event->arg[2];
        state->rows[ROW_CLAIM].tasks += event->arg[2];
        tally_time(granted, thread->reply_ns - thread->sent_ns);
    }
}

static void on_answered(struct state *state, const struct request *request, uint64_t ns)
{
    if (request->looks == 0) {
        return; /* another kind of request */
    }
    if (request->broken || request->answered_ns == 0 || request->parsed_ns == 0) {
        state->not_joined++;
        return;
    }
    /* The parts are the whole, to the nanosecond. */
    uint64_t parts[STAGES] = {
        [STAGE_PARSE] = request->parsed_ns - request->begin_ns,
        [STAGE_SCHEDULER] = request->scheduler_ns,
        [STAGE_REDIS] = request->redis_ns,
        [STAGE_WAIT] = request->parked_ns,
        [STAGE_RESPONSE] = ns - request->answered_ns,
        [STAGE_WHOLE] = ns - request->begin_ns,
    };
    for (int s = 0; s < STAGES; s++) {
        struct tally *tally = &state->stages[request->got > 0][s];
        if (s != STAGE_WAIT || request->looks > 1) {
            tally->calls++;
            tally_time(tally, parts[s]);
        }
    }
}

static void on_written(struct state *state, const struct claims_event *event)
{
    struct conn *conn = conn_of(state, event->tgid, event->arg[0], event->ns, false);
    if (conn == NULL) {
        return;
    }
    int done = conn->len - (event->arg[2] != 0 && conn->len > 0);
    for (int i = 0; i < done; i++) {
        on_answered(state, &conn->requests[i], event->ns);
    }
    memmove(conn->requests, conn->requests + done,
            (size_t)(conn->len - done) * sizeof(struct request));
    conn->len -= done;
}

static void on_event(void *context, const void *data, size_t bytes)
{
    struct state *state = context;
    const struct claims_event *event = data;
    if (bytes < sizeof *event) {
        return;
    }
    switch ((enum claims_point)event->point) {
    case CLAIMS_PARSE_BEGIN:
        on_parse_begin(state, event);
        break;
    case CLAIMS_PARSE_END: {
        struct request *request =
            last_of(conn_of(state, event->tgid, event->arg[0], event->ns, false));
        if (request != NULL) {
            request->parsed_ns = event->ns;
        }
        break;
    }
    case CLAIMS_CLAIM_BEGIN:
        on_claim_begin(state, event);
        break;
    case CLAIMS_CLAIM_END:
        on_claim_end(state, event);
        break;
    case CLAIMS_REDIS_SEND:
        on_send(state, event);
        break;
    case CLAIMS_REDIS_REPLY:
        on_reply(state, event);
        break;
    case CLAIMS_RESPONSE_WRITTEN:
        on_written(state, event);
        break;
    case CLAIMS_LEASE_GRANTED:
    case CLAIMS_POINTS:
        break;
    }
}

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    struct loader *loader;
    int code = loader_open(&loader, LOADER_CLAIMS, err);
    if (code != 0) {
        return code;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->conns = calloc(CONNS_MAX, sizeof *state->conns);
    state->redis = calloc(REDIS_CONNS_MAX, sizeof *state->redis);
    assert(state->conns != NULL && state->redis != NULL);
    state->loader = loader;
    state->target = target;
    state->options = options;
    *out_state = state;
    *out_loader = loader;
    return 0;
}

/* Attach to the points of one program file. 1: it has some; 0: none; negative with text. */
static int attach_file(struct state *state, const char *path, const char *comm, struct err *err)
{
    static struct usdt_point points[USDT_POINTS_MAX];
    uint16_t machine = 0;
    int len = usdt_read(path, points, &machine, err);
    if (len < 0) {
        return len;
    }
    bool warned = false;
    bool seen[CLAIMS_POINTS] = {false};
    for (int i = 0; i < len; i++) {
        char what[128];
        char warning[256];
        snprintf(what, sizeof what, "%s: probe point %s", comm, points[i].name);
        if (strcmp(points[i].provider, "codeq") == 0 && !warned &&
            usdt_warning(what, machine, points[i].code, usdt_kernel(), warning, sizeof warning)) {
            fprintf(stderr, "codeq-trace: warning: %s\n", warning);
            warned = true;
        }
        for (int p = 0; p < CLAIMS_POINTS; p++) {
            seen[p] |= strcmp(points[i].provider, "codeq") == 0 &&
                       strcmp(points[i].name, claims_points[p]) == 0;
        }
    }
    bool any = false;
    for (int p = 0; p < CLAIMS_POINTS; p++) {
        if (!seen[p]) {
            continue; /* codeq-drive and programs of the library have no HTTP */
        }
        int code = loader_attach_usdt(state->loader, claims_points[p], path, "codeq",
                                      claims_points[p], err);
        if (code != 0) {
            return code;
        }
        any = true;
    }
    return any;
}

/* Programs that came since the last look. */
static int attach_new(struct state *state, struct err *err)
{
    for (int i = 0; i < state->target->processes_len; i++) {
        const struct target_process *process = &state->target->processes[i];
        char path[64];
        struct stat st;
        snprintf(path, sizeof path, "/proc/%d/exe", (int)process->pid);
        if (!process->alive || stat(path, &st) != 0) {
            continue;
        }
        bool known = state->files_len == FILES_MAX;
        for (int f = 0; f < state->files_len; f++) {
            known |= state->files[f].dev == st.st_dev && state->files[f].ino == st.st_ino;
        }
        if (known) {
            continue;
        }
        state->files[state->files_len].dev = st.st_dev;
        state->files[state->files_len++].ino = st.st_ino;
        int code = attach_file(state, path, process->comm, err);
        if (code == -EACCES || code == -EPERM) {
            return err_set(err, code,
                           "not permitted: probe points need CAP_SYS_ADMIN on this kernel: run as "
                           "root, or leave --via usdt away for the wire's figures");
        }
        if (code < 0 && code != -EBADMSG) {
            return code;
        }
        state->attached += code > 0;
    }
    return 0;
}

static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    int code = attach_new(state, err);
    if (code != 0) {
        return code;
    }
    if (state->attached == 0 && !state->options->follow) {
        return err_set(err, -ENOENT,
                       "none of the processes has codeq's probe points: is it codeqd or a program "
                       "of the library codeq of this version: check with readelf -n PROGRAM");
    }
    return loader_ring_open(state->loader, "ring", on_event, state, err);
}

static void view_tick(void *context)
{
    struct state *state = context;
    attach_new(state, NULL);
    loader_ring_consume(state->loader);
}

static const struct report_column stage_columns[] = {
    {"outcome", "outcome", REPORT_LABEL},   {"stage", "stage", REPORT_LABEL},
    {"count", "claims", REPORT_COUNT},      {"latency_ns_p50", "p50", REPORT_NS},
    {"latency_ns_p99", "p99", REPORT_NS},   {"latency_ns_max", "max", REPORT_NS},
    {"time_ns", "time", REPORT_NS},         {"share_percent", "share %", REPORT_NUMBER},
    {"latency_ns", "latency", REPORT_HIST},
};

/* Since the start, as the view of the wire. */
static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    loader_ring_consume(state->loader);
    struct report_table *table = tally_table(report);
    for (int r = 0; r < ROWS; r++) {
        if (state->rows[r].calls > 0) {
            tally_report(table, report, "codeqd", row_names[r], &state->rows[r]);
        }
    }
    table = report_table(report, "claims", stage_columns,
                         sizeof stage_columns / sizeof stage_columns[0]);
    for (int got = 1; got >= 0; got--) {
        const struct tally *whole = &state->stages[got][STAGE_WHOLE];
        for (int s = 0; s < STAGES; s++) {
            const struct tally *tally = &state->stages[got][s];
            if (tally->calls == 0) {
                continue;
            }
            report_text(table, got ? "granted" : "empty");
            report_text(table, stage_names[s]);
            report_number(table, (double)tally->calls);
            tally_report_times(table, tally);
            report_number(table, (double)tally->ns);
            report_number(table, whole->ns > 0 ? 100.0 * (double)tally->ns / (double)whole->ns
                                               : (double)NAN);
            report_hist(table, tally->buckets, tally->ns);
        }
    }
    report_note(report, "probe points of %d program file%s", state->attached,
                state->attached == 1 ? "" : "s");
    uint64_t lost = 0;
    uint32_t zero = 0;
    loader_map_sum(state->loader, "lost", &zero, &lost, 1, -1);
    report_loss(report, "events_lost", "events lost: the ring buffer was full", lost);
    report_loss(report, "claims_not_joined", "claims and calls of which a part was not seen",
                state->not_joined);
    report_loss(report, "requests_evicted", "requests forgotten: more than are followed",
                state->evicted);
}

static void view_close(void *context)
{
    struct state *state = context;
    loader_free(state->loader);
    free(state->conns);
    free(state->redis);
    free(state);
}

const struct view claims_view = {
    .name = "leases",
    .summary = "claims of codeqd by its probe points, split into their stages",
    .help = "",
    .options = "via",
    .needs = LOADER_NEEDS_ADMIN,
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .close = view_close,
};
