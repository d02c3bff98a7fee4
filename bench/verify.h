/* Checks a result set against itself. Main thread only. */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct verify_counts {
    size_t files, runs, scenarios;
};

/* Manifest, checksum of every file, env8, every line of runs.ndjson with its histograms, and each
 * summary recomputed. 0, or with text that names file and line: -EBADMSG (something is wrong),
 * -EOPNOTSUPP (a newer schema), -ENOENT (no set there). */
int verify_set(const char *set_dir, struct verify_counts *out_counts, struct err *err);
