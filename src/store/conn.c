#include "store/conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/args.h"
#include "base/probe.h"
#include "store/cluster.h"
#include "store/conn_internal.h"

#define OUTPUT_BYTES_START (256 * 1024)
#define ARENA_BYTES_START (64 * 1024)
#define RING_START 256 /* a power of 2 */
#define LOADS_MAX 3 /* of a script for one request: past it something keeps flushing them */
#define NUMBER_BYTES_MAX 21

/* ---- what hiredis builds a reply of: our nodes ---- */

static struct conn_node *node_new(const redisReadTask *task, enum conn_type type)
{
    struct conn *conn = task->privdata;
    if (conn->node_count == CONN_NODES_MAX) {
        return NULL; /* hiredis then fails with "out of memory": the reply is too large to be ours
                      */
    }
    struct conn_node *node = &conn->nodes[conn->node_count++];
    *node = (struct conn_node){.type = type};
    return node;
}

static bool arena_reserve(struct conn *conn, size_t more)
{
    if (more <= conn->arena_capacity - conn->arena_bytes) {
        return true;
    }
    size_t capacity = conn->arena_capacity;
    while (capacity - conn->arena_bytes < more) {
        capacity *= 2;
    }
    char *arena = realloc(conn->arena, capacity);
    if (arena == NULL) {
        return false;
    }
    conn->arena = arena;
    conn->arena_capacity = capacity;
    return true;
}

static void *on_string(const redisReadTask *task, char *data, size_t bytes)
{
    struct conn *conn = task->privdata;
    struct conn_node *node =
        node_new(task, task->type == REDIS_REPLY_ERROR ? CONN_FAILURE : CONN_STRING);
    if (node == NULL || !arena_reserve(conn, bytes)) {
        return NULL;
    }
    memcpy(conn->arena + conn->arena_bytes, data, bytes);
    node->integer = (int64_t)conn->arena_bytes;
    node->bytes = bytes;
    conn->arena_bytes += bytes;
    return node;
}

#if HIREDIS_MAJOR >= 1
static void *on_array(const redisReadTask *task, size_t elements)
#else
static void *on_array(const redisReadTask *task, int elements)
#endif
{
    struct conn_node *node = node_new(task, CONN_ARRAY);
    if (node == NULL || (uint64_t)elements >= CONN_NODES_MAX) {
        return NULL;
    }
    node->integer = (int64_t)elements;
    return node;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    struct conn_node *node = node_new(task, CONN_INTEGER);
    if (node != NULL) {
        node->integer = value;
    }
    return node;
}

static void *on_nil(const redisReadTask *task)
{
    return node_new(task, CONN_NIL);
}

#if HIREDIS_MAJOR >= 1
/* RESP3 kinds that no script of ours returns: to be refused by who reads the node. */
static void *on_double(const redisReadTask *task, double value, char *data, size_t bytes)
{
    (void)value;
    (void)data;
    (void)bytes;
    return node_new(task, CONN_NIL);
}

static void *on_bool(const redisReadTask *task, int value)
{
    (void)value;
    return node_new(task, CONN_NIL);
}
#endif

static void on_free(void *object)
{
    (void)object;
}

static redisReplyObjectFunctions reply_functions = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
#if HIREDIS_MAJOR >= 1
    .createDouble = on_double,
    .createBool = on_bool,
#endif
    .createNil = on_nil,
    .freeObject = on_free,
};

static int reader_new(struct conn *conn)
{
    if (conn->reader != NULL) {
        redisReaderFree(conn->reader);
    }
    conn->reader = redisReaderCreateWithFunctions(&reply_functions);
    if (conn->reader == NULL) {
        return -ENOMEM;
    }
    conn->reader->privdata = conn;
    conn->reader->maxbuf = 0; /* keep the buffer: a large reply must not cost an allocation each */
    conn->node_count = 0;
    conn->arena_bytes = 0;
    return 0;
}

/* ---- the ring of requests in flight ---- */

static struct conn_call *ring_at(struct conn *conn, size_t i)
{
    return &conn->ring[(conn->ring_head + i) & (conn->ring_capacity - 1)];
}

static bool ring_push(struct conn *conn, const struct conn_call *call)
{
    if (conn->ring_count == conn->ring_capacity) {
        if (conn->ring_capacity >= CONN_PENDING_MAX) {
            return false;
        }
        struct conn_call *bigger = malloc(2 * conn->ring_capacity * sizeof *bigger);
        if (bigger == NULL) {
            return false;
        }
        for (size_t i = 0; i < conn->ring_count; i++) {
            bigger[i] = *ring_at(conn, i);
        }
        free(conn->ring);
        conn->ring = bigger;
        conn->ring_capacity *= 2;
        conn->ring_head = 0;
    }
    *ring_at(conn, conn->ring_count) = *call;
    conn->ring_count++;
    return true;
}

static struct conn_call ring_pop(struct conn *conn)
{
    struct conn_call call = *ring_at(conn, 0);
    conn->ring_head = (conn->ring_head + 1) & (conn->ring_capacity - 1);
    conn->ring_count--;
    return call;
}

/* ---- writing a request ---- */

