/* Every route of tasks over a real socket: its success, each of its errors, the state machine. */
#include "service/service_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static struct service_fixture f;

static int start(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--backoff-policy", "fixed", "--backoff-base", "1ms",
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

static struct answer post_to(const char *id, const char *what, const char *body)
{
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/%s", id, what);
    return http_post(&f, path, body);
}

static void expect_post(const char *path, const char *body, int status, const char *error)
{
    struct answer answer = http_post(&f, path, body);
    expect(&answer, status, error);
    answer_free(&answer);
}

static void expect_to(const char *id, const char *what, const char *body, int status,
                      const char *error)
{
    struct answer answer = post_to(id, what, body);
    expect(&answer, status, error);
    answer_free(&answer);
}

static void created_task_has_codeqs_fields(void **state)
{
    (void)state;
    struct answer a = http_post(&f, "/v1/codeq/tasks",
                                "{\"command\":\"FIELDS\",\"payload\":{\"a\": [1, 2.50]},"
                                "\"priority\":12,\"maxAttempts\":7,"
                                "\"webhook\":\"https://example.com/h\"}");
    expect(&a, 202, NULL);
    assert_string_equal(json_string(json_get(a.json, "command"), ""), "FIELDS");
    assert_string_equal(json_string(json_get(a.json, "payload"), ""), "{\"a\": [1, 2.50]}");
    assert_int_equal(json_int(json_get(a.json, "priority"), -1), 9);
    assert_int_equal(json_int(json_get(a.json, "maxAttempts"), -1), 7);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "PENDING");
    assert_string_equal(json_string(json_get(a.json, "lastKnownLocation"), ""), "PENDING_LIST");
    assert_string_equal(json_string(json_get(a.json, "tenantId"), ""), "dev-tenant");
    assert_string_equal(json_string(json_get(a.json, "webhook"), ""), "https://example.com/h");
    assert_null(json_get(a.json, "attempts"));
    assert_null(json_get(a.json, "workerId"));
    assert_null(json_get(a.json, "deliveryToken"));
    int64_t created_ns = 0;
    assert_int_equal(
        clock_parse_rfc3339(json_string(json_get(a.json, "createdAt"), ""), &created_ns), 0);
    assert_true(llabs(created_ns - clock_wall_ns(clock_system())) < 60 * NS_PER_SEC);
    char value[64];
    assert_true(answer_header(&a, "X-Request-Id", value, sizeof(value)));
    assert_int_equal(strlen(value), 32);
    answer_free(&a);
}

static void request_id_of_the_client_is_echoed_unless_it_is_hostile(void **state)
{
    (void)state;
    char value[256];
    struct answer a = http_do(&f, "GET", "/healthz", "X-Request-Id: abc-1\r\n", NULL);
    expect(&a, 200, NULL);
    assert_true(answer_header(&a, "X-Request-Id", value, sizeof(value)));
    assert_string_equal(value, "abc-1");
    answer_free(&a);
    a = http_do(&f, "GET", "/healthz", "X-Request-Id: a b\r\n", NULL);
    assert_true(answer_header(&a, "X-Request-Id", value, sizeof(value)));
    assert_int_equal(strlen(value), 32);
    answer_free(&a);
}

