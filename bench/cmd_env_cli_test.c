/* argv[1]: codeq-bench. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"

static const char *program;
static char root[] = "/tmp/env-cli-test-XXXXXX";

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void write_set(const char *name, const char *env8, const char *env)
{
    char dir[128];
    char manifest[256];
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    assert_int_equal(mkdir(dir, 0755), 0);
    snprintf(manifest, sizeof manifest,
             "{\"schema\":\"codeq-lab.set/1\",\"commit\":\"%040d\",\"env8\":\"%s\"}", 1, env8);
    write_file(dir, "manifest.json", manifest);
    write_file(dir, "env.json", env);
}

static int make_sets(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    write_set("a", "aaaaaaaa",
              "{\"schema\":\"codeq-lab.env/1\",\"identity\":{\"arch\":\"x86_64\",\"cpus\":\"2\","
              "\"gone\":\"1\"},\"context\":{\"load\":\"1\"}}");
    write_set("b", "bbbbbbbb",
              "{\"schema\":\"codeq-lab.env/1\",\"identity\":{\"arch\":\"x86_64\",\"cpus\":\"4\","
              "\"new\":\"2\"},\"context\":{\"load\":\"3\"}}");
    write_set("c", "aaaaaaaa",
              "{\"schema\":\"codeq-lab.env/1\",\"identity\":{\"arch\":\"x86_64\",\"cpus\":\"2\","
              "\"gone\":\"1\"},\"context\":{\"load\":\"9\"}}");
    write_set("newer", "aaaaaaaa", "{\"schema\":\"codeq-lab.env/2\"}");
    write_set("broken", "aaaaaaaa", "{\"schema\":\"codeq-lab.env/1\",\n\"identity\":{");
    return 0;
}

static int drop_sets(void **state)
{
    (void)state;
    return remove_tree(root);
}

static char *ask(int wanted_code, const char *a, const char *b, const char *c)
{
    const char *argv[] = {program, "env", "diff", a, b, c, NULL};
    struct child_options options = {.argv = argv, .dir = root, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC, &out,
                         &errors, NULL);
    if (code != wanted_code) {
        fail_msg("exit %d, not %d: %s%s", code, wanted_code, out, errors);
    }
    bool failed = code != 0 && code != 3;
    free(failed ? out : errors);
    return failed ? errors : out;
}

static void fields_that_differ_are_shown_and_exit_3(void **state)
{
    (void)state;
    char *text = ask(3, "a", "b", NULL);
    assert_non_null(strstr(text, "cpus               A  2\n"));
    assert_non_null(strstr(text, "B  4\n"));
    assert_non_null(strstr(text, "gone               A  1\n"));
    assert_non_null(strstr(text, "new                A  -\n"));
    assert_non_null(strstr(text, "load               A  1\n"));
    assert_null(strstr(text, "arch"));
    assert_non_null(strstr(text, "3 identity fields differ"));
    free(text);
    text = ask(3, "a", "b", "--json");
    struct json *json = json_parse(text, strlen(text), NULL);
    assert_non_null(json);
    assert_false(json_bool(json_get(json, "comparable"), true));
    assert_string_equal(json_string(json_get(json_first(json_get(json, "identity")), "field"), ""),
                        "cpus");
    json_free(json);
    free(text);
}

static void context_alone_does_not_stand_in_the_way(void **state)
{
    (void)state;
    char *text = ask(0, "a", "c", NULL);
    assert_non_null(strstr(text, "load               A  1\n"));
    assert_non_null(strstr(text, "these sets can be compared"));
    free(text);
}

static void one_set_is_held_against_this_machine(void **state)
{
    (void)state;
    /* "gone" is no field that this machine can be asked for; the CPU's vendor is missing in A. */
    char *text = ask(3, "a", NULL, NULL);
    assert_non_null(strstr(text, "B this machine"));
    assert_null(strstr(text, "gone"));
    assert_non_null(strstr(text, "cpu_vendor"));
    free(text);
}

static void what_cannot_be_read_is_named(void **state)
{
    (void)state;
    char *text = ask(5, "a", "newer", NULL);
    assert_non_null(strstr(text, "newer/env.json: schema codeq-lab.env/2 is newer"));
    free(text);
    text = ask(5, "a", "broken", NULL);
    assert_non_null(strstr(text, "broken/env.json: line 2"));
    free(text);
    text = ask(2, "nowhere", NULL, NULL);
    assert_non_null(strstr(text, "nowhere"));
    free(text);
}

int main(int argc, char **argv)
{
    if (argc != 2 || (program = realpath(argv[1], NULL)) == NULL) {
        fprintf(stderr, "usage: %s CODEQ-BENCH\n", argv[0]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_that_differ_are_shown_and_exit_3),
        cmocka_unit_test(context_alone_does_not_stand_in_the_way),
        cmocka_unit_test(one_set_is_held_against_this_machine),
        cmocka_unit_test(what_cannot_be_read_is_named),
    };
    return cmocka_run_group_tests(tests, make_sets, drop_sets);
}
