/* A request's JSON body: strict, with the raw text of every value at hand, so that a payload passes
 * through byte for byte. One body at a time for each struct; one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "store/store.h"

struct body {
    struct json *root;
};

/* A value inside; valid until body_close. raw is the value as it was sent, without space around. */
struct body_value {
    const struct json *json; /* NULL: absent */
    struct store_bytes raw;
};

/* 0, or -EINVAL with text: not one strict JSON value. text must stay until body_close. */
int body_open(struct body *body, const char *text, size_t bytes, struct body_value *out,
              struct err *err);
void body_close(struct body *body);

/* -1: value is no object. Else 0, and each out[i] is the member keys[i]; absent and null are the
 * same: json NULL. One pass. */
int body_members(const struct body_value *value, const char *const *keys, size_t count,
                 struct body_value *out);

/* Elements of an array in order. begin: false when it is no array. next: false at the end. */
struct body_items {
    const struct json *next;
    const char *at;
};
bool body_items_begin(const struct body_value *value, struct body_items *items);
bool body_items_next(struct body_items *items, struct body_value *out);

static inline bool body_has(const struct body_value *value)
{
    return value->json != NULL;
}

/* Each false when the value is there and of another type; absent: true, and out is the fallback. */
bool body_text(const struct body_value *value, const char **out); /* NULL when absent; decoded */
bool body_int(const struct body_value *value, int64_t fallback, int64_t *out);