static void create_refuses_what_codeq_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *error;
    } cases[] = {
        {"", "invalid body"},
        {"[]", "invalid body"},
        {"{\"command\":1,\"payload\":1}", "invalid body"},
        {"{\"command\":\"C\",\"payload\":1,\"priority\":\"1\"}", "invalid body"},
        {"{\"command\":\"C\",\"payload\":1,\"priority\":1.5}", "invalid body"},
        {"{\"command\":\"C\",\"payload\":1,\"priority\":1e300}", "invalid body"},
        {"{\"command\":\"C\",\"command\":\"D\",\"payload\":1}", "invalid body"},
        {"{\"command\":\"C\\u0000\",\"payload\":1}", "invalid body"},
        {"{\"command\":\"\xff\",\"payload\":1}", "invalid body"},
        {"{\"command\":\"C\",\"payload\":1} x", "invalid body"},
        {"{\"payload\":1}", "command is required"},
        {"{\"command\":\" \\t\",\"payload\":1}", "command is required"},
        {"{\"command\":\"C\"}", "payload is required"},
        {"{\"command\":\"C\",\"payload\":null}", "payload is required"},
        {"{\"command\":\"C\",\"payload\":1,\"webhook\":\"ftp://x\"}",
         "webhook must be an http(s) url"},
        {"{\"command\":\"C\",\"payload\":1,\"runAt\":\"tomorrow\"}",
         "runAt must be an RFC 3339 time"},
        {"{\"command\":\"C\",\"payload\":1,\"delaySeconds\":-1}",
         "delaySeconds must not be negative"},
        {"{\"command\":\"C\",\"payload\":1,\"maxAttempts\":65536}", "maxAttempts is above 65535"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_post("/v1/codeq/tasks", cases[i].body, 400, cases[i].error);
    }
    char deep[1200] = "{\"command\":\"C\",\"payload\":";
    memset(deep + strlen(deep), '[', 500);
    memset(deep + strlen(deep), ']', 500);
    strcat(deep, "}");
    expect_post("/v1/codeq/tasks", deep, 400, "invalid body");
    assert_int_equal(count(&f, "C", "ready"), 0);
    char longest[400] = "{\"payload\":1,\"command\":\"";
    memset(longest + strlen(longest), 'x', 256);
    strcat(longest, "\"}");
    expect_post("/v1/codeq/tasks", longest, 400, "command is longer than 255 bytes");
    for (int falsy = 0; falsy < 3; falsy++) {
        static const char *const members[] = {"\"payload\":0", "\"payload\":false",
                                              "\"payload\":\"\""};
        create(&f, "FALSY", members[falsy], NULL);
    }
}

static void payload_passes_byte_for_byte(void **state)
{
    (void)state;
    static const char payload[] = "{ \"z\" :\t1.0e2 , \"a\":\"\\u00e9\\\"\\\\ \xc3\xa9/\",\"n\":"
                                  "123456789012345678901234567890}";
    char members[256];
    snprintf(members, sizeof(members), "\"payload\":  %s ", payload);
    create(&f, "BYTES", members, NULL);
    struct claimed_task task = claim(&f, "BYTES", 60, 0);
    assert_string_equal(task.payload, payload);
}

static void cycle_goes_from_created_to_completed(void **state)
{
    (void)state;
    char id[40];
    char path[128];
    create(&f, "CYCLE", "\"payload\":{\"n\":1},\"priority\":3", id);
    assert_int_equal(count(&f, "CYCLE", "ready"), 1);
    struct claimed_task task = claim(&f, "CYCLE", 60, 0);
    assert_string_equal(task.id, id);
    assert_int_equal(task.attempts, 1);
    assert_int_equal(task.priority, 3);
    assert_int_equal(count(&f, "CYCLE", "inProgress"), 1);
    assert_string_equal(claim(&f, "CYCLE", 60, 0).id, "");

    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", id);
    struct answer a = http_get(&f, path);
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "IN_PROGRESS");
    assert_string_equal(json_string(json_get(a.json, "workerId"), ""), "worker-dev");
    assert_non_null(json_get(a.json, "leaseUntil"));
    answer_free(&a);

    strcat(path, "/result");
    a = http_get(&f, path);
    expect(&a, 404, "result not found");
    answer_free(&a);

    expect_to(id, "heartbeat", "{\"extendSeconds\":60}", 200, NULL);
    a = post_to(id, "result",
                "{\"status\":\"COMPLETED\",\"result\":{\"ok\": true},"
                "\"artifacts\":[{\"name\":\"a.txt\",\"url\":\"https://e.com/a\"}]}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "taskId"), ""), id);
    assert_non_null(strstr(a.body, "\"result\":{\"ok\": true}"));
    assert_string_equal(json_string(json_get(json_first(json_get(a.json, "artifacts")), "url"), ""),
                        "https://e.com/a");
    answer_free(&a);

    a = http_get(&f, path);
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(json_get(a.json, "task"), "status"), ""), "COMPLETED");
    assert_true(json_bool(json_get(json_get(json_get(a.json, "result"), "result"), "ok"), false));
    answer_free(&a);
    expect_to(id, "result", "{\"status\":\"COMPLETED\",\"result\":{}}", 409, "not-in-progress");
    expect_to(id, "nack", "{}", 409, "not-in-progress");
    assert_int_equal(count(&f, "CYCLE", "inProgress"), 0);
}

