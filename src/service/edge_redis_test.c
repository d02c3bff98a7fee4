/* What stands around the core, through the built codeqd: tokens, limits, webhooks, the rights it
 * needs of Redis, codeQ's own examples, several codeqd in front of one Redis. */
#include "service/service_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "service/http_receiver.h"
#include "service/jwt_fixture.h"

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static void stop(struct service_fixture *f)
{
    assert_int_equal(codeqd_stop(f), 0);
    service_stop(f);
}

static void await_requests(struct receiver *receiver, size_t n)
{
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    while (receiver_count(receiver) < n) {
        if (now_ns() > deadline_ns) {
            fail_msg("%zu of %zu requests came", receiver_count(receiver), n);
        }
        poll(NULL, 0, 2);
    }
}

static void finish_task(struct service_fixture *f, const char *command)
{
    struct claimed_task task = claim(f, command, 60, 0);
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result", task.id);
    struct answer a = http_post(f, path, "{\"status\":\"COMPLETED\",\"result\":{\"ok\":true}}");
    expect(&a, 200, NULL);
    answer_free(&a);
}

static void webhooks_arrive_retry_and_survive_a_kill(void **state)
{
    (void)state;
    struct service_fixture f;
    static const char *const arguments[] = {"--webhook-allow-private",
                                            "--webhook-backoff-base",
                                            "20ms",
                                            "--webhook-timeout",
                                            "1s",
                                            "--webhook-hmac-secret",
                                            "s",
                                            NULL};
    struct receiver *receiver = receiver_start();
    service_start(&f, arguments);
    char members[160];
    snprintf(members, sizeof members, "\"payload\":1,\"webhook\":\"http://127.0.0.1:%u/h\"",
             receiver_port(receiver));
    receiver_answer(receiver, 503, 1, "");
    create(&f, "HOOK", members, NULL);
    finish_task(&f, "HOOK");
    await_requests(receiver, 2);
    assert_non_null(strstr(receiver_get(receiver, 1).body, "\"result\":{\"ok\":true}"));
    char signature[128];
    receiver_header(receiver, 1, "X-CodeQ-Signature", signature, sizeof signature);
    assert_int_equal(strlen(signature), 64);
    /* Killed while the receiver has not answered: the next codeqd delivers. */
    receiver_hold(receiver, true);
    create(&f, "HOOK", members, NULL);
    finish_task(&f, "HOOK");
    await_requests(receiver, 3);
    /* A receiver that hangs slows nobody down. */
    int64_t begin_ns = now_ns();
    for (int i = 0; i < 50; i++) {
        create(&f, "OTHER", "\"payload\":1", NULL);
    }
    assert_true(now_ns() - begin_ns < NS_PER_SEC);
    kill(f.codeqd.pid, SIGKILL);
    codeqd_stop(&f);
    receiver_hold(receiver, false);
    codeqd_start(&f, arguments);
    await_requests(receiver, 4);
    stop(&f);
    receiver_stop(receiver);
}

static void subscribers_are_told_of_work(void **state)
{
    (void)state;
    struct service_fixture f;
    static const char *const arguments[] = {"--webhook-allow-private", NULL};
    struct receiver *receiver = receiver_start();
    service_start(&f, arguments);
    char body[200];
    snprintf(body, sizeof body,
             "{\"callbackUrl\":\"http://127.0.0.1:%u/ready\",\"eventTypes\":[\"READY\"]}",
             receiver_port(receiver));
    struct answer a = http_post(&f, "/v1/codeq/workers/subscriptions", body);
    expect(&a, 200, NULL);
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/workers/subscriptions/%s/heartbeat",
             json_string(json_get(a.json, "subscriptionId"), ""));
    answer_free(&a);
    create(&f, "READY", "\"payload\":1", NULL);
    await_requests(receiver, 1);
    assert_non_null(strstr(receiver_get(receiver, 0).body, "\"eventType\":\"READY\""));
    a = http_post(&f, path, "{\"ttlSeconds\":60}");
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/workers/subscriptions/00-11/heartbeat", "");
    expect(&a, 404, "not-found");
    answer_free(&a);
    static const char *const bad[] = {"{}",
                                      "{\"callbackUrl\":\"ftp://x\"}",
                                      "[]",
                                      "{\"callbackUrl\":\"http://x\",\"deliveryMode\":\"all\"}",
                                      "{\"callbackUrl\":\"http://x\",\"deliveryMode\":\"group\"}",
                                      "{\"callbackUrl\":\"http://x\",\"ttlSeconds\":\"5\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        a = http_post(&f, "/v1/codeq/workers/subscriptions", bad[i]);
        expect(&a, 400, NULL);
        answer_free(&a);
    }
    stop(&f);
    receiver_stop(receiver);
}

