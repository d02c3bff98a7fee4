#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/pprof.h"
#include "base/pprof_reader.h"

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
    static struct pprof_reader p;
    pprof_reader_read(&p, data, bytes);
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
    static struct pprof_reader p;
    pprof_reader_read(&p, data, bytes);
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
    static struct pprof_reader p;
    pprof_reader_read(&p, data[0], bytes[0]);
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
    static struct pprof_reader p;
    pprof_reader_read(&p, data, bytes);
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
