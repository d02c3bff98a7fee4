#include "store/slots.h"

#include <stdio.h>
#include <string.h>

#include "base/args.h"

#define FIELDS_BEFORE_SLOTS 8 /* id address flags master ping pong epoch link */
#define FIELD_ADDRESS 1
#define FIELD_FLAGS 2

/* CRC-16/XMODEM, by half bytes. */
static uint16_t crc16(const char *data, size_t bytes)
{
    static const uint16_t table[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint16_t crc = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)data[i];
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ c >> 4) & 15]);
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ c) & 15]);
    }
    return crc;
}

uint16_t slots_of_key(const char *key, size_t bytes)
{
    const char *open = memchr(key, '{', bytes);
    if (open != NULL) {
        const char *close = memchr(open + 1, '}', bytes - (size_t)(open + 1 - key));
        if (close != NULL && close != open + 1) {
            return crc16(open + 1, (size_t)(close - open - 1)) % SLOTS_COUNT;
        }
    }
    return crc16(key, bytes) % SLOTS_COUNT;
}

/* A whole number of digits alone, at most max. */
static bool parse_number(const char *text, size_t bytes, int64_t max, int64_t *out)
{
    char copy[8];
    if (bytes == 0 || bytes >= sizeof copy || text[0] < '0' || text[0] > '9') {
        return false;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return args_int(copy, 0, max, out, NULL) == 0;
}

/* "host:port", "host:port@bus" or "host:port@bus,name"; an empty host, or "?", is who was asked. */
static bool parse_place(const char *text, size_t bytes, const char *asked_host,
                        struct url_place *out)
{
    const char *at = memchr(text, '@', bytes);
    bytes = at != NULL ? (size_t)(at - text) : bytes;
    const char *colon = memrchr(text, ':', bytes);
    int64_t port = 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof out->host ||
        memchr(text, '\0', bytes) != NULL ||
        !parse_number(colon + 1, bytes - (size_t)(colon + 1 - text), UINT16_MAX, &port) ||
        port == 0) {
        return false;
    }
    *out = (struct url_place){.port = (uint16_t)port};
    if (colon == text || (colon - text == 1 && text[0] == '?')) {
        snprintf(out->host, sizeof out->host, "%s", asked_host);
    } else {
        memcpy(out->host, text, (size_t)(colon - text));
    }
    return true;
}

/* "12-34" or "12". What is on its way from or to another node stands in brackets: no number. */
static bool parse_range(const char *text, size_t bytes, uint16_t *out_from, uint16_t *out_to)
{
    const char *dash = memchr(text, '-', bytes);
    size_t first = dash != NULL ? (size_t)(dash - text) : bytes;
    int64_t from = 0;
    int64_t to = 0;
    if (!parse_number(text, first, SLOTS_COUNT - 1, &from) ||
        (dash != NULL && !parse_number(dash + 1, bytes - first - 1, SLOTS_COUNT - 1, &to))) {
        return false;
    }
    *out_from = (uint16_t)from;
    *out_to = (uint16_t)(dash != NULL ? to : from);
    return *out_from <= *out_to;
}

static bool has_flag(const char *flags, size_t bytes, const char *flag)
{
    size_t n = strlen(flag);
    for (const char *p = flags, *end = flags + bytes; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end;
        if ((size_t)(stop - p) == n && memcmp(p, flag, n) == 0) {
            return true;
        }
        p = stop + 1;
    }
    return false;
}

static void read_line(const char *line, size_t bytes, const char *asked_host, slots_range_fn *range,
                      void *arg)
{
    const char *end = line + bytes;
    const char *field = line;
    struct url_place place = {0};
    for (int i = 0; field < end; i++) {
        const char *space = memchr(field, ' ', (size_t)(end - field));
        size_t n = (size_t)((space != NULL ? space : end) - field);
        uint16_t from = 0;
        uint16_t to = 0;
        if ((i == FIELD_ADDRESS && !parse_place(field, n, asked_host, &place)) ||
            (i == FIELD_FLAGS && (!has_flag(field, n, "master") || has_flag(field, n, "fail") ||
                                  has_flag(field, n, "noaddr")))) {
            return;
        }
        if (i >= FIELDS_BEFORE_SLOTS && parse_range(field, n, &from, &to)) {
            range(arg, &place, from, to);
        }
        field += n + 1;
    }
}

void slots_read_nodes(const char *text, size_t bytes, const char *asked_host, slots_range_fn *range,
                      void *arg)
{
    for (const char *end = text + bytes; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((newline != NULL ? newline : end) - text);
        read_line(text, n, asked_host, range, arg);
        text += n + 1;
    }
}

bool slots_read_moved(const char *text, size_t bytes, const char *asked_host, uint16_t *out_slot,
                      struct url_place *out)
{
    static const char word[] = "MOVED ";
    const char *end = text + bytes;
    if (bytes < sizeof word || memcmp(text, word, sizeof word - 1) != 0) {
        return false;
    }
    const char *slot = text + sizeof word - 1;
    const char *place = memchr(slot, ' ', (size_t)(end - slot));
    int64_t number = 0;
    if (place == NULL || !parse_number(slot, (size_t)(place - slot), SLOTS_COUNT - 1, &number) ||
        !parse_place(place + 1, (size_t)(end - place - 1), asked_host, out)) {
        return false;
    }
    *out_slot = (uint16_t)number;
    return true;
}
