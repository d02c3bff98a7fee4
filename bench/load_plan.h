/* What a load is to be: the options of `codeq-bench load` and a scenario file read under them. The
 * plan owns its texts; load_plan_free accepts a zeroed one. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "digest.h"
#include "load/spec.h"
#include "load_cores.h"
#include "profile.h"
#include "scenario.h"

struct load_options {
    bool brief, json, no_result;
    enum load_placement placement; /* the one that is possible here */
    int64_t duration_ns; /* 0: as the scenario says */
    double rate_scale;
    int64_t runs;
    bool tools[PROFILE_TOOL_COUNT];
    int64_t live_seconds; /* 0: no live profile */
    const char *codeqd, *target, *redis, *producer_token, *worker_token, *out, *scenarios_dir;
};

/* A scenario of roles, with what of it belongs to the lab rather than to the load. */
struct load_plan {
    char *text;
    char sha256[DIGEST_BYTES];
    char redis_sha256[DIGEST_BYTES];
    char id[SCENARIO_ID_BYTES];
    char title[160];
    int64_t rev;
    struct json *json;
    const char *redis_config[SCENARIO_REDIS_ARGS_MAX + 1];
    unsigned redis_masters; /* 0: one server */
    const char *service_args[SCENARIO_REDIS_ARGS_MAX + 1];
    struct load_scenario *load;
};

/* Read the scenario file at path, its durations and rates scaled as o says. plan is to be freed
 * either way. 0, or negative errno with text. */
int load_plan_read(struct load_plan *plan, const char *path, const struct load_options *o,
                   struct err *err);
void load_plan_free(struct load_plan *plan);
