/* Eight bytes of JSON text at a time: how many of them are plain? */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define PLAIN_BYTES 8

/* How many of the PLAIN_BYTES at `at` are printable ASCII without '"' and '\\' before the first
 * that is not. Any alignment. Source: Bit Twiddling Hacks (Sean Eron Anderson), "Determine if a
 * word has a byte less than n": the lowest byte that it marks is right, since only what stands
 * above one can be marked wrongly. */
static inline unsigned plain_bytes(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    word = le64toh(word);
    uint64_t quote = word ^ ones * '"';
    uint64_t slash = word ^ ones * '\\';
    /* A byte with its highest bit set is not ASCII: marked by itself. */
    uint64_t found = word | (word - ones * 0x20) | (quote - ones) | (slash - ones);
    found &= ones * 0x80;
    return found == 0 ? PLAIN_BYTES : (unsigned)__builtin_ctzll(found) / 8;
}
