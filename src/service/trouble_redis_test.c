/* A Redis that is full, paused, loading its data or cut off, seen through codeqd: what clients are
 * told, and that work goes on as soon as it can. */
#include "service/load_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define CREATE "{\"command\":\"T\",\"payload\":1}"
#define PAUSE_MS 5000

static const char *const arguments[] = {"--backoff-policy", "fixed", "--backoff-base", "1ms", NULL};
static struct service_fixture f;

static int start(void **state)
{
    (void)state;
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

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* Ask until the answer has this status; its error must then be this one (NULL: any). */
static void await_answer(const char *path, const char *body, int status, const char *error)
{
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    struct answer a = http_post(&f, path, body);
    while (a.status != status && now_ns() < deadline_ns) {
        answer_free(&a);
        poll(NULL, 0, 5);
        a = http_post(&f, path, body);
    }
    expect(&a, status, error);
    if (status == 503) {
        char value[16];
        assert_true(answer_header(&a, "Retry-After", value, sizeof value));
    }
    answer_free(&a);
}

static struct load *begin(const char *command)
{
    const struct load_options options = {
        .ports = {f.port},
        .port_count = 1,
        .producers = 2,
        .workers = 4,
        .lease_seconds = 2,
        .wait_seconds = 1,
        .command = command,
    };
    return load_start(&options);
}

static void until_completed(const struct load *load, unsigned goal)
{
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    while (load_completed(load) < goal) {
        assert_true(now_ns() < deadline_ns);
        poll(NULL, 0, 5);
    }
}

static void a_full_redis_refuses_creates_with_the_reason_while_work_ends(void **state)
{
    (void)state;
    static const char batch[] =
        "{\"tasks\":[{\"command\":\"T\",\"payload\":1},{\"command\":\"T\",\"payload\":2}]}";
    struct load *load = begin("FULL");
    until_completed(load, 200);
    create(&f, "LEFT", "\"payload\":1", NULL);
    create(&f, "LEFT", "\"payload\":2", NULL);
    create(&f, "T", "\"payload\":1", NULL);
    free(redis_say(&f, "CONFIG SET maxmemory 1"));
    await_answer("/v1/codeq/tasks", CREATE, 503, "redis unavailable: it has no memory left");
    struct answer a = http_post(&f, "/v1/codeq/tasks/batch", batch);
    expect(&a, 200, NULL);
    size_t items = 0;
    for (const struct json *item = json_first(json_get(a.json, "results")); item != NULL;
         item = json_next(item), items++) {
        assert_string_equal(json_string(json_get(item, "error"), ""),
                            "redis unavailable: it has no memory left");
    }
    assert_int_equal(items, 2);
    answer_free(&a);
    assert_int_equal(count(&f, "T", "ready"), 1);
    a = http_post(&f, "/v1/codeq/tasks", "{\"command\":\"NEVER-SEEN\",\"payload\":1}");
    expect(&a, 503, "redis unavailable: it has no memory left");
    answer_free(&a);
    /* What is there is worked off, to the last; by a codeqd that starts now, too. */
    struct service_fixture other = f;
    other.port = 0;
    codeqd_start(&other, arguments);
    for (int i = 0; i < 2; i++) {
        struct service_fixture *at = i == 0 ? &f : &other;
        struct claimed_task task = claim(at, "LEFT", 60, 0);
        char path[128];
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result", task.id);
        a = http_post(at, path, "{\"status\":\"COMPLETED\",\"result\":{}}");
        expect(&a, 200, NULL);
        answer_free(&a);
    }
    assert_int_equal(codeqd_stop(&other), 0);
    await_count(&f, "FULL", "ready", 0);
    await_count(&f, "FULL", "inProgress", 0);
    unsigned done = load_completed(load);
    free(redis_say(&f, "CONFIG SET maxmemory 0"));
    await_answer("/v1/codeq/tasks", CREATE, 202, NULL);
    until_completed(load, done + 200);
    struct load_counts counts = load_stop(load, &f);
    print_message("%u creates and %u completions acknowledged\n", counts.created, counts.completed);
}

static void a_pause_of_redis_delays_and_loses_nothing(void **state)
{
    (void)state;
    char command[64];
    struct load *load = begin("PAUSED");
    until_completed(load, 200);
    int waiting = http_begin(&f, "POST", "/v1/codeq/tasks/claim", NULL,
                             "{\"commands\":[\"QUIET\"],\"waitSeconds\":20}");
    snprintf(command, sizeof command, "CLIENT PAUSE %d ALL", PAUSE_MS);
    assert_int_equal(redis_server_tell(f.redis.socket_path, command), 0);
    int64_t from_ns = now_ns();
    poll(NULL, 0, 100); /* the pause is told, not asked: let it begin */
    int creating = http_begin(&f, "POST", "/v1/codeq/tasks", NULL, CREATE);
    unsigned during = load_completed(load);
    while (now_ns() < from_ns + (PAUSE_MS - 1000) * NS_PER_MS) { /* codeqd itself is not held up */
        int64_t asked_ns = now_ns();
        struct answer a = http_get(&f, "/healthz");
        expect(&a, 200, NULL);
        answer_free(&a);
        assert_true(now_ns() - asked_ns < NS_PER_SEC);
        poll(NULL, 0, 50);
    }
    assert_true(load_completed(load) < during + 20); /* Redis did stand still */
    struct answer a = http_read(creating, false);
    expect(&a, 202, NULL); /* late, and done */
    answer_free(&a);
    close(creating);
    assert_true(now_ns() - from_ns > (PAUSE_MS - 500) * NS_PER_MS);
    create(&f, "QUIET", "\"payload\":1", NULL);
    a = http_read(waiting, false);
    expect(&a, 200, NULL);
    answer_free(&a);
    close(waiting);
    until_completed(load, load_completed(load) + 200);
    struct load_counts counts = load_stop(load, &f);
    print_message("%u creates and %u completions acknowledged, %u redeliveries\n", counts.created,
                  counts.completed, counts.redelivered);
}

static void a_pause_beyond_the_time_out_is_told_as_unknown_and_ends(void **state)
{
    (void)state;
    static const char *const impatient[] = {"--redis-command-timeout", "300ms", NULL};
    struct service_fixture other = f;
    other.port = 0;
    codeqd_start(&other, impatient);
    struct answer a = http_post(&other, "/v1/codeq/tasks", CREATE);
    expect(&a, 202, NULL);
    answer_free(&a);
    assert_int_equal(redis_server_tell(f.redis.socket_path, "CLIENT PAUSE 1500 ALL"), 0);
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    unsigned unknown = 0;
    int status = 0;
    for (bool paused = false; !paused || status != 202;) {
        assert_true(now_ns() < deadline_ns);
        a = http_post(&other, "/v1/codeq/tasks", CREATE);
        status = a.status;
        if (status != 202) {
            assert_int_equal(status, 503);
            const char *why = json_string(json_get(a.json, "error"), "");
            unknown += strcmp(why, "redis did not answer: outcome unknown") == 0;
            assert_true(strncmp(why, "redis ", 6) == 0);
            paused = true;
        }
        answer_free(&a);
    }
    assert_true(unknown > 0);
    assert_int_equal(codeqd_stop(&other), 0);
}

static void a_redis_that_loads_its_data_is_waited_for(void **state)
{
    (void)state;
    create(&f, "KEPT", "\"payload\":1", NULL);
    free(redis_say(&f,
                   "EVAL \"for i=1,3000 do redis.call('SET','{t}:pad:'..i,'x') end return 1\" 0"));
    free(redis_say(&f, "SAVE"));
    static const char *const slow[] = {"--key-load-delay", "700",
                                       "--loading-process-events-interval-bytes", "1024", NULL};
    const struct redis_server_options options = {.cpu = -1, .config = slow};
    struct err err;
    redis_server_kill(&f.redis);
    if (redis_server_relaunch(&f.redis, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    bool told = false;
    int status = 0;
    while (status != 202) {
        assert_true(now_ns() < deadline_ns);
        struct answer a = http_post(&f, "/v1/codeq/tasks", CREATE);
        status = a.status;
        const char *why = json_string(json_get(a.json, "error"), "");
        told = told || strcmp(why, "redis unavailable: it is loading its data") == 0;
        assert_true(status == 202 || status == 503);
        answer_free(&a);
        poll(NULL, 0, 5);
    }
    assert_true(told);
    struct claimed_task task = claim(&f, "KEPT", 60, 0);
    assert_int_equal(strlen(task.id), 36);
}

static void a_replica_without_its_master_is_named_and_left_when_it_is_one_again(void **state)
{
    (void)state;
    free(redis_say(&f, "CONFIG SET replica-serve-stale-data no"));
    free(redis_say(&f, "REPLICAOF 127.0.0.1 1"));
    await_answer("/v1/codeq/tasks", CREATE, 503,
                 "redis unavailable: it is a replica that has lost its master");
    await_answer("/v1/codeq/tasks/claim", "{\"commands\":[\"T\"]}", 503,
                 "redis unavailable: it is a replica that has lost its master");
    free(redis_say(&f, "REPLICAOF NO ONE"));
    await_answer("/v1/codeq/tasks", CREATE, 202, NULL);
    free(redis_say(&f, "CONFIG SET replica-serve-stale-data yes"));
    free(redis_say(&f, "CONFIG SET min-replicas-to-write 1"));
    await_answer("/v1/codeq/tasks", CREATE, 503, "redis unavailable: it has too few replicas");
    free(redis_say(&f, "CONFIG SET min-replicas-to-write 0"));
    await_answer("/v1/codeq/tasks", CREATE, 202, NULL);
}

/* While Redis stands still, what has no room is refused at once; claims are not; and what was let
 * in is there afterwards, no more and no less. */
static void creates_beyond_the_limit_are_refused_at_once_and_the_others_kept(void **state)
{
    (void)state;
    static const char *const limited[] = {"--creates-max", "3", "--redis-command-timeout", "60s",
                                          NULL};
    struct service_fixture other = f;
    other.port = 0;
    codeqd_start(&other, limited);
    create(&other, "LIMIT", "\"payload\":0", NULL); /* the queue is known from here on */
    assert_int_equal(kill(f.redis.child.pid, SIGSTOP), 0);
    static const char create_limit[] = "{\"command\":\"LIMIT\",\"payload\":1}";
    static const char batch[] = "{\"tasks\":[{\"command\":\"LIMIT\",\"payload\":2},"
                                "{\"command\":\"LIMIT\",\"payload\":3}]}";
    enum { SENT = 8, ROOM = 3 };
    struct pollfd sockets[SENT];
    for (int i = 0; i < SENT; i++) {
        int fd = http_begin(&other, "POST", "/v1/codeq/tasks", NULL, create_limit);
        sockets[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    struct answer a;
    for (int refused = 0; refused < SENT - ROOM;) {
        assert_true(poll(sockets, SENT, 20000) > 0);
        for (int i = 0; i < SENT; i++) {
            if (sockets[i].fd < 0 || sockets[i].revents == 0) {
                continue;
            }
            a = http_read(sockets[i].fd, false);
            expect(&a, 503, "too many creates");
            char value[16];
            assert_true(answer_header(&a, "Retry-After", value, sizeof value));
            answer_free(&a);
            close(sockets[i].fd);
            sockets[i].fd = -1;
            refused++;
        }
    }
    a = http_post(&other, "/v1/codeq/tasks/batch", batch);
    expect(&a, 503, "too many creates");
    answer_free(&a);
    /* A claim is taken in and waits for Redis. */
    int claiming = http_begin(&other, "POST", "/v1/codeq/tasks/claim", NULL,
                              "{\"commands\":[\"LIMIT\"],\"leaseSeconds\":60}");
    struct pollfd claimed = {.fd = claiming, .events = POLLIN};
    assert_int_equal(poll(&claimed, 1, 100), 0);
    assert_int_equal(kill(f.redis.child.pid, SIGCONT), 0);
    a = http_read(claiming, false);
    expect(&a, 200, NULL);
    answer_free(&a);
    close(claiming);
    for (int i = 0; i < SENT; i++) {
        if (sockets[i].fd >= 0) {
            a = http_read(sockets[i].fd, false);
            expect(&a, 202, NULL);
            answer_free(&a);
            close(sockets[i].fd);
        }
    }
    assert_int_equal(count(&other, "LIMIT", "ready"), 1 + ROOM - 1); /* less the claimed one */
    /* The room is free again. */
    create(&other, "LIMIT", "\"payload\":4", NULL);
    assert_int_equal(codeqd_stop(&other), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_redis_refuses_creates_with_the_reason_while_work_ends),
        cmocka_unit_test(a_pause_of_redis_delays_and_loses_nothing),
        cmocka_unit_test(a_pause_beyond_the_time_out_is_told_as_unknown_and_ends),
        cmocka_unit_test(creates_beyond_the_limit_are_refused_at_once_and_the_others_kept),
        cmocka_unit_test(a_redis_that_loads_its_data_is_waited_for),
        cmocka_unit_test(a_replica_without_its_master_is_named_and_left_when_it_is_one_again),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