/* Room for `more` bytes behind what is being built. Forgets answered requests, then grows. */
static bool out_reserve(struct conn *conn, size_t more)
{
    size_t used = (size_t)(conn->out_end - conn->out_base) + conn->build;
    if (more <= conn->out_capacity - used) {
        return true;
    }
    uint64_t needed = conn->ring_count != 0 ? ring_at(conn, 0)->at : conn->out_end;
    if (needed > conn->out_sent) {
        needed = conn->out_sent;
    }
    size_t gone = (size_t)(needed - conn->out_base);
    if (gone >= conn->out_capacity / 2 && more <= conn->out_capacity - used + gone) {
        memmove(conn->out, conn->out + gone, used - gone);
        conn->out_base += gone;
        return true;
    }
    if (more > CONN_OUTPUT_BYTES_MAX || used > CONN_OUTPUT_BYTES_MAX - more) {
        return false;
    }
    size_t capacity = conn->out_capacity;
    while (capacity - used < more) {
        capacity *= 2;
    }
    char *out = realloc(conn->out, capacity);
    if (out == NULL) {
        return false;
    }
    conn->out = out;
    conn->out_capacity = capacity;
    return true;
}

static char *build_space(struct conn *conn, size_t bytes)
{
    if (conn->build_failed || !out_reserve(conn, bytes)) {
        conn->build_failed = true;
        return NULL;
    }
    return conn->out + (conn->out_end - conn->out_base) + conn->build;
}

/* Decimal text of value into out (not terminated); returns its length. */
static size_t number_text(uint64_t value, char out[NUMBER_BYTES_MAX])
{
    char digits[NUMBER_BYTES_MAX];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t i = 0; i < n; i++) {
        out[i] = digits[n - 1 - i];
    }
    return n;
}

/* "*3\r\n" or "$12\r\n". */
static size_t put_header(char *out, char kind, size_t value)
{
    out[0] = kind;
    size_t n = 1;
    if (value < 10) { /* nearly every length and count is of one or two digits */
        out[n++] = (char)('0' + value);
    } else if (value < 100) {
        out[n++] = (char)('0' + value / 10);
        out[n++] = (char)('0' + value % 10);
    } else {
        n += number_text(value, out + n);
    }
    out[n] = '\r';
    out[n + 1] = '\n';
    return n + 2;
}

void conn_begin(struct conn *conn, size_t argc)
{
    conn->build = 0;
    conn->build_failed = false;
    if (conn->ring_count == 0 && conn->out_sent == conn->out_end) {
        conn->out_base = conn->out_end; /* all is answered: start over at the front */
    }
    char *p = build_space(conn, NUMBER_BYTES_MAX + 3);
    if (p != NULL) {
        conn->build += put_header(p, '*', argc);
    }
}

char *conn_arg_space(struct conn *conn, size_t bytes)
{
    char *p = build_space(conn, bytes + NUMBER_BYTES_MAX + 5);
    if (p == NULL) {
        return NULL;
    }
    size_t n = put_header(p, '$', bytes);
    p[n + bytes] = '\r';
    p[n + bytes + 1] = '\n';
    conn->build += n + bytes + 2;
    return p + n;
}

void conn_arg(struct conn *conn, const void *data, size_t bytes)
{
    char *p = conn_arg_space(conn, bytes);
    if (p != NULL && bytes != 0) {
        memcpy(p, data, bytes);
    }
}

void conn_arg_pair(struct conn *conn, const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    char *p = conn_arg_space(conn, a_bytes + b_bytes);
    if (p != NULL) {
        memcpy(p, a, a_bytes);
        if (b_bytes != 0) {
            memcpy(p + a_bytes, b, b_bytes);
        }
    }
}

void conn_arg_int(struct conn *conn, int64_t value)
{
    char text[NUMBER_BYTES_MAX];
    size_t sign = value < 0;
    text[0] = '-';
    uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
    conn_arg(conn, text, sign + number_text(magnitude, text + sign));
}

static int end_at(struct conn *conn, const struct conn_call *template, bool everywhere)
{
    if (conn->build_failed || conn->closing) {
        conn->build = 0;
        return -EAGAIN;
    }
    struct conn_call call = *template;
    call.conn = conn;
    call.at = conn->out_end;
    call.bytes = conn->build;
    call.sent_before = false;
    call.loads = 0;
    call.hops = 0;
    call.deadline_ns = clock_monotonic_ns(conn->clock) + conn->command_timeout_ns;
    if (conn->cluster != NULL) {
        conn->build = 0;
        return everywhere ? cluster_send_everywhere(conn->cluster, &call)
                          : cluster_send(conn->cluster, &call);
    }
    if (!ring_push(conn, &call)) {
        conn->build = 0;
        return -EAGAIN;
    }
    conn->out_end += conn->build;
    conn->build = 0;
    conn->counters.commands++;
    return everywhere ? 1 : 0;
}

int conn_end(struct conn *conn, const struct conn_call *call)
{
    return end_at(conn, call, false);
}

int conn_end_everywhere(struct conn *conn, const struct conn_call *call)
{
    return end_at(conn, call, true);
}

/* Room first: it may move the bytes that are copied, where they are this connection's own. Those of
 * the first request in the ring are kept. */
