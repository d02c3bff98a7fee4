#include "base/pprof.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/buf.h"

/* Fields of the messages. */
enum { PROFILE_SAMPLE_TYPE = 1, PROFILE_SAMPLE = 2, PROFILE_LOCATION = 4, PROFILE_FUNCTION = 5 };
enum { PROFILE_STRING = 6, PROFILE_PERIOD_TYPE = 11, PROFILE_PERIOD = 12 };
enum { VALUE_TYPE = 1, VALUE_UNIT = 2 };
enum { SAMPLE_LOCATIONS = 1, SAMPLE_VALUES = 2 };
enum { LOCATION_ID = 1, LOCATION_LINE = 4, LINE_FUNCTION = 1 };
enum { FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3 };
enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

static void put_varint(struct buf *out, uint64_t value)
{
    unsigned char bytes[10];
    size_t n = 0;
    while (value >= 0x80) {
        bytes[n++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    bytes[n++] = (unsigned char)value;
    buf_append(out, bytes, n);
}

static void put_number(struct buf *out, unsigned field, uint64_t value)
{
    put_varint(out, field << 3 | WIRE_VARINT);
    put_varint(out, value);
}

static void put_bytes(struct buf *out, unsigned field, const void *data, size_t bytes)
{
    put_varint(out, field << 3 | WIRE_BYTES);
    put_varint(out, bytes);
    buf_append(out, data, bytes);
}

static void put_string(struct buf *out, const char *text)
{
    put_bytes(out, PROFILE_STRING, text, strlen(text));
}

static void put_value_type(struct buf *out, unsigned field, uint64_t type, uint64_t unit)
{
    struct buf inner = BUF_INIT;
    put_number(&inner, VALUE_TYPE, type);
    put_number(&inner, VALUE_UNIT, unit);
    put_bytes(out, field, inner.data, inner.bytes);
    buf_fini(&inner);
}

/* The profile as it is inside of gzip. Functions and locations are numbered by first appearance in
 * the sorted stacks, so that the order in which stacks came in leaves no trace. */
static void put_profile(struct buf *out, struct stacks *stacks, const struct pprof_options *options)
{
    enum { STRING_TYPE = 1, STRING_UNIT = 2, STRINGS_BEFORE_NAMES = 3 }; /* 0 is "" */
    struct buf inner = BUF_INIT;
    struct buf packed = BUF_INIT;
    size_t names = stacks_names(stacks);
    uint32_t *ids = calloc(names + 1, sizeof *ids); /* of a name, 0: not met yet */
    uint32_t *order = calloc(names + 1, sizeof *order);
    if (ids == NULL || order == NULL) {
        abort();
    }
    uint32_t met = 0;
    put_value_type(out, PROFILE_SAMPLE_TYPE, STRING_TYPE, STRING_UNIT);
    for (size_t i = 0; i < stacks_count(stacks); i++) {
        struct stack s = stacks_at(stacks, i);
        for (size_t k = 0; k < s.depth; k++) {
            if (ids[s.frames[k]] == 0) {
                order[met] = s.frames[k];
                ids[s.frames[k]] = ++met;
            }
        }
        buf_clear(&inner);
        buf_clear(&packed);
        for (size_t k = s.depth; k-- > 0;) { /* leaf first */
            put_varint(&packed, ids[s.frames[k]]);
        }
        put_bytes(&inner, SAMPLE_LOCATIONS, packed.data, packed.bytes);
        buf_clear(&packed);
        put_varint(&packed, (uint64_t)s.value);
        put_bytes(&inner, SAMPLE_VALUES, packed.data, packed.bytes);
        put_bytes(out, PROFILE_SAMPLE, inner.data, inner.bytes);
    }
    for (uint32_t id = 1; id <= met; id++) {
        buf_clear(&inner);
        buf_clear(&packed);
        put_number(&packed, LINE_FUNCTION, id);
        put_number(&inner, LOCATION_ID, id);
        put_bytes(&inner, LOCATION_LINE, packed.data, packed.bytes);
        put_bytes(out, PROFILE_LOCATION, inner.data, inner.bytes);
    }
    for (uint32_t id = 1; id <= met; id++) {
        buf_clear(&inner);
        put_number(&inner, FUNCTION_ID, id);
        put_number(&inner, FUNCTION_NAME, STRINGS_BEFORE_NAMES + id - 1);
        put_number(&inner, FUNCTION_SYSTEM_NAME, STRINGS_BEFORE_NAMES + id - 1);
        put_bytes(out, PROFILE_FUNCTION, inner.data, inner.bytes);
    }
    put_string(out, "");
    put_string(out, options->type);
    put_string(out, options->unit);
    for (uint32_t i = 0; i < met; i++) {
        put_string(out, stacks_name(stacks, order[i]));
    }
    if (options->period > 0) {
        put_value_type(out, PROFILE_PERIOD_TYPE, STRING_TYPE, STRING_UNIT);
        put_number(out, PROFILE_PERIOD, (uint64_t)options->period);
    }
    free(order);
    free(ids);
    buf_fini(&packed);
    buf_fini(&inner);
}

int pprof_encode(struct stacks *stacks, const struct pprof_options *options,
                 unsigned char **out_data, size_t *out_bytes, struct err *err)
{
    enum { GZIP_WINDOW_BITS = 15 + 16, MEMORY_LEVEL = 8 };
    struct buf profile = BUF_INIT;
    int rc = 0;
    put_profile(&profile, stacks, options);
    if (profile.bytes > UINT_MAX) {
        rc = err_set(err, -EFBIG, "pprof: a profile of %zu bytes is too large", profile.bytes);
        goto out;
    }
    z_stream z = {0};
    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        rc = err_set(err, -ENOMEM, "pprof: out of memory");
        goto out;
    }
    uLong bound = deflateBound(&z, (uLong)profile.bytes);
    unsigned char *data = malloc(bound);
    if (data == NULL) {
        deflateEnd(&z);
        rc = err_set(err, -ENOMEM, "pprof: out of memory");
        goto out;
    }
    /* No deflateSetHeader: zlib then writes time 0 and no name. */
    z.next_in = (unsigned char *)profile.data;
    z.avail_in = (unsigned)profile.bytes;
    z.next_out = data;
    z.avail_out = (unsigned)bound;
    deflate(&z, Z_FINISH); /* ends at once: the output has its bound */
    *out_data = data;
    *out_bytes = z.total_out;
    deflateEnd(&z);
out:
    buf_fini(&profile);
    return rc;
}
