/* A set of call stacks with a value each: what every profile is before it becomes folded text, a
 * pprof file or a flame graph.
 *
 * Frames are names, root first. Equal stacks are added up. Names are made printable when they come
 * in: ';' and control characters would break the folded form and become ',' and '?', bytes that are
 * not UTF-8 become '?', an empty name becomes "[unknown]". Names are kept once.
 * Out of memory aborts. Not thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define STACKS_DEPTH_MAX 1024 /* frames of one stack */
#define STACKS_FRAME_BYTES_MAX 1024 /* longer names are cut and end in "..." */
#define STACKS_COUNT_MAX (1 << 20) /* different stacks of one set */

struct stacks;

struct stack {
    const uint32_t *frames; /* root first; stacks_name tells the name */
    size_t depth; /* 1.. */
    int64_t value;
};

struct stacks *stacks_new(void);
void stacks_free(struct stacks *stacks);

/* Add value to the stack of these frames; 0 leaves it out. -EINVAL with text: no frame, a negative
 * value, or deeper than STACKS_DEPTH_MAX. -ENOSPC: STACKS_COUNT_MAX stacks are there already.
 * -EOVERFLOW: the total would not fit. The set stays as it was on failure. */
int stacks_add(struct stacks *stacks, const char *const *frames, size_t depth, int64_t value,
               struct err *err);

/* Add all of src; errors as above, and what was added before the failure stays. */
int stacks_merge(struct stacks *dst, const struct stacks *src, struct err *err);

/* Order by frame names, root first, bytewise. stacks_at, the printer and the writers of pprof and
 * flame graphs do it when it is needed. */
void stacks_sort(struct stacks *stacks);

size_t stacks_count(const struct stacks *stacks);
int64_t stacks_total(const struct stacks *stacks);

/* The i-th in order; valid until the set changes. */
struct stack stacks_at(struct stacks *stacks, size_t i);
const char *stacks_name(const struct stacks *stacks, uint32_t frame);
size_t stacks_names(const struct stacks *stacks); /* frames are 0..names-1 */

/* The printable form that a name is kept in, see above. Returns its length. */
size_t stacks_clean_name(const char *name, char out[STACKS_FRAME_BYTES_MAX + 1]);

/* Folded text, one "root;...;leaf value" a line, in order: equal sets are equal bytes. */
void stacks_print_folded(struct stacks *stacks, struct buf *out);

/* Add what folded text holds; blank lines are skipped. -EINVAL with the line's number; the errors
 * of stacks_add likewise. */
int stacks_parse_folded(struct stacks *stacks, const char *text, size_t bytes, struct err *err);
