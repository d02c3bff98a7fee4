/* Leaving the warm-up out of a run's figures: the arrivals' time is LOAD_PARTS equal parts with a
 * histogram of each endpoint in each, and one more for the drain. Pure. */
#pragma once

#include "load/load.h"

/* Which part an answer at elapsed_ns from the start falls in: 0..LOAD_PARTS, the last is the drain.
 */
size_t load_part(int64_t elapsed_ns, int64_t arrivals_ns);

/* Take the first parts (0..LOAD_PARTS/2) out of every endpoint's latencies and out of the
 * throughput; counts of requests and tasks stay whole. Once per result. 0, -EINVAL when cut before
 * or out of range. */
int load_cut_warmup(struct load_result *result, int parts);
