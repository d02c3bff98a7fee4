/* What a difference is made of. See compare.h. */
#pragma once

#include "compare.h"

/* Fill parts, parts_shown and remainder of a metric from what lies beside the two summaries.
 * Without a profile on both sides there are no parts. 0, or as compare_scenario. */
int compare_parts_find(struct compare_metric *metric, const char *a_dir, const char *b_dir,
                       struct err *err);

/* Which operation's functions, callees included, grew by most instructions: "claim". "" when there
 * is no profile on both sides, none grew, or another grew by half as much. */
void compare_parts_operation(const char *a_dir, const char *b_dir, char *out, size_t bytes);
