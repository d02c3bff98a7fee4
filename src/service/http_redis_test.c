/* codeqd as an HTTP server, over raw sockets: limits, broken and slow clients, pipelining, drain,
 * and what clients see when Redis is gone. */
#include "service/service_fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

static struct service_fixture f;

#define AUTH "Authorization: Bearer dev-token\r\n"
#define CREATE "{\"command\":\"HTTP\",\"payload\":1}"

static int start(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--header-timeout",
                                            "300ms",
                                            "--idle-timeout",
                                            "2s",
                                            "--body-max",
                                            "64KiB",
                                            "--redis-command-timeout",
                                            "1s",
                                            "--url-max",
                                            "1KiB",
                                            "--header-max",
                                            "4KiB",
                                            NULL};
    service_start(&f, arguments);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(codeqd_stop(&f), 0);
    service_stop(&f);
    return 0;
}

static int64_t now(void)
{
    return clock_monotonic_ns(clock_system());
}

static void send_text(int fd, const char *text)
{
    http_send(fd, text, strlen(text));
}

/* Send it all on a new connection; the first answer, and whether codeqd then closed. */
static struct answer exchange(const char *text, size_t bytes, bool *out_closed)
{
    int fd = http_connect(&f);
    http_send(fd, text, bytes);
    struct answer answer = http_read(fd, false);
    char byte;
    *out_closed = recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
    if (!*out_closed) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        *out_closed = poll(&readable, 1, 200) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
    }
    close(fd);
    return answer;
}

static void refused(const char *text, int status)
{
    bool closed = false;
    struct answer a = exchange(text, strlen(text), &closed);
    if (a.status != status) {
        fail_msg("answered %d, expected %d to: %.60s", a.status, status, text);
    }
    assert_true(closed);
    assert_non_null(json_get(a.json, "error"));
    answer_free(&a);
}

