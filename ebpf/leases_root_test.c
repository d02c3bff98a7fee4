/* What `leases` says of codeqd, from the wire and from probe points, against what was done over
 * HTTP and what codeqd counted itself. Exits 77 with the reason where BPF may not be loaded. */
#include "service/service_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
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
    struct json *report = tracer_stop(&tracer);
    double parked = tracer_number(report, "claims", "stage", "parked", "time_ns");
    double whole = tracer_number(report, "claims", "stage", "claim, whole", "time_ns");
    assert_count(tracer_number(report, "claims", "stage", "claim, whole", "count"), 1);
    assert_true(parked >= 50e6 && parked < whole);
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
    int code = tracer_check();
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe_points_and_the_wire_agree_on_the_same_claims),
        cmocka_unit_test(a_claim_that_waited_shows_how_long_it_was_parked),
        cmocka_unit_test(probe_points_are_refused_where_there_are_none),
        cmocka_unit_test(probe_points_need_the_admin_capability_and_say_so),
    };
    return cmocka_run_group_tests(tests, start, end);
}
