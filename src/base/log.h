/* One line an event on stderr: key=value, or one JSON object.
 *
 * Set up once in main before threads start; log_event from any thread, one write a line. Values
 * are texts of the caller's; control characters and quotes in them are escaped, long ones cut.
 * Nobody hands in a token or a payload. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

#define LOG_LINE_BYTES_MAX 1024

void log_setup(enum log_level least, bool json);
bool log_wanted(enum log_level level);

/* "debug", "info", "warn", "error"; -EINVAL on anything else. */
int log_level_parse(const char *text, enum log_level *out);

/* key, value, key, value, ..., NULL; all of them const char *. */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));

/* The line that log_event writes, for tests: its length without the NUL; "\n" is its end. */
size_t log_format(char out[LOG_LINE_BYTES_MAX], bool json, enum log_level level, const char *event,
                  const char *const *pairs, size_t count);
