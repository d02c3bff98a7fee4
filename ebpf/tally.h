/* A count with its times, and the table of lease events, whose rows are such counts. Plain data;
 * main thread only. */
#pragma once

#include <stdint.h>

#include "loghist.h"
#include "report.h"

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

/* The numbers p50, p99 and max of a row. */
void tally_report_times(struct report_table *table, const struct tally *tally);

/* The table "leases", and a row of it. */
struct report_table *tally_table(struct report *report);
void tally_report(struct report_table *table, const struct report *report, const char *scheduler,
                  const char *event, const struct tally *tally);
