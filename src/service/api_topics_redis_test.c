/* The catalog of topics over a real socket. */
#include "service/service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define PLAIN "{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"dead\"}"

static struct service_fixture f;

static int start(void **state)
{
    (void)state;
    service_start(&f, NULL);
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

static struct answer topic(const char *method, const char *name, const char *body)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/codeq/admin/topics/%s", name);
    return http_do(&f, method, path, NULL, body);
}

static int64_t version(const struct answer *a)
{
    return json_int(json_get(a->json, "version"), 0);
}

static void a_topic_is_made_read_changed_and_deleted(void **state)
{
    (void)state;
    static const char full[] = "{\"priorityTiers\":[9,0,5],\"maxAttempts\":7,"
                               "\"deadLetterTopicRef\":\"dead\",\"retentionSeconds\":60,"
                               "\"maxConsumers\":3}";
    struct answer a = topic("GET", "orders", NULL);
    expect(&a, 404, "queue topic \"dev-tenant.orders\" not found");
    answer_free(&a);
    a = topic("PUT", "orders", full);
    expect(&a, 201, NULL);
    assert_string_equal(json_string(json_get(a.json, "topicId"), ""), "dev-tenant.orders");
    assert_string_equal(json_string(json_get(a.json, "topicName"), ""), "orders");
    assert_int_equal(version(&a), 1);
    char *made = strdup(json_string(json_get(a.json, "createdAt"), ""));
    answer_free(&a);
    a = topic("PUT", "orders", full); /* nothing changes */
    expect(&a, 200, NULL);
    assert_int_equal(version(&a), 1);
    answer_free(&a);
    a = topic("PUT", "orders",
              "{\"deadLetterTopicRef\":\"dead\",\"maxConsumers\":3,\"retentionSeconds\":60,"
              "\"maxAttempts\":8,\"priorityTiers\":[0,5,9]}");
    expect(&a, 200, NULL);
    assert_int_equal(version(&a), 2);
    assert_string_equal(json_string(json_get(a.json, "createdAt"), ""), made);
    answer_free(&a);
    a = topic("GET", "orders", NULL);
    expect(&a, 200, NULL);
    const struct json *policy = json_get(a.json, "policy");
    assert_int_equal(json_int(json_get(policy, "maxAttempts"), 0), 8);
    assert_int_equal(json_int(json_get(policy, "retentionSeconds"), 0), 60);
    assert_int_equal(json_int(json_get(policy, "maxConsumers"), 0), 3);
    assert_int_equal(json_int(json_first(json_get(policy, "priorityTiers")), -1), 0);
    assert_string_equal(json_string(json_get(policy, "deadLetterTopicRef"), ""), "dead");
    answer_free(&a);
    free(made);
    static const char *const unsaid[] = {"orders", "orders?deletionPolicy=delete",
                                         "orders?deletionPolicy="};
    for (size_t i = 0; i < 3; i++) {
        a = topic("DELETE", unsaid[i], NULL);
        expect(&a, 400, "deletionPolicy=Delete is required");
        answer_free(&a);
    }
    a = topic("DELETE", "orders?deletionPolicy=Delete", NULL);
    expect(&a, 204, NULL);
    answer_free(&a);
    a = topic("DELETE", "orders?deletionPolicy=Delete", NULL);
    expect(&a, 404, NULL);
    answer_free(&a);
}

static void each_bound_of_a_policy_names_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *field; /* NULL: it is no policy at all, 400 */
    } cases[] = {
        {"", NULL},
        {"[]", NULL},
        {"{\"unknown\":1}", NULL},
        {"{\"priorityTiers\":{}}", NULL},
        {"{\"priorityTiers\":[1.5]}", NULL},
        {"{\"priorityTiers\":[1],\"maxAttempts\":\"1\"}", NULL},
        {"{\"priorityTiers\":[]}", "priorityTiers"},
        {"{\"priorityTiers\":[0,1,2,3,4,5,6,7,8,9,10]}", "priorityTiers"},
        {"{\"priorityTiers\":[11]}", "priorityTiers"},
        {"{\"priorityTiers\":[-1]}", "priorityTiers"},
        {"{\"priorityTiers\":[1,1]}", "priorityTiers"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":0}", "maxAttempts"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":101}", "maxAttempts"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":1}", "deadLetterTopicRef"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"No\"}",
         "deadLetterTopicRef"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"t\"}",
         "deadLetterTopicRef"}, /* itself */
        {"{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"d\","
         "\"retentionSeconds\":-1}",
         "retentionSeconds"},
        {"{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"d\","
         "\"maxConsumers\":10001}",
         "maxConsumers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer a = topic("PUT", "t", cases[i].body);
        expect(&a, cases[i].field == NULL ? 400 : 422, NULL);
        assert_non_null(json_get(a.json, "error"));
        assert_string_equal(json_string(json_get(a.json, "field"), ""),
                            cases[i].field == NULL ? "" : cases[i].field);
        answer_free(&a);
    }
    struct answer a = topic("GET", "t", NULL);
    expect(&a, 404, NULL); /* nothing of it stayed */
    answer_free(&a);
}

static void a_name_that_is_no_label_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"Upper", "-a", "a-", "a.b",
                                        "0123456789012345678901234567890123456789012345678901234567"
                                        "890123"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static const char *const methods[] = {"PUT", "GET", "DELETE"};
        for (size_t m = 0; m < 3; m++) {
            char name[128];
            snprintf(name, sizeof name, "%s?deletionPolicy=Delete", names[i]);
            struct answer a = topic(methods[m], name, m == 0 ? PLAIN : NULL);
            expect(&a, 422, NULL);
            assert_string_equal(json_string(json_get(a.json, "field"), ""), "topicName");
            answer_free(&a);
        }
    }
}

static void past_the_most_topics_one_more_is_refused(void **state)
{
    (void)state;
    for (int done = 0; done < 10000; done += 500) {
        struct buf command = BUF_INIT;
        buf_puts(&command, "HSET {dev-tenant}:topics");
        for (int i = 0; i < 500; i++) {
            buf_printf(&command, " n%d 1", done + i);
        }
        free(redis_say(&f, command.data));
        buf_fini(&command);
    }
    struct answer a = topic("PUT", "one-more", PLAIN);
    expect(&a, 409, "too many topics");
    answer_free(&a);
    free(redis_say(&f, "HDEL {dev-tenant}:topics n0"));
    a = topic("PUT", "one-more", PLAIN);
    expect(&a, 201, NULL);
    answer_free(&a);
    a = topic("GET", "n1", NULL); /* what stands there is no topic of ours: no crash */
    assert_true(a.status == 200 || a.status == 500);
    answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topic_is_made_read_changed_and_deleted),
        cmocka_unit_test(each_bound_of_a_policy_names_its_field),
        cmocka_unit_test(a_name_that_is_no_label_is_refused),
        cmocka_unit_test(past_the_most_topics_one_more_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
