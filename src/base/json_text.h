/* JSON written straight into the caller's memory, for hot paths: no tree, no copy, no allocation.
 *
 * Each function writes at `at` and returns the end; the caller has made room. No NUL is written.
 * Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* text as a JSON string's inside, without quotes: at most 6 times as long. */
char *json_escape(char *at, const char *text, size_t bytes);
/* The same of text that is itself valid JSON: at most twice as long. */
char *json_escape_json(char *at, const char *text, size_t bytes);

/* Inline, so that a literal's length is known where it is copied. */
static inline char *text_put(char *at, const char *text, size_t bytes)
{
    if (bytes > 0) { /* text may be NULL then */
        memcpy(at, text, bytes);
    }
    return at + bytes;
}
#define TEXT_PUT(at, literal) text_put(at, literal, sizeof(literal) - 1)
char *text_int(char *at, int64_t value);
