/* How late the generator itself is: its lag is no latency of the service, and too much of it makes
 * a run void. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Of one request, in ns: how long after it could have been sent it was sent. It could be from its
 * intended time on, but not before a connection was free; waiting for one is the service's doing
 * and counts as latency. Never below 0: what is sent early is not late. */
int64_t lag_ns(int64_t intended_ns, int64_t free_ns, int64_t sent_ns);

/* The most that 1 request in 100 may lag: a tenth of the mean gap between requests, at least
 * LAG_FLOOR_NS. */
#define LAG_GAP_RATIO 0.1
#define LAG_FLOOR_NS INT64_C(100000)
int64_t lag_limit_ns(double mean_gap_ns);
