/* What like against like has shown on this machine: the smallest effect that a timed metric can
 * have before it means anything.
 *
 * Every comparison of a program with itself leaves a line, one file for each environment and
 * scenario, in the user's cache (it is of the machine, not of the commit):
 *
 *   $XDG_CACHE_HOME/codeq-lab/noise/<env8>-<scenario>-<its sha256, 8 digits>.ndjson
 *
 * A metric's floor is the largest effect in either direction in the newest NOISE_FLOOR_LINES of at
 * least NOISE_FLOOR_PAIRS_MIN pairs. Main thread only. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "metric.h"
#include "pairs.h"
#include "scenario.h"

#define NOISE_FLOOR_LINES 20
#define NOISE_FLOOR_PAIRS_MIN 16
#define NOISE_FLOOR_MAX 1.0 /* twice as much: whoever sees that has no quiet machine */

struct noise_floor {
    struct {
        char id[METRIC_ID_BYTES_MAX];
        double ratio; /* 0.03: 3 % */
    } metrics[PAIRS_METRICS_MAX];
    size_t count;
    size_t comparisons; /* that it rests on */
};

/* Where it is kept. */
void noise_floor_path(const char *env8, const struct scenario *scenario, char *out, size_t bytes);

/* Without a file there is no floor, and that is no error; a line that is broken, newer or of too
 * few pairs is passed over. */
void noise_floor_read(const char *path, struct noise_floor *out);

/* 0 where nothing is known. */
double noise_floor_of(const struct noise_floor *floor, const char *id);

/* Append what this comparison of a program with itself has shown: effects (B / A) by id. Nothing
 * with too few pairs. 0, or negative errno with text. */
int noise_floor_add(const char *path, const char *const *ids, const double *effects, size_t count,
                    size_t pairs, struct err *err);
