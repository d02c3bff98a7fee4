#include "base/test.h"

#include <string.h>

#include "base/clock.h"
#include "noise.h"

static struct noise_sample before = {.at_ns = 0,
                                     .cpu_ticks = 1000,
                                     .steal_ticks = 10,
                                     .idle_ticks = 500,
                                     .context_switches = 100,
                                     .major_faults = 0,
                                     .mhz_min = 2000,
                                     .mhz_max = 2000};

static struct noise_sample after_sec(double steal_ratio, double idle_ratio, int64_t faults)
{
    struct noise_sample after = before;
    after.at_ns = 10 * NS_PER_SEC;
    after.cpu_ticks += 2000;
    after.steal_ticks += (int64_t)(steal_ratio * 2000);
    after.idle_ticks += (int64_t)(idle_ratio * 2000);
    after.context_switches += 5000;
    after.major_faults += faults;
    return after;
}

static void a_quiet_run_is_called_quiet(void **state)
{
    (void)state;
    struct noise_sample after = after_sec(0, 0.5, 0);
    struct noise noise;
    char words[200];
    noise_between(&before, &after, &noise);
    assert_true(noise.context_switches_per_sec > 499 && noise.context_switches_per_sec < 501);
    assert_int_equal(noise_words(&noise, 0.48, words, sizeof words), 0);
    assert_non_null(strstr(words, "quiet"));
}

static void each_disturbance_is_named(void **state)
{
    (void)state;
    struct noise_sample after = after_sec(0.05, 0.2, 100);
    after.mhz_max = 3000;
    struct noise noise;
    char words[400];
    noise_between(&before, &after, &noise);
    assert_int_equal(noise_words(&noise, 0.3, words, sizeof words), 4);
    assert_non_null(strstr(words, "5.0 % of the cores (steal)"));
    assert_non_null(strstr(words, "other processes used 45 %"));
    assert_non_null(strstr(words, "10 page faults"));
    assert_non_null(strstr(words, "2000 and 3000 MHz"));
    char tight[20];
    noise_words(&noise, 0.3, tight, sizeof tight);
    assert_true(strlen(tight) < sizeof tight);
}

static void this_machine_can_be_read(void **state)
{
    (void)state;
    struct noise_sample sample;
    noise_take(&sample);
    assert_true(sample.cores > 0);
    assert_true(sample.cpu_ticks > 0);
    assert_true(sample.context_switches > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_run_is_called_quiet),
        cmocka_unit_test(each_disturbance_is_named),
        cmocka_unit_test(this_machine_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
