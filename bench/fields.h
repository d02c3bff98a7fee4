/* Strict reading of a JSON object's members, for files that people write.
 *
 * Each read names a member, its range and what holds when it is absent; the first thing wrong is
 * kept with the member's full path, later reads then return their fallback. fields_end refuses
 * members that nobody asked for and lists those there are. Borrows the JSON; no allocation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

#define FIELDS_NAMES_MAX 48
#define FIELDS_PATH_BYTES 128

struct fields {
    const struct json *object;
    char path[FIELDS_PATH_BYTES]; /* "roles[2]"; "" at the top */
    const char *names[FIELDS_NAMES_MAX];
    int name_count;
    int code; /* 0, or what fields_end will return */
    struct err *err;
};

/* json may be of any type: anything but an object is the first error. path is copied. */
void fields_begin(struct fields *fields, const struct json *json, const char *path,
                  struct err *err);

/* A whole number in min..max. */
int64_t fields_int(struct fields *fields, const char *name, int64_t min, int64_t max,
                   int64_t fallback);
double fields_number(struct fields *fields, const char *name, double min, double max,
                     double fallback);
bool fields_bool(struct fields *fields, const char *name, bool fallback);

/* Text of at most bytes_max - 1 bytes; borrowed from the JSON. */
const char *fields_string(struct fields *fields, const char *name, size_t bytes_max,
                          const char *fallback);

/* The index of the text in choices (NULL-terminated). */
int fields_choice(struct fields *fields, const char *name, const char *const *choices,
                  int fallback);

/* The member itself, for arrays and objects; NULL when absent or of another type (an error). */
const struct json *fields_array(struct fields *fields, const char *name);
const struct json *fields_object(struct fields *fields, const char *name);
const struct json *fields_any(struct fields *fields, const char *name);

/* Absence of the member is an error. Call before or after reading it. */
void fields_require(struct fields *fields, const char *name);

/* A finding of the caller's own about a member ("" for the object): kept like the others. */
void fields_fail(struct fields *fields, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* 0, or -EINVAL with the text of the first thing wrong. */
int fields_end(struct fields *fields);
