/* codeq-trace cost as its user runs it, briefly: every figure is there, and nothing is left. */
#include "base/test.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "trace_fixture.h"

static const char *program;
static char folder[] = "/tmp/codeq-cost-test-XXXXXX";

#define COST(out, errors, ...) \
    cost(out, errors, (const char *[]){program, "cost", __VA_ARGS__, NULL})

static int cost(char **out, char **errors, const char *const *argv)
{
    struct err err = {""};
    const struct child_options options = {.argv = argv, .cpu = -1};
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 90 * NS_PER_SEC, out,
                         errors, &err);
    if (code < 0) {
        fail_msg("%s", err.text);
    }
    return code;
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static double ratio(const struct json *row, const char *name, const char *which)
{
    return json_number(json_get(json_get(row, name), which), -1);
}

/* Who is traced, seen by a tracer that writes its name down. */
static void beside_traces_a_process_that_does_nothing(void **state)
{
    (void)state;
    static const char *const options[] = {"--json", "--beside"};
    static const char *const names[] = {"redis-server\n", "sleep\n"};
    for (int i = 0; i < 2; i++) {
        char dir[] = "/tmp/codeq-beside-XXXXXX";
        assert_non_null(mkdtemp(dir));
        char command[128];
        snprintf(command, sizeof command,
                 "name=sh -c 'cat /proc/{pid}/comm > %s/comm; exec sleep 100'", dir);
        char *out = NULL;
        char *errors = NULL;
        int code = COST(&out, &errors, "--with", command, "--settle", "200ms", "--pipeline", "2",
                        "--pairs", "3", "--time", "20ms", options[i]);
        if (code != 0) {
            fail_msg("exit %d: %s", code, errors);
        }
        char *comm = tracer_slurp(dir, "comm");
        assert_string_equal(comm, names[i]);
        free(comm);
        free(out);
        free(errors);
        remove_tree(dir);
    }
}

static void each_view_has_its_ratios_with_an_interval(void **state)
{
    (void)state;
    char *out = NULL;
    char *errors = NULL;
    int code = COST(&out, &errors, "--view", "tracepoints", "--view", "syscalls+leases",
                    "--pipeline", "2", "--pairs", "7", "--time", "30ms", "--json");
    if (code != 0) {
        fail_msg("exit %d: %s", code, errors);
    }
    struct json *root = json_parse(out, strlen(out), NULL);
    assert_string_equal(json_string(json_get(root, "schema"), ""), "codeq-trace.cost/1");
    assert_int_equal(json_int(json_get(root, "clients"), -1), 50);
    const struct json *row = json_first(json_get(root, "rows"));
    static const char *const names[] = {"tracepoints", "syscalls+leases"};
    for (int i = 0; i < 2; i++, row = json_next(row)) {
        assert_non_null(row);
        assert_string_equal(json_string(json_get(row, "traced_by"), ""), names[i]);
        assert_int_equal(json_int(json_get(row, "pipeline"), -1), 2);
        assert_int_equal(json_int(json_get(row, "pairs"), -1), 7);
        static const char *const ratios[] = {"redis_cpu_ratio", "bystander_cpu_ratio"};
        for (int k = 0; k < 2; k++) {
            double low = ratio(row, ratios[k], "low");
            double median = ratio(row, ratios[k], "median");
            assert_true(low > 0 && low <= median && median <= ratio(row, ratios[k], "high"));
        }
        assert_true(json_number(json_get(row, "redis_cpu_ns_per_command"), -1) > 100);
        assert_true(json_number(json_get(row, "commands_per_sec"), -1) > 1);
        /* A tracer ran in the one, none in the other. */
        double tracer = json_number(json_get(row, "tracer_cpu_ratio"), -1);
        assert_true(i == 0 ? !(tracer > 0) : tracer > 0);
    }
    assert_null(row);
    assert_int_equal(entries(), 0);
    json_free(root);
    free(out);
    free(errors);
}

static void an_interrupt_takes_redis_and_the_tracers_along(void **state)
{
    (void)state;
    const char *const argv[] = {program, "cost", "--view", "commands", "--time", "60s", NULL};
    const struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct child child = {0};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC;
    assert_int_equal(child_start(&child, &options, NULL), 0);
    while (entries() == 0 && clock_monotonic_ns(clock_system()) < deadline_ns) {
        assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + NS_PER_MS),
                         -ETIMEDOUT);
    }
    kill(child.pid, SIGINT);
    assert_int_equal(child_wait(&child, deadline_ns), 0);
    assert_int_equal(child_exit_code(&child), 130);
    assert_int_equal(entries(), 0);
}

static void another_tracer_is_measured_in_the_same_rounds(void **state)
{
    (void)state;
    char *out = NULL;
    char *errors = NULL;
    /* It uses a core and says whom it watches. */
    int code =
        COST(&out, &errors, "--with",
             "other=sh -c 'ls -d /proc/{pid} > $TMPDIR/seen; "
             "while :; do :; done'",
             "--settle", "20ms", "--pipeline", "1", "--pairs", "3", "--time", "40ms", "--json");
    if (code != 0) {
        fail_msg("exit %d: %s", code, errors);
    }
    struct json *root = json_parse(out, strlen(out), NULL);
    const struct json *row = json_first(json_get(root, "rows"));
    assert_string_equal(json_string(json_get(row, "traced_by"), ""), "other");
    assert_true(json_number(json_get(row, "tracer_cpu_ratio"), 0) > 0.05);
    json_free(root);
    free(out);
    free(errors);
    char *seen = tracer_slurp(folder, "seen");
    assert_true(strncmp(seen, "/proc/", 6) == 0);
    free(seen);
    char path[64];
    snprintf(path, sizeof path, "%s/seen", folder);
    unlink(path);
    assert_int_equal(COST(&out, &errors, "--with", "gone=false"), 2);
    assert_non_null(strstr(errors, "gone: 'false' ended at once"));
    free(out);
    free(errors);
    assert_int_equal(entries(), 0);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    static const char *const wrong[][3] = {
        {"--pairs", "1", "--pairs: "},    {"--view", "sycalls", "'sycalls'"},
        {"--pipeline", "1,x", "'1,x'"},   {"--time", "1ns", "'1ns'"},
        {"--with", "strace", "'strace'"},

        {"--clients", "0", "--clients: "}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *out = NULL;
        char *errors = NULL;
        assert_int_equal(COST(&out, &errors, wrong[i][0], wrong[i][1]), 2);
        assert_string_equal(out, "");
        assert_non_null(strstr(errors, wrong[i][2]));
        free(out);
        free(errors);
    }
}

static int start(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL || setenv("TMPDIR", folder, 1) != 0;
}

static int end(void **state)
{
    (void)state;
    return remove_tree(folder);
}

int main(void)
{
    program = getenv("CODEQ_TRACE");
    assert(program != NULL);
    int code = tracer_check(0);
    if (code != 0) {
        return code;
    }
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        puts("skipped: Redis and its client need a core each");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_traces_a_process_that_does_nothing),
        cmocka_unit_test(each_view_has_its_ratios_with_an_interval),
        cmocka_unit_test(an_interrupt_takes_redis_and_the_tracers_along),
        cmocka_unit_test(another_tracer_is_measured_in_the_same_rounds),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, start, end);
}
