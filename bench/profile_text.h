/* What the readers of profiler output share: bounded reading, interned strings, names and paths
 * without what differs from build to build and from machine to machine. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define PROFILE_RAW_BYTES_MAX (256u << 20)

/* The whole file, NUL-terminated, the caller's to free. -ENOENT, -EFBIG above bytes_max, or another
 * errno, with text that names the file. */
int profile_read_file(const char *path, size_t bytes_max, char **out_text, size_t *out_bytes,
                      struct err *err);

/* Replace dir/name by text: written aside, flushed, renamed. 0 or negative errno with text. */
int profile_write_file(const char *dir, const char *name, const struct buf *text, struct err *err);

/* The next line of a text that ends at `end`; the line is not terminated. False at the end. */
struct profile_line {
    const char *text;
    size_t bytes;
    int64_t number; /* from 1 */
};
bool profile_next_line(const char **cursor, const char *end, struct profile_line *line);

/* Decimal digits, all of them, at most INT64_MAX. False otherwise, out untouched. */
bool profile_number(const char *text, size_t bytes, int64_t *out_value);

/* Interned strings: equal text, equal id; ids count from 0. The texts live as long as the table. */
struct profile_strings {
    char **texts;
    uint32_t count;
    uint32_t capacity;
    uint32_t *slots; /* id + 1 */
    uint32_t slot_count;
};
uint32_t profile_strings_id(struct profile_strings *strings, const char *text, size_t bytes);
void profile_strings_fini(struct profile_strings *strings);

/* A function's name as commits are joined by it: without GCC's clone suffixes (.constprop.0,
 * .isra.0, .part.1, .cold, .lto_priv.0), symbol versions (@@GLIBC_2.2.5) and what would break a
 * table (tabs, line ends, semicolons). */
void profile_name_plain(struct buf *out, const char *name, size_t bytes);

/* "0x00000000000035b0": a function whose name was stripped. */
bool profile_name_is_address(const char *name, size_t bytes);

/* "/usr/lib/libcjson.so.1" -> "libcjson.so.1" */
const char *profile_base_name(const char *path);

/* Append "libcjson:[stripped]" for the object libcjson.so.1. */
void profile_stripped_name(struct buf *out, const char *object);

/* A source path without what is local: prefixes of local_paths cut, "./" and "a/../" resolved,
 * other absolute paths outside /usr reduced to their last part. */
void profile_path_plain(struct buf *out, const char *path, size_t bytes,
                        const char *const *local_paths);
