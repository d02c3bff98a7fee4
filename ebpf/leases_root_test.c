/* What `leases` says of codeqd, from the wire and from probe points, against what was done over
 * HTTP and what codeqd counted itself. Exits 77 with the reason where BPF may not be loaded. */
#include "service/service_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "loader.h"
#include "trace_fixture.h"

#define TASKS 60

static struct service_fixture f;

static double events(const struct json *report, const char *event, const char *number)
{
    return tracer_number(report, "leases", "event", event, number);
}

/* A counter of codeqd's /metrics, all labels together. */
static double metric(const char *name)
{
    struct answer answer = http_get(&f, "/metrics");
    expect(&answer, 200, NULL);
    double sum = 0;
    size_t n = strlen(name);
    for (const char *p = answer.body; p != NULL; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, name, n) == 0 && (p[n] == '{' || p[n] == ' ')) {
            const char *value = p[n] == '{' ? strstr(p, "} ") + 1 : p + n;
            sum += strtod(value, NULL);
        }
    }
    answer_free(&answer);
    return sum;
}

static void finish(const struct claimed_task *task, const char *route, const char *body, int status)
{
    char path[128];
    char text[256];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/%s", task->id, route);
    snprintf(text, sizeof text, "{%s%s\"deliveryToken\":\"%s\"}", body, *body != '\0' ? "," : "",
             task->token);
    struct answer answer = http_post(&f, path, text);
    expect(&answer, status, NULL);
    answer_free(&answer);
}

static void near(const char *what, double a, double b)
{
    /* A bucket is an eighth of a power of two wide; probe and system call are not at one point. */
    if (fabs(a - b) > 0.25 * fmax(a, b) + 40e3) {
        fail_msg("%s: %g ns by probe points, %g ns on the wire", what, a, b);
    }
}

static void probe_points_and_the_wire_agree_on_the_same_claims(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.codeqd.pid);
    struct tracer wire;
    struct tracer usdt;
    double granted_before = metric("codeq_task_claimed_total");
    tracer_start(&wire, (const char *[]){"leases", "--pid", pid, NULL});
    tracer_start(&usdt, (const char *[]){"leases", "--pid", pid, "--via", "usdt", NULL});
    for (int i = 0; i < TASKS; i++) {
        create(&f, "AGREE", "\"payload\":{\"n\":1}", NULL);
    }
    for (int i = 0; i < TASKS + 5; i++) {
        struct claimed_task task = claim(&f, "AGREE", 60, 0);
        assert_int_equal(task.id[0] != '\0', i < TASKS);
        if (i < TASKS) {
            finish(&task, "heartbeat", "\"extendSeconds\":60", 200);
            finish(&task, "result", "\"status\":\"COMPLETED\",\"result\":{}", 200);
        }
    }
    struct json *by_probe = tracer_stop(&usdt);
    struct json *by_wire = tracer_stop(&wire);
    static const char *const rows[] = {"create", "claim", "granted", "heartbeat", "complete"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double calls = strcmp(rows[i], "claim") == 0 ? TASKS + 5 : TASKS;
        assert_count(events(by_probe, rows[i], "calls"), calls);
        assert_count(events(by_wire, rows[i], "calls"), calls);
        assert_count(events(by_probe, rows[i], "tasks"), TASKS);
        assert_count(events(by_wire, rows[i], "tasks"), TASKS);
        near(rows[i], events(by_probe, rows[i], "latency_ns_p50"),
             events(by_wire, rows[i], "latency_ns_p50"));
    }
    assert_count(metric("codeq_task_claimed_total") - granted_before, TASKS);
    assert_count(tracer_loss(by_probe, "events_lost"), 0);
    assert_count(tracer_loss(by_probe, "claims_not_joined"), 0);
    /* The stages of a claim are the whole of it. */
    double parts[2] = {0};
    double whole[2] = {0};
    double counts[2] = {0};
    for (const struct json *row = json_first(json_get(by_probe, "claims")); row != NULL;
         row = json_next(row)) {
        int got = strcmp(json_string(json_get(row, "outcome"), ""), "granted") == 0;
        bool is_whole = strcmp(json_string(json_get(row, "stage"), ""), "claim, whole") == 0;
        double ns = json_number(json_get(row, "time_ns"), NAN);
        assert_true(ns > 0);
        *(is_whole ? &whole[got] : &parts[got]) += ns;
        if (is_whole) {
            counts[got] = json_number(json_get(row, "count"), 0);
        }
    }
    assert_count(counts[1], TASKS);
    assert_count(counts[0], 5);
    assert_count(parts[0], whole[0]);
    assert_count(parts[1], whole[1]);
    json_free(by_probe);
    json_free(by_wire);
}

