/* The file that `timeline` writes: requests to codeqd over HTTP, the Redis commands in them and the
 * system calls in those, in the form that Perfetto and chrome://tracing read. Exits 77 with the
 * reason where BPF may not be loaded. */
#include "service/service_fixture.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/temp_dir.h"
#include "trace_fixture.h"

#define TASKS 60
#define DEPTH_MAX 64
#define OPEN_MAX 4096

static struct service_fixture f;

static const char *text_of(const struct json *event, const char *key)
{
    return json_string(json_get(event, key), "");
}

static double number_of(const struct json *event, const char *key)
{
    return json_number(json_get(event, key), -1);
}

/* Trace the processes of the fixture while `traffic` runs; the file, the caller's. */
static struct json *timeline_of(void (*traffic)(void), char **out_text)
{
    char pids[32];
    snprintf(pids, sizeof pids, "%d,%d", (int)f.redis.child.pid, (int)f.codeqd.pid);
    char dir[] = "/tmp/codeq-timeline-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof path, "%s/trace.json", dir);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"timeline", "--pid", pids, "--duration", "60s",
                                           "--output", path, NULL});
    traffic();
    struct json *report = tracer_stop(&tracer);
    assert_count(tracer_loss(report, "events_lost"), 0);
    assert_count(tracer_loss(report, "slices_lost"), 0);
    json_free(report);
    *out_text = tracer_slurp(dir, "trace.json");
    struct err err = {""};
    struct json *root = json_parse(*out_text, strlen(*out_text), &err);
    if (root == NULL) {
        fail_msg("%s", err.text);
    }
    remove_tree(dir);
    return root;
}

static void some_tasks(void)
{
    for (int i = 0; i < TASKS; i++) {
        create(&f, "DRAWN", "\"payload\":{}", NULL);
        assert_true(claim(&f, "DRAWN", 60, 0).id[0] != '\0');
    }
}

/* What stands in what, of one kind of request: how many of each. */
struct shape {
    int requests;
    int commands;
    int sends; /* in a command */
    int reads;
    int waits; /* in a system call in a command */
};

/* Source: the Trace Event Format, "Async Events" (nestable): those of one category and id nest by
 * time, and each end closes the last begin. */
static struct shape shape_of(const struct json *root, const char *request)
{
    struct shape shape = {0};
    const struct json *open[DEPTH_MAX];
    int depth = 0;
    for (const struct json *e = json_first(json_get(root, "traceEvents")); e != NULL;
         e = json_next(e)) {
        if (strcmp(text_of(e, "cat"), "http") != 0) {
            continue;
        }
        if (text_of(e, "ph")[0] == 'e') {
            assert_true(depth > 0);
            depth--;
            assert_string_equal(text_of(e, "name"), text_of(open[depth], "name"));
            assert_string_equal(text_of(e, "id"), text_of(open[depth], "id"));
            assert_true(number_of(e, "ts") >= number_of(open[depth], "ts"));
            continue;
        }
        if (depth > 0) {
            assert_string_equal(text_of(e, "id"), text_of(open[0], "id"));
            assert_true(number_of(e, "ts") >= number_of(open[depth - 1], "ts"));
        }
        assert_true(depth < DEPTH_MAX);
        open[depth++] = e;
        const char *name = text_of(e, "name");
        if (strcmp(text_of(open[0], "name"), request) != 0) {
            continue;
        }
        bool in_command = depth > 2 && strncmp(text_of(open[1], "name"), "EVALSHA ", 8) == 0;
        shape.requests += depth == 1;
        shape.commands += depth == 2 && strncmp(name, "EVALSHA ", 8) == 0;
        shape.sends += depth == 3 && in_command && strcmp(name, "sendto") == 0;
        shape.reads += depth == 3 && in_command && strcmp(name, "recvfrom") == 0;
        shape.waits += depth == 4 && in_command && strcmp(name, "off-CPU") == 0;
    }
    assert_int_equal(depth, 0);
    return shape;
}

static void http_request_holds_its_redis_command_which_holds_its_system_calls(void **state)
{
    (void)state;
    char *text;
    struct json *root = timeline_of(some_tasks, &text);
    struct shape made = shape_of(root, "POST /v1/codeq/tasks");
    struct shape claimed = shape_of(root, "POST /v1/codeq/tasks/claim");
    assert_int_equal(made.requests, TASKS);
    assert_true(made.commands >= TASKS);
    assert_true(made.sends >= TASKS);
    assert_int_equal(claimed.requests, TASKS);
    assert_int_equal(claimed.commands, TASKS);
    assert_int_equal(claimed.sends, TASKS);
    assert_int_equal(claimed.reads, TASKS);
    assert_true(made.waits + claimed.waits >=
                1); /* Redis may be faster than falling asleep, once */
    int statuses = 0;
    for (const struct json *e = json_first(json_get(root, "traceEvents")); e != NULL;
         e = json_next(e)) {
        const struct json *args = json_get(e, "args");
        statuses += strcmp(text_of(e, "name"), "POST /v1/codeq/tasks/claim") == 0 &&
                    json_number(json_get(args, "status"), 0) == 200;
    }
    assert_int_equal(statuses, TASKS);
    json_free(root);
    free(text);
}

