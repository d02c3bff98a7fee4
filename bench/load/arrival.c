#include "load/arrival.h"

#include <errno.h>
#include <math.h>

#include "base/clock.h"

static double phase_seconds(const struct arrival_phase *phase)
{
    return (double)phase->duration_ns / (double)NS_PER_SEC;
}

static double phase_expected(const struct arrival_phase *phase)
{
    return phase_seconds(phase) * (phase->start_rate_per_sec + phase->end_rate_per_sec) / 2;
}

/* Seconds into the phase by which `expected` arrivals have come: the root of
 * start * t + (end - start) / (2 * duration) * t^2 = expected, in the form that stays exact when
 * the slope is near zero. */
static double phase_invert(const struct arrival_phase *phase, double expected)
{
    double start = phase->start_rate_per_sec;
    double slope = (phase->end_rate_per_sec - start) / phase_seconds(phase);
    double root = sqrt(fmax(0, start * start + 2 * slope * expected));
    double denominator = start + root;
    return denominator > 0 ? 2 * expected / denominator : 0;
}

static int check_phase(const struct arrival_phase *phase, size_t index, struct err *err)
{
    if (phase->duration_ns < 1) {
        return err_set(err, -EINVAL, "phase %zu: duration must be above 0", index);
    }
    const double rates[] = {phase->start_rate_per_sec, phase->end_rate_per_sec};
    for (int i = 0; i < 2; i++) {
        if (!(rates[i] >= 0 && rates[i] <= ARRIVAL_RATE_PER_SEC_MAX)) {
            return err_set(err, -EINVAL, "phase %zu: rate %g is not in 0..%g per second", index,
                           rates[i], ARRIVAL_RATE_PER_SEC_MAX);
        }
    }
    return 0;
}

int arrival_init(struct arrival *arrival, enum arrival_kind kind,
                 const struct arrival_phase *phases, size_t phase_count, uint64_t seed,
                 struct err *err)
{
    if (phase_count < 1 || phase_count > ARRIVAL_PHASES_MAX) {
        return err_set(err, -EINVAL, "%zu phases: give 1 to %d", phase_count, ARRIVAL_PHASES_MAX);
    }
    for (size_t i = 0; i < phase_count; i++) {
        int code = check_phase(&phases[i], i, err);
        if (code != 0) {
            return code;
        }
    }
    *arrival = (struct arrival){.kind = kind, .phase_count = phase_count};
    for (size_t i = 0; i < phase_count; i++) {
        arrival->phases[i] = phases[i];
    }
    rng_init(&arrival->rng, seed);
    return 0;
}

int64_t arrival_next_ns(struct arrival *arrival)
{
    double step = 1;
    if (arrival->kind == ARRIVAL_POISSON) {
        step = -log1p(-rng_unit(&arrival->rng)); /* the unit is below 1, so this is finite */
    }
    arrival->expected += step;
    while (arrival->phase < arrival->phase_count) {
        const struct arrival_phase *phase = &arrival->phases[arrival->phase];
        double inside = arrival->expected - arrival->phase_expected;
        /* The constant process' last arrival of a phase falls on its very end; rounding must not
         * push it into the next phase or lose it. */
        if (inside <= phase_expected(phase) * (1 + 1e-12)) {
            double offset_sec = fmin(phase_invert(phase, inside), phase_seconds(phase));
            return arrival->phase_start_ns + (int64_t)llround(offset_sec * (double)NS_PER_SEC);
        }
        arrival->phase_expected += phase_expected(phase);
        arrival->phase_start_ns += phase->duration_ns;
        arrival->phase++;
    }
    return -1;
}

double arrival_expected_total(const struct arrival *arrival)
{
    double total = 0;
    for (size_t i = 0; i < arrival->phase_count; i++) {
        total += phase_expected(&arrival->phases[i]);
    }
    return total;
}

int64_t arrival_duration_ns(const struct arrival *arrival)
{
    int64_t total_ns = 0;
    for (size_t i = 0; i < arrival->phase_count; i++) {
        total_ns += arrival->phases[i].duration_ns;
    }
    return total_ns;
}
