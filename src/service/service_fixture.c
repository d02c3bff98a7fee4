#include "service/service_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/clock.h"
#include "service/traffic.h"

/* The port that codeqd says it listens on; 0: it has not said. */
static unsigned port_of_log(struct service_fixture *f)
{
    unsigned port = 0;
    char *log = codeqd_log(f);
    const char *at = strstr(log, "listening address=127.0.0.1:");
    if (at != NULL) {
        sscanf(at, "listening address=127.0.0.1:%u", &port);
    }
    free(log);
    return port;
}

void codeqd_start(struct service_fixture *f, const char *const *arguments)
{
    const char *program = getenv("CODEQD");
    assert_non_null(program);
    traffic_start();
    f->token = "dev-token";
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", f->port);
    snprintf(f->redis_url, sizeof(f->redis_url), "unix:%s", f->redis.socket_path);
    const char *argv[SERVICE_ARGS_MAX + 8] = {program, "--listen", f->address, "--redis",
                                              f->redis_url};
    size_t n = 5;
    for (size_t i = 0; arguments != NULL && arguments[i] != NULL; i++) {
        assert_true(n < SERVICE_ARGS_MAX);
        argv[n++] = arguments[i];
    }
    f->log_fd = memfd_create("codeqd-log", 0);
    assert_true(f->log_fd >= 0);
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = f->log_fd, .cpu = -1};
    struct err err;
    if (child_start(&f->codeqd, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    int64_t deadline = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    unsigned port;
    while ((port = port_of_log(f)) == 0) {
        int64_t now = clock_monotonic_ns(clock_system());
        if (child_wait(&f->codeqd, now + 5 * NS_PER_MS) == 0 || now > deadline) {
            char *log = codeqd_log(f);
            fail_msg("codeqd does not listen: %s", log);
        }
    }
    f->port = port; /* it stays when codeqd is started again */
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", f->port);
}

int codeqd_stop(struct service_fixture *f)
{
    child_stop(&f->codeqd, 15 * NS_PER_SEC);
    close(f->log_fd);
    return child_exit_code(&f->codeqd);
}

char *codeqd_log(struct service_fixture *f)
{
    off_t bytes = lseek(f->log_fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)bytes + 1);
    assert_non_null(text);
    assert_int_equal(pread(f->log_fd, text, (size_t)bytes, 0), bytes);
    return text;
}

void service_start(struct service_fixture *f, const char *const *arguments)
{
    memset(f, 0, sizeof(*f));
    f->redis_options = (struct redis_server_options){.cpu = -1};
    struct err err;
    if (redis_server_start(&f->redis, &f->redis_options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    codeqd_start(f, arguments);
}

void service_stop(struct service_fixture *f)
{
    if (f->codeqd.pid != 0) {
        codeqd_stop(f);
    }
    redis_server_stop(&f->redis);
}

char *redis_say(struct service_fixture *f, const char *command)
{
    char *text = NULL;
    struct err err = {""};
    if (redis_server_ask(f->redis.socket_path, command, &text, &err) != 0) {
        fail_msg("%s: %s", command, err.text);
    }
    return text;
}

/* ---- HTTP ---- */

int http_connect(struct service_fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = SERVICE_DEADLINE_NS / NS_PER_SEC};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    traffic_connected(fd);
    return fd;
}

void http_send(int fd, const char *data, size_t bytes)
{
    traffic_sent(fd, data, bytes);
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* refused early: the answer says why */
        }
        data += n;
        bytes -= (size_t)n;
    }
}

static bool read_exact(int fd, char *out, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = recv(fd, out, bytes, 0);
        if (n <= 0) {
            return false;
        }
        out += n;
        bytes -= (size_t)n;
    }
    return true;
}

struct answer http_read(int fd, bool no_body)
{
    struct answer answer = {0};
    char head[8192];
    size_t n = 0;
    while (n < sizeof(head) - 1) {
        if (recv(fd, head + n, 1, 0) != 1) {
            if (n > 0) {
                fail_msg("an answer broke off in its head");
            }
            return answer;
        }
        n++;
        if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0) {
            break;
        }
    }
    head[n] = '\0';
    assert_int_equal(sscanf(head, "HTTP/1.1 %d", &answer.status), 1);
    answer.head = strdup(head);
    char length[32];
    size_t bytes = 0;
    if (!no_body && answer_header(&answer, "Content-Length", length, sizeof(length))) {
        bytes = strtoul(length, NULL, 10);
    }
    answer.body = calloc(1, bytes + 1);
    answer.body_bytes = bytes;
    if (!read_exact(fd, answer.body, bytes)) {
        fail_msg("an answer broke off in its body");
    }
    answer.json = bytes == 0 ? NULL : json_parse(answer.body, bytes, NULL);
    traffic_answered(fd, answer.status, answer.head, answer.json);
    return answer;
}

void answer_free(struct answer *answer)
{
    free(answer->head);
    free(answer->body);
    json_free(answer->json);
    memset(answer, 0, sizeof(*answer));
}

