#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "load/codeq_api.h"

static struct http_conn conn;

static int make(void **state)
{
    (void)state;
    http_conn_init(&conn, 4096);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    http_conn_fini(&conn);
    return 0;
}

/* The body of the request in conn, checked against its Content-Length. */
static struct json *body_of(int64_t bytes)
{
    assert_true(bytes > 0);
    conn.out[bytes] = '\0';
    const char *body = strstr(conn.out, "\r\n\r\n") + 4;
    const char *length = strstr(conn.out, "Content-Length: ");
    assert_int_equal(atoi(length + 16), strlen(body));
    struct err err = {""};
    struct json *json = json_parse(body, strlen(body), &err);
    assert_string_equal(err.text, "");
    return json;
}

static void creates_are_json_of_the_asked_size(void **state)
{
    (void)state;
    char filler[600];
    memset(filler, 'x', sizeof filler);
    for (uint32_t size = 64; size <= 512; size += 64) {
        struct codeq_create task = {.command = "C",
                                    .run = 99,
                                    .seq = 12345,
                                    .tenant = 2,
                                    .payload_bytes = size,
                                    .filler = filler,
                                    .priority = 9,
                                    .run_at_ms = INT64_C(1763877845678)};
        struct json *json = body_of(codeq_write_create(&conn, "h", "t", &task, 1, false));
        char *payload = json_print(json_get(json, "payload"));
        assert_int_equal(strlen(payload), size);
        assert_int_equal(json_int(json_get(json_get(json, "payload"), "seq"), -1), 12345);
        assert_string_equal(json_string(json_get(json, "runAt"), ""), "2025-11-23T06:04:05.678Z");
        free(payload);
        json_free(json);
    }
    assert_non_null(strstr(conn.out, "POST /v1/codeq/tasks HTTP/1.1\r\n"));
}

static void batches_hold_every_item(void **state)
{
    (void)state;
    struct codeq_create tasks[3] = {{.command = "C", .filler = ""},
                                    {.command = "C", .filler = "", .seq = 1},
                                    {.command = "C", .filler = "", .seq = 2}};
    struct json *json = body_of(codeq_write_create(&conn, "h", "t", tasks, 3, true));
    assert_int_equal(json_count(json_get(json, "tasks")), 3);
    json_free(json);
    struct codeq_task claimed[2] = {{.id = "a", .token = "tok"}, {.id = "b"}};
    json = body_of(codeq_write_result(&conn, "h", "t", claimed, 2, true));
    const struct json *first = json_first(json_get(json, "results"));
    assert_string_equal(json_string(json_get(first, "taskId"), ""), "a");
    assert_string_equal(json_string(json_get(first, "deliveryToken"), ""), "tok");
    assert_null(json_get(json_next(first), "deliveryToken"));
    json_free(json);
}

static void what_was_created_is_recognised_when_claimed(void **state)
{
    (void)state;
    const char *body =
        "{\"tasks\":[{\"id\":\"u1\",\"command\":\"C\",\"payload\":\"{\\\"seq\\\":7,\\\"run\\\":42,"
        "\\\"tenant\\\":3,\\\"text\\\":\\\"\\\\\\\"id\\\\\\\":\\\\\\\"no\\\"}\","
        "\"deliveryToken\":\"T1\"},"
        "{\"id\":\"u2\",\"payload\":\"{\\\"seq\\\":8,\\\"run\\\":41,\\\"tenant\\\":3}\"},"
        "{\"id\":\"u3\",\"payload\":\"other\"}]}";
    struct codeq_task tasks[10];
    assert_int_equal(codeq_read_tasks(body, strlen(body), 42, tasks, 10), 3);
    assert_string_equal(tasks[0].id, "u1");
    assert_string_equal(tasks[0].token, "T1");
    assert_true(tasks[0].ours);
    assert_int_equal(tasks[0].seq, 7);
    assert_int_equal(tasks[0].tenant, 3);
    assert_false(tasks[1].ours);
    assert_false(tasks[2].ours);
    assert_int_equal(codeq_read_tasks(body, strlen(body), 42, tasks, 2), 2);
}

static void every_cut_of_an_answer_is_read_without_harm(void **state)
{
    (void)state;
    const char *body =
        "{\"id\":\"u1\",\"payload\":\"{\\\"seq\\\":7,\\\"run\\\":42,\\\"tenant\\\":3}\","
        "\"deliveryToken\":\"T1\"}";
    for (size_t n = 0; n <= strlen(body); n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, body, n);
        struct codeq_task task;
        assert_true(codeq_read_tasks(cut, n, 42, &task, 1) <= 1);
        free(cut);
    }
    char long_id[300] = "{\"id\":\"";
    memset(long_id + 7, 'a', 200);
    strcpy(long_id + 207, "\"}");
    struct codeq_task task;
    assert_int_equal(codeq_read_tasks(long_id, strlen(long_id), 1, &task, 1), 0);
}

static void refused_items_of_a_batch_are_named(void **state)
{
    (void)state;
    bool refused[3];
    const char *fine = "{\"results\":[{\"task\":{}},{\"task\":{}},{\"task\":{}}]}";
    assert_int_equal(codeq_read_refused(fine, strlen(fine), refused, 3), 0);
    const char *mixed = "{\"results\":[{\"task\":{}},{\"error\":\"no\"},{\"task\":{}}]}";
    assert_int_equal(codeq_read_refused(mixed, strlen(mixed), refused, 3), 1);
    assert_true(!refused[0] && refused[1] && !refused[2]);
    const char *broken = "{\"error\":";
    assert_int_equal(codeq_read_refused(broken, strlen(broken), refused, 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(creates_are_json_of_the_asked_size, make, drop),
        cmocka_unit_test_setup_teardown(batches_hold_every_item, make, drop),
        cmocka_unit_test(what_was_created_is_recognised_when_claimed),
        cmocka_unit_test(every_cut_of_an_answer_is_read_without_harm),
        cmocka_unit_test(refused_items_of_a_batch_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
