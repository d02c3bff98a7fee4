/* What must hold for every route there is, by the tables of routes: no token, a token without the
 * scope, a rate that is used up, and a log that holds nothing of what was sent. */
#include "service/service_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "service/service.h"

#define WORKER_TOKEN "worker-hush-hush"
#define PRODUCER_TOKEN "producer-hush-hush"
#define NO_ID "018f0000-0000-8000-8000-000000000000"

static const struct route *const tables[] = {
    api_tasks_routes,  api_admin_routes, api_dead_routes, api_subscriptions_routes,
    api_topics_routes, metrics_routes,   openapi_routes,
};

static const char *method_name(enum http_verb method)
{
    return method == HTTP_METHOD_GET    ? "GET"
           : method == HTTP_METHOD_POST ? "POST"
           : method == HTTP_METHOD_PUT  ? "PUT"
                                        : "DELETE";
}

/* Something that exists in a path's places: an id, a command, a name. */
static void path_of(const struct route *route, char out[256])
{
    size_t n = 0;
    for (const char *p = route->pattern; *p != '\0';) {
        if (*p != ':') {
            out[n++] = *p++;
            continue;
        }
        bool id = strncmp(p, ":id", 3) == 0;
        n += (size_t)snprintf(out + n, 256 - n, "%s", id ? NO_ID : "t");
        p += strcspn(p, "/");
    }
    out[n] = '\0';
}

typedef void each_fn(struct service_fixture *f, const struct route *route, const char *path);

static unsigned for_each_route(struct service_fixture *f, each_fn *each)
{
    unsigned count = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const struct route *r = tables[t]; r->pattern != NULL; r++, count++) {
            char path[256];
            path_of(r, path);
            each(f, r, path);
        }
    }
    return count;
}

static void stop(struct service_fixture *f)
{
    assert_int_equal(codeqd_stop(f), 0);
    f->codeqd.pid = 0;
    service_stop(f);
}

static void start(struct service_fixture *f, const char *scopes, const char *event_types,
                  const char *const *more)
{
    char worker[512];
    snprintf(worker, sizeof worker,
             "{\"token\":\"" WORKER_TOKEN "\",\"subject\":\"w\",\"scopes\":%s,\"eventTypes\":%s,"
             "\"raw\":{\"tenantId\":\"dev-tenant\"}}",
             scopes, event_types);
    const char *arguments[SERVICE_ARGS_MAX] = {
        "--producer-auth-provider",
        "static",
        "--producer-auth-config",
        "{\"token\":\"" PRODUCER_TOKEN "\",\"subject\":\"p\",\"raw\":{\"role\":\"ADMIN\","
        "\"tenantId\":\"dev-tenant\"}}",
        "--worker-auth-provider",
        "static",
        "--worker-auth-config",
        worker,
    };
    size_t n = 8;
    for (size_t i = 0; more != NULL && more[i] != NULL; i++) {
        arguments[n++] = more[i];
    }
    service_start(f, arguments);
}

#define EVERY_SCOPE \
    "[\"codeq:claim\",\"codeq:heartbeat\",\"codeq:abandon\",\"codeq:nack\",\"codeq:result\"," \
    "\"codeq:subscribe\"]"

/* ---- no token, another token, no scope ---- */

static void asks_without_a_token(struct service_fixture *f, const struct route *r, const char *path)
{
    static const char *const headers[] = {"", "Authorization: Bearer nobody\r\n",
                                          "Authorization: Basic " PRODUCER_TOKEN "\r\n"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        f->token = NULL;
        struct answer a = http_do(f, method_name(r->method), path, headers[i], "{}");
        if (r->class == AUTH_PUBLIC) {
            assert_int_equal(a.status, 200);
        } else {
            expect(&a, 401, NULL);
        }
        answer_free(&a);
    }
    /* A worker is no producer and no administrator, nor the other way about. */
    f->token = r->class == AUTH_WORKER ? PRODUCER_TOKEN : WORKER_TOKEN;
    struct answer a = http_do(f, method_name(r->method), path, NULL, "{}");
    bool other = r->class == AUTH_WORKER || r->class == AUTH_PRODUCER || r->class == AUTH_ADMIN;
    if ((a.status == 401) != other) {
        fail_msg("%s with the other token: %d %s", r->operation, a.status, a.body);
    }
    answer_free(&a);
}

