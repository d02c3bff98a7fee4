/* A load's result set. Main thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "live_profile.h"
#include "load_measure.h"
#include "load_plan.h"

/* A line of runs.ndjson, the caller's. Source: results/README.md. */
struct json *load_set_line(const struct load_plan *plan, const struct load_measured *run,
                           int64_t repeat, const struct load_options *o);

/* Write lines, and what is derived from them, into the set of this commit and machine; live may be
 * NULL. out_dir is the set's folder. 0, or negative errno with text. */
int load_set_write(const struct load_plan *plan, const char *plan_path, struct json *const *lines,
                   size_t count, const struct live_profile *live, const struct load_options *o,
                   char *out_dir, size_t out_bytes, struct err *err);
