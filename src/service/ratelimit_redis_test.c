#include "base/test.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/redis_server.h"
#include "service/ratelimit.h"
#include "store/conn.h"
#include "store/store_fixture.h"

struct world {
    struct fixture fixture;
    struct conn *conn;
    struct metrics *metrics;
};

static struct world world;

static struct conn *open_conn(int64_t timeout_ns)
{
    struct conn_options options = {.url = world.fixture.url,
                                   .clock = clock_system(),
                                   .connect_timeout_ns = 5 * NS_PER_SEC,
                                   .command_timeout_ns = timeout_ns};
    struct conn *conn = conn_open(&options, &world.fixture.err);
    assert_non_null(conn);
    return conn;
}

static int set_up(void **state)
{
    (void)state;
    fixture_start(&world.fixture);
    world.conn = open_conn(5 * NS_PER_SEC);
    world.metrics = metrics_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    conn_close(world.conn);
    metrics_free(world.metrics);
    fixture_stop(&world.fixture);
    return 0;
}

static void note(void *arg, int64_t retry_after_ms)
{
    *(int64_t *)arg = retry_after_ms;
}

static int64_t take(struct ratelimit *r, enum ratelimit_scope scope, const char *tenant,
                    const char *token)
{
    int64_t wait_ms = -1;
    assert_true(ratelimit_take(r, world.conn, scope, tenant, token, note, &wait_ms));
    assert_int_equal(conn_wait(world.conn, INT64_MAX), 0);
    assert_true(wait_ms >= 0);
    return wait_ms;
}

static double metric(const char *name)
{
    struct buf out = BUF_INIT;
    struct metrics_scrape scrape = {.redis_script_calls = -1, .version = ""};
    metrics_write(&world.metrics, 1, &scrape, &out);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "\n%s ", name);
    char *at = strstr(out.data, pattern);
    double value = at != NULL ? strtod(at + strlen(pattern), NULL) : -1;
    buf_fini(&out);
    return value;
}

static void nothing_is_limited_by_default(void **state)
{
    (void)state;
    struct config config = {0};
    assert_null(ratelimit_new(&config, world.metrics));
    config.rate_worker = (struct config_bucket){60, 0}; /* both must be above 0 */
    assert_null(ratelimit_new(&config, world.metrics));
    config.rate_worker = (struct config_bucket){60, 2};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    assert_non_null(r);
    int64_t untouched = -1;
    assert_false(ratelimit_take(r, world.conn, RATELIMIT_PRODUCER, "acme", "t", note, &untouched));
    assert_false(ratelimit_take(NULL, world.conn, RATELIMIT_WORKER, "acme", "t", note, &untouched));
    assert_int_equal(untouched, -1);
    ratelimit_free(r);
}

static void a_burst_passes_then_the_wait_is_told_exactly(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {600, 3}}; /* one each 100 ms */
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    int64_t begin_ms = redis_now_ms(&world.fixture);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "burst"), 0);
    }
    int64_t wait_ms = take(r, RATELIMIT_WORKER, "acme", "burst");
    assert_in_range(wait_ms, 1, 100);
    /* On this side of the wait it is refused, on the other it passes: by Redis's own clock. */
    int64_t refused = 0;
    int64_t passed_at_ms = 0;
    while (passed_at_ms == 0) {
        int64_t before_ms = redis_now_ms(&world.fixture);
        if (take(r, RATELIMIT_WORKER, "acme", "burst") != 0) {
            refused++;
            assert_true(before_ms - begin_ms < 100 + wait_ms);
        } else {
            passed_at_ms = redis_now_ms(&world.fixture);
        }
    }
    assert_true(refused > 0);
    assert_true(passed_at_ms - begin_ms >= 100);
    ratelimit_free(r);
}

static void refusals_cost_no_further_wait(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {60, 1}};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "patient"), 0);
    int64_t first = take(r, RATELIMIT_WORKER, "acme", "patient");
    int64_t last = first;
    for (int i = 0; i < 50; i++) {
        last = take(r, RATELIMIT_WORKER, "acme", "patient");
    }
    assert_true(first <= 1000 && last <= first && last > 0);
    ratelimit_free(r);
}

