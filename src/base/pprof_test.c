#include "base/test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/pprof.h"

/* A reader of its own: just enough protobuf for profile.proto, sharing nothing with the writer. */
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

enum { STRINGS_MAX = 64 };

struct read_profile {
    char strings[STRINGS_MAX][1100];
    size_t strings_count;
    uint64_t function_name[STRINGS_MAX]; /* by function id */
    uint64_t location_function[STRINGS_MAX]; /* by location id */
    uint64_t type[2];
    uint64_t period_type[2];
    uint64_t period;
    uint64_t time_nanos;
    struct stacks *stacks;
};

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

static void read_sample(struct read_profile *p, struct cursor c)
{
    unsigned field;
    uint64_t value;
    struct cursor inner;
    uint64_t ids[STRINGS_MAX];
    size_t depth = 0;
    int64_t amount = -1;
    while (read_field(&c, &field, &value, &inner)) {
        if (field == 1) {
            while (inner.at < inner.end) {
                ids[depth++] = read_varint(&inner);
            }
        } else {
            assert_int_equal(field, 2);
            amount = (int64_t)read_varint(&inner);
            assert_ptr_equal(inner.at, inner.end);
        }
    }
    const char *frames[STRINGS_MAX];
    for (size_t i = 0; i < depth; i++) { /* leaf first in the file */
        uint64_t function = p->location_function[ids[depth - 1 - i]];
        frames[i] = p->strings[p->function_name[function]];
        assert_string_not_equal(frames[i], "");
    }
    assert_int_equal(stacks_add(p->stacks, frames, depth, amount, NULL), 0);
}

/* Two passes, as samples come before the tables they point into. */
static void read_pass(struct read_profile *p, const unsigned char *data, size_t bytes, int pass)
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
            assert_in_range(id, 1, STRINGS_MAX - 1);
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
            assert_in_range(id, 1, STRINGS_MAX - 1);
            assert_int_equal(names[0], names[1]);
            p->function_name[id] = names[0];
            break;
        case 6:
            assert_true(p->strings_count < STRINGS_MAX);
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

static void read_gzip(struct read_profile *p, const unsigned char *data, size_t bytes)
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

static const char folded[] = "all;\xc3\xbc<\"&> 3\nall;a 1\nall;a;b 200\nall;a;b;a 70000\n"
                             "other 9007199254740993\n";

static struct stacks *parsed(const char *text)
{
    struct stacks *s = stacks_new();
    assert_int_equal(stacks_parse_folded(s, text, strlen(text), NULL), 0);
    return s;
}

static void an_independent_reader_finds_the_same_stacks(void **state)
{
    (void)state;
    struct stacks *s = parsed(folded);
    const struct pprof_options options = {"instructions", "count", 0};
    unsigned char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(pprof_encode(s, &options, &data, &bytes, NULL), 0);
    static struct read_profile p;
    read_gzip(&p, data, bytes);
    assert_string_equal(p.strings[0], "");
    assert_string_equal(p.strings[p.type[0]], "instructions");
    assert_string_equal(p.strings[p.type[1]], "count");
    assert_int_equal(p.period, 0);
    struct buf a = BUF_INIT;
    struct buf b = BUF_INIT;
    stacks_print_folded(s, &a);
    stacks_print_folded(p.stacks, &b);
    assert_string_equal(a.data, b.data);
    assert_int_equal(stacks_total(s), stacks_total(p.stacks));
    buf_fini(&a);
    buf_fini(&b);
    stacks_free(p.stacks);
    stacks_free(s);
    free(data);
}

static void the_period_of_a_sampled_profile_is_written(void **state)
{
    (void)state;
    struct stacks *s = parsed("a;b 5\n");
    const struct pprof_options options = {"cpu", "nanoseconds", 10101010};
    unsigned char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(pprof_encode(s, &options, &data, &bytes, NULL), 0);
    static struct read_profile p;
    read_gzip(&p, data, bytes);
    assert_int_equal(p.period, 10101010);
    assert_string_equal(p.strings[p.period_type[0]], "cpu");
    assert_string_equal(p.strings[p.period_type[1]], "nanoseconds");
    stacks_free(p.stacks);
    stacks_free(s);
    free(data);
}

static void equal_sets_give_equal_bytes_and_no_time(void **state)
{
    (void)state;
    const struct pprof_options options = {"cpu", "count", 0};
    struct stacks *s[2] = {parsed("m;a 1\nm;b 2\nz;a 3\n"), parsed("z;a 1\nm;b 2\nm;a 1\nz;a 2\n")};
    unsigned char *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pprof_encode(s[i], &options, &data[i], &bytes[i], NULL), 0);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(data[0], data[1], bytes[0]);
    assert_memory_equal(data[0] + 4, "\0\0\0\0", 4); /* gzip's time; RFC 1952 section 2.3 */
    static struct read_profile p;
    read_gzip(&p, data[0], bytes[0]);
    assert_int_equal(p.time_nanos, 0);
    stacks_free(p.stacks);
    for (int i = 0; i < 2; i++) {
        stacks_free(s[i]);
        free(data[i]);
    }
}

static void an_empty_set_is_a_valid_profile(void **state)
{
    (void)state;
    struct stacks *s = stacks_new();
    const struct pprof_options options = {"cpu", "count", 0};
    unsigned char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(pprof_encode(s, &options, &data, &bytes, NULL), 0);
    static struct read_profile p;
    read_gzip(&p, data, bytes);
    assert_int_equal(stacks_count(p.stacks), 0);
    assert_int_equal(p.strings_count, 3);
    stacks_free(p.stacks);
    stacks_free(s);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_independent_reader_finds_the_same_stacks),
        cmocka_unit_test(the_period_of_a_sampled_profile_is_written),
        cmocka_unit_test(equal_sets_give_equal_bytes_and_no_time),
        cmocka_unit_test(an_empty_set_is_a_valid_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
