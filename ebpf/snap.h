/* Counts by key at one moment, and what was added since another: the kernel only ever adds, and an
 * interval is a difference.
 *
 * The owner calls snap_fini. Keys are raw bytes of one size, values runs of words. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct snap {
    size_t key_bytes;
    size_t words;
    char *keys;
    uint64_t *values;
    int len;
    int capacity;
};

void snap_init(struct snap *snap, size_t key_bytes, size_t words);
void snap_fini(struct snap *snap);
void snap_clear(struct snap *snap);

/* A new row of zeros; valid until the next. */
uint64_t *snap_add(struct snap *snap, const void *key);
/* Add the words to the row of that key, a new one where there is none; of word max_word the larger.
 */
void snap_merge(struct snap *snap, const void *key, const uint64_t *words, int max_word);
const void *snap_key(const struct snap *snap, int i);
uint64_t *snap_values(const struct snap *snap, int i);

/* now - before into out; rows without any difference in word 0 are left out. Word max_word is a
 * maximum and is taken over as it is. */
void snap_diff(const struct snap *now, const struct snap *before, int max_word, struct snap *out);
