/* massif.out: checked and written canonically. The file is hostile: depth, counts and numbers are
 * bounded. Source: Valgrind's ms_print, which reads the same lines. Main thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define MASSIF_DEPTH_MAX 256
#define MASSIF_SNAPSHOTS_MAX 4096

/* Read a file and append its canonical form, which ms_print opens: command and options replaced,
 * addresses zero, paths without what is local. *out_peak_bytes: heap bytes of the peak snapshot (of
 * the largest one where none is marked), without the allocator's own.
 * 0, or -EBADMSG or -ERANGE with text "line N: ..."; out is then cut back to where it was. */
int massif_canonical(struct buf *out, const char *text, size_t bytes,
                     const char *const *local_paths, int64_t *out_peak_bytes, struct err *err);
