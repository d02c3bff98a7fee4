#include "service/service.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

#include <netdb.h>
#include <netinet/in.h>

#include "base/buf.h"
#include "base/hex.h"
#include "base/json_tokens.h"
#include "base/log.h"
#include "base/rng.h"
#include "service/gather.h"
#include "service/jwks_refresh.h"
#include "service/metrics.h"
#include "service/queues.h"
#include "service/ratelimit.h"
#include "service/reaper.h"
#include "service/redis_check.h"
#include "service/server.h"
#include "service/task_json.h"
#include "service/waiters.h"
#include "service/webhook.h"
#include "store/conn.h"
#include "store/keys.h"

#define HEAD_BYTES_MAX 768
#define SEGMENTS_MAX 8
#define ROUTES_MAX 64
#define PING_SECONDS 10. /* between looks whether the subscription is alive */
#define TURN_ROUNDS_MAX 64 /* of flush and hand out, before the loop looks at its sockets again */

/* A Redis connection's place in the loop. */
struct redis_watch {
    ev_io io;
    ev_timer timer;
    int fd; /* that io watches; -1: none */
    int64_t timer_at_ns;
};

struct segment {
    const char *data;
    size_t bytes;
};

/* Routes with their patterns taken apart, in the tables' order. */
struct path {
    const struct route *route;
    size_t count;
    struct segment segments[SEGMENTS_MAX]; /* data NULL: a parameter */
};

struct paths {
    size_t count;
    struct path all[ROUTES_MAX];
};

struct server {
    struct service service; /* first */
    struct ev_loop *loop;
    ev_prepare prepare;
    ev_check check;
    ev_async stop;
    ev_timer drain_timer;
    struct redis_watch store_watch;
    struct redis_watch conn_watch;
    struct redis_watch listen_watch;
    struct conn *listen; /* the first thread's: what other codeqd publish for us */
    ev_timer ping; /* on it: is it alive? */
    ev_timer held; /* what gathers longer than that is sent */
    bool pinged;
    uint64_t listen_losses; /* up to which claims have looked again */
    uint64_t store_losses;
    struct jwks_refresh *jwks_refresh;
    struct gather_counters gathered; /* as last counted */
    struct rng rng;
    char redis_url[512];
    struct paths paths;
    const struct conn_tls *tls;
};

/* The record beside each connection. */
struct record {
    struct request request;
    char head[HEAD_BYTES_MAX];
    size_t head_bytes;
    bool has_type;
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    char subject[AUTH_SUBJECT_BYTES_MAX + 1];
    char token_hash[AUTH_TOKEN_HASH_BYTES];
};

static struct server *server_of(struct service *service)
{
    return (struct server *)service;
}

/* ---- routes ---- */

static const struct route *const tables[] = {
    api_tasks_routes,  api_admin_routes, api_dead_routes, api_subscriptions_routes,
    api_topics_routes, metrics_routes,   openapi_routes};

static size_t split(const char *path, size_t bytes, struct segment *out)
{
    size_t count = 0;
    const char *end = path + bytes;
    if (path == end || *path != '/') {
        return 0;
    }
    const char *p = path + 1;
    for (;;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        const char *stop = slash == NULL ? end : slash;
        if (count == SEGMENTS_MAX) {
            return 0;
        }
        out[count++] = (struct segment){p, (size_t)(stop - p)};
        if (slash == NULL) {
            return count;
        }
        p = slash + 1;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded text in the request's memory. NULL: broken, no UTF-8, or it holds a NUL. */
static char *decode(struct request *request, const char *data, size_t bytes, bool plus_is_space)
{
    if (memchr(data, '%', bytes) == NULL && memchr(data, '\0', bytes) == NULL &&
        (!plus_is_space || memchr(data, '+', bytes) == NULL)) {
        return json_utf8_valid(data, bytes) ? request_strdup(request, data, bytes) : NULL;
    }
    char *out = request_alloc(request, bytes + 1);
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = data[i];
        if (c == '%') {
            if (bytes - i < 3) {
                return NULL;
            }
            int a = hex_digit(data[i + 1]);
            int b = hex_digit(data[i + 2]);
            if (a < 0 || b < 0) {
                return NULL;
            }
            c = (char)(a * 16 + b);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0') {
            return NULL;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return json_utf8_valid(out, n) ? out : NULL;
}

static void paths_init(struct paths *paths)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct route *r = tables[t]; r->pattern != NULL; r++) {
            assert(paths->count < ROUTES_MAX);
            struct path *path = &paths->all[paths->count++];
            path->route = r;
            path->count = split(r->pattern, strlen(r->pattern), path->segments);
            size_t taken = 0;
            for (size_t i = 0; i < path->count; i++) {
                if (path->segments[i].data[0] == ':') {
                    path->segments[i].data = NULL;
                    taken++;
                }
            }
            assert(path->count > 0 && taken <= REQUEST_PARAMS_MAX);
        }
    }
}

