/* A request's JSON body as tokens: strict, with the raw text of every value at hand, so that a
 * payload passes through byte for byte. One body open at a time in each thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json_tokens.h"
#include "service/service.h"

struct body {
    struct request *request; /* decoded texts live in its memory */
    struct json_tokens *tokens;
    const char *text;
};

/* A value inside; valid until body_close. raw is the value as it was sent, without space around. */
struct body_value {
    const struct body *body; /* NULL: absent */
    uint32_t token;
    struct store_bytes raw;
};

/* The request's body. 0, or -EINVAL: not one strict JSON value. */
int body_open(struct body *body, struct request *request, struct body_value *out);
void body_close(struct body *body);

/* Give back what this thread kept for its next body. Its last call on bodies. */
void body_thread_end(void);

/* -1: value is no object. Else 0, and each out[i] is the member keys[i]; absent and null are the
 * same. One pass. At most BODY_KEYS_MAX keys. */
#define BODY_KEYS_MAX 16
int body_members(const struct body_value *value, const char *const *keys, size_t count,
                 struct body_value *out);

/* Elements of an array in order. begin: false when it is no array. next: false at the end. */
struct body_items {
    const struct body *body;
    uint32_t token;
    uint32_t left;
};
bool body_items_begin(const struct body_value *value, struct body_items *items);
bool body_items_next(struct body_items *items, struct body_value *out);

static inline bool body_has(const struct body_value *value)
{
    return value->body != NULL;
}
bool body_is_object(const struct body_value *value);
size_t body_count(const struct body_value *value); /* elements or members; 0 when absent */

/* Each false when the value is there and of another type; absent: true, and out is NULL or the
 * fallback. Texts are decoded, NUL-terminated, and last until the request is answered. */
bool body_text(const struct body_value *value, const char **out);
bool body_int(const struct body_value *value, int64_t fallback, int64_t *out);
