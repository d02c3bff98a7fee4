#include "store/keys.h"

#include <string.h>

/* Copy a valid tenant; its length, or 0. */
static size_t put_tenant(const char *tenant, char *out)
{
    size_t n = 0;
    for (; tenant[n] != '\0'; n++) {
        char c = tenant[n];
        bool letter = c >= 'a' && c <= 'z';
        if (!letter && (n == 0 || !((c >= '0' && c <= '9') || c == '-'))) {
            return 0;
        }
        if (n == KEYS_TENANT_BYTES_MAX) {
            return 0;
        }
        out[n] = c;
    }
    return n >= 2 ? n : 0;
}

bool keys_tenant_valid(const char *tenant)
{
    char copy[KEYS_TENANT_BYTES_MAX];
    return put_tenant(tenant, copy) != 0;
}

static size_t put_number(unsigned value, char *out)
{
    size_t digits = value >= 10000 ? 5 : value >= 1000 ? 4 : value >= 100 ? 3 : value >= 10 ? 2 : 1;
    for (size_t i = digits; i-- > 0;) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return digits;
}

size_t keys_tag(const char *tenant, uint16_t number, uint8_t shard, char out[KEYS_BYTES_MAX])
{
    size_t n = put_tenant(tenant, out + 1);
    if (n == 0) {
        return 0;
    }
    out[0] = '{';
    n++;
    out[n++] = '/';
    n += put_number(number, out + n);
    out[n++] = '/';
    n += put_number(shard, out + n);
    out[n++] = '}';
    out[n] = '\0';
    return n;
}

size_t keys_queues(const char *tenant, char out[KEYS_BYTES_MAX])
{
    size_t n = put_tenant(tenant, out + 1);
    if (n == 0) {
        return 0;
    }
    out[0] = '{';
    memcpy(out + 1 + n, "}:queues", 9);
    return n + 9;
}

/* A decimal number without a leading zero, up to max, and the byte behind it; its length, or 0. */
static size_t take_number(const char *text, size_t bytes, char behind, unsigned max, unsigned *out)
{
    unsigned value = 0;
    size_t n = 0;
    for (; n < bytes && n < 5 && text[n] >= '0' && text[n] <= '9'; n++) {
        value = value * 10 + (unsigned)(text[n] - '0');
    }
    if (n == 0 || n == bytes || text[n] != behind || value > max || (n > 1 && text[0] == '0')) {
        return 0;
    }
    *out = value;
    return n + 1;
}

size_t keys_tag_parse(const char *text, size_t bytes, char tenant[KEYS_TENANT_BYTES_MAX + 1],
                      uint16_t *number, uint8_t *shard)
{
    const char *slash = bytes != 0 && text[0] == '{' ? memchr(text, '/', bytes) : NULL;
    if (slash == NULL || slash - text - 1 > KEYS_TENANT_BYTES_MAX) {
        return 0;
    }
    size_t n = (size_t)(slash - text);
    char name[KEYS_TENANT_BYTES_MAX + 1];
    memcpy(name, text + 1, n - 1);
    name[n - 1] = '\0';
    unsigned first = 0;
    unsigned second = 0;
    size_t a = take_number(text + n + 1, bytes - n - 1, '/', UINT16_MAX, &first);
    size_t b =
        a == 0 ? 0 : take_number(text + n + 1 + a, bytes - n - 1 - a, '}', UINT8_MAX, &second);
    if (b == 0 || !keys_tenant_valid(name)) {
        return 0;
    }
    memcpy(tenant, name, n);
    *number = (uint16_t)first;
    *shard = (uint8_t)second;
    return n + 1 + a + b;
}
