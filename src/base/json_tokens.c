#include "base/json_tokens.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/plain.h"

#define FEW_MEMBERS 8 /* compared pair by pair; more are sorted */
#define NUMBER_BYTES_MAX 64 /* of one that json_token_int looks at */

struct scan {
    const char *text;
    const char *p;
    const char *end;
    struct json_tokens *out;
    const char *why;
};

static bool fail(struct scan *scan, const char *why)
{
    scan->why = why;
    return false;
}

/* Out of line: doubles what few texts fill. */
static __attribute__((noinline)) void grow(struct json_tokens *out)
{
    out->capacity = out->capacity == 0 ? 64 : out->capacity * 2;
    out->tokens = realloc(out->tokens, out->capacity * sizeof(*out->tokens));
    if (out->tokens == NULL) {
        abort();
    }
}

static inline struct json_token *add(struct scan *scan, enum json_type type)
{
    struct json_tokens *out = scan->out;
    if (out->count == out->capacity) {
        grow(out);
    }
    struct json_token *token = &out->tokens[out->count++];
    *token = (struct json_token){
        .at = (uint32_t)(scan->p - scan->text), .next = out->count, .type = (uint8_t)type};
    return token;
}

static inline void skip_space(struct scan *scan)
{
    while (scan->p < scan->end && (unsigned char)*scan->p <= ' ' &&
           (*scan->p == ' ' || *scan->p == '\n' || *scan->p == '\t' || *scan->p == '\r')) {
        scan->p++;
    }
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of four hex digits at p, which has them; -1: it has not. */
static int hex4(const char *p, const char *end)
{
    int value = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex(p[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* Behind a backslash; scan->p is moved behind the escape. */
static bool escape(struct scan *scan)
{
    if (scan->p == scan->end) {
        return fail(scan, "string without end");
    }
    char c = *scan->p++;
    if (c != 'u') {
        return strchr("\"\\/bfnrt", c) != NULL && c != '\0' ? true : fail(scan, "unknown escape");
    }
    int unit = hex4(scan->p, scan->end);
    if (unit < 0) {
        return fail(scan, "broken \\u escape");
    }
    scan->p += 4;
    if (unit == 0) {
        return fail(scan, "NUL in a string");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        return fail(scan, "lone surrogate");
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        int low = scan->end - scan->p >= 6 && scan->p[0] == '\\' && scan->p[1] == 'u'
                      ? hex4(scan->p + 2, scan->end)
                      : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            return fail(scan, "lone surrogate");
        }
        scan->p += 6;
    }
    return true;
}

/* Bytes of the UTF-8 sequence at p (2..4), 0 when malformed. Source: RFC 3629 section 4. */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
               : (p[0] & 0xf0) == 0xe0        ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || (size_t)(end - p) < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    return n;
}

bool json_utf8_valid(const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + bytes;
    while (p < end) {
        uint64_t word;
        while (end - p >= (ptrdiff_t)sizeof(word)) {
            memcpy(&word, p, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) != 0) {
                break;
            }
            p += sizeof(word); /* ASCII */
        }
        if (p == end) {
            break;
        }
        size_t n = *p < 0x80 ? 1 : utf8_length(p, end);
        if (n == 0) {
            return false;
        }
        p += n;
    }
    return true;
}

/* 0: passes as it is; 1: the loop below looks closer. */
static const unsigned char special[256] = {
    1, 1, 1, 1, 1,         1,          1,
    1, 1, 1, 1, 1,         1,          1,
    1, 1, 1, 1, 1,         1,          1,
    1, 1, 1, 1, 1,         1,          1,
    1, 1, 1, 1, ['"'] = 1, ['\\'] = 1, [0x80 ... 0xff] = 1,
};

static bool string(struct scan *scan)
{
    struct json_token *token = add(scan, JSON_STRING);
    const char *p = scan->p + 1;
    for (;;) {
        unsigned plain = PLAIN_BYTES;
        while (plain == PLAIN_BYTES && scan->end - p >= PLAIN_BYTES) {
            plain = plain_bytes(p);
            p += plain;
        }
        while (p < scan->end && !special[(unsigned char)*p]) {
            p++;
        }
        if (p == scan->end) {
            return fail(scan, "string without end");
        }
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            break;
        }
        if (c == '\\') {
            token->escaped = true;
            scan->p = p + 1;
            if (!escape(scan)) {
                return false;
            }
            p = scan->p;
        } else if (c < 0x20) {
            return fail(scan, "control character in a string");
        } else {
            size_t n = utf8_length((const unsigned char *)p, (const unsigned char *)scan->end);
            if (n == 0) {
                return fail(scan, "invalid UTF-8");
            }
            p += n;
        }
    }
    scan->p = p + 1;
    token->bytes = (uint32_t)(scan->p - scan->text) - token->at;
    return true;
}

static bool digits(struct scan *scan)
{
    const char *from = scan->p;
    while (scan->p < scan->end && *scan->p >= '0' && *scan->p <= '9') {
        scan->p++;
    }
    return scan->p > from;
}

