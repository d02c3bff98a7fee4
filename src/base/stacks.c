#include "base/stacks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    size_t first; /* of frames */
    uint32_t depth;
    uint32_t hash;
    int64_t value;
};

/* Open addressing over indexes; 0 is free, i + 1 is entry i. Grows at half full. */
struct table {
    uint32_t *slots;
    size_t capacity; /* a power of two */
};

struct stacks {
    char **names;
    uint32_t *name_hashes;
    size_t names_count;
    size_t names_capacity;
    struct table names_table;
    uint32_t *frames; /* of all stacks, end to end */
    size_t frames_count;
    size_t frames_capacity;
    struct entry *entries;
    size_t count;
    size_t capacity;
    struct table table;
    int64_t total;
    bool sorted; /* entries are in order; the table's indexes then need a rebuild before an add */
    bool table_stale;
};

static void *grown(void *old, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity) {
        return old;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity;
    while (wanted < needed) {
        wanted *= 2;
    }
    void *more = reallocarray(old, wanted, size);
    if (more == NULL) {
        abort();
    }
    *capacity = wanted;
    return more;
}

/* FNV-1a. Source: draft-eastlake-fnv, 32-bit parameters. */
static uint32_t hash_bytes(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ p[i]) * 16777619U;
    }
    return hash;
}

struct stacks *stacks_new(void)
{
    struct stacks *stacks = calloc(1, sizeof *stacks);
    if (stacks == NULL) {
        abort();
    }
    stacks->sorted = true;
    return stacks;
}

void stacks_free(struct stacks *stacks)
{
    if (stacks == NULL) {
        return;
    }
    for (size_t i = 0; i < stacks->names_count; i++) {
        free(stacks->names[i]);
    }
    free(stacks->names);
    free(stacks->name_hashes);
    free(stacks->names_table.slots);
    free(stacks->frames);
    free(stacks->entries);
    free(stacks->table.slots);
    free(stacks);
}

static void table_put(struct table *table, uint32_t hash, size_t index)
{
    size_t at = hash & (table->capacity - 1);
    while (table->slots[at] != 0) {
        at = (at + 1) & (table->capacity - 1);
    }
    table->slots[at] = (uint32_t)index + 1;
}

/* Make room for one more than count; true when everything must be put in again. */
static bool table_grow(struct table *table, size_t count, bool force)
{
    size_t capacity = table->capacity == 0 ? 128 : table->capacity;
    while (capacity < 2 * (count + 1)) {
        capacity *= 2;
    }
    if (capacity == table->capacity && !force) {
        return false;
    }
    free(table->slots);
    table->slots = calloc(capacity, sizeof *table->slots);
    if (table->slots == NULL) {
        abort();
    }
    table->capacity = capacity;
    return true;
}