bool answer_header(const struct answer *answer, const char *name, char *out, size_t bytes)
{
    size_t name_bytes = strlen(name);
    const char *p = answer->head == NULL ? NULL : strstr(answer->head, "\r\n");
    while (p != NULL && p[2] != '\r') {
        p += 2;
        const char *end = strstr(p, "\r\n");
        if (strncasecmp(p, name, name_bytes) == 0 && p[name_bytes] == ':') {
            p += name_bytes + 1;
            while (*p == ' ') {
                p++;
            }
            size_t n = (size_t)(end - p) < bytes - 1 ? (size_t)(end - p) : bytes - 1;
            memcpy(out, p, n);
            out[n] = '\0';
            return true;
        }
        p = end;
    }
    return false;
}

int http_begin(struct service_fixture *f, const char *method, const char *path, const char *extra,
               const char *body)
{
    int fd = http_connect(f);
    size_t body_bytes = body == NULL ? 0 : strlen(body);
    size_t room = body_bytes + strlen(path) + (extra == NULL ? 0 : strlen(extra)) +
                  (f->token == NULL ? 0 : strlen(f->token)) + 512;
    char *text = malloc(room);
    assert_non_null(text);
    int n = snprintf(text, room, "%s %s HTTP/1.1\r\nHost: codeqd\r\n%s", method, path,
                     extra == NULL ? "" : extra);
    if (f->token != NULL) {
        n += snprintf(text + n, room - (size_t)n, "Authorization: Bearer %s\r\n", f->token);
    }
    if (body != NULL) {
        n += snprintf(text + n, room - (size_t)n, "Content-Length: %zu\r\n", body_bytes);
    }
    n += snprintf(text + n, room - (size_t)n, "\r\n%s", body == NULL ? "" : body);
    http_send(fd, text, (size_t)n);
    free(text);
    return fd;
}

struct answer http_do(struct service_fixture *f, const char *method, const char *path,
                      const char *extra, const char *body)
{
    int fd = http_begin(f, method, path, extra, body);
    struct answer answer = http_read(fd, strcmp(method, "HEAD") == 0);
    close(fd);
    return answer;
}

struct answer http_post(struct service_fixture *f, const char *path, const char *body)
{
    return http_do(f, "POST", path, NULL, body);
}

struct answer http_get(struct service_fixture *f, const char *path)
{
    return http_do(f, "GET", path, NULL, NULL);
}

void expect(struct answer *answer, int status, const char *error)
{
    if (answer->status != status ||
        (error != NULL &&
         strcmp(json_string(json_get(answer->json, "error"), "(none)"), error) != 0)) {
        fail_msg("answered %d %s, expected %d %s", answer->status,
                 answer->body == NULL ? "" : answer->body, status, error == NULL ? "" : error);
    }
}

/* ---- tasks ---- */

static void keep(char *out, size_t bytes, const char *text)
{
    assert_true(strlen(text) < bytes);
    strcpy(out, text);
}

struct claimed_task claim(struct service_fixture *f, const char *command, int lease_seconds,
                          int wait_seconds)
{
    struct claimed_task task = {0};
    char body[256];
    snprintf(body, sizeof(body), "{\"commands\":[\"%s\"],\"leaseSeconds\":%d,\"waitSeconds\":%d}",
             command, lease_seconds, wait_seconds);
    struct answer answer = http_post(f, "/v1/codeq/tasks/claim", body);
    if (answer.status != 204) {
        expect(&answer, 200, NULL);
        keep(task.id, sizeof(task.id), json_string(json_get(answer.json, "id"), ""));
        keep(task.token, sizeof(task.token),
             json_string(json_get(answer.json, "deliveryToken"), ""));
        keep(task.payload, sizeof(task.payload), json_string(json_get(answer.json, "payload"), ""));
        task.attempts = json_int(json_get(answer.json, "attempts"), 0);
        task.priority = json_int(json_get(answer.json, "priority"), 0);
        assert_int_equal(strlen(task.id), 36);
    }
    answer_free(&answer);
    return task;
}

void create(struct service_fixture *f, const char *command, const char *members, char id[40])
{
    char body[1024];
    snprintf(body, sizeof(body), "{\"command\":\"%s\",%s}", command, members);
    struct answer answer = http_post(f, "/v1/codeq/tasks", body);
    expect(&answer, 202, NULL);
    if (id != NULL) {
        keep(id, 40, json_string(json_get(answer.json, "id"), ""));
    }
    answer_free(&answer);
}

int64_t count(struct service_fixture *f, const char *command, const char *which)
{
    char path[256];
    snprintf(path, sizeof(path), "/v1/codeq/admin/queues/%s", command);
    struct answer answer = http_get(f, path);
    expect(&answer, 200, NULL);
    int64_t n = json_int(json_get(answer.json, which), -1);
    answer_free(&answer);
    return n;
}

void await_count(struct service_fixture *f, const char *command, const char *which, int64_t n)
{
    int64_t deadline = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    int64_t found;
    while ((found = count(f, command, which)) != n) {
        if (clock_monotonic_ns(clock_system()) > deadline) {
            fail_msg("%s of %s stays at %lld, not %lld", which, command, (long long)found,
                     (long long)n);
        }
        poll(NULL, 0, 5);
    }
}
