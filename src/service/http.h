/* HTTP/1.1 over an event loop: the one door to the HTTP parser.
 *
 * Takes connections, bounds everything that arrives (head, target, body, time), hands out whole
 * requests in order, one at a time for each connection, and sends what was answered, once a turn
 * for each connection. What it refuses itself it answers itself: 400, 408, 413, 414, 417, 431, 503,
 * 505.
 *
 * One struct http belongs to one loop and one thread. Buffers belong to the connection and are used
 * again; nothing is allocated for a request once they have grown. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "store/store.h"

#define HTTP_HEADERS_MAX 64 /* lines; past it 431 */

struct ev_loop;
struct http;
struct http_conn;

enum http_verb {
    HTTP_METHOD_GET,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_OTHER
};

/* Valid until the answer. */
struct http_request {
    struct http_conn *conn;
    enum http_verb method;
    struct store_bytes path; /* as sent, up to '?' */
    struct store_bytes query; /* as sent, behind '?' */
    struct store_bytes body;
};

struct http_limits {
    size_t body_bytes_max;
    size_t header_bytes_max;
    size_t url_bytes_max;
    size_t connections_max;
    int64_t header_timeout_ns; /* a request's head, from its first byte; its body gets as much again
                                  and a second for each 64 KiB of body_bytes_max */
    int64_t idle_timeout_ns; /* no request begun, or nothing taken of an answer */
};

/* A whole request has arrived. It stays in flight until http_answer_end. Never called from inside
 * the answer to another. */
typedef void http_handler_fn(void *arg, struct http_request *request);
/* The client of the request in flight on conn has closed its side, or the server drains: do not
 * wait for anything that may take long. May come more than once. Optional. */
typedef void http_gone_fn(void *arg, struct http_conn *conn);

/* record_bytes: the owner's record beside each connection, zeroed once. */
struct http *http_new(struct ev_loop *loop, const struct http_limits *limits, size_t record_bytes,
                      http_handler_fn *handle, http_gone_fn *gone, void *arg);
void http_free(struct http *http); /* closes every connection */

/* Take connections from this listening socket (non-blocking; closed by http_free). */
void http_listen(struct http *http, int fd);

/* No new connections; idle ones are closed, the others after their answer. */
void http_drain(struct http *http);

size_t http_connections(const struct http *http);

/* Before a turn's events: now, monotonic and since the Unix epoch. */
void http_turn_begin(struct http *http, int64_t now_ns, int64_t wall_ns);

/* Send what was answered in this turn, and hand out requests that waited behind it. true when a
 * request was handed out, so that there may be more to do. */
bool http_turn_end(struct http *http);

/* ---- the connection of a request in flight ---- */

void *http_record(struct http_conn *conn);
void *http_alloc(struct http_conn *conn, size_t bytes); /* until the answer; 16-aligned */

/* The connection is broken: the answer goes nowhere. */
bool http_is_gone(const struct http_conn *conn);
/* The client has closed its side at least; it may or may not read on. */
bool http_is_half_closed(const struct http_conn *conn);

/* Begin an answer: room for the head and bytes_max of body. head: header lines, each ended by CRLF,
 * without Content-Length and Connection. The body is written to the returned address;
 * http_answer_end takes its end, and with it the request is over. */
char *http_answer_begin(struct http_conn *conn, int status, const char *head, size_t head_bytes,
                        size_t bytes_max);
void http_answer_end(struct http_conn *conn, char *end);

/* Header by name (lower case) in any case: its value, valid until the answer. False: absent. */
bool http_header_find(const struct http_conn *conn, const char *name, size_t bytes,
                      struct store_bytes *out_value);
static inline bool http_header(const struct http_request *request, const char *name,
                               struct store_bytes *out_value)
{
    /* The length of a literal is known while compiling. */
    return http_header_find(request->conn, name, strlen(name), out_value);
}
