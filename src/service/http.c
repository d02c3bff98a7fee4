#include "service/http.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ev.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/clock.h"
#include "base/http1.h"
#include "base/probe.h"

#define IN_BYTES_FIRST 1024
#define OUT_BYTES_FIRST 1024
#define ARENA_BYTES_FIRST 1024
#define KEEP_BYTES_MAX (32 * 1024) /* buffers above this are given back between requests */
#define LINGER_NS (2 * NS_PER_SEC)
#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* out of file descriptors: try again after */
#define ACCEPTS_A_TURN 64
#define BODY_BYTES_A_SECOND 65536
#define VERSION_REFUSED "only HTTP/1.0 and HTTP/1.1 are spoken here"
#define LENGTH_DIGITS 10 /* of Content-Length, filled with spaces from the left */

enum state {
    READING, /* between requests or inside one */
    IN_FLIGHT, /* the owner has it */
    LINGERING, /* refused: what still arrives is thrown away, so that the answer gets through */
};

/* Each kind lasts the same for all, so that its list is in order of time. */
enum wait { WAIT_IDLE, WAIT_HEAD, WAIT_BODY, WAIT_WRITE, WAIT_LINGER, WAIT_COUNT, WAIT_NONE };

struct piece { /* of the input buffer */
    uint32_t at;
    uint32_t bytes;
};

struct chunk {
    struct chunk *next;
    size_t used;
    size_t capacity;
    _Alignas(16) char data[];
};

struct http_conn {
    struct http *http;
    int fd; /* -1: closed, waiting for the owner's answer */
    enum state state;
    ev_io readable;
    ev_io writable;

    struct http_conn *wait_prev;
    struct http_conn *wait_next;
    int64_t deadline_ns;
    enum wait wait;

    struct http_conn *all_prev;
    struct http_conn *all_next;
    struct http_conn *dirty_next;
    bool dirty;

    http1_parser parser;
    char *in;
    size_t in_bytes;
    size_t in_capacity;
    size_t fed; /* of in: seen by the parser */
    bool head_done;
    bool in_value; /* the last header piece was of a value */
    bool complete;
    int refusal; /* status with which the parser's callbacks refuse; 0: none */
    const char *refusal_text;
    struct piece url;
    struct piece body;
    struct piece names[HTTP_HEADERS_MAX];
    struct piece values[HTTP_HEADERS_MAX];
    size_t header_count;

    bool keep_alive;
    bool head_only; /* HEAD: the answer's body is left out */
    bool eof; /* the client sends no more */
    bool broken; /* the connection is gone, or must be closed without an answer */
    bool closing; /* close when the output is out */
    bool lingering_after;

    char *out;
    size_t out_bytes;
    size_t out_sent;
    size_t out_capacity;
    size_t length_at; /* of the answer being written: its Content-Length digits; 0: none */
    size_t body_at;

    struct chunk *arena; /* the newest first */
    _Alignas(16) char record[];
};

struct listener {
    ev_io readable;
    int fd;
    struct listener *next;
};

struct wait_list {
    struct http_conn *first;
    struct http_conn *last;
    int64_t duration_ns;
};

struct http {
    struct ev_loop *loop;
    struct http_limits limits;
    size_t record_bytes;
    http_handler_fn *handle;
    http_gone_fn *gone;
    void *arg;
    struct listener *listeners;
    struct http_conn *all;
    struct http_conn *dirty_first;
    struct http_conn *dirty_last;
    size_t connections;
    bool draining;
    bool accept_paused;
    int64_t accept_again_ns;
    int64_t now_ns;
    int64_t wall_second;
    char date[64]; /* "Date: ...\r\n" */
    size_t date_bytes;
    ev_timer timer;
    int64_t timer_at_ns; /* INT64_MAX: not started */
    struct wait_list waits[WAIT_COUNT];
};

/* ---- deadlines ---- */

static void timer_arm(struct http *http, int64_t at_ns)
{
    if (at_ns >= http->timer_at_ns) {
        return;
    }
    http->timer_at_ns = at_ns;
    ev_timer_stop(http->loop, &http->timer);
    double after = (double)(at_ns - http->now_ns) / 1e9;
    ev_timer_set(&http->timer, after > 0.001 ? after : 0.001, 0.);
    ev_timer_start(http->loop, &http->timer);
}