/* From the end: most begin alike. */
static bool fits(const struct path *path, const struct segment *asked, size_t count)
{
    if (path->count != count) {
        return false;
    }
    for (size_t i = count; i-- > 0;) {
        const struct segment *s = &path->segments[i];
        if (s->data == NULL
                ? asked[i].bytes == 0
                : s->bytes != asked[i].bytes || memcmp(s->data, asked[i].data, s->bytes) != 0) {
            return false;
        }
    }
    return true;
}

/* Literal routes stand before those with a parameter in each table, so the first fit is right. */
static const struct route *find_route(const struct paths *paths, const struct http_request *http,
                                      struct segment *params, bool *out_path_known)
{
    struct segment asked[SEGMENTS_MAX];
    size_t count = split(http->path.data, http->path.bytes, asked);
    enum http_verb method = http->method == HTTP_METHOD_HEAD ? HTTP_METHOD_GET : http->method;
    *out_path_known = false;
    for (size_t i = 0; count > 0 && i < paths->count; i++) {
        const struct path *path = &paths->all[i];
        if (path->route->method == method && fits(path, asked, count)) {
            size_t taken = 0;
            for (size_t s = 0; s < count; s++) {
                if (path->segments[s].data == NULL) {
                    params[taken++] = asked[s];
                }
            }
            return path->route;
        }
    }
    for (size_t i = 0; count > 0 && i < paths->count; i++) {
        *out_path_known = *out_path_known || fits(&paths->all[i], asked, count);
    }
    return NULL;
}

/* ---- requests ---- */

static struct record *record_of(struct request *request)
{
    return (struct record *)request;
}

void *request_alloc(struct request *request, size_t bytes)
{
    return http_alloc(request->http.conn, bytes);
}

char *request_strdup(struct request *request, const char *text, size_t bytes)
{
    char *copy = request_alloc(request, bytes + 1);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

bool request_query(struct request *request, const char *name, const char **out_value)
{
    const char *p = request->http.query.data;
    const char *end = p + request->http.query.bytes;
    size_t name_bytes = strlen(name);
    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        stop = stop == NULL ? end : stop;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        const char *name_end = equals == NULL ? stop : equals;
        if ((size_t)(name_end - p) == name_bytes && memcmp(p, name, name_bytes) == 0) {
            const char *value = equals == NULL ? stop : equals + 1;
            char *text = decode(request, value, (size_t)(stop - value), true);
            *out_value = text == NULL ? "" : text;
            return true;
        }
        p = stop + 1;
    }
    return false;
}

static void head_put(struct record *record, const char *text, size_t bytes)
{
    if (bytes <= HEAD_BYTES_MAX - record->head_bytes) {
        memcpy(record->head + record->head_bytes, text, bytes);
        record->head_bytes += bytes;
    }
}

void request_header(struct request *request, const char *name, const char *value)
{
    struct record *record = record_of(request);
    size_t bytes = strlen(name) + strlen(value) + 4;
    if (bytes > HEAD_BYTES_MAX - record->head_bytes) {
        return;
    }
    record->has_type = record->has_type || strcasecmp(name, "Content-Type") == 0;
    head_put(record, name, strlen(name));
    head_put(record, ": ", 2);
    head_put(record, value, strlen(value));
    head_put(record, "\r\n", 2);
}

char *request_answer_begin(struct request *request, int status, size_t bytes_max)
{
    static const char type[] = "Content-Type: application/json; charset=utf-8\r\n";
    struct record *record = record_of(request);
    struct service *service = request->service;
    metrics_request(service->metrics, request->route == NULL ? NULL : request->route->operation,
                    status);
    if (!request->waited) {
        int64_t took_ns = clock_monotonic_ns(service->clock) - request->arrived_ns;
        metrics_observe(service->metrics, METRICS_REQUEST_LATENCY, took_ns);
        if (request->route != NULL && request->route->rate == RATE_WORKER) {
            metrics_observe(service->metrics, METRICS_CLAIM_LATENCY, took_ns);
        }
    }
    if (!record->has_type && status != 204) {
        head_put(record, type, sizeof(type) - 1);
    }
    return http_answer_begin(request->http.conn, status, record->head, record->head_bytes,
                             bytes_max);
}

