#include "base/test.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/buf.h"
#include "base/json.h"
#include "service/http_receiver.h"
#include "service/webhook.h"
#include "store/conn.h"
#include "store/store_fixture.h"

#define DEADLINE_NS (10 * NS_PER_SEC)

struct world {
    struct fixture fixture;
    struct receiver *receiver;
    struct config config;
    struct metrics *metrics;
    struct ev_loop *loop;
    struct conn *conn;
    struct store *store;
    struct webhook *webhook;
};

static struct conn *give_conn(void *arg)
{
    return ((struct world *)arg)->conn;
}

/* A codeqd's worth of parts; several may stand on one Redis. */
static void open_webhook(struct world *w)
{
    struct conn_options options = {.url = w->fixture.url,
                                   .clock = clock_system(),
                                   .connect_timeout_ns = 5 * NS_PER_SEC,
                                   .command_timeout_ns = 5 * NS_PER_SEC};
    struct err err = {""};
    w->conn = conn_open(&options, &err);
    assert_non_null(w->conn);
    w->store = fixture_open(&w->fixture, 7);
    w->loop = ev_loop_new(EVFLAG_AUTO);
    const struct webhook_options webhook_options = {
        .loop = w->loop,
        .config = &w->config,
        .clock = clock_system(),
        .metrics = w->metrics,
        .store = w->store,
        .conn = give_conn,
        .conn_arg = w,
    };
    w->webhook = webhook_new(&webhook_options, &err);
    if (w->webhook == NULL) {
        fail_msg("%s", err.text);
    }
}

static void close_webhook(struct world *w)
{
    webhook_stop(w->webhook);
    conn_close(w->conn);
    store_close(w->store);
    webhook_free(w->webhook);
    ev_loop_destroy(w->loop);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    fixture_start(&w->fixture);
    w->receiver = receiver_start();
    w->metrics = metrics_new();
    w->config = (struct config){
        .webhook_allow_private = true,
        .webhook_attempts_max = 3,
        .webhook_backoff_base_ns = 50 * NS_PER_MS,
        .webhook_backoff_max_ns = 2 * NS_PER_SEC,
        .webhook_timeout_ns = 2 * NS_PER_SEC,
        .webhook_connections_max = 8,
        .webhook_hmac_secret = (char *)(uintptr_t) "s3cret",
    };
    open_webhook(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    receiver_hold(w->receiver, false);
    close_webhook(w);
    receiver_stop(w->receiver);
    fixture_stop(&w->fixture);
    metrics_free(w->metrics);
    free(w);
    return 0;
}

static void turn(struct world *w)
{
    conn_flush(w->conn);
    store_flush(w->store);
    struct pollfd fds[2] = {{conn_fd(w->conn), POLLIN, 0}, {store_fd(w->store), POLLIN, 0}};
    poll(fds, 2, 1);
    conn_on_ready(w->conn, (fds[0].revents & POLLIN) != 0, true);
    store_on_ready(w->store, (fds[1].revents & POLLIN) != 0, true);
    ev_run(w->loop, EVRUN_NOWAIT);
}

static void pump_until(struct world *w, bool (*reached)(struct world *w, size_t n), size_t n)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + DEADLINE_NS;
    while (!reached(w, n)) {
        if (clock_monotonic_ns(clock_system()) > deadline_ns) {
            fail_msg("not within %lld s; %zu requests came", (long long)(DEADLINE_NS / NS_PER_SEC),
                     receiver_count(w->receiver));
        }
        turn(w);
    }
}

static bool requests_came(struct world *w, size_t n)
{
    return receiver_count(w->receiver) >= n;
}

static bool outbox_has(struct world *w, size_t n)
{
    char command[128];
    snprintf(command, sizeof command, "ZCARD {acme/%u/0}:o", w->fixture.queue.number);
    return redis_number(&w->fixture, command) == (int64_t)n;
}

