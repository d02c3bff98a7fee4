#include "service/body.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define KEEP_TOKENS 4096 /* more are given back after the request */

static _Thread_local struct json_tokens shared_tokens;

static struct body_value at(const struct body *body, uint32_t number)
{
    const struct json_token *token = &body->tokens->tokens[number];
    return (struct body_value){body, number, {body->text + token->at, token->bytes}};
}

int body_open(struct body *body, struct request *request, struct body_value *out)
{
    body->request = request;
    body->tokens = &shared_tokens;
    body->text = request->http.body.data;
    if (json_tokens_parse(body->tokens, body->text, request->http.body.bytes, NULL) != 0) {
        body_close(body);
        return -EINVAL;
    }
    *out = at(body, 0);
    return 0;
}

void body_close(struct body *body)
{
    if (body->tokens->capacity > KEEP_TOKENS) {
        json_tokens_fini(body->tokens);
    }
}

void body_thread_end(void)
{
    json_tokens_fini(&shared_tokens);
}

static const struct json_token *token_of(const struct body_value *value)
{
    return value->body == NULL ? NULL : &value->body->tokens->tokens[value->token];
}

/* Is this key's text name? Escaped ones are decoded to see. */
static bool key_is(const struct body *body, const struct json_token *key, const char *name)
{
    const char *text = body->text + key->at + 1;
    if (!key->escaped) {
        /* An empty key's first byte is its closing quote. */
        size_t bytes = key->bytes - 2;
        return *text == *name && strncmp(text, name, bytes) == 0 && name[bytes] == '\0';
    }
    char decoded[256];
    return key->bytes < sizeof(decoded) &&
           strlen(name) == json_token_decode(key, body->text, decoded) &&
           strcmp(decoded, name) == 0;
}

int body_members(const struct body_value *value, const char *const *keys, size_t count,
                 struct body_value *out)
{
    const struct json_token *object = token_of(value);
    assert(count <= BODY_KEYS_MAX);
    if (object == NULL || object->type != JSON_OBJECT) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct body_value){0};
    }
    uint32_t t = value->token + 1;
    for (uint32_t left = object->count; left > 0; left--) {
        const struct json_token *key = &value->body->tokens->tokens[t];
        for (size_t i = 0; i < count && key[1].type != JSON_NULL; i++) {
            if (key_is(value->body, key, keys[i])) {
                out[i] = at(value->body, t + 1);
                break;
            }
        }
        t = key[1].next;
    }
    return 0;
}

bool body_items_begin(const struct body_value *value, struct body_items *items)
{
    const struct json_token *array = token_of(value);
    if (array == NULL || array->type != JSON_ARRAY) {
        return false;
    }
    *items = (struct body_items){value->body, value->token + 1, array->count};
    return true;
}

bool body_items_next(struct body_items *items, struct body_value *out)
{
    if (items->left == 0) {
        return false;
    }
    *out = at(items->body, items->token);
    items->token = items->body->tokens->tokens[items->token].next;
    items->left--;
    return true;
}

bool body_is_object(const struct body_value *value)
{
    const struct json_token *token = token_of(value);
    return token != NULL && token->type == JSON_OBJECT;
}

size_t body_count(const struct body_value *value)
{
    const struct json_token *token = token_of(value);
    return token == NULL ? 0 : token->count;
}

bool body_text(const struct body_value *value, const char **out)
{
    const struct json_token *token = token_of(value);
    *out = NULL;
    if (token == NULL) {
        return true;
    }
    if (token->type != JSON_STRING) {
        return false;
    }
    char *text = request_alloc(value->body->request, token->bytes);
    json_token_decode(token, value->body->text, text);
    *out = text;
    return true;
}

bool body_int(const struct body_value *value, int64_t fallback, int64_t *out)
{
    const struct json_token *token = token_of(value);
    *out = fallback;
    return token == NULL || json_token_int(token, value->body->text, out);
}