bool conn_adopt(struct conn *conn, const struct conn_call *call)
{
    conn->build = 0;
    conn->build_failed = false;
    char *p = build_space(conn, call->bytes);
    if (p == NULL || conn->closing) {
        return false;
    }
    const struct conn *from = call->conn;
    memcpy(p, from->out + (call->at - from->out_base), call->bytes);
    struct conn_call adopted = *call;
    adopted.conn = conn;
    adopted.at = conn->out_end;
    if (!ring_push(conn, &adopted)) {
        return false;
    }
    conn->out_end += call->bytes;
    conn->counters.commands++;
    return true;
}

/* ---- reading a request back ---- */

static size_t read_number(const char **p)
{
    size_t value = 0;
    for ((*p)++; **p != '\r'; (*p)++) {
        value = value * 10 + (size_t)(**p - '0');
    }
    *p += 2;
    return value;
}

struct conn_args conn_call_args(const struct conn_call *call)
{
    const struct conn *conn = call->conn;
    struct conn_args args = {.next = conn->out + (call->at - conn->out_base)};
    args.count = read_number(&args.next);
    return args;
}

const char *conn_args_next(struct conn_args *args, size_t *out_bytes)
{
    size_t bytes = read_number(&args->next);
    const char *data = args->next;
    args->next += bytes + 2;
    *out_bytes = bytes;
    return data;
}

void conn_args_skip(struct conn_args *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;
        conn_args_next(args, &bytes);
    }
}

/* ---- connecting ---- */

static void login_arg(struct conn *conn, const char *text)
{
    int n = snprintf(conn->login + conn->login_bytes, sizeof conn->login - conn->login_bytes,
                     "$%zu\r\n%s\r\n", strlen(text), text);
    assert(n > 0 && (size_t)n < sizeof conn->login - conn->login_bytes);
    conn->login_bytes += (size_t)n;
}

static void login_begin(struct conn *conn, int argc)
{
    conn->login_bytes += (size_t)snprintf(conn->login + conn->login_bytes, 8, "*%d\r\n", argc);
    conn->login_replies++;
}

static void login_prepare(struct conn *conn)
{
    conn->login_bytes = 0;
    conn->login_sent = 0;
    conn->login_replies = 0;
    if (conn->resolving) {
        login_begin(conn, 3);
        login_arg(conn, "SENTINEL");
        login_arg(conn, "get-master-addr-by-name");
        login_arg(conn, conn->url.sentinel);
        return;
    }
    if (conn->url.password[0] != '\0') {
        bool has_user = conn->url.user[0] != '\0';
        login_begin(conn, has_user ? 3 : 2);
        login_arg(conn, "AUTH");
        if (has_user) {
            login_arg(conn, conn->url.user);
        }
        login_arg(conn, conn->url.password);
    }
    if (conn->url.db != 0) {
        char db[16];
        snprintf(db, sizeof db, "%u", conn->url.db);
        login_begin(conn, 2);
        login_arg(conn, "SELECT");
        login_arg(conn, db);
    }
    if (conn->url.kind == URL_SEVERAL) { /* only one of them takes writes */
        login_begin(conn, 1);
        login_arg(conn, "ROLE");
    }
    char channels[sizeof conn->channel];
    strcpy(channels, conn->channel);
    char *rest = NULL;
    for (char *c = strtok_r(channels, " ", &rest); c != NULL; c = strtok_r(NULL, " ", &rest)) {
        login_begin(conn, 2);
        login_arg(conn, "SUBSCRIBE");
        login_arg(conn, c);
    }
    if (conn->url.tls && conn->login_replies == 0) {
        login_begin(conn, 1); /* of TLS 1.3, a certificate of ours is refused after the handshake */
        login_arg(conn, "PING");
    }
}

static void dispatch(struct conn *conn, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    static const struct conn_reply none = {NULL, 0};
    bool outer = conn->dispatching;
    conn->dispatching = true;
    static_assert(offsetof(struct script, name) == 0, "the tracer reads the name through script");
    PROBE5(redis_reply, conn, call->at, call->script, call->count, status);
    if (call->done != NULL) {
        call->done(call->owner, call, status, reply != NULL ? reply : &none, err);
    }
    conn->dispatching = outer;
}

static void end_session(struct conn *conn)
{
    if (conn->session != NULL) {
        conn->tls->end(conn->session);
        conn->session = NULL;
    }
}

/* The connection is no more. What was sent and must not run twice is unknown; the rest waits in
 * line for the next connection, at most until its deadline. */
