/* One run of a plan against a service that is started for it, or against the target; and the runs
 * beside it that are for profiles alone. What is started ends with the run, also when it is
 * interrupted. Main thread only. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "live_profile.h"
#include "load/load.h"
#include "load_plan.h"
#include "noise.h"
#include "redis_watch.h"

enum load_steadiness {
    LOAD_NOT_JUDGED, /* too short, or the offered load is not meant to be steady */
    LOAD_SETTLED,
    LOAD_UNSTEADY,
};

struct load_measured {
    struct load_result result;
    struct noise noise;
    char noise_words[512];
    struct redis_look redis_before, redis_after; /* of the first server, version "": not known */
    int64_t switches, faults; /* involuntary, and from disk, of codeqd and Redis; -1: not known */
    int64_t codeqd_cpu_us, redis_cpu_us, codeqd_rss_kb; /* -1: not known */
    enum load_steadiness steadiness;
};

/* live: sampled while it runs, and ends it when it is whole; NULL: none. When this was 0, run is to
 * be ended with load_result_fini(&run->result). Negative errno with text; -EINTR: interrupted. */
int load_measure_once(const struct load_plan *plan, const struct load_options *o,
                      struct live_profile *live, struct load_measured *run, struct err *err);

/* A run for the profiles alone, which ends when they are whole. */
int load_measure_live(const struct load_plan *plan, const struct load_options *o,
                      struct live_profile *live, struct err *err);

/* Run the service, and Redis, under each tool that o asks for, into dir, a scenario's folder. Only
 * an interrupt fails it: what could not be measured says why in service.json. */
int load_measure_tools(const char *path, const struct load_options *o, const char *dir,
                       struct err *err);
