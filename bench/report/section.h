/* One scenario's part of a report: all its metrics, latency, what one operation costs, where the
 * instructions and the allocations go. Inside the report only. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"
#include "report/data.h"
#include "result.h"

struct section_side {
    char dir[1024]; /* of the scenario */
    char commit[80];
    struct json *summary; /* this and runs are owned by the report */
    struct result_runs runs;
};

/* What was measured and profiled: "codeqd" in a set of `load`, else "the client". */
const char *section_subject(const struct section_side *side);

/* Append the section to out and what is drawn to data. b NULL: one set only. A profile that is not
 * there is left out. */
void section_print(const char *id, const struct section_side *a, const struct section_side *b,
                   const struct json *comparison, bool open, struct buf *out,
                   struct report_data *data);
