/* `commands --events` and `--show-keys`: a line for each command, keys only when asked for, values
 * and passwords never. Exits 77 with the reason where BPF may not be loaded. */
#include "base/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "trace_fixture.h"

static struct redis_server server;
static char pid[16];

/* The i-th line (from 0) of that command, parsed; NULL: there are not so many. */
static struct json *line_of(const char *lines, const char *command, int i)
{
    for (const char *p = lines; *p != '\0'; p = strchr(p, '\n') + 1) {
        struct err err = {""};
        struct json *line = json_parse(p, (size_t)(strchr(p, '\n') - p), &err);
        if (line == NULL) {
            fail_msg("%s in: %.200s", err.text, p);
        }
        assert_string_equal(json_string(json_get(line, "schema"), ""), "codeq-trace.event/1");
        if (strcmp(json_string(json_get(line, "command"), ""), command) == 0 && i-- == 0) {
            return line;
        }
        json_free(line);
    }
    return NULL;
}

static void expect_line(const char *lines, const char *command, int i, const char *key,
                        const char *result)
{
    struct json *line = line_of(lines, command, i);
    if (line == NULL) {
        fail_msg("no line %d of %s", i, command);
    }
    const char *got = json_string(json_get(line, "key"), "(none)");
    if (strcmp(got, key) != 0 || strcmp(json_string(json_get(line, "result"), ""), result) != 0) {
        fail_msg("line %d of %s: key %s, %s", i, command, got,
                 json_string(json_get(line, "result"), ""));
    }
    assert_string_equal(json_string(json_get(line, "side"), ""), "server");
    assert_string_equal(json_string(json_get(line, "comm"), ""), "redis-server");
    assert_true(json_number(json_get(line, "latency_ns"), 0) > 0);
    json_free(line);
}

/* Everything that may carry a secret, and keys of all forms. */
static void secrets_and_keys(void)
{
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "+OK\r\n", "SET", "user:1", "hush-value");
    WIRE_CALL(fd, "hush-value", "GET", "user:1");
    WIRE_CALL(fd, "$-1\r\n", "GET", "absent");
    WIRE_CALL(fd, "-WRONGTYPE", "LPUSH", "user:1", "hush");
    WIRE_CALL(fd, "-", "AUTH", "hush-password");
    WIRE_CALL(fd, "-", "AUTH", "nobody", "hush-password");
    WIRE_CALL(fd, "-", "HELLO", "3", "AUTH", "nobody", "hush-password");
    WIRE_CALL(fd, "+OK\r\n", "CONFIG", "SET", "masterauth", "hush");
    WIRE_CALL(fd, "+OK\r\n", "ACL", "SETUSER", "u", ">hush");
    WIRE_CALL(fd, "hush", "ECHO", "hush");
    WIRE_CALL(fd, ":1\r\n", "EVAL", "return 1", "1", "script:key", "hush");
    WIRE_CALL(fd, ":1\r\n", "EVAL", "return 1", "0", "hush");
    WIRE_CALL(fd, "+OK\r\n", "MSET", "first", "hush", "second", "hush");
    WIRE_CALL(fd, ":0\r\n", "BITOP", "AND", "bits", "x");
    WIRE_CALL(fd, "$-1\r\n", "GET", "odd \"\\\n\x01\xff");
    char longest[201];
    memset(longest, 'k', 200);
    longest[200] = '\0';
    WIRE_CALL(fd, "$-1\r\n", "GET", longest);
    /* Inline: its words are not taken apart. */
    wire_put(fd, "GET hush-inline\r\n");
    wire_until(fd, "$-1\r\n");
    /* Cut at every byte, between a command with and one without a key. */
    static const char cut[] = "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nTTL\r\n$5\r\ncut:1\r\n";
    for (size_t i = 0; i < sizeof cut - 1; i++) {
        assert_int_equal(send(fd, cut + i, 1, MSG_NOSIGNAL), 1);
    }
    wire_until(fd, ":-2\r\n");
    /* A pipeline: each its own. */
    wire_put(fd,
             "*2\r\n$4\r\nTYPE\r\n$2\r\np1\r\n*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nTYPE\r\n$2\r\np2\r\n"
             "*2\r\n$4\r\nTYPE\r\n$2\r\np3\r\n*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n");
    wire_until(fd, "last");
    close(fd);
    /* One that is never answered, then a new connection with the same number. */
    fd = wire_connect(server.socket_path);
    wire_put(fd, "*3\r\n$5\r\nBLPOP\r\n$5\r\nnever\r\n$1\r\n0\r\n");
    close(fd);
    fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "*-1\r\n", "BLPOP", "soon", "0.01");
    wire_put(fd, "STRLEN hush-inline\r\n");
    wire_until(fd, ":0\r\n");
    WIRE_CALL(fd, "*0\r\n", "LRANGE", "later", "0", "1");
    close(fd);
}

