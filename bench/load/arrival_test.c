#include "base/test.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "load/arrival.h"

static void constant_arrivals_are_evenly_spaced(void **state)
{
    (void)state;
    struct arrival_phase phase = {2 * NS_PER_SEC, 1000, 1000};
    struct arrival arrival;
    assert_int_equal(arrival_init(&arrival, ARRIVAL_CONSTANT, &phase, 1, 1, NULL), 0);
    for (int64_t k = 1; k <= 2000; k++) {
        assert_int_equal(arrival_next_ns(&arrival), k * NS_PER_MS);
    }
    assert_int_equal(arrival_next_ns(&arrival), -1);
    assert_int_equal(arrival_next_ns(&arrival), -1);
}

static void a_ramp_offers_the_area_under_its_line(void **state)
{
    (void)state;
    struct arrival_phase phase = {10 * NS_PER_SEC, 0, 2000};
    struct arrival arrival;
    assert_int_equal(arrival_init(&arrival, ARRIVAL_CONSTANT, &phase, 1, 1, NULL), 0);
    int64_t count = 0;
    int64_t half = 0;
    for (int64_t t; (t = arrival_next_ns(&arrival)) >= 0; count++) {
        half += t <= 5 * NS_PER_SEC;
    }
    assert_int_equal(count, 10000);
    assert_int_equal(half, 2500); /* the integral of a line from 0 grows with the square */
}

static void steps_and_silence_keep_their_places(void **state)
{
    (void)state;
    struct arrival_phase phases[] = {
        {NS_PER_SEC, 100, 100}, {NS_PER_SEC, 0, 0}, {NS_PER_SEC / 10, 5000, 5000}};
    struct arrival arrival;
    assert_int_equal(arrival_init(&arrival, ARRIVAL_CONSTANT, phases, 3, 1, NULL), 0);
    int64_t in_phase[3] = {0};
    int64_t last = 0;
    for (int64_t t; (t = arrival_next_ns(&arrival)) >= 0; last = t) {
        assert_true(t >= last);
        in_phase[t <= NS_PER_SEC ? 0 : t <= 2 * NS_PER_SEC ? 1 : 2]++;
    }
    assert_int_equal(in_phase[0], 100);
    assert_int_equal(in_phase[1], 0);
    assert_int_equal(in_phase[2], 500);
    assert_int_equal(arrival_duration_ns(&arrival), 2100 * NS_PER_MS);
    assert_true(fabs(arrival_expected_total(&arrival) - 600) < 1e-9);
}

/* Kolmogorov-Smirnov distance of the gaps from the exponential, and the dispersion of counts.
 * Limits: KS 1.95 / sqrt(n) is p = 0.001; the seeds are fixed, so the test cannot flicker. */
static void poisson_gaps_are_exponential_and_counts_poisson(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct arrival_phase phase = {20 * NS_PER_SEC, 1000, 1000};
        struct arrival arrival;
        assert_int_equal(arrival_init(&arrival, ARRIVAL_POISSON, &phase, 1, seed, NULL), 0);
        double below[100] = {0};
        double counts[200] = {0};
        double n = 0;
        int64_t last = 0;
        for (int64_t t; (t = arrival_next_ns(&arrival)) >= 0; last = t, n++) {
            double u = 1 - exp(-(double)(t - last) / (double)NS_PER_MS);
            below[(int)fmin(99, u * 100)]++;
            counts[t / (100 * NS_PER_MS) < 200 ? t / (100 * NS_PER_MS) : 199]++;
        }
        double cumulative = 0;
        for (int i = 0; i < 99; i++) {
            cumulative += below[i];
            assert_true(fabs(cumulative / n - (i + 1) / 100.0) < 1.95 / sqrt(n));
        }
        double mean = n / 200;
        double variance = 0;
        for (int i = 0; i < 200; i++) {
            variance += (counts[i] - mean) * (counts[i] - mean) / 199;
        }
        assert_true(variance / mean > 0.7 && variance / mean < 1.3);
        assert_true(fabs(n - 20000) < 4 * sqrt(20000));
    }
}

static void one_seed_is_one_schedule(void **state)
{
    (void)state;
    struct arrival_phase phases[] = {{NS_PER_SEC, 10, 500}, {NS_PER_SEC, 500, 500}};
    struct arrival a;
    struct arrival b;
    struct arrival other;
    assert_int_equal(arrival_init(&a, ARRIVAL_POISSON, phases, 2, 7, NULL), 0);
    assert_int_equal(arrival_init(&b, ARRIVAL_POISSON, phases, 2, 7, NULL), 0);
    assert_int_equal(arrival_init(&other, ARRIVAL_POISSON, phases, 2, 8, NULL), 0);
    int differs = 0;
    for (int i = 0; i < 300; i++) {
        int64_t t = arrival_next_ns(&a);
        assert_int_equal(t, arrival_next_ns(&b));
        differs += t != arrival_next_ns(&other);
    }
    assert_true(differs > 200);
}

static void wrong_phases_are_refused_by_number(void **state)
{
    (void)state;
    struct arrival_phase wrong[] = {{0, 1, 1}, {1, -1, 1}, {1, 1, NAN}, {1, 1e9, 1}};
    struct arrival arrival;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct arrival_phase phases[] = {{NS_PER_SEC, 1, 1}, wrong[i]};
        struct err err = {""};
        assert_true(arrival_init(&arrival, ARRIVAL_CONSTANT, phases, 2, 1, &err) < 0);
        assert_non_null(strstr(err.text, "phase 1"));
    }
    assert_true(arrival_init(&arrival, ARRIVAL_CONSTANT, wrong, 0, 1, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_arrivals_are_evenly_spaced),
        cmocka_unit_test(a_ramp_offers_the_area_under_its_line),
        cmocka_unit_test(steps_and_silence_keep_their_places),
        cmocka_unit_test(poisson_gaps_are_exponential_and_counts_poisson),
        cmocka_unit_test(one_seed_is_one_schedule),
        cmocka_unit_test(wrong_phases_are_refused_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
