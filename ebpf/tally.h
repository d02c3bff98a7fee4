/* A count with its times: what one row of the lease tables shows. Plain data. */
#pragma once

#include <stdint.h>

#include "loghist.h"

struct tally {
    uint64_t calls;
    uint64_t tasks;
    uint64_t ns;
    uint64_t ns_max;
    uint64_t timed;
    uint64_t buckets[LOGHIST_BUCKETS];
};

static inline void tally_time(struct tally *tally, uint64_t ns)
{
    tally->timed++;
    tally->ns += ns;
    tally->ns_max = ns > tally->ns_max ? ns : tally->ns_max;
    tally->buckets[loghist_bucket(ns)]++;
}