static void wait_clear(struct http_conn *conn)
{
    if (conn->wait == WAIT_NONE) {
        return;
    }
    struct wait_list *list = &conn->http->waits[conn->wait];
    if (conn->wait_prev != NULL) {
        conn->wait_prev->wait_next = conn->wait_next;
    } else {
        list->first = conn->wait_next;
    }
    if (conn->wait_next != NULL) {
        conn->wait_next->wait_prev = conn->wait_prev;
    } else {
        list->last = conn->wait_prev;
    }
    conn->wait = WAIT_NONE;
}

static void wait_for(struct http_conn *conn, enum wait kind)
{
    struct http *http = conn->http;
    if (conn->wait == kind && kind != WAIT_IDLE && kind != WAIT_WRITE) {
        return; /* runs from its first byte */
    }
    wait_clear(conn);
    struct wait_list *list = &http->waits[kind];
    conn->wait = kind;
    conn->deadline_ns = http->now_ns + list->duration_ns;
    conn->wait_prev = list->last;
    conn->wait_next = NULL;
    if (list->last != NULL) {
        list->last->wait_next = conn;
    } else {
        list->first = conn;
    }
    list->last = conn;
    timer_arm(http, conn->deadline_ns);
}

/* ---- memory ---- */

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void *http_alloc(struct http_conn *conn, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    struct chunk *chunk = conn->arena;
    if (chunk == NULL || chunk->capacity - chunk->used < bytes) {
        size_t capacity = chunk == NULL ? ARENA_BYTES_FIRST : chunk->capacity * 2;
        while (capacity < bytes) {
            capacity *= 2;
        }
        chunk = must(malloc(sizeof(*chunk) + capacity));
        chunk->next = conn->arena;
        chunk->used = 0;
        chunk->capacity = capacity;
        conn->arena = chunk;
    }
    void *at = chunk->data + chunk->used;
    chunk->used += bytes;
    return at;
}

/* Keep the newest, which is the largest, so that the next request of this kind finds room. */
static void arena_reset(struct http_conn *conn, bool all)
{
    struct chunk *chunk = conn->arena;
    if (chunk == NULL) {
        return;
    }
    struct chunk *rest = chunk->next;
    chunk->next = NULL;
    chunk->used = 0;
    if (all || chunk->capacity > KEEP_BYTES_MAX) {
        free(chunk);
        conn->arena = NULL;
    }
    while (rest != NULL) {
        struct chunk *next = rest->next;
        free(rest);
        rest = next;
    }
}

static void out_reserve(struct http_conn *conn, size_t bytes)
{
    size_t need = conn->out_bytes + bytes;
    if (need <= conn->out_capacity) {
        return;
    }
    size_t capacity = conn->out_capacity == 0 ? OUT_BYTES_FIRST : conn->out_capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    conn->out = must(realloc(conn->out, capacity));
    conn->out_capacity = capacity;
}

static void out_put(struct http_conn *conn, const void *data, size_t bytes)
{
    out_reserve(conn, bytes);
    memcpy(conn->out + conn->out_bytes, data, bytes);
    conn->out_bytes += bytes;
}

/* ---- life of a connection ---- */

static void mark_dirty(struct http_conn *conn)
{
    if (conn->dirty) {
        return;
    }
    conn->dirty = true;
    conn->dirty_next = NULL;
    struct http *http = conn->http;
    if (http->dirty_last != NULL) {
        http->dirty_last->dirty_next = conn;
    } else {
        http->dirty_first = conn;
    }
    http->dirty_last = conn;
}

static void conn_free(struct http_conn *conn)
{
    struct http *http = conn->http;
    if (conn->all_prev != NULL) {
        conn->all_prev->all_next = conn->all_next;
    } else {
        http->all = conn->all_next;
    }
    if (conn->all_next != NULL) {
        conn->all_next->all_prev = conn->all_prev;
    }
    arena_reset(conn, true);
    free(conn->in);
    free(conn->out);
    free(conn);
}

