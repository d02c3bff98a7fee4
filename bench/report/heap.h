/* Where memory is allocated, and the heap over the run. Inside the report only. */
#pragma once

#include "base/buf.h"
#include "report/data.h"
#include "report/section.h"

void heap_print(struct buf *out, struct report_data *data, const struct section_side *a,
                const struct section_side *b);
