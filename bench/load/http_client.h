/* One keep-alive HTTP/1.1 connection of the load generator: a request out, its response in.
 *
 * Non-blocking; the caller owns the event loop and registers http_conn's fd edge-triggered for
 * reading and writing once. Buffers are allocated by http_conn_init and only a response body larger
 * than any before grows one: no allocation per request. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/http1.h"

#define HTTP_REQUEST_BYTES_MAX (2 * 1024 * 1024)
#define HTTP_RESPONSE_BYTES_MAX (16 * 1024 * 1024)
#define HTTP_HOST_BYTES_MAX 256

struct http_target {
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char host[HTTP_HOST_BYTES_MAX]; /* for the Host header */
};

/* "http://host:port" or "unix:/path". 0, or negative errno with text. Resolves names, blocking. */
int http_target_parse(struct http_target *target, const char *url, struct err *err);

enum http_conn_state { HTTP_CLOSED, HTTP_IDLE, HTTP_BUSY };

struct http_conn {
    int fd; /* -1 when closed */
    enum http_conn_state state;
    http1_parser parser;
    char *out; /* the request being sent */
    size_t out_bytes;
    size_t out_sent;
    size_t out_capacity;
    char *body; /* of the response, NUL-terminated; valid until the next send */
    size_t body_bytes;
    size_t body_capacity;
    int status; /* of the last whole response */
    bool whole;
    bool keep_alive;
    bool stamp; /* set before it is opened: have the kernel say when an answer came in */
    int64_t stamp_wall_ns; /* of the last bytes read; 0: the kernel did not say (not TCP) */
};

void http_conn_init(struct http_conn *conn, size_t request_bytes);
void http_conn_fini(struct http_conn *conn); /* closes too */

/* Begin to connect. 0 (connected or on its way), or negative errno. The connection is idle at once:
 * a request may be sent before the handshake is over and leaves when it is. */
int http_conn_open(struct http_conn *conn, const struct http_target *target);
void http_conn_close(struct http_conn *conn);

/* Room for a request of at most bytes at conn->out; grows it when needed. -EMSGSIZE above
 * HTTP_REQUEST_BYTES_MAX. */
int http_conn_reserve(struct http_conn *conn, size_t bytes);

/* Send the first `bytes` bytes of conn->out. 0, or negative errno: the connection is unusable. */
int http_conn_send(struct http_conn *conn, size_t bytes);

/* Continue after an event. 1: a whole response is in status and body and the connection is idle (or
 * closed, when the peer said so). 0: not yet. Negative errno: broken (-EPROTO: not HTTP; -EPIPE:
 * the peer closed in the middle); the caller closes it. */
int http_conn_on_event(struct http_conn *conn, bool readable, bool writable);

/* Send the request in conn->out and wait, blocking, until deadline_ns (monotonic). The status, or
 * negative errno. For set-up and checks, not for load. */
int http_conn_call(struct http_conn *conn, size_t bytes, int64_t deadline_ns);
