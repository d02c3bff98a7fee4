#include "base/test.h"

#include "base/clock.h"
#include "base/hist.h"
#include "load/lag.h"

#define GAP_NS NS_PER_MS

static void a_generator_that_sleeps_lags_behind_each_request_it_missed(void **state)
{
    (void)state;
    struct clock_fake fake;
    struct hist lag;
    clock_fake_init(&fake, 0, 0);
    assert_int_equal(hist_init(&lag, NULL, NULL), 0);
    /* 100 requests a millisecond apart; it is away from 10 ms to 30 ms. */
    for (int64_t i = 0; i < 100; i++) {
        int64_t intended_ns = i * GAP_NS;
        int64_t now_ns = clock_monotonic_ns(&fake.clock);
        if (now_ns < intended_ns) {
            clock_fake_advance(&fake, intended_ns - now_ns);
        }
        if (i == 10) {
            clock_fake_advance(&fake, 20 * NS_PER_MS);
        }
        hist_record(&lag, lag_ns(intended_ns, 0, clock_monotonic_ns(&fake.clock)));
    }
    /* 20 ms, 19 ms, ... 1 ms, then none: one request in five was late, by 10.5 ms in the mean. */
    assert_int_equal(hist_count(&lag), 100);
    assert_int_equal(hist_quantile_ns(&lag, 0.8), 0);
    int64_t p81_ns = hist_quantile_ns(&lag, 0.81);
    assert_true(p81_ns > 0.99 * NS_PER_MS && p81_ns < 1.01 * NS_PER_MS);
    int64_t p90_ns = hist_quantile_ns(&lag, 0.9);
    assert_true(p90_ns > 9.9 * NS_PER_MS && p90_ns < 10.1 * NS_PER_MS);
    int64_t max_ns = hist_max_ns(&lag);
    assert_true(max_ns > 19.8 * NS_PER_MS && max_ns < 20.2 * NS_PER_MS);
    hist_fini(&lag);
}

static void waiting_for_a_connection_is_no_lag(void **state)
{
    (void)state;
    /* Its connections are all in use until 5 ms: that is the service's time. */
    assert_int_equal(lag_ns(1 * NS_PER_MS, 5 * NS_PER_MS, 5 * NS_PER_MS + 7), 7);
    assert_int_equal(lag_ns(1 * NS_PER_MS, 0, 5 * NS_PER_MS), 4 * NS_PER_MS);
    assert_int_equal(lag_ns(5 * NS_PER_MS, 1 * NS_PER_MS, 5 * NS_PER_MS - 3), 0);
}

static void the_limit_is_a_tenth_of_the_gap_but_for_high_rates(void **state)
{
    (void)state;
    assert_int_equal(lag_limit_ns((double)NS_PER_SEC / 100), NS_PER_MS);
    assert_int_equal(lag_limit_ns((double)NS_PER_SEC / 1000), 100 * NS_PER_US);
    assert_int_equal(lag_limit_ns((double)NS_PER_SEC / 20000), LAG_FLOOR_NS);
    assert_int_equal(lag_limit_ns(0), LAG_FLOOR_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_generator_that_sleeps_lags_behind_each_request_it_missed),
        cmocka_unit_test(waiting_for_a_connection_is_no_lag),
        cmocka_unit_test(the_limit_is_a_tenth_of_the_gap_but_for_high_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