static void a_claim_that_waited_shows_how_long_it_was_parked(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.codeqd.pid);
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"leases", "--pid", pid, "--via", "usdt", NULL});
    int fd = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                        "{\"commands\":[\"PARKED\"],\"leaseSeconds\":60,\"waitSeconds\":10}");
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    while (metric("codeq_waiters") < 1) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    int64_t from_ns = clock_monotonic_ns(clock_system());
    while (clock_monotonic_ns(clock_system()) < from_ns + 50 * NS_PER_MS) {
        metric("codeq_waiters");
    }
    create(&f, "PARKED", "\"payload\":{}", NULL);
    struct answer answer = http_read(fd, false);
    expect(&answer, 200, NULL);
    answer_free(&answer);
    close(fd);
    metric("codeq_waiters"); /* answered after the claim's last probe point */
    struct json *report = tracer_stop(&tracer);
    double parked = tracer_number(report, "claims", "stage", "parked", "time_ns");
    double whole = tracer_number(report, "claims", "stage", "claim, whole", "time_ns");
    assert_count(tracer_number(report, "claims", "stage", "claim, whole", "count"), 1);
    assert_true(parked >= 50e6 && parked < whole);
    json_free(report);
}

/* Known traffic: every figure of the view, and codeqd's own metrics of the same. */
static void every_lease_figure_equals_what_codeqd_counted(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.redis.child.pid);
    static const struct {
        const char *event;
        const char *metric;
    } pairs[] = {
        {"create", "codeq_task_created_total"},
        {"claim", "codeq_task_claimed_total"},
        {"granted", "codeq_task_claimed_total"},
        {"heartbeat", "codeq_lease_heartbeats_total"},
        {"complete", "codeq_task_completed_total"},
        {"nack", "codeq_task_nacked_total"},
        {"abandon", "codeq_task_abandoned_total"},
        {"expired", "codeq_lease_expired_total"},
        {"queue wait (create to grant)", "codeq_queue_wait_seconds_count"},
        {"lease held", "codeq_lease_hold_seconds_count"},
    };
    enum { PAIRS = sizeof pairs / sizeof pairs[0] };
    double before[PAIRS];
    for (size_t i = 0; i < PAIRS; i++) {
        before[i] = metric(pairs[i].metric);
    }
    double held_before = metric("codeq_lease_hold_seconds_sum");
    double waited_before = metric("codeq_queue_wait_seconds_sum");
    struct tracer tracer;
    tracer_start(&tracer, (const char *[]){"leases", "--pid", pid, NULL});
    for (int i = 0; i < 12; i++) {
        create(&f, "KNOWN", "\"payload\":{}", NULL);
    }
    struct claimed_task tasks[12];
    for (int i = 0; i < 12; i++) {
        tasks[i] = claim(&f, "KNOWN", i == 0 ? 1 : 60, 0);
        assert_true(tasks[i].id[0] != '\0');
    }
    /* The first is let go: swept, and given out again. */
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    while (metric("codeq_lease_expired_total") < before[7] + 1) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    for (int i = 1; i < 12; i++) {
        for (int beat = 0; beat < (i <= 4 ? 3 : 0); beat++) {
            finish(&tasks[i], "heartbeat", "\"extendSeconds\":60", 200);
        }
    }
    for (int i = 1; i <= 6; i++) {
        finish(&tasks[i], "result", "\"status\":\"COMPLETED\",\"result\":{}", 200);
    }
    finish(&tasks[7], "nack", "\"delaySeconds\":600", 200);
    finish(&tasks[8], "abandon", "", 200);
    struct claimed_task again = claim(&f, "KNOWN", 60, 15);
    assert_string_equal(again.id, tasks[8].id);
    struct json *report = tracer_stop(&tracer);
    for (size_t i = 0; i < PAIRS; i++) {
        double ours = events(report, pairs[i].event, "tasks");
        double theirs = metric(pairs[i].metric) - before[i];
        /* An abandon takes its attempt back: to codeqd the next claim is the first again. */
        theirs -= strcmp(pairs[i].metric, "codeq_queue_wait_seconds_count") == 0;
        if (ours != theirs || ours == 0) {
            fail_msg("%s: %g traced, %g counted by codeqd", pairs[i].event, ours, theirs);
        }
    }
    assert_count(events(report, "redelivered", "tasks"), 1);
    /* Nine, ten, eleven, and the one that was given out again. */
    assert_count(tracer_number(report, "open", "scheduler", "codeqd", "open"), 4);
    double oldest_ns = tracer_number(report, "open", "scheduler", "codeqd", "oldest_open_ns");
    assert_true(oldest_ns > 0.9e9 && oldest_ns < 60e9); /* it saw a lease of 1 s end */
    /* Eight have ended with an answer; four of them after three heartbeats each. */
    assert_count(tracer_number(report, "open", "scheduler", "codeqd", "heartbeats_per_lease"),
                 12.0 / 8.0);
    /* Times: codeqd measures at its own side of the socket, and in milliseconds for the wait. */
    double held = events(report, "lease held", "time_ns") / 1e9;
    double theirs = metric("codeq_lease_hold_seconds_sum") - held_before;
    if (held <= 0 || fabs(held - theirs) > 0.05) {
        fail_msg("leases held for %g s, by codeqd %g s", held, theirs);
    }
    double waited = events(report, "queue wait (create to grant)", "time_ns") / 1e9;
    assert_true(waited > 0 && waited < metric("codeq_queue_wait_seconds_sum") - waited_before);
    json_free(report);
}

