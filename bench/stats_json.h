/* The statistics by name, JSON object in, JSON object out, so that anybody can check them against
 * another implementation: `codeq-bench stats NAME < vectors.json`. bench/README.md lists names and
 * fields. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "base/json.h"

#define STATS_JSON_SCHEMA "codeq-lab.stats/1"

/* The answer, which the caller frees; an infinite bound is null. NULL with text: the name is
 * unknown, a field is missing, wrong or not one of the name's. */
struct json *stats_json(const char *name, const struct json *input, struct err *err);

/* "  name       what it answers" for each. */
void stats_json_list(FILE *out);
