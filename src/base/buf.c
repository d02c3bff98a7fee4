#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(struct buf *buf, size_t more)
{
    if (more > (size_t)-1 / 4 - buf->bytes) {
        abort();
    }
    size_t need = buf->bytes + more + 1;
    if (need <= buf->capacity) {
        return;
    }
    size_t capacity = buf->capacity != 0 ? buf->capacity : 64;
    while (capacity < need) {
        capacity *= 2;
    }
    char *data = realloc(buf->data, capacity);
    if (data == NULL) {
        abort();
    }
    buf->data = data;
    buf->capacity = capacity;
}

void buf_append(struct buf *buf, const void *data, size_t bytes)
{
    reserve(buf, bytes);
    if (bytes != 0) {
        memcpy(buf->data + buf->bytes, data, bytes);
    }
    buf->bytes += bytes;
    buf->data[buf->bytes] = '\0';
}

void buf_puts(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        abort();
    }
    reserve(buf, (size_t)n);
    vsnprintf(buf->data + buf->bytes, (size_t)n + 1, format, again);
    va_end(again);
    buf->bytes += (size_t)n;
}

void buf_clear(struct buf *buf)
{
    buf->bytes = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

void buf_fini(struct buf *buf)
{
    free(buf->data);
    *buf = BUF_INIT;
}

char *buf_take(struct buf *buf)
{
    reserve(buf, 0);
    buf->data[buf->bytes] = '\0';
    char *data = buf->data;
    *buf = BUF_INIT;
    return data;
}
