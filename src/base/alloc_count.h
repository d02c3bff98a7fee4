/* What the preloaded allocation counter (libcodeq-alloccount.so) tells the program it counts.
 *
 * A program declares nothing but this: where the library is not preloaded both functions are NULL,
 * so test `alloc_count_read != NULL` first. Sizes are the bytes asked for, not what the allocator
 * rounded them to, so that they are exact. Counts are of the whole process and of all threads; take
 * a reading before and one after. */
#pragma once

#include <stdint.h>

#define ALLOC_COUNT_VERSION 1

struct alloc_count {
    uint32_t version; /* ALLOC_COUNT_VERSION */
    uint32_t reserved;
    uint64_t allocs; /* blocks handed out: malloc, calloc, realloc, aligned forms */
    uint64_t frees; /* blocks given back; realloc of a block counts one of each */
    uint64_t bytes; /* asked for, sum over allocs */
    uint64_t live_blocks;
    uint64_t live_bytes; /* asked for and not yet given back */
    uint64_t peak_bytes; /* highest live_bytes since alloc_count_reset_peak */
};

void alloc_count_read(struct alloc_count *out) __attribute__((weak));
void alloc_count_reset_peak(void) __attribute__((weak)); /* peak_bytes = live_bytes */
