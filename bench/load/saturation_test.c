#include "load/saturation.h"

#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"

static struct load_spec *two_producers(void)
{
    struct load_spec *spec = calloc(1, sizeof *spec);
    assert_non_null(spec);
    spec->duration_ns = 10 * NS_PER_SEC;
    spec->role_count = 3;
    /* 5 s at 100 a second and 5 s from 100 to 300: 500 + 1000 requests. */
    spec->roles[0] = (struct load_role){
        .kind = LOAD_PRODUCER,
        .open = true,
        .batch = 1,
        .phase_count = 2,
        .phases = {{5 * NS_PER_SEC, 100, 100}, {5 * NS_PER_SEC, 100, 300}},
    };
    /* 10 s at 50 requests of 3 tasks: 1500 tasks. */
    spec->roles[1] = (struct load_role){
        .kind = LOAD_PRODUCER,
        .open = true,
        .batch = 3,
        .phase_count = 1,
        .phases = {{10 * NS_PER_SEC, 50, 50}},
    };
    spec->roles[2] = (struct load_role){.kind = LOAD_WORKER, .batch = 1};
    return spec;
}

static void rates_keep_their_shape_and_offer_what_was_asked_for_together(void **state)
{
    (void)state;
    struct load_spec *spec = two_producers();
    assert_int_equal(load_offer(spec, 900, NULL), 0); /* it was 300 a second */
    assert_true(fabs(spec->roles[0].phases[0].start_rate_per_sec - 300) < 1e-9);
    assert_true(fabs(spec->roles[0].phases[1].end_rate_per_sec - 900) < 1e-9);
    assert_true(fabs(spec->roles[1].phases[0].end_rate_per_sec - 150) < 1e-9);
    /* Twice in a row is the same as once. */
    assert_int_equal(load_offer(spec, 900, NULL), 0);
    assert_true(fabs(spec->roles[1].phases[0].end_rate_per_sec - 150) < 1e-9);
    free(spec);
}

static void a_scenario_without_a_rate_is_refused(void **state)
{
    (void)state;
    struct load_spec *spec = two_producers();
    spec->roles[0].open = false;
    spec->roles[1].phases[0] = (struct arrival_phase){10 * NS_PER_SEC, 0, 0};
    struct err err = {""};
    assert_int_equal(load_offer(spec, 900, &err), -ERANGE);
    assert_true(err.text[0] != '\0');
    free(spec);
    spec = two_producers();
    assert_int_equal(load_offer(spec, 1e300, NULL), -ERANGE);
    free(spec);
}

static void goodput_counts_whole_seconds_of_the_arrivals_and_not_the_drain(void **state)
{
    (void)state;
    struct load_window windows[5] = {
        {.count = 10}, {.count = 20}, {.count = 60}, {.count = 500}, {.count = 500}};
    struct load_result result = {.window_count = 5};
    result.endpoints[LOAD_RESULT].windows = windows;
    assert_true(fabs(load_goodput_per_sec(&result, 3 * NS_PER_SEC + NS_PER_SEC / 2) - 30) < 1e-9);
    assert_true(isnan(load_goodput_per_sec(&result, NS_PER_SEC / 2)));
    assert_true(isnan(load_goodput_per_sec(&result, 6 * NS_PER_SEC)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_keep_their_shape_and_offer_what_was_asked_for_together),
        cmocka_unit_test(a_scenario_without_a_rate_is_refused),
        cmocka_unit_test(goodput_counts_whole_seconds_of_the_arrivals_and_not_the_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
