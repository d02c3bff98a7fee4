#include "profile_massif.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "profile_text.h"

struct reader {
    struct buf *out;
    const char *cursor;
    const char *end;
    struct profile_line line;
    const char *const *local_paths;
    int64_t peak_bytes;
    int64_t peak_all_bytes;
    int64_t largest_bytes;
    int64_t heap_of_largest_bytes;
    bool has_peak;
    struct err *err;
};

static int bad(const struct reader *r, const char *what)
{
    return err_set(r->err, -EBADMSG, "line %" PRId64 ": %s", r->line.number, what);
}

/* The next line that is no comment; "" at the end of the text with false. */
static bool next(struct reader *r)
{
    while (profile_next_line(&r->cursor, r->end, &r->line)) {
        if (r->line.bytes > 0 && r->line.text[0] != '#') {
            return true;
        }
    }
    r->line.number++;
    return false;
}

static bool starts(const struct reader *r, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return r->line.bytes >= bytes && memcmp(r->line.text, prefix, bytes) == 0;
}

static int read_field(struct reader *r, const char *prefix, int64_t *out_value)
{
    size_t bytes = strlen(prefix);
    if (!next(r) || !starts(r, prefix) ||
        !profile_number(r->line.text + bytes, r->line.bytes - bytes, out_value)) {
        return err_set(r->err, -EBADMSG, "line %" PRId64 ": not %sNUMBER", r->line.number, prefix);
    }
    buf_printf(r->out, "%s%" PRId64 "\n", prefix, *out_value);
    return 0;
}

/* " 0x1092E9: leaf (src/x.c:5)" -> " 0x0: leaf (x.c:5)"; anything else as it is. */
static void put_details(struct reader *r, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    const char *colon = memchr(text, ':', bytes);
    if (bytes < 4 || text[0] != ' ' || colon == NULL ||
        !profile_name_is_address(text + 1, (size_t)(colon - text) - 1)) {
        buf_append(r->out, text, bytes);
        return;
    }
    buf_puts(r->out, " 0x0");
    const char *open = memrchr(colon, '(', (size_t)(end - colon));
    if (open == NULL || end[-1] != ')') {
        buf_append(r->out, colon, (size_t)(end - colon));
        return;
    }
    buf_append(r->out, colon, (size_t)(open - colon) + 1);
    const char *path = open + 1;
    size_t path_bytes = (size_t)(end - 1 - path);
    if (path_bytes > 3 && memcmp(path, "in ", 3) == 0) {
        buf_puts(r->out, "in ");
        const char *slash = memrchr(path, '/', path_bytes);
        path = slash != NULL ? slash + 1 : path + 3;
        path_bytes = (size_t)(end - 1 - path);
        buf_append(r->out, path, path_bytes);
    } else {
        profile_path_plain(r->out, path, path_bytes, r->local_paths);
    }
    buf_puts(r->out, ")");
}

/* A heap tree, in pre-order: each line says how many children follow. No recursion: the depth is
 * the file's word. */
static int read_tree(struct reader *r, int64_t heap_bytes)
{
    int64_t left[MASSIF_DEPTH_MAX]; /* children still to come, by depth */
    int64_t bytes_left[MASSIF_DEPTH_MAX]; /* what they may still hold */
    size_t depth = 0;
    left[0] = 1;
    bytes_left[0] = heap_bytes;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                return 0;
            }
            depth--;
        }
        left[depth]--;
        if (!next(r)) {
            return bad(r, "the file ends inside a heap tree");
        }
        size_t at = 0;
        while (at < r->line.bytes && r->line.text[at] == ' ') {
            at++;
        }
        const char *end = r->line.text + r->line.bytes;
        const char *node = r->line.text + at;
        const char *colon = memchr(node, ':', (size_t)(end - node));
        int64_t children;
        int64_t node_bytes;
        if (at != depth || node == end || *node != 'n' || colon == NULL || colon + 1 >= end ||
            !profile_number(node + 1, (size_t)(colon - node) - 1, &children)) {
            return bad(r, "not a node of the heap tree at its depth");
        }
        const char *number = colon + 2;
        const char *stop = number;
        while (stop < end && *stop >= '0' && *stop <= '9') {
            stop++;
        }
        if (colon[1] != ' ' || !profile_number(number, (size_t)(stop - number), &node_bytes)) {
            return bad(r, "a node without its bytes");
        }
        if (node_bytes > bytes_left[depth]) {
            return bad(r, "the nodes hold more bytes than the node above");
        }
        bytes_left[depth] -= node_bytes;
        for (size_t i = 0; i < depth; i++) {
            buf_puts(r->out, " ");
        }
        buf_printf(r->out, "n%" PRId64 ": %" PRId64, children, node_bytes);
        put_details(r, stop, (size_t)(end - stop));
        buf_puts(r->out, "\n");
        if (children > 0) {
            if (++depth == MASSIF_DEPTH_MAX) {
                return err_set(r->err, -ERANGE, "line %" PRId64 ": a heap tree deeper than %d",
                               r->line.number, MASSIF_DEPTH_MAX);
            }
            left[depth] = children;
            bytes_left[depth] = node_bytes;
        }
    }
}