static void no_route_that_wants_a_token_answers_without_it(void **state)
{
    (void)state;
    struct service_fixture f;
    start(&f, EVERY_SCOPE, "[\"*\"]", NULL);
    assert_true(for_each_route(&f, asks_without_a_token) > 25);
    stop(&f);
}

static void asks_without_the_scope(struct service_fixture *f, const struct route *r,
                                   const char *path)
{
    f->token = WORKER_TOKEN;
    if (r->scopes != 0) {
        struct answer a = http_do(f, method_name(r->method), path, NULL, "{}");
        expect(&a, 403, "missing scope");
        answer_free(&a);
    }
}

static void a_worker_without_the_scope_is_refused_everywhere(void **state)
{
    (void)state;
    struct service_fixture f;
    start(&f, "[\"codeq:something-else\"]", "[\"*\"]", NULL);
    for_each_route(&f, asks_without_the_scope);
    stop(&f);
}

static void a_worker_gets_only_its_event_types(void **state)
{
    (void)state;
    struct service_fixture f;
    start(&f, EVERY_SCOPE, "[\"MINE\"]", NULL);
    f.token = PRODUCER_TOKEN;
    create(&f, "OTHER", "\"payload\":1", NULL);
    f.token = WORKER_TOKEN;
    static const char *const refused[][2] = {
        {"/v1/codeq/tasks/claim", "{\"commands\":[\"MINE\",\"OTHER\"]}"},
        {"/v1/codeq/tasks/claim/batch", "{\"count\":1,\"commands\":[\"OTHER\"]}"},
        {"/v1/codeq/workers/subscriptions",
         "{\"callbackUrl\":\"http://e.com/\",\"eventTypes\":[\"OTHER\"]}"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct answer a = http_post(&f, refused[i][0], refused[i][1]);
        expect(&a, 403, "event type not allowed");
        answer_free(&a);
    }
    assert_string_equal(claim(&f, "MINE", 10, 0).id, "");
    stop(&f);
}

/* ---- rates ---- */

/* One request passes, the next is told how long to wait; a ms before that it is refused still, and
 * after it the next passes. */
static void both_sides(struct service_fixture *f, const char *path, const char *body, int passes)
{
    struct answer a = http_post(f, path, body);
    expect(&a, passes, NULL);
    answer_free(&a);
    int64_t last_ns = 0; /* when the last refusal's request was sent */
    int64_t first_ns = 0;
    int64_t passed_ns = 0;
    unsigned refusals = 0;
    while (passed_ns == 0) {
        int64_t asked_ns = clock_monotonic_ns(clock_system());
        a = http_post(f, path, body);
        if (a.status == 429) {
            char value[16];
            assert_true(answer_header(&a, "Retry-After", value, sizeof value));
            assert_string_equal(value, "1");
            assert_int_equal(json_int(json_get(a.json, "retryAfterSeconds"), 0), 1);
            assert_true(json_get(a.json, "scope") != NULL && json_get(a.json, "operation") != NULL);
            first_ns = first_ns == 0 ? asked_ns : first_ns;
            last_ns = asked_ns;
            refusals++;
            if (asked_ns - first_ns > SERVICE_DEADLINE_NS) {
                fail_msg("%s is refused for ever", path);
            }
            poll(NULL, 0, 20);
        } else {
            expect(&a, passes, NULL);
            passed_ns = asked_ns;
        }
        answer_free(&a);
    }
    /* The bucket's second, by Redis's clock in ms; the request before it took its token. */
    assert_true(refusals > 1);
    assert_true(last_ns - first_ns < NS_PER_SEC);
    assert_true(passed_ns - first_ns > 500 * NS_PER_MS);
}

static void past_its_rate_each_kind_of_request_waits_what_retry_after_says(void **state)
{
    (void)state;
    struct service_fixture f;
    static const char *const rates[] = {"--rate-producer-per-minute",
                                        "60",
                                        "--rate-producer-burst",
                                        "1",
                                        "--rate-worker-per-minute",
                                        "60",
                                        "--rate-worker-burst",
                                        "1",
                                        "--rate-admin-per-minute",
                                        "60",
                                        "--rate-admin-burst",
                                        "1",
                                        NULL};
    start(&f, EVERY_SCOPE, "[\"*\"]", rates);
    f.token = PRODUCER_TOKEN;
    both_sides(&f, "/v1/codeq/tasks", "{\"command\":\"R\",\"payload\":1}", 202);
    /* The same bucket: the batch is refused until its turn. */
    both_sides(&f, "/v1/codeq/admin/tasks/cleanup", "{}", 200);
    f.token = WORKER_TOKEN;
    both_sides(&f, "/v1/codeq/tasks/claim", "{\"commands\":[\"NONE\"]}", 204);
    static const struct {
        const char *token;
        const char *path;
        const char *body;
    } batches[] = {
        {PRODUCER_TOKEN, "/v1/codeq/tasks/batch",
         "{\"tasks\":[{\"command\":\"R\",\"payload\":1}]}"},
        {WORKER_TOKEN, "/v1/codeq/tasks/claim/batch", "{\"count\":1}"},
    };
    for (size_t i = 0; i < 2; i++) {
        f.token = batches[i].token;
        unsigned refused = 0;
        for (int n = 0; n < 2 || refused == 0; n++) { /* two at once are one too many */
            struct answer a = http_post(&f, batches[i].path, batches[i].body);
            refused += a.status == 429;
            assert_true(n < 100);
            answer_free(&a);
        }
    }
    stop(&f);
}

/* ---- the log ---- */

#define MARK "hush-hush" /* also in the tokens */

/* Whatever a route reads, with the mark in it. */
#define MARKED_BODY \
    "{\"command\":\"C\",\"payload\":\"" MARK "\",\"idempotencyKey\":\"" MARK "\"," \
    "\"commands\":[\"C\"],\"count\":1,\"webhook\":\"http://u:" MARK "@127.0.0.1:1/\"," \
    "\"tasks\":[{\"command\":\"C\",\"payload\":{\"p\":\"" MARK "\"}}],\"status\":\"COMPLETED\"," \
    "\"result\":{\"r\":\"" MARK "\"},\"reason\":\"" MARK "\",\"error\":\"" MARK "\"," \
    "\"deliveryToken\":\"" MARK "\",\"callbackUrl\":\"http://127.0.0.1:1/?" MARK "\"," \
    "\"eventTypes\":[\"C\"],\"results\":[{\"taskId\":\"" NO_ID "\",\"status\":\"COMPLETED\"," \
    "\"result\":{\"r\":\"" MARK "\"},\"deliveryToken\":\"" MARK "\"}]," \
    "\"heartbeats\":[{\"taskId\":\"" NO_ID "\",\"deliveryToken\":\"" MARK "\"}]}"

static void sends_the_mark(struct service_fixture *f, const struct route *r, const char *path)
{
    static const char *const bodies[] = {
        MARKED_BODY,
        "{\"payload\":\"" MARK, /* broken */
        "{\"priorityTiers\":[1],\"maxAttempts\":1,\"deadLetterTopicRef\":\"" MARK "\"}",
        "{\"" MARK "\":1}",
    };
    static const char *const tokens[] = {PRODUCER_TOKEN, WORKER_TOKEN, "nobody-" MARK};
    char target[320];
    snprintf(target, sizeof target, "%s?limit=" MARK "&access_token=" MARK, path);
    for (size_t b = 0; b < sizeof bodies / sizeof *bodies; b++) {
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++) {
            f->token = tokens[t];
            struct answer a =
                http_do(f, method_name(r->method), target,
                        "X-Delivery-Token: " MARK "\r\nX-Other: " MARK "\r\n", bodies[b]);
            assert_true(a.status >= 200);
            answer_free(&a);
        }
    }
}

