#include "load/warmup.h"

#include "base/test.h"

#include <errno.h>

#include "base/clock.h"

static const struct hist_config config = {HIST_LOWEST_NS_DEFAULT, 120 * NS_PER_SEC, 3};

static void parts_are_equal_and_the_drain_is_the_last(void **state)
{
    (void)state;
    assert_int_equal(load_part(-1, 20 * NS_PER_SEC), 0);
    assert_int_equal(load_part(0, 20 * NS_PER_SEC), 0);
    assert_int_equal(load_part(NS_PER_SEC - 1, 20 * NS_PER_SEC), 0);
    assert_int_equal(load_part(NS_PER_SEC, 20 * NS_PER_SEC), 1);
    assert_int_equal(load_part(20 * NS_PER_SEC - 1, 20 * NS_PER_SEC), LOAD_PARTS - 1);
    assert_int_equal(load_part(20 * NS_PER_SEC, 20 * NS_PER_SEC), LOAD_PARTS);
}

/* 100 answers a part: 50 ms in the first two, 1 ms later. Without the cut the 99th percentile is
 * the warm-up's. */
static void percentiles_leave_out_what_was_cut_and_counts_do_not(void **state)
{
    (void)state;
    static struct load_result result;
    result = (struct load_result){.arrivals_ns = 20 * NS_PER_SEC, .finished = 2100};
    for (int e = 0; e < LOAD_ENDPOINTS; e++) {
        assert_int_equal(hist_init(&result.endpoints[e].latency, &config, NULL), 0);
        for (int p = 0; p <= LOAD_PARTS; p++) {
            assert_int_equal(hist_init(&result.endpoints[e].parts[p], &config, NULL), 0);
        }
    }
    struct load_endpoint_result *claim = &result.endpoints[LOAD_CLAIM];
    for (int p = 0; p <= LOAD_PARTS; p++) {
        for (int i = 0; i < 100; i++) {
            int64_t ns = p < 2 ? 50 * NS_PER_MS : NS_PER_MS;
            hist_record(&claim->latency, ns);
            hist_record(&claim->parts[p], ns);
            claim->completed++;
        }
    }
    assert_true(hist_quantile_ns(&claim->latency, 0.99) > 49 * NS_PER_MS);
    assert_int_equal(load_cut_warmup(&result, LOAD_PARTS / 2 + 1), -EINVAL);
    assert_int_equal(load_cut_warmup(&result, 2), 0);
    assert_int_equal(hist_count(&claim->latency), 1900);
    assert_true(hist_max_ns(&claim->latency) < 2 * NS_PER_MS);
    assert_int_equal(claim->cut, 200);
    assert_int_equal(claim->completed, 2100);
    assert_int_equal(result.warm_cut_ns, 2 * NS_PER_SEC);
    assert_int_equal(load_cut_warmup(&result, 1), -EINVAL); /* once */
    load_result_fini(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_equal_and_the_drain_is_the_last),
        cmocka_unit_test(percentiles_leave_out_what_was_cut_and_counts_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