static void lost(struct conn *conn, bool again)
{
    end_session(conn);
    if (conn->context != NULL) {
        redisFree(conn->context);
        conn->context = NULL;
    }
    bool was_up = conn->state == CONN_UP;
    conn->state = CONN_DOWN;
    int64_t now_ns = clock_monotonic_ns(conn->clock);
    bool heard = conn->counters.bytes_received != conn->received_before;
    conn->counters.losses += was_up && conn->login_replies == 0;
    if (was_up && conn->login_replies == 0 && heard) {
        conn->retry_pause_ns = CONN_RETRY_MS_MIN * NS_PER_MS;
        conn->retry_at_ns = now_ns; /* the first attempt is at once */
    } else {
        conn->retry_at_ns = now_ns + conn->retry_pause_ns;
        conn->retry_pause_ns *= 2;
        if (conn->retry_pause_ns > CONN_RETRY_MS_MAX * NS_PER_MS) {
            conn->retry_pause_ns = CONN_RETRY_MS_MAX * NS_PER_MS;
        }
    }
    size_t count = conn->ring_count;
    if (again && (count == 0 || ring_at(conn, 0)->at >= conn->out_sent)) {
        return; /* nothing was on the wire: all wait as they are */
    }
    uint64_t sent = conn->out_sent;
    conn->out_sent = conn->out_end;
    for (size_t i = 0; i < count; i++) {
        struct conn_call call = *ring_at(conn, 0);
        call.sent_before |= call.at + call.bytes <= sent;
        bool expired = call.deadline_ns <= now_ns;
        bool internal = call.done == NULL;
        bool kept = again && !internal && !expired && (call.repeatable || !call.sent_before) &&
                    conn_adopt(conn, &call);
        ring_pop(conn);
        if (!kept) {
            dispatch(conn, &call, call.sent_before ? CONN_UNKNOWN : CONN_UNAVAILABLE, NULL,
                     &conn->down_reason);
        }
    }
}

/* While nothing can be sent: end what has waited too long. */
static void expire(struct conn *conn, int64_t now_ns)
{
    while (conn->ring_count != 0 && ring_at(conn, 0)->deadline_ns <= now_ns) {
        struct conn_call call = ring_pop(conn);
        conn->out_sent = conn->ring_count != 0 ? ring_at(conn, 0)->at : conn->out_end;
        dispatch(conn, &call, call.sent_before ? CONN_UNKNOWN : CONN_UNAVAILABLE, NULL,
                 &conn->down_reason);
    }
}

static void down(struct conn *conn, const char *what, const char *why)
{
    err_set(&conn->down_reason, 0, "%s at %s: %s%s%s", conn->resolving ? "sentinel" : "redis",
            conn->where, what, why[0] != '\0' ? ": " : "", why);
    lost(conn, true);
}

/* Where the next attempt goes: the master that a Sentinel named, else the url's places in turn. */
static struct url_place next_place(struct conn *conn)
{
    conn->resolving = conn->url.kind == URL_SENTINEL && conn->master.port == 0;
    if (conn->url.kind == URL_SENTINEL && !conn->resolving) {
        struct url_place master = conn->master;
        conn->master.port = 0; /* asked again after this one */
        return master;
    }
    return conn->url.places[conn->place++ % conn->url.place_count];
}

static void connect_start(struct conn *conn)
{
    struct url_place place = next_place(conn);
    snprintf(conn->where, sizeof conn->where, place.port == 0 ? "%s" : "%s:%u", place.host,
             place.port);
    snprintf(conn->host, sizeof conn->host, "%s", place.host);
    conn->received_before = conn->counters.bytes_received;
    conn->connects++;
    conn->context = place.port == 0 ? redisConnectUnixNonBlock(place.host)
                                    : redisConnectNonBlock(place.host, place.port);
    conn->state = CONN_CONNECTING;
    conn->connect_by_ns = clock_monotonic_ns(conn->clock) + conn->connect_timeout_ns;
    if (conn->context == NULL || conn->context->err != 0 || reader_new(conn) != 0) {
        char why[128] = "out of memory";
        if (conn->context != NULL && conn->context->err != 0) {
            snprintf(why, sizeof why, "%s", conn->context->errstr);
        }
        down(conn, "cannot connect", why);
        return;
    }
    login_prepare(conn);
}

/* A Sentinel's answer: the master's host and port. The connection to the Sentinel has then served.
 */
static void on_resolved(struct conn *conn)
{
    const struct conn_node *nodes = conn->nodes;
    char port[8];
    int64_t number = 0;
    if (conn->node_count != 3 || nodes[0].type != CONN_ARRAY || nodes[1].type != CONN_STRING ||
        nodes[2].type != CONN_STRING || nodes[1].bytes == 0 ||
        nodes[1].bytes >= sizeof conn->master.host || nodes[2].bytes >= sizeof port) {
        down(conn, "does not know a master of that name", conn->url.sentinel);
        return;
    }
    snprintf(port, sizeof port, "%.*s", (int)nodes[2].bytes, nodes[2].data);
    if (args_int(port, 1, 65535, &number, NULL) != 0) {
        down(conn, "names a port that is none", port);
        return;
    }
    struct url_place master = {.port = (uint16_t)number};
    memcpy(master.host, nodes[1].data, nodes[1].bytes);
    lost(conn, true);
    conn->master = master;
    conn->retry_at_ns = clock_monotonic_ns(conn->clock);
}

/* ---- bytes in and out ---- */

static ssize_t send_some(struct conn *conn, const char *data, size_t bytes)
{
    return conn->session != NULL ? conn->tls->write(conn->session, data, bytes)
                                 : send(conn->context->fd, data, bytes, MSG_NOSIGNAL);
}