/* Bytes of a well-formed UTF-8 sequence at p, 0 when there is none. Source: RFC 3629 section 4. */
static size_t utf8_bytes(const unsigned char *p)
{
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    }
    if ((p[0] & 0xf0) == 0xe0) {
        bool second = (p[1] & 0xc0) == 0x80 && (p[0] != 0xe0 || p[1] >= 0xa0) &&
                      (p[0] != 0xed || p[1] <= 0x9f);
        return second && (p[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        bool second = (p[1] & 0xc0) == 0x80 && (p[0] != 0xf0 || p[1] >= 0x90) &&
                      (p[0] != 0xf4 || p[1] <= 0x8f);
        return second && (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
    }
    return 0;
}

size_t stacks_clean_name(const char *name, char out[STACKS_FRAME_BYTES_MAX + 1])
{
    const unsigned char *p = (const unsigned char *)name;
    size_t room =
        strlen(name) > STACKS_FRAME_BYTES_MAX ? STACKS_FRAME_BYTES_MAX - 3 : STACKS_FRAME_BYTES_MAX;
    size_t n = 0;
    while (*p != '\0') {
        size_t bytes = *p < 0x80 ? 1 : utf8_bytes(p);
        size_t kept = bytes == 0 ? 1 : bytes;
        if (n + kept > room) {
            memcpy(out + n, "...", 3);
            n += 3;
            break;
        }
        if (bytes == 0 || *p < 0x20 || *p == 0x7f) {
            out[n] = '?';
        } else if (*p == ';') {
            out[n] = ',';
        } else {
            memcpy(out + n, p, bytes);
        }
        n += kept;
        p += kept;
    }
    if (n == 0) {
        memcpy(out, "[unknown]", 9);
        n = 9;
    }
    out[n] = '\0';
    return n;
}

static uint32_t intern(struct stacks *stacks, const char *name)
{
    char clean[STACKS_FRAME_BYTES_MAX + 1];
    size_t bytes = stacks_clean_name(name, clean);
    uint32_t hash = hash_bytes(clean, bytes);
    struct table *table = &stacks->names_table;
    if (table->capacity > 0) {
        size_t at = hash & (table->capacity - 1);
        for (; table->slots[at] != 0; at = (at + 1) & (table->capacity - 1)) {
            uint32_t i = table->slots[at] - 1;
            if (stacks->name_hashes[i] == hash && strcmp(stacks->names[i], clean) == 0) {
                return i;
            }
        }
    }
    if (table_grow(table, stacks->names_count, false)) {
        for (size_t i = 0; i < stacks->names_count; i++) {
            table_put(table, stacks->name_hashes[i], i);
        }
    }
    size_t hashes_capacity = stacks->names_capacity;
    stacks->name_hashes = grown(stacks->name_hashes, &hashes_capacity, stacks->names_count + 1,
                                sizeof *stacks->name_hashes);
    stacks->names = grown(stacks->names, &stacks->names_capacity, stacks->names_count + 1,
                          sizeof *stacks->names);
    char *kept = strdup(clean);
    if (kept == NULL) {
        abort();
    }
    size_t i = stacks->names_count++;
    stacks->names[i] = kept;
    stacks->name_hashes[i] = hash;
    table_put(table, hash, i);
    return (uint32_t)i;
}

static void reindex(struct stacks *stacks)
{
    if (table_grow(&stacks->table, stacks->count, stacks->table_stale)) {
        for (size_t i = 0; i < stacks->count; i++) {
            table_put(&stacks->table, stacks->entries[i].hash, i);
        }
    }
    stacks->table_stale = false;
}

int stacks_add(struct stacks *stacks, const char *const *frames, size_t depth, int64_t value,
               struct err *err)
{
    if (depth == 0 || depth > STACKS_DEPTH_MAX) {
        return err_set(err, -EINVAL, "a stack of %zu frames: 1 to %d are kept", depth,
                       STACKS_DEPTH_MAX);
    }
    if (value < 0) {
        return err_set(err, -EINVAL, "a stack's value is %" PRId64 ": it counts from 0 up", value);
    }
    if (value > INT64_MAX - stacks->total) {
        return err_set(err, -EOVERFLOW, "the values of the stacks together are too large");
    }
    if (value == 0) {
        return 0;
    }
    uint32_t ids[STACKS_DEPTH_MAX];
    for (size_t i = 0; i < depth; i++) {
        ids[i] = intern(stacks, frames[i]);
    }
    uint32_t hash = hash_bytes(ids, depth * sizeof *ids);
    reindex(stacks);
    size_t mask = stacks->table.capacity - 1;
    for (size_t at = hash & mask; stacks->table.slots[at] != 0; at = (at + 1) & mask) {
        struct entry *e = &stacks->entries[stacks->table.slots[at] - 1];
        if (e->hash == hash && e->depth == depth &&
            memcmp(stacks->frames + e->first, ids, depth * sizeof *ids) == 0) {
            e->value += value;
            stacks->total += value;
            return 0;
        }
    }
    if (stacks->count == STACKS_COUNT_MAX) {
        return err_set(err, -ENOSPC, "more than %d different stacks", STACKS_COUNT_MAX);
    }
    stacks->frames = grown(stacks->frames, &stacks->frames_capacity, stacks->frames_count + depth,
                           sizeof *stacks->frames);
    memcpy(stacks->frames + stacks->frames_count, ids, depth * sizeof *ids);
    stacks->entries =
        grown(stacks->entries, &stacks->capacity, stacks->count + 1, sizeof *stacks->entries);
    stacks->entries[stacks->count] =
        (struct entry){stacks->frames_count, (uint32_t)depth, hash, value};
    table_put(&stacks->table, hash, stacks->count);
    stacks->frames_count += depth;
    stacks->count++;
    stacks->total += value;
    stacks->sorted = false;
    return 0;
}

int stacks_merge(struct stacks *dst, const struct stacks *src, struct err *err)
{
    for (size_t i = 0; i < src->count; i++) {
        const struct entry *e = &src->entries[i];
        const char *frames[STACKS_DEPTH_MAX];
        for (size_t k = 0; k < e->depth; k++) {
            frames[k] = src->names[src->frames[e->first + k]];
        }
        int rc = stacks_add(dst, frames, e->depth, e->value, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int by_frames(const void *a, const void *b, void *arg)
{
    const struct stacks *stacks = arg;
    const struct entry *x = a;
    const struct entry *y = b;
    uint32_t shared = x->depth < y->depth ? x->depth : y->depth;
    for (uint32_t i = 0; i < shared; i++) {
        uint32_t fx = stacks->frames[x->first + i];
        uint32_t fy = stacks->frames[y->first + i];
        if (fx != fy) {
            return strcmp(stacks->names[fx], stacks->names[fy]);
        }
    }
    return (x->depth > y->depth) - (x->depth < y->depth);
}

void stacks_sort(struct stacks *stacks)
{
    if (!stacks->sorted) {
        qsort_r(stacks->entries, stacks->count, sizeof *stacks->entries, by_frames, stacks);
        stacks->sorted = true;
        stacks->table_stale = true;
    }
}

size_t stacks_count(const struct stacks *stacks)
{
    return stacks->count;
}

int64_t stacks_total(const struct stacks *stacks)
{
    return stacks->total;
}

struct stack stacks_at(struct stacks *stacks, size_t i)
{
    stacks_sort(stacks);
    const struct entry *e = &stacks->entries[i];
    return (struct stack){stacks->frames + e->first, e->depth, e->value};
}

const char *stacks_name(const struct stacks *stacks, uint32_t frame)
{
    return stacks->names[frame];
}

size_t stacks_names(const struct stacks *stacks)
{
    return stacks->names_count;
}

void stacks_print_folded(struct stacks *stacks, struct buf *out)
{
    for (size_t i = 0; i < stacks->count; i++) {
        struct stack s = stacks_at(stacks, i);
        for (size_t k = 0; k < s.depth; k++) {
            buf_puts(out, k == 0 ? "" : ";");
            buf_puts(out, stacks->names[s.frames[k]]);
        }
        buf_printf(out, " %" PRId64 "\n", s.value);
    }
}

/* A decimal number from..end; -1 when it is none or above INT64_MAX. */
static int64_t parse_value(const char *from, const char *end)
{
    int64_t value = 0;
    if (from == end) {
        return -1;
    }
    for (; from < end; from++) {
        int digit = *from - '0';
        if (digit < 0 || digit > 9 || value > (INT64_MAX - digit) / 10) {
            return -1;
        }
        value = value * 10 + digit;
    }
    return value;
}

/* line is NUL-terminated at its end and may be written to. */
static int parse_line(struct stacks *stacks, char *line, size_t bytes, struct err *err)
{
    char *space = memrchr(line, ' ', bytes);
    int64_t value = space == NULL ? -1 : parse_value(space + 1, line + bytes);
    if (value < 0) {
        return err_set(err, -EINVAL, "does not end in a space and a count");
    }
    if (memchr(line, '\0', bytes) != NULL) {
        return err_set(err, -EINVAL, "has a NUL byte");
    }
    *space = '\0';
    const char *frames[STACKS_DEPTH_MAX];
    size_t depth = 0;
    for (char *at = line; at != NULL;) {
        if (depth == STACKS_DEPTH_MAX) {
            return err_set(err, -EINVAL, "has more than %d frames", STACKS_DEPTH_MAX);
        }
        frames[depth++] = at;
        at = strchr(at, ';');
        if (at != NULL) {
            *at++ = '\0';
        }
    }
    return stacks_add(stacks, frames, depth, value, err);
}

int stacks_parse_folded(struct stacks *stacks, const char *text, size_t bytes, struct err *err)
{
    struct buf line = BUF_INIT;
    const char *end = text + bytes;
    size_t number = 0;
    int rc = 0;
    while (text < end && rc == 0) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (stop == NULL) {
            stop = end;
        }
        number++;
        buf_clear(&line);
        buf_append(&line, text, (size_t)(stop - text));
        if (line.bytes > 0) {
            rc = parse_line(stacks, line.data, line.bytes, err);
            if (rc != 0) {
                err_prefix(err, rc, "line %zu", number);
            }
        }
        text = stop + 1;
    }
    buf_fini(&line);
    return rc;
}
