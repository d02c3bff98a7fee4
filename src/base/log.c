#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define PAIRS_MAX 32
#define TAIL 4 /* room for what ends a line */

static enum log_level least_level = LOG_LEVEL_INFO;
static bool as_json;

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level least, bool json)
{
    least_level = least;
    as_json = json;
}

bool log_wanted(enum log_level level)
{
    return level >= least_level;
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

struct line {
    char *data;
    size_t bytes;
};

static void put(struct line *line, const char *data, size_t bytes)
{
    size_t room = LOG_LINE_BYTES_MAX - TAIL - line->bytes;
    if (bytes > room) {
        bytes = room;
    }
    memcpy(line->data + line->bytes, data, bytes);
    line->bytes += bytes;
}

static void put_text(struct line *line, const char *text, bool quote)
{
    if (quote) {
        put(line, "\"", 1);
    }
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        char escaped[8];
        /* Leave room for the whole escape and a closing quote. */
        if (LOG_LINE_BYTES_MAX - TAIL - line->bytes < 8) {
            break;
        }
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof(escaped), "\\%c", c);
            put(line, escaped, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escaped, sizeof(escaped), "\\u%04x", c);
            put(line, escaped, 6);
        } else {
            put(line, p, 1);
        }
    }
    if (quote) {
        put(line, "\"", 1);
    }
}

static bool is_plain(const char *text)
{
    if (*text == '\0') {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f) {
            return false;
        }
    }
    return true;
}

size_t log_format(char out[LOG_LINE_BYTES_MAX], bool json, enum log_level level, const char *event,
                  const char *const *pairs, size_t count)
{
    struct line line = {out, 0};
    char when[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(clock_system()), when);
    if (json) {
        put(&line, "{\"time\":", 8);
        put_text(&line, when, true);
        put(&line, ",\"level\":", 9);
        put_text(&line, names[level], true);
        put(&line, ",\"event\":", 9);
        put_text(&line, event, true);
    } else {
        put(&line, when, strlen(when));
        put(&line, " ", 1);
        put(&line, names[level], strlen(names[level]));
        put(&line, " ", 1);
        put(&line, event, strlen(event));
    }
    for (size_t i = 0; i + 1 < count; i += 2) {
        /* A pair that would not fit with both its ends is left out, so that the line stays whole.
         */
        if (LOG_LINE_BYTES_MAX - TAIL - line.bytes < strlen(pairs[i]) + 24) {
            break;
        }
        put(&line, json ? "," : " ", 1);
        put_text(&line, pairs[i], json);
        put(&line, json ? ":" : "=", 1);
        put_text(&line, pairs[i + 1], json || !is_plain(pairs[i + 1]));
    }
    if (json) {
        out[line.bytes++] = '}';
    }
    out[line.bytes++] = '\n';
    out[line.bytes] = '\0';
    return line.bytes;
}

void log_event(enum log_level level, const char *event, ...)
{
    if (!log_wanted(level)) {
        return;
    }
    const char *pairs[PAIRS_MAX];
    size_t count = 0;
    va_list list;
    va_start(list, event);
    for (;;) {
        const char *key = va_arg(list, const char *);
        if (key == NULL || count + 2 > PAIRS_MAX) {
            break;
        }
        const char *value = va_arg(list, const char *);
        pairs[count++] = key;
        pairs[count++] = value == NULL ? "" : value;
    }
    va_end(list);
    char line[LOG_LINE_BYTES_MAX];
    size_t bytes = log_format(line, as_json, level, event, pairs, count);
    ssize_t n = write(STDERR_FILENO, line, bytes);
    (void)n; /* there is nowhere else to say so */
}
