/* A growable run of bytes, always followed by a NUL that is not counted.
 *
 * For building text off the hot path. The owner calls buf_fini. Out of memory aborts: the programs
 * that use it have no smaller answer to give. Not thread-safe. */
#pragma once

#include <stddef.h>

struct buf {
    char *data; /* never NULL after the first append; data[bytes] == 0 */
    size_t bytes;
    size_t capacity;
};

#define BUF_INIT ((struct buf){NULL, 0, 0})

void buf_append(struct buf *buf, const void *data, size_t bytes);
void buf_puts(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_clear(struct buf *buf); /* keeps the memory */
void buf_fini(struct buf *buf);

/* Hand the memory to the caller, who frees it; buf is empty afterwards. Never NULL. */
char *buf_take(struct buf *buf);
