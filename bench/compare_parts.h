/* What a difference is made of. See compare.h. */
#pragma once

#include "compare.h"

/* Fill parts, parts_shown and remainder of a metric from what lies beside the two summaries.
 * Without a profile on both sides there are no parts. 0, or as compare_scenario. */
int compare_parts_find(struct compare_metric *metric, const char *a_dir, const char *b_dir,
                       struct err *err);
