/* An index over committed result sets, so that the history of one metric need not read them all.
 *
 *   INDEX/sets.tsv   version line, then a line a set: key, mtime and size of its manifest, created
 *   INDEX/METRIC.tsv a line a summary that has the metric: set's number, scenario, hash, value
 *
 * Derived and never committed: a set that is new is appended; when one has changed or gone the
 * whole is made again. Deleting the folder is always safe. Main thread only; processes take turns
 * by a lock. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HISTORY_PATH_MAX 1024
#define HISTORY_SETS_MAX 1000000

struct history_set {
    char key[128]; /* "<commit>/<env8>" */
    int64_t mtime_ns; /* of manifest.json */
    int64_t bytes;
    char created[32]; /* RFC 3339 */
};

struct history_index {
    char results_dir[HISTORY_PATH_MAX];
    char dir[HISTORY_PATH_MAX];
    struct history_set *sets; /* a row's set is an index into it */
    size_t count;
    size_t read_now; /* sets that were not in the index yet */
};

/* Bring the index at dir (NULL: RESULTS/.index) up to date with results_dir and open it.
 * -ENOENT: no such folder; -EBADMSG or -EOPNOTSUPP with the file that is broken or newer; -EACCES
 * and the like when the index cannot be written. */
int history_index_open(struct history_index *index, const char *results_dir, const char *dir,
                       struct err *err);
void history_index_close(struct history_index *index);

struct history_row {
    uint32_t set;
    char scenario[64];
    char hash[9]; /* first digits of the scenario's sha256: another one is another series */
    double value;
};

/* All rows of a metric, the caller's to free; none is no error. */
int history_index_read(const struct history_index *index, const char *metric,
                       struct history_row **out_rows, size_t *out_count, struct err *err);
