/* A report as Prometheus text, version 0.0.4: counts as counters, histograms with one bucket a
 * power of two, what was lost as a counter of its own. Labels are the report's own label columns,
 * so their number is bounded by the kernel side's tables. */
#pragma once

#include "base/buf.h"
#include "report.h"

void sink_prometheus(const struct report *report, struct buf *out);