static void failed_result_is_final_and_keeps_its_error(void **state)
{
    (void)state;
    char path[128];
    create(&f, "FAILS", "\"payload\":1", NULL);
    struct claimed_task task = claim(&f, "FAILS", 60, 0);
    expect_to(task.id, "result", "{\"status\":\"FAILED\"}", 400,
              "error is required when status is FAILED");
    expect_to(task.id, "result", "{\"status\":\"FAILED\",\"error\":\"it \\\"broke\\\"\"}", 200,
              NULL);
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", task.id);
    struct answer a = http_get(&f, path);
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "FAILED");
    assert_string_equal(json_string(json_get(a.json, "error"), ""), "it \"broke\"");
    answer_free(&a);
    assert_int_equal(count(&f, "FAILS", "dlq"), 0);
    assert_int_equal(count(&f, "FAILS", "ready"), 0);
}

static void result_is_checked(void **state)
{
    (void)state;
    create(&f, "CHECK", "\"payload\":1", NULL);
    struct claimed_task task = claim(&f, "CHECK", 60, 0);
    static const struct {
        const char *body;
        const char *error;
    } cases[] = {
        {"", "invalid request body"},
        {"{\"status\":1}", "invalid request body"},
        {"{\"status\":\"COMPLETED\",\"result\":[]}", "invalid request body"},
        {"{\"status\":\"DONE\",\"result\":{}}", "status must be COMPLETED or FAILED"},
        {"{\"result\":{}}", "status must be COMPLETED or FAILED"},
        {"{\"status\":\"COMPLETED\"}", "result is required when status is COMPLETED"},
        {"{\"status\":\"FAILED\",\"error\":\"  \"}", "error is required when status is FAILED"},
        {"{\"status\":\"COMPLETED\",\"result\":{},\"deliveryToken\":\"zz\"}",
         "invalid deliveryToken"},
        {"{\"status\":\"COMPLETED\",\"result\":{},\"artifacts\":[{\"name\":\"../a\","
         "\"url\":\"http://e.com\"}]}",
         "artifact name is missing or not a plain file name"},
        {"{\"status\":\"COMPLETED\",\"result\":{},\"artifacts\":[{\"name\":\"a\"}]}",
         "artifact needs an http(s) url"},
        {"{\"status\":\"COMPLETED\",\"result\":{},\"artifacts\":[{\"name\":\"a\","
         "\"contentBase64\":\"YQ==\",\"url\":\"http://e.com/a\"}]}",
         "artifacts with contentBase64 are not stored here: give a url"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_to(task.id, "result", cases[i].body, 400, cases[i].error);
    }
    expect_to("00000000-0000-8000-8000-000000000001", "result",
              "{\"status\":\"COMPLETED\",\"result\":{}}", 404, "task not found");
    expect_to("nonsense", "result", "{\"status\":\"COMPLETED\",\"result\":{}}", 404,
              "task not found");
    expect_to(task.id, "result", "{\"status\":\"COMPLETED\",\"result\":{}}", 200, NULL);
}

static void token_of_an_earlier_delivery_is_refused(void **state)
{
    (void)state;
    char body[256];
    char id[40];
    create(&f, "TOKEN", "\"payload\":1", id);
    struct claimed_task first = claim(&f, "TOKEN", 60, 0);
    expect_to(id, "abandon", "", 200, NULL);
    struct claimed_task second = claim(&f, "TOKEN", 60, 0);
    assert_string_equal(second.id, id);
    assert_int_equal(second.attempts, 1); /* the abandoned delivery does not count */
    snprintf(body, sizeof(body),
             "{\"status\":\"COMPLETED\",\"result\":{},\"deliveryToken\":\"%s\"}", first.token);
    expect_to(id, "result", body, 409, "lease-lost");
    snprintf(body, sizeof(body), "{\"deliveryToken\":\"%s\"}", first.token);
    expect_to(id, "heartbeat", body, 409, "lease-lost");
    expect_to(id, "nack", body, 409, "lease-lost");
    snprintf(body, sizeof(body), "X-Delivery-Token: %s\r\n", first.token);
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/abandon", id);
    struct answer a = http_do(&f, "POST", path, body, NULL);
    expect(&a, 409, "lease-lost");
    answer_free(&a);
    snprintf(body, sizeof(body),
             "{\"status\":\"COMPLETED\",\"result\":{\"n\":2},\"deliveryToken\":\"%s\"}",
             second.token);
    expect_to(id, "result", body, 200, NULL);
    /* The same completion again, as after a lost answer: the stored record. */
    struct answer again = post_to(id, "result", body);
    expect(&again, 200, NULL);
    assert_int_equal(json_int(json_get(json_get(again.json, "result"), "n"), 0), 2);
    answer_free(&again);
}

static void unclaimed_and_unknown_tasks_are_told_apart(void **state)
{
    (void)state;
    char id[40];
    create(&f, "UNCLAIMED", "\"payload\":1", id);
    expect_to(id, "heartbeat", "{}", 403, "not-owner");
    expect_to(id, "abandon", "", 403, "not-owner");
    expect_to(id, "nack", "{}", 403, "not-owner");
    expect_to(id, "result", "{\"status\":\"COMPLETED\",\"result\":{}}", 409, "not-in-progress");
    static const char *const ids[] = {"00000000-0000-8000-8000-000000000001", "x"};
    for (int i = 0; i < 2; i++) {
        expect_to(ids[i], "heartbeat", "{}", 404, "not-found");
        expect_to(ids[i], "abandon", "", 404, "not-found");
        expect_to(ids[i], "nack", "{}", 404, "task not found");
    }
    expect_to(id, "heartbeat", "", 400, "invalid body");
    expect_to(id, "nack", "", 400, "invalid body");
    expect_to(id, "nack", "{\"reason\":5}", 400, "invalid body");
}

static void nack_returns_until_attempts_are_spent_then_goes_to_the_dead(void **state)
{
    (void)state;
    char id[40];
    create(&f, "NACK", "\"payload\":1,\"maxAttempts\":2", id);
    assert_string_equal(claim(&f, "NACK", 60, 0).id, id);
    struct answer a = post_to(id, "nack", "{\"reason\":\"later\"}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "requeued");
    answer_free(&a);
    struct claimed_task again = claim(&f, "NACK", 60, 10);
    assert_string_equal(again.id, id);
    assert_int_equal(again.attempts, 2);
    a = post_to(id, "nack", "{\"delaySeconds\":5,\"reason\":\"no more\"}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "dlq");
    assert_int_equal(json_int(json_get(a.json, "delaySeconds"), -1), 0);
    answer_free(&a);
    assert_int_equal(count(&f, "NACK", "dlq"), 1);
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", id);
    a = http_get(&f, path);
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "FAILED");
    assert_string_equal(json_string(json_get(a.json, "lastKnownLocation"), ""), "DLQ_SET");
    assert_string_equal(json_string(json_get(a.json, "error"), ""), "no more");
    answer_free(&a);
}

static void nack_with_a_delay_waits_that_long(void **state)
{
    (void)state;
    char id[40];
    create(&f, "NACKDELAY", "\"payload\":1", id);
    claim(&f, "NACKDELAY", 60, 0);
    struct answer a = post_to(id, "nack", "{\"delaySeconds\":500}");
    expect(&a, 200, NULL);
    assert_int_equal(json_int(json_get(a.json, "delaySeconds"), -1), 500);
    answer_free(&a);
    assert_int_equal(count(&f, "NACKDELAY", "delayed"), 1);
    assert_string_equal(claim(&f, "NACKDELAY", 60, 0).id, "");
}

static void priorities_come_first_and_equal_ones_in_order(void **state)
{
    (void)state;
    char ids[6][40];
    static const int priorities[6] = {0, 9, 4, 9, 0, 4};
    static const int order[6] = {1, 3, 2, 5, 0, 4};
    for (int i = 0; i < 6; i++) {
        char members[64];
        snprintf(members, sizeof(members), "\"payload\":1,\"priority\":%d", priorities[i]);
        create(&f, "ORDER", members, ids[i]);
    }
    for (int i = 0; i < 6; i++) {
        assert_string_equal(claim(&f, "ORDER", 60, 0).id, ids[order[i]]);
    }
}

static void commands_are_tried_in_the_order_given_and_without_regard_to_case(void **state)
{
    (void)state;
    char second[40];
    create(&f, "Second", "\"payload\":2", second);
    struct answer a = http_post(&f, "/v1/codeq/tasks/claim",
                                "{\"commands\":[\"first\",\"SECOND\"],\"leaseSeconds\":60}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "id"), ""), second);
    assert_string_equal(json_string(json_get(a.json, "command"), ""), "Second");
    answer_free(&a);
}

static void claim_refuses_broken_bodies(void **state)
{
    (void)state;
    expect_post("/v1/codeq/tasks/claim", "", 400, "invalid body");
    expect_post("/v1/codeq/tasks/claim", "{\"commands\":\"X\"}", 400, "invalid body");
    expect_post("/v1/codeq/tasks/claim", "{\"commands\":[1]}", 400, "invalid body");
    expect_post("/v1/codeq/tasks/claim", "{\"leaseSeconds\":\"1\"}", 400, "invalid body");
    expect_post("/v1/codeq/tasks/claim/batch", "{\"commands\":[\"X\"]}", 400,
                "count must be 1 to 10");
    expect_post("/v1/codeq/tasks/claim/batch", "{\"commands\":[\"X\"],\"count\":11}", 400,
                "count must be 1 to 10");
    expect_post("/v1/codeq/tasks/claim/batch", "{\"commands\":[\"NOTHING\"],\"count\":3}", 204,
                NULL);
}

static void claim_without_commands_takes_the_built_in_ones(void **state)
{
    (void)state;
    char id[40];
    create(&f, "GENERATE_CREATIVE", "\"payload\":1", id);
    struct answer a = http_post(&f, "/v1/codeq/tasks/claim", "{}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "id"), ""), id);
    answer_free(&a);
}

static void batches_keep_order_and_fail_item_by_item(void **state)
{
    (void)state;
    struct answer a = http_post(&f, "/v1/codeq/tasks/batch",
                                "{\"tasks\":[{\"command\":\"BATCH\",\"payload\":1},{},"
                                "{\"command\":\"BATCH\"},{\"command\":\"BATCH\",\"payload\":3}]}");
    expect(&a, 200, NULL);
    const struct json *item = json_first(json_get(a.json, "results"));
    assert_string_equal(json_string(json_get(json_get(item, "task"), "payload"), ""), "1");
    item = json_next(item);
    assert_string_equal(json_string(json_get(item, "error"), ""), "command is required");
    item = json_next(item);
    assert_string_equal(json_string(json_get(json_get(item, "task"), "payload"), ""), "null");
    item = json_next(item);
    assert_string_equal(json_string(json_get(json_get(item, "task"), "payload"), ""), "3");
    assert_null(json_next(item));
    answer_free(&a);

    a = http_post(&f, "/v1/codeq/tasks/claim/batch",
                  "{\"commands\":[\"BATCH\"],\"count\":10,\"leaseSeconds\":60}");
    expect(&a, 200, NULL);
    const struct json *tasks = json_get(a.json, "tasks");
    assert_int_equal(json_count(tasks), 3);
    char beats[1024];
    char results[1024];
    int beat_bytes = snprintf(beats, sizeof(beats), "{\"heartbeats\":[{\"taskId\":\"x\"}");
    int bytes = snprintf(results, sizeof(results), "{\"results\":[");
    for (const struct json *t = json_first(tasks); t != NULL; t = json_next(t)) {
        const char *id = json_string(json_get(t, "id"), "");
        bytes += snprintf(results + bytes, sizeof(results) - (size_t)bytes,
                          "{\"taskId\":\"%s\",\"status\":\"COMPLETED\",\"result\":{}},", id);
        beat_bytes += snprintf(beats + beat_bytes, sizeof(beats) - (size_t)beat_bytes,
                               ",{\"taskId\":\"%s\",\"extendSeconds\":60}", id);
    }
    answer_free(&a);
    strcat(beats, "]}");
    a = http_post(&f, "/v1/codeq/tasks/heartbeat/batch", beats);
    expect(&a, 200, NULL);
    item = json_first(json_get(a.json, "results"));
    assert_string_equal(json_string(json_get(item, "error"), ""), "not-found");
    for (int i = 0; i < 3; i++) {
        item = json_next(item);
        assert_true(json_bool(json_get(item, "ok"), false));
    }
    answer_free(&a);
    strcat(results, "{\"taskId\":\"00000000-0000-8000-8000-000000000001\","
                    "\"status\":\"COMPLETED\",\"result\":{}},"
                    "{\"taskId\":\"00000000-0000-8000-8000-000000000001\",\"status\":1}]}");
    a = http_post(&f, "/v1/codeq/tasks/batch/results", results);
    expect(&a, 200, NULL);
    item = json_first(json_get(a.json, "results"));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(json_string(json_get(json_get(item, "result"), "status"), ""),
                            "COMPLETED");
        item = json_next(item);
    }
    assert_string_equal(json_string(json_get(item, "error"), ""), "task not found");
    item = json_next(item);
    assert_string_equal(json_string(json_get(item, "error"), ""), "invalid request body");
    answer_free(&a);

    static const char *const routes[] = {"/v1/codeq/tasks/batch", "/v1/codeq/tasks/batch/results",
                                         "/v1/codeq/tasks/heartbeat/batch"};
    static const char *const keys[] = {"tasks", "results", "heartbeats"};
    for (int i = 0; i < 3; i++) {
        char body[512];
        snprintf(body, sizeof(body), "{\"%s\":[]}", keys[i]);
        expect_post(routes[i], body, 400, "the list is empty");
        expect_post(routes[i], "{}", 400, "the list is empty");
        expect_post(routes[i], "{", 400, "invalid body");
        int n = snprintf(body, sizeof(body), "{\"%s\":[0", keys[i]);
        for (int k = 0; k < 100; k++) {
            n += snprintf(body + n, sizeof(body) - (size_t)n, ",0");
        }
        strcat(body, "]}");
        expect_post(routes[i], body, 400, "more than 100 items");
    }
}

static void idempotency_key_names_one_task_for_its_command(void **state)
{
    (void)state;
    char first[40];
    char again[40];
    char other[40];
    create(&f, "IDEM", "\"payload\":1,\"idempotencyKey\":\"k\"", first);
    create(&f, "IDEM", "\"payload\":2,\"idempotencyKey\":\"k\"", again);
    create(&f, "IDEM2", "\"payload\":3,\"idempotencyKey\":\"k\"", other);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    assert_int_equal(count(&f, "IDEM", "ready"), 1);
    struct claimed_task task = claim(&f, "IDEM", 60, 0);
    assert_string_equal(task.payload, "1");
    struct answer a = http_post(&f, "/v1/codeq/tasks",
                                "{\"command\":\"IDEM\",\"payload\":9,\"idempotencyKey\":\"k\"}");
    expect(&a, 202, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "IN_PROGRESS");
    answer_free(&a);
}

static void delayed_task_is_not_early_and_is_swept_without_a_claim(void **state)
{
    (void)state;
    char soon[32];
    char later[64];
    int64_t due_ns = clock_wall_ns(clock_system()) + 300 * NS_PER_MS;
    clock_format_rfc3339(due_ns, soon);
    snprintf(later, sizeof(later), "\"payload\":1,\"runAt\":\"%s\"", soon);
    create(&f, "DELAY", later, NULL);
    create(&f, "DELAY", "\"payload\":2,\"delaySeconds\":3600", NULL);
    create(&f, "DELAY", "\"payload\":3,\"runAt\":\"2001-01-01T00:00:00Z\"", NULL);
    assert_int_equal(count(&f, "DELAY", "delayed"), 2);
    assert_int_equal(count(&f, "DELAY", "ready"), 1);
    await_count(&f, "DELAY", "ready", 2);
    assert_true(clock_wall_ns(clock_system()) >= due_ns - NS_PER_MS);
}

static void expired_lease_is_swept_without_a_claim_and_its_token_is_lost(void **state)
{
    (void)state;
    char body[256];
    char id[40];
    create(&f, "EXPIRE", "\"payload\":1,\"maxAttempts\":2", id);
    struct claimed_task task = claim(&f, "EXPIRE", 1, 0);
    await_count(&f, "EXPIRE", "ready", 1);
    snprintf(body, sizeof(body),
             "{\"status\":\"COMPLETED\",\"result\":{},\"deliveryToken\":\"%s\"}", task.token);
    expect_to(id, "result", body, 409, "lease-lost");
    task = claim(&f, "EXPIRE", 1, 0);
    assert_int_equal(task.attempts, 2);
    await_count(&f, "EXPIRE", "dlq", 1);
}

static void waiting_claim_is_woken_by_a_create(void **state)
{
    (void)state;
    int fd = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                        "{\"commands\":[\"WAKE\"],\"waitSeconds\":20}");
    /* Another claim shows that the first has been read: requests are taken in order of arrival. */
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 50), 0);
    int64_t from = clock_monotonic_ns(clock_system());
    create(&f, "WAKE", "\"payload\":\"now\"", NULL);
    struct answer a = http_read(fd, false);
    expect(&a, 200, NULL);
    assert_true(clock_monotonic_ns(clock_system()) - from < 2 * NS_PER_SEC);
    answer_free(&a);
    close(fd);
}