/* The connection ended: n is 0, or errno says why. Who speaks TLS hangs up on who does not. */
__attribute__((noinline, cold)) static void ended(struct conn *conn, const char *what, ssize_t n)
{
    char why[256];
    if (n < 0 && errno == EPROTO && conn->session != NULL) {
        snprintf(why, sizeof why, "TLS: %s", conn->tls->why(conn->session));
    } else {
        snprintf(why, sizeof why, "%s", n < 0 ? strerror(errno) : "closed by the server");
    }
    if (conn->session == NULL && conn->context->connection_type == REDIS_CONN_TCP &&
        conn->counters.bytes_received == conn->received_before) {
        strcat(why, " before it ever answered: does this port speak TLS? Give rediss:// then");
    }
    down(conn, what, why);
}

/* Send what is left of data; true when all went. */
static bool send_bytes(struct conn *conn, const char *data, size_t bytes, size_t *out_sent)
{
    *out_sent = 0;
    while (bytes > *out_sent) {
        ssize_t n = send_some(conn, data + *out_sent, bytes - *out_sent);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                ended(conn, "cannot send", -1);
            }
            return false;
        }
        conn->counters.bytes_sent += (uint64_t)n;
        *out_sent += (size_t)n;
    }
    return true;
}

void conn_flush(struct conn *conn)
{
    if (conn->cluster != NULL) {
        cluster_flush(conn->cluster);
        return;
    }
    if (conn->state != CONN_UP) {
        return;
    }
    if (conn->login_sent < conn->login_bytes) {
        size_t sent = 0;
        bool all = send_bytes(conn, conn->login + conn->login_sent,
                              conn->login_bytes - conn->login_sent, &sent);
        conn->login_sent += sent;
        if (!all) {
            return;
        }
    }
    /* Not before the login is answered: a refused SELECT would let them act on another database. */
    if (conn->login_replies != 0 || conn->out_sent == conn->out_end) {
        return;
    }
    /* The position must be right before `down` asks what was sent whole: count it as it goes. */
    conn->writes++;
    PROBE3(redis_send, conn, conn->out_sent, conn->out_end);
    while (conn->out_sent < conn->out_end) {
        ssize_t n = send_some(conn, conn->out + (conn->out_sent - conn->out_base),
                              (size_t)(conn->out_end - conn->out_sent));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                ended(conn, "cannot send", -1);
            }
            return;
        }
        conn->out_sent += (uint64_t)n;
        conn->counters.bytes_sent += (uint64_t)n;
    }
}

static bool starts_with(const char *data, size_t bytes, const char *prefix)
{
    size_t n = strlen(prefix);
    return bytes >= n && memcmp(data, prefix, n) == 0;
}

/* Refused before anything was done. Redis 6 wraps what a script's first write met in
 * "ERR Error running script ...: -OOM ..."; Redis 7 gives the code in front. A script of ours that
 * has written once is let through by Redis, so neither can follow a write. */
static bool is_refusal(const char *data, size_t bytes)
{
    static const char *const codes[] = {
        "LOADING ", "READONLY ",   "OOM ",      "MASTERDOWN ",  "MISCONF ",
        "BUSY ",    "NOREPLICAS ", "TRYAGAIN ", "CLUSTERDOWN ", "ASK ",
    };
    if (starts_with(data, bytes, "ERR Error running script")) {
        const char *dash = memmem(data, bytes, ": -", 3);
        if (dash == NULL) {
            return false;
        }
        bytes -= (size_t)(dash + 3 - data);
        data = dash + 3;
    }
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (starts_with(data, bytes, codes[i])) {
            return true;
        }
    }
    return false;
}

/* Load the script, then the request again, in one go and in this order. The refused request is
 * still first in the ring. */
static bool load_and_repeat(struct conn *conn, const struct conn_call *call)
{
    if (call->script == NULL || call->loads == LOADS_MAX) {
        return false;
    }
    struct conn_call again = *call;
    again.loads++;
    again.sent_before = false;
    conn_begin(conn, 3);
    conn_arg(conn, "SCRIPT", 6);
    conn_arg(conn, "LOAD", 4);
    conn_arg(conn, call->script->text, call->script->bytes);
    struct conn_call load = {.repeatable = false};
    return conn_end(conn, &load) == 0 && conn_adopt(conn, &again);
}

/* What was published, which no request waits for. */
static bool take_message(struct conn *conn)
{
    const struct conn_node *nodes = conn->nodes;
    if (conn->channel[0] == '\0' || conn->node_count != 4 || nodes[0].type != CONN_ARRAY ||
        nodes[1].type != CONN_STRING || nodes[3].type != CONN_STRING || nodes[1].bytes != 7 ||
        memcmp(nodes[1].data, "message", 7) != 0) {
        return false;
    }
    conn->on_message(conn->message_arg, nodes[3].data, nodes[3].bytes);
    return true;
}

/* Whether this is what a replica or a sentinel says to ROLE. */
static bool is_other_role(const struct conn *conn)
{
    const struct conn_node *nodes = conn->nodes;
    return conn->url.kind == URL_SEVERAL && conn->node_count > 1 && nodes[0].type == CONN_ARRAY &&
           nodes[1].type == CONN_STRING &&
           ((nodes[1].bytes == 5 && memcmp(nodes[1].data, "slave", 5) == 0) ||
            (nodes[1].bytes == 8 && memcmp(nodes[1].data, "sentinel", 8) == 0));
}