void request_answer_end(struct request *request, char *end)
{
    http_answer_end(request->http.conn, end);
}

void request_answer(struct request *request, int status, const char *body, size_t bytes)
{
    char *at = request_answer_begin(request, status, bytes);
    request_answer_end(request, text_put(at, body, bytes));
}

void request_answer_json(struct request *request, int status, struct json *take)
{
    char *text = json_print(take);
    request_answer(request, status, text, strlen(text));
    free(text);
    json_free(take);
}

void request_answer_error(struct request *request, int status, const char *text)
{
    size_t bytes = strlen(text);
    char *at = request_answer_begin(request, status, 6 * bytes + 16);
    at = TEXT_PUT(at, "{\"error\":\"");
    at = json_escape(at, text, bytes);
    request_answer_end(request, TEXT_PUT(at, "\"}"));
}

/* What Redis says in front of a refusal, and what a client is told of it. */
static const struct {
    const char *code;
    const char *words;
} refusals[] = {
    {"OOM", "redis unavailable: it has no memory left"},
    {"LOADING", "redis unavailable: it is loading its data"},
    {"MASTERDOWN", "redis unavailable: it is a replica that has lost its master"},
    {"READONLY", "redis unavailable: it is a read-only replica"},
    {"MISCONF", "redis unavailable: it cannot save to its disk"},
    {"NOREPLICAS", "redis unavailable: it has too few replicas"},
    {"BUSY", "redis unavailable: it is busy with a script"},
    {"CLUSTERDOWN", "redis unavailable: its cluster is down"},
};

const char *store_error_words(const struct store_call_result *call)
{
    switch (call->status) {
    case STORE_UNAVAILABLE:
        break;
    case STORE_UNKNOWN:
        return "redis did not answer: outcome unknown";
    case STORE_OK:
    case STORE_ERROR:
        return "internal error";
    }
    /* "redis at PLACE: CODE ...", or of Redis 6 "...: ERR Error running script...: -CODE ...". */
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        size_t n = strlen(refusals[i].code);
        for (const char *p = strstr(call->err.text, refusals[i].code); p != NULL;
             p = strstr(p + n, refusals[i].code)) {
            if (p > call->err.text && (p[-1] == ' ' || p[-1] == '-') && p[n] == ' ') {
                return refusals[i].words;
            }
        }
    }
    return "redis unavailable";
}

void request_answer_store_error(struct request *request, const struct store_call_result *call)
{
    log_event(LOG_LEVEL_WARN, "redis_failed", "operation",
              request->route == NULL ? "" : request->route->operation, "why", call->err.text, NULL);
    switch (call->status) {
    case STORE_UNAVAILABLE:
        request_header(request, "Retry-After", "1");
        request_answer_error(request, 503, store_error_words(call));
        break;
    case STORE_UNKNOWN:
        request_header(request, "Retry-After", "1");
        request_answer_error(request, 503, store_error_words(call));
        break;
    case STORE_OK:
    case STORE_ERROR:
        request_answer_error(request, 500, "internal error");
        break;
    }
}

/* The client's own id when it is harmless, else 16 random bytes. */
static void put_request_id(struct server *server, struct record *record,
                           const struct http_request *http)
{
    struct store_bytes given;
    char id[REQUEST_ID_BYTES_MAX];
    size_t bytes = 0;
    if (http_header(http, "x-request-id", &given) && given.bytes <= sizeof(id)) {
        for (; bytes < given.bytes; bytes++) {
            unsigned char c = (unsigned char)given.data[bytes];
            if (c <= ' ' || c > '~') {
                bytes = 0;
                break;
            }
            id[bytes] = (char)c;
        }
    }
    if (bytes == 0) {
        for (; bytes < 32; bytes += 16) {
            uint64_t r = rng_next(&server->rng);
            hex_put8(id + bytes, (uint32_t)r);
            hex_put8(id + bytes + 8, (uint32_t)(r >> 32));
        }
    }
    head_put(record, "X-Request-Id: ", 14);
    head_put(record, id, bytes);
    head_put(record, "\r\n", 2);
}

