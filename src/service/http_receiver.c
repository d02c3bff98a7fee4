#include "service/http_receiver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/buf.h"
#include "base/clock.h"

#define REQUEST_BYTES_MAX (4 << 20)

struct receiver {
    int fd;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool stop;
    bool hold;
    int status;
    int status_left;
    char header[128];
    char *body;
    size_t count;
    struct received requests[RECEIVER_REQUESTS_MAX];
};

struct visit {
    struct receiver *receiver;
    int fd;
};

static void must(bool ok)
{
    if (!ok) {
        perror("http_receiver");
        abort();
    }
}

/* Head and body of one request; false when the client went away. */
static bool read_request(int fd, struct buf *text, size_t *out_head)
{
    char chunk[65536];
    size_t head = 0;
    size_t length = 0;
    while (head == 0 || text->bytes < head + length) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0 || text->bytes > REQUEST_BYTES_MAX) {
            return false;
        }
        buf_append(text, chunk, (size_t)n);
        char *end = head == 0 ? strstr(text->data, "\r\n\r\n") : NULL;
        if (end != NULL) {
            head = (size_t)(end + 4 - text->data);
            const char *field = strcasestr(text->data, "\r\ncontent-length:");
            length = field != NULL && field < end ? strtoul(field + 17, NULL, 10) : 0;
        }
    }
    *out_head = head;
    return true;
}

static void answer(struct receiver *r, int fd, struct buf *text, size_t head)
{
    pthread_mutex_lock(&r->lock);
    if (r->count < RECEIVER_REQUESTS_MAX) {
        r->requests[r->count].at_ns = clock_monotonic_ns(clock_system());
        r->requests[r->count].body = strdup(text->data + head);
        text->data[head - 2] = '\0';
        r->requests[r->count].head = strdup(text->data);
        r->count++;
    }
    int status = 204;
    const char *header = "";
    if (r->status_left > 0) {
        r->status_left--;
        status = r->status;
        header = r->header;
    }
    while (r->hold && !r->stop) {
        pthread_cond_wait(&r->change, &r->lock);
    }
    struct buf out = BUF_INIT;
    const char *body = status == 200 && r->body != NULL ? r->body : "";
    buf_printf(&out, "HTTP/1.1 %d X\r\n%sConnection: close\r\n", status, header);
    if (status != 204) {
        buf_printf(&out, "Content-Length: %zu\r\n", strlen(body));
    }
    buf_printf(&out, "\r\n%s", body);
    bool silent = status == 0 || r->stop;
    pthread_mutex_unlock(&r->lock);
    if (!silent) {
        (void)!send(fd, out.data, out.bytes, MSG_NOSIGNAL);
    }
    buf_fini(&out);
}

static void *serve_one(void *arg)
{
    struct visit *visit = arg;
    struct buf text = BUF_INIT;
    size_t head = 0;
    if (read_request(visit->fd, &text, &head)) {
        answer(visit->receiver, visit->fd, &text, head);
    }
    buf_fini(&text);
    close(visit->fd);
    free(visit);
    return NULL;
}

static void *serve(void *arg)
{
    struct receiver *r = arg;
    pthread_t visits[RECEIVER_REQUESTS_MAX];
    size_t count = 0;
    while (count < RECEIVER_REQUESTS_MAX) {
        int fd = accept(r->fd, NULL, NULL);
        if (fd < 0) {
            break;
        }
        struct visit *visit = malloc(sizeof *visit);
        must(visit != NULL);
        *visit = (struct visit){r, fd};
        must(pthread_create(&visits[count++], NULL, serve_one, visit) == 0);
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(visits[i], NULL);
    }
    return NULL;
}

struct receiver *receiver_start(void)
{
    struct receiver *r = calloc(1, sizeof *r);
    must(r != NULL);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof in;
    must(r->fd >= 0 && bind(r->fd, (struct sockaddr *)&in, sizeof in) == 0 &&
         listen(r->fd, 128) == 0 && getsockname(r->fd, (struct sockaddr *)&in, &bytes) == 0);
    r->port = ntohs(in.sin_port);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->change, NULL);
    must(pthread_create(&r->thread, NULL, serve, r) == 0);
    return r;
}

void receiver_stop(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    shutdown(r->fd, SHUT_RDWR);
    pthread_join(r->thread, NULL);
    close(r->fd);
    for (size_t i = 0; i < r->count; i++) {
        free(r->requests[i].head);
        free(r->requests[i].body);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->change);
    free(r->body);
    free(r);
}

unsigned receiver_port(const struct receiver *r)
{
    return r->port;
}

void receiver_answer(struct receiver *r, int status, int count, const char *header)
{
    pthread_mutex_lock(&r->lock);
    r->status = status;
    r->status_left = count;
    snprintf(r->header, sizeof r->header, "%s", header);
    pthread_mutex_unlock(&r->lock);
}

void receiver_hold(struct receiver *r, bool hold)
{
    pthread_mutex_lock(&r->lock);
    r->hold = hold;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
}

void receiver_body(struct receiver *r, const char *body)
{
    pthread_mutex_lock(&r->lock);
    free(r->body);
    r->body = strdup(body);
    pthread_mutex_unlock(&r->lock);
}

size_t receiver_count(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    size_t count = r->count;
    pthread_mutex_unlock(&r->lock);
    return count;
}

struct received receiver_get(struct receiver *r, size_t n)
{
    pthread_mutex_lock(&r->lock);
    must(n < r->count);
    struct received received = r->requests[n];
    pthread_mutex_unlock(&r->lock);
    return received;
}

void receiver_header(struct receiver *r, size_t n, const char *name, char *out, size_t bytes)
{
    struct received received = receiver_get(r, n);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "\r\n%s: ", name);
    const char *at = strcasestr(received.head, pattern);
    out[0] = '\0';
    if (at != NULL) {
        at += strlen(pattern);
        snprintf(out, bytes, "%.*s", (int)strcspn(at, "\r\n"), at);
    }
}
