/* Time as an argument: code that waits or stamps takes a `struct clock *`, tests pass a fake.
 *
 * Inside the programs time is int64_t nanoseconds. Durations use the monotonic clock, which
 * bpf_ktime_get_ns shares; wall time is for display and for ids only. Any thread. */
#pragma once

#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_SEC INT64_C(1000000000)

struct clock {
    int64_t (*monotonic_ns)(struct clock *clock);
    int64_t (*wall_ns)(struct clock *clock); /* since the Unix epoch, UTC */
};

/* The machine's clocks. Never freed. */
struct clock *clock_system(void);

/* A clock that stands still until it is moved; both readings start where told. Caller's storage. */
struct clock_fake {
    struct clock clock; /* pass &fake.clock */
    int64_t monotonic_now_ns;
    int64_t wall_now_ns;
};

void clock_fake_init(struct clock_fake *fake, int64_t monotonic_ns, int64_t wall_ns);
void clock_fake_advance(struct clock_fake *fake, int64_t duration_ns);

static inline int64_t clock_monotonic_ns(struct clock *clock)
{
    return clock->monotonic_ns(clock);
}

static inline int64_t clock_wall_ns(struct clock *clock)
{
    return clock->wall_ns(clock);
}

/* "2026-11-23T06:04:05.678Z" (UTC, milliseconds), 25 bytes with the NUL. */
#define CLOCK_RFC3339_BYTES 25
void clock_format_rfc3339(int64_t wall_ns, char out[CLOCK_RFC3339_BYTES]);

/* Parse an RFC 3339 time with any offset into *out_wall_ns. 0, or -EINVAL (out stays untouched).
 * Source: RFC 3339 section 5.6; a leap second 60 counts as the next second. */
int clock_parse_rfc3339(const char *text, int64_t *out_wall_ns);
