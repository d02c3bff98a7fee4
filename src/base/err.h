/* Error text in the caller's storage.
 *
 * A function that can fail for a reason errno cannot carry takes a `struct err *` as its last
 * parameter; NULL means the caller does not want the text. Nothing is allocated. Any thread. */
#pragma once

#include <stddef.h>

#define ERR_TEXT_BYTES_MAX 512

struct err {
    char text[ERR_TEXT_BYTES_MAX]; /* NUL-terminated, no newline; "" when nothing was set */
};

/* Write the formatted text (cut at ERR_TEXT_BYTES_MAX - 1) and return code, so that a caller can
 * say `return err_set(err, -EINVAL, "...")`. code is returned unchanged; err may be NULL. */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "prefix: " in front of the text that is there and return code. For adding a file name or a
 * line to an inner reason. err may be NULL. */
int err_prefix(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