static void copy_text(char *out, size_t room, const char *text)
{
    size_t bytes = strnlen(text, room - 1);
    memcpy(out, text, bytes);
    out[bytes] = '\0';
}

/* What auth hands out lives until its next call; a request needs it until its answer. */
static void keep_identity(struct record *record, const struct identity *who)
{
    record->request.who = *who;
    copy_text(record->tenant, sizeof(record->tenant), who->tenant);
    copy_text(record->subject, sizeof(record->subject), who->subject);
    copy_text(record->token_hash, sizeof(record->token_hash), who->token_hash);
    record->request.who.tenant = record->tenant;
    record->request.who.subject = record->subject;
    record->request.who.token_hash = record->token_hash;
}

/* False: the refusal is sent. Fills request->who. */
static bool authenticate(struct request *request)
{
    struct service *service = request->service;
    const struct http_request *http = &request->http;
    if (request->route->class == AUTH_PUBLIC) {
        return true;
    }
    struct store_bytes authorization = {NULL, 0};
    struct store_bytes role;
    char *role_text = NULL;
    (void)http_header(http, "authorization", &authorization);
    if (http_header(http, "x-role", &role)) {
        role_text = request_strdup(request, role.data, role.bytes);
    }
    struct auth_verdict verdict;
    auth_check(service->auth, request->route->class, request->route->scopes, authorization.data,
               authorization.bytes, role_text, &verdict);
    if (verdict.status != 200) {
        if (verdict.retry_after_seconds > 0) {
            char seconds[16];
            snprintf(seconds, sizeof(seconds), "%d", verdict.retry_after_seconds);
            request_header(request, "Retry-After", seconds);
        }
        if (verdict.status == 401) {
            request_header(request, "WWW-Authenticate", "Bearer");
        }
        metrics_count(service->metrics, METRICS_AUTH_REFUSED, 1);
        request_answer_error(request, verdict.status, verdict.error);
        return false;
    }
    keep_identity(record_of(request), &verdict.identity);
    return true;
}

/* Event types live until auth's next call, and others have asked it meanwhile: ask again. */
static void on_rate(void *arg, int64_t retry_after_ms)
{
    struct request *request = arg;
    struct service *service = request->service;
    if (retry_after_ms == 0) {
        if (authenticate(request)) {
            request->route->handle(service, request);
        }
        return;
    }
    enum ratelimit_scope scope = (enum ratelimit_scope)(request->route->rate - RATE_PRODUCER);
    char seconds[16];
    snprintf(seconds, sizeof(seconds), "%d", ratelimit_retry_after_seconds(retry_after_ms));
    request_header(request, "Retry-After", seconds);
    struct buf body = BUF_INIT;
    ratelimit_refusal(service->ratelimit, scope, retry_after_ms, &body);
    request_answer(request, 429, body.data, body.bytes);
    buf_fini(&body);
}

static bool asks_rate(struct request *request)
{
    struct service *service = request->service;
    if (service->ratelimit == NULL || request->route->rate == RATE_NONE) {
        return false;
    }
    static_assert(RATE_ADMIN - RATE_PRODUCER == RATELIMIT_ADMIN, "the same order");
    return ratelimit_take(service->ratelimit, service_conn(service),
                          (enum ratelimit_scope)(request->route->rate - RATE_PRODUCER),
                          request->who.tenant, request->who.token_hash, on_rate, request);
}

static void on_request(void *arg, struct http_request *http)
{
    struct server *server = arg;
    struct service *service = &server->service;
    struct record *record = http_record(http->conn);
    struct request *request = &record->request;
    memset(request, 0, sizeof(*request));
    record->head_bytes = 0;
    record->has_type = false;
    request->service = service;
    request->http = *http;
    request->arrived_ns = service->now_ns;
    put_request_id(server, record, http);

    struct segment params[REQUEST_PARAMS_MAX] = {0};
    bool path_known = false;
    request->route = find_route(&server->paths, http, params, &path_known);
    if (request->route == NULL) {
        request_answer_error(request, path_known ? 405 : 404,
                             path_known ? "method not allowed" : "not found");
        return;
    }
    if (!authenticate(request)) {
        return;
    }
    for (size_t i = 0; i < REQUEST_PARAMS_MAX && params[i].data != NULL; i++) {
        request->params[i] = decode(request, params[i].data, params[i].bytes, false);
        if (request->params[i] == NULL) {
            request_answer_error(request, 400, "malformed path");
            return;
        }
    }
    if (!asks_rate(request)) {
        request->route->handle(service, request);
    }
}

