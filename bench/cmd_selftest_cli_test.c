#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"

static const char *program;

static int run(const char *dir, const char *option, const char *value, char **out, char **errors)
{
    const char *argv[] = {program, "selftest", option, value, NULL};
    struct child_options options = {.argv = argv, .dir = dir, .cpu = -1};
    return child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, out, errors,
                     NULL);
}

static void outside_a_checkout_it_says_what_it_needs(void **state)
{
    (void)state;
    char *out = NULL;
    char *errors = NULL;
    assert_int_equal(run("/", NULL, NULL, &out, &errors), 2);
    assert_string_equal(out, "");
    assert_non_null(strstr(errors, "codeq-bench: selftest: "));
    assert_non_null(strstr(errors, "run it in one"));
    free(out);
    free(errors);
}

static void wrong_options_are_usage_errors(void **state)
{
    (void)state;
    const char *const wrong[][2] = {
        {"--seed", "x"}, {"--seed", "-1"}, {"--nonsense", NULL}, {"extra", NULL}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *out = NULL;
        char *errors = NULL;
        assert_int_equal(run("/", wrong[i][0], wrong[i][1], &out, &errors), 2);
        assert_string_equal(out, "");
        assert_string_not_equal(errors, "");
        free(out);
        free(errors);
    }
}

static void help_names_its_exit_codes(void **state)
{
    (void)state;
    char *out = NULL;
    assert_int_equal(run("/", "--help", NULL, &out, NULL), 0);
    assert_non_null(strstr(out, "exit codes: 0 trust it, 6 do not"));
    free(out);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outside_a_checkout_it_says_what_it_needs),
        cmocka_unit_test(wrong_options_are_usage_errors),
        cmocka_unit_test(help_names_its_exit_codes),
    };
    if (argc != 2) {
        fputs("usage: cmd_selftest_cli_test CODEQ-BENCH\n", stderr);
        return 2;
    }
    program = realpath(argv[1], NULL); /* the tests run elsewhere */
    if (program == NULL) {
        perror(argv[1]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