static void end_task(struct world *w, const char *url, const char *result, bool failed,
                     char id_text[TASK_ID_TEXT_BYTES])
{
    char body[512];
    snprintf(body, sizeof body,
             "\"command\":\"work\",\"payload\":\"{}\",\"tenantId\":\"acme\",\"webhook\":\"%s\"",
             url);
    struct store_create_item item = {
        .priority = 1, .max_attempts = 1, .body = bytes_of(body), .wants_outbox = true};
    struct store_create_verdict created;
    assert_int_equal(create_call(&w->fixture, w->fixture.store, &item, 1, &created), STORE_OK);
    struct task_member token;
    assert_true(claim_one(&w->fixture, 60000, &token));
    struct store_complete_item end = {
        .lease = {.has_token = true, .token = token}, .failed = failed, .result = bytes_of(result)};
    struct store_return_verdict verdict;
    assert_int_equal(complete_call(&w->fixture, w->fixture.store, &end, 1, &verdict), STORE_OK);
    assert_int_equal(verdict.verdict, STORE_DONE);
    task_id_format(&created.id, id_text);
}

static void local_url(const struct world *w, char out[128], const char *path)
{
    snprintf(out, 128, "http://127.0.0.1:%u%s", receiver_port(w->receiver), path);
}

static void poke(struct world *w)
{
    webhook_poke(w->webhook, "acme", w->fixture.queue.number, 0);
}

static double metric(struct world *w, const char *name)
{
    struct buf out = BUF_INIT;
    struct metrics_scrape scrape = {.redis_script_calls = -1, .version = ""};
    metrics_write(&w->metrics, 1, &scrape, &out);
    char pattern[160];
    snprintf(pattern, sizeof pattern, "\n%s ", name);
    char *at = strstr(out.data, pattern);
    double value = at != NULL ? strtod(at + strlen(pattern), NULL) : -1;
    buf_fini(&out);
    return value;
}

#define RESULTS(outcome) \
    "codeq_webhook_deliveries_total{kind=\"task_result\",outcome=\"" outcome "\"}"

/* Computed here from the parts, not by the code under test. */
static void assert_signed(struct world *w, size_t n)
{
    char timestamp[64];
    char signature[128];
    receiver_header(w->receiver, n, "X-CodeQ-Timestamp", timestamp, sizeof timestamp);
    receiver_header(w->receiver, n, "X-CodeQ-Signature", signature, sizeof signature);
    int64_t age = clock_wall_ns(clock_system()) / NS_PER_SEC - strtoll(timestamp, NULL, 10);
    assert_true(age >= 0 && age < 30);
    struct buf text = BUF_INIT;
    buf_printf(&text, "%s.%s", timestamp, receiver_get(w->receiver, n).body);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    HMAC(EVP_sha256(), "s3cret", 6, (const unsigned char *)text.data, text.bytes, mac, &bytes);
    char expected[65];
    for (unsigned i = 0; i < bytes; i++) {
        snprintf(expected + 2 * (size_t)i, 3, "%02x", mac[i]);
    }
    assert_string_equal(signature, expected);
    buf_fini(&text);
}

