/* Traffic that is not plain: a Redis with reading threads, passwords, monitors, subscribers, pushed
 * messages, replies switched off, every reply type of RESP3, requests cut off, cgroups. Exits 77
 * with the reason where BPF may not be loaded. */
#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "loghist.h"
#include "trace_fixture.h"

#define PASSWORD "hush-password"

static struct redis_server server;
static char pid[16];

/* What `commands` has seen of the server while `traffic` ran. */
static struct json *seen_of(void (*traffic)(void))
{
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, NULL});
    traffic();
    return tracer_stop(&tracer);
}

static double count_of(const struct json *report, const char *command)
{
    return tracer_number(report, "commands", "command", command, "count");
}

static void nothing_was_lost(const struct json *report)
{
    static const char *const losses[] = {"unparsed_bytes",   "desyncs",     "unmatched_replies",
                                         "mixed_requests",   "read_faults", "missed_hits",
                                         "connections_full", "events_lost"};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        if (tracer_loss(report, losses[i]) != 0) {
            fail_msg("%s: %g", losses[i], tracer_loss(report, losses[i]));
        }
    }
}

static bool notes_have(const struct json *report, const char *text)
{
    for (const struct json *note = json_first(json_get(report, "notes")); note != NULL;
         note = json_next(note)) {
        if (strstr(json_string(note, ""), text) != NULL) {
            return true;
        }
    }
    return false;
}

static char *info_of(const char *section)
{
    char *info = NULL;
    struct err err = {""};
    if (redis_server_info(server.socket_path, section, &info, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return info;
}

static void benchmark(void)
{
    const char *argv[] = {"redis-benchmark",
                          "-s",
                          server.socket_path,
                          "-n",
                          "100000",
                          "-P",
                          "16",
                          "-t",
                          "set,get,lpush",
                          "-q",
                          NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, NULL, &err), 0);
    free(out);
}

static double latencystat_us(const char *info, const char *command, const char *percentile)
{
    char field[64];
    snprintf(field, sizeof field, "latency_percentiles_usec_%s:", command);
    const char *at = strstr(info, field);
    assert_non_null(at);
    at = strstr(at, percentile);
    assert_non_null(at);
    return strtod(at + strlen(percentile), NULL);
}

static void reset_stats(void)
{
    char *text = NULL;
    assert_int_equal(redis_server_ask(server.socket_path, "CONFIG RESETSTAT", &text, NULL), 0);
    free(text);
}

/* Reads and writes of one connection come from several threads, and threads serve several
 * connections. */
static void reading_threads_lose_no_command(void **state)
{
    (void)state;
    reset_stats();
    struct json *report = seen_of(benchmark);
    char *stats = info_of("stats");
    assert_true(redis_info_number(stats, "io_threaded_reads_processed") > 0);
    free(stats);
    char *info = info_of("commandstats");
    char *latencies = info_of("latencystats");
    static const char *const names[][2] = {{"SET", "set"}, {"GET", "get"}, {"LPUSH", "lpush"}};
    for (size_t i = 0; i < 3; i++) {
        char field[64];
        snprintf(field, sizeof field, "cmdstat_%s:calls=", names[i][1]);
        const char *at = strstr(info, field);
        assert_non_null(at);
        assert_count(count_of(report, names[i][0]), strtod(at + strlen(field), NULL));
        /* From the read to the write is never less than the execution that Redis times. */
        double p50_ns =
            tracer_number(report, "commands", "command", names[i][0], "server_latency_ns_p50");
        assert_true(p50_ns >= 1e3 * latencystat_us(latencies, names[i][1], "p50="));
    }
    free(info);
    free(latencies);
    nothing_was_lost(report);
    json_free(report);
}

static int run_script_of_20_ms(const struct json **out_row, struct json **out_report,
                               double *out_redis_ns)
{
    reset_stats();
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"commands", "--pid", pid, NULL});
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, ":1\r\n", "EVAL",
              "local t=redis.call('TIME') local e=t[1]*1000000+t[2]+20000 repeat "
              "t=redis.call('TIME') until t[1]*1000000+t[2]>=e return 1",
              "0");
    close(fd);
    *out_report = tracer_stop(&tracer);
    char *latencies = info_of("latencystats");
    *out_redis_ns = 1e3 * latencystat_us(latencies, "eval", "p50=");
    free(latencies);
    const struct json *row = json_first(json_get(*out_report, "commands"));
    while (row != NULL && strncmp(json_string(json_get(row, "command"), ""), "EVAL ", 5) != 0) {
        row = json_next(row);
    }
    assert_non_null(row);
    *out_row = row;
    assert_true(json_number(json_get(row, "server_latency_ns_max"), 0) >= 20e6);
    /* The one bucket that is not empty. */
    const struct json *bucket = json_first(json_get(row, "latency_ns"));
    assert_null(json_next(bucket));
    return loghist_bucket((uint64_t)json_number(json_first(bucket), 0));
}

