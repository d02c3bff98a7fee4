/* Dead letters, deletion and cleaning up over a real socket, on a queue of three shards. */
#include "service/service_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static struct service_fixture f;

static int start(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--shards-per-queue", "3", NULL};
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

static void kill_one(const char *command, char id[40])
{
    create(&f, command, "\"payload\":1,\"maxAttempts\":1", NULL);
    struct claimed_task task = claim(&f, command, 60, 0);
    assert_int_equal(strlen(task.id), 36);
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/nack", task.id);
    struct answer a = http_post(&f, path, "{\"reason\":\"bad luck\"}");
    expect(&a, 200, NULL);
    assert_string_equal(json_string(json_get(a.json, "status"), ""), "dlq");
    answer_free(&a);
    strcpy(id, task.id);
}

static void dead_letters_are_listed_by_page_over_all_shards(void **state)
{
    (void)state;
    char ids[7][40];
    unsigned seen = 0;
    for (int i = 0; i < 7; i++) {
        kill_one("LIST", ids[i]);
    }
    for (int page = 0; page < 3; page++) {
        char path[128];
        snprintf(path, sizeof(path), "/v1/codeq/admin/queues/LIST/dlq?limit=3&offset=%d", 3 * page);
        struct answer a = http_get(&f, path);
        expect(&a, 200, NULL);
        assert_int_equal(json_int(json_get(a.json, "total"), -1), 7);
        const struct json *tasks = json_get(a.json, "tasks");
        assert_int_equal(json_count(tasks), page == 2 ? 1 : 3);
        for (const struct json *t = json_first(tasks); t != NULL; t = json_next(t)) {
            assert_string_equal(json_string(json_get(t, "error"), ""), "bad luck");
            assert_string_equal(json_string(json_get(t, "lastKnownLocation"), ""), "DLQ_SET");
            for (int i = 0; i < 7; i++) {
                if (strcmp(json_string(json_get(t, "id"), ""), ids[i]) == 0) {
                    assert_int_equal(seen & (1u << i), 0);
                    seen |= 1u << i;
                }
            }
        }
        answer_free(&a);
    }
    assert_int_equal(seen, 0x7f);
    struct answer a = http_get(&f, "/v1/codeq/admin/queues/LIST/dlq?limit=0");
    expect(&a, 400, NULL);
    answer_free(&a);
    a = http_get(&f, "/v1/codeq/admin/queues/LIST/dlq?offset=-1");
    expect(&a, 400, NULL);
    answer_free(&a);
}

static void named_ones_are_replayed_and_the_rest_stay(void **state)
{
    (void)state;
    char ids[3][40];
    char body[256];
    for (int i = 0; i < 3; i++) {
        kill_one("REPLAY", ids[i]);
    }
    snprintf(body, sizeof(body),
             "{\"ids\":[\"%s\",\"%s\",\"00000000-0000-8000-8000-000000000001\"]}", ids[0], ids[2]);
    struct answer a = http_post(&f, "/v1/codeq/admin/queues/REPLAY/dlq/replay", body);
    expect(&a, 200, NULL);
    assert_int_equal(json_int(json_get(a.json, "replayed"), -1), 2);
    answer_free(&a);
    assert_int_equal(count(&f, "REPLAY", "ready"), 2);
    assert_int_equal(count(&f, "REPLAY", "dlq"), 1);
    assert_int_equal(claim(&f, "REPLAY", 60, 0).attempts, 1);
}

static void all_are_replayed_and_all_are_purged(void **state)
{
    (void)state;
    char id[40];
    for (int i = 0; i < 5; i++) {
        kill_one("ALL", id);
    }
    struct answer a = http_post(&f, "/v1/codeq/admin/queues/ALL/dlq/replay", "");
    expect(&a, 200, NULL);
    assert_string_equal(a.body, "{\"replayed\":5,\"remaining\":0}");
    answer_free(&a);
    assert_int_equal(count(&f, "ALL", "ready"), 5);
    kill_one("ALL", id);
    a = http_post(&f, "/v1/codeq/admin/queues/ALL/dlq/purge", "{}");
    expect(&a, 200, NULL);
    assert_string_equal(a.body, "{\"purged\":1,\"remaining\":0}");
    answer_free(&a);
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", id);
    a = http_get(&f, path);
    expect(&a, 404, "task not found");
    answer_free(&a);
}

static void replay_and_purge_refuse_broken_lists(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{", "[]", "{\"ids\":1}", "{\"ids\":[]}", "{\"ids\":[1]}", "{\"ids\":[\"x\"]}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct answer a = http_post(&f, "/v1/codeq/admin/queues/X/dlq/purge", bodies[i]);
        expect(&a, 400, NULL);
        answer_free(&a);
        a = http_post(&f, "/v1/codeq/admin/queues/X/dlq/replay", bodies[i]);
        expect(&a, 400, NULL);
        answer_free(&a);
    }
}

static void task_is_deleted_unless_it_is_leased(void **state)
{
    (void)state;
    char id[40];
    char path[128];
    create(&f, "DELETE", "\"payload\":1", id);
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", id);
    struct answer a = http_do(&f, "DELETE", path, NULL, NULL);
    expect(&a, 204, NULL);
    answer_free(&a);
    a = http_do(&f, "DELETE", path, NULL, NULL);
    expect(&a, 404, "task not found");
    answer_free(&a);
    assert_string_equal(claim(&f, "DELETE", 60, 0).id, "");

    create(&f, "DELETE", "\"payload\":2", id);
    assert_string_equal(claim(&f, "DELETE", 60, 0).id, id);
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s", id);
    a = http_do(&f, "DELETE", path, NULL, NULL);
    expect(&a, 409, "leased");
    answer_free(&a);
    strcat(path, "?force=true");
    a = http_do(&f, "DELETE", path, NULL, NULL);
    expect(&a, 204, NULL);
    answer_free(&a);
    a = http_do(&f, "DELETE", "/v1/codeq/tasks/x", NULL, NULL);
    expect(&a, 404, "task not found");
    answer_free(&a);
}

static void cleanup_answers_as_codeq_does(void **state)
{
    (void)state;
    struct answer a = http_post(&f, "/v1/codeq/admin/tasks/cleanup",
                                "{\"limit\":7,\"before\":\"2026-01-02T03:04:05Z\"}");
    expect(&a, 200, NULL);
    assert_string_equal(a.body,
                        "{\"deleted\":0,\"before\":\"2026-01-02T03:04:05.000Z\",\"limit\":7}");
    answer_free(&a);
    a = http_do(&f, "POST", "/v1/codeq/admin/tasks/cleanup", NULL, NULL);
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/admin/tasks/cleanup", "{\"before\":\"x\"}");
    expect(&a, 400, NULL);
    answer_free(&a);
}

static void cleanup_deletes_what_ended_a_retention_before_and_nothing_else(void **state)
{
    (void)state;
    char ids[5][40];
    for (int i = 0; i < 5; i++) {
        create(&f, "CLEAN", "\"payload\":1", NULL);
    }
    char path[128];
    for (int i = 0; i < 5; i++) { /* three finished, one abandoned, one leased */
        strcpy(ids[i], claim(&f, "CLEAN", 600, 0).id);
        if (i < 4) {
            snprintf(path, sizeof path, "/v1/codeq/tasks/%s/%s", ids[i],
                     i < 3 ? "result" : "abandon");
            struct answer a = http_post(&f, path, "{\"status\":\"COMPLETED\",\"result\":{}}");
            expect(&a, 200, NULL);
            answer_free(&a);
        }
    }
    /* Two days ahead, all that has ended has outlived its 24 hours; two of them at first. */
    char when[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(clock_system()) + 48 * 3600 * NS_PER_SEC, when);
    static const int limits[] = {2, 5};
    static const int deleted[] = {2, 1};
    for (int i = 0; i < 2; i++) {
        char body[120];
        snprintf(body, sizeof body, "{\"limit\":%d,\"before\":\"%s\"}", limits[i], when);
        struct answer a = http_post(&f, "/v1/codeq/admin/tasks/cleanup", body);
        expect(&a, 200, NULL);
        assert_int_equal(json_int(json_get(a.json, "deleted"), -1), deleted[i]);
        assert_int_equal(json_int(json_get(a.json, "limit"), -1), limits[i]);
        answer_free(&a);
    }
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s", ids[i]);
        struct answer a = http_get(&f, path);
        expect(&a, i < 3 ? 404 : 200, NULL);
        answer_free(&a);
    }
}

static void queues_are_listed_with_their_counts(void **state)
{
    (void)state;
    create(&f, "COUNTED", "\"payload\":1", NULL);
    create(&f, "COUNTED", "\"payload\":1,\"delaySeconds\":60", NULL);
    struct answer a = http_get(&f, "/v1/codeq/admin/queues");
    expect(&a, 200, NULL);
    assert_int_equal(json_int(json_get(a.json, "codeq:q:COUNTED:dev-tenant:ready"), -1), 1);
    assert_int_equal(json_int(json_get(a.json, "codeq:q:COUNTED:dev-tenant:delayed"), -1), 1);
    answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dead_letters_are_listed_by_page_over_all_shards),
        cmocka_unit_test(named_ones_are_replayed_and_the_rest_stay),
        cmocka_unit_test(all_are_replayed_and_all_are_purged),
        cmocka_unit_test(replay_and_purge_refuse_broken_lists),
        cmocka_unit_test(task_is_deleted_unless_it_is_leased),
        cmocka_unit_test(cleanup_answers_as_codeq_does),
        cmocka_unit_test(cleanup_deletes_what_ended_a_retention_before_and_nothing_else),
        cmocka_unit_test(queues_are_listed_with_their_counts),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
