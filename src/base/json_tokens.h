/* JSON as tokens: where each value begins and ends in the text, without a tree and without copies.
 *
 * For hot paths that read a few members and pass the rest through. As strict as base/json: RFC 8259
 * grammar, valid UTF-8, no \u0000, no lone surrogates, no duplicate keys, depth at most
 * JSON_DEPTH_MAX. Tokens stand in document order; each knows where its subtree ends, so a reader
 * steps over what it does not want. jsmn, which has the same idea, accepts texts that are no JSON.
 *
 * The struct owns its tokens and keeps them for the next text; json_tokens_fini frees. One thread
 * at a time. Out of memory aborts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct json_token {
    uint32_t at; /* in the text; a string's begins at its quote */
    uint32_t bytes; /* a string's include both quotes */
    uint32_t next; /* number of the token behind this one and all inside it */
    uint32_t count; /* elements of an array, members of an object */
    uint8_t type; /* enum json_type */
    bool escaped; /* a string with a backslash */
};

struct json_tokens {
    struct json_token *tokens; /* a member is its key's token, then its value's */
    uint32_t count;
    uint32_t capacity;
};

#define JSON_TOKENS_BYTES_MAX (UINT32_C(1) << 30)

/* 0: tokens[0] is the value. -EINVAL with text: not one strict JSON value; -E2BIG: more than
 * JSON_TOKENS_BYTES_MAX. */
int json_tokens_parse(struct json_tokens *tokens, const char *text, size_t bytes, struct err *err);
void json_tokens_fini(struct json_tokens *tokens);

/* The decoded text of a string token into out (token->bytes is room enough), with a NUL. Its length
 * without the NUL; there is none inside. */
size_t json_token_decode(const struct json_token *token, const char *text, char *out);

/* The value of a whole number within +-2^53, however it is written. False: it is none. */
bool json_token_int(const struct json_token *token, const char *text, int64_t *out);

/* Whether text is UTF-8 throughout. Source: RFC 3629 section 4. */
bool json_utf8_valid(const char *text, size_t bytes);
