/* Option values with units. Every program parses its options with getopt_long and its values here,
 * so that "250ms" and "64KiB" mean the same everywhere and a bare number where a unit matters is an
 * error. Pure functions; any thread. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* "250ms", "1.5s", "10us", "100ns", "5m", "2h" -> ns. -EINVAL with text on anything else, a bare
 * number (but "0") and values outside 0..INT64_MAX included. */
int args_duration_ns(const char *text, int64_t *out_ns, struct err *err);

/* "512B", "64KiB", "1MiB", "2GiB" -> bytes. -EINVAL as above. */
int args_bytes(const char *text, int64_t *out_bytes, struct err *err);

/* A whole decimal number in min..max. -EINVAL with text that names the range. */
int args_int(const char *text, int64_t min, int64_t max, int64_t *out_value, struct err *err);

/* A decimal number in min..max. -EINVAL as above. */
int args_double(const char *text, double min, double max, double *out_value, struct err *err);