static void conn_hang_up(struct http_conn *conn)
{
    struct http *http = conn->http;
    if (conn->fd >= 0) {
        ev_io_stop(http->loop, &conn->readable);
        ev_io_stop(http->loop, &conn->writable);
        close(conn->fd);
        conn->fd = -1;
        http->connections--;
        wait_clear(conn);
    }
    conn->broken = true;
}

/* Close; the memory goes when the owner has answered and no list holds it. */
static void conn_close(struct http_conn *conn)
{
    conn_hang_up(conn);
    if (conn->state == IN_FLIGHT) {
        if (conn->http->gone != NULL) {
            conn->http->gone(conn->http->arg, conn);
        }
    } else {
        mark_dirty(conn); /* freed at the end of the turn */
    }
}

bool http_is_gone(const struct http_conn *conn)
{
    return conn->broken;
}

bool http_is_half_closed(const struct http_conn *conn)
{
    return conn->broken || conn->eof;
}

void *http_record(struct http_conn *conn)
{
    return conn->record;
}

/* ---- answers ---- */

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 307:
        return "Temporary Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Status";
    }
}

static void out_status_line(struct http_conn *conn, int status)
{
    if (status == 200) {
        out_put(conn, "HTTP/1.1 200 OK\r\n", 17);
        return;
    }
    if (status == 202) {
        out_put(conn, "HTTP/1.1 202 Accepted\r\n", 23);
        return;
    }
    char line[64];
    int n = snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, reason(status));
    out_put(conn, line, (size_t)n);
}

char *http_answer_begin(struct http_conn *conn, int status, const char *head, size_t head_bytes,
                        size_t bytes_max)
{
    struct http *http = conn->http;
    if (http->draining || conn->closing) {
        conn->keep_alive = false;
    }
    out_status_line(conn, status);
    out_put(conn, http->date, http->date_bytes);
    out_put(conn, head, head_bytes);
    if (!conn->keep_alive) {
        out_put(conn, "Connection: close\r\n", 19);
    } else if (conn->parser.http_minor == 0) {
        out_put(conn, "Connection: keep-alive\r\n", 24);
    }
    conn->length_at = 0;
    if (status != 204) {
        out_put(conn, "Content-Length: ", 16);
        conn->length_at = conn->out_bytes;
        out_put(conn, "         0\r\n", LENGTH_DIGITS + 2);
    }
    out_put(conn, "\r\n", 2);
    out_reserve(conn, bytes_max);
    conn->body_at = conn->out_bytes;
    return conn->out + conn->out_bytes;
}

static void out_length(struct http_conn *conn, size_t bytes)
{
    if (conn->length_at == 0) {
        return;
    }
    char *at = conn->out + conn->length_at + LENGTH_DIGITS;
    do {
        *--at = (char)('0' + bytes % 10);
        bytes /= 10;
    } while (bytes > 0);
}

void http_answer_end(struct http_conn *conn, char *end)
{
    size_t bytes = (size_t)(end - (conn->out + conn->body_at));
    out_length(conn, bytes);
    if (!conn->head_only && conn->length_at != 0) {
        conn->out_bytes += bytes;
    }
    if (!conn->keep_alive) {
        conn->closing = true;
    }
    conn->state = READING;
    arena_reset(conn, false);
    mark_dirty(conn);
}

/* Answer what never became a request, then close. */
static void refuse(struct http_conn *conn, int status, const char *text)
{
    static const char head[] = "Content-Type: application/json\r\n";
    char body[160];
    int n = snprintf(body, sizeof(body), "{\"error\":\"%s\"}", text);
    conn->keep_alive = false;
    conn->head_only = false;
    char *at = http_answer_begin(conn, status, head, sizeof(head) - 1, (size_t)n);
    memcpy(at, body, (size_t)n);
    http_answer_end(conn, at + n);
    conn->lingering_after = true;
}

/* ---- parsing ---- */

static int refuse_later(struct http_conn *conn, int status, const char *text)
{
    if (conn->refusal == 0) {
        conn->refusal = status;
        conn->refusal_text = text;
    }
    return -1;
}