static void on_gone(void *arg, struct http_conn *conn)
{
    (void)arg;
    struct request *request = http_record(conn);
    if (request->on_gone != NULL) {
        request->on_gone(request);
    }
}

/* ---- Redis in the loop ---- */

static void store_on_io(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct server *server = watcher->data;
    store_on_ready(server->service.store, (events & EV_READ) != 0, (events & EV_WRITE) != 0);
}

static void conn_on_io(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct server *server = watcher->data;
    conn_on_ready(server->service.conn, (events & EV_READ) != 0, (events & EV_WRITE) != 0);
}

static void store_on_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct server *server = watcher->data;
    server->store_watch.timer_at_ns = INT64_MAX;
    if (store_deadline_ns(server->service.store) <= server->service.now_ns) {
        store_on_ready(server->service.store, false, false);
    }
}

static void conn_on_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct server *server = watcher->data;
    server->conn_watch.timer_at_ns = INT64_MAX;
    if (conn_deadline_ns(server->service.conn) <= server->service.now_ns) {
        conn_on_ready(server->service.conn, false, false);
    }
}

static void listen_on_io(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct server *server = watcher->data;
    conn_on_ready(server->listen, (events & EV_READ) != 0, (events & EV_WRITE) != 0);
}

static void listen_on_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct server *server = watcher->data;
    server->listen_watch.timer_at_ns = INT64_MAX;
    if (conn_deadline_ns(server->listen) <= server->service.now_ns) {
        conn_on_ready(server->listen, false, false);
    }
}

static void watch_init(struct redis_watch *watch, struct server *server,
                       void (*on_io)(struct ev_loop *, ev_io *, int),
                       void (*on_timer)(struct ev_loop *, ev_timer *, int))
{
    ev_init(&watch->io, on_io);
    ev_init(&watch->timer, on_timer);
    watch->io.data = server;
    watch->timer.data = server;
    watch->fd = -1;
    watch->timer_at_ns = INT64_MAX;
}

static void watch_stop(struct redis_watch *watch, struct ev_loop *loop)
{
    ev_io_stop(loop, &watch->io);
    ev_timer_stop(loop, &watch->timer);
}

static void watch_update(struct redis_watch *watch, struct server *server, int fd, bool wants_write,
                         int64_t deadline_ns)
{
    int events = EV_READ | (wants_write ? EV_WRITE : 0);
    if (fd != watch->fd || (fd >= 0 && (watch->io.events & (EV_READ | EV_WRITE)) != events)) {
        ev_io_stop(server->loop, &watch->io);
        watch->fd = fd;
        if (fd >= 0) {
            ev_io_set(&watch->io, fd, events);
            ev_io_start(server->loop, &watch->io);
        }
    }
    /* Later deadlines are found when the timer comes too early: no timer is moved for a request. */
    if (deadline_ns < watch->timer_at_ns) {
        watch->timer_at_ns = deadline_ns;
        ev_timer_stop(server->loop, &watch->timer);
        double after = (double)(deadline_ns - server->service.now_ns) / 1e9;
        ev_timer_set(&watch->timer, after > 0 ? after : 0., 0.);
        ev_timer_start(server->loop, &watch->timer);
    }
}

struct conn *service_conn(struct service *service)
{
    struct server *server = server_of(service);
    if (service->conn == NULL) {
        struct conn_options options = {
            .url = server->redis_url,
            .tls = server->tls,
            .clock = service->clock,
            .connect_timeout_ns = service->config->redis_connect_timeout_ns,
            .command_timeout_ns = service->config->redis_command_timeout_ns,
        };
        struct err err;
        service->conn = conn_open(&options, &err);
        if (service->conn == NULL) {
            log_event(LOG_LEVEL_WARN, "redis_unreachable", "why", err.text, NULL);
        }
    }
    return service->conn;
}

/* ---- what other codeqd tell ---- */

static uint64_t losses_of(const struct conn *conn)
{
    struct conn_counters counters;
    conn_counters(conn, &counters);
    return counters.losses;
}

static void on_pong(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    (void)call;
    (void)reply;
    (void)err;
    struct server *server = owner;
    server->pinged = false;
    uint64_t losses = losses_of(server->listen);
    if (status == CONN_OK && losses != server->listen_losses) {
        server->listen_losses = losses; /* it listens again, and may have missed something */
        waiters_look(&server->service);
    }
}