static void malformed_requests_are_refused_and_closed(void **state)
{
    (void)state;
    refused("nonsense\r\n\r\n", 400);
    refused("GET /healthz HTTP/1.1\r\n\r\n", 400); /* no Host */
    refused("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    refused("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    refused("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405);
    refused("GET /healthz HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400); /* folded */
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            "Content-Length: 6\r\n\r\n",
            400);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nExpect: the-worst\r\n"
            "Content-Length: 1\r\n\r\n",
            417);
}

static void each_limit_has_its_status(void **state)
{
    (void)state;
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
            413);
    static char text[200000];
    int n = sprintf(text, "GET /");
    memset(text + n, 'a', 1100);
    strcpy(text + n + 1100, " HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(text, 414);
    n = sprintf(text, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ");
    memset(text + n, 'a', 100000);
    strcpy(text + n + 100000, "\r\n\r\n");
    refused(text, 431);
    n = sprintf(text, "GET /healthz HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 70; i++) {
        n += sprintf(text + n, "A%d: 1\r\n", i);
    }
    strcpy(text + n, "\r\n");
    refused(text, 431);
    n = sprintf(text, "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 70; i++) {
        n += sprintf(text + n, "400\r\n");
        memset(text + n, ' ', 1024);
        n += 1024;
        n += sprintf(text + n, "\r\n");
    }
    refused(text, 413);
}

static void body_of_the_largest_size_passes(void **state)
{
    (void)state;
    size_t bytes = 65536;
    char *text = malloc(bytes + 512);
    int n = sprintf(
        text, "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n" AUTH "Content-Length: %zu\r\n\r\n",
        bytes);
    char *body = text + n;
    memset(body, 'x', bytes);
    memcpy(body, "{\"command\":\"BIG\",\"payload\":\"", 28);
    memcpy(body + bytes - 2, "\"}", 2);
    bool closed = true;
    struct answer a = exchange(text, (size_t)n + bytes, &closed);
    expect(&a, 202, NULL);
    assert_false(closed);
    assert_int_equal(strlen(json_string(json_get(a.json, "payload"), "")), bytes - 28 - 2 + 2);
    answer_free(&a);
    free(text);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { REQUESTS = 300 };
    char *text = malloc(REQUESTS * 256);
    size_t n = 0;
    for (int i = 0; i < REQUESTS; i++) {
        /* Those answered at once stand between those that ask Redis. */
        if (i % 3 == 0) {
            n += (size_t)sprintf(
                text + n, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Request-Id: r%d\r\n\r\n", i);
        } else {
            n += (size_t)sprintf(text + n,
                                 "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n" AUTH
                                 "X-Request-Id: r%d\r\nContent-Length: %zu\r\n\r\n" CREATE,
                                 i, strlen(CREATE));
        }
    }
    int fd = http_connect(&f);
    http_send(fd, text, n);
    for (int i = 0; i < REQUESTS; i++) {
        struct answer a = http_read(fd, false);
        char id[64];
        char expected[64];
        snprintf(expected, sizeof(expected), "r%d", i);
        expect(&a, i % 3 == 0 ? 200 : 202, NULL);
        assert_true(answer_header(&a, "X-Request-Id", id, sizeof(id)));
        assert_string_equal(id, expected);
        answer_free(&a);
    }
    close(fd);
    free(text);
}

static void request_may_arrive_byte_by_byte(void **state)
{
    (void)state;
    char text[512];
    int n = sprintf(text,
                    "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n" AUTH
                    "Content-Length: %zu\r\n\r\n" CREATE,
                    strlen(CREATE));
    int fd = http_connect(&f);
    for (int i = 0; i < n; i++) {
        http_send(fd, text + i, 1);
    }
    struct answer a = http_read(fd, false);
    expect(&a, 202, NULL);
    answer_free(&a);
    close(fd);
}

static void chunked_bodies_are_put_together_and_the_next_request_is_found(void **state)
{
    (void)state;
    int fd = http_connect(&f);
    send_text(fd, "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n" AUTH
                  "Transfer-Encoding: chunked\r\n\r\n"
                  "5;x=y\r\n{\"com\r\n11\r\nmand\":\"CHUNK\",\"pa\r\n7\r\nyload\":\r\n2\r\n1}\r\n"
                  "0\r\nTrailer: t\r\n\r\n"
                  "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    struct answer a = http_read(fd, false);
    expect(&a, 202, NULL);
    assert_string_equal(json_string(json_get(a.json, "command"), ""), "CHUNK");
    answer_free(&a);
    a = http_read(fd, false);
    expect(&a, 200, NULL);
    answer_free(&a);
    close(fd);
}

static void continue_is_said_before_the_body_comes(void **state)
{
    (void)state;
    char text[512];
    int fd = http_connect(&f);
    sprintf(text,
            "POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\n" AUTH
            "Expect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
            strlen(CREATE));
    send_text(fd, text);
    struct answer a = http_read(fd, true);
    assert_int_equal(a.status, 100);
    answer_free(&a);
    send_text(fd, CREATE);
    a = http_read(fd, false);
    expect(&a, 202, NULL);
    answer_free(&a);
    close(fd);
    refused("POST /v1/codeq/tasks HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            "Content-Length: 65537\r\n\r\n",
            413);
}

static void http_1_0_is_closed_unless_it_asks(void **state)
{
    (void)state;
    bool closed = false;
    static const char plain[] = "GET /healthz HTTP/1.0\r\n\r\n";
    static const char kept[] = "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    static const char last[] = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct answer a = exchange(plain, strlen(plain), &closed);
    expect(&a, 200, NULL);
    assert_true(closed);
    answer_free(&a);
    a = exchange(kept, strlen(kept), &closed);
    expect(&a, 200, NULL);
    assert_false(closed);
    answer_free(&a);
    a = exchange(last, strlen(last), &closed);
    expect(&a, 200, NULL);
    assert_true(closed);
    answer_free(&a);
}

static void half_closed_client_still_gets_its_answer(void **state)
{
    (void)state;
    int fd = http_begin(&f, "POST", "/v1/codeq/tasks", NULL, CREATE);
    shutdown(fd, SHUT_WR);
    struct answer a = http_read(fd, false);
    expect(&a, 202, NULL);
    answer_free(&a);
    close(fd);
    fd = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                    "{\"commands\":[\"HALF\"],\"waitSeconds\":20}");
    shutdown(fd, SHUT_WR);
    a = http_read(fd, false);
    expect(&a, 204, NULL); /* it cannot be told from one that has left */
    answer_free(&a);
    close(fd);
}

static void slow_head_ends_with_408_and_silence_with_a_close(void **state)
{
    (void)state;
    int fd = http_connect(&f);
    int64_t from = now();
    send_text(fd, "GET /healthz HTTP/1.1\r\n");
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    while (poll(&readable, 1, 50) == 0 && now() - from < 5 * NS_PER_SEC) {
        send_text(fd, "X: 1\r\n"); /* a slow loris: every byte is welcome, the head never ends */
    }
    struct answer a = http_read(fd, false);
    expect(&a, 408, NULL);
    assert_true(now() - from >= 290 * NS_PER_MS && now() - from < 2 * NS_PER_SEC);
    answer_free(&a);
    close(fd);

    fd = http_begin(&f, "POST", "/v1/codeq/tasks", "Content-Length: 10\r\n", NULL);
    a = http_read(fd, false);
    expect(&a, 408, NULL);
    answer_free(&a);
    close(fd);

    fd = http_connect(&f);
    from = now();
    a = http_read(fd, false);
    assert_int_equal(a.status, 0);
    assert_true(now() - from >= 1900 * NS_PER_MS);
    close(fd);
}

static void many_idle_connections_do_not_keep_others_out(void **state)
{
    (void)state;
    int fds[500];
    for (int i = 0; i < 500; i++) {
        fds[i] = http_connect(&f);
    }
    struct answer a = http_get(&f, "/healthz");
    expect(&a, 200, NULL);
    answer_free(&a);
    for (int i = 0; i < 500; i++) {
        close(fds[i]);
    }
}

static void client_that_reads_nothing_does_not_grow_memory_without_bound(void **state)
{
    (void)state;
    /* Far more requests than the sockets and buffers hold: codeqd must stop reading. */
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = http_connect(&f);
    size_t sent = 0;
    bool stuck = false;
    while (sent < 64u * 1024 * 1024 && !stuck) {
        ssize_t n = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n == (ssize_t)sizeof(request) - 1) {
            sent += (size_t)n;
            continue;
        }
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        stuck = poll(&writable, 1, 300) == 0;
        if (n > 0) {
            break;
        }
    }
    assert_true(sent < 64u * 1024 * 1024);
    struct answer a = http_get(&f, "/healthz");
    expect(&a, 200, NULL);
    answer_free(&a);
    close(fd);
}

static void answers_say_so_while_redis_is_stopped_and_go_on_after(void **state)
{
    (void)state;
    struct answer a;
    kill(f.redis.child.pid, SIGSTOP);
    a = http_get(&f, "/readyz");
    expect(&a, 503, NULL);
    answer_free(&a);
    a = http_get(&f, "/healthz");
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/tasks", CREATE);
    expect(&a, 503, NULL);
    answer_free(&a);
    kill(f.redis.child.pid, SIGCONT);
    int64_t deadline = now() + SERVICE_DEADLINE_NS;
    do {
        answer_free(&a);
        a = http_post(&f, "/v1/codeq/tasks", CREATE);
    } while (a.status == 503 && now() < deadline);
    expect(&a, 202, NULL);
    answer_free(&a);
}

static void answers_say_so_while_redis_is_gone_and_go_on_after(void **state)
{
    (void)state;
    struct answer a;
    struct err err;
    redis_server_kill(&f.redis);
    int64_t deadline = now() + SERVICE_DEADLINE_NS;
    do {
        a = http_get(&f, "/readyz");
        if (a.status == 503) {
            break;
        }
        answer_free(&a);
    } while (now() < deadline);
    expect(&a, 503, "redis unavailable");
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/tasks", CREATE);
    expect(&a, 503, NULL);
    answer_free(&a);
    assert_int_equal(redis_server_restart(&f.redis, &f.redis_options, &err), 0);
    deadline = now() + SERVICE_DEADLINE_NS;
    do {
        a = http_post(&f, "/v1/codeq/tasks", CREATE);
        if (a.status == 202) {
            break;
        }
        answer_free(&a);
        poll(NULL, 0, 5);
    } while (now() < deadline);
    expect(&a, 202, NULL);
    answer_free(&a);
}

/* Last: codeqd is stopped here and started again for the group's end. */
static void drain_answers_waiting_claims_finishes_requests_and_exits_0(void **state)
{
    (void)state;
    int waiting = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                             "{\"commands\":[\"DRAIN\"],\"waitSeconds\":30}");
    int idle = http_connect(&f);
    struct pollfd readable = {.fd = waiting, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 50), 0);
    int64_t from = now();
    kill(f.codeqd.pid, SIGTERM);
    struct answer a = http_read(waiting, false);
    expect(&a, 204, NULL);
    char value[32];
    assert_true(answer_header(&a, "Connection", value, sizeof(value)));
    assert_string_equal(value, "close");
    answer_free(&a);
    char byte;
    assert_int_equal(recv(idle, &byte, 1, 0), 0);
    assert_int_equal(codeqd_stop(&f), 0);
    assert_true(now() - from < 5 * NS_PER_SEC);
    close(waiting);
    close(idle);
    codeqd_start(&f, NULL);
}

