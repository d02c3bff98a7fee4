#include "service/http_head.h"

#include <endian.h>
#include <string.h>
#include <strings.h>

#include "base/http1.h"

#define BODY_DIGITS_MAX 9
#define VERSION " HTTP/1.1\r\n"

/* By byte: may it stand in a name, in a target? Fewer than the RFC allows; the parser takes the
 * others. */
enum { NAME = 1, TARGET = 2 };
static const uint8_t kinds[256] = {
    ['0' ... '9'] = NAME | TARGET,
    ['A' ... 'Z'] = NAME | TARGET,
    ['a' ... 'z'] = NAME | TARGET,
    ['-'] = NAME | TARGET,
    ['_'] = NAME | TARGET,
    ['.'] = TARGET,
    ['~'] = TARGET,
    ['/'] = TARGET,
    ['?'] = TARGET,
    ['&'] = TARGET,
    ['='] = TARGET,
    ['%'] = TARGET,
    ['+'] = TARGET,
    [','] = TARGET,
    [':'] = TARGET,
    ['@'] = TARGET,
};

static const char *skip(const char *p, const char *end, uint8_t kind)
{
    while (p < end && (kinds[(unsigned char)*p] & kind) != 0) {
        p++;
    }
    return p;
}

/* Past what is printable ASCII.
 * Source: Bit Twiddling Hacks (Sean Eron Anderson), "Determine if a word has a byte less than n":
 * the lowest byte that it marks is right, since only what stands above one can be marked wrongly.
 */
static const char *skip_printable(const char *p, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        word = le64toh(word);
        uint64_t found = (word | (word - ones * ' ') | ((word ^ ones * 0x7f) - ones)) & ones * 0x80;
        if (found != 0) {
            return p + __builtin_ctzll(found) / 8;
        }
    }
    while (p < end && *p >= ' ' && *p < 0x7f) {
        p++;
    }
    return p;
}

static bool is(const char *at, const char *text, size_t bytes)
{
    return strncasecmp(at, text, bytes) == 0;
}

static bool read_length(const char *at, size_t digits, size_t *out)
{
    size_t value = 0;
    if (digits > BODY_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        unsigned digit = (unsigned)(at[i] - '0');
        if (digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static size_t read_method(const char *at, size_t bytes, unsigned *out)
{
    static const struct {
        char text[8];
        size_t bytes;
        unsigned method;
    } methods[] = {
        {"POST ", 5, HTTP_POST},
        {"GET ", 4, HTTP_GET},
        {"PUT ", 4, HTTP_PUT},
        {"DELETE ", 7, HTTP_DELETE},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (bytes > methods[i].bytes && memcmp(at, methods[i].text, methods[i].bytes) == 0) {
            *out = methods[i].method;
            return methods[i].bytes;
        }
    }
    return 0;
}

bool http_head_read(const char *at, size_t bytes, struct http_head *out, size_t *out_head_bytes,
                    size_t *out_body_bytes)
{
    const char *end = at + bytes;
    const char *p = at + read_method(at, bytes, &out->method);
    if (p == at || *p != '/') {
        return false;
    }
    const char *stop = skip(p, end, TARGET);
    out->url = (struct http_piece){(uint32_t)(p - at), (uint32_t)(stop - p)};
    p = stop;
    if ((size_t)(end - p) < sizeof(VERSION) - 1 || memcmp(p, VERSION, sizeof(VERSION) - 1) != 0) {
        return false;
    }
    p += sizeof(VERSION) - 1;
    size_t count = 0;
    unsigned hosts = 0;
    unsigned lengths = 0;
    size_t body = 0;
    while (end - p >= 2 && *p != '\r') {
        const char *name = p;
        p = skip(p, end, NAME);
        size_t name_bytes = (size_t)(p - name);
        if (count == HTTP_HEADERS_MAX || name_bytes == 0 || p == end || *p != ':') {
            return false;
        }
        p++;
        while (p < end && *p == ' ') {
            p++;
        }
        const char *value = p;
        p = skip_printable(p, end);
        size_t value_bytes = (size_t)(p - value);
        if (end - p < 2 || p[0] != '\r' || p[1] != '\n' || value_bytes == 0 || p[-1] == ' ') {
            return false;
        }
        p += 2;
        /* The names by which the parser goes. */
        switch (name_bytes) {
        case 4:
            hosts += is(name, "host", 4);
            break;
        case 6:
            if (is(name, "expect", 6)) {
                return false;
            }
            break;
        case 7:
            if (is(name, "upgrade", 7)) {
                return false;
            }
            break;
        case 10:
            if (is(name, "connection", 10) && (value_bytes != 10 || !is(value, "keep-alive", 10))) {
                return false;
            }
            break;
        case 14:
            if (is(name, "content-length", 14)) {
                lengths++;
                if (!read_length(value, value_bytes, &body)) {
                    return false;
                }
            }
            break;
        case 16:
            if (is(name, "proxy-connection", 16)) {
                return false;
            }
            break;
        default:
            /* http-parser takes note of what only begins so. */
            if (name_bytes >= 17 && is(name, "transfer-encoding", 17)) {
                return false;
            }
            break;
        }
        out->names[count] = (struct http_piece){(uint32_t)(name - at), (uint32_t)name_bytes};
        out->values[count] = (struct http_piece){(uint32_t)(value - at), (uint32_t)value_bytes};
        count++;
    }
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n' || hosts != 1 || lengths > 1) {
        return false;
    }
    out->header_count = count;
    *out_head_bytes = (size_t)(p + 2 - at);
    *out_body_bytes = body;
    return true;
}