static void ping(struct server *server)
{
    if (server->pinged) {
        return;
    }
    conn_begin(server->listen, 1);
    conn_arg(server->listen, "PING", 4);
    struct conn_call call = {.done = on_pong, .owner = server, .repeatable = true};
    server->pinged = conn_end(server->listen, &call) == 0;
}

static void on_ping_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct server *server = watcher->data;
    if (waiters_any(&server->service)) {
        ping(server);
    }
}

/* The turn that it begins does the rest. */
static void on_held_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
}

/* With each loss of a connection something may have become ready that nobody was told of. */
static void look_after_losses(struct server *server)
{
    struct store_counters counters;
    store_counters(server->service.store, &counters);
    if (counters.losses != server->store_losses) {
        server->store_losses = counters.losses;
        waiters_look(&server->service);
    }
    if (server->listen != NULL && losses_of(server->listen) != server->listen_losses) {
        ping(server);
    }
}

/* ---- the turn ---- */

static void on_check(struct ev_loop *loop, ev_check *watcher, int events)
{
    (void)loop;
    (void)events;
    struct server *server = watcher->data;
    server->service.now_ns = clock_monotonic_ns(server->service.clock);
    http_turn_begin(server->service.http, server->service.now_ns,
                    clock_wall_ns(server->service.clock));
}

static void turn_end(struct server *server)
{
    struct service *service = &server->service;
    for (int i = 0; i < TURN_ROUNDS_MAX; i++) {
        gather_flush(service->gather, service->now_ns);
        store_flush(service->store);
        if (service->conn != NULL) {
            conn_flush(service->conn);
        }
        if (server->listen != NULL) {
            conn_flush(server->listen);
        }
        bool more = http_turn_end(service->http);
        if (!more && !gather_pending(service->gather)) {
            break;
        }
    }
}

static void on_prepare(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)events;
    struct server *server = watcher->data;
    struct service *service = &server->service;
    look_after_losses(server);
    turn_end(server);
    if (gather_held(service->gather) && !ev_is_active(&server->held)) {
        ev_timer_set(&server->held, (double)GATHER_HELD_NS / 1e9, 0.);
        ev_timer_start(server->loop, &server->held);
    }
    watch_update(&server->store_watch, server, store_fd(service->store),
                 store_wants_write(service->store), store_deadline_ns(service->store));
    if (service->conn != NULL) {
        watch_update(&server->conn_watch, server, conn_fd(service->conn),
                     conn_wants_write(service->conn), conn_deadline_ns(service->conn));
    }
    if (server->listen != NULL) {
        watch_update(&server->listen_watch, server, conn_fd(server->listen),
                     conn_wants_write(server->listen), conn_deadline_ns(server->listen));
    }
    metrics_set(service->metrics, METRICS_CONNECTIONS, (int64_t)http_connections(service->http));
    metrics_set(service->metrics, METRICS_WAITERS, (int64_t)waiters_count(service->waiters));
    metrics_set(service->metrics, METRICS_REDIS_PENDING,
                (int64_t)(store_pending(service->store) +
                          (service->conn != NULL ? conn_pending(service->conn) : 0)));
    struct gather_counters gathered;
    gather_counters(service->gather, &gathered);
    metrics_count(service->metrics, METRICS_SCRIPT_CALLS, gathered.calls - server->gathered.calls);
    metrics_count(service->metrics, METRICS_SCRIPT_TASKS, gathered.items - server->gathered.items);
    if (gathered.samples != server->gathered.samples) {
        metrics_observe(service->metrics, METRICS_REDIS_ROUND_TRIP, gathered.sample_ns);
    }
    server->gathered = gathered;
    if (service->draining && http_connections(service->http) == 0) {
        ev_break(loop, EVBREAK_ALL);
    }
}

static void on_drain_timeout(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct server *server = watcher->data;
    log_event(LOG_LEVEL_WARN, "drain_timeout", NULL);
    (void)server;
    ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)events;
    struct server *server = watcher->data;
    struct service *service = &server->service;
    if (service->draining) {
        return;
    }
    service->draining = true;
    http_drain(service->http);
    ev_timer_set(&server->drain_timer, (double)service->config->drain_timeout_ns / 1e9, 0.);
    ev_timer_start(loop, &server->drain_timer);
}

/* ---- life ---- */

static struct conn *conn_for_webhook(void *arg)
{
    return service_conn(arg);
}