static void log_holds_neither_token_nor_payload(void **state)
{
    (void)state;
    struct answer a =
        http_post(&f, "/v1/codeq/tasks", "{\"command\":\"SECRET\",\"payload\":\"hush-hush\"}");
    expect(&a, 202, NULL);
    answer_free(&a);
    char *log = codeqd_log(&f);
    assert_non_null(strstr(log, "listening"));
    assert_null(strstr(log, "hush-hush"));
    assert_null(strstr(log, "dev-token"));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_are_refused_and_closed),
        cmocka_unit_test(each_limit_has_its_status),
        cmocka_unit_test(body_of_the_largest_size_passes),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(request_may_arrive_byte_by_byte),
        cmocka_unit_test(chunked_bodies_are_put_together_and_the_next_request_is_found),
        cmocka_unit_test(continue_is_said_before_the_body_comes),
        cmocka_unit_test(http_1_0_is_closed_unless_it_asks),
        cmocka_unit_test(half_closed_client_still_gets_its_answer),
        cmocka_unit_test(slow_head_ends_with_408_and_silence_with_a_close),
        cmocka_unit_test(many_idle_connections_do_not_keep_others_out),
        cmocka_unit_test(client_that_reads_nothing_does_not_grow_memory_without_bound),
        cmocka_unit_test(answers_say_so_while_redis_is_stopped_and_go_on_after),
        cmocka_unit_test(answers_say_so_while_redis_is_gone_and_go_on_after),
        cmocka_unit_test(drain_answers_waiting_claims_finishes_requests_and_exits_0),
        cmocka_unit_test(log_holds_neither_token_nor_payload),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