static void a_result_is_posted_signed_and_leaves_the_outbox(void **state)
{
    struct world *w = *state;
    char url[128];
    char id[TASK_ID_TEXT_BYTES];
    local_url(w, url, "/done?x=1");
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{\"n\":1.50}", false, id);
    poke(w);
    pump_until(w, requests_came, 1);
    pump_until(w, outbox_has, 0);
    struct received got = receiver_get(w->receiver, 0);
    assert_non_null(strstr(got.head, "POST /done?x=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(got.head, "Content-Type: application/json"));
    assert_non_null(strstr(got.body, "\"result\":{\"n\":1.50}")); /* byte for byte */
    struct json *json = json_parse(got.body, strlen(got.body), NULL);
    assert_non_null(json);
    assert_string_equal(json_string(json_get(json, "taskId"), ""), id);
    assert_string_equal(json_string(json_get(json, "eventType"), ""), "work");
    assert_string_equal(json_string(json_get(json, "status"), ""), "COMPLETED");
    int64_t at_ns = 0;
    assert_int_equal(clock_parse_rfc3339(json_string(json_get(json, "completedAt"), ""), &at_ns),
                     0);
    json_free(json);
    assert_signed(w, 0);
    assert_true(metric(w, RESULTS("success")) == 1);
    assert_int_equal(receiver_count(w->receiver), 1);
}

static void a_dead_letter_is_told_as_failed_with_its_reason(void **state)
{
    struct world *w = *state;
    char url[128];
    local_url(w, url, "/dead");
    char body[512];
    snprintf(body, sizeof body, "\"command\":\"work\",\"payload\":\"1\",\"webhook\":\"%s\"", url);
    struct store_create_item item = {
        .max_attempts = 1, .body = bytes_of(body), .wants_outbox = true};
    struct store_create_verdict created;
    create_call(&w->fixture, w->fixture.store, &item, 1, &created);
    struct task_member token;
    assert_true(claim_one(&w->fixture, 60000, &token));
    struct store_nack_item nack = {.lease = {.has_token = true, .token = token},
                                   .reason = bytes_of("no \"paper\"")};
    struct store_return_verdict verdict;
    nack_call(&w->fixture, w->fixture.store, &nack, 1, &verdict);
    assert_true(verdict.dead);
    poke(w);
    pump_until(w, requests_came, 1);
    struct received got = receiver_get(w->receiver, 0);
    struct json *json = json_parse(got.body, strlen(got.body), NULL);
    assert_string_equal(json_string(json_get(json, "status"), ""), "FAILED");
    assert_string_equal(json_string(json_get(json, "error"), ""), "no \"paper\"");
    json_free(json);
    pump_until(w, outbox_has, 0);
}

static void a_receiver_that_fails_is_tried_again_with_growing_pauses_then_given_up(void **state)
{
    struct world *w = *state;
    char url[128];
    char id[TASK_ID_TEXT_BYTES];
    local_url(w, url, "/fails");
    receiver_answer(w->receiver, 500, 2, "");
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    poke(w);
    pump_until(w, requests_came, 3);
    pump_until(w, outbox_has, 0);
    int64_t first_ns = receiver_get(w->receiver, 1).at_ns - receiver_get(w->receiver, 0).at_ns;
    int64_t second_ns = receiver_get(w->receiver, 2).at_ns - receiver_get(w->receiver, 1).at_ns;
    assert_true(first_ns >= 49 * NS_PER_MS);
    assert_true(second_ns >= 99 * NS_PER_MS);
    assert_signed(w, 2); /* with a timestamp of its own */
    assert_true(metric(w, RESULTS("failure")) == 2 && metric(w, RESULTS("success")) == 1);
    /* 302 is no success and is not followed; a closed connection neither. */
    receiver_answer(w->receiver, 302, 2, "Location: http://127.0.0.1/elsewhere\r\n");
    end_task(w, url, "\"status\":\"FAILED\",\"error\":\"x\"", true, id);
    poke(w);
    pump_until(w, requests_came, 5);
    receiver_answer(w->receiver, 0, 1, "");
    pump_until(w, requests_came, 6);
    pump_until(w, outbox_has, 0);
    assert_true(metric(w, RESULTS("dropped")) == 1);
    assert_int_equal(redis_number(&w->fixture, "EXISTS {acme/0/0}:ot"), 0);
}

static void retry_after_of_a_receiver_is_kept(void **state)
{
    struct world *w = *state;
    char url[128];
    char id[TASK_ID_TEXT_BYTES];
    local_url(w, url, "/busy");
    receiver_answer(w->receiver, 429, 1, "Retry-After: 1\r\n");
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    poke(w);
    pump_until(w, requests_came, 2);
    assert_true(receiver_get(w->receiver, 1).at_ns - receiver_get(w->receiver, 0).at_ns >=
                999 * NS_PER_MS);
}

static bool refused(struct world *w, size_t n)
{
    return metric(w, "codeq_webhook_targets_refused_total") == (double)n;
}

static void private_addresses_are_refused_however_they_are_named(void **state)
{
    struct world *w = *state;
    close_webhook(w);
    w->config.webhook_allow_private = false;
    open_webhook(w);
    char id[TASK_ID_TEXT_BYTES];
    static const char *const hosts[] = {"127.0.0.1", "localhost",  "[::ffff:127.0.0.1]",
                                        "0.0.0.0",   "2130706433", "0x7f.1"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char url[128];
        snprintf(url, sizeof url, "http://%s:%u/", hosts[i], receiver_port(w->receiver));
        end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
        poke(w);
        pump_until(w, refused, i + 1);
        pump_until(w, outbox_has, 0);
    }
    assert_int_equal(receiver_count(w->receiver), 0);
}

static void hostile_targets_are_dropped_without_a_request(void **state)
{
    struct world *w = *state;
    char id[TASK_ID_TEXT_BYTES];
    static const char *const urls[] = {
        "file:///etc/passwd",        "gopher://127.0.0.1/", "http://",
        "http://user:pw@127.0.0.1/", "ftp://127.0.0.1/",    "http://127.0.0.1/a b"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        end_task(w, urls[i], "\"status\":\"COMPLETED\",\"result\":{}", false, id);
        assert_true(outbox_has(w, 1));
        poke(w);
        pump_until(w, outbox_has, 0);
    }
    assert_int_equal(receiver_count(w->receiver), 0);
}

static bool in_flight(struct world *w, size_t n)
{
    return metric(w, "codeq_webhooks_in_flight") == (double)n;
}

static void what_a_dead_codeqd_had_taken_is_delivered_by_the_next(void **state)
{
    struct world *w = *state;
    char url[128];
    char id[TASK_ID_TEXT_BYTES];
    local_url(w, url, "/restart");
    close_webhook(w);
    w->config.webhook_timeout_ns = 500 * NS_PER_MS;
    open_webhook(w);
    receiver_hold(w->receiver, true);
    for (int i = 0; i < 20; i++) {
        end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    }
    poke(w);
    pump_until(w, requests_came, 8); /* the bound on what is on its way */
    pump_until(w, in_flight, 8);
    close_webhook(w); /* nothing is settled: as if it had been killed */
    assert_true(outbox_has(w, 20));
    receiver_hold(w->receiver, false);
    size_t before = receiver_count(w->receiver);
    open_webhook(w); /* nobody tells it of the queue */
    pump_until(w, outbox_has, 0);
    assert_int_equal(receiver_count(w->receiver) - before, 20);
}

static void an_idle_outbox_costs_redis_nothing(void **state)
{
    struct world *w = *state;
    char url[128];
    char id[TASK_ID_TEXT_BYTES];
    local_url(w, url, "/idle");
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    poke(w);
    pump_until(w, outbox_has, 0);
    for (int i = 0; i < 20; i++) {
        turn(w);
    }
    struct conn_counters before;
    struct conn_counters after;
    conn_counters(w->conn, &before);
    int64_t end_ns = clock_monotonic_ns(clock_system()) + 500 * NS_PER_MS;
    while (clock_monotonic_ns(clock_system()) < end_ns) {
        turn(w);
    }
    conn_counters(w->conn, &after);
    assert_int_equal(after.commands, before.commands);
}

static void a_slow_receiver_holds_up_no_other(void **state)
{
    struct world *w = *state;
    struct receiver *slow = receiver_start();
    receiver_hold(slow, true);
    char id[TASK_ID_TEXT_BYTES];
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", receiver_port(slow));
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    local_url(w, url, "/");
    end_task(w, url, "\"status\":\"COMPLETED\",\"result\":{}", false, id);
    int64_t begin_ns = clock_monotonic_ns(clock_system());
    poke(w);
    pump_until(w, requests_came, 1);
    assert_true(clock_monotonic_ns(clock_system()) - begin_ns < NS_PER_SEC);
    receiver_hold(slow, false);
    pump_until(w, outbox_has, 0);
    receiver_stop(slow);
}

static void subscribe(struct world *w, const char *id, const char *path, const char *mode,
                      const char *group, int interval_ms)
{
    char record[400];
    snprintf(record, sizeof record,
             "{\"callbackUrl\":\"http://127.0.0.1:%u%s\",\"eventTypes\":[\"work\"],"
             "\"deliveryMode\":\"%s\",\"groupId\":\"%s\",\"minIntervalMs\":%d}",
             receiver_port(w->receiver), path, mode, group, interval_ms);
    const char *argv[] = {
        "EVALSHA", store_scripts[SCRIPT_SUBSCRIBE].sha, "1", "{acme}", id, "60000", record, "450"};
    char *reply = redis_do(&w->fixture, 8, argv, NULL);
    assert_true(strtoll(reply, NULL, 10) > 0);
    free(reply);
}

static bool notices_left(struct world *w, size_t n)
{
    return redis_number(&w->fixture, "ZCARD {acme}:o") == (int64_t)n;
}

static bool ready_sent(struct world *w, size_t n)
{
    return metric(w, "codeq_webhook_deliveries_total{kind=\"queue_ready\",outcome=\"success\"}") ==
           (double)n;
}

static void subscribers_are_told_once_an_interval_and_groups_take_turns(void **state)
{
    struct world *w = *state;
    webhook_ready(w->webhook, "acme", "work", 4); /* nobody has subscribed */
    subscribe(w, "s-all", "/all", "fanout", "", 60000);
    subscribe(w, "s-g1", "/g1", "group", "g", 1);
    subscribe(w, "s-g2", "/g2", "group", "g", 1);
    webhook_subscribed(w->webhook, "acme");
    for (size_t round = 1; round <= 4; round++) {
        webhook_ready(w->webhook, "acme", "other", 5);
        webhook_ready(w->webhook, "acme", "work", 4);
        webhook_ready(w->webhook, "none", "work", 4);
        pump_until(w, ready_sent, round + 1); /* one for all, then one of the group each time */
        pump_until(w, notices_left, 0);
    }
    int all = 0;
    int g1 = 0;
    int g2 = 0;
    for (size_t i = 0; i < receiver_count(w->receiver); i++) {
        struct received got = receiver_get(w->receiver, i);
        all += strstr(got.head, "POST /all ") != NULL;
        g1 += strstr(got.head, "POST /g1 ") != NULL;
        g2 += strstr(got.head, "POST /g2 ") != NULL;
        assert_non_null(strstr(got.body, "\"eventType\":\"work\",\"available\":true"));
        assert_non_null(strstr(got.body, "\"claimUrl\":\"/v1/codeq/tasks/claim\""));
        assert_signed(w, i);
    }
    assert_int_equal(all, 1);
    assert_int_equal(g1, 2);
    assert_int_equal(g2, 2);
    assert_int_equal(redis_number(&w->fixture, "EXISTS {acme}:ob"), 0);
}

static void a_notice_survives_a_restart_and_other_codeqds_see_the_subscription(void **state)
{
    struct world *w = *state;
    subscribe(w, "s-1", "/notice", "fanout", "", 60000);
    webhook_subscribed(w->webhook, "acme");
    receiver_hold(w->receiver, true);
    webhook_ready(w->webhook, "acme", "work", 4);
    pump_until(w, requests_came, 1);
    close_webhook(w);
    assert_true(notices_left(w, 1));
    receiver_hold(w->receiver, false);
    open_webhook(w); /* knows the tenant only from Redis */
    pump_until(w, notices_left, 0);
    assert_true(ready_sent(w, 1));
}

static void the_signature_is_the_documented_one(void **state)
{
    (void)state;
    char out[WEBHOOK_SIGNATURE_BYTES];
    /* printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key */
    webhook_sign("key", 1700000000, "{\"a\":1}", 7, out);
    assert_string_equal(out, "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_signature_is_the_documented_one),
        TEST(a_result_is_posted_signed_and_leaves_the_outbox),
        TEST(a_dead_letter_is_told_as_failed_with_its_reason),
        TEST(a_receiver_that_fails_is_tried_again_with_growing_pauses_then_given_up),
        TEST(retry_after_of_a_receiver_is_kept),
        TEST(private_addresses_are_refused_however_they_are_named),
        TEST(hostile_targets_are_dropped_without_a_request),
        TEST(what_a_dead_codeqd_had_taken_is_delivered_by_the_next),
        TEST(an_idle_outbox_costs_redis_nothing),
        TEST(a_slow_receiver_holds_up_no_other),
        TEST(subscribers_are_told_once_an_interval_and_groups_take_turns),
        TEST(a_notice_survives_a_restart_and_other_codeqds_see_the_subscription),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