/* Add a piece to what is there. -1: it does not follow on it (a folded header line). */
static int piece_add(struct http_conn *conn, struct piece *piece, const char *at, size_t bytes)
{
    size_t offset = (size_t)(at - conn->in);
    if (piece->bytes == 0) {
        piece->at = (uint32_t)offset;
    } else if (piece->at + piece->bytes != offset) {
        return -1;
    }
    piece->bytes += (uint32_t)bytes;
    return 0;
}

static int on_begin(http1_parser *parser)
{
    struct http_conn *conn = parser->data;
    conn->url = (struct piece){0};
    conn->body = (struct piece){0};
    conn->header_count = 0;
    conn->head_done = false;
    conn->in_value = true;
    conn->complete = false;
    PROBE1(http_parse_begin, conn);
    return 0;
}

static int on_url(http1_parser *parser, const char *at, size_t bytes)
{
    struct http_conn *conn = parser->data;
    if (piece_add(conn, &conn->url, at, bytes) != 0) {
        return refuse_later(conn, 400, "malformed request");
    }
    if (conn->url.bytes > conn->http->limits.url_bytes_max) {
        return refuse_later(conn, 414, "request target too long");
    }
    return 0;
}

static int on_name(http1_parser *parser, const char *at, size_t bytes)
{
    struct http_conn *conn = parser->data;
    if (conn->head_done) {
        return 0; /* trailers are read and left */
    }
    if (conn->in_value) {
        if (conn->header_count == HTTP_HEADERS_MAX) {
            return refuse_later(conn, 431, "too many header lines");
        }
        conn->names[conn->header_count] = (struct piece){0};
        conn->values[conn->header_count] = (struct piece){0};
        conn->header_count++;
        conn->in_value = false;
    }
    if (piece_add(conn, &conn->names[conn->header_count - 1], at, bytes) != 0) {
        return refuse_later(conn, 400, "malformed header");
    }
    return 0;
}

static int on_value(http1_parser *parser, const char *at, size_t bytes)
{
    struct http_conn *conn = parser->data;
    if (conn->head_done) {
        return 0;
    }
    conn->in_value = true;
    if (piece_add(conn, &conn->values[conn->header_count - 1], at, bytes) != 0) {
        return refuse_later(conn, 400, "folded header lines are not accepted");
    }
    return 0;
}

static bool piece_is(const struct http_conn *conn, const struct piece *piece, const char *text,
                     size_t bytes)
{
    return piece->bytes == bytes && strncasecmp(conn->in + piece->at, text, bytes) == 0;
}

