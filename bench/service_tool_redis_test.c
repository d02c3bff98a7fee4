/* `codeq-bench load --tool` as a user calls it: codeqd, and Redis behind it, under Valgrind while a
 * light load drives them. Exits 77 where Valgrind is not installed. argv: codeq-bench, codeqd. */
#include "base/test.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "profile_table.h"
#include "result.h"

static const char *bench;
static const char *codeqd;
static char folder[64];

static const char scenario[] = "{\"schema\":\"codeq-lab.scenario/"
                               "1\",\"id\":\"light\",\"rev\":1,\"duration_ms\":1000,\"roles\":[{"
                               "\"role\":\"producer\",\"concurrency\":1,\"think_ms\":5},"
                               "{\"role\":\"worker\",\"concurrency\":1,\"idle_ms\":5}]}";

static int setup(void **state)
{
    (void)state;
    char path[96];
    strcpy(folder, "/tmp/codeq-tool-test-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/light.json", folder);
    return result_write_file(path, scenario, sizeof scenario - 1, NULL);
}

static int teardown(void **state)
{
    (void)state;
    return remove_tree(folder);
}

static int run(const char *const *argv, char **out, char **errors)
{
    struct err err = {""};
    const struct child_options options = {.argv = argv, .dir = folder, .cpu = -1};
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 200 * NS_PER_SEC, out,
                         errors, &err);
    if (code < 0) {
        fail_msg("%s", err.text);
    }
    return code;
}

static double number(const struct json *json, const char *tool, const char *name)
{
    return json_number(json_get(json_get(json, tool), name), -1);
}

static void assert_between(double value, double low, double high)
{
    if (!(value >= low && value <= high)) {
        fail_msg("%g is not in %g..%g", value, low, high);
    }
}

static bool has_function(const char *dir, const char *name)
{
    struct profile_table table;
    struct err err = {""};
    if (profile_table_read(&table, PROFILE_TABLE_FUNCTIONS, dir, &err) != 0) {
        fail_msg("%s", err.text);
    }
    bool found = false;
    for (size_t i = 0; i < table.count; i++) {
        found = found || (strcmp(table.rows[i].text[FUNCTION_NAME], name) == 0 &&
                          table.rows[i].value[FUNCTION_INCLUSIVE] > 0);
    }
    profile_table_fini(&table);
    return found;
}

static void each_tool_leaves_its_profile_and_figures_in_the_set(void **state)
{
    (void)state;
    const char *const argv[] = {bench,        "load",   "--codeqd",     codeqd,   "--out",
                                "sets",       "--tool", "massif",       "--tool", "callgrind",
                                "--duration", "1s",     "./light.json", NULL};
    char *out = NULL;
    char *errors = NULL;
    int code = 4;
    for (int i = 0; i < 5 && code == 4; i++) { /* void: a machine that is busy elsewhere */
        free(out);
        free(errors);
        code = run(argv, &out, &errors);
    }
    if (code != 0) {
        fail_msg("exit %d: %s%s", code, out, errors);
    }
    free(errors);
    char sets[96], set[RESULT_PATH_MAX], dir[RESULT_PATH_MAX + 64], path[RESULT_PATH_MAX + 96];
    struct err err = {""};
    snprintf(sets, sizeof sets, "%s/sets", folder);
    if (result_newest(sets, set, &err) != 0) {
        fail_msg("%s", err.text);
    }
    snprintf(dir, sizeof dir, "%s/light", set);
    snprintf(path, sizeof path, "%s/service.json", dir);
    struct json *json = json_parse_file(path, 65536, &err);
    if (json == NULL) {
        fail_msg("%s: %s", err.text, out);
    }
    double ops = number(json, "callgrind.codeqd", "ops");
    if (!(ops > 10)) {
        fail_msg("%s", out);
    }
    free(out);
    /* A task is three requests at least: create, claim, result. */
    assert_between(number(json, "callgrind.codeqd", "requests"), 3 * ops - 3, 1e6);
    assert_between(number(json, "callgrind.codeqd", "instructions") / ops, 5e3, 1e7);
    double redis_ops = number(json, "callgrind.redis", "ops");
    double redis = number(json, "callgrind.redis", "instructions") / redis_ops;
    assert_between(redis, 5e3, 1e7);
    assert_between(number(json, "callgrind.redis", "script_instructions") / redis_ops, 1e3, redis);
    assert_between(number(json, "massif.codeqd", "heap_peak_bytes"), 1e4, 1e9);
    json_free(json);
    assert_true(has_function(dir, "on_prepare"));
    assert_false(has_function(dir, "config_load")); /* the start is not counted */
    snprintf(path, sizeof path, "%s/redis", dir);
    assert_true(has_function(path, "processCommand"));
    const char *const verify[] = {bench, "verify", set, NULL};
    assert_int_equal(run(verify, &out, &errors), 0);
    free(out);
    free(errors);
}

static void wrong_tools_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *args[6];
        const char *text;
    } cases[] = {
        {{"load", "--tool", "helgrind", "./light.json"}, "'helgrind' is none of"},
        {{"load", "--tool", "dhat", "--no-result", "./light.json"}, "--tool and --no-result"},
        {{"run", "--tool", "dhat", "--list-nothing"}, "list-nothing"},
        {{"run", "--tool", "massif"}, "none of these scenarios loads the service"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *argv[8] = {bench};
        for (int a = 0; cases[i].args[a] != NULL; a++) {
            argv[a + 1] = cases[i].args[a];
        }
        char *out = NULL;
        char *errors = NULL;
        assert_int_equal(run(argv, &out, &errors), 2);
        if (strstr(errors, cases[i].text) == NULL) {
            fail_msg("'%s' is not in: %s", cases[i].text, errors);
        }
        free(out);
        free(errors);
    }
}

int main(int argc, char **argv)
{
    assert(argc == 3);
    bench = realpath(argv[1], NULL);
    codeqd = realpath(argv[2], NULL);
    if (system("valgrind --version >/dev/null 2>&1 && vgdb --help >/dev/null 2>&1") != 0) {
        fputs("skipped: valgrind is not installed\n", stderr);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_tool_leaves_its_profile_and_figures_in_the_set, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wrong_tools_are_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
