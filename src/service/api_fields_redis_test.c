/* Each member that an answer or a request about tasks and subscriptions may have, in the states in
 * which it may be there; what openapi.json says. */
#include "service/service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define TRACE \
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n" \
    "tracestate: vendor=\"a\\b\"\r\n"
#define TRACE_PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define TRACE_STATE "vendor=\"a\\b\""
#define MEMBERS \
    "\"payload\":{\"n\":1},\"priority\":4,\"maxAttempts\":3,\"idempotencyKey\":\"key\"," \
    "\"webhook\":\"http://192.0.2.1/hook\""

static struct service_fixture f;

static int start(void **state)
{
    (void)state;
    static const char *const arguments[] = {
        "--backoff-policy", "fixed", "--backoff-base", "1ms", "--waiters-max", "1", NULL};
    service_start(&f, arguments);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(codeqd_stop(&f), 0);
    f.codeqd.pid = 0;
    service_stop(&f);
    return 0;
}

/* One task of an answer; body 1: the answer itself, else its array's first item's member. */
static void check(const struct json *task, const char *status, const char *place, int attempts)
{
    assert_non_null(task);
    assert_string_equal(json_string(json_get(task, "status"), ""), status);
    assert_string_equal(json_string(json_get(task, "lastKnownLocation"), ""), place);
    assert_string_equal(json_string(json_get(task, "payload"), ""), "{\"n\":1}");
    assert_string_equal(json_string(json_get(task, "webhook"), ""), "http://192.0.2.1/hook");
    assert_string_equal(json_string(json_get(task, "traceParent"), ""), TRACE_PARENT);
    assert_string_equal(json_string(json_get(task, "traceState"), ""), TRACE_STATE);
    assert_string_equal(json_string(json_get(task, "tenantId"), ""), "dev-tenant");
    assert_int_equal(json_int(json_get(task, "priority"), 0), 4);
    assert_int_equal(json_int(json_get(task, "maxAttempts"), 0), 3);
    assert_int_equal(json_int(json_get(task, "attempts"), 0), attempts);
    bool leased = strcmp(status, "IN_PROGRESS") == 0;
    assert_int_equal(json_get(task, "workerId") != NULL, leased);
    assert_int_equal(json_get(task, "leaseUntil") != NULL, leased);
    assert_int_equal(json_get(task, "resultKey") != NULL, strcmp(status, "COMPLETED") == 0);
}

/* Created again with its key, one by one and in a batch, and read: the same task in this state. */
static void check_everywhere(const char *command, const char *status, const char *place,
                             int attempts, const char *error)
{
    char body[512];
    char path[128];
    snprintf(body, sizeof body, "{\"command\":\"%s\"," MEMBERS "}", command);
    struct answer a = http_do(&f, "POST", "/v1/codeq/tasks", TRACE, body);
    expect(&a, 202, NULL);
    check(a.json, status, place, attempts);
    assert_null(json_get(a.json, "deliveryToken"));
    assert_string_equal(json_string(json_get(a.json, "error"), ""), error);
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s", json_string(json_get(a.json, "id"), ""));
    answer_free(&a);
    snprintf(body, sizeof body, "{\"tasks\":[{\"command\":\"%s\"," MEMBERS "}]}", command);
    a = http_do(&f, "POST", "/v1/codeq/tasks/batch", TRACE, body);
    expect(&a, 200, NULL);
    const struct json *item = json_get(json_first(json_get(a.json, "results")), "task");
    check(item, status, place, attempts);
    assert_string_equal(json_string(json_get(item, "error"), ""), error);
    answer_free(&a);
    a = http_get(&f, path);
    expect(&a, 200, NULL);
    check(a.json, status, place, attempts);
    assert_string_equal(json_string(json_get(a.json, "error"), ""), error);
    answer_free(&a);
}