static void past_its_rate_a_token_gets_429_until_retry_after(void **state)
{
    (void)state;
    struct service_fixture f;
    static const char *const arguments[] = {"--rate-producer-per-minute", "60",
                                            "--rate-producer-burst", "2", NULL};
    service_start(&f, arguments);
    create(&f, "R", "\"payload\":1", NULL);
    create(&f, "R", "\"payload\":1", NULL);
    struct answer a = http_post(&f, "/v1/codeq/tasks", "{\"command\":\"R\",\"payload\":1}");
    expect(&a, 429, "rate limit exceeded");
    char value[16];
    assert_true(answer_header(&a, "Retry-After", value, sizeof value));
    assert_string_equal(value, "1");
    answer_free(&a);
    int64_t deadline_ns = now_ns() + NS_PER_SEC; /* what Retry-After says */
    while (now_ns() < deadline_ns) {
        poll(NULL, 0, 5);
    }
    create(&f, "R", "\"payload\":1", NULL);
    /* A rate that is asked for never costs a claim its event types. */
    assert_int_equal(strlen(claim(&f, "R", 60, 0).id), 36);
    stop(&f);
}

static char *bearer(EVP_PKEY *pkey, const char *kid, const char *tenant)
{
    char header[64];
    char claims[320];
    snprintf(header, sizeof header, "{\"alg\":\"RS256\",\"kid\":\"%s\"}", kid);
    snprintf(claims, sizeof claims,
             "{\"iss\":\"i\",\"aud\":\"a\",\"sub\":\"w\",\"tid\":\"%s\",\"exp\":%lld,\"scope\":"
             "\"codeq:claim codeq:result codeq:heartbeat\",\"eventTypes\":[\"T\"]}",
             tenant, (long long)(clock_wall_ns(clock_system()) / NS_PER_SEC + 600));
    return fixture_token(pkey, header, claims);
}

static void keys_come_from_a_url_and_tenants_see_only_their_own(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_start();
    EVP_PKEY *pkey = fixture_rsa(0);
    char *jwk = fixture_jwk(pkey, "k");
    char *set = fixture_jwks(jwk, NULL);
    receiver_answer(receiver, 200, 100, "");
    receiver_body(receiver, set);
    char provider[200];
    snprintf(provider, sizeof provider,
             "{\"jwksUrl\":\"http://127.0.0.1:%u/jwks\",\"issuer\":\"i\",\"audience\":\"a\"}",
             receiver_port(receiver));
    const char *const arguments[] = {"--producer-auth-provider",
                                     "jwks",
                                     "--producer-auth-config",
                                     provider,
                                     "--worker-auth-provider",
                                     "jwks",
                                     "--worker-auth-config",
                                     provider,
                                     NULL};
    struct service_fixture f;
    service_start(&f, arguments);
    char *one = bearer(pkey, "k", "one");
    char *two = bearer(pkey, "k", "two");
    char id[40];
    f.token = one;
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    for (int status = 503; status != 202 && now_ns() < deadline_ns;) {
        struct answer a = http_post(&f, "/v1/codeq/tasks", "{\"command\":\"T\",\"payload\":1}");
        status = a.status;
        if (status != 202 && status != 503) { /* 503 while keys are on their way */
            fail_msg("%d %s", status, a.body);
        }
        answer_free(&a);
    }
    struct claimed_task task = claim(&f, "T", 60, 0);
    snprintf(id, sizeof id, "%s", task.id);
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s", id);
    struct answer a = http_get(&f, path);
    expect(&a, 200, NULL);
    answer_free(&a);
    a = http_post(&f, "/v1/codeq/tasks/claim", "{\"commands\":[\"OTHER\"]}");
    expect(&a, 403, "event type not allowed");
    answer_free(&a);
    f.token = two;
    a = http_get(&f, path);
    expect(&a, 404, NULL);
    answer_free(&a);
    static const char *const what[] = {"/heartbeat", "/result"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s%s", id, what[i]);
        a = http_post(&f, path, "{\"status\":\"FAILED\",\"error\":\"x\"}");
        assert_true(a.status == 403 || a.status == 404);
        answer_free(&a);
    }
    assert_int_equal(strlen(claim(&f, "T", 60, 0).id), 0);
    EVP_PKEY *other = fixture_rsa(1);
    char *forged = bearer(other, "k", "one");
    f.token = forged;
    a = http_post(&f, "/v1/codeq/tasks", "{\"command\":\"T\",\"payload\":1}");
    expect(&a, 401, "invalid signature");
    answer_free(&a);
    char *log = codeqd_log(&f);
    assert_null(strstr(log, one)); /* no token is ever logged */
    assert_null(strstr(log, forged));
    free(log);
    stop(&f);
    receiver_stop(receiver);
    free(one);
    free(two);
    free(forged);
    free(jwk);
    free(set);
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(other);
}

