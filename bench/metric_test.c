#include "base/test.h"

#include "metric.h"

static void ids_are_found_by_scope_and_name(void **state)
{
    (void)state;
    const struct metric *metric = metric_find("cycle.instructions_per_op");
    assert_non_null(metric);
    assert_int_equal(metric->class, METRIC_COUNTED);
    assert_string_equal(metric_find("claim.latency_ns_p99")->unit, "ns");
    assert_int_equal(metric_find("run.throughput_per_sec")->better, METRIC_HIGHER);
}

static void wrong_scopes_and_names_are_unknown(void **state)
{
    (void)state;
    assert_null(metric_find("run.instructions_per_op"));
    assert_null(metric_find("cycle.heap_peak_bytes"));
    assert_null(metric_find("cycle.instructions"));
    assert_null(metric_find("instructions_per_op"));
    assert_null(metric_find("cyc.instructions_per_op"));
    assert_null(metric_find(""));
    assert_null(metric_find("."));
}

static void every_row_has_its_own_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < metric_count; i++) {
        assert_ptr_equal(metric_by_name(metric_table[i].name), &metric_table[i]);
        assert_true(metric_table[i].unit[0] != '\0');
        assert_true(metric_table[i].title[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_found_by_scope_and_name),
        cmocka_unit_test(wrong_scopes_and_names_are_unknown),
        cmocka_unit_test(every_row_has_its_own_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
