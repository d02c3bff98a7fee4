#include "load/http_client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define READ_BYTES 65536

int http_target_parse(struct http_target *target, const char *url, struct err *err)
{
    *target = (struct http_target){0};
    if (strncmp(url, "unix:", 5) == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)&target->address;
        if (strlen(url + 5) >= sizeof un->sun_path || url[5] == '\0') {
            return err_set(err, -EINVAL, "'%s': a socket path has 1 to %zu bytes", url,
                           sizeof un->sun_path - 1);
        }
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, url + 5);
        target->address_bytes = sizeof *un;
        strcpy(target->host, "localhost");
        return 0;
    }
    char host[HTTP_HOST_BYTES_MAX];
    char port[16] = "80";
    if (strncmp(url, "http://", 7) != 0) {
        return err_set(err, -EINVAL, "'%s': write it like http://host:port or unix:/path", url);
    }
    const char *p = url + 7;
    size_t bytes = strcspn(p, "/");
    if (bytes == 0 || bytes >= sizeof host - 1 || (p[bytes] == '/' && p[bytes + 1] != '\0')) {
        return err_set(err, -EINVAL, "'%s': write it like http://host:port", url);
    }
    memcpy(host, p, bytes);
    host[bytes] = '\0';
    strcpy(target->host, host);
    char *name = host;
    char *colon = strrchr(host, ':');
    if (host[0] == '[') {
        char *end = strchr(host, ']');
        if (end == NULL) {
            return err_set(err, -EINVAL, "'%s': no ] behind the address", url);
        }
        *end = '\0';
        name = host + 1;
        colon = end[1] == ':' ? end + 1 : NULL;
    }
    if (colon != NULL) {
        *colon = '\0';
        if (strlen(colon + 1) >= sizeof port) {
            return err_set(err, -EINVAL, "'%s': not a port", url);
        }
        strcpy(port, colon + 1);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(name, port, &hints, &found);
    if (code != 0) {
        return err_set(err, -EHOSTUNREACH, "'%s': %s", url, gai_strerror(code));
    }
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static char *grow(char *data, size_t *capacity, size_t need)
{
    if (need <= *capacity) {
        return data;
    }
    size_t bytes = *capacity != 0 ? *capacity : 1024;
    while (bytes < need) {
        bytes *= 2;
    }
    data = realloc(data, bytes);
    if (data == NULL) {
        abort();
    }
    *capacity = bytes;
    return data;
}

static int on_message_begin(http1_parser *parser)
{
    struct http_conn *conn = parser->data;
    conn->body_bytes = 0;
    return 0;
}

static int on_body(http1_parser *parser, const char *data, size_t bytes)
{
    struct http_conn *conn = parser->data;
    if (conn->body_bytes + bytes > HTTP_RESPONSE_BYTES_MAX) {
        return -1;
    }
    conn->body = grow(conn->body, &conn->body_capacity, conn->body_bytes + bytes + 1);
    memcpy(conn->body + conn->body_bytes, data, bytes);
    conn->body_bytes += bytes;
    return 0;
}

static int on_message_complete(http1_parser *parser)
{
    struct http_conn *conn = parser->data;
    conn->body[conn->body_bytes] = '\0';
    if (parser->status_code >= 200) { /* a 1xx is not the answer */
        conn->status = parser->status_code;
        conn->whole = true;
        conn->keep_alive = http1_keep_alive(parser);
        return http1_pause(parser);
    }
    return 0;
}

static const http1_settings parser_settings = {
    .on_message_begin = on_message_begin,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void http_conn_init(struct http_conn *conn, size_t request_bytes)
{
    *conn = (struct http_conn){.fd = -1};
    conn->out = grow(NULL, &conn->out_capacity, request_bytes);
    conn->body = grow(NULL, &conn->body_capacity, 1024);
    conn->body[0] = '\0';
}

void http_conn_fini(struct http_conn *conn)
{
    http_conn_close(conn);
    free(conn->out);
    free(conn->body);
    conn->out = NULL;
    conn->body = NULL;
}

int http_conn_open(struct http_conn *conn, const struct http_target *target)
{
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (target->address.ss_family != AF_UNIX) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (conn->stamp) {
            setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        }
    }
    if (connect(fd, (const struct sockaddr *)&target->address, target->address_bytes) != 0 &&
        errno != EINPROGRESS) {
        int code = -errno;
        close(fd);
        return code;
    }
    conn->fd = fd;
    conn->state = HTTP_IDLE;
    conn->out_bytes = 0;
    conn->out_sent = 0;
    return 0;
}

void http_conn_close(struct http_conn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    conn->fd = -1;
    conn->state = HTTP_CLOSED;
}

int http_conn_reserve(struct http_conn *conn, size_t bytes)
{
    if (bytes > HTTP_REQUEST_BYTES_MAX) {
        return -EMSGSIZE;
    }
    conn->out = grow(conn->out, &conn->out_capacity, bytes);
    return 0;
}

static int push(struct http_conn *conn)
{
    while (conn->out_sent < conn->out_bytes) {
        ssize_t n = send(conn->fd, conn->out + conn->out_sent, conn->out_bytes - conn->out_sent,
                         MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            /* ENOTCONN: the handshake is under way; the writable event comes when it is over. */
            return errno == EAGAIN || errno == ENOTCONN ? 0 : -errno;
        }
        conn->out_sent += (size_t)n;
    }
    return 0;
}

int http_conn_send(struct http_conn *conn, size_t bytes)
{
    conn->out_bytes = bytes;
    conn->out_sent = 0;
    conn->state = HTTP_BUSY;
    conn->whole = false;
    conn->body_bytes = 0;
    http1_init(&conn->parser, HTTP1_RESPONSE, &parser_settings, conn);
    return push(conn);
}

static int finish(struct http_conn *conn)
{
    conn->state = HTTP_IDLE;
    if (!conn->keep_alive) {
        http_conn_close(conn);
    }
    return 1;
}

/* recv, and when the kernel took the last of these bytes in. */
static ssize_t receive(struct http_conn *conn, char *chunk, size_t bytes)
{
    if (!conn->stamp) {
        return recv(conn->fd, chunk, bytes, 0);
    }
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr align;
    } control;
    struct iovec into = {chunk, bytes};
    struct msghdr message = {.msg_iov = &into,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(conn->fd, &message, 0);
    conn->stamp_wall_ns = 0;
    struct cmsghdr *said = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (said != NULL && said->cmsg_level == SOL_SOCKET && said->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec at;
        memcpy(&at, CMSG_DATA(said), sizeof at);
        conn->stamp_wall_ns = at.tv_sec * NS_PER_SEC + at.tv_nsec;
    }
    return n;
}

static int pull(struct http_conn *conn)
{
    char chunk[READ_BYTES];
    for (;;) {
        ssize_t n = receive(conn, chunk, sizeof chunk);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 0 : -errno;
        }
        if (conn->state != HTTP_BUSY) {
            /* Idle: the peer closed, or spoke out of turn. */
            return n == 0 ? -EPIPE : -EPROTO;
        }
        size_t taken;
        enum http1_end end = http1_feed(&conn->parser, &parser_settings, chunk, (size_t)n, &taken);
        if (conn->whole) { /* an answer that ends with the connection is whole at n == 0 */
            return taken == (size_t)n ? finish(conn) : -EPROTO;
        }
        if (end != HTTP1_MORE) {
            return -EPROTO;
        }
        if (n == 0) {
            return -EPIPE;
        }
        if ((size_t)n < sizeof chunk) {
            return 0; /* edge-triggered: more bytes raise a new event */
        }
    }
}

int http_conn_on_event(struct http_conn *conn, bool readable, bool writable)
{
    if (writable && conn->state == HTTP_BUSY && conn->out_sent < conn->out_bytes) {
        int code = push(conn);
        if (code != 0) {
            return code;
        }
    }
    return readable ? pull(conn) : 0;
}

int http_conn_call(struct http_conn *conn, size_t bytes, int64_t deadline_ns)
{
    int code = http_conn_send(conn, bytes);
    while (code == 0) {
        int64_t left_ns = deadline_ns - clock_monotonic_ns(clock_system());
        if (left_ns <= 0) {
            return -ETIMEDOUT;
        }
        bool unsent = conn->out_sent < conn->out_bytes;
        struct pollfd p = {conn->fd, (short)(POLLIN | (unsent ? POLLOUT : 0)), 0};
        int n = poll(&p, 1, (int)(left_ns / NS_PER_MS) + 1);
        if (n < 0) {
            return -errno;
        }
        if (n > 0) {
            code =
                http_conn_on_event(conn, (p.revents & ~POLLOUT) != 0, (p.revents & POLLOUT) != 0);
        }
    }
    return code == 1 ? conn->status : code;
}
