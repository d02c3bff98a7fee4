#include "base/test.h"

#include "sched/lease.h"

static void a_lease_is_held_until_the_ms_before_its_deadline(void **state)
{
    (void)state;
    int64_t deadline_ms = lease_deadline_ms(1000, 50);
    assert_true(lease_held(deadline_ms, 1000));
    assert_true(lease_held(deadline_ms, 1049));
    assert_false(lease_held(deadline_ms, 1050));
    assert_false(lease_held(deadline_ms, 1051));
}

static void a_lease_length_outside_1_ms_to_7_days_is_refused(void **state)
{
    (void)state;
    assert_false(lease_ms_valid(0));
    assert_false(lease_ms_valid(-5));
    assert_true(lease_ms_valid(1));
    assert_true(lease_ms_valid(INT64_C(604800000)));
    assert_false(lease_ms_valid(INT64_C(604800001)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_is_held_until_the_ms_before_its_deadline),
        cmocka_unit_test(a_lease_length_outside_1_ms_to_7_days_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
