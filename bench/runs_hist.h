/* The latencies of a scenario's timed runs, merged: what report and show draw. Main thread only. */
#pragma once

#include <stdbool.h>

#include "base/hist.h"
#include "result.h"

/* All runs' histograms of one operation in one; *out_runs (may be NULL) counts them. False, and out
 * untouched, where there is none. Broken ones are left out. The caller calls hist_fini. */
bool runs_hist(const struct result_runs *runs, const char *operation, struct hist *out,
               size_t *out_runs);

/* The operations of the first run that has latencies, as children with a key; NULL without. */
const struct json *runs_hist_operations(const struct result_runs *runs);