static void waiting_claim_is_woken_by_a_delayed_task_that_becomes_due(void **state)
{
    (void)state;
    create(&f, "WAKEDUE", "\"payload\":1,\"delaySeconds\":1", NULL);
    int64_t from = clock_monotonic_ns(clock_system());
    struct claimed_task task = claim(&f, "WAKEDUE", 60, 15);
    int64_t took = clock_monotonic_ns(clock_system()) - from;
    assert_int_equal(strlen(task.id), 36);
    assert_true(took > 500 * NS_PER_MS && took < 5 * NS_PER_SEC);
}

/* Looks each 100 ms would find them 50 ms late in the mean. */
static void waiting_results_come_when_the_task_ends_and_not_at_the_next_look(void **state)
{
    (void)state;
    int64_t sum_ns = 0;
    for (int i = 0; i < 16; i++) {
        char id[40];
        char path[128];
        create(&f, "RESULTS", "\"payload\":1", id);
        claim(&f, "RESULTS", 600, 0);
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result?waitSeconds=20", id);
        int fd = http_begin(&f, "GET", path, NULL, NULL);
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&readable, 1, 5 + 13 * i % 100), 0); /* it waits */
        *strchr(path, '?') = '\0';
        int64_t from_ns = clock_monotonic_ns(clock_system());
        struct answer a = http_post(&f, path, "{\"status\":\"COMPLETED\",\"result\":{\"n\":1}}");
        expect(&a, 200, NULL);
        answer_free(&a);
        a = http_read(fd, false);
        sum_ns += clock_monotonic_ns(clock_system()) - from_ns;
        expect(&a, 200, NULL);
        assert_non_null(strstr(a.body, "\"result\":{\"n\":1}"));
        answer_free(&a);
        close(fd);
    }
    print_message("  mean %.2f ms\n", (double)sum_ns / 16e6);
    assert_true(sum_ns / 16 < 25 * NS_PER_MS);
}

