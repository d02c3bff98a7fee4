/* The source lines of a profile's functions with the instructions of each, of one set or of two
 * whose lines are joined by their text. Inside the report only. */
#pragma once

#include "base/json.h"
#include "report/data.h"
#include "report/section.h"

/* For each function below the measured region, under the number of its name: rows of
 * [file, line of A, line of B, text, self A, self B, calls A, calls B]; -1 where there is none,
 * costs per operation. An empty object where no profile is at hand. The caller frees it. */
struct json *lines_of(struct report_data *data, const struct section_side *a,
                      const struct section_side *b);
