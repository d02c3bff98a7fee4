/* Claims that wait, over several built codeqd on one Redis: who is woken, how often Redis is asked,
 * and that no wake-up is lost. A claim here waits for less than WAITERS_RENEW_NS, so that nothing
 * but a wake-up can answer it with a task. */
#include "service/service_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"

#define CODEQD_COUNT 3
#define IDLE_WAITERS 1000
#define IDLE_WINDOW_NS (6 * NS_PER_SEC)
#define IDLE_COMMANDS_PER_MINUTE_MAX 60
#define RACE_ROUNDS 40
#define RACE_CLAIMS 12

static struct service_fixture f[CODEQD_COUNT]; /* the last with two threads */

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static int start(void **state)
{
    (void)state;
    /* Not the 0 to 20 s of the default, which is jittered: a claim here waits for 20 s. */
    static const char *const one_thread[] = {"--backoff-policy", "fixed", "--backoff-base", "1s",
                                             NULL};
    static const char *const two_threads[] = {
        "--backoff-policy", "fixed", "--backoff-base", "1s", "--threads", "2", NULL};
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    service_start(&f[0], one_thread);
    for (int i = 1; i < CODEQD_COUNT; i++) {
        f[i].redis = f[0].redis;
        codeqd_start(&f[i], i == CODEQD_COUNT - 1 ? two_threads : one_thread);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (int i = CODEQD_COUNT - 1; i >= 0; i--) {
        assert_int_equal(codeqd_stop(&f[i]), 0);
        if (i > 0) {
            f[i].redis = (struct redis_server){0};
        }
    }
    service_stop(&f[0]);
    return 0;
}

static char *redis_cli(const char *arguments)
{
    char command[400];
    snprintf(command, sizeof command, "redis-cli -s %s %s", f[0].redis.socket_path, arguments);
    const char *const argv[] = {"sh", "-c", command, NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    struct err err;
    if (child_run(&options, now_ns() + SERVICE_DEADLINE_NS, &out, NULL, &err) != 0) {
        fail_msg("%s: %s", command, err.text);
    }
    return out;
}

/* Commands that Redis has executed, scripts' inner ones included, but for those that count them. */
static int64_t commands_so_far(void)
{
    char *text = redis_cli("INFO commandstats");
    int64_t sum = 0;
    for (char *line = strtok(text, "\r\n"); line != NULL; line = strtok(NULL, "\r\n")) {
        char *calls = strstr(line, ":calls=");
        if (calls != NULL && strncmp(line, "cmdstat_info", 12) != 0) {
            sum += strtoll(calls + 7, NULL, 10);
        }
    }
    free(text);
    return sum;
}

static int64_t waiting(void)
{
    int64_t sum = 0;
    for (int i = 0; i < CODEQD_COUNT; i++) {
        struct answer a = http_get(&f[i], "/metrics");
        const char *line = strstr(a.body, "\ncodeq_waiters ");
        if (line == NULL) {
            fail_msg("no such metric: %s", a.body);
        } else {
            sum += strtoll(line + 15, NULL, 10);
        }
        answer_free(&a);
    }
    return sum;
}

/* Until n claims wait in all, and have said so in Redis: they park when the answer is there. */
static void await_waiting(int64_t n)
{
    int64_t deadline_ns = now_ns() + SERVICE_DEADLINE_NS;
    while (waiting() != n) {
        if (now_ns() > deadline_ns) {
            fail_msg("%lld claims wait, not %lld", (long long)waiting(), (long long)n);
        }
        poll(NULL, 0, 5);
    }
}

static int claim_begin(struct service_fixture *at, const char *commands, int wait_seconds)
{
    char body[160];
    snprintf(body, sizeof body, "{\"commands\":[%s],\"leaseSeconds\":600,\"waitSeconds\":%d}",
             commands, wait_seconds);
    return http_begin(at, "POST", "/v1/codeq/tasks/claim", NULL, body);
}

/* The id of the task that a claim got. */
static void claim_read(int fd, char id[40])
{
    struct answer a = http_read(fd, false);
    expect(&a, 200, NULL);
    snprintf(id, 40, "%s", json_string(json_get(a.json, "id"), ""));
    answer_free(&a);
    close(fd);
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void a_claim_at_one_codeqd_is_woken_by_work_of_another(void **state)
{
    (void)state;
    int64_t took_ns[20];
    for (int i = 0; i < 20; i++) {
        int at = i % CODEQD_COUNT;
        int fd = claim_begin(&f[at], "\"FAR\"", 20);
        await_waiting(1);
        int64_t begin_ns = now_ns();
        char id[40];
        char got[40];
        create(&f[(at + 1 + i % 2) % CODEQD_COUNT], "FAR", "\"payload\":1", id);
        claim_read(fd, got);
        took_ns[i] = now_ns() - begin_ns;
        assert_string_equal(got, id);
    }
    struct answer metrics = http_get(&f[0], "/metrics");
    assert_non_null(strstr(metrics.body, "codeq_claim_wake_seconds_count "));
    assert_null(strstr(metrics.body, "codeq_claim_wake_seconds_count 0\n"));
    answer_free(&metrics);
    qsort(took_ns, 20, sizeof *took_ns, compare_ns);
    print_message(
        "  median %.3f ms, longest %.3f ms from before the create to the claim's answer\n",
        (double)took_ns[9] / 1e6, (double)took_ns[19] / 1e6);
}

static void post(struct service_fixture *at, const char *id, const char *what, const char *body)
{
    char path[160];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/%s", id, what);
    struct answer a = http_post(at, path, body);
    expect(&a, 200, NULL);
    answer_free(&a);
}

static void a_claim_is_woken_whichever_way_the_task_comes_back(void **state)
{
    (void)state;
    char id[40];
    char got[40];
    create(&f[0], "BACK", "\"payload\":1,\"maxAttempts\":3", id);
    struct claimed_task task = claim(&f[0], "BACK", 600, 0);
    assert_string_equal(task.id, id);
    /* Given up at the first, for one who waits at the third. */
    int fd = claim_begin(&f[2], "\"BACK\"", 20);
    await_waiting(1);
    post(&f[0], id, "abandon", "{}");
    claim_read(fd, got);
    assert_string_equal(got, id);
    /* Nacked at the second, which has never claimed of this queue; due a second later. */
    fd = claim_begin(&f[0], "\"BACK\"", 20);
    await_waiting(1);
    post(&f[1], id, "nack", "{\"delaySeconds\":1}");
    claim_read(fd, got);
    assert_string_equal(got, id);
    /* Run out. */
    fd = claim_begin(&f[1], "\"BACK\"", 20);
    await_waiting(1);
    post(&f[2], id, "heartbeat", "{\"extendSeconds\":1}");
    claim_read(fd, got);
    assert_string_equal(got, id);
    /* Dead, and replayed. */
    fd = claim_begin(&f[0], "\"BACK\"", 20);
    await_waiting(1);
    post(&f[1], id, "nack", "{}");
    await_count(&f[1], "BACK", "dlq", 1);
    struct answer a = http_post(&f[1], "/v1/codeq/admin/queues/BACK/dlq/replay", "{}");
    expect(&a, 200, NULL);
    answer_free(&a);
    claim_read(fd, got);
    assert_string_equal(got, id);
}

static void a_claim_of_several_queues_leaves_no_other_claim_behind(void **state)
{
    (void)state;
    /* Both wait for A; one of them, the longer waiting, looks at B first. */
    int both = claim_begin(&f[0], "\"QB\",\"QA\"", 20);
    await_waiting(1);
    int one = claim_begin(&f[0], "\"QA\"", 20);
    await_waiting(2);
    char a[40];
    char b[40];
    char got[40];
    /* In one request, so that the wake for A finds a task in B. */
    struct answer made = http_post(
        &f[1], "/v1/codeq/tasks/batch",
        "{\"tasks\":[{\"command\":\"QA\",\"payload\":1},{\"command\":\"QB\",\"payload\":1}]}");
    expect(&made, 200, NULL);
    answer_free(&made);
    claim_read(both, b);
    claim_read(one, a);
    assert_string_not_equal(a, b);
    (void)got;
    assert_int_equal(count(&f[0], "QA", "ready"), 0);
    assert_int_equal(count(&f[0], "QB", "ready"), 0);
}

static void a_claim_of_all_queues_knows_those_that_others_make(void **state)
{
    (void)state;
    char id[40];
    char got[40];
    for (int i = 0; i < CODEQD_COUNT; i++) {
        struct service_fixture *there = &f[(i + 1) % CODEQD_COUNT];
        char command[32];
        snprintf(command, sizeof command, "STAR-%d", i);
        create(there, command, "\"payload\":1", id);
        int fd = http_begin(&f[i], "POST", "/v1/codeq/tasks/claim", NULL, "{\"leaseSeconds\":600}");
        claim_read(fd, got);
        assert_string_equal(got, id);
        /* It waits already when the queue is made. */
        fd = http_begin(&f[i], "POST", "/v1/codeq/tasks/claim", NULL,
                        "{\"leaseSeconds\":600,\"waitSeconds\":20}");
        await_waiting(1);
        snprintf(command, sizeof command, "NEW-%d", i);
        create(there, command, "\"payload\":1", id);
        claim_read(fd, got);
        assert_string_equal(got, id);
        char path[64];
        struct answer a = http_get(&f[i], "/v1/codeq/admin/queues");
        expect(&a, 200, NULL);
        snprintf(path, sizeof path, "codeq:q:new-%d:dev-tenant:inprog", i);
        assert_int_equal(json_int(json_get(a.json, path), -1), 1);
        answer_free(&a);
    }
}

/* Claims and creates at once, in every order: each claim that begins before or after its task gets
 * one before its wait ends. */
static void no_wake_up_is_lost_between_a_look_and_the_waiting(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 20261123);
    for (int round = 0; round < RACE_ROUNDS; round++) {
        int claims[RACE_CLAIMS];
        int creates[RACE_CLAIMS];
        int claimed = 0;
        int created = 0;
        while (claimed < RACE_CLAIMS || created < RACE_CLAIMS) {
            struct service_fixture *at = &f[rng_below(&rng, CODEQD_COUNT)];
            if (created == RACE_CLAIMS || (claimed < RACE_CLAIMS && rng_below(&rng, 2) == 0)) {
                claims[claimed++] = claim_begin(at, "\"RACE\"", 20);
            } else {
                creates[created++] = http_begin(at, "POST", "/v1/codeq/tasks", NULL,
                                                "{\"command\":\"RACE\",\"payload\":1}");
            }
        }
        char ids[RACE_CLAIMS][40];
        for (int i = 0; i < RACE_CLAIMS; i++) {
            struct answer a = http_read(creates[i], false);
            expect(&a, 202, NULL);
            answer_free(&a);
            close(creates[i]);
        }
        for (int i = 0; i < RACE_CLAIMS; i++) {
            claim_read(claims[i], ids[i]);
            for (int k = 0; k < i; k++) {
                assert_string_not_equal(ids[i], ids[k]);
            }
        }
    }
    assert_int_equal(count(&f[0], "RACE", "ready"), 0);
}

static void a_thousand_idle_waiters_hardly_ask_redis_and_are_woken_one_by_one(void **state)
{
    (void)state;
    int *fds = calloc(IDLE_WAITERS, sizeof *fds);
    for (int i = 0; i < IDLE_WAITERS; i++) {
        fds[i] = claim_begin(&f[i % CODEQD_COUNT], "\"IDLE\"", 24);
    }
    await_waiting(IDLE_WAITERS);
    int64_t before = commands_so_far();
    int64_t until_ns = now_ns() + IDLE_WINDOW_NS;
    while (now_ns() < until_ns) { /* the window that is measured */
        poll(NULL, 0, 20);
    }
    int64_t idle = commands_so_far() - before;
    print_message("  %d idle waiters at %d codeqd: %lld commands in %lld s\n", IDLE_WAITERS,
                  CODEQD_COUNT, (long long)idle, (long long)(IDLE_WINDOW_NS / NS_PER_SEC));
    assert_true(idle * (60 * NS_PER_SEC / IDLE_WINDOW_NS) <= IDLE_COMMANDS_PER_MINUTE_MAX);
    for (int i = 0; i < 5; i++) {
        create(&f[i % CODEQD_COUNT], "IDLE", "\"payload\":1", NULL);
        await_waiting(IDLE_WAITERS - 1 - i);
    }
    /* Clients that have gone wait no more. */
    for (int i = 0; i < IDLE_WAITERS; i++) {
        close(fds[i]);
    }
    await_waiting(0);
    free(fds);
}

/* Nobody sweeps for the dead: who waits has learnt from its own look when the lease ends. */
static void a_waiting_claim_gets_what_a_killed_codeqd_held(void **state)
{
    (void)state;
    struct service_fixture dying = {.redis = f[0].redis};
    codeqd_start(&dying, NULL);
    char id[40];
    char got[40];
    /* A lease of its own keeps the sweep of the survivor waiting for much later. */
    create(&f[0], "HELD", "\"payload\":1", NULL);
    assert_int_equal(strlen(claim(&f[0], "HELD", 600, 0).id), 36);
    create(&f[0], "HELD", "\"payload\":1", id);
    struct claimed_task task = claim(&dying, "HELD", 1, 0);
    assert_string_equal(task.id, id);
    kill(dying.codeqd.pid, SIGKILL);
    codeqd_stop(&dying);
    int fd = claim_begin(&f[0], "\"HELD\"", 12); /* less than until the next discovery, mostly */
    claim_read(fd, got);
    assert_string_equal(got, id);
}

static void waiters_survive_the_loss_of_every_connection(void **state)
{
    (void)state;
    int fd = claim_begin(&f[0], "\"LOSS\"", 20);
    await_waiting(1);
    free(redis_cli(
        "CLIENT KILL SKIPME yes")); /* all at once: a claim that looks again in between is lost */
    char id[40];
    char got[40];
    create(&f[1], "LOSS", "\"payload\":1", id);
    claim_read(fd, got);
    assert_string_equal(got, id);
    /* And is told again after that. */
    fd = claim_begin(&f[0], "\"LOSS\"", 20);
    await_waiting(1);
    create(&f[2], "LOSS", "\"payload\":1", id);
    claim_read(fd, got);
    assert_string_equal(got, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: what others leave under a lease is found by the sweep of each codeqd, once. */
        cmocka_unit_test(a_thousand_idle_waiters_hardly_ask_redis_and_are_woken_one_by_one),
        cmocka_unit_test(a_claim_at_one_codeqd_is_woken_by_work_of_another),
        cmocka_unit_test(a_claim_is_woken_whichever_way_the_task_comes_back),
        cmocka_unit_test(a_claim_of_several_queues_leaves_no_other_claim_behind),
        cmocka_unit_test(a_claim_of_all_queues_knows_those_that_others_make),
        cmocka_unit_test(no_wake_up_is_lost_between_a_look_and_the_waiting),
        cmocka_unit_test(a_waiting_claim_gets_what_a_killed_codeqd_held),
        cmocka_unit_test(waiters_survive_the_loss_of_every_connection),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
