#include "load/warmup.h"

#include <errno.h>

size_t load_part(int64_t elapsed_ns, int64_t arrivals_ns)
{
    if (elapsed_ns < 0) {
        return 0;
    }
    if (elapsed_ns >= arrivals_ns) {
        return LOAD_PARTS;
    }
    return (size_t)((double)elapsed_ns / (double)arrivals_ns * LOAD_PARTS);
}

int load_cut_warmup(struct load_result *result, int parts)
{
    if (parts < 0 || parts > LOAD_PARTS / 2 || result->warm_cut_ns != 0) {
        return -EINVAL;
    }
    for (int e = 0; e < LOAD_ENDPOINTS && parts > 0; e++) {
        struct load_endpoint_result *endpoint = &result->endpoints[e];
        for (int p = 0; p < parts; p++) {
            endpoint->cut += (uint64_t)hist_count(&endpoint->parts[p]);
        }
        hist_clear(&endpoint->latency);
        for (int p = parts; p <= LOAD_PARTS; p++) {
            int code = hist_merge(&endpoint->latency, &endpoint->parts[p], NULL);
            if (code != 0) {
                return code;
            }
        }
    }
    result->warm_cut_ns = result->arrivals_ns / LOAD_PARTS * parts;
    return 0;
}
