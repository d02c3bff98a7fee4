#include "snap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void snap_init(struct snap *snap, size_t key_bytes, size_t words)
{
    *snap = (struct snap){.key_bytes = key_bytes, .words = words};
}

void snap_fini(struct snap *snap)
{
    free(snap->keys);
    free(snap->values);
    *snap = (struct snap){0};
}

void snap_clear(struct snap *snap)
{
    snap->len = 0;
}

uint64_t *snap_add(struct snap *snap, const void *key)
{
    if (snap->len == snap->capacity) {
        snap->capacity = snap->capacity * 2 + 32;
        snap->keys = realloc(snap->keys, (size_t)snap->capacity * snap->key_bytes);
        snap->values = realloc(snap->values, (size_t)snap->capacity * snap->words * 8);
        assert(snap->keys != NULL && snap->values != NULL);
    }
    memcpy(snap->keys + (size_t)snap->len * snap->key_bytes, key, snap->key_bytes);
    uint64_t *values = snap->values + (size_t)snap->len * snap->words;
    memset(values, 0, snap->words * 8);
    snap->len++;
    return values;
}

void snap_merge(struct snap *snap, const void *key, const uint64_t *words, int max_word)
{
    uint64_t *into = NULL;
    for (int i = 0; i < snap->len && into == NULL; i++) {
        if (memcmp(snap_key(snap, i), key, snap->key_bytes) == 0) {
            into = snap_values(snap, i);
        }
    }
    if (into == NULL) {
        into = snap_add(snap, key);
    }
    for (size_t w = 0; w < snap->words; w++) {
        if ((int)w != max_word) {
            into[w] += words[w];
        } else if (words[w] > into[w]) {
            into[w] = words[w];
        }
    }
}

const void *snap_key(const struct snap *snap, int i)
{
    return snap->keys + (size_t)i * snap->key_bytes;
}

uint64_t *snap_values(const struct snap *snap, int i)
{
    return snap->values + (size_t)i * snap->words;
}

void snap_diff(const struct snap *now, const struct snap *before, int max_word, struct snap *out)
{
    snap_clear(out);
    int hint = 0;
    for (int i = 0; i < now->len; i++) {
        const uint64_t *old = NULL;
        for (int n = 0; n < before->len && old == NULL; n++) {
            int at = (hint + n) % before->len;
            if (memcmp(snap_key(before, at), snap_key(now, i), now->key_bytes) == 0) {
                old = snap_values(before, at);
                hint = at + 1;
            }
        }
        const uint64_t *fresh = snap_values(now, i);
        if (old != NULL && old[0] == fresh[0]) {
            continue;
        }
        uint64_t *values = snap_add(out, snap_key(now, i));
        for (size_t w = 0; w < now->words; w++) {
            values[w] = (int)w == max_word || old == NULL ? fresh[w] : fresh[w] - old[w];
        }
    }
}
