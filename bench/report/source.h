/* Source lines of a commit, for the lines that a profile names. Read by `git show` once a file and
 * kept; the names come from result sets and are not trusted: only .c and .h files below the
 * repository's top are read. Main thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sources;

struct sources *sources_new(void);
void sources_free(struct sources *sources);

/* Line `number` (from 1) of path as of commit, valid as long as sources; NULL when there is none. A
 * commit that is not a full hash ("...-dirty", "none") means the working tree. */
const char *sources_line(struct sources *sources, const char *commit, const char *path,
                         int64_t number, size_t *out_bytes);
