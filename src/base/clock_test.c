#include "base/test.h"

#include <time.h>

#include "base/clock.h"

static void rfc3339_reads_what_it_writes(void **state)
{
    (void)state;
    char text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(INT64_C(1763877845678) * NS_PER_MS, text);
    assert_string_equal(text, "2025-11-23T06:04:05.678Z");
    int64_t ns;
    assert_int_equal(clock_parse_rfc3339(text, &ns), 0);
    assert_int_equal(ns, INT64_C(1763877845678) * NS_PER_MS);
    clock_format_rfc3339(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void rfc3339_agrees_with_the_c_library_on_every_day_it_can_name(void **state)
{
    (void)state;
    /* All days of 1678 to 2261, each at another second. */
    for (int64_t day = -106650; day < 106650; day++) {
        int64_t sec = day * 86400 + (day * 7919 % 86400 + 86400) % 86400;
        time_t t = (time_t)sec;
        struct tm utc;
        char expected[64];
        char text[CLOCK_RFC3339_BYTES];
        gmtime_r(&t, &utc);
        strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.007Z", &utc);
        clock_format_rfc3339(sec * NS_PER_SEC + 7 * NS_PER_MS, text);
        assert_string_equal(text, expected);
    }
}

static void rfc3339_takes_offsets_and_fractions(void **state)
{
    (void)state;
    int64_t a;
    int64_t b;
    assert_int_equal(clock_parse_rfc3339("2026-01-01T00:30:00.5+02:00", &a), 0);
    assert_int_equal(clock_parse_rfc3339("2025-12-31T22:30:00.500Z", &b), 0);
    assert_int_equal(a, b);
    assert_int_equal(clock_parse_rfc3339("2024-02-29T00:00:00Z", &a), 0);
}

static void wrong_times_are_refused(void **state)
{
    (void)state;
    const char *wrong[] = {"",
                           "2026-01-01",
                           "2026-01-01T00:00:00",
                           "2026-13-01T00:00:00Z",
                           "2026-02-29T00:00:00Z",
                           "2026-01-01T24:00:00Z",
                           "2026-01-01T00:00:00.Z",
                           "2026-01-01T00:00:00Zx",
                           "2026-01-01T00:00:00+0200",
                           "9999-01-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t ns = 7;
        assert_true(clock_parse_rfc3339(wrong[i], &ns) < 0);
        assert_int_equal(ns, 7);
    }
}

static void fake_clock_moves_only_when_told(void **state)
{
    (void)state;
    struct clock_fake fake;
    clock_fake_init(&fake, 5, 100);
    assert_int_equal(clock_monotonic_ns(&fake.clock), 5);
    clock_fake_advance(&fake, 10);
    assert_int_equal(clock_monotonic_ns(&fake.clock), 15);
    assert_int_equal(clock_wall_ns(&fake.clock), 110);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc3339_reads_what_it_writes),
        cmocka_unit_test(rfc3339_agrees_with_the_c_library_on_every_day_it_can_name),
        cmocka_unit_test(rfc3339_takes_offsets_and_fractions),
        cmocka_unit_test(wrong_times_are_refused),
        cmocka_unit_test(fake_clock_moves_only_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
