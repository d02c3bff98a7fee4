/* Producers and workers (load_fixture.h) while codeqd and Redis (append-only, always) are killed at
 * random: nothing that was acknowledged is lost, and tasks are delivered again at most as often as
 * leases were open at a kill.
 *
 * CRASH_SECONDS (10 by default) and CRASH_SEED choose a longer or another run. */
#include "service/load_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"

#define WORKERS 4

static struct service_fixture f;

static void acknowledged_work_survives_kills(void **state)
{
    (void)state;
    static const char *const settings[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    static const char *const arguments[] = {"--backoff-policy",
                                            "fixed",
                                            "--backoff-base",
                                            "1ms",
                                            "--redis-command-timeout",
                                            "2s",
                                            NULL};
    const char *seconds_text = getenv("CRASH_SECONDS");
    const char *seed_text = getenv("CRASH_SEED");
    int64_t seconds = seconds_text == NULL ? 10 : strtol(seconds_text, NULL, 10);
    uint64_t seed = seed_text == NULL ? rng_seed_system() : strtoull(seed_text, NULL, 10);
    struct rng rng;
    struct err err;
    rng_init(&rng, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    f.redis_options = (struct redis_server_options){.cpu = -1, .config = settings};
    assert_int_equal(redis_server_start(&f.redis, &f.redis_options, &err), 0);
    codeqd_start(&f, arguments);
    const struct load_options options = {
        .ports = {f.port},
        .port_count = 1,
        .producers = 2,
        .workers = WORKERS,
        .lease_seconds = 2,
        .wait_seconds = 1,
        .command = "CRASH",
    };
    struct load *load = load_start(&options);
    int64_t end = clock_monotonic_ns(clock_system()) + seconds * NS_PER_SEC;
    unsigned kills = 0;
    while (clock_monotonic_ns(clock_system()) < end) {
        /* Somewhere in the middle of things: 20 kills a minute and more. */
        poll(NULL, 0, (int)(500 + rng_below(&rng, 1500)));
        if (rng_below(&rng, 2) == 0) {
            kill(f.codeqd.pid, SIGKILL);
            codeqd_stop(&f);
            codeqd_start(&f, arguments);
        } else {
            redis_server_kill(&f.redis);
            if (redis_server_restart(&f.redis, &f.redis_options, &err) != 0) {
                fail_msg("%s", err.text);
            }
        }
        kills++;
    }
    struct load_counts counts = load_stop(load, &f);
    print_message("%u kills, %u creates and %u completions acknowledged, %u redeliveries\n", kills,
                  counts.created, counts.completed, counts.redelivered);
    assert_true(kills >= (unsigned)seconds / 3);
    assert_true(counts.created > 100 && counts.completed > 100);
    assert_true(counts.redelivered <= kills * WORKERS);
    service_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_work_survives_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
