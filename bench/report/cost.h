/* What one operation costs, drawn: instructions by module, time, round trips, Redis commands,
 * system calls. Inside the report only. */
#pragma once

#include "base/buf.h"
#include "report/section.h"

void cost_print(struct buf *out, const struct section_side *a, const struct section_side *b);
