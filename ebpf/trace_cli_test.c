/* codeq-trace at the prompt: help, what is wrong and what to do about it. Needs no rights. */
#include "base/test.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"

static const char *program;

struct answer {
    int code;
    char *out;
    char *errors;
};

#define ASK(...) ask((const char *[]){__VA_ARGS__, NULL})

static struct answer ask(const char *const *args)
{
    const char *argv[16] = {program};
    int n = 1;
    for (int i = 0; args[i] != NULL; i++) {
        argv[n++] = args[i];
    }
    const struct child_options options = {.argv = argv, .cpu = -1};
    struct answer answer = {0};
    struct err err = {""};
    answer.code = child_run(&options, clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC,
                            &answer.out, &answer.errors, &err);
    if (answer.code < 0) {
        fail_msg("%s", err.text);
    }
    return answer;
}

static void answer_free(struct answer *answer)
{
    free(answer->out);
    free(answer->errors);
}

static const char *const views[] = {"syscalls", "commands", "leases", "profile",
                                    "timeline", "serve",    "cost"};

static void help_of_each_view_goes_to_stdout_with_examples_of_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        struct answer a = ASK(views[i], "--help");
        char example[64];
        snprintf(example, sizeof example, "\n  codeq-trace %s", views[i]);
        assert_int_equal(a.code, 0);
        assert_string_equal(a.errors, "");
        assert_non_null(strstr(a.out, "\nexamples:\n"));
        assert_non_null(strstr(a.out, example));
        answer_free(&a);
    }
}

static void the_help_names_every_view_and_the_rights(void **state)
{
    (void)state;
    struct answer a = ASK("--help");
    assert_int_equal(a.code, 0);
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        char line[32];
        snprintf(line, sizeof line, "\n  %s ", views[i]);
        assert_non_null(strstr(a.out, line));
    }
    assert_non_null(strstr(a.out, "CAP_BPF"));
    answer_free(&a);
    a = ask((const char *[]){NULL});
    assert_int_equal(a.code, 2);
    assert_string_equal(a.out, "");
    assert_non_null(strstr(a.errors, "usage: codeq-trace VIEW"));
    answer_free(&a);
    a = ASK("--version");
    assert_int_equal(a.code, 0);
    assert_string_equal(a.out, "codeq-trace " CODEQ_VERSION "\n");
    answer_free(&a);
}

static void a_mistake_is_named_with_its_value_on_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *args[4];
        const char *said;
    } cases[] = {
        {{"comands"}, "'comands': no such view: see codeq-trace --help"},
        {{"commands", "--pid", "x"}, "commands: --pid: 'x' is not a whole number"},
        {{"commands", "--bogus"}, "commands: --bogus: unknown option"},
        {{"commands", "--off-cpu"}, "commands: --off-cpu: "}, /* of another view */
        {{"commands", "--sample", "2"}, "commands: --sample: '2': write it like 1/8"},
        {{"commands", "--duration", "5"}, "commands: --duration: '5' has no unit"},
        {{"profile", "--frequency", "0"}, "profile: --frequency: '0' is not a whole number"},
        {{"syscalls", "extra"}, "syscalls: 'extra': unexpected"},
        {{"leases", "--via", "usdt", "--sample"}, "leases: --sample"},
        {{"cost", "--pairs", "two"}, "cost: --pairs: 'two' is not a whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *args[5] = {NULL};
        memcpy(args, cases[i].args, sizeof cases[i].args);
        struct answer a = ask(args);
        char line[160];
        snprintf(line, sizeof line, "codeq-trace: %s", cases[i].said);
        if (a.code != 2 || strncmp(a.errors, line, strlen(line)) != 0) {
            fail_msg("exit %d, not \"%s\": %s", a.code, line, a.errors);
        }
        assert_string_equal(a.out, "");
        assert_ptr_equal(strchr(a.errors, '\n'), a.errors + strlen(a.errors) - 1);
        answer_free(&a);
    }
}

static void without_rights_the_missing_ones_are_named(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        struct answer own = ASK("syscalls", "--duration", "1ms");
        assert_int_equal(own.code, 2);
        assert_non_null(strstr(own.errors, "CAP_BPF"));
        answer_free(&own);
        return;
    }
    const char *const argv[] = {"setpriv", "--bounding-set", "-all",       "--inh-caps", "-all",
                                program,   "commands",       "--duration", "1ms",        NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    struct err err = {""};
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC, &out,
                         &errors, &err);
    if (code != 2 || strstr(errors, "CAP_BPF and CAP_PERFMON missing") == NULL) {
        fail_msg("exit %d: %s%s", code, errors, err.text);
    }
    free(out);
    free(errors);
}

int main(int argc, char **argv)
{
    assert(argc == 2);
    program = realpath(argv[1], NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_of_each_view_goes_to_stdout_with_examples_of_it),
        cmocka_unit_test(the_help_names_every_view_and_the_rights),
        cmocka_unit_test(a_mistake_is_named_with_its_value_on_one_line),
        cmocka_unit_test(without_rights_the_missing_ones_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