/* 20 ms lie in the middle of a bucket 2.1 ms wide; only a core taken away just then may tell the
 * two clocks apart, so one of five must agree. */
static void slow_script_falls_into_the_bucket_that_redis_has_it_in(void **state)
{
    (void)state;
    bool same = false;
    for (int i = 0; i < 5 && !same; i++) {
        const struct json *row;
        struct json *report;
        double redis_ns;
        int ours = run_script_of_20_ms(&row, &report, &redis_ns);
        same = ours == loghist_bucket((uint64_t)redis_ns);
        json_free(report);
    }
    assert_true(same);
}

static void passwords(void)
{
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "+OK\r\n", "CONFIG", "SET", "requirepass", PASSWORD);
    int other = wire_connect(server.socket_path);
    WIRE_CALL(other, "-NOAUTH", "GET", "k");
    WIRE_CALL(other, "-WRONGPASS", "AUTH", "hush-wrong");
    WIRE_CALL(other, "+OK\r\n", "AUTH", PASSWORD);
    WIRE_CALL(other, "$-1\r\n", "GET", "k");
    WIRE_CALL(other, "%", "HELLO", "3", "AUTH", "default", PASSWORD, "SETNAME", "hush");
    WIRE_CALL(other, "_\r\n", "GET", "k");
    wire_put(other, "AUTH " PASSWORD "\r\n");
    wire_until(other, "+OK\r\n");
    close(other);
    WIRE_CALL(fd, "+OK\r\n", "CONFIG", "SET", "requirepass", "");
    close(fd);
}

static double connections_so_far(void)
{
    char *stats = info_of("stats");
    double n = redis_info_number(stats, "total_connections_received");
    free(stats);
    return n;
}

/* The tracer has no password and no right to the socket, and opens no connection. */
static void commands_behind_a_password_are_seen_without_it(void **state)
{
    (void)state;
    double before = connections_so_far();
    struct json *report = seen_of(passwords);
    assert_count(connections_so_far() - before, 3); /* two of the traffic, one that asks */
    assert_count(count_of(report, "GET"), 3);
    assert_count(count_of(report, "AUTH"), 3);
    assert_count(count_of(report, "HELLO"), 1);
    assert_count(tracer_number(report, "commands", "command", "GET", "errors"), 1);
    assert_count(tracer_number(report, "commands", "command", "GET", "nils"), 2);
    assert_count(tracer_number(report, "commands", "command", "AUTH", "errors"), 1);
    char *text = json_print(report);
    assert_null(strstr(text, "hush"));
    free(text);
    nothing_was_lost(report);
    json_free(report);
}

static void monitor(void)
{
    int watcher = wire_connect(server.socket_path);
    WIRE_CALL(watcher, "+OK\r\n", "MONITOR");
    int fd = wire_connect(server.socket_path);
    for (int i = 0; i < 200; i++) {
        WIRE_CALL(fd, ":", "INCR", "monitored");
    }
    wire_until(watcher, "monitored");
    close(fd);
    close(watcher);
}

static void what_a_monitor_is_sent_counts_for_nothing(void **state)
{
    (void)state;
    struct json *report = seen_of(monitor);
    assert_count(count_of(report, "INCR"), 200);
    assert_count(count_of(report, "MONITOR"), 1);
    nothing_was_lost(report);
    json_free(report);
}

