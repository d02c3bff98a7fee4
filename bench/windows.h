/* A timed region cut into equal windows, so that it can be seen from where on it was steady.
 *
 * The driver measures each window as a region of its own (start, stop), so any commit's driver can
 * be asked. What lies before the cut is warm-up and is left out of the figures. Main thread only;
 * windows_fini frees. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"
#include "base/json.h"
#include "steady.h"

#define WINDOWS_CALLS_MAX 8

struct windows {
    size_t count;
    struct {
        int64_t ops, dur_ns, cpu_ns;
        double p50_ns; /* the sum over the calls: what an op takes in the middle */
        struct hist calls[WINDOWS_CALLS_MAX];
    } items[STEADY_WINDOWS];
    char names[WINDOWS_CALLS_MAX][32];
    size_t call_count;
};

/* Take a driver's answer to `stop`. -EPROTO with the field that is missing, broken, or other than
 * in the windows before. */
int windows_add(struct windows *windows, const struct json *stopped, struct err *err);

/* Where it was steady from; with "never" all windows count and *out_steady is false. */
struct windows_sum {
    size_t cut; /* windows left out at the front */
    bool steady;
    int64_t ops, dur_ns, cpu_ns; /* from the cut on */
    struct json *latency; /* call -> histogram, as the driver writes it; the caller's to free */
};
int windows_sum(const struct windows *windows, uint64_t seed, struct windows_sum *out,
                struct err *err);
void windows_fini(struct windows *windows);
