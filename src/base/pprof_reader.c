#include "base/pprof_reader.h"

#include "base/test.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static uint64_t read_varint(struct cursor *c)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(c->at < c->end && shift < 64);
        value |= (uint64_t)(*c->at & 0x7f) << shift;
        if (*c->at++ < 0x80) {
            return value;
        }
    }
}

/* The next field; a number in *value, or a part in *inner. */
static bool read_field(struct cursor *c, unsigned *field, uint64_t *value, struct cursor *inner)
{
    if (c->at == c->end) {
        return false;
    }
    uint64_t tag = read_varint(c);
    *field = (unsigned)(tag >> 3);
    *value = read_varint(c);
    if ((tag & 7) == 2) {
        assert_true(*value <= (uint64_t)(c->end - c->at));
        *inner = (struct cursor){c->at, c->at + *value};
        c->at += *value;
    } else {
        assert_int_equal(tag & 7, 0);
    }
    return true;
}

static void read_pair(struct cursor c, uint64_t pair[2])
{
    unsigned field;
    uint64_t value;
    struct cursor inner;
    while (read_field(&c, &field, &value, &inner)) {
        assert_in_range(field, 1, 2);
        pair[field - 1] = value;
    }
}

static void read_sample(struct pprof_reader *p, struct cursor c)
{
    unsigned field;
    uint64_t value;
    struct cursor inner;
    uint64_t ids[PPROF_READER_MAX];
    size_t depth = 0;
    int64_t amount = -1;
    while (read_field(&c, &field, &value, &inner)) {
        if (field == 1) {
            while (inner.at < inner.end) {
                assert_true(depth < PPROF_READER_MAX);
                ids[depth++] = read_varint(&inner);
            }
        } else {
            assert_int_equal(field, 2);
            amount = (int64_t)read_varint(&inner);
            assert_ptr_equal(inner.at, inner.end);
        }
    }
    const char *frames[PPROF_READER_MAX];
    for (size_t i = 0; i < depth; i++) { /* leaf first in the file */
        assert_in_range(ids[depth - 1 - i], 1, PPROF_READER_MAX - 1);
        uint64_t function = p->location_function[ids[depth - 1 - i]];
        assert_in_range(function, 1, PPROF_READER_MAX - 1);
        assert_in_range(p->function_name[function], 1, p->strings_count - 1);
        frames[i] = p->strings[p->function_name[function]];
        assert_string_not_equal(frames[i], "");
    }
    assert_int_equal(stacks_add(p->stacks, frames, depth, amount, NULL), 0);
}

/* Two passes, as samples come before the tables they point into. */
static void read_pass(struct pprof_reader *p, const unsigned char *data, size_t bytes, int pass)
{
    struct cursor c = {data, data + bytes};
    struct cursor inner;
    unsigned field;
    uint64_t value;
    while (read_field(&c, &field, &value, &inner)) {
        if (pass == 2) {
            if (field == 2) {
                read_sample(p, inner);
            }
            continue;
        }
        uint64_t id = 0;
        uint64_t function = 0;
        uint64_t names[2] = {0, 0};
        unsigned f;
        uint64_t v;
        struct cursor line;
        switch (field) {
        case 1:
            read_pair(inner, p->type);
            break;
        case 2:
            break;
        case 4:
            while (read_field(&inner, &f, &v, &line)) {
                if (f == 1) {
                    id = v;
                } else {
                    unsigned lf;
                    struct cursor none;
                    assert_int_equal(f, 4);
                    assert_true(read_field(&line, &lf, &function, &none));
                    assert_int_equal(lf, 1);
                }
            }
            assert_in_range(id, 1, PPROF_READER_MAX - 1);
            p->location_function[id] = function;
            break;
        case 5:
            while (read_field(&inner, &f, &v, &line)) {
                if (f == 1) {
                    id = v;
                } else {
                    assert_in_range(f, 2, 3);
                    names[f - 2] = v;
                }
            }
            assert_in_range(id, 1, PPROF_READER_MAX - 1);
            assert_int_equal(names[0], names[1]);
            p->function_name[id] = names[0];
            break;
        case 6:
            assert_true(p->strings_count < PPROF_READER_MAX);
            assert_true(value < PPROF_READER_NAME_BYTES);
            memcpy(p->strings[p->strings_count++], inner.at, value);
            break;
        case 9:
            p->time_nanos = value;
            break;
        case 11:
            read_pair(inner, p->period_type);
            break;
        case 12:
            p->period = value;
            break;
        default:
            fail_msg("field %u is not one we write", field);
        }
    }
}

void pprof_reader_read(struct pprof_reader *p, const unsigned char *data, size_t bytes)
{
    unsigned char *plain = malloc(1 << 20);
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data,
                  .avail_in = (unsigned)bytes,
                  .next_out = plain,
                  .avail_out = 1 << 20};
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    memset(p, 0, sizeof *p);
    p->stacks = stacks_new();
    read_pass(p, plain, z.total_out, 1);
    read_pass(p, plain, z.total_out, 2);
    inflateEnd(&z);
    free(plain);
}
