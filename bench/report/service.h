/* What `load --tool` counted of codeqd and of Redis under Valgrind: service.json. Inside the report
 * only. */
#pragma once

#include "base/buf.h"
#include "report/section.h"

/* A table of processes, tools and what they said; nothing where no set has it. b may be NULL. */
void service_print(struct buf *out, const struct section_side *a, const struct section_side *b);