static void publish(int fd, int times)
{
    for (int i = 0; i < times; i++) {
        WIRE_CALL(fd, ":1\r\n", "PUBLISH", "news", "a\r\n+OK\r\n-ERR x\r\n$3\r\nabc\r\n");
    }
}

static void subscribers(void)
{
    int sender = wire_connect(server.socket_path);
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "subscribe", "SUBSCRIBE", "news");
    publish(sender, 50);
    WIRE_CALL(fd, "pong", "PING");
    WIRE_CALL(fd, "unsubscribe", "UNSUBSCRIBE", "news");
    WIRE_CALL(fd, "$-1\r\n", "GET", "absent");
    close(fd);
    /* RESP3: commands and messages on one connection. */
    fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "%", "HELLO", "3");
    WIRE_CALL(fd, "subscribe", "SUBSCRIBE", "news");
    publish(sender, 50);
    for (int i = 0; i < 10; i++) {
        WIRE_CALL(fd, "_\r\n", "GET", "absent");
    }
    /* And keys that others change: pushed, too. */
    WIRE_CALL(fd, "+OK\r\n", "CLIENT", "TRACKING", "ON");
    WIRE_CALL(fd, "_\r\n", "GET", "tracked");
    WIRE_CALL(sender, "+OK\r\n", "SET", "tracked", "1");
    wire_until(fd, "invalidate");
    WIRE_CALL(fd, "1\r\n", "GET", "tracked");
    WIRE_CALL(sender, ":1\r\n", "DEL", "tracked");
    close(fd);
    close(sender);
}

static void pushed_messages_are_no_replies(void **state)
{
    (void)state;
    struct json *report = seen_of(subscribers);
    assert_count(count_of(report, "GET"), 13);
    assert_count(count_of(report, "PUBLISH"), 100);
    assert_count(count_of(report, "SUBSCRIBE"), 2);
    assert_count(count_of(report, "UNSUBSCRIBE"), 1);
    assert_count(count_of(report, "CLIENT|TRACKING"), 1);
    /* Of the RESP3 connection: it has replies, and these are paired. */
    assert_count(tracer_number(report, "commands", "command", "GET", "nils"), 11);
    assert_true(notes_have(report, "requests of subscribers, monitors and"));
    assert_true(notes_have(report, "pushed messages"));
    nothing_was_lost(report);
    json_free(report);
}

static void no_replies(void)
{
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "+PONG\r\n", "PING");
    wire_put(fd, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n");
    for (int i = 0; i < 20; i++) {
        wire_put(fd, "*2\r\n$4\r\nINCR\r\n$6\r\nunsaid\r\n");
    }
    WIRE_CALL(fd, "+OK\r\n", "CLIENT", "REPLY", "ON");
    WIRE_CALL(fd, "$2\r\n20\r\n", "GET", "unsaid");
    WIRE_CALL(fd, ":1\r\n", "DEL", "unsaid");
    close(fd);
}

static void commands_without_replies_are_counted(void **state)
{
    (void)state;
    struct json *report = seen_of(no_replies);
    assert_count(count_of(report, "INCR"), 20);
    assert_count(count_of(report, "GET"), 1);
    assert_count(count_of(report, "CLIENT|REPLY"), 2);
    /* No reply can be told to be theirs, so none is: 2, 20, GET and DEL. */
    assert_true(notes_have(report, "24 requests of subscribers, monitors and clients that want"));
    assert_null(tracer_row(report, "commands", "command", "(mixed)"));
    const struct json *get = tracer_row(report, "commands", "command", "GET");
    assert_true(isnan(json_number(json_get(get, "server_latency_ns_p50"), NAN)));
    nothing_was_lost(report);
    json_free(report);
}