static void log_is_clean(struct service_fixture *f)
{
    char *log = codeqd_log(f);
    assert_non_null(strstr(log, "listening"));
    const char *at = strstr(log, MARK);
    if (at != NULL) {
        const char *from = at - log > 200 ? at - 200 : log;
        fail_msg("the log holds what was sent: %.400s", from);
    }
    free(log);
}

static void nothing_that_was_sent_is_in_the_log_whatever_the_answer(void **state)
{
    (void)state;
    static const char *const debug[] = {"--log-level", "debug", "--redis-command-timeout", "500ms",
                                        NULL};
    struct service_fixture f;
    start(&f, EVERY_SCOPE, "[\"*\"]", debug);
    assert_true(for_each_route(&f, sends_the_mark) > 25);
    log_is_clean(&f);
    /* A task of its own through all that may be said about it. */
    f.token = PRODUCER_TOKEN;
    create(&f, "C", "\"payload\":\"" MARK "\",\"maxAttempts\":1", NULL);
    f.token = WORKER_TOKEN;
    struct claimed_task task;
    while ((task = claim(&f, "C", 60, 0)).id[0] != '\0') {
        char path[128];
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s/nack", task.id);
        struct answer a = http_post(&f, path, "{\"reason\":\"" MARK "\"}");
        expect(&a, 200, NULL);
        answer_free(&a);
    }
    log_is_clean(&f);
    /* Redis repeats the beginning of a command that it does not know. */
    free(redis_say(&f, "ACL SETUSER default -evalsha -hget -hdel -get -set"));
    for_each_route(&f, sends_the_mark);
    log_is_clean(&f);
    free(redis_say(&f, "ACL SETUSER default +@all"));
    free(redis_say(&f, "CONFIG SET maxmemory 1"));
    for_each_route(&f, sends_the_mark);
    log_is_clean(&f);
    redis_server_kill(&f.redis);
    for_each_route(&f, sends_the_mark);
    log_is_clean(&f);
    assert_int_equal(codeqd_stop(&f), 0);
    f.codeqd.pid = 0;
    service_stop(&f);
}

