#include "load/saturation.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"

double load_goodput_per_sec(const struct load_result *result, int64_t duration_ns)
{
    size_t seconds = (size_t)(duration_ns / NS_PER_SEC);
    if (seconds < 1 || seconds > result->window_count) {
        return (double)NAN;
    }
    uint64_t finished = 0;
    for (size_t i = 0; i < seconds; i++) {
        finished += result->endpoints[LOAD_RESULT].windows[i].count;
    }
    return (double)finished / (double)seconds;
}

int load_saturation_probe(const struct load_spec *spec, int64_t duration_ns, uint32_t concurrency,
                          const volatile sig_atomic_t *stop, double *out_per_sec, struct err *err)
{
    struct load_spec *probe = malloc(sizeof *probe);
    struct load_result *result = calloc(1, sizeof *result);
    int code = -ENOMEM;
    if (probe == NULL || result == NULL) {
        err_set(err, code, "out of memory");
        goto out;
    }
    *probe = *spec;
    probe->duration_ns = duration_ns;
    probe->drain_ns = LOAD_SATURATION_DRAIN_NS;
    probe->action_count = 0;
    for (size_t i = 0; i < probe->role_count; i++) {
        struct load_role *role = &probe->roles[i];
        role->start_ns = 0;
        role->duration_ns = 0;
        if (role->kind == LOAD_PRODUCER && role->open) {
            role->open = false;
            role->concurrency = concurrency;
            role->operations_max = 0;
            role->think_ns = 0;
        }
    }
    code = load_run(probe, stop, NULL, NULL, result, err);
    if (code == 0) {
        double per_sec = load_goodput_per_sec(result, duration_ns);
        if (per_sec > 0) {
            *out_per_sec = per_sec;
        } else {
            code = err_set(err, -ERANGE, "the look for saturation finished no task");
        }
        load_result_fini(result);
    }
out:
    free(probe);
    free(result);
    return code;
}

int load_offer(struct load_spec *spec, double rate_per_sec, struct err *err)
{
    double tasks = 0;
    for (size_t i = 0; i < spec->role_count; i++) {
        const struct load_role *role = &spec->roles[i];
        for (size_t p = 0; role->kind == LOAD_PRODUCER && role->open && p < role->phase_count;
             p++) {
            const struct arrival_phase *phase = &role->phases[p];
            tasks += (phase->start_rate_per_sec + phase->end_rate_per_sec) / 2 *
                     ((double)phase->duration_ns / (double)NS_PER_SEC) * role->batch;
        }
    }
    double factor = rate_per_sec * ((double)spec->duration_ns / (double)NS_PER_SEC) / tasks;
    if (!(tasks > 0) || !isfinite(factor)) {
        return err_set(err, -ERANGE, "no open producer whose rate could be set");
    }
    for (size_t i = 0; i < spec->role_count; i++) {
        struct load_role *role = &spec->roles[i];
        for (size_t p = 0; role->kind == LOAD_PRODUCER && role->open && p < role->phase_count;
             p++) {
            struct arrival_phase *phase = &role->phases[p];
            phase->start_rate_per_sec *= factor;
            phase->end_rate_per_sec *= factor;
            if (phase->start_rate_per_sec > ARRIVAL_RATE_PER_SEC_MAX ||
                phase->end_rate_per_sec > ARRIVAL_RATE_PER_SEC_MAX) {
                return err_set(err, -ERANGE, "role '%s': a rate above the limit", role->name);
            }
        }
    }
    return 0;
}
