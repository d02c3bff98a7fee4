/* The generator against a server of which it is known how long it takes. */
#include "base/test.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "load/load.h"
#include "load/stall.h"

static const volatile sig_atomic_t never;

/* Every allocation of this process, where no sanitizer brings its own allocator. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define COUNTS_ALLOCATIONS
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);

static atomic_ulong allocations;

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(old, bytes);
}
#endif

/* So many creates a second in open loop for duration_ns, and what came of it. */
static void load_at(double rate_per_sec, int64_t duration_ns, struct load_result *out)
{
    struct stall_server server = {.service_ns = 0};
    struct load_spec *spec = calloc(1, sizeof *spec);
    struct err err = {""};
    char url[64];
    assert_int_equal(stall_server_start(&server, &err), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
    assert_int_equal(http_target_parse(&spec->target, url, &err), 0);
    spec->duration_ns = duration_ns;
    spec->drain_ns = NS_PER_SEC;
    spec->tenant_count = 1;
    spec->tenants[0].weight = 1;
    spec->role_count = 1;
    spec->roles[0] = (struct load_role){
        .command = "C",
        .open = true,
        .arrival = ARRIVAL_CONSTANT,
        .phases = {{duration_ns, rate_per_sec, rate_per_sec}},
        .phase_count = 1,
        .concurrency = 256,
        .batch = 1,
    };
    if (load_run(spec, &never, NULL, NULL, out, &err) != 0) {
        fail_msg("%s", err.text);
    }
    stall_server_stop(&server);
    free(spec);
    assert_int_equal(out->completed, out->offered);
    assert_int_equal(server.posts, out->offered);
}

static int64_t waits(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

/* An open producer's answer is read when the next arrival is due, here 800 us later, and still
 * counts from when it came. Only the quickest tenth is looked at: this machine may be busy. */
static void an_answer_counts_from_when_it_came_not_from_when_it_was_read(void **state)
{
    (void)state;
    struct load_result result;
    load_at(1250, 400 * NS_PER_MS, &result);
    int64_t quick_ns = hist_quantile_ns(&result.endpoints[LOAD_CREATE].latency, 0.1);
    if (!(quick_ns > 0 && quick_ns < 400 * NS_PER_US)) {
        fail_msg("9 in 10 answers took %g us or more, of a server that takes none",
                 (double)quick_ns / 1e3);
    }
    load_result_fini(&result);
}

/* A core that sleeps until the very moment wakes tens of us after it. */
static void an_arrival_after_a_pause_does_not_wait_for_its_core_to_wake(void **state)
{
    (void)state;
    int64_t quick_ns = INT64_MAX;
    for (int attempt = 0; attempt < 10 && quick_ns >= 15 * NS_PER_US; attempt++) {
        struct load_result result;
        load_at(1000, 400 * NS_PER_MS, &result);
        quick_ns = hist_quantile_ns(&result.send_lag, 0.1);
        load_result_fini(&result);
    }
    if (quick_ns >= 15 * NS_PER_US) {
        fail_msg("9 in 10 requests left %g us late or more", (double)quick_ns / 1e3);
    }
}

/* Without that each request has two waits, one for its time and one for its answer. */
static void a_request_that_is_due_soon_after_another_costs_one_wait(void **state)
{
    (void)state;
    struct load_result result;
    int64_t before = waits();
    load_at(1250, 400 * NS_PER_MS, &result);
    double each = (double)(waits() - before) / (double)result.offered;
    if (!(each < 1.3)) {
        fail_msg("%g waits a request", each);
    }
    load_result_fini(&result);
}

#ifdef COUNTS_ALLOCATIONS
static unsigned long allocations_at(double rate_per_sec)
{
    struct load_result result;
    unsigned long before = atomic_load(&allocations);
    load_at(rate_per_sec, 300 * NS_PER_MS, &result);
    unsigned long after = atomic_load(&allocations);
    load_result_fini(&result);
    return after - before;
}

static void a_request_allocates_nothing(void **state)
{
    (void)state;
    allocations_at(100); /* what the C library makes once */
    unsigned long few = allocations_at(200);
    assert_true(few > 0);
    assert_int_equal(allocations_at(2000), few);
}
#endif

/* With 20 ms to the next request nothing is left unread: the answer ends the wait. */
static void far_from_the_next_arrival_an_answer_is_read_at_once(void **state)
{
    (void)state;
    struct load_result result;
    int64_t before = waits();
    load_at(50, 400 * NS_PER_MS, &result);
    double each = (double)(waits() - before) / (double)result.offered;
    assert_true(each > 1.5);
    load_result_fini(&result);
}

/* A fifth of the size; with CODEQ_LONG and by `codeq-bench load --self-check` the whole. */
static void a_stall_is_seen_by_every_request_it_delays(void **state)
{
    (void)state;
    struct stall_check check = {0};
    struct err err = {""};
    int64_t duration_ns = getenv("CODEQ_LONG") != NULL ? 10 * NS_PER_SEC : 2 * NS_PER_SEC;
    /* Where others take the cores from both, that says so, and is asked again. */
    for (int attempt = 0; attempt < 5 && !check.ok; attempt++) {
        int code = stall_check_run(duration_ns, duration_ns / 10, &never, NULL, &check, &err);
        if (code != 0) {
            fail_msg("%s", err.text);
        }
        double pause_ns = (double)check.pause_ns;
        double late_ns = (double)(check.paused_ns - check.pause_ns);
        print_message("p99 %g ms, expected %g ms, stood still %g ms%s%s\n",
                      (double)check.p99_ns / 1e6, (double)check.expected_ns / 1e6,
                      (double)check.paused_ns / 1e6, check.void_reason[0] != '\0' ? ", void: " : "",
                      check.void_reason);
        assert_true(fabs((double)check.expected_ns - late_ns - 0.905 * pause_ns) <
                    0.001 * pause_ns);
        assert_true((double)check.p99_ns > 0.85 * pause_ns);
        if (check.ok) {
            assert_int_equal(check.completed, duration_ns / NS_PER_MS);
        }
    }
    assert_true(check.ok || check.void_reason[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_counts_from_when_it_came_not_from_when_it_was_read),
        cmocka_unit_test(an_arrival_after_a_pause_does_not_wait_for_its_core_to_wake),
        cmocka_unit_test(a_request_that_is_due_soon_after_another_costs_one_wait),
#ifdef COUNTS_ALLOCATIONS
        cmocka_unit_test(a_request_allocates_nothing),
#endif
        cmocka_unit_test(far_from_the_next_arrival_an_answer_is_read_at_once),
        cmocka_unit_test(a_stall_is_seen_by_every_request_it_delays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