static void on_reply(struct conn *conn)
{
    for (size_t i = 0; i < conn->node_count; i++) {
        struct conn_node *node = &conn->nodes[i];
        if (node->type == CONN_STRING || node->type == CONN_FAILURE) {
            node->data = conn->arena + node->integer;
            node->integer = 0;
        }
    }
    if (take_message(conn)) {
        return;
    }
    const struct conn_node *top = &conn->nodes[0];
    struct err err = {""};
    if (top->type == CONN_FAILURE) {
        /* Redis repeats arguments of a command that it does not know: payloads, or a password. */
        static const char repeated[] = ", with args beginning with";
        const char *cut = memmem(top->data, top->bytes, repeated, sizeof(repeated) - 1);
        size_t bytes = cut == NULL ? top->bytes : (size_t)(cut - top->data);
        err_set(&err, 0, "redis at %s: %.*s", conn->where, bytes < 300 ? (int)bytes : 300,
                top->data);
    }
    if (conn->login_replies != 0) {
        conn->login_replies--;
        if (top->type == CONN_FAILURE) {
            conn->login_replies++;
            conn->down_reason = err;
            lost(conn, true);
        } else if (conn->resolving) {
            conn->login_replies++; /* it was no login: nothing that was in use is lost */
            on_resolved(conn);
        } else if (is_other_role(conn)) {
            conn->login_replies++;
            down(conn, "is not a master", "");
        }
        return;
    }
    if (conn->ring_count == 0) {
        down(conn, "sent a reply that nobody asked for", "");
        return;
    }
    struct conn_call call = *ring_at(conn, 0);
    if (call.at + call.bytes > conn->out_sent) {
        down(conn, "sent a reply before the request", "");
        return;
    }
    conn->retry_pause_ns = CONN_RETRY_MS_MIN * NS_PER_MS;
    if (top->type == CONN_FAILURE && starts_with(top->data, top->bytes, "NOSCRIPT") &&
        load_and_repeat(conn, &call)) {
        ring_pop(conn);
        return;
    }
    if (top->type == CONN_FAILURE && conn->node_of != NULL &&
        cluster_redirected(conn->node_of, &call, top->data, top->bytes)) {
        ring_pop(conn);
        return;
    }
    if (top->type == CONN_FAILURE && conn->url.kind == URL_ONE && conn->node_of == NULL &&
        starts_with(top->data, top->bytes, "MOVED ")) {
        err_set(&err, 0, "redis at %s is a node of a Redis Cluster: add ?cluster=yes to its url",
                conn->where);
    }
    ring_pop(conn);
    if (top->type == CONN_FAILURE) {
        bool demoted = (conn->url.kind == URL_SEVERAL || conn->url.kind == URL_SENTINEL) &&
                       starts_with(top->data, top->bytes, "READONLY ");
        dispatch(conn, &call, is_refusal(top->data, top->bytes) ? CONN_UNAVAILABLE : CONN_ERROR,
                 NULL, &err);
        if (demoted) {
            down(conn, "became a replica", "");
        }
        return;
    }
    struct conn_reply reply = {conn->nodes, conn->node_count};
    dispatch(conn, &call, CONN_OK, &reply, &err);
}

static void receive(struct conn *conn)
{
    uint64_t asked = conn->writes;
    for (;;) {
        ssize_t n = conn->session != NULL
                        ? conn->tls->read(conn->session, conn->input, sizeof conn->input)
                        : recv(conn->context->fd, conn->input, sizeof conn->input, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n <= 0) {
            ended(conn, "connection lost", n);
            return;
        }
        conn->counters.bytes_received += (uint64_t)n;
        if (conn->writes_answered != asked) {
            conn->writes_answered = asked;
            conn->counters.round_trips++;
        }
        if (redisReaderFeed(conn->reader, conn->input, (size_t)n) != REDIS_OK ||
            conn->reader->len > CONN_INPUT_BYTES_MAX) {
            down(conn, "reply too large", "");
            return;
        }
        for (;;) {
            void *whole = NULL;
            if (redisReaderGetReply(conn->reader, &whole) != REDIS_OK) {
                char why[128];
                snprintf(why, sizeof why, "%s", conn->reader->errstr);
                down(conn, "broken reply", why);
                return;
            }
            if (whole == NULL) {
                break;
            }
            on_reply(conn);
            if (conn->state != CONN_UP) {
                return;
            }
            conn->node_count = 0;
            conn->arena_bytes = 0;
        }
        if ((size_t)n < sizeof conn->input && conn->session == NULL) {
            return; /* a short read has emptied the socket; of TLS it is one record */
        }
    }
}

/* ---- the loop's door ---- */

int conn_fd(const struct conn *conn)
{
    if (conn->cluster != NULL) {
        return cluster_fd(conn->cluster);
    }
    return conn->context != NULL ? (int)conn->context->fd : -1;
}