/* As claim, with the answer's task checked; many: through the batch route. */
static struct claimed_task claim_checked(const char *command, bool many, int attempts)
{
    struct claimed_task task = {0};
    char body[160];
    snprintf(body, sizeof body, "{\"commands\":[\"%s\"],\"leaseSeconds\":60%s}", command,
             many ? ",\"count\":1" : ",\"waitSeconds\":10");
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    while (task.id[0] == '\0') {
        struct answer a =
            http_post(&f, many ? "/v1/codeq/tasks/claim/batch" : "/v1/codeq/tasks/claim", body);
        if (a.status != 204) { /* the batch does not wait for the backoff's ms */
            expect(&a, 200, NULL);
            const struct json *t = many ? json_first(json_get(a.json, "tasks")) : a.json;
            check(t, "IN_PROGRESS", "INPROG_SET", attempts);
            assert_null(json_get(t, "error"));
            snprintf(task.id, sizeof task.id, "%s", json_string(json_get(t, "id"), ""));
            snprintf(task.token, sizeof task.token, "%s",
                     json_string(json_get(t, "deliveryToken"), ""));
            assert_true(strlen(task.token) > 16);
        }
        answer_free(&a);
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    return task;
}

static void with_token(const struct claimed_task *task, const char *what, const char *members)
{
    char path[128];
    char body[256];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/%s", task->id, what);
    snprintf(body, sizeof body, "{%s,\"deliveryToken\":\"%s\"}", members, task->token);
    struct answer a = http_post(&f, path, body);
    expect(&a, 200, NULL);
    answer_free(&a);
}

static void a_repeated_create_shows_its_task_in_each_state(void **state)
{
    (void)state;
    check_everywhere("KEYED", "PENDING", "PENDING_LIST", 0, "");
    struct claimed_task task = claim_checked("KEYED", false, 1);
    with_token(&task, "heartbeat", "\"extendSeconds\":90");
    check_everywhere("KEYED", "IN_PROGRESS", "INPROG_SET", 1, "");
    with_token(&task, "nack", "\"reason\":\"why\",\"delaySeconds\":60");
    check_everywhere("KEYED", "PENDING", "DELAYED_ZSET", 1, "why");
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s", task.id);
    struct answer a = http_do(&f, "DELETE", path, NULL, NULL);
    expect(&a, 204, NULL);
    answer_free(&a);

    check_everywhere("KEYED2", "PENDING", "PENDING_LIST", 0, "");
    task = claim_checked("KEYED2", true, 1);
    with_token(&task, "nack", "\"reason\":\"why\"");
    task = claim_checked("KEYED2", true, 2);
    with_token(&task, "nack", "\"reason\":\"why\"");
    task = claim_checked("KEYED2", false, 3);
    with_token(&task, "result", "\"status\":\"COMPLETED\",\"result\":{\"r\":1}");
    check_everywhere("KEYED2", "COMPLETED", "NONE", 3, "");
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result", task.id);
    a = http_get(&f, path);
    expect(&a, 200, NULL);
    check(json_get(a.json, "task"), "COMPLETED", "NONE", 3);
    answer_free(&a);
}

static void a_dead_letter_shows_what_its_task_was(void **state)
{
    (void)state;
    check_everywhere("DIES", "PENDING", "PENDING_LIST", 0, "");
    for (int i = 1; i <= 3; i++) {
        struct claimed_task task = claim_checked("DIES", i % 2 == 0, i);
        with_token(&task, "nack", "\"reason\":\"why\"");
    }
    struct answer a = http_get(&f, "/v1/codeq/admin/queues/DIES/dlq?limit=1&offset=0");
    expect(&a, 200, NULL);
    const struct json *task = json_first(json_get(a.json, "tasks"));
    check(task, "FAILED", "DLQ_SET", 3);
    assert_string_equal(json_string(json_get(task, "error"), ""), "why");
    char body[128];
    snprintf(body, sizeof body, "{\"ids\":[\"%s\"]}", json_string(json_get(task, "id"), ""));
    answer_free(&a);
    check_everywhere("DIES", "FAILED", "DLQ_SET", 3, "why");
    a = http_post(&f, "/v1/codeq/admin/queues/DIES/dlq/purge", body);
    expect(&a, 200, NULL);
    answer_free(&a);
    assert_int_equal(count(&f, "DIES", "dlq"), 0);
}

static void batches_take_every_member(void **state)
{
    (void)state;
    struct answer a = http_post(
        &f, "/v1/codeq/tasks/batch",
        "{\"tasks\":[{\"command\":\"MANY\",\"payload\":1,\"runAt\":\"2020-01-01T00:00:00Z\"},"
        "{\"command\":\"MANY\",\"payload\":2,\"delaySeconds\":0},"
        "{\"command\":\"LATER\",\"payload\":3,\"delaySeconds\":3600},"
        "{\"command\":\"LATER\",\"payload\":4,\"runAt\":\"2099-01-01T00:00:00Z\"},"
        "{\"command\":\"LATER\",\"payload\":5,\"runAt\":\"tomorrow\"}]}");
    expect(&a, 200, NULL);
    const struct json *item = json_first(json_get(a.json, "results"));
    for (int i = 0; i < 5; i++, item = json_next(item)) {
        const char *place = json_string(json_get(json_get(item, "task"), "lastKnownLocation"), "");
        assert_string_equal(place, i < 2 ? "PENDING_LIST" : i < 4 ? "DELAYED_ZSET" : "");
        assert_int_equal(json_get(item, "error") != NULL, i == 4);
    }
    answer_free(&a);
    assert_int_equal(count(&f, "LATER", "delayed"), 2);

    struct claimed_task one = claim(&f, "MANY", 60, 0);
    struct claimed_task two = claim(&f, "MANY", 60, 0);
    char body[1024];
    snprintf(body, sizeof body,
             "{\"heartbeats\":[{\"taskId\":\"%s\",\"extendSeconds\":60,\"deliveryToken\":\"%s\"},"
             "{\"taskId\":\"%s\",\"extendSeconds\":60,\"deliveryToken\":\"%s\"}]}",
             one.id, one.token, two.id, one.token);
    a = http_post(&f, "/v1/codeq/tasks/heartbeat/batch", body);
    expect(&a, 200, NULL);
    item = json_first(json_get(a.json, "results"));
    assert_true(json_bool(json_get(item, "ok"), false));
    assert_string_equal(json_string(json_get(item, "taskId"), ""), one.id);
    assert_non_null(json_get(json_next(item), "error")); /* the other's token */
    answer_free(&a);
    snprintf(body, sizeof body,
             "{\"results\":[{\"taskId\":\"%s\",\"status\":\"COMPLETED\",\"result\":{\"a\":[1]},"
             "\"deliveryToken\":\"%s\",\"artifacts\":[{\"name\":\"log.txt\",\"url\":"
             "\"https://e.com/log\",\"contentType\":\"text/plain\"}]},"
             "{\"taskId\":\"%s\",\"status\":\"FAILED\",\"error\":\"no \\\"luck\\\"\","
             "\"deliveryToken\":\"%s\"}]}",
             one.id, one.token, two.id, two.token);
    a = http_post(&f, "/v1/codeq/tasks/batch/results", body);
    expect(&a, 200, NULL);
    item = json_get(json_first(json_get(a.json, "results")), "result");
    const struct json *artifact = json_first(json_get(item, "artifacts"));
    assert_string_equal(json_string(json_get(artifact, "name"), ""), "log.txt");
    assert_string_equal(json_string(json_get(artifact, "url"), ""), "https://e.com/log");
    item = json_get(json_next(json_first(json_get(a.json, "results"))), "result");
    assert_string_equal(json_string(json_get(item, "status"), ""), "FAILED");
    assert_string_equal(json_string(json_get(item, "error"), ""), "no \"luck\"");
    answer_free(&a);
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result?waitSeconds=1", two.id);
    a = http_get(&f, path);
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(json_get(a.json, "result"), "error"), ""),
                        "no \"luck\"");
    assert_string_equal(json_string(json_get(json_get(a.json, "task"), "error"), ""),
                        "no \"luck\"");
    answer_free(&a);
}

