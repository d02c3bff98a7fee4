#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "sched/backoff.h"

static struct backoff_policy policy(enum backoff_kind kind)
{
    return (struct backoff_policy){kind, 5000, 900000};
}

static void the_plain_kinds_give_the_values_of_their_formulas(void **state)
{
    (void)state;
    struct backoff_policy fixed = policy(BACKOFF_FIXED);
    struct backoff_policy linear = policy(BACKOFF_LINEAR);
    struct backoff_policy exponential = policy(BACKOFF_EXPONENTIAL);
    assert_int_equal(backoff_delay_ms(&fixed, 1, 0), 5000);
    assert_int_equal(backoff_delay_ms(&fixed, 9, 0), 5000);
    assert_int_equal(backoff_delay_ms(&linear, 1, 0), 5000);
    assert_int_equal(backoff_delay_ms(&linear, 7, 0), 35000);
    assert_int_equal(backoff_delay_ms(&linear, 65535, 0), 900000);
    assert_int_equal(backoff_delay_ms(&exponential, 1, 0), 10000);
    assert_int_equal(backoff_delay_ms(&exponential, 4, 0), 80000);
    assert_int_equal(backoff_delay_ms(&exponential, 8, 0), 900000);
    assert_int_equal(backoff_delay_ms(&exponential, 65535, 0), 900000);
}

static void jitter_fills_its_range_evenly_and_never_leaves_it(void **state)
{
    (void)state;
    struct backoff_policy full = policy(BACKOFF_EXP_FULL_JITTER);
    struct backoff_policy equal = policy(BACKOFF_EXP_EQUAL_JITTER);
    int tenth[10] = {0};
    int64_t low = INT64_MAX;
    for (uint32_t seed = 0; seed < 100000; seed++) {
        int64_t ms = backoff_delay_ms(&full, 1, seed);
        assert_in_range(ms, 0, 10000);
        tenth[ms == 10000 ? 9 : ms / 1000]++;
        ms = backoff_delay_ms(&equal, 1, seed);
        assert_in_range(ms, 5000, 10000);
        low = ms < low ? ms : low;
    }
    /* 10,000 expected in each; 5 standard deviations are 475. */
    for (int i = 0; i < 10; i++) {
        assert_in_range(tenth[i], 9500, 10500);
    }
    assert_in_range(low, 5000, 5001);
    assert_in_range(backoff_delay_ms(&full, 65535, 0x7fffffff), 0, 900000);
    assert_in_range(backoff_delay_ms(&full, 65535, 0xffffffff), 0, 900000);
}

static void a_policy_of_nothing_waits_for_nothing(void **state)
{
    (void)state;
    for (int kind = BACKOFF_FIXED; kind <= BACKOFF_EXP_FULL_JITTER; kind++) {
        struct backoff_policy none = {(enum backoff_kind)kind, 0, 0};
        assert_true(backoff_policy_valid(&none));
        assert_int_equal(backoff_delay_ms(&none, 3, 12345), 0);
        struct backoff_policy all = {(enum backoff_kind)kind, BACKOFF_MS_MAX, BACKOFF_MS_MAX};
        assert_in_range(backoff_delay_ms(&all, 65535, 12345), 0, BACKOFF_MS_MAX);
    }
    struct backoff_policy wrong = {BACKOFF_FIXED, -1, 0};
    assert_false(backoff_policy_valid(&wrong));
    wrong = (struct backoff_policy){BACKOFF_FIXED, 0, BACKOFF_MS_MAX + 1};
    assert_false(backoff_policy_valid(&wrong));
    wrong = (struct backoff_policy){(enum backoff_kind)17, 0, 0};
    assert_false(backoff_policy_valid(&wrong));
}

static void names_read_back_and_others_are_refused(void **state)
{
    (void)state;
    for (int kind = BACKOFF_FIXED; kind <= BACKOFF_EXP_FULL_JITTER; kind++) {
        enum backoff_kind back;
        assert_int_equal(
            backoff_kind_parse(backoff_kind_name((enum backoff_kind)kind), &back, NULL), 0);
        assert_int_equal(back, kind);
    }
    struct err err;
    enum backoff_kind out;
    assert_int_equal(backoff_kind_parse("fibonacci", &out, &err), -EINVAL);
    assert_non_null(strstr(err.text, "fibonacci"));
}

static void attempts_are_spent_at_the_maximum_and_not_before(void **state)
{
    (void)state;
    assert_false(backoff_exhausted(2, 3));
    assert_true(backoff_exhausted(3, 3));
    assert_true(backoff_exhausted(1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plain_kinds_give_the_values_of_their_formulas),
        cmocka_unit_test(jitter_fills_its_range_evenly_and_never_leaves_it),
        cmocka_unit_test(a_policy_of_nothing_waits_for_nothing),
        cmocka_unit_test(names_read_back_and_others_are_refused),
        cmocka_unit_test(attempts_are_spent_at_the_maximum_and_not_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