static void transactions(void)
{
    int fd = wire_connect(server.socket_path);
    /* In one write: queued, done, discarded, refused. */
    wire_put(fd, "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nt\r\n$1\r\n1\r\n"
                 "*2\r\n$4\r\nINCR\r\n$1\r\nt\r\n*2\r\n$5\r\nLPUSH\r\n$1\r\nt\r\n"
                 "*1\r\n$4\r\nEXEC\r\n"
                 "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\nt\r\n*1\r\n$7\r\nDISCARD\r\n"
                 "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nt\r\n$1\r\n1\r\n"
                 "*2\r\n$4\r\nINCR\r\n$1\r\nt\r\n*1\r\n$4\r\nEXEC\r\n*1\r\n$4\r\nPING\r\n");
    wire_until(fd, "+PONG");
    /* Inline: words in quotes, empty lines, a bare line feed. */
    wire_put(fd, "\r\n\r\nset \"t\" 'a b'\r\nGeT t\nECHO \"last\"\r\n");
    wire_until(fd, "last");
    WIRE_CALL(fd, ":1\r\n", "DEL", "t");
    close(fd);
}

static void transactions_and_inline_commands_are_counted_one_by_one(void **state)
{
    (void)state;
    struct json *report = seen_of(transactions);
    static const struct {
        const char *command;
        double count;
        double errors;
    } wanted[] = {{"MULTI", 3, 0}, {"EXEC", 2, 1}, {"DISCARD", 1, 0}, {"SET", 3, 0}, {"INCR", 2, 0},
                  {"LPUSH", 1, 1}, {"GET", 2, 0},  {"PING", 1, 0},    {"ECHO", 1, 0}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        double errors = tracer_number(report, "commands", "command", wanted[i].command, "errors");
        if (count_of(report, wanted[i].command) != wanted[i].count || errors != wanted[i].errors) {
            fail_msg("%s: %g, %g errors", wanted[i].command, count_of(report, wanted[i].command),
                     errors);
        }
    }
    nothing_was_lost(report);
    json_free(report);
}

/* Every type of RESP3, as Redis itself makes them, each between two commands that tell a slip. */
static void all_types(void)
{
    static const char *const types[] = {"STRING", "INTEGER",  "DOUBLE", "NULL",
                                        "ARRAY",  "SET",      "MAP",    "ATTRIB",
                                        "PUSH",   "VERBATIM", "TRUE",   "FALSE"};
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "%", "HELLO", "3");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$%zu\r\n%s\r\n"
                 "*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n",
                 strlen(types[i]), types[i]);
        wire_put(fd, text);
        wire_until(fd, "last\r\n");
    }
    WIRE_CALL(fd, "(", "DEBUG", "PROTOCOL", "BIGNUM");
    WIRE_CALL(fd, "-WRONGTYPE", "EVAL", "return redis.error_reply('WRONGTYPE x')", "0");
    close(fd);
}

static void every_reply_type_of_resp3_is_one_reply(void **state)
{
    (void)state;
    struct json *report = seen_of(all_types);
    assert_count(count_of(report, "GET"), 12);
    assert_count(tracer_number(report, "commands", "command", "GET", "nils"), 12);
    assert_count(count_of(report, "ECHO"), 12);
    assert_count(tracer_number(report, "commands", "command", "ECHO", "nils"), 0);
    assert_count(count_of(report, "DEBUG"), 13);
    assert_count(tracer_number(report, "commands", "command", "DEBUG", "nils"), 1);
    nothing_was_lost(report);
    json_free(report);
}

static void cut_off(void)
{
    int fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "$-1\r\n", "GET", "absent");
    wire_put(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf");
    close(fd);
    fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "$-1\r\n", "GET", "absent");
    wire_put(fd, "*1\r\nrubbish\r\n");
    wire_until(fd, "-ERR Protocol error");
    close(fd);
    fd = wire_connect(server.socket_path);
    WIRE_CALL(fd, "$-1\r\n", "GET", "absent");
    close(fd);
}

static void half_a_request_and_rubbish_harm_no_other(void **state)
{
    (void)state;
    struct json *report = seen_of(cut_off);
    assert_count(count_of(report, "GET"), 3);
    assert_count(count_of(report, "SET"), 0);
    assert_count(tracer_number(report, "commands", "command", "GET", "nils"), 3);
    assert_count(tracer_loss(report, "desyncs"), 1);
    assert_true(tracer_loss(report, "unparsed_bytes") > 0);
    json_free(report);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Where cgroups of version 2 can be made; false: nowhere here. */
static bool make_cgroup(char out_path[128])
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        char probe[128];
        snprintf(probe, sizeof probe, "%s/cgroup.controllers", roots[i]);
        snprintf(out_path, 128, "%s/codeq-trace-test-%d", roots[i], (int)getpid());
        if (access(probe, F_OK) == 0 && mkdir(out_path, 0755) == 0) {
            return true;
        }
    }
    return false;
}

