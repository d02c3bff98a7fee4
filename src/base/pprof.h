/* Stacks as a gzipped pprof profile, for `go tool pprof`, speedscope and the like.
 *
 * Equal sets of stacks give equal bytes (with one version of zlib): no time is written, and gzip's
 * own time stamp is 0. Any thread.
 * Source: google/pprof:proto/profile.proto (field numbers), RFC 1952 (gzip). */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/stacks.h"

struct pprof_options {
    const char *type; /* what a value counts: "cpu", "instructions", "alloc_space" */
    const char *unit; /* "nanoseconds", "count", "bytes" */
    int64_t period; /* values per sample, 0: not sampled */
};

/* The file, to be freed by the caller. Sorts stacks. -ENOMEM, -EFBIG (above 4 GiB). */
int pprof_encode(struct stacks *stacks, const struct pprof_options *options,
                 unsigned char **out_data, size_t *out_bytes, struct err *err);