static void each_command_has_its_line_with_its_own_key(void **state)
{
    (void)state;
    struct tracer tracer;
    tracer_start(&tracer,
                 (const char *[]){"commands", "--pid", pid, "--events", "--show-keys", NULL});
    secrets_and_keys();
    kill(tracer.child.pid, SIGINT);
    char *lines;
    struct json *report = tracer_end_lines(&tracer, &lines);
    static const struct {
        const char *command;
        int i;
        const char *key;
        const char *result;
    } wanted[] = {
        {"SET", 0, "user:1", "ok"},
        {"GET", 0, "user:1", "ok"},
        {"GET", 1, "absent", "nil"},
        {"GET", 2, "odd\\x20\\x22\\x5c\\x0a\\x01\\xff", "nil"},
        {"GET", 3, "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...", "nil"},
        {"GET", 4, "(none)", "nil"},
        {"LPUSH", 0, "user:1", "error"},
        {"AUTH", 0, "(none)", "error"},
        {"AUTH", 1, "(none)", "error"},
        {"HELLO", 0, "(none)", "error"},
        {"CONFIG|SET", 0, "(none)", "ok"},
        {"ACL|SETUSER", 0, "(none)", "ok"},
        {"ECHO", 0, "(none)", "ok"},
        {"MSET", 0, "first", "ok"},
        {"BITOP", 0, "bits", "ok"},
        {"TTL", 0, "cut:1", "ok"},
        {"TYPE", 0, "p1", "ok"},
        {"TYPE", 1, "p2", "ok"},
        {"TYPE", 2, "p3", "ok"},
        {"BLPOP", 0, "soon", "nil"},
        {"STRLEN", 0, "(none)", "ok"},
        {"LRANGE", 0, "later", "ok"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        expect_line(lines, wanted[i].command, wanted[i].i, wanted[i].key, wanted[i].result);
    }
    assert_non_null(strstr(lines, "\"key\":\"script:key\""));
    assert_null(strstr(lines, "hush"));
    assert_count(tracer_loss(report, "events_lost"), 0);
    assert_count(tracer_loss(report, "keys_lost"), 0);
    free(lines);
    json_free(report);
}

static void keys_are_hidden_unless_asked_for(void **state)
{
    (void)state;
    static const char *const forms[][3] = {
        {"--events", NULL, NULL}, {NULL, NULL, NULL}, {"--show-keys", NULL, NULL}};
    for (int form = 0; form < 3; form++) {
        struct tracer tracer;
        tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, forms[form][0], NULL});
        secrets_and_keys();
        kill(tracer.child.pid, SIGINT);
        char *lines;
        struct json *report = tracer_end_lines(&tracer, &lines);
        char *text = json_print(report);
        bool shown = strstr(lines, "user:1") != NULL || strstr(text, "user:1") != NULL;
        assert_int_equal(shown, form == 2);
        assert_null(strstr(lines, "hush"));
        assert_null(strstr(text, "hush"));
        free(text);
        free(lines);
        json_free(report);
    }
}

static void keys_are_added_up_without_a_line_each(void **state)
{
    (void)state;
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, "--show-keys", NULL});
    int fd = wire_connect(server.socket_path);
    for (int i = 0; i < 30; i++) {
        WIRE_CALL(fd, ":", "INCR", i % 3 == 0 ? "hits:a" : "hits:b");
    }
    WIRE_CALL(fd, "-WRONGTYPE", "LPUSH", "hits:a", "x");
    close(fd);
    struct json *report = tracer_stop(&tracer);
    double a = 0;
    double b = 0;
    for (const struct json *row = json_first(json_get(report, "keys")); row != NULL;
         row = json_next(row)) {
        bool incr = strcmp(json_string(json_get(row, "command"), ""), "INCR") == 0;
        const char *key = json_string(json_get(row, "key"), "");
        double n = json_number(json_get(row, "count"), 0);
        a += incr && strcmp(key, "hits:a") == 0 ? n : 0;
        b += incr && strcmp(key, "hits:b") == 0 ? n : 0;
        assert_true(json_number(json_get(row, "time_ns"), 0) > 0);
        assert_count(json_number(json_get(row, "errors"), -1), incr ? 0 : 1);
    }
    assert_count(a, 10);
    assert_count(b, 20);
    assert_count(tracer_loss(report, "keys_beyond"), 0);
    json_free(report);
}

