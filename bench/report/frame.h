/* What every page begins and ends with: the policy that forbids any request, style, data and
 * scripts. Inside the report only. */
#pragma once

#include "base/buf.h"
#include "base/json.h"

void frame_head(struct buf *out, const char *title);
void frame_foot(struct buf *out, const struct json *data);
