/* One scenario's part of a report: cards, metric tables, latency, where the instructions and the
 * allocations go. Inside the report only. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"

struct section_side {
    char dir[1024]; /* of the scenario */
    struct json *summary; /* owned by the report */
};

/* Append the section to out and its charts to charts. b NULL: one set only. A profile that is not
 * there is left out. */
void section_print(const char *id, const struct section_side *a, const struct section_side *b,
                   const struct json *comparison, bool open, struct buf *out, struct json *charts);
