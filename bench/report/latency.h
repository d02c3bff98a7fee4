/* How long calls took: spectrum, histogram, and p50 and p99 over the run, one set or two overlaid.
 * Inside the report only. */
#pragma once

#include "base/buf.h"
#include "report/data.h"
#include "report/section.h"

void latency_print(struct buf *out, struct report_data *data, const struct section_side *a,
                   const struct section_side *b);
