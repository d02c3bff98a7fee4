/* Several codeqd in front of one Redis, under load: each is killed again and again, or replaced by
 * one of another version, whose scripts are others.
 *
 * fleet_redis_test [PATTERN of tests]. CODEQD_OTHER names the other version; CODEQ_LONG=true makes
 * the load last longer. */
#include "service/load_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"

#define FLEET 3
#define COMMAND "FLEET"
#define WAIT_SECONDS 20 /* of a claim: a wake-up that is lost costs as much */
#define LEASE_SECONDS 2
/* Most from a create's answer to its delivery: a lease that a killed codeqd took to its grave has
 * to end first, and machines that run tests stall. */
#define DELIVERY_NS_MAX (10 * NS_PER_SEC)

static const char *const arguments[] = {"--backoff-policy", "fixed", "--backoff-base", "1ms", NULL};
static struct service_fixture fleet[FLEET]; /* the first has the Redis */

static void start_fleet(void)
{
    service_start(&fleet[0], arguments);
    for (int i = 1; i < FLEET; i++) {
        fleet[i] = fleet[0];
        fleet[i].port = 0;
        codeqd_start(&fleet[i], arguments);
    }
}

static void stop_fleet(void)
{
    for (int i = 0; i < FLEET; i++) {
        assert_int_equal(codeqd_stop(&fleet[i]), 0);
        fleet[i].codeqd.pid = 0;
    }
    service_stop(&fleet[0]);
}

/* Fewer tasks than workers, so that most claims wait: for what any of the three creates. */
static struct load *begin(void)
{
    struct load_options options = {
        .port_count = FLEET,
        .producers = 2,
        .workers = 12,
        .producer_pause_ms = 5,
        .lease_seconds = LEASE_SECONDS,
        .wait_seconds = WAIT_SECONDS,
        .command = COMMAND,
    };
    for (int i = 0; i < FLEET; i++) {
        options.ports[i] = fleet[i].port;
    }
    return load_start(&options);
}

static int64_t load_ns(void)
{
    const char *long_text = getenv("CODEQ_LONG");
    return (long_text != NULL && strcmp(long_text, "true") == 0 ? 60 : 6) * NS_PER_SEC;
}

static void end(struct load *load, const char *what, unsigned times)
{
    struct load_counts counts = load_stop(load, &fleet[0]);
    print_message("%u %s, %u creates and %u completions acknowledged, %u redeliveries, %lld ms "
                  "to a delivery at most\n",
                  times, what, counts.created, counts.completed, counts.redelivered,
                  (long long)(counts.ns_to_first_delivery_max / NS_PER_MS));
    assert_true(counts.created > 100 && counts.completed > 100);
    assert_true(counts.ns_to_first_delivery_max < DELIVERY_NS_MAX);
}

static void any_of_three_is_killed_and_no_task_is_lost_doubled_or_left_waiting(void **state)
{
    (void)state;
    struct rng rng;
    uint64_t seed = rng_seed_system();
    rng_init(&rng, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    start_fleet();
    struct load *load = begin();
    int64_t until_ns = clock_monotonic_ns(clock_system()) + load_ns();
    unsigned kills = 0;
    while (clock_monotonic_ns(clock_system()) < until_ns) {
        poll(NULL, 0, (int)(100 + rng_below(&rng, 500))); /* somewhere in the middle of things */
        struct service_fixture *f = &fleet[kills++ < FLEET ? kills - 1 : rng_below(&rng, FLEET)];
        kill(f->codeqd.pid, SIGKILL);
        codeqd_stop(f);
        codeqd_start(f, arguments);
    }
    assert_true(kills > FLEET);
    end(load, "kills", kills);
    stop_fleet();
}

static void until_waiting(struct service_fixture *f)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    bool waits = false;
    while (!waits) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        struct answer a = http_get(f, "/metrics");
        waits = strstr(a.body, "\ncodeq_waiters 1\n") != NULL;
        answer_free(&a);
    }
}

/* One task and one claim that waits for it, at two that live; a third that waited too has died.
 * Under load the next wake-up would hide that one was lost. */
static void a_wake_up_does_not_die_with_another_that_waited(void **state)
{
    (void)state;
    static const char body[] = "{\"commands\":[\"ALONE\"],\"waitSeconds\":20}";
    start_fleet();
    int64_t worst_ns = 0;
    for (int round = 0; round < 12; round++) {
        struct service_fixture *victim = &fleet[round % FLEET];
        struct service_fixture *waits = &fleet[(round + 1) % FLEET];
        struct service_fixture *creates = &fleet[(round + 2) % FLEET];
        struct service_fixture *first = round % 2 == 0 ? victim : waits;
        struct service_fixture *second = round % 2 == 0 ? waits : victim;
        int fds[2];
        fds[0] = http_begin(first, "POST", "/v1/codeq/tasks/claim", NULL, body);
        until_waiting(first);
        fds[1] = http_begin(second, "POST", "/v1/codeq/tasks/claim", NULL, body);
        until_waiting(second);
        kill(victim->codeqd.pid, SIGKILL);
        int64_t from_ns = clock_monotonic_ns(clock_system());
        create(creates, "ALONE", "\"payload\":1", NULL);
        struct answer a = http_read(fds[first == waits ? 0 : 1], false);
        expect(&a, 200, NULL);
        answer_free(&a);
        int64_t took_ns = clock_monotonic_ns(clock_system()) - from_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
        close(fds[0]);
        close(fds[1]);
        codeqd_stop(victim);
        codeqd_start(victim, arguments);
    }
    print_message("at most %lld ms\n", (long long)(worst_ns / NS_PER_MS));
    assert_true(worst_ns < DELIVERY_NS_MAX); /* far below the wait */
    stop_fleet();
}

/* In line: one after the other is drained and replaced, then back, as a roll-back would. */
static void two_versions_with_other_scripts_serve_one_redis_while_one_replaces_the_other(
    void **state)
{
    (void)state;
    const char *this = getenv("CODEQD");
    const char *other = getenv("CODEQD_OTHER");
    assert_non_null(other);
    start_fleet();
    char *before = redis_say(&fleet[0], "INFO memory");
    double scripts = redis_info_number(before, "number_of_cached_scripts");
    free(before);
    struct load *load = begin();
    unsigned replaced = 0;
    int64_t until_ns = clock_monotonic_ns(clock_system()) + load_ns();
    for (int round = 0; round < 2 || clock_monotonic_ns(clock_system()) < until_ns; round++) {
        setenv("CODEQD", round % 2 == 0 ? other : this, 1);
        for (int i = 0; i < FLEET; i++) {
            unsigned goal = load_completed(load) + 50;
            int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
            while (load_completed(load) < goal) { /* both versions at work */
                assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
                poll(NULL, 0, 5);
            }
            assert_int_equal(codeqd_stop(&fleet[i]), 0);
            codeqd_start(&fleet[i], arguments);
            replaced++;
        }
    }
    setenv("CODEQD", this, 1);
    char *after = redis_say(&fleet[0], "INFO memory");
    /* Some are others: more are known now, or there was nothing to test. */
    assert_true(redis_info_number(after, "number_of_cached_scripts") > scripts);
    free(after);
    end(load, "replaced", replaced);
    stop_fleet();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_of_three_is_killed_and_no_task_is_lost_doubled_or_left_waiting),
        cmocka_unit_test(a_wake_up_does_not_die_with_another_that_waited),
        cmocka_unit_test(
            two_versions_with_other_scripts_serve_one_redis_while_one_replaces_the_other),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