static void scopes_tenants_and_tokens_have_buckets_of_their_own(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {1, 1}, .rate_producer = {1, 1}};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "own"), 0);
    assert_in_range(take(r, RATELIMIT_WORKER, "acme", "own"), 50000, 60000);
    assert_int_equal(take(r, RATELIMIT_PRODUCER, "acme", "own"), 0);
    assert_int_equal(take(r, RATELIMIT_WORKER, "other", "own"), 0);
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "own2"), 0);
    assert_int_equal(redis_number(&world.fixture, "EXISTS {acme:own}:rl:worker"), 1);
    /* A full bucket is no key: idle tokens leave nothing behind. */
    int64_t ttl = redis_number(&world.fixture, "PTTL {acme:own}:rl:worker");
    assert_in_range(ttl, 1, 61000);
    ratelimit_free(r);
}

static void a_broken_bucket_is_a_full_one(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {1, 2}};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    free(redis_text(&world.fixture, "SET {acme:broken}:rl:worker junk"));
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "broken"), 0);
    /* Written by a Redis whose clock was ahead: neither refused for ever nor refilled. */
    free(redis_text(&world.fixture, "DEL {acme:broken}:rl:worker"));
    const char *argv[] = {"SET", "{acme:broken}:rl:worker", "1 9999999999999"};
    free(redis_do(&world.fixture, 3, argv, NULL));
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "broken"), 0);
    assert_true(take(r, RATELIMIT_WORKER, "acme", "broken") > 0);
    ratelimit_free(r);
}

static void without_redis_requests_pass_and_that_is_counted(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {1, 1}};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    double checks = metric("codeq_rate_limit_checks_total");
    double failed = metric("codeq_rate_limit_checks_failed_total");
    int64_t untouched = -1;
    assert_false(ratelimit_take(r, NULL, RATELIMIT_WORKER, "acme", "open", note, &untouched));
    /* A key of another type makes the script fail: not the client's fault. */
    free(redis_text(&world.fixture, "SADD {acme:open}:rl:worker x"));
    assert_int_equal(take(r, RATELIMIT_WORKER, "acme", "open"), 0);
    /* A Redis that hangs: let through when the time is over. */
    struct conn *slow = open_conn(50 * NS_PER_MS);
    free(redis_text(&world.fixture, "CLIENT PAUSE 300"));
    int64_t wait_ms = -1;
    assert_true(ratelimit_take(r, slow, RATELIMIT_WORKER, "acme", "open2", note, &wait_ms));
    conn_wait(slow, clock_monotonic_ns(clock_system()) + 5 * NS_PER_SEC);
    assert_int_equal(wait_ms, 0);
    conn_close(slow);
    assert_true(metric("codeq_rate_limit_checks_total") == checks + 3);
    assert_true(metric("codeq_rate_limit_checks_failed_total") == failed + 3);
    ratelimit_free(r);
}

static void the_refusal_reads_as_codeqs_and_rounds_up(void **state)
{
    (void)state;
    struct config config = {.rate_worker = {1, 1}};
    struct ratelimit *r = ratelimit_new(&config, world.metrics);
    struct buf body = BUF_INIT;
    ratelimit_refusal(r, RATELIMIT_WORKER, 1001, &body);
    assert_string_equal(body.data, "{\"error\":\"rate limit exceeded\",\"scope\":\"worker\","
                                   "\"operation\":\"claim\",\"retryAfterSeconds\":2}");
    buf_fini(&body);
    assert_int_equal(ratelimit_retry_after_seconds(1), 1);
    assert_int_equal(ratelimit_retry_after_seconds(1000), 1);
    assert_int_equal(ratelimit_retry_after_seconds(INT64_MAX), 86400);
    assert_true(metric("codeq_rate_limit_hits_total{scope=\"worker\",operation=\"claim\"}") == 1);
    ratelimit_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_limited_by_default),
        cmocka_unit_test(a_burst_passes_then_the_wait_is_told_exactly),
        cmocka_unit_test(refusals_cost_no_further_wait),
        cmocka_unit_test(scopes_tenants_and_tokens_have_buckets_of_their_own),
        cmocka_unit_test(a_broken_bucket_is_a_full_one),
        cmocka_unit_test(the_refusal_reads_as_codeqs_and_rounds_up),
        cmocka_unit_test(without_redis_requests_pass_and_that_is_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
