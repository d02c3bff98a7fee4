/* One result set, or two with their comparison, as one HTML file that opens offline.
 *
 * Everything that comes from files is escaped; the page carries a policy that forbids any request.
 * Reads the set's files; main thread only. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#define REPORT_SCENARIOS_MAX 64

struct report_side {
    const char *dir; /* results/<commit>/<env8> */
    const char *subject; /* first line of the commit's message; "" when not known */
};

struct report_input {
    struct report_side a;
    struct report_side b; /* dir NULL: one set only */
    const char *scenario; /* NULL: all of the set */
    const struct json *comparison; /* what compare --json prints; NULL without b */
};

/* Append the page to out. 0, or negative errno with text that names the file. */
int report_print(const struct report_input *input, struct buf *out, struct err *err);