bool conn_wants_write(const struct conn *conn)
{
    if (conn->cluster != NULL) {
        return false; /* its own epoll knows */
    }
    if (conn->state == CONN_CONNECTING) {
        return conn->session == NULL || conn->tls->wants_write(conn->session);
    }
    return conn->state == CONN_UP &&
           (conn->login_replies != 0 ? conn->login_sent < conn->login_bytes
                                     : conn->out_sent < conn->out_end);
}

int64_t conn_deadline_ns(const struct conn *conn)
{
    if (conn->cluster != NULL) {
        return cluster_deadline_ns(conn->cluster);
    }
    int64_t deadline_ns = INT64_MAX;
    if (conn->ring_count != 0) {
        deadline_ns = conn->ring[conn->ring_head].deadline_ns;
    }
    if (conn->state == CONN_DOWN && conn->retry_at_ns < deadline_ns) {
        deadline_ns = conn->retry_at_ns;
    }
    if ((conn->state == CONN_CONNECTING || (conn->state == CONN_UP && conn->login_replies != 0)) &&
        conn->connect_by_ns < deadline_ns) {
        deadline_ns = conn->connect_by_ns;
    }
    return deadline_ns;
}

/* Why it takes so long, for people. */
static const char *no_answer(const struct conn *conn)
{
    return conn->state == CONN_CONNECTING && conn->session != NULL
               ? "no answer to TLS in time: does this port speak TLS? Give redis:// where it does "
                 "not"
               : "timed out";
}

static void on_time(struct conn *conn)
{
    int64_t now_ns = clock_monotonic_ns(conn->clock);
    if (conn->ring_count != 0 && ring_at(conn, 0)->deadline_ns <= now_ns) {
        if (conn->state == CONN_UP && conn->login_replies == 0) {
            down(conn, "no reply in time", "");
        }
        expire(conn, now_ns);
    }
    if ((conn->state == CONN_CONNECTING || (conn->state == CONN_UP && conn->login_replies != 0)) &&
        conn->connect_by_ns <= now_ns) {
        down(conn, "cannot connect", no_answer(conn));
    }
    if (conn->state == CONN_DOWN && conn->retry_at_ns <= now_ns) {
        connect_start(conn);
    }
}

static void on_connected(struct conn *conn)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(conn->context->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) {
        error = errno;
    }
    if (error != 0) {
        down(conn, "cannot connect", strerror(error));
    } else if (!conn->url.tls) {
        conn->state = CONN_UP;
    } else {
        conn->session = conn->tls->begin(conn->tls->arg, conn->context->fd, conn->host);
        if (conn->session == NULL) {
            down(conn, "cannot connect", "out of memory for TLS");
        }
    }
}

static void shake_hands(struct conn *conn)
{
    struct err err = {""};
    int code = conn->tls->handshake(conn->session, &err);
    if (code == 0) {
        conn->state = CONN_UP;
    } else if (code != -EAGAIN) {
        down(conn, "TLS refused", err.text);
    }
}

/* First the socket, then TLS. */
static void connect_on(struct conn *conn, bool writable)
{
    if (conn->session == NULL && writable) {
        on_connected(conn);
    }
    if (conn->session != NULL) {
        shake_hands(conn);
    }
}

void conn_on_ready(struct conn *conn, bool readable, bool writable)
{
    assert(!conn->dispatching);
    if (conn->cluster != NULL) {
        cluster_on_ready(conn->cluster);
        return;
    }
    if (conn->state == CONN_CONNECTING) {
        connect_on(conn, writable);
    }
    if (conn->state == CONN_UP && readable) {
        receive(conn);
    }
    if (conn_deadline_ns(conn) != INT64_MAX) {
        on_time(conn);
    }
    if (conn->state == CONN_UP) {
        conn_flush(conn);
    }
}

