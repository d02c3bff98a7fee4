/* A lease: the right to work on a task until a deadline by the Redis clock.
 *
 * It is held while now is before the deadline and lost from that millisecond on, whether or not
 * anybody has taken the task back yet: never early, never late. Plain values; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEASE_MS_DEFAULT INT64_C(300000)
#define LEASE_MS_MAX (INT64_C(7) * 24 * 3600 * 1000)
#define LEASE_REASON_EXPIRED "LEASE_EXPIRED" /* the reason of a task whose lease ran out */

static inline bool lease_ms_valid(int64_t lease_ms)
{
    return lease_ms >= 1 && lease_ms <= LEASE_MS_MAX;
}

static inline int64_t lease_deadline_ms(int64_t now_ms, int64_t lease_ms)
{
    return now_ms + lease_ms;
}

static inline bool lease_held(int64_t deadline_ms, int64_t now_ms)
{
    return now_ms < deadline_ms;
}
