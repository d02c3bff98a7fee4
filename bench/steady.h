/* From which time window on a run was steady. Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STEADY_WINDOWS 20 /* equal windows a run is cut into */
#define STEADY_TREND_P 0.01
#define STEADY_STEP_P 0.02 /* five and five windows still reach it */
#define STEADY_LEVEL_RATIO 0.05 /* quarters of the windows that differ by less are one level */

/* p50 and rate hold one value a window, in order. Returns how many windows to leave out at the
 * front, 0..windows/2: the smallest cut after which neither series has a trend (Mann-Kendall) nor a
 * step (permutation) that moves its level by STEADY_LEVEL_RATIO: windows of one run scatter by less
 * than the runs do, so the tests alone call drifts unsteady that no comparison of runs could see.
 * -ENODATA: there is no such cut, the run was never steady; its
 * pair is to be repeated. -EINVAL: a value is not finite, or there are fewer than 6 windows.
 * Source: Barrett et al., "Virtual Machine Warmup Blows Hot and Cold" (2017), for "never". */
int steady_cut(const double *p50, const double *rate, size_t windows, uint64_t seed,
               struct err *err);