/* Poll once, at most until deadline_ns, and act on what came. */
static void turn(struct conn *conn, int64_t deadline_ns, int64_t now_ns)
{
    int64_t due_ns = conn_deadline_ns(conn);
    if (deadline_ns < due_ns) {
        due_ns = deadline_ns;
    }
    int timeout_ms = -1;
    if (due_ns != INT64_MAX) {
        int64_t left_ms = due_ns <= now_ns ? 0 : (due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
        timeout_ms = left_ms > 60000 ? 60000 : (int)left_ms;
    }
    struct pollfd p = {.fd = conn_fd(conn), .events = POLLIN};
    if (conn_wants_write(conn)) {
        p.events |= POLLOUT;
    }
    int ready = poll(&p, 1, timeout_ms);
    bool broken = ready > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    conn_on_ready(conn, ready > 0 && ((p.revents & POLLIN) != 0 || broken),
                  ready > 0 && ((p.revents & POLLOUT) != 0 || broken));
}

size_t conn_pending(const struct conn *conn)
{
    return conn->cluster != NULL ? cluster_pending(conn->cluster) : conn->ring_count;
}

int conn_wait(struct conn *conn, int64_t deadline_ns)
{
    assert(!conn->dispatching);
    conn_flush(conn);
    while (conn_pending(conn) != 0) {
        int64_t now_ns = clock_monotonic_ns(conn->clock);
        if (now_ns >= deadline_ns) {
            return -ETIMEDOUT;
        }
        turn(conn, deadline_ns, now_ns);
    }
    return 0;
}

void conn_counters(const struct conn *conn, struct conn_counters *out)
{
    *out = conn->counters;
    if (conn->cluster != NULL) {
        cluster_add_counters(conn->cluster, out);
    }
}

void conn_hand_over(struct conn *conn)
{
    if (conn->state == CONN_UP || conn->ring_count == 0 || conn->dispatching) {
        return;
    }
    /* Nothing is on the wire. What stays is put in line again behind the rest: there are to be no
     * bytes of requests that have left. */
    size_t count = conn->ring_count;
    conn->out_sent = conn->out_end;
    for (size_t i = 0; i < count; i++) {
        struct conn_call call = *ring_at(conn, 0);
        struct conn *to = cluster_route(conn->node_of, &call);
        bool gone = call.done == NULL; /* a script to load: of no more use */
        if (!gone && to != NULL) {
            gone = conn_adopt(to, &call); /* perhaps itself */
        }
        ring_pop(conn);
        if (!gone) {
            dispatch(conn, &call, call.sent_before ? CONN_UNKNOWN : CONN_UNAVAILABLE, NULL,
                     &conn->down_reason);
        }
    }
}

/* ---- life ---- */

static struct conn *conn_new(const struct conn_options *options, const struct url *url,
                             struct err *err)
{
    if (url->tls && options->tls == NULL) {
        err_set(err, -EINVAL,
                "redis url: this program does not speak TLS (rediss://): use redis:// "
                "or unix:");
        return NULL;
    }
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    conn->url = *url;
    conn->tls = options->tls;
    conn->clock = options->clock;
    conn->connect_timeout_ns = options->connect_timeout_ns;
    conn->command_timeout_ns = options->command_timeout_ns;
    if (options->channel != NULL) {
        assert(strlen(options->channel) <= CONN_CHANNEL_BYTES_MAX);
        strcpy(conn->channel, options->channel);
        conn->on_message = options->on_message;
        conn->message_arg = options->message_arg;
    }
    conn->retry_pause_ns = CONN_RETRY_MS_MIN * NS_PER_MS;
    conn->out = malloc(OUTPUT_BYTES_START);
    conn->out_capacity = OUTPUT_BYTES_START;
    conn->arena = malloc(ARENA_BYTES_START);
    conn->arena_capacity = ARENA_BYTES_START;
    conn->ring = malloc(RING_START * sizeof *conn->ring);
    conn->ring_capacity = RING_START;
    if (conn->out == NULL || conn->arena == NULL || conn->ring == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        conn_close(conn);
        return NULL;
    }
    return conn;
}

struct conn *conn_start(const struct conn_options *options, const struct url *url, struct err *err)
{
    struct conn *conn = conn_new(options, url, err);
    if (conn != NULL) {
        connect_start(conn);
    }
    return conn;
}

struct conn *conn_open(const struct conn_options *options, struct err *err)
{
    struct url url;
    if (url_parse(options->url, &url, err) != 0) {
        return NULL;
    }
    int64_t deadline_ns = clock_monotonic_ns(options->clock) + options->connect_timeout_ns;
    struct conn *conn = conn_new(options, &url, err);
    if (conn == NULL) {
        return NULL;
    }
    bool is_cluster = url.kind == URL_CLUSTER || url.kind == URL_SEVERAL;
    if (is_cluster && options->channel == NULL) { /* any node hears what is published */
        conn->cluster = cluster_open(options, &url, deadline_ns, &is_cluster, err);
        if (conn->cluster != NULL) {
            return conn;
        }
        if (is_cluster || url.kind == URL_CLUSTER) {
            conn_close(conn);
            return NULL;
        }
    }
    connect_start(conn);
    if (!conn_up(conn, deadline_ns, err)) {
        conn_close(conn);
        return NULL;
    }
    return conn;
}

bool conn_up(struct conn *conn, int64_t deadline_ns, struct err *err)
{
    while (conn->state != CONN_UP || conn->login_replies != 0) {
        int64_t now_ns = clock_monotonic_ns(conn->clock);
        if (now_ns >= deadline_ns) {
            if (conn->down_reason.text[0] == '\0') {
                down(conn, "cannot connect", no_answer(conn));
            }
            err_set(err, -ETIMEDOUT, "%s: is redis-server running there, and the login right?",
                    conn->down_reason.text);
            return false;
        }
        turn(conn, deadline_ns, now_ns);
    }
    return true;
}

void conn_close(struct conn *conn)
{
    if (conn == NULL) {
        return;
    }
    assert(!conn->dispatching);
    cluster_close(conn->cluster);
    if (conn->ring_count != 0) {
        err_set(&conn->down_reason, 0, "the connection was closed");
        conn->closing = true; /* callbacks start nothing more */
        lost(conn, false);
    }
    end_session(conn);
    if (conn->context != NULL) {
        redisFree(conn->context);
    }
    if (conn->reader != NULL) {
        redisReaderFree(conn->reader);
    }
    free(conn->ring);
    free(conn->arena);
    free(conn->out);
    free(conn);
}