static void waiting_claim_without_work_ends_at_its_time(void **state)
{
    (void)state;
    int64_t from = clock_monotonic_ns(clock_system());
    assert_string_equal(claim(&f, "NOWORK", 60, 1).id, "");
    int64_t took = clock_monotonic_ns(clock_system()) - from;
    assert_true(took >= 990 * NS_PER_MS && took < 5 * NS_PER_SEC);
}

static void each_of_many_waiting_claims_gets_one_task(void **state)
{
    (void)state;
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                            "{\"commands\":[\"MANY\"],\"waitSeconds\":20}");
    }
    for (int i = 0; i < 20; i++) {
        create(&f, "MANY", "\"payload\":1", NULL);
    }
    char ids[20][40];
    for (int i = 0; i < 20; i++) {
        struct answer a = http_read(fds[i], false);
        expect(&a, 200, NULL);
        strcpy(ids[i], json_string(json_get(a.json, "id"), ""));
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(ids[i], ids[k]);
        }
        answer_free(&a);
        close(fds[i]);
    }
    assert_int_equal(count(&f, "MANY", "ready"), 0);
    assert_int_equal(count(&f, "MANY", "inProgress"), 20);
}

static void work_made_through_another_codeqd_is_found(void **state)
{
    (void)state;
    static struct service_fixture other;
    other.redis = f.redis;
    codeqd_start(&other, NULL);
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                            "{\"commands\":[\"OTHER\"],\"waitSeconds\":20}");
    }
    struct pollfd readable = {.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 50), 0);
    int64_t from = clock_monotonic_ns(clock_system());
    for (int i = 0; i < 3; i++) {
        create(&other, "OTHER", "\"payload\":1", NULL);
    }
    for (int i = 0; i < 3; i++) {
        struct answer a = http_read(fds[i], false);
        expect(&a, 200, NULL);
        answer_free(&a);
        close(fds[i]);
    }
    assert_true(clock_monotonic_ns(clock_system()) - from < 5 * NS_PER_SEC);
    assert_int_equal(codeqd_stop(&other), 0);
}