struct server *server_new(const struct server_options *options, struct err *err)
{
    const struct config *config = options->config;
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        abort();
    }
    struct service *service = &server->service;
    service->config = config;
    service->clock = clock_system();
    service->thread = options->thread;
    service->shared = options->shared;
    service->now_ns = clock_monotonic_ns(service->clock);
    watch_init(&server->store_watch, server, store_on_io, store_on_timer);
    watch_init(&server->conn_watch, server, conn_on_io, conn_on_timer);
    watch_init(&server->listen_watch, server, listen_on_io, listen_on_timer);
    ev_timer_init(&server->ping, on_ping_timer, PING_SECONDS, PING_SECONDS);
    server->ping.data = server;
    ev_init(&server->held, on_held_timer);
    snprintf(server->redis_url, sizeof(server->redis_url), "%s", options->redis_url);
    server->tls = options->tls;
    rng_init(&server->rng, rng_seed_system());
    paths_init(&server->paths);

    struct backoff_policy backoff = BACKOFF_POLICY_DEFAULT;
    backoff_kind_parse(config->backoff_policy, &backoff.kind, NULL);
    backoff.base_ms = config->backoff_base_ns / NS_PER_MS;
    backoff.max_ms = config->backoff_max_ns / NS_PER_MS;
    struct store_options store_options = {
        .url = server->redis_url,
        .tls = server->tls,
        .clock = service->clock,
        .seed = rng_seed_system(),
        .connect_timeout_ns = config->redis_connect_timeout_ns,
        .command_timeout_ns = config->redis_command_timeout_ns,
        .retention_ms = config->retention_ns / NS_PER_MS,
        .backoff = backoff,
        .shard_count = (uint8_t)config->shards_per_queue,
        .instance = service_shared_instance(options->shared),
    };
    service->store = store_open(&store_options, err);
    if (service->store == NULL || service_conn(service) == NULL) {
        if (service->store != NULL) {
            err_set(err, -ECONNREFUSED, "redis took one connection and refused the second");
        }
        goto fail;
    }
    if (redis_check(service->conn, err) != 0) {
        goto fail;
    }
    if (service->thread == 0) {
        char channel[sizeof(KEYS_CHANNEL) + KEYS_INSTANCE_BYTES + sizeof(KEYS_NEWS)];
        snprintf(channel, sizeof(channel), KEYS_CHANNEL "%s " KEYS_NEWS,
                 service_shared_instance(options->shared));
        struct conn_options listen_options = {
            .url = server->redis_url,
            .tls = server->tls,
            .clock = service->clock,
            .connect_timeout_ns = config->redis_connect_timeout_ns,
            .command_timeout_ns = config->redis_command_timeout_ns,
            .channel = channel,
            .on_message = waiters_message,
            .message_arg = service,
        };
        server->listen = conn_open(&listen_options, err);
        if (server->listen == NULL) {
            goto fail;
        }
    }
    service->auth = auth_new(config, service->clock, err);
    if (service->auth == NULL) {
        goto fail;
    }
    server->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (server->loop == NULL) {
        err_set(err, -ENOMEM, "cannot make an event loop");
        goto fail;
    }
    service->loop = server->loop;
    if (server->listen != NULL) {
        ev_timer_start(server->loop, &server->ping);
    }
    service->metrics = metrics_new();
    service->started_ns = service->now_ns;
    service_shared_add_metrics(options->shared, options->thread, service->metrics);
    service->gather = gather_new(service->store);
    service->queues = queues_new(service->store, service->metrics);
    service->waiters = waiters_new(service);
    service->creates_max =
        (service->config->creates_max + service->config->threads - 1) / service->config->threads;
    service->reaper = reaper_new(service);
    service->ratelimit = ratelimit_new(config, service->metrics);
    server->jwks_refresh =
        jwks_refresh_new(server->loop, service->auth, service->clock, service->metrics, err);
    if (server->jwks_refresh == NULL) {
        goto fail;
    }
    if (options->first != NULL) {
        service->webhook = options->first->service.webhook;
    } else {
        const struct webhook_options webhook_options = {
            .loop = server->loop,
            .config = config,
            .clock = service->clock,
            .metrics = service->metrics,
            .ratelimit = service->ratelimit,
            .store = service->store,
            .conn = conn_for_webhook,
            .conn_arg = service,
        };
        service->webhook = webhook_new(&webhook_options, err);
        if (service->webhook == NULL) {
            goto fail;
        }
    }
    struct http_limits limits = {
        .body_bytes_max = (size_t)config->body_bytes_max,
        .header_bytes_max = (size_t)config->header_bytes_max,
        .url_bytes_max = (size_t)config->url_bytes_max,
        .connections_max =
            (size_t)((config->connections_max + config->threads - 1) / config->threads),
        .header_timeout_ns = config->header_timeout_ns,
        .idle_timeout_ns = config->idle_timeout_ns,
    };
    service->http =
        http_new(server->loop, &limits, sizeof(struct record), on_request, on_gone, server);
    http_listen(service->http, options->listen_fd);

    ev_prepare_init(&server->prepare, on_prepare);
    server->prepare.data = server;
    ev_prepare_start(server->loop, &server->prepare);
    ev_check_init(&server->check, on_check);
    ev_set_priority(&server->check, EV_MAXPRI);
    server->check.data = server;
    ev_check_start(server->loop, &server->check);
    ev_async_init(&server->stop, on_stop);
    server->stop.data = server;
    ev_async_start(server->loop, &server->stop);
    ev_init(&server->drain_timer, on_drain_timeout);
    server->drain_timer.data = server;
    return server;
