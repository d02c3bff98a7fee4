#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"

/* argv of the test: the library, then the program. */
static const char *library;
static const char *fixture;

static int run(const char *rounds, bool preload, char **out)
{
    struct buf load = BUF_INIT;
    buf_printf(&load, "LD_PRELOAD=%s", library);
    const char *const argv[] = {fixture, rounds, NULL};
    const char *const envp[] = {"PATH=/usr/bin:/bin", preload ? load.data : NULL, NULL};
    struct child_options options = {.argv = argv, .envp = envp, .cpu = -1};
    struct err err = {""};
    int code =
        child_run(&options, clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC, out, NULL, &err);
    buf_fini(&load);
    return code;
}

static void every_form_is_counted_with_the_bytes_asked_for(void **state)
{
    (void)state;
    char *out = NULL;
    assert_int_equal(run("1", true, &out), 0);
    assert_string_equal(out, "allocs 8 frees 7 bytes 1330 live_blocks 1 live_bytes 16 peak 1000\n");
    free(out);
}

static void counts_grow_in_exact_proportion(void **state)
{
    (void)state;
    char *out = NULL;
    assert_int_equal(run("1000", true, &out), 0);
    assert_string_equal(out, "allocs 8000 frees 7000 bytes 1330000 live_blocks 1000 live_bytes "
                             "16000 peak 16984\n");
    free(out);
}

static void program_without_the_library_sees_no_counter(void **state)
{
    (void)state;
    char *out = NULL;
    assert_int_equal(run("1", false, &out), 3);
    assert_string_equal(out, "not counted\n");
    free(out);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_counted_with_the_bytes_asked_for),
        cmocka_unit_test(counts_grow_in_exact_proportion),
        cmocka_unit_test(program_without_the_library_sees_no_counter),
    };
    if (argc != 3) {
        fprintf(stderr, "usage: alloc_count_cli_test LIBRARY PROGRAM\n");
        return 2;
    }
    library = argv[1];
    fixture = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