/* stdout of a shell command; fails the test when it does not end well. */
static char *shell(const char *command)
{
    const char *const argv[] = {"sh", "-c", command, NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    struct err err;
    int code = child_run(&options, now_ns() + SERVICE_DEADLINE_NS, &out, NULL, &err);
    if (code != 0) {
        fail_msg("%s: %d", command, code);
    }
    return out;
}

/* codeQ's README as it stands, but for the port and what it writes in angle brackets. */
static char *example(const struct service_fixture *f, const char *text, const char *id)
{
    struct buf command = BUF_INIT;
    while (*text != '\0') {
        if (strncmp(text, "localhost:8080", 14) == 0) {
            buf_printf(&command, "127.0.0.1:%u", f->port);
            text += 14;
        } else if (*text == '<') {
            buf_puts(&command, strncmp(text, "<id>", 4) == 0 ? id : "dev-token");
            text = strchr(text, '>') + 1;
        } else {
            buf_append(&command, text++, 1);
        }
    }
    char *out = shell(command.data);
    buf_fini(&command);
    return out;
}

static void the_curl_examples_of_codeq_work_verbatim(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, NULL);
    char *out = example(&f,
                        "curl -X POST http://localhost:8080/v1/codeq/tasks \\\n"
                        "  -H 'Authorization: Bearer <producer-token>' \\\n"
                        "  -H 'Content-Type: application/json' \\\n"
                        "  -d '{\"command\":\"GENERATE_MASTER\",\"payload\":{\"jobId\":\"j-123\"},"
                        "\"priority\":3}'",
                        "");
    struct json *json = json_parse(out, strlen(out), NULL);
    assert_string_equal(json_string(json_get(json, "status"), ""), "PENDING");
    assert_string_equal(json_string(json_get(json, "payload"), ""), "{\"jobId\":\"j-123\"}");
    char id[40];
    snprintf(id, sizeof id, "%s", json_string(json_get(json, "id"), ""));
    json_free(json);
    free(out);
    out = example(&f,
                  "curl -X POST http://localhost:8080/v1/codeq/tasks/claim \\\n"
                  "  -H 'Authorization: Bearer <worker-token>' \\\n"
                  "  -H 'Content-Type: application/json' \\\n"
                  "  -d '{\"commands\":[\"GENERATE_MASTER\"],\"leaseSeconds\":120,"
                  "\"waitSeconds\":10}'",
                  "");
    assert_non_null(strstr(out, id));
    assert_non_null(strstr(out, "\"status\":\"IN_PROGRESS\""));
    free(out);
    out = example(&f,
                  "curl -X POST http://localhost:8080/v1/codeq/tasks/<id>/result \\\n"
                  "  -H 'Authorization: Bearer <worker-token>' \\\n"
                  "  -H 'Content-Type: application/json' \\\n"
                  "  -d '{\"status\":\"COMPLETED\",\"result\":{\"ok\":true}}'",
                  id);
    assert_non_null(strstr(out, "\"status\":\"COMPLETED\",\"result\":{\"ok\":true}"));
    free(out);
    out = example(&f,
                  "curl -X PUT http://localhost:8080/v1/codeq/admin/topics/payments-events \\\n"
                  "  -H 'Authorization: Bearer <admin-token>' \\\n"
                  "  -H 'Content-Type: application/json' \\\n"
                  "  -d '{\"priorityTiers\":[1,3,5],\"maxAttempts\":5,\"deadLetterTopicRef\":"
                  "\"payments-events-dlq\",\"retentionSeconds\":604800,\"maxConsumers\":20}'",
                  "");
    assert_non_null(strstr(out, "\"topicId\":\"dev-tenant.payments-events\""));
    assert_non_null(strstr(out, "\"version\":1"));
    free(out);
    stop(&f);
}

static void redis_do_text(struct service_fixture *f, const char *command)
{
    char text[1200];
    snprintf(text, sizeof text, "redis-cli -s %s %s", f->redis.socket_path, command);
    free(shell(text));
}

