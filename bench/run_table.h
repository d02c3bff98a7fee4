/* A summary as a table for people. Pure but for the stream. */
#pragma once

#include <stdio.h>

#include "base/json.h"

/* title: the scenario's; "" for none. */
void run_table_print(FILE *out, const struct json *summary, const char *title);

/* "12,345.7": thousands parted, as many digits as tell something (4 significant, all of a whole
 * count). Returns out. */
char *run_table_number(double value, char *out, size_t bytes);