static int on_head(http1_parser *parser)
{
    struct http_conn *conn = parser->data;
    struct http *http = conn->http;
    conn->head_done = true;
    conn->head_only = parser->method == HTTP_HEAD;
    conn->keep_alive = http1_keep_alive(parser);
    if (parser->http_major != 1 || parser->http_minor > 1) {
        return refuse_later(conn, 505, VERSION_REFUSED);
    }
    if (parser->method == HTTP_CONNECT) {
        return refuse_later(conn, 405, "method not allowed");
    }
    parser->upgrade = 0; /* never accepted: the request is answered as it is */
    unsigned hosts = 0;
    bool expects = false;
    for (size_t i = 0; i < conn->header_count; i++) {
        if (conn->names[i].bytes == 4) {
            hosts += piece_is(conn, &conn->names[i], "host", 4);
        } else if (piece_is(conn, &conn->names[i], "expect", 6)) {
            if (!piece_is(conn, &conn->values[i], "100-continue", 12)) {
                return refuse_later(conn, 417, "only 100-continue may be expected");
            }
            expects = true;
        }
    }
    if (hosts > 1 || (hosts == 0 && parser->http_minor == 1)) {
        return refuse_later(conn, 400, "exactly one Host header is needed");
    }
    const struct piece *last = &conn->values[conn->header_count == 0 ? 0 : conn->header_count - 1];
    if (conn->header_count > 0 && last->at + last->bytes > http->limits.header_bytes_max) {
        return refuse_later(conn, 431, "request head too large");
    }
    if (http1_content_bytes(parser) > http->limits.body_bytes_max) {
        return refuse_later(conn, 413, "body too large");
    }
    bool has_body = http1_chunked(parser) || http1_content_bytes(parser) > 0;
    if (expects && has_body && parser->http_minor == 1) {
        out_put(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        mark_dirty(conn);
    }
    return 0;
}

static int on_body(http1_parser *parser, const char *at, size_t bytes)
{
    struct http_conn *conn = parser->data;
    if (conn->body.bytes + bytes > conn->http->limits.body_bytes_max) {
        return refuse_later(conn, 413, "body too large");
    }
    char *to = conn->in + conn->body.at + conn->body.bytes;
    if (conn->body.bytes == 0) {
        conn->body.at = (uint32_t)(at - conn->in);
    } else if (to != at) {
        memmove(to, at, bytes); /* close the gap of a chunk's head */
    }
    conn->body.bytes += (uint32_t)bytes;
    return 0;
}

static int on_complete(http1_parser *parser)
{
    struct http_conn *conn = parser->data;
    conn->complete = true;
    return http1_pause(parser);
}

static const http1_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static enum http_verb method_of(unsigned method)
{
    switch (method) {
    case HTTP_GET:
        return HTTP_METHOD_GET;
    case HTTP_POST:
        return HTTP_METHOD_POST;
    case HTTP_PUT:
        return HTTP_METHOD_PUT;
    case HTTP_DELETE:
        return HTTP_METHOD_DELETE;
    case HTTP_HEAD:
        return HTTP_METHOD_HEAD;
    default:
        return HTTP_METHOD_OTHER;
    }
}

static struct store_bytes bytes_of(const struct http_conn *conn, const struct piece *piece)
{
    return (struct store_bytes){piece->bytes == 0 ? "" : conn->in + piece->at, piece->bytes};
}

static void hand_out(struct http_conn *conn)
{
    struct http *http = conn->http;
    struct store_bytes path = bytes_of(conn, &conn->url);
    struct store_bytes query = {"", 0};
    const char *mark = memchr(path.data, '?', path.bytes);
    if (mark != NULL) {
        query.data = mark + 1;
        query.bytes = path.bytes - (size_t)(mark + 1 - path.data);
        path.bytes = (size_t)(mark - path.data);
    }
    struct http_request request = {
        .conn = conn,
        .method = method_of(conn->parser.method),
        .path = path,
        .query = query,
        .body = bytes_of(conn, &conn->body),
    };
    conn->state = IN_FLIGHT;
    wait_clear(conn);
    PROBE4(http_parse_end, conn, conn->parser.method, path.data, path.bytes);
    http->handle(http->arg, &request);
}

static void drop_consumed(struct http_conn *conn)
{
    size_t rest = conn->in_bytes - conn->fed;
    if (rest > 0) {
        memmove(conn->in, conn->in + conn->fed, rest);
    }
    conn->in_bytes = rest;
    conn->fed = 0;
    if (rest == 0 && conn->in_capacity > KEEP_BYTES_MAX) {
        free(conn->in);
        conn->in = NULL;
        conn->in_capacity = 0;
    }
}

/* Feed what has arrived until a request is whole, and hand it out; again while it is answered at
 * once. True when one was handed out. */
static bool run(struct http_conn *conn)
{
    struct http *http = conn->http;
    bool handed = false;
    while (conn->state == READING && !conn->closing && !conn->broken) {
        if (conn->complete) {
            drop_consumed(conn);
            conn->complete = false;
            conn->head_done = false;
        }
        if (conn->fed == conn->in_bytes || conn->out_bytes - conn->out_sent > KEEP_BYTES_MAX) {
            break;
        }
        size_t taken;
        enum http1_end end = http1_feed(&conn->parser, &settings, conn->in + conn->fed,
                                        conn->in_bytes - conn->fed, &taken);
        if (end == HTTP1_REFUSED || end == HTTP1_VERSION) {
            if (end == HTTP1_VERSION) {
                refuse_later(conn, 505, VERSION_REFUSED);
            }
            refuse_later(conn, 400, "malformed request"); /* unless a callback gave its reason */
            refuse(conn, conn->refusal, conn->refusal_text);
            break;
        }
        conn->fed += taken;
        if (end == HTTP1_PAUSED) {
            hand_out(conn);
            handed = true;
            continue;
        }
        if (!conn->head_done) {
            if (conn->fed > http->limits.header_bytes_max) {
                refuse(conn, 431, "request head too large");
                break;
            }
        } else if (conn->body.bytes > 0) {
            conn->in_bytes = conn->fed = conn->body.at + conn->body.bytes;
        } else if (conn->fed > http->limits.header_bytes_max + KEEP_BYTES_MAX) {
            refuse(conn, 431, "request head too large"); /* chunk extensions without end */
            break;
        }
    }
    return handed;
}

/* ---- input and output ---- */

static void set_wait(struct http_conn *conn)
{
    if (conn->fd < 0) {
        return;
    }
    if (conn->state == LINGERING) {
        wait_for(conn, WAIT_LINGER);
    } else if (conn->out_sent < conn->out_bytes) {
        wait_for(conn, WAIT_WRITE);
    } else if (conn->state == IN_FLIGHT) {
        wait_clear(conn);
    } else if (conn->in_bytes == 0 || conn->complete) {
        wait_for(conn, WAIT_IDLE);
    } else {
        wait_for(conn, conn->head_done ? WAIT_BODY : WAIT_HEAD);
    }
}

/* False: the buffer is at its limit. */
static bool in_room(struct http_conn *conn)
{
    if (conn->in_bytes < conn->in_capacity) {
        return true;
    }
    if (conn->state == IN_FLIGHT) {
        return conn->in == NULL; /* never moves under a request */
    }
    size_t limit = conn->http->limits.header_bytes_max + conn->http->limits.body_bytes_max +
                   2 * KEEP_BYTES_MAX;
    if (conn->in_capacity >= limit) {
        return false;
    }
    size_t capacity = conn->in_capacity == 0 ? IN_BYTES_FIRST : conn->in_capacity * 2;
    conn->in = must(realloc(conn->in, capacity));
    conn->in_capacity = capacity;
    return true;
}

static void conn_eof(struct http_conn *conn)
{
    conn->eof = true;
    ev_io_stop(conn->http->loop, &conn->readable);
    if (conn->state == IN_FLIGHT) {
        if (conn->http->gone != NULL) {
            conn->http->gone(conn->http->arg, conn);
        }
    } else if (conn->out_sent == conn->out_bytes && !conn->dirty) {
        conn_close(conn);
    } else {
        conn->closing = true;
        mark_dirty(conn);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct http_conn *conn = watcher->data;
    if (conn->state == LINGERING) {
        char sink[4096];
        ssize_t n = recv(conn->fd, sink, sizeof(sink), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            conn_close(conn);
        }
        return;
    }
    if (!in_room(conn)) {
        ev_io_stop(loop, watcher); /* started again behind the answer */
        return;
    }
    ssize_t n = recv(conn->fd, conn->in + conn->in_bytes, conn->in_capacity - conn->in_bytes, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            conn_close(conn);
        }
        return;
    }
    if (n == 0) {
        conn_eof(conn);
        return;
    }
    conn->in_bytes += (size_t)n;
    if (conn->state == READING) {
        run(conn);
        set_wait(conn);
    }
}

/* Send what there is. False: the connection is closed. */
static bool flush(struct http_conn *conn)
{
    struct http *http = conn->http;
    while (conn->out_sent < conn->out_bytes) {
        ssize_t n = send(conn->fd, conn->out + conn->out_sent, conn->out_bytes - conn->out_sent,
                         MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN) {
                if (!ev_is_active(&conn->writable)) {
                    ev_io_start(http->loop, &conn->writable);
                }
                return true;
            }
            conn_close(conn);
            return false;
        }
        conn->out_sent += (size_t)n;
    }
    PROBE3(response_written, conn, conn->out_bytes, conn->state == IN_FLIGHT);
    conn->out_sent = conn->out_bytes = 0;
    if (ev_is_active(&conn->writable)) {
        ev_io_stop(http->loop, &conn->writable);
    }
    if (conn->out_capacity > KEEP_BYTES_MAX && conn->state != IN_FLIGHT) {
        free(conn->out);
        conn->out = NULL;
        conn->out_capacity = 0;
    }
    if (conn->closing && conn->state == READING) {
        if (!conn->lingering_after || conn->eof) {
            conn_close(conn);
            return false;
        }
        shutdown(conn->fd, SHUT_WR);
        conn->state = LINGERING;
    }
    return true;
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    mark_dirty(watcher->data); /* http_turn_end does the rest */
}