/* The rights that src/service/README.md documents, and no others. */
#define RIGHTS \
    "resetkeys '~{*}:*' '~{*' resetchannels '&codeq:*' -@all +info +ping +scan " \
    "+publish +subscribe +evalsha '+script|load' " \
    "+time +get +set +incr +pexpire +pexpireat +hget +hset +hdel +hexists +hgetall +hincrby " \
    "+hlen +hmget +hscan +zadd +zcard +zcount +zmscore +zpopmin +zrange +zrangebyscore +zrem " \
    "+zremrangebyrank +zscore"

static void an_acl_user_with_the_documented_rights_can_do_everything(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, NULL);
    assert_int_equal(codeqd_stop(&f), 0);
    redis_do_text(&f, "ACL SETUSER codeqd on '>pw' " RIGHTS);
    redis_do_text(&f, "ACL LOG RESET");
    char url[200];
    snprintf(url, sizeof url, "unix:%s?user=codeqd&password=pw", f.redis.socket_path);
    struct receiver *receiver = receiver_start();
    const char *const arguments[] = {"--redis",
                                     url,
                                     "--webhook-allow-private",
                                     "--rate-worker-per-minute",
                                     "6000",
                                     "--rate-worker-burst",
                                     "100",
                                     NULL};
    codeqd_start(&f, arguments);
    char members[160];
    snprintf(members, sizeof members,
             "\"payload\":1,\"idempotencyKey\":\"k\",\"webhook\":\"http://127.0.0.1:%u/\"",
             receiver_port(receiver));
    create(&f, "ACL", members, NULL);
    finish_task(&f, "ACL");
    await_requests(receiver, 1);
    create(&f, "ACL", "\"payload\":1,\"delaySeconds\":1,\"maxAttempts\":1", NULL);
    struct claimed_task task = claim(&f, "ACL", 60, 10);
    char path[128];
    static const char *const steps[] = {"heartbeat", "nack"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s/%s", task.id, steps[i]);
        struct answer a = http_post(&f, path, "{}");
        expect(&a, 200, NULL);
        answer_free(&a);
    }
    static const char *const posts[][2] = {
        {"/v1/codeq/admin/queues/ACL/dlq/replay", "{}"},
        {"/v1/codeq/admin/queues/ACL/dlq/purge", "{}"},
        {"/v1/codeq/workers/subscriptions", "{\"callbackUrl\":\"http://127.0.0.1:1/\"}"},
        {"/v1/codeq/tasks/claim/batch", "{\"count\":10}"}, /* of all queues */
        {"/v1/codeq/admin/tasks/cleanup", "{\"before\":\"2099-01-01T00:00:00Z\"}"},
    };
    for (size_t i = 0; i < sizeof posts / sizeof *posts; i++) {
        struct answer a = http_post(&f, posts[i][0], posts[i][1]);
        expect(&a, 200, NULL);
        answer_free(&a);
    }
    /* A claim that waits, woken through the other codeqd's publish or its own. */
    int waiting = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                             "{\"commands\":[\"ACL\"],\"waitSeconds\":20}");
    create(&f, "ACL", "\"payload\":1", NULL);
    struct answer woken = http_read(waiting, false);
    expect(&woken, 200, NULL);
    answer_free(&woken);
    close(waiting);
    for (int i = 0; i < 2; i++) { /* the second is a duplicate */
        create(&f, "ACL", "\"payload\":1,\"idempotencyKey\":\"once\"", NULL);
    }
    struct answer a = http_do(&f, "PUT", "/v1/codeq/admin/topics/t", NULL,
                              "{\"priorityTiers\":[1],\"maxAttempts\":1,"
                              "\"deadLetterTopicRef\":\"d\"}");
    expect(&a, 201, NULL);
    answer_free(&a);
    a = http_get(&f, "/metrics");
    expect(&a, 200, NULL);
    assert_non_null(strstr(a.body, "codeq_redis_up 1\n"));
    assert_non_null(strstr(a.body, "codeq_task_duplicates_total{command=\"ACL\"} 1\n"));
    assert_non_null(strstr(a.body, "codeq_redis_pending "));
    answer_free(&a);
    char text[200];
    snprintf(text, sizeof text, "redis-cli -s %s ACL LOG", f.redis.socket_path);
    char *denied = shell(text);
    if (strcmp(denied, "\n") != 0) {
        fail_msg("denied: %s", denied);
    }
    free(denied);
    stop(&f);
    receiver_stop(receiver);
}