/* A "container": a folder in a cgroup, and a Redis in it that believes to be process 1. */
static void processes_of_a_cgroup_are_traced_by_the_numbers_they_have_inside(void **state)
{
    (void)state;
    char outer[128];
    if (!make_cgroup(outer)) {
        printf("skipped: no cgroup of version 2 can be made here\n");
        skip();
    }
    char inner[160];
    snprintf(inner, sizeof inner, "%s/inner", outer);
    assert_int_equal(mkdir(inner, 0755), 0);
    char dir[] = "/tmp/codeq-container-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char script[64];
    char text[512];
    snprintf(script, sizeof script, "%s/contained", dir);
    snprintf(text, sizeof text,
             "#!/bin/sh\necho $$ > %s/cgroup.procs\n"
             "exec unshare --pid --fork --kill-child redis-server \"$@\"\n",
             inner);
    write_text(dir, "contained", text);
    assert_int_equal(chmod(script, 0755), 0);
    struct redis_server contained;
    struct err err = {""};
    if (redis_server_start(&contained, &(struct redis_server_options){.program = script, .cpu = -1},
                           &err) != 0) {
        fail_msg("%s", err.text);
    }
    static const struct {
        const char *pid;
        double count;
    } cases[] = {{NULL, 7}, {"1", 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tracer tracer;
        tracer_start(&tracer,
                     (const char *[]){"commands", "--cgroup", outer,
                                      cases[i].pid != NULL ? "--pid" : NULL, cases[i].pid, NULL});
        for (int n = 0; n < 7; n++) {
            int fd = wire_connect(contained.socket_path);
            WIRE_CALL(fd, "+PONG", "PING");
            close(fd);
            fd = wire_connect(server.socket_path); /* not in the cgroup */
            WIRE_CALL(fd, "$-1", "GET", "absent");
            close(fd);
        }
        struct json *report = tracer_stop(&tracer);
        assert_count(count_of(report, "PING"), cases[i].count);
        assert_count(count_of(report, "GET"), 0);
        nothing_was_lost(report);
        json_free(report);
    }
    const char *argv[] = {
        getenv("CODEQ_TRACE"), "commands", "--cgroup", outer, "--pid", "4000000", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    char *message = NULL;
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, &message, &err), 2);
    assert_non_null(strstr(message, "no such process"));
    free(out);
    free(message);
    redis_server_kill(&contained); /* takes the process inside with it */
    redis_server_stop(&contained);
    deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    while (rmdir(inner) != 0 && errno == EBUSY) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    assert_int_equal(rmdir(outer), 0);
    remove_tree(dir);
}

static int setup(void **state)
{
    (void)state;
    static const char *const config[] = {
        "--io-threads", "4", "--io-threads-do-reads", "yes", "--enable-debug-command", "yes", NULL};
    struct err err = {""};
    int code = redis_server_start(
        &server, &(struct redis_server_options){.cpu = -1, .config = config}, &err);
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
        cmocka_unit_test(reading_threads_lose_no_command),
        cmocka_unit_test(slow_script_falls_into_the_bucket_that_redis_has_it_in),
        cmocka_unit_test(commands_behind_a_password_are_seen_without_it),
        cmocka_unit_test(what_a_monitor_is_sent_counts_for_nothing),
        cmocka_unit_test(pushed_messages_are_no_replies),
        cmocka_unit_test(commands_without_replies_are_counted),
        cmocka_unit_test(transactions_and_inline_commands_are_counted_one_by_one),
        cmocka_unit_test(every_reply_type_of_resp3_is_one_reply),
        cmocka_unit_test(half_a_request_and_rubbish_harm_no_other),
        cmocka_unit_test(processes_of_a_cgroup_are_traced_by_the_numbers_they_have_inside),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
