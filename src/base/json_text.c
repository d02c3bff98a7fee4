#include "base/json_text.h"

#include <string.h>

#include "base/plain.h"

char *text_int(char *at, int64_t value)
{
    char digits[24];
    char *end = digits + sizeof(digits);
    char *p = end;
    uint64_t n = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    if (value < 0) {
        *--p = '-';
    }
    return text_put(at, p, (size_t)(end - p));
}

static char *escape_one(char *at, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    *at++ = '\\';
    switch (c) {
    case '"':
    case '\\':
        *at++ = (char)c;
        break;
    case '\n':
        *at++ = 'n';
        break;
    case '\r':
        *at++ = 'r';
        break;
    case '\t':
        *at++ = 't';
        break;
    default:
        at = text_put(at, "u00", 3);
        *at++ = hex[c >> 4];
        *at++ = hex[c & 15];
        break;
    }
    return at;
}

/* Copies runs: in JSON and names hardly a byte in ten needs a backslash. */
char *json_escape(char *at, const char *text, size_t bytes)
{
    static const unsigned char special[256] = {[0 ... 0x1f] = 1, ['"'] = 1, ['\\'] = 1};
    const char *end = text + bytes;
    while (text < end) {
        const char *from = text;
        unsigned plain = PLAIN_BYTES;
        while (plain == PLAIN_BYTES && end - text >= PLAIN_BYTES) {
            plain = plain_bytes(text);
            text += plain;
        }
        while (text < end && !special[(unsigned char)*text]) {
            text++;
        }
        at = text_put(at, from, (size_t)(text - from));
        while (text < end && special[(unsigned char)*text]) {
            at = escape_one(at, (unsigned char)*text++);
        }
    }
    return at;
}

char *json_escape_json(char *at, const char *text, size_t bytes)
{
    return json_escape(at, text, bytes); /* its control characters are \t \n \r: two bytes each */
}
