/* What a service can do at most, found by a short closed loop, and a scenario's rates set to a
 * multiple of it: a fixed rate would be an overload on one machine and none on another. Pure but
 * for load_saturation_probe, which runs the load generator. */
#pragma once

#include "load/load.h"

#define LOAD_SATURATION_DRAIN_NS (30 * NS_PER_SEC)

/* Tasks finished a second while there were arrivals: whole seconds of the first duration_ns of
 * result. NAN below one second. */
double load_goodput_per_sec(const struct load_result *result, int64_t duration_ns);

/* The same scenario, each of its open producers as concurrency clients without a pause instead, for
 * duration_ns (at least 1 s). *out_per_sec: tasks finished a second. 0, or as load_run; -ERANGE
 * when none was finished. What it created is drained before it returns. */
int load_saturation_probe(const struct load_spec *spec, int64_t duration_ns, uint32_t concurrency,
                          const volatile sig_atomic_t *stop, double *out_per_sec, struct err *err);

/* Scale the rates of spec's open producers so that all together offer rate_per_sec tasks on the
 * mean over spec->duration_ns. -ERANGE: they offer nothing, or a rate would pass the limit. */
int load_offer(struct load_spec *spec, double rate_per_sec, struct err *err);
