/* A report as one JSON object on one line; schema "codeq-trace.report/1". */
#pragma once

#include "report.h"

/* Text that the caller frees. Histograms are [low_ns, count] pairs of their used buckets. */
char *sink_json(const struct report *report);