static void a_result_names_its_artifacts_with_their_types(void **state)
{
    (void)state;
    create(&f, "ARTIFACT", "\"payload\":1", NULL);
    struct claimed_task task = claim(&f, "ARTIFACT", 60, 0);
    with_token(&task, "result",
               "\"status\":\"COMPLETED\",\"result\":{},\"artifacts\":[{\"name\":\"a\",\"url\":"
               "\"https://e.com/a\",\"contentType\":\"text/plain\"}]");
}

static void an_abandoned_delivery_may_be_named_by_its_token(void **state)
{
    (void)state;
    char path[128];
    char header[128];
    create(&f, "ABANDON", "\"payload\":1", NULL);
    struct claimed_task task = claim(&f, "ABANDON", 60, 0);
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/abandon", task.id);
    struct answer a = http_do(&f, "POST", path, "X-Delivery-Token: what\r\n", "");
    expect(&a, 400, "invalid deliveryToken");
    answer_free(&a);
    snprintf(header, sizeof header, "X-Delivery-Token: %s\r\n", task.token);
    a = http_do(&f, "POST", path, header, "");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "requeued");
    answer_free(&a);
    assert_int_equal(count(&f, "ABANDON", "ready"), 1);
}

static void past_the_limit_of_waiting_claims_more_are_refused(void **state)
{
    (void)state;
    static const char body[] = "{\"commands\":[\"IDLE\"],\"waitSeconds\":20}";
    int waiting = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL, body);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    for (;;) { /* until the first one waits */
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        struct answer a = http_get(&f, "/metrics");
        bool waits = strstr(a.body, "codeq_waiters 1\n") != NULL;
        answer_free(&a);
        if (waits) {
            break;
        }
    }
    struct answer a = http_post(&f, "/v1/codeq/tasks/claim", body);
    expect(&a, 503, "too many waiting claims");
    answer_free(&a);
    create(&f, "IDLE", "\"payload\":1", NULL);
    a = http_read(waiting, false);
    expect(&a, 200, NULL);
    answer_free(&a);
    close(waiting);
}