void http_turn_begin(struct http *http, int64_t now_ns, int64_t wall_ns)
{
    http->now_ns = now_ns;
    int64_t second = wall_ns / NS_PER_SEC;
    if (second != http->wall_second) {
        http->wall_second = second;
        time_t t = (time_t)second;
        struct tm tm;
        gmtime_r(&t, &tm);
        http->date_bytes =
            strftime(http->date, sizeof(http->date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    }
}

bool http_turn_end(struct http *http)
{
    bool handed = false;
    while (http->dirty_first != NULL) {
        struct http_conn *conn = http->dirty_first;
        http->dirty_first = conn->dirty_next;
        if (http->dirty_first == NULL) {
            http->dirty_last = NULL;
        }
        conn->dirty = false;
        if (conn->fd < 0) {
            if (conn->state != IN_FLIGHT) {
                conn_free(conn);
            }
            continue;
        }
        if (!flush(conn)) {
            continue; /* back in the list when it is to be freed */
        }
        if (conn->state == READING && conn->out_bytes == 0) {
            handed = run(conn) || handed;
            if (conn->state == READING && conn->eof && !conn->closing) {
                conn->closing = true; /* the rest is not a whole request */
                mark_dirty(conn);
            } else if (!conn->eof && !ev_is_active(&conn->readable)) {
                ev_io_start(http->loop, &conn->readable);
            }
            if (http->draining && conn->state == READING && conn->in_bytes == conn->fed &&
                !conn->dirty) {
                conn_close(conn);
                continue;
            }
        }
        set_wait(conn);
    }
    return handed;
}

static void expire(struct http_conn *conn)
{
    switch (conn->wait) {
    case WAIT_HEAD:
    case WAIT_BODY:
        wait_clear(conn);
        refuse(conn, 408, "the request did not arrive in time");
        break;
    case WAIT_IDLE:
    case WAIT_WRITE:
    case WAIT_LINGER:
    case WAIT_COUNT:
    case WAIT_NONE:
        conn_close(conn);
        break;
    }
}

static void listeners_start(struct http *http)
{
    http->accept_paused = false;
    for (struct listener *l = http->listeners; l != NULL; l = l->next) {
        ev_io_start(http->loop, &l->readable);
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct http *http = watcher->data;
    http->timer_at_ns = INT64_MAX;
    int64_t next = INT64_MAX;
    for (int kind = 0; kind < WAIT_COUNT; kind++) {
        struct wait_list *list = &http->waits[kind];
        while (list->first != NULL && list->first->deadline_ns <= http->now_ns) {
            expire(list->first);
        }
        if (list->first != NULL && list->first->deadline_ns < next) {
            next = list->first->deadline_ns;
        }
    }
    if (http->accept_paused && !http->draining) {
        if (http->accept_again_ns <= http->now_ns) {
            listeners_start(http);
        } else if (http->accept_again_ns < next) {
            next = http->accept_again_ns;
        }
    }
    if (next != INT64_MAX) {
        timer_arm(http, next);
    }
}

static void accept_pause(struct http *http)
{
    for (struct listener *l = http->listeners; l != NULL; l = l->next) {
        ev_io_stop(http->loop, &l->readable);
    }
    http->accept_paused = true;
    http->accept_again_ns = http->now_ns + ACCEPT_RETRY_NS;
    timer_arm(http, http->accept_again_ns);
}

static void turn_away(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                                 "Content-Type: application/json\r\nConnection: close\r\n"
                                 "Content-Length: 32\r\n\r\n{\"error\":\"too many connections\"}";
    (void)!send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void on_accept(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct http *http = watcher->data;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                accept_pause(http);
            }
            if (errno == ECONNABORTED || errno == EINTR) {
                continue;
            }
            return;
        }
        if (http->connections >= http->limits.connections_max) {
            turn_away(fd);
            continue;
        }
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct http_conn *conn = must(calloc(1, sizeof(*conn) + http->record_bytes));
        conn->http = http;
        conn->fd = fd;
        conn->wait = WAIT_NONE;
        http1_init(&conn->parser, HTTP1_REQUEST, &settings, conn);
        ev_io_init(&conn->readable, on_readable, fd, EV_READ);
        ev_io_init(&conn->writable, on_writable, fd, EV_WRITE);
        conn->readable.data = conn;
        conn->writable.data = conn;
        conn->all_next = http->all;
        if (http->all != NULL) {
            http->all->all_prev = conn;
        }
        http->all = conn;
        http->connections++;
        ev_io_start(loop, &conn->readable);
        wait_for(conn, WAIT_IDLE);
    }
}

void http_listen(struct http *http, int fd)
{
    struct listener *listener = must(calloc(1, sizeof(*listener)));
    listener->fd = fd;
    listener->next = http->listeners;
    http->listeners = listener;
    ev_io_init(&listener->readable, on_accept, fd, EV_READ);
    listener->readable.data = http;
    ev_io_start(http->loop, &listener->readable);
}

static void close_listeners(struct http *http)
{
    while (http->listeners != NULL) {
        struct listener *next = http->listeners->next;
        ev_io_stop(http->loop, &http->listeners->readable);
        close(http->listeners->fd);
        free(http->listeners);
        http->listeners = next;
    }
}

void http_drain(struct http *http)
{
    http->draining = true;
    close_listeners(http);
    for (struct http_conn *conn = http->all; conn != NULL; conn = conn->all_next) {
        if (conn->state == READING && conn->in_bytes == conn->fed && conn->fd >= 0) {
            mark_dirty(conn); /* closed once its output is out */
        } else if (conn->state == IN_FLIGHT && http->gone != NULL) {
            http->gone(http->arg, conn); /* what waits need not */
        }
    }
}

size_t http_connections(const struct http *http)
{
    return http->connections;
}

static void set_head_limit(void)
{
    http1_limit_heads(4 * 1024 * 1024); /* ours are lower and checked by us */
}

struct http *http_new(struct ev_loop *loop, const struct http_limits *limits, size_t record_bytes,
                      http_handler_fn *handle, http_gone_fn *gone, void *arg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_head_limit);
    struct http *http = must(calloc(1, sizeof(*http)));
    http->loop = loop;
    http->limits = *limits;
    http->record_bytes = record_bytes;
    http->handle = handle;
    http->gone = gone;
    http->arg = arg;
    http->timer_at_ns = INT64_MAX;
    http->wall_second = -1;
    http->waits[WAIT_IDLE].duration_ns = limits->idle_timeout_ns;
    http->waits[WAIT_HEAD].duration_ns = limits->header_timeout_ns;
    http->waits[WAIT_BODY].duration_ns =
        limits->header_timeout_ns +
        (int64_t)(limits->body_bytes_max / BODY_BYTES_A_SECOND) * NS_PER_SEC;
    http->waits[WAIT_WRITE].duration_ns = limits->idle_timeout_ns;
    http->waits[WAIT_LINGER].duration_ns = LINGER_NS;
    ev_init(&http->timer, on_timer);
    http->timer.data = http;
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL) {
        return;
    }
    close_listeners(http);
    ev_timer_stop(http->loop, &http->timer);
    while (http->all != NULL) {
        struct http_conn *conn = http->all;
        conn_hang_up(conn);
        conn_free(conn);
    }
    free(http);
}

bool http_header_find(const struct http_conn *conn, const char *name, size_t bytes,
                      struct store_bytes *out_value)
{
    for (size_t i = 0; i < conn->header_count; i++) {
        const char *at = conn->in + conn->names[i].at;
        if (conn->names[i].bytes == bytes && (*at | 0x20) == *name &&
            strncasecmp(at, name, bytes) == 0) {
            *out_value = bytes_of(conn, &conn->values[i]);
            return true;
        }
    }
    return false;
}
