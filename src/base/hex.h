/* Hex digits, eight at a time in one register: for ids and tokens on hot paths. Inline; pure. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* value as eight lower-case digits, the highest first. No NUL. */
static inline void hex_put8(char *out, uint32_t value)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t x = value;
    x = (x << 16 | x) & UINT64_C(0x0000ffff0000ffff);
    x = (x << 8 | x) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x << 4 | x) & UINT64_C(0x0f0f0f0f0f0f0f0f); /* a digit's value in each byte */
    uint64_t letters = (x + ones * 6) >> 4 & ones;
    x += ones * '0' + letters * ('a' - '0' - 10);
    x = htobe64(x);
    memcpy(out, &x, sizeof(x));
}

/* Read eight digits, of lower case only unless any_case. False: they are not; *out is undefined. */
static inline bool hex_get8(const char *in, bool any_case, uint32_t *out)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t text;
    memcpy(&text, in, sizeof(text));
    uint64_t letters = text >> 6 & ones;
    if (any_case) {
        text |= letters << 5;
    }
    uint64_t x = be64toh(text);
    x = (x & ones * 0xf) + (x >> 6 & ones) * 9;
    x = (x >> 4 | x) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x >> 8 | x) & UINT64_C(0x0000ffff0000ffff);
    *out = (uint32_t)(x >> 16 | x);
    /* Digits are what writing the value gives again, and nothing else is. */
    uint64_t again;
    char written[8];
    hex_put8(written, *out);
    memcpy(&again, written, sizeof(again));
    return again == text;
}
