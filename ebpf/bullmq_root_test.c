/* BullMQ itself, from npm, on a real Redis, and what `leases` makes of its traffic by
 * rules/bullmq.rules, against what BullMQ counted. Exits 77 with the reason where BPF may not be
 * loaded or the npm packages of .ci/npm are not installed. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/redis_server.h"
#include "loader.h"
#include "trace_fixture.h"

static struct redis_server server;

static double tasks(const struct json *report, const char *event)
{
    return tracer_number(report, "leases", "event", event, "tasks");
}

static void jobs_of_bullmq_are_counted_one_by_one(void **state)
{
    (void)state;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)server.child.pid);
    struct tracer tracer;
    tracer_start(&tracer,
                 (const char *[]){"leases", "--pid", pid, "--rules", getenv("BULLMQ_RULES"), NULL});
    const char *argv[] = {"node", getenv("BULLMQ_SCRIPT"), server.socket_path, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    char *out = NULL;
    char *text = NULL;
    struct err err = {""};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC;
    int code = child_run(&options, deadline_ns, &out, &text, &err);
    struct json *truth = code == 0 ? json_parse(out, strlen(out), &err) : NULL;
    if (truth == NULL) {
        fail_msg("node: %d %s %s", code, err.text, text != NULL ? text : "");
    }
    struct json *report = tracer_stop(&tracer);
    double created = json_number(json_get(truth, "created"), 0);
    double started = json_number(json_get(truth, "started"), 0);
    double retried = json_number(json_get(truth, "retried"), 0);
    double stalled = json_number(json_get(truth, "stalled"), 0);
    assert_true(created == 300 && retried == 6 && stalled == 1);
    assert_count(tasks(report, "create"), created);
    assert_count(tasks(report, "claim"), started);
    assert_count(tasks(report, "granted"), started);
    assert_count(tasks(report, "complete"), json_number(json_get(truth, "completed"), 0));
    assert_count(tasks(report, "nack"), retried);
    assert_count(tasks(report, "expired"), stalled);
    assert_count(tasks(report, "redelivered"), retried + stalled);
    assert_count(tasks(report, "lease held"), created + retried);
    assert_count(tasks(report, "queue wait (create to grant)"), created);
    assert_count(tracer_number(report, "open", "scheduler", "bullmq", "open"), 0);
    /* A job of 900 ms under locks of 400 ms, renewed at half their time. */
    assert_true(tasks(report, "heartbeat") >= 3);
    assert_true(tracer_number(report, "open", "scheduler", "bullmq", "heartbeats_per_lease") > 0);
    assert_true(tracer_number(report, "leases", "event", "lease held", "latency_ns_max") > 0.9e9);
    assert_count(tracer_loss(report, "events_lost"), 0);
    assert_count(tracer_loss(report, "elements_lost"), 0);
    assert_count(tracer_loss(report, "ids_cut"), 0);
    json_free(report);
    json_free(truth);
    free(out);
    free(text);
}

static int start(void **state)
{
    (void)state;
    struct err err = {""};
    int code = redis_server_start(&server, &(struct redis_server_options){.cpu = -1}, &err);
    if (code != 0) {
        fprintf(stderr, "%s\n", err.text);
    }
    return code;
}

static int end(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

int main(void)
{
    int code = tracer_check(LOADER_NEEDS_ADMIN);
    if (code != 0) {
        return code;
    }
    char path[512];
    snprintf(path, sizeof path, "%s/bullmq/package.json", getenv("NODE_PATH"));
    if (access(path, R_OK) != 0) {
        printf("skipped: %s is not there: ./lab test installs it\n", path);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_of_bullmq_are_counted_one_by_one),
    };
    return cmocka_run_group_tests(tests, start, end);
}