static void redis_cli(const char *text)
{
    const char *argv[] = {"sh", "-c", text, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC;
    int code = child_run(&options, deadline_ns, &out, NULL, &err);
    if (code != 0 || strstr(out, "ERR") != NULL) {
        fail_msg("%d %s %s", code, out != NULL ? out : "", err.text);
    }
    free(out);
}

/* The commands that codeQ sends, in its order; rules/codeq.rules tells what they mean. */
static void commands_of_codeq_are_read_as_leases(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.redis.child.pid);
    struct tracer tracer;
    tracer_start(&tracer,
                 (const char *[]){"leases", "--pid", pid, "--rules", getenv("CODEQ_RULES"), NULL});
    char text[4096];
    snprintf(
        text, sizeof text,
        "redis-cli -s '%s' <<'END'\n"
        /* three created, one of them delayed and then due */
        "HSET codeq:tasks id-a {}\nZADD codeq:tasks:ttl 9 id-a\nLPUSH codeq:q:c:pending:0 id-a\n"
        "LPUSH codeq:q:c:t:pending:9 id-b\n"
        "ZADD codeq:q:c:delayed 5 id-c\nMULTI\nZREM codeq:q:c:delayed id-c\n"
        "LPUSH codeq:q:c:pending:0 id-c\nEXEC\n"
        /* claims: a script and a lease */
        "EVAL \"return redis.call('RPOP',KEYS[1])\" 2 codeq:q:c:pending:0 codeq:q:c:inprog 1\n"
        "SETEX codeq:lease:id-a 60 w\nSETEX codeq:lease:id-b 60 w\nSETEX codeq:lease:id-c 60 w\n"
        "EXPIRE codeq:lease:id-a 60\nEXPIRE codeq:lease:id-a 60\nEXPIRE other:id-a 60\n"
        /* result, abandon, nack */
        "HSET codeq:results id-a {}\nDEL codeq:lease:id-a\n"
        "SREM codeq:q:c:inprog id-b\nLPUSH codeq:q:c:t:pending:9 id-b\nDEL codeq:lease:id-b\n"
        "MULTI\nDEL codeq:lease:id-c\nZADD codeq:q:c:delayed 7 id-c\nEXEC\n"
        /* again; and one whose lease ran out */
        "SETEX codeq:lease:id-b 60 w\nSETEX codeq:lease:id-b 60 w\n"
        "SET codeq:lease:x 1\nSETEX elsewhere 60 id-q\nEND\n",
        f.redis.socket_path);
    redis_cli(text);
    struct json *report = tracer_stop(&tracer);
    static const struct {
        const char *event;
        double tasks;
    } expected[] = {{"create", 3},
                    {"claim", 5},
                    {"granted", 5},
                    {"heartbeat", 2},
                    {"complete", 1},
                    {"abandon", 1},
                    {"nack", 1},
                    {"lease held", 3},
                    {"redelivered", 2},
                    {"expired", 1},
                    {"queue wait (create to grant)", 3}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        double got = events(report, expected[i].event, "tasks");
        if (got != expected[i].tasks) {
            fail_msg("%s: %g, not %g", expected[i].event, got, expected[i].tasks);
        }
    }
    assert_count(events(report, "claim", "calls"), 6); /* the script, and five leases */
    assert_count(tracer_number(report, "open", "scheduler", "codeq", "open"), 1);
    assert_count(tracer_loss(report, "ids_cut"), 0);
    json_free(report);
}

static void probe_points_are_refused_where_there_are_none(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.redis.child.pid);
    const char *argv[] = {getenv("CODEQ_TRACE"), "leases", "--via", "usdt", "--pid", pid, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    char *text = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, &text, &err), 2);
    assert_non_null(strstr(text, "none of the processes has codeq's probe points"));
    free(out);
    free(text);
}

static void probe_points_need_the_admin_capability_and_say_so(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)f.codeqd.pid);
    const char *argv[] = {"setpriv",
                          "--inh-caps",
                          "-all",
                          "--ambient-caps",
                          "-all",
                          "--bounding-set",
                          "-all,+bpf,+perfmon,+dac_read_search",
                          getenv("CODEQ_TRACE"),
                          "leases",
                          "--via",
                          "usdt",
                          "--pid",
                          pid,
                          NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    char *text = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC;
    assert_int_equal(child_run(&options, deadline_ns, &out, &text, &err), 2);
    if (strstr(text, "CAP_SYS_ADMIN missing") == NULL) {
        fail_msg("%s", text);
    }
    free(out);
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
    int code = tracer_check(LOADER_NEEDS_ADMIN);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe_points_and_the_wire_agree_on_the_same_claims),
        cmocka_unit_test(a_claim_that_waited_shows_how_long_it_was_parked),
        cmocka_unit_test(every_lease_figure_equals_what_codeqd_counted),
        cmocka_unit_test(commands_of_codeq_are_read_as_leases),
        cmocka_unit_test(probe_points_are_refused_where_there_are_none),
        cmocka_unit_test(probe_points_need_the_admin_capability_and_say_so),
    };
    return cmocka_run_group_tests(tests, start, end);
}
