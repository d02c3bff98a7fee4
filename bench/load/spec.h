/* The part of a scenario file that says what is offered: tenants, roles, times, objectives, faults.
 *
 * Fields and units stand in scenarios/README.md. Wrong ones are refused by path with what is
 * allowed. Plain structs; load_spec_free frees what load_spec_parse made. */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "load/load.h"
#include "load/slo.h"

#define LOAD_SLOS_MAX 16
#define LOAD_FAULTS_MAX 8

enum load_fault_kind { FAULT_REDIS_PAUSE, FAULT_REDIS_RESTART, FAULT_SERVICE_STOP };

struct load_fault {
    enum load_fault_kind kind;
    int64_t at_ns;
    int64_t duration_ns; /* of a pause or stop */
};

struct load_scenario {
    struct load_spec spec; /* target and tokens are still to be filled in */
    struct slo slos[LOAD_SLOS_MAX];
    size_t slo_count;
    struct load_fault faults[LOAD_FAULTS_MAX];
    size_t fault_count;
    /* Rates are a multiple of what the service can do at most; 0: they are as written. */
    double saturation_times;
    int64_t saturation_ns; /* the probe's length */
    uint32_t saturation_concurrency; /* its clients */
};

/* Read the members "seed", "duration_ms", "drain_ms", "tenants", "roles", "slo", "faults" and
 * "saturation" of a scenario; other members of the object are the caller's. duration_scale and
 * rate_scale (1: as written) shorten a run: times of phases shrink with the one, arrival rates with
 * the other. NULL with text that begins with the member's path. */
struct load_scenario *load_scenario_parse(const struct json *scenario, double duration_scale,
                                          double rate_scale, struct err *err);
void load_scenario_free(struct load_scenario *scenario);