static void subscriptions_take_every_member_and_refuse_what_is_none(void **state)
{
    (void)state;
    struct answer a = http_post(
        &f, "/v1/codeq/workers/subscriptions",
        "{\"callbackUrl\":\"http://192.0.2.1/s\",\"eventTypes\":[\"X\"],\"ttlSeconds\":60,"
        "\"deliveryMode\":\"group\",\"groupId\":\"g\",\"minIntervalSeconds\":1}");
    expect(&a, 200, NULL);
    char path[160];
    snprintf(path, sizeof path, "/v1/codeq/workers/subscriptions/%s/heartbeat",
             json_string(json_get(a.json, "subscriptionId"), ""));
    int64_t first_ns = 0;
    int64_t second_ns = 0;
    assert_int_equal(clock_parse_rfc3339(json_string(json_get(a.json, "expiresAt"), ""), &first_ns),
                     0);
    answer_free(&a);
    a = http_post(&f, path, "{\"ttlSeconds\":600}");
    expect(&a, 200, NULL);
    assert_int_equal(
        clock_parse_rfc3339(json_string(json_get(a.json, "expiresAt"), ""), &second_ns), 0);
    assert_true(second_ns - first_ns > 500 * NS_PER_SEC);
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/workers/subscriptions/none/heartbeat", "{}");
    expect(&a, 404, "not-found");
    answer_free(&a);
    static const char *const refused[][2] = {
        {"{", "invalid body"},
        {"{}", "invalid body"},
        {"{\"callbackUrl\":\"ftp://e.com/\"}", "invalid callback url"},
        {"{\"callbackUrl\":\"http://e.com/\",\"deliveryMode\":\"x\"}", "invalid deliveryMode"},
        {"{\"callbackUrl\":\"http://e.com/\",\"deliveryMode\":\"group\"}", "groupId is required"},
        {"{\"callbackUrl\":\"http://e.com/\",\"ttlSeconds\":1e12}",
         "ttlSeconds or minIntervalSeconds is too large"},
        {"{\"callbackUrl\":\"http://e.com/\",\"ttlSeconds\":\"1\"}", "invalid body"},
        {"{\"callbackUrl\":\"http://e.com/\",\"eventTypes\":[1]}", "invalid body"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        a = http_post(&f, "/v1/codeq/workers/subscriptions", refused[i][0]);
        expect(&a, 400, refused[i][1]);
        answer_free(&a);
    }
}

static void the_description_is_served(void **state)
{
    (void)state;
    f.token = NULL;
    struct answer a = http_get(&f, "/openapi.json");
    f.token = "dev-token";
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "openapi"), ""), "3.1.0");
    answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeated_create_shows_its_task_in_each_state),
        cmocka_unit_test(a_dead_letter_shows_what_its_task_was),
        cmocka_unit_test(batches_take_every_member),
        cmocka_unit_test(a_result_names_its_artifacts_with_their_types),
        cmocka_unit_test(an_abandoned_delivery_may_be_named_by_its_token),
        cmocka_unit_test(past_the_limit_of_waiting_claims_more_are_refused),
        cmocka_unit_test(subscriptions_take_every_member_and_refuse_what_is_none),
        cmocka_unit_test(the_description_is_served),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