static int read_snapshot(struct reader *r, int64_t index)
{
    int64_t number;
    size_t key = strlen("snapshot=");
    if (!starts(r, "snapshot=") ||
        !profile_number(r->line.text + key, r->line.bytes - key, &number) || number != index) {
        return bad(r, "not the next snapshot=NUMBER");
    }
    buf_printf(r->out, "#-----------\nsnapshot=%" PRId64 "\n#-----------\n", number);
    int64_t value[4];
    static const char *const fields[] = {
        "time=", "mem_heap_B=", "mem_heap_extra_B=", "mem_stacks_B="};
    for (int i = 0; i < 4; i++) {
        int code = read_field(r, fields[i], &value[i]);
        if (code != 0) {
            return code;
        }
    }
    int64_t heap = value[1];
    /* Massif's peak is of all it counts, the allocator's own bytes and stacks included. */
    int64_t all;
    if (__builtin_add_overflow(heap, value[2], &all) ||
        __builtin_add_overflow(all, value[3], &all)) {
        return bad(r, "the bytes are out of range");
    }
    if (!next(r) || !starts(r, "heap_tree=")) {
        return bad(r, "not heap_tree=KIND");
    }
    size_t head = strlen("heap_tree=");
    const char *kind = r->line.text + head;
    size_t kind_bytes = r->line.bytes - head;
    bool is_peak = kind_bytes == 4 && memcmp(kind, "peak", 4) == 0;
    bool is_empty = kind_bytes == 5 && memcmp(kind, "empty", 5) == 0;
    bool is_detailed = kind_bytes == 8 && memcmp(kind, "detailed", 8) == 0;
    if (!is_peak && !is_empty && !is_detailed) {
        return bad(r, "heap_tree= is none of empty, detailed, peak");
    }
    buf_printf(r->out, "heap_tree=%s\n", is_peak ? "peak" : is_empty ? "empty" : "detailed");
    if (all > r->largest_bytes) {
        r->largest_bytes = all;
        r->heap_of_largest_bytes = heap;
    }
    if (is_peak) {
        if (r->has_peak) {
            return bad(r, "a second peak");
        }
        r->has_peak = true;
        r->peak_bytes = heap;
        r->peak_all_bytes = all;
    }
    return is_empty ? 0 : read_tree(r, heap);
}

static int read_head(struct reader *r)
{
    static const char *const keys[] = {"desc:", "cmd:", "time_unit:"};
    int key = 0;
    while (key < 3) {
        if (!next(r)) {
            return bad(r, "the file ends in its head: not a massif file");
        }
        if (key == 0 && !starts(r, "desc:")) {
            key = 1; /* any number of desc lines */
        }
        if (!starts(r, keys[key])) {
            return err_set(r->err, -EBADMSG, "line %" PRId64 ": not '%s': not a massif file",
                           r->line.number, keys[key]);
        }
        if (key == 2) {
            size_t bytes = strlen(keys[2]);
            const char *unit = r->line.text + bytes;
            size_t unit_bytes = r->line.bytes - bytes;
            while (unit_bytes > 0 && *unit == ' ') {
                unit++;
                unit_bytes--;
            }
            buf_printf(r->out, "desc: canonical\ncmd: measured program\ntime_unit: %.*s\n",
                       unit_bytes < 16 ? (int)unit_bytes : 16, unit);
        }
        key += key > 0;
    }
    return 0;
}

int massif_canonical(struct buf *out, const char *text, size_t bytes,
                     const char *const *local_paths, int64_t *out_peak_bytes, struct err *err)
{
    size_t start = out->bytes;
    struct reader r = {
        .out = out,
        .cursor = text,
        .end = text + bytes,
        .local_paths = local_paths,
        .err = err,
    };
    int64_t snapshots = 0;
    int code = read_head(&r);
    while (code == 0 && next(&r)) {
        if (snapshots == MASSIF_SNAPSHOTS_MAX) {
            code = err_set(err, -ERANGE, "line %" PRId64 ": more than %d snapshots", r.line.number,
                           MASSIF_SNAPSHOTS_MAX);
        } else {
            code = read_snapshot(&r, snapshots++);
        }
    }
    if (code == 0 && snapshots == 0) {
        code = bad(&r, "no snapshot");
    }
    if (code == 0 && r.has_peak && r.peak_all_bytes < r.largest_bytes) {
        code = bad(&r, "a snapshot is larger than the peak");
    }
    if (code != 0) {
        out->bytes = start;
        if (out->data != NULL) {
            out->data[start] = '\0';
        }
        return code;
    }
    *out_peak_bytes = r.has_peak ? r.peak_bytes : r.heap_of_largest_bytes;
    return 0;
}