/* Of every event what the format asks for; and ends as many as begins, for each id. */
static void the_file_is_a_trace_that_viewers_read(void **state)
{
    (void)state;
    char *text;
    struct json *root = timeline_of(some_tasks, &text);
    struct {
        char key[48];
        int open;
    } *asyncs = calloc(OPEN_MAX, sizeof *asyncs);
    assert_non_null(asyncs);
    int asyncs_len = 0;
    int names = 0;
    int whole = 0;
    for (const struct json *e = json_first(json_get(root, "traceEvents")); e != NULL;
         e = json_next(e)) {
        const char *phase = text_of(e, "ph");
        assert_int_equal(strlen(phase), 1);
        assert_true(text_of(e, "name")[0] != '\0');
        assert_true(number_of(e, "pid") >= 0);
        if (phase[0] == 'M') {
            names += strcmp(text_of(e, "name"), "process_name") == 0;
            continue;
        }
        assert_true(number_of(e, "tid") > 0);
        assert_true(number_of(e, "ts") >= 0);
        if (phase[0] == 'X') {
            assert_true(number_of(e, "dur") >= 0);
            whole++;
            continue;
        }
        assert_non_null(strchr("be", phase[0]));
        char key[48];
        snprintf(key, sizeof key, "%.20s %.20s", text_of(e, "cat"), text_of(e, "id"));
        int i = 0;
        while (i < asyncs_len && strcmp(asyncs[i].key, key) != 0) {
            i++;
        }
        if (i == asyncs_len) {
            assert_true(asyncs_len < OPEN_MAX);
            strcpy(asyncs[asyncs_len++].key, key);
        }
        asyncs[i].open += phase[0] == 'b' ? 1 : -1;
        assert_true(asyncs[i].open >= 0);
    }
    for (int i = 0; i < asyncs_len; i++) {
        assert_int_equal(asyncs[i].open, 0);
    }
    assert_int_equal(names, 2);
    assert_true(asyncs_len > 0 && whole > 0);
    free(asyncs);
    json_free(root);
    free(text);
}

/* Until codeqd has taken everything that was sent to it. */
static void wait_until_read(int fd)
{
    struct sockaddr_in here = {0};
    socklen_t bytes = sizeof here;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &bytes), 0);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    for (;;) {
        /* Source: proc_net_tcp(5): the other end's line has our port as its remote one, and
         * tx_queue:rx_queue after the state. */
        FILE *file = fopen("/proc/net/tcp", "re");
        assert_non_null(file);
        char line[256];
        unsigned waiting = 1;
        while (fgets(line, sizeof line, file) != NULL) {
            unsigned sent;
            unsigned remote;
            if (sscanf(line, " %*d: %*x:%*x %*x:%x %*x %x:%x", &remote, &sent, &waiting) == 3 &&
                remote == ntohs(here.sin_port)) {
                break;
            }
            waiting = 1;
        }
        fclose(file);
        if (waiting == 0) {
            return;
        }
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
}

static void secret_requests(void)
{
    struct answer answer = http_get(&f, "/v1/codeq/tasks/6f1f3bb0-5c6e-4c55-9a2c-hush-hush");
    answer_free(&answer);
    answer = http_get(&f, "/v1/codeq/tasks?token=hush-hush");
    answer_free(&answer);
    /* What a read left in the buffer behind a shorter one. */
    int fd = http_connect(&f);
    static const char first[] = "GET / HTTP/1.1\r\nhush-hush-hush: hush\r\nHost: x\r\n\r\n";
    http_send(fd, first, sizeof first - 1);
    answer = http_read(fd, false);
    answer_free(&answer);
    static const char begin[] = "GET /healthz-more";
    static const char rest[] = " HTTP/1.1\r\nHost: x\r\n\r\n";
    http_send(fd, begin, sizeof begin - 1);
    wait_until_read(fd);
    http_send(fd, rest, sizeof rest - 1);
    answer = http_read(fd, false);
    answer_free(&answer);
    close(fd);
}

static void nothing_of_a_task_or_a_token_is_in_the_file(void **state)
{
    (void)state;
    char *text;
    struct json *root = timeline_of(secret_requests, &text);
    assert_non_null(strstr(text, "\"GET /v1/codeq/tasks/:id\""));
    assert_non_null(strstr(text, "\"GET /v1/codeq/tasks\""));
    assert_non_null(strstr(text, "\"GET /healthz-more\""));
    assert_null(strstr(text, "hush"));
    assert_null(strstr(text, "Bearer"));
    json_free(root);
    free(text);
}

static int start(void **state)
{
    (void)state;
    service_start(&f, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    service_stop(&f);
    return 0;
}

int main(void)
{
    int code = tracer_check(0);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(http_request_holds_its_redis_command_which_holds_its_system_calls),
        cmocka_unit_test(the_file_is_a_trace_that_viewers_read),
        cmocka_unit_test(nothing_of_a_task_or_a_token_is_in_the_file),
    };
    return cmocka_run_group_tests(tests, start, end);
}
