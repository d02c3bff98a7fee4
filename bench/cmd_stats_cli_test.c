#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"

static const char *program;

/* stdin goes through a shell; input must hold no single quote. */
static int run(const char *input, const char *arguments, char **out, char **errors)
{
    char line[2048];
    snprintf(line, sizeof line, "printf '%%s' '%s' | \"$0\" stats %s", input, arguments);
    const char *argv[] = {"sh", "-c", line, program, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    return child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, out, errors,
                     NULL);
}

static void vectors_come_in_and_an_object_goes_out(void **state)
{
    (void)state;
    char *out = NULL;
    char *errors = NULL;
    assert_int_equal(
        run("{\"yes_a\":3,\"no_a\":1,\"yes_b\":1,\"no_b\":3}", "fisher", &out, &errors), 0);
    const char start[] = "{\n  \"schema\": \"codeq-lab.stats/1\",\n  \"name\": \"fisher\",\n"
                         "  \"p_two_sided\": ";
    assert_memory_equal(out, start, sizeof start - 1);
    double p = strtod(out + sizeof start - 1, NULL);
    assert_true(p > 0.485714285 && p < 0.485714286);
    assert_string_equal(out + strlen(out) - 3, "\n}\n");
    assert_string_equal(errors, "");
    free(out);
    free(errors);
}

static void wrong_input_is_named_and_prints_nothing(void **state)
{
    (void)state;
    const char *const wrong[][3] = {
        {"{}", "t-test", "codeq-bench: stats: t-test: no statistic of this name"},
        {"{\"p\":[2]}", "holm", "codeq-bench: stats: holm: p value 1"},
        {"{\"p\":[NaN]}", "holm", "codeq-bench: stats: stdin: "},
        {"", "holm", "codeq-bench: stats: stdin: "},
        {"{}", "", "codeq-bench: stats: give one name"},
        {"{}", "holm holm", "codeq-bench: stats: give one name"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *out = NULL;
        char *errors = NULL;
        assert_int_equal(run(wrong[i][0], wrong[i][1], &out, &errors), 2);
        assert_string_equal(out, "");
        if (strncmp(errors, wrong[i][2], strlen(wrong[i][2])) != 0) {
            fail_msg("said \"%s\", expected \"%s\"", errors, wrong[i][2]);
        }
        free(out);
        free(errors);
    }
}

static void help_lists_every_name(void **state)
{
    (void)state;
    char *out = NULL;
    assert_int_equal(run("", "--help", &out, NULL), 0);
    const char *const names[] = {"wilcoxon", "hodges-lehmann", "mann-whitney", "trend-steps"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_non_null(strstr(out, names[i]));
    }
    free(out);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_come_in_and_an_object_goes_out),
        cmocka_unit_test(wrong_input_is_named_and_prints_nothing),
        cmocka_unit_test(help_lists_every_name),
    };
    if (argc != 2) {
        fputs("usage: cmd_stats_cli_test CODEQ-BENCH\n", stderr);
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
