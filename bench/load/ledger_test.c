#include "base/test.h"

#include "load/ledger.h"

enum { MS = 1000000, SLACK = 2 * MS };

static struct ledger ledger;

static int make(void **state)
{
    (void)state;
    return ledger_init(&ledger, 2, 100, NULL);
}

static int drop(void **state)
{
    (void)state;
    ledger_fini(&ledger);
    return 0;
}

static uint64_t created(uint8_t priority, int64_t due_ns, bool delayed)
{
    int64_t seq = ledger_issue(&ledger, 0, priority, delayed);
    assert_true(seq >= 0);
    ledger_created(&ledger, (uint64_t)seq, due_ns);
    return (uint64_t)seq;
}

static void a_plain_life_balances(void **state)
{
    (void)state;
    uint64_t seq = created(3, 10 * MS, false);
    assert_int_equal(ledger_waiting(&ledger, 0, 3), 1);
    assert_int_equal(ledger_open(&ledger), 1);
    struct ledger_arrival a = ledger_delivered(&ledger, seq, 0, 15 * MS, 1000 * MS, SLACK);
    assert_int_equal(a.what, LEDGER_FIRST);
    assert_int_equal(a.wait_ns, 5 * MS);
    assert_int_equal(ledger_waiting(&ledger, 0, 3), 0);
    ledger_finished(&ledger, seq);
    assert_int_equal(ledger_open(&ledger), 0);
    assert_int_equal(ledger.duplicated + ledger.early, 0);
}

static void a_second_delivery_under_a_lease_is_a_duplicate(void **state)
{
    (void)state;
    uint64_t seq = created(0, MS, false);
    ledger_delivered(&ledger, seq, 0, 2 * MS, 100 * MS, SLACK);
    assert_int_equal(ledger_delivered(&ledger, seq, 0, 50 * MS, 150 * MS, SLACK).what,
                     LEDGER_DUPLICATE);
    assert_int_equal(ledger.duplicated, 1);
}

static void a_delivery_after_the_lease_or_a_nack_is_expected(void **state)
{
    (void)state;
    uint64_t seq = created(0, MS, false);
    ledger_delivered(&ledger, seq, 0, 2 * MS, 100 * MS, SLACK);
    assert_int_equal(ledger_delivered(&ledger, seq, 0, 101 * MS, 200 * MS, SLACK).what,
                     LEDGER_AGAIN);
    ledger_may_return(&ledger, seq);
    assert_int_equal(ledger_delivered(&ledger, seq, 0, 110 * MS, 300 * MS, SLACK).what,
                     LEDGER_AGAIN);
    ledger_extended(&ledger, seq, 900 * MS);
    assert_int_equal(ledger_delivered(&ledger, seq, 0, 400 * MS, 500 * MS, SLACK).what,
                     LEDGER_DUPLICATE);
    assert_int_equal(ledger.early, 0);
}

static void crashes_measure_redelivery_and_catch_early_ones(void **state)
{
    (void)state;
    uint64_t seq = created(0, MS, false);
    ledger_delivered(&ledger, seq, 0, 2 * MS, 100 * MS, SLACK);
    ledger_crashed(&ledger, seq);
    struct ledger_arrival a = ledger_delivered(&ledger, seq, 0, 130 * MS, 200 * MS, SLACK);
    assert_true(a.crashed);
    assert_int_equal(a.wait_ns, 30 * MS);
    ledger_crashed(&ledger, seq);
    ledger_delivered(&ledger, seq, 0, 150 * MS, 300 * MS, SLACK);
    assert_int_equal(ledger.early, 1);
    assert_int_equal(ledger.duplicated, 0);
}

static void a_delayed_task_before_its_time_is_early(void **state)
{
    (void)state;
    uint64_t on_time = created(0, 500 * MS, true);
    uint64_t too_soon = created(0, 500 * MS, true);
    assert_int_equal(ledger_waiting(&ledger, 0, 0), 0);
    struct ledger_arrival a = ledger_delivered(&ledger, on_time, 0, 499 * MS, 900 * MS, SLACK);
    assert_true(a.delayed);
    assert_int_equal(ledger.early, 0);
    ledger_delivered(&ledger, too_soon, 0, 497 * MS, 900 * MS, SLACK);
    assert_int_equal(ledger.early, 1);
}

static void tasks_of_others_are_foreign_and_late_answers_count_twice(void **state)
{
    (void)state;
    uint64_t seq = created(0, MS, false);
    assert_int_equal(ledger_delivered(&ledger, 77, 0, MS, MS, SLACK).what, LEDGER_FOREIGN);
    assert_int_equal(ledger_delivered(&ledger, seq, 1, MS, MS, SLACK).what, LEDGER_FOREIGN);
    ledger_delivered(&ledger, seq, 0, 2 * MS, 100 * MS, SLACK);
    ledger_finished(&ledger, seq);
    ledger_finished(&ledger, seq);
    assert_int_equal(ledger.duplicated, 1);
    assert_int_equal(ledger_delivered(&ledger, seq, 0, 200 * MS, 300 * MS, SLACK).what,
                     LEDGER_DUPLICATE);
    ledger_finished(&ledger, 12345); /* no task of ours: ignored */
    assert_int_equal(ledger.finished, 1);
}

static void it_grows_past_what_was_expected_and_stops_at_its_limit(void **state)
{
    (void)state;
    for (int i = 0; i < LEDGER_CHUNK + 10; i++) {
        assert_int_equal(ledger_issue(&ledger, 0, 0, false), i);
    }
    assert_true(ledger_init(&(struct ledger){0}, 1, LEDGER_TASKS_MAX + 1, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_plain_life_balances, make, drop),
        cmocka_unit_test_setup_teardown(a_second_delivery_under_a_lease_is_a_duplicate, make, drop),
        cmocka_unit_test_setup_teardown(a_delivery_after_the_lease_or_a_nack_is_expected, make,
                                        drop),
        cmocka_unit_test_setup_teardown(crashes_measure_redelivery_and_catch_early_ones, make,
                                        drop),
        cmocka_unit_test_setup_teardown(a_delayed_task_before_its_time_is_early, make, drop),
        cmocka_unit_test_setup_teardown(tasks_of_others_are_foreign_and_late_answers_count_twice,
                                        make, drop),
        cmocka_unit_test_setup_teardown(it_grows_past_what_was_expected_and_stops_at_its_limit,
                                        make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