static bool number(struct scan *scan)
{
    struct json_token *token = add(scan, JSON_NUMBER);
    if (*scan->p == '-') {
        scan->p++;
    }
    if (scan->p < scan->end && *scan->p == '0') {
        scan->p++;
    } else if (!digits(scan)) {
        return fail(scan, "malformed number");
    }
    if (scan->p < scan->end && *scan->p == '.') {
        scan->p++;
        if (!digits(scan)) {
            return fail(scan, "malformed number");
        }
    }
    if (scan->p < scan->end && (*scan->p == 'e' || *scan->p == 'E')) {
        scan->p++;
        if (scan->p < scan->end && (*scan->p == '+' || *scan->p == '-')) {
            scan->p++;
        }
        if (!digits(scan)) {
            return fail(scan, "malformed number");
        }
    }
    token->bytes = (uint32_t)(scan->p - scan->text) - token->at;
    return true;
}

static bool word(struct scan *scan, const char *text, size_t bytes, enum json_type type)
{
    if ((size_t)(scan->end - scan->p) < bytes || memcmp(scan->p, text, bytes) != 0) {
        return fail(scan, "unknown word");
    }
    add(scan, type)->bytes = (uint32_t)bytes;
    scan->p += bytes;
    return true;
}

/* ---- duplicate keys ---- */

struct key {
    const char *data; /* decoded */
    size_t bytes;
};

static int key_compare(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? -1 : 1;
    }
    return memcmp(x->data, y->data, x->bytes);
}

static bool keys_differ_many(const struct scan *scan, const struct json_token *object,
                             uint32_t first)
{
    struct key *keys = malloc(object->count * sizeof(*keys));
    char *decoded = malloc(object->bytes + (size_t)object->count + 1);
    if (keys == NULL || decoded == NULL) {
        abort();
    }
    char *at = decoded;
    uint32_t t = first;
    for (uint32_t i = 0; i < object->count; i++) {
        const struct json_token *key = &scan->out->tokens[t];
        if (key->escaped) {
            keys[i].data = at;
            keys[i].bytes = json_token_decode(key, scan->text, at);
            at += keys[i].bytes + 1;
        } else {
            keys[i] = (struct key){scan->text + key->at + 1, key->bytes - 2};
        }
        t = scan->out->tokens[t + 1].next;
    }
    qsort(keys, object->count, sizeof(*keys), key_compare);
    bool differ = true;
    for (uint32_t i = 1; i < object->count && differ; i++) {
        differ = key_compare(&keys[i - 1], &keys[i]) != 0;
    }
    free(keys);
    free(decoded);
    return differ;
}

/* Pair by pair: for few. */
static bool keys_differ_few(const struct scan *scan, const struct json_token *object,
                            uint32_t first)
{
    const struct json_token *tokens = scan->out->tokens;
    uint32_t at[FEW_MEMBERS];
    uint32_t t = first;
    for (uint32_t i = 0; i < object->count; i++) {
        at[i] = t;
        if (tokens[t].escaped) {
            return keys_differ_many(scan, object, first);
        }
        t = tokens[t + 1].next;
    }
    for (uint32_t i = 1; i < object->count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (tokens[at[i]].bytes == tokens[at[k]].bytes &&
                memcmp(scan->text + tokens[at[i]].at, scan->text + tokens[at[k]].at,
                       tokens[at[i]].bytes) == 0) {
                return false;
            }
        }
    }
    return true;
}

/* Keys that differ in length or first byte are told apart at a glance, and most do. */
static bool keys_differ(const struct scan *scan, const struct json_token *object)
{
    const struct json_token *tokens = scan->out->tokens;
    uint32_t first = (uint32_t)(object - tokens) + 1;
    uint64_t seen = 0;
    uint32_t t = first;
    if (object->count > FEW_MEMBERS) {
        return keys_differ_many(scan, object, first);
    }
    for (uint32_t left = object->count; left > 0; left--) {
        const struct json_token *key = &tokens[t];
        uint64_t bit = UINT64_C(1)
                       << ((key->bytes + 7u * (unsigned char)scan->text[key->at + 1]) % 64);
        if ((seen & bit) != 0 || key->escaped) {
            return keys_differ_few(scan, object, first);
        }
        seen |= bit;
        t = key[1].next;
    }
    return true;
}

/* ---- values ---- */

static bool scalar(struct scan *scan)
{
    switch (*scan->p) {
    case '"':
        return string(scan);
    case 't':
        return word(scan, "true", 4, JSON_BOOL);
    case 'f':
        return word(scan, "false", 5, JSON_BOOL);
    case 'n':
        return word(scan, "null", 4, JSON_NULL);
    default:
        if (*scan->p == '-' || (*scan->p >= '0' && *scan->p <= '9')) {
            return number(scan);
        }
        return fail(scan, "a value is missing");
    }
}

/* A key and its colon. */
static bool member_key(struct scan *scan)
{
    if (scan->p == scan->end || *scan->p != '"') {
        return fail(scan, "a key is missing");
    }
    if (!string(scan)) {
        return false;
    }
    skip_space(scan);
    if (scan->p == scan->end || *scan->p != ':') {
        return fail(scan, "a colon is missing");
    }
    scan->p++;
    skip_space(scan);
    return true;
}