static void a_redis_that_throws_tasks_away_is_refused_at_start(void **state)
{
    (void)state;
    struct service_fixture f;
    service_start(&f, NULL);
    assert_int_equal(codeqd_stop(&f), 0);
    redis_do_text(&f, "CONFIG SET maxmemory-policy allkeys-lru");
    const char *const argv[] = {getenv("CODEQD"), "--listen",  "127.0.0.1:0",
                                "--redis",        f.redis_url, NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *log = NULL;
    struct err err;
    int code = child_run(&options, now_ns() + SERVICE_DEADLINE_NS, &out, &log, &err);
    assert_int_equal(code, 2);
    assert_non_null(strstr(log, "maxmemory-policy is allkeys-lru"));
    assert_non_null(strstr(log, "set it to noeviction"));
    free(out);
    free(log);
    service_stop(&f);
}

#define KILL_TASKS 600

/* Three codeqd, one Redis; one of them is killed while claims are under way. A task may come twice
 * only when its first lease was given by the killed one and never reached us, which ends by the
 * lease; within the lease nobody gets it again. */
static void three_codeqd_deliver_once_and_lose_nothing_when_one_is_killed(void **state)
{
    (void)state;
    struct service_fixture f[3];
    service_start(&f[0], NULL);
    for (int i = 1; i < 3; i++) {
        f[i] = f[0];
        f[i].port = 0;
        codeqd_start(&f[i], NULL);
    }
    char(*ids)[40] = calloc(KILL_TASKS, sizeof *ids);
    /* Claims that wait at the second and third are woken by creates at the first. */
    int waiting[2];
    for (int i = 0; i < 2; i++) {
        waiting[i] = http_begin(&f[i + 1], "POST", "/v1/codeq/tasks/claim", NULL,
                                "{\"commands\":[\"K\"],\"leaseSeconds\":600,\"waitSeconds\":20}");
    }
    size_t got = 0;
    for (int i = 0; i < KILL_TASKS; i++) {
        create(&f[i % 2], "K", "\"payload\":1", NULL);
    }
    for (int i = 0; i < 2; i++) {
        struct answer a = http_read(waiting[i], false);
        expect(&a, 200, NULL);
        snprintf(ids[got++], 40, "%s", json_string(json_get(a.json, "id"), ""));
        answer_free(&a);
        close(waiting[i]);
    }
    int lost = -1;
    while (got < KILL_TASKS) {
        int at = (int)(got % 3);
        if (got > KILL_TASKS / 2 && lost < 0) {
            /* A claim is in flight at the third when it dies. */
            int fd = http_begin(&f[2], "POST", "/v1/codeq/tasks/claim", NULL,
                                "{\"commands\":[\"K\"],\"leaseSeconds\":1}");
            kill(f[2].codeqd.pid, SIGKILL);
            struct answer a = http_read(fd, false);
            lost = a.status == 200 ? 0 : 1;
            if (a.status == 200) {
                snprintf(ids[got++], 40, "%s", json_string(json_get(a.json, "id"), ""));
            }
            answer_free(&a);
            close(fd);
            codeqd_stop(&f[2]);
        }
        at = lost >= 0 ? at % 2 : at;
        struct claimed_task task = claim(&f[at], "K", 600, 20); /* waits for the reaped one */
        assert_int_equal(strlen(task.id), 36);
        snprintf(ids[got++], 40, "%s", task.id);
    }
    qsort(ids, KILL_TASKS, sizeof *ids, (int (*)(const void *, const void *))strcmp);
    size_t twice = 0;
    for (size_t i = 1; i < KILL_TASKS; i++) {
        twice += strcmp(ids[i], ids[i - 1]) == 0;
    }
    /* Only the one-second lease of the claim answered by the dying codeqd may have come back. */
    assert_true(twice <= (lost == 0 ? 1 : 0));
    free(ids);
    f[1].redis = (struct redis_server){0};
    assert_int_equal(codeqd_stop(&f[1]), 0);
    stop(&f[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(webhooks_arrive_retry_and_survive_a_kill),
        cmocka_unit_test(subscribers_are_told_of_work),
        cmocka_unit_test(past_its_rate_a_token_gets_429_until_retry_after),
        cmocka_unit_test(keys_come_from_a_url_and_tenants_see_only_their_own),
        cmocka_unit_test(the_curl_examples_of_codeq_work_verbatim),
        cmocka_unit_test(an_acl_user_with_the_documented_rights_can_do_everything),
        cmocka_unit_test(a_redis_that_throws_tasks_away_is_refused_at_start),
        cmocka_unit_test(three_codeqd_deliver_once_and_lose_nothing_when_one_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
