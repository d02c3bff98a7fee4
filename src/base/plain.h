/* Eight bytes of JSON text at a time: are all of them plain? */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PLAIN_BYTES 8

/* Whether the PLAIN_BYTES at `at` are printable ASCII without '"' and '\\'. Any alignment.
 * Source: Bit Twiddling Hacks (Sean Eron Anderson), "Determine if a word has a byte less than n";
 * as an answer for the whole word it is exact. */
static inline bool plain_word(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    uint64_t quote = word ^ ones * '"';
    uint64_t slash = word ^ ones * '\\';
    /* Where no byte of the word has its highest bit set, none of the three has one either. */
    uint64_t found = word | (word - ones * 0x20) | (quote - ones) | (slash - ones);
    return (found & ones * 0x80) == 0;
}