static bool close_container(struct scan *scan, uint32_t number)
{
    struct json_token *token = &scan->out->tokens[number];
    scan->p++;
    token->bytes = (uint32_t)(scan->p - scan->text) - token->at;
    token->next = scan->out->count;
    if (token->type == JSON_OBJECT && !keys_differ(scan, token)) {
        return fail(scan, "duplicate key");
    }
    return true;
}

static bool value(struct scan *scan)
{
    uint32_t stack[JSON_DEPTH_MAX];
    unsigned depth = 0;
    for (;;) {
        /* At a value. */
        if (scan->p == scan->end) {
            return fail(scan, "a value is missing");
        }
        char c = *scan->p;
        if (c == '{' || c == '[') {
            if (depth == JSON_DEPTH_MAX) {
                return fail(scan, "nested too deeply");
            }
            add(scan, c == '{' ? JSON_OBJECT : JSON_ARRAY);
            stack[depth++] = scan->out->count - 1;
            scan->p++;
            skip_space(scan);
            if (scan->p < scan->end && *scan->p == (c == '{' ? '}' : ']')) {
                if (!close_container(scan, stack[--depth])) {
                    return false;
                }
            } else {
                scan->out->tokens[stack[depth - 1]].count = 1;
                if (c == '{' && !member_key(scan)) {
                    return false;
                }
                continue;
            }
        } else if (!scalar(scan)) {
            return false;
        }
        /* Behind a value: what its containers go on with. */
        for (;;) {
            if (depth == 0) {
                return true;
            }
            skip_space(scan);
            struct json_token *container = &scan->out->tokens[stack[depth - 1]];
            bool object = container->type == JSON_OBJECT;
            if (scan->p == scan->end) {
                return fail(scan, object ? "object without end" : "array without end");
            }
            if (*scan->p == (object ? '}' : ']')) {
                if (!close_container(scan, stack[--depth])) {
                    return false;
                }
                continue;
            }
            if (*scan->p != ',') {
                return fail(scan, "a comma is missing");
            }
            scan->p++;
            skip_space(scan);
            container->count++;
            if (object && !member_key(scan)) {
                return false;
            }
            break;
        }
    }
}

int json_tokens_parse(struct json_tokens *tokens, const char *text, size_t bytes, struct err *err)
{
    tokens->count = 0;
    if (bytes > JSON_TOKENS_BYTES_MAX) {
        return err_set(err, -E2BIG, "longer than %u bytes", JSON_TOKENS_BYTES_MAX);
    }
    struct scan scan = {.text = text, .p = text, .end = text + bytes, .out = tokens};
    skip_space(&scan);
    if (value(&scan)) {
        skip_space(&scan);
        if (scan.p == scan.end) {
            return 0;
        }
        scan.why = "something follows the value";
    }
    return err_set(err, -EINVAL, "byte %zu: %s", (size_t)(scan.p - text), scan.why);
}

void json_tokens_fini(struct json_tokens *tokens)
{
    free(tokens->tokens);
    *tokens = (struct json_tokens){0};
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

size_t json_token_decode(const struct json_token *token, const char *text, char *out)
{
    const char *p = text + token->at + 1;
    const char *end = text + token->at + token->bytes - 1;
    if (!token->escaped) {
        memcpy(out, p, (size_t)(end - p));
        out[end - p] = '\0';
        return (size_t)(end - p);
    }
    char *to = out;
    while (p < end) {
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        static const char plain[] = "\"\\/bfnrt";
        static const char means[] = "\"\\/\b\f\n\r\t";
        p++;
        if (*p != 'u') {
            *to++ = means[strchr(plain, *p) - plain];
            p++;
            continue;
        }
        uint32_t c = (uint32_t)hex4(p + 1, end);
        p += 5;
        if (c >= 0xd800 && c <= 0xdbff) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)hex4(p + 2, end) - 0xdc00);
            p += 6;
        }
        to = put_utf8(to, c);
    }
    *to = '\0';
    return (size_t)(to - out);
}

bool json_token_int(const struct json_token *token, const char *text, int64_t *out)
{
    const char *p = text + token->at;
    bool negative = *p == '-';
    uint32_t bytes = token->bytes - negative;
    p += negative;
    int64_t whole = 0;
    uint32_t i = 0;
    if (token->type != JSON_NUMBER) {
        return false;
    }
    for (; i < bytes && bytes <= 16 && p[i] >= '0' && p[i] <= '9'; i++) {
        whole = whole * 10 + (p[i] - '0');
    }
    if (i < bytes) {
        /* A point, an exponent, or very long. */
        char copy[NUMBER_BYTES_MAX];
        if (token->bytes >= sizeof(copy)) {
            return false;
        }
        memcpy(copy, text + token->at, token->bytes);
        copy[token->bytes] = '\0';
        double d = strtod(copy, NULL);
        if (!(fabs(d) <= 0x1p53) || d != floor(d)) {
            return false;
        }
        *out = (int64_t)d;
        return true;
    }
    if (whole > INT64_C(1) << 53) {
        return false;
    }
    *out = negative ? -whole : whole;
    return true;
}
