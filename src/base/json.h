/* The one door to the JSON library (cJSON).
 *
 * Reading is strict: one value, nothing behind it, depth at most JSON_DEPTH_MAX, valid UTF-8, no
 * duplicate keys in an object, no NUL inside a string. A parsed tree is freed whole by its root.
 * Building: the json_add_* functions copy their arguments; json_put takes the child.
 * Out of memory aborts. A tree belongs to one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_DEPTH_MAX 64

struct json; /* a value: object, array, string, number, true, false, null */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* NULL with text ("line 3: ...") when text is not one strict JSON value. */
struct json *json_parse(const char *text, size_t bytes, struct err *err);

/* The whole file. NULL with text that names the file. Files above bytes_max are refused. */
struct json *json_parse_file(const char *path, size_t bytes_max, struct err *err);

void json_free(struct json *json);

enum json_type json_type(const struct json *json);
const char *json_type_name(enum json_type type);

/* Member of an object; NULL when absent or when object is not an object (NULL included). */
const struct json *json_get(const struct json *object, const char *key);

/* First child of an array or object, then its siblings: for (c = json_first(a); c; c =
 * json_next(c)). */
const struct json *json_first(const struct json *container);
const struct json *json_next(const struct json *child);
const char *json_key(const struct json *child); /* NULL in an array; valid as long as the tree */
size_t json_count(const struct json *container);

/* The value, or the fallback when json is NULL or of another type. */
const char *json_string(const struct json *json, const char *fallback);
double json_number(const struct json *json, double fallback);
int64_t json_int(const struct json *json,
                 int64_t fallback); /* fallback when not whole or above 2^53 */
bool json_bool(const struct json *json, bool fallback);

struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_string(const char *text);
struct json *json_new_number(double value);

void json_put(struct json *object, const char *key, struct json *take_value);
void json_append(struct json *array, struct json *take_value);
void json_add_string(struct json *object, const char *key, const char *text);
void json_add_number(struct json *object, const char *key, double value);
void json_add_int(struct json *object, const char *key, int64_t value);
void json_add_bool(struct json *object, const char *key, bool value);
void json_add_null(struct json *object, const char *key);
struct json *json_add_object(struct json *object,
                             const char *key); /* the new child, owned by object */
struct json *json_add_array(struct json *object, const char *key);

/* Text that the caller frees. Numbers are printed with the fewest digits that read back the same.
 */
char *json_print(const struct json *json); /* one line */
char *json_print_pretty(const struct json *json); /* two spaces an indent, ends with a newline */
