#include "fields.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void fields_fail(struct fields *fields, const char *name, const char *format, ...)
{
    if (fields->code != 0) {
        return;
    }
    char what[ERR_TEXT_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const char *dot = fields->path[0] != '\0' && name[0] != '\0' ? "." : "";
    fields->code = err_set(fields->err, -EINVAL, "%s%s%s: %s", fields->path, dot, name, what);
}

void fields_begin(struct fields *fields, const struct json *json, const char *path, struct err *err)
{
    *fields = (struct fields){.err = err};
    snprintf(fields->path, sizeof fields->path, "%s", path);
    if (json == NULL || json_type(json) != JSON_OBJECT) {
        fields_fail(fields, "", "must be an object");
        return;
    }
    fields->object = json;
}

const struct json *fields_any(struct fields *fields, const char *name)
{
    assert(fields->name_count < FIELDS_NAMES_MAX);
    fields->names[fields->name_count++] = name;
    return fields->object != NULL ? json_get(fields->object, name) : NULL;
}

static const struct json *typed(struct fields *fields, const char *name, enum json_type type)
{
    const struct json *member = fields_any(fields, name);
    if (member != NULL && json_type(member) != type) {
        fields_fail(fields, name, "is %s: give %s", json_type_name(json_type(member)),
                    json_type_name(type));
        return NULL;
    }
    return member;
}

int64_t fields_int(struct fields *fields, const char *name, int64_t min, int64_t max,
                   int64_t fallback)
{
    const struct json *member = typed(fields, name, JSON_NUMBER);
    if (member == NULL) {
        return fallback;
    }
    double value = json_number(member, 0);
    if (value != floor(value) || value < (double)min || value > (double)max) {
        fields_fail(fields, name, "is %.17g: give a whole number in %lld..%lld", value,
                    (long long)min, (long long)max);
        return fallback;
    }
    return (int64_t)value;
}

double fields_number(struct fields *fields, const char *name, double min, double max,
                     double fallback)
{
    const struct json *member = typed(fields, name, JSON_NUMBER);
    if (member == NULL) {
        return fallback;
    }
    double value = json_number(member, 0);
    if (!(value >= min && value <= max)) {
        fields_fail(fields, name, "is %g: give a number in %g..%g", value, min, max);
        return fallback;
    }
    return value;
}

bool fields_bool(struct fields *fields, const char *name, bool fallback)
{
    return json_bool(typed(fields, name, JSON_BOOL), fallback);
}

const char *fields_string(struct fields *fields, const char *name, size_t bytes_max,
                          const char *fallback)
{
    const struct json *member = typed(fields, name, JSON_STRING);
    if (member == NULL) {
        return fallback;
    }
    const char *text = json_string(member, "");
    if (strlen(text) >= bytes_max) {
        fields_fail(fields, name, "is longer than %zu bytes", bytes_max - 1);
        return fallback;
    }
    return text;
}

int fields_choice(struct fields *fields, const char *name, const char *const *choices, int fallback)
{
    const struct json *member = typed(fields, name, JSON_STRING);
    if (member == NULL) {
        return fallback;
    }
    char list[256] = "";
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(json_string(member, ""), choices[i]) == 0) {
            return i;
        }
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "", choices[i]);
    }
    fields_fail(fields, name, "is '%s': give one of %s", json_string(member, ""), list);
    return fallback;
}

const struct json *fields_array(struct fields *fields, const char *name)
{
    return typed(fields, name, JSON_ARRAY);
}

const struct json *fields_object(struct fields *fields, const char *name)
{
    return typed(fields, name, JSON_OBJECT);
}

void fields_require(struct fields *fields, const char *name)
{
    if (fields->object != NULL && json_get(fields->object, name) == NULL) {
        fields_fail(fields, name, "is missing");
    }
}

int fields_end(struct fields *fields)
{
    if (fields->code != 0) {
        return fields->code;
    }
    for (const struct json *c = json_first(fields->object); c != NULL; c = json_next(c)) {
        int i = 0;
        while (i < fields->name_count && strcmp(fields->names[i], json_key(c)) != 0) {
            i++;
        }
        if (i == fields->name_count) {
            char list[ERR_TEXT_BYTES_MAX - 160] = "";
            for (i = 0; i < fields->name_count; i++) {
                size_t at = strlen(list);
                snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "", fields->names[i]);
            }
            fields_fail(fields, json_key(c), "unknown field: there are %s", list);
            return fields->code;
        }
    }
    return 0;
}