#define MANY "100000"

static void benchmark(void)
{
    const char *argv[] = {"redis-benchmark",
                          "-s",
                          server.socket_path,
                          "-n",
                          MANY,
                          "-P",
                          "16",
                          "-t",
                          "incr",
                          "-q",
                          NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, NULL, &err), 0);
    free(out);
}

static double lines_in(const char *lines, const char *what)
{
    double n = 0;
    for (const char *p = lines; (p = strstr(p, what)) != NULL; p += strlen(what)) {
        n++;
    }
    return n;
}

/* The tracer is held up while the buffer fills: what it lost is known to the last event. */
static void lines_and_lost_events_are_all_commands(void **state)
{
    (void)state;
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, "--events", NULL});
    kill(tracer.child.pid, SIGSTOP);
    benchmark();
    kill(tracer.child.pid, SIGCONT);
    kill(tracer.child.pid, SIGINT);
    char *lines;
    struct json *report = tracer_end_lines(&tracer, &lines);
    double lost = tracer_loss(report, "events_lost");
    double counted = 0;
    for (const struct json *row = json_first(json_get(report, "commands")); row != NULL;
         row = json_next(row)) {
        counted += json_number(json_get(row, "count"), 0);
    }
    double printed = lines_in(lines, "\"schema\":");
    assert_true(counted >= atof(MANY));
    assert_true(lost > 0 && printed > 0);
    assert_count(printed + lost, counted);
    free(lines);
    json_free(report);
}

/* 100 requests in one call, a third of them for a key that exists. */
static void pipeline_of_gets(int fd)
{
    char text[8192];
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "*2\r\n$3\r\nGET\r\n$6\r\n%s\r\n",
                              i % 3 == 0 ? "exists" : "absent");
    }
    snprintf(text + n, sizeof text - n, "*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n");
    wire_put(fd, text);
    wire_until(fd, "last");
}

static void after_losses_no_line_has_the_key_of_another(void **state)
{
    (void)state;
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "+OK\r\n", "SET", "exists", "1");
    struct tracer tracer;
    tracer_start(&tracer,
                 (const char *[]){"commands", "--pid", pid, "--events", "--show-keys", NULL});
    kill(tracer.child.pid, SIGSTOP);
    for (int i = 0; i < 300; i++) {
        pipeline_of_gets(fd);
    }
    kill(tracer.child.pid, SIGCONT);
    /* Until the buffer is empty and lines are whole again. */
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    for (bool fresh = false; !fresh;) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        WIRE_CALL(fd, ":", "STRLEN", "fresh");
        char *out = tracer_slurp(tracer.dir, "out");
        fresh = strstr(out, "\"fresh\"") != NULL;
        free(out);
    }
    pipeline_of_gets(fd);
    kill(tracer.child.pid, SIGINT);
    char *lines;
    struct json *report = tracer_end_lines(&tracer, &lines);
    assert_true(tracer_loss(report, "events_lost") > 0);
    double wrong = lines_in(lines, "\"key\":\"exists\",\"result\":\"nil\"") +
                   lines_in(lines, "\"key\":\"absent\",\"result\":\"ok\"");
    assert_count(wrong, 0);
    assert_true(lines_in(lines, "\"key\":\"exists\",\"result\":\"ok\"") >= 34);
    assert_true(lines_in(lines, "\"key\":\"absent\",\"result\":\"nil\"") >= 66);
    free(lines);
    json_free(report);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    struct err err = {""};
    int code = redis_server_start(&server, &(struct redis_server_options){.cpu = -1}, &err);
    if (code != 0) {
        fprintf(stderr, "%s\n", err.text);
    }
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    return code;
}

static int teardown(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

int main(void)
{
    int code = tracer_check(0);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_command_has_its_line_with_its_own_key),
        cmocka_unit_test(keys_are_hidden_unless_asked_for),
        cmocka_unit_test(keys_are_added_up_without_a_line_each),
        cmocka_unit_test(lines_and_lost_events_are_all_commands),
        cmocka_unit_test(after_losses_no_line_has_the_key_of_another),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
