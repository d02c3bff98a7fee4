/* Measures one scenario whole: every process run of its plan, written to disk as they end, then the
 * summary. A plan that was broken off goes on where it stopped. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "env.h"
#include "progress.h"
#include "run_process.h"
#include "scenario.h"

struct measure_options {
    bool counts_only;
    bool profile; /* keep profiles and tables */
    bool trace; /* keep what codeq-trace saw: the session has a tracer */
    int64_t repeats; /* of timed runs and counted repeats; 0: as the scenario says */
};

/* Roughly how long it takes. */
double measure_guess_sec(const struct scenario *scenario, const struct measure_options *options);

/* Write SET_DIR/SCENARIO/. *out_summary is the summary's text, the caller's to free. 0, or with
 * text: -EINTR (what is finished is kept for the next time), or what failed. */
int measure_scenario(struct session *session, const struct scenario *scenario,
                     const struct measure_options *options, const struct env *env,
                     const char *set_dir, struct progress *progress, char **out_summary,
                     struct err *err);