static void claim_of_a_client_that_left_takes_nothing(void **state)
{
    (void)state;
    int fd = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                        "{\"commands\":[\"LEFT\"],\"waitSeconds\":20}");
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 50), 0);
    close(fd);
    create(&f, "LEFT", "\"payload\":1", NULL);
    create(&f, "LEFT", "\"payload\":2", NULL);
    await_count(&f, "LEFT", "ready", 2);
    assert_int_equal(count(&f, "LEFT", "inProgress"), 0);
}

static void result_is_waited_for(void **state)
{
    (void)state;
    char id[40];
    char path[128];
    create(&f, "WAITRESULT", "\"payload\":1", id);
    claim(&f, "WAITRESULT", 60, 0);
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/result?waitSeconds=20", id);
    int fd = http_begin(&f, "GET", path, NULL, NULL);
    expect_to(id, "result", "{\"status\":\"COMPLETED\",\"result\":{\"n\":7}}", 200, NULL);
    struct answer a = http_read(fd, false);
    expect(&a, 200, NULL);
    assert_int_equal(json_int(json_get(json_get(json_get(a.json, "result"), "result"), "n"), 0), 7);
    answer_free(&a);
    close(fd);
    a = http_get(&f, "/v1/codeq/tasks/00000000-0000-8000-8000-000000000001/result?waitSeconds=9");
    expect(&a, 404, "task not found");
    answer_free(&a);
    a = http_get(&f, "/v1/codeq/tasks/00000000-0000-8000-8000-000000000001");
    expect(&a, 404, "task not found");
    answer_free(&a);
}