static void a_command_that_redis_does_not_know_is_not_repeated_in_the_log(void **state)
{
    (void)state;
    static const char *const renamed[] = {"--rename-command", "HDEL", "", NULL};
    struct service_fixture f;
    start(&f, EVERY_SCOPE, "[\"*\"]", NULL);
    assert_int_equal(codeqd_stop(&f), 0);
    redis_server_stop(&f.redis);
    struct err err;
    f.redis_options.config = renamed;
    assert_int_equal(redis_server_start(&f.redis, &f.redis_options, &err), 0);
    codeqd_start(&f, NULL);
    struct answer a =
        http_do(&f, "DELETE", "/v1/codeq/admin/topics/" MARK "?deletionPolicy=Delete", NULL, NULL);
    expect(&a, 500, "internal error");
    answer_free(&a);
    char *log = codeqd_log(&f);
    assert_non_null(strstr(log, "redis_failed"));
    free(log);
    log_is_clean(&f);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_route_that_wants_a_token_answers_without_it),
        cmocka_unit_test(a_worker_without_the_scope_is_refused_everywhere),
        cmocka_unit_test(a_worker_gets_only_its_event_types),
        cmocka_unit_test(past_its_rate_each_kind_of_request_waits_what_retry_after_says),
        cmocka_unit_test(nothing_that_was_sent_is_in_the_log_whatever_the_answer),
        cmocka_unit_test(a_command_that_redis_does_not_know_is_not_repeated_in_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
