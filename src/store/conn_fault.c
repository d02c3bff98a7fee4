#include "store/conn_fault.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"

static int unix_socket(const char *path, struct sockaddr_un *out)
{
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    snprintf(out->sun_path, sizeof out->sun_path, "%s", path);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Wait for bytes, looking up from time to time whether to stop. False: stop, or closed. */
static bool readable(struct conn_fault *fault, int fd)
{
    while (!fault->stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0) {
            return true;
        }
    }
    return false;
}

static bool send_all(int fd, const char *data, size_t bytes)
{
    while (bytes != 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* The next whole RESP value of fd into raw: hiredis tells where it ends, byte by byte of what is
 * buffered in `rest`. Requests are arrays of strings, so the same reader serves both ways. */
static bool read_value(struct conn_fault *fault, int fd, struct buf *rest, struct buf *raw)
{
    redisReader *reader = redisReaderCreate();
    bool whole = false;
    buf_clear(raw);
    size_t fed = 0;
    while (!whole) {
        if (fed == rest->bytes) {
            char chunk[16384];
            ssize_t n = readable(fault, fd) ? recv(fd, chunk, sizeof chunk, 0) : 0;
            if (n <= 0) {
                break;
            }
            buf_append(rest, chunk, (size_t)n);
        }
        /* Up to the next line end, or, inside a string, all of it at once is not known here: small
         * steps find the exact end. */
        size_t step = 1;
        const char *line = memchr(rest->data + fed, '\n', rest->bytes - fed);
        if (line != NULL) {
            step = (size_t)(line - (rest->data + fed)) + 1;
        } else {
            step = rest->bytes - fed;
        }
        redisReaderFeed(reader, rest->data + fed, step);
        fed += step;
        void *reply = NULL;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            break;
        }
        if (reply != NULL) {
            freeReplyObject(reply);
            whole = true;
        }
    }
    redisReaderFree(reader);
    if (whole) {
        buf_append(raw, rest->data, fed);
        memmove(rest->data, rest->data + fed, rest->bytes - fed);
        rest->bytes -= fed;
    }
    return whole;
}

static void serve(struct conn_fault *fault, int client)
{
    struct sockaddr_un address;
    int server = unix_socket(fault->upstream, &address);
    struct buf from_client = BUF_INIT;
    struct buf from_server = BUF_INIT;
    struct buf raw = BUF_INIT;
    bool on = connect(server, (struct sockaddr *)&address, sizeof address) == 0;
    while (on && read_value(fault, client, &from_client, &raw)) {
        bool fault_now = fault->countdown > 0 && atomic_fetch_sub(&fault->countdown, 1) == 1;
        enum conn_fault_kind kind = (enum conn_fault_kind)fault->kind;
        fault->fired = fault->fired || fault_now;
        if (fault_now && kind == CONN_FAULT_BEFORE) {
            break;
        }
        on = send_all(server, raw.data, raw.bytes) && read_value(fault, server, &from_server, &raw);
        if (fault_now) {
            if (kind == CONN_FAULT_PARTIAL) {
                send_all(client, raw.data, raw.bytes / 2);
            }
            char byte;
            while (kind == CONN_FAULT_SILENT && readable(fault, client) &&
                   recv(client, &byte, 1, 0) > 0) {
            }
            break;
        }
        on = on && send_all(client, raw.data, raw.bytes);
    }
    buf_fini(&from_client);
    buf_fini(&from_server);
    buf_fini(&raw);
    close(server);
    close(client);
}

static void *run(void *arg)
{
    struct conn_fault *fault = arg;
    while (readable(fault, fault->listener)) {
        int client = accept4(fault->listener, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0) {
            serve(fault, client);
        }
    }
    return NULL;
}

void conn_fault_start(struct conn_fault *fault, const char *redis_path)
{
    memset(fault, 0, sizeof *fault);
    snprintf(fault->upstream, sizeof fault->upstream, "%s", redis_path);
    snprintf(fault->path, sizeof fault->path, "%s.fault", redis_path);
    struct sockaddr_un address;
    fault->listener = unix_socket(fault->path, &address);
    if (fault->listener < 0 ||
        bind(fault->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fault->listener, 8) != 0 || pthread_create(&fault->thread, NULL, run, fault) != 0) {
        perror("conn_fault");
        abort();
    }
}

void conn_fault_stop(struct conn_fault *fault)
{
    fault->stop = true;
    pthread_join(fault->thread, NULL);
    close(fault->listener);
    unlink(fault->path);
}

void conn_fault_arm(struct conn_fault *fault, int n, enum conn_fault_kind kind)
{
    fault->kind = (int)kind;
    fault->fired = false;
    fault->countdown = n;
}