static void tokens_and_routes_are_checked(void **state)
{
    (void)state;
    f.token = NULL;
    expect_post("/v1/codeq/tasks", "{}", 401, NULL);
    expect_post("/v1/codeq/tasks/claim", "{}", 401, NULL);
    f.token = "wrong";
    expect_post("/v1/codeq/tasks", "{}", 401, NULL);
    f.token = "dev-token";
    struct answer a = http_get(&f, "/v1/codeq/nothing");
    expect(&a, 404, "not found");
    answer_free(&a);
    a = http_do(&f, "DELETE", "/v1/codeq/tasks", NULL, NULL);
    expect(&a, 405, "method not allowed");
    answer_free(&a);
    a = http_get(&f, "/v1/codeq/admin/queues/a%bd"); /* no UTF-8: it would come back as no JSON */
    expect(&a, 400, "malformed path");
    answer_free(&a);
    a = http_get(&f, "/v1/codeq/admin/queues/a%2Fb");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "command"), ""), "a/b");
    answer_free(&a);
    a = http_do(&f, "HEAD", "/healthz", NULL, NULL);
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_get(&f, "/readyz");
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_get(&f, "/v1/codeq/raft/status");
    expect(&a, 200, NULL);
    assert_string_equal(a.body, "{\"enabled\":false,\"numGroups\":0}");
    answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(created_task_has_codeqs_fields),
        cmocka_unit_test(request_id_of_the_client_is_echoed_unless_it_is_hostile),
        cmocka_unit_test(create_refuses_what_codeq_refuses),
        cmocka_unit_test(payload_passes_byte_for_byte),
        cmocka_unit_test(cycle_goes_from_created_to_completed),
        cmocka_unit_test(failed_result_is_final_and_keeps_its_error),
        cmocka_unit_test(result_is_checked),
        cmocka_unit_test(token_of_an_earlier_delivery_is_refused),
        cmocka_unit_test(unclaimed_and_unknown_tasks_are_told_apart),
        cmocka_unit_test(nack_returns_until_attempts_are_spent_then_goes_to_the_dead),
        cmocka_unit_test(nack_with_a_delay_waits_that_long),
        cmocka_unit_test(priorities_come_first_and_equal_ones_in_order),
        cmocka_unit_test(commands_are_tried_in_the_order_given_and_without_regard_to_case),
        cmocka_unit_test(claim_refuses_broken_bodies),
        cmocka_unit_test(claim_without_commands_takes_the_built_in_ones),
        cmocka_unit_test(batches_keep_order_and_fail_item_by_item),
        cmocka_unit_test(idempotency_key_names_one_task_for_its_command),
        cmocka_unit_test(delayed_task_is_not_early_and_is_swept_without_a_claim),
        cmocka_unit_test(expired_lease_is_swept_without_a_claim_and_its_token_is_lost),
        cmocka_unit_test(waiting_claim_is_woken_by_a_create),
        cmocka_unit_test(waiting_claim_is_woken_by_a_delayed_task_that_becomes_due),
        cmocka_unit_test(waiting_results_come_when_the_task_ends_and_not_at_the_next_look),
        cmocka_unit_test(waiting_claim_without_work_ends_at_its_time),
        cmocka_unit_test(each_of_many_waiting_claims_gets_one_task),
        cmocka_unit_test(work_made_through_another_codeqd_is_found),
        cmocka_unit_test(claim_of_a_client_that_left_takes_nothing),
        cmocka_unit_test(result_is_waited_for),
        cmocka_unit_test(tokens_and_routes_are_checked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