fail:
    server_free(server);
    return NULL;
}

void server_run(struct server *server)
{
    ev_run(server->loop, 0);
}

void server_turn(struct server *server)
{
    ev_run(server->loop, EVRUN_NOWAIT);
}

void server_stop(struct server *server)
{
    ev_async_send(server->loop, &server->stop);
}

void server_free(struct server *server)
{
    if (server == NULL) {
        return;
    }
    struct service *service = &server->service;
    struct webhook *webhook = service->thread == 0 ? service->webhook : NULL;
    webhook_stop(webhook);
    store_close(service->store); /* ends what is in flight: answers go into buffers */
    if (service->conn != NULL) {
        conn_close(service->conn);
    }
    conn_close(server->listen); /* its PING's end looks at the counters only */
    server->listen = NULL;
    webhook_free(webhook);
    jwks_refresh_free(server->jwks_refresh);
    ratelimit_free(service->ratelimit);
    http_free(service->http);
    gather_free(service->gather);
    queues_free(service->queues);
    reaper_free(service->reaper);
    waiters_free(service->waiters);
    if (service->shared != NULL) {
        service_shared_add_metrics(service->shared, service->thread, NULL);
    }
    metrics_free(service->metrics);
    auth_free(service->auth);
    if (server->loop != NULL) {
        watch_stop(&server->store_watch, server->loop);
        watch_stop(&server->conn_watch, server->loop);
        watch_stop(&server->listen_watch, server->loop);
        ev_timer_stop(server->loop, &server->ping);
        ev_timer_stop(server->loop, &server->held);
        ev_loop_destroy(server->loop);
    }
    free(server);
}

void server_address(const char *listen_on, int fd, char *out, size_t bytes)
{
    struct sockaddr_storage at;
    socklen_t at_bytes = sizeof(at);
    const char *colon = strrchr(listen_on, ':');
    snprintf(out, bytes, "%s", listen_on);
    if (colon != NULL && strcmp(colon, ":0") == 0 &&
        getsockname(fd, (struct sockaddr *)&at, &at_bytes) == 0) {
        in_port_t port = at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                                  : ((struct sockaddr_in *)&at)->sin_port;
        snprintf(out, bytes, "%.*s:%u", (int)(colon - listen_on), listen_on, ntohs(port));
    }
}

int server_listen(const char *listen_on, bool shared_port, struct err *err)
{
    char host[256];
    unsigned port = 0;
    if (config_listen_split(listen_on, host, &port) != 0) {
        return err_set(err, -EINVAL, "listen: '%.200s' is not HOST:PORT: give 127.0.0.1:8080",
                       listen_on);
    }
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host[0] == '\0' ? NULL : host, service, &hints, &found);
    if (code != 0) {
        return err_set(err, -EADDRNOTAVAIL, "listen: '%.200s': %s", listen_on, gai_strerror(code));
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (shared_port) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
        }
    }
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 4096) != 0) {
        int why = errno;
        if (fd >= 0) {
            close(fd);
        }
        freeaddrinfo(found);
        return err_set(err, -why, "listen: '%.200s': %s: give another --listen", listen_on,
                       strerror(why));
    }
    freeaddrinfo(found);
    return fd;
}
