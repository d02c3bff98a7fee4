#include "service/body.h"

#include <errno.h>
#include <string.h>

int body_open(struct body *body, const char *text, size_t bytes, struct body_value *out,
              struct err *err)
{
    body->root = json_parse(text, bytes, err);
    if (body->root == NULL) {
        return -EINVAL;
    }
    const char *end = text + bytes;
    while (text < end && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')) {
        text++;
    }
    *out = (struct body_value){body->root, {text, (size_t)(end - text)}};
    return 0;
}

void body_close(struct body *body)
{
    json_free(body->root);
    body->root = NULL;
}

/* The text has been parsed, so the three below cannot run past its end. */
static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
        p++;
    }
    return p;
}

static const char *skip_string(const char *p)
{
    for (p++; *p != '"'; p++) {
        if (*p == '\\') {
            p++;
        }
    }
    return p + 1;
}

static const char *skip_value(const char *p)
{
    if (*p == '"') {
        return skip_string(p);
    }
    if (*p != '{' && *p != '[') {
        while (strchr(",]} \t\n\r", *p) == NULL) {
            p++;
        }
        return p;
    }
    unsigned depth = 0;
    for (;;) {
        if (*p == '"') {
            p = skip_string(p);
            continue;
        }
        if (*p == '{' || *p == '[') {
            depth++;
        } else if ((*p == '}' || *p == ']') && --depth == 0) {
            return p + 1;
        }
        p++;
    }
}

int body_members(const struct body_value *value, const char *const *keys, size_t count,
                 struct body_value *out)
{
    if (json_type(value->json) != JSON_OBJECT) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct body_value){NULL, {NULL, 0}};
    }
    const char *p = value->raw.data + 1;
    for (const struct json *c = json_first(value->json); c != NULL; c = json_next(c)) {
        p = skip_space(p);
        p = skip_space(skip_string(p)) + 1; /* key and colon */
        p = skip_space(p);
        const char *end = skip_value(p);
        for (size_t i = 0; i < count; i++) {
            if (strcmp(json_key(c), keys[i]) == 0 && json_type(c) != JSON_NULL) {
                out[i] = (struct body_value){c, {p, (size_t)(end - p)}};
            }
        }
        p = skip_space(end) + 1; /* comma */
    }
    return 0;
}

bool body_items_begin(const struct body_value *value, struct body_items *items)
{
    if (json_type(value->json) != JSON_ARRAY) {
        return false;
    }
    items->next = json_first(value->json);
    items->at = value->raw.data + 1;
    return true;
}

bool body_items_next(struct body_items *items, struct body_value *out)
{
    if (items->next == NULL) {
        return false;
    }
    const char *p = skip_space(items->at);
    const char *end = skip_value(p);
    *out = (struct body_value){items->next, {p, (size_t)(end - p)}};
    items->next = json_next(items->next);
    items->at = skip_space(end) + 1;
    return true;
}

bool body_text(const struct body_value *value, const char **out)
{
    *out = NULL;
    if (value->json == NULL) {
        return true;
    }
    *out = json_string(value->json, NULL);
    return *out != NULL;
}

bool body_int(const struct body_value *value, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (value->json == NULL) {
        return true;
    }
    if (json_type(value->json) != JSON_NUMBER) {
        return false;
    }
    int64_t n = json_int(value->json, INT64_MIN);
    if (n == INT64_MIN) {
        return false; /* a fraction, or too large to be exact */
    }
    *out = n;
    return true;
}
