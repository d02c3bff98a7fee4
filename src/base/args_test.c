#include "base/test.h"

#include <string.h>

#include "base/args.h"
#include "base/clock.h"

static void durations_take_their_unit(void **state)
{
    (void)state;
    int64_t ns = -1;
    assert_int_equal(args_duration_ns("250ms", &ns, NULL), 0);
    assert_int_equal(ns, 250 * NS_PER_MS);
    assert_int_equal(args_duration_ns("1.5s", &ns, NULL), 0);
    assert_int_equal(ns, 1500 * NS_PER_MS);
    assert_int_equal(args_duration_ns("2h", &ns, NULL), 0);
    assert_int_equal(ns, 7200 * NS_PER_SEC);
    assert_int_equal(args_duration_ns("0", &ns, NULL), 0);
    assert_int_equal(ns, 0);
}

static void wrong_durations_are_refused_and_leave_the_value(void **state)
{
    (void)state;
    const char *wrong[] = {"5",    "",     "ms",   "-5ms",   "5 ms",
                           "5sec", "nans", "infs", "1e400s", "9e18s"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t ns = 42;
        struct err err = {""};
        assert_true(args_duration_ns(wrong[i], &ns, &err) < 0);
        assert_int_equal(ns, 42);
        assert_true(strlen(err.text) > 0);
    }
}

static void bytes_take_binary_units(void **state)
{
    (void)state;
    int64_t bytes;
    assert_int_equal(args_bytes("64KiB", &bytes, NULL), 0);
    assert_int_equal(bytes, 65536);
    assert_int_equal(args_bytes("1MiB", &bytes, NULL), 0);
    assert_int_equal(bytes, 1048576);
    assert_true(args_bytes("64KB", &bytes, NULL) < 0);
}

static void numbers_keep_their_range(void **state)
{
    (void)state;
    int64_t n;
    struct err err;
    assert_int_equal(args_int("10", 1, 10, &n, NULL), 0);
    assert_int_equal(n, 10);
    assert_true(args_int("11", 1, 10, &n, &err) < 0);
    assert_non_null(strstr(err.text, "1..10"));
    assert_true(args_int("", 1, 10, &n, NULL) < 0);
    assert_true(args_int("5x", 1, 10, &n, NULL) < 0);
    assert_true(args_int("99999999999999999999", 1, INT64_MAX, &n, NULL) < 0);
    double d;
    assert_int_equal(args_double("0.5", 0, 1, &d, NULL), 0);
    assert_true(args_double("nan", 0, 1, &d, NULL) < 0);
    assert_true(args_double("1.01", 0, 1, &d, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_take_their_unit),
        cmocka_unit_test(wrong_durations_are_refused_and_leave_the_value),
        cmocka_unit_test(bytes_take_binary_units),
        cmocka_unit_test(numbers_keep_their_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
