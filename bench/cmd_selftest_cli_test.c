#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"

static const char *program, *driver;

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
    const char *const wrong[][2] = {{"--plant", "rose"},
                                    {"--seed", "x"},
                                    {"--seed", "-1"},
                                    {"--nonsense", NULL},
                                    {"extra", NULL}};
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

/* A checkout and a meson that builds nothing: every "planted" program is the plain one, so the
 * laboratory misses what it must find. */
static void plant_that_is_not_found_exits_6_and_is_recorded(void **state)
{
    (void)state;
    static const char script[] =
        "cd \"$1\"; mkdir -p src/base bin; touch src/base/plant.h;"
        "printf '#!/bin/sh\\nexit 0\\n' > bin/meson; chmod +x bin/meson;"
        "for n in none-claim instructions-claim; do"
        " mkdir -p builds/$n/src; touch builds/$n/build.ninja;"
        " cp \"$2\" builds/$n/src/codeq-drive; done;"
        "PATH=\"$PWD/bin:$PATH\" exec \"$3\" selftest --plant instructions --counts-only"
        " --builds builds --record record.json";
    char dir[] = "/tmp/selftest-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    setenv("XDG_CACHE_HOME", dir, 1);
    const char *argv[] = {"sh", "-euc", script, "sh", dir, driver, program, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    char path[64];
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 120 * NS_PER_SEC, &out,
                         &errors, NULL);
    if (code == 2 && strstr(errors, "built with a sanitizer") != NULL) {
        remove_tree(dir); /* refused by name, as it should be; the plain suite has the rest */
        free(out);
        free(errors);
        return;
    }
    if (code != 6 || strstr(out, "ok   counts, A against itself") == NULL ||
        strstr(out, "FAIL counts, planted instructions") == NULL ||
        strstr(out, "not found: instructions_per_op is not worse") == NULL ||
        strstr(out, "; machine ") == NULL ||
        strstr(out, "2 checks, 1 failed: the laboratory cannot be trusted") == NULL) {
        fail_msg("exit %d: %s%s", code, out, errors);
    }
    free(out);
    free(errors);
    snprintf(path, sizeof path, "%s/record.json", dir);
    struct json *record = json_parse_file(path, 65536, NULL);
    assert_non_null(record);
    assert_false(json_bool(json_get(record, "trusted"), true));
    assert_string_equal(json_string(json_get(record, "planted_in"), ""), "claim");
    json_free(record);
    remove_tree(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outside_a_checkout_it_says_what_it_needs),
        cmocka_unit_test(wrong_options_are_usage_errors),
        cmocka_unit_test(help_names_its_exit_codes),
        cmocka_unit_test(plant_that_is_not_found_exits_6_and_is_recorded),
    };
    if (argc != 3) {
        fputs("usage: cmd_selftest_cli_test CODEQ-BENCH CODEQ-DRIVE\n", stderr);
        return 2;
    }
    program = realpath(argv[1], NULL); /* the tests run elsewhere */
    driver = realpath(argv[2], NULL);
    if (program == NULL || driver == NULL) {
        perror(argv[1]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
