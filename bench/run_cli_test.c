/* The built programs, for real: argv[1] is codeq-bench, argv[2] codeq-drive. */
#include "base/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
#include "result.h"

#define TIMEOUT_NS (120 * NS_PER_SEC)

static const char *bench, *driver;

struct place {
    char dir[64]; /* work, tmp and out are in it */
    char tmp[80];
    char out[80];
    char tiny[96]; /* a scenario of few operations */
};

static const char tiny_text[] =
    "{\"schema\":\"codeq-lab.scenario/1\",\"id\":\"tiny\",\"rev\":1,"
    "\"workload\":{\"operation\":\"cycle\",\"format\":\"json\"},"
    "\"counted\":{\"warm_ops\":5,\"ops\":10,\"repeats\":2},"
    "\"timed\":{\"warm_ops\":5,\"ops\":3000,\"duration_ms_max\":%d,\"runs\":2}}\n";

static void write_text(const char *path, const char *text)
{
    assert_int_equal(result_write_file(path, text, strlen(text), NULL), 0);
}

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    snprintf(place->dir, sizeof place->dir, "/tmp/run-test-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    snprintf(place->tmp, sizeof place->tmp, "%s/tmp", place->dir);
    snprintf(place->out, sizeof place->out, "%s/out", place->dir);
    snprintf(place->tiny, sizeof place->tiny, "%s/tiny.json", place->dir);
    assert_int_equal(mkdir(place->tmp, 0700), 0);
    char text[1024];
    snprintf(text, sizeof text, tiny_text, 2000);
    write_text(place->tiny, text);
    *state = place;
    return 0;
}

static int drop_place(void **state)
{
    struct place *place = *state;
    remove_tree(place->dir);
    free(place);
    return 0;
}

/* How many entries the folder has. */
static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        count += e->d_name[0] != '.';
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

/* Processes (not yet ended) that have text in their command line or working folder. */
static int count_processes(const char *text)
{
    DIR *dir = opendir("/proc");
    int count = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strspn(e->d_name, "0123456789") != strlen(e->d_name)) {
            continue;
        }
        char path[300], cwd[300];
        snprintf(path, sizeof path, "/proc/%s/cwd", e->d_name);
        ssize_t n = readlink(path, cwd, sizeof cwd - 1);
        cwd[n > 0 ? n : 0] = '\0';
        count += strstr(cwd, text) != NULL;
    }
    closedir(dir);
    return count;
}

struct answer {
    int code;
    char *out, *errors;
};

static void answer_free(struct answer *answer)
{
    free(answer->out);
    free(answer->errors);
}

/* Run codeq-bench with these arguments (NULL-terminated) in dir, its temporary folders in place. */
static struct answer ask(const struct place *place, const char *dir, const char *extra_env,
                         const char *const *args)
{
    const char *argv[24] = {bench};
    for (int i = 0; args[i] != NULL; i++) {
        argv[1 + i] = args[i];
    }
    char tmp[120], path[2000];
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", place->tmp);
    snprintf(path, sizeof path, "PATH=%s:/usr/sbin", getenv("PATH"));
    const char *envp[] = {tmp, path, extra_env, NULL};
    struct child_options options = {.argv = argv,
                                    .envp = envp,
                                    .dir = dir,
                                    .stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = -1,
                                    .cpu = -1};
    struct answer answer = {0};
    struct err err = {""};
    answer.code = child_run(&options, clock_monotonic_ns(clock_system()) + TIMEOUT_NS, &answer.out,
                            &answer.errors, &err);
    if (answer.code < 0) {
        fail_msg("%s", err.text);
    }
    return answer;
}

#define ASK(place, ...) ask(place, (place)->dir, NULL, (const char *const[]){__VA_ARGS__, NULL})

static void expect_answer(struct answer *answer, int code, const char *errors_have)
{
    if (answer->code != code || strstr(answer->errors, errors_have) == NULL) {
        fail_msg("exit %d, not %d: %s%s", answer->code, code, answer->out, answer->errors);
    }
}

/* A sanitized driver is refused; what needs a measurement cannot be tested with it. */
static bool refuses_sanitized(const struct place *place)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    struct answer answer = ASK(place, "run", "--quick", "--out", place->out, place->tiny);
    expect_answer(&answer, 2, "built with a sanitizer");
    assert_int_equal(count_entries(place->tmp), 0);
    answer_free(&answer);
    return true;
#else
    (void)place;
    return false;
#endif
}

static double value_of(const char *text, const char *id)
{
    struct json *root = json_parse(text, strlen(text), NULL);
    assert_non_null(root);
    double value = -1;
    const struct json *summary = json_first(json_get(root, "scenarios"));
    for (const struct json *c = json_first(json_get(summary, "metrics")); c; c = json_next(c)) {
        if (strcmp(json_string(json_get(c, "id"), ""), id) == 0) {
            value = json_number(json_get(c, "value"), -1);
        }
    }
    json_free(root);
    return value;
}

static void a_whole_run_measures_counts_profiles_and_verifies(void **state)
{
    struct place *place = *state;
    if (refuses_sanitized(place)) {
        return;
    }
    struct answer run = ASK(place, "run", "--profile", "--json", "--out", place->out, place->tiny);
    expect_answer(&run, 0, "");
    assert_string_equal(run.errors, ""); /* no progress but on a terminal */
    assert_true(value_of(run.out, "run.throughput_per_sec") > 100);
    assert_true(value_of(run.out, "cycle.instructions_per_op") > 5000);
    assert_true(value_of(run.out, "cycle.allocs_per_op") == 0); /* counting: alloc_count_cli_test */
    assert_true(value_of(run.out, "cycle.alloc_bytes_per_op") == 0);
    assert_true(value_of(run.out, "cycle.round_trips_per_op") == 3);
    assert_true(value_of(run.out, "cycle.redis_commands_per_op") == 3);
    assert_true(value_of(run.out, "cycle.redis_calls_per_op") > 3);
    assert_true(value_of(run.out, "cycle.redis_script_us_per_op") > 1);
    assert_true(value_of(run.out, "cycle.bytes_to_redis_per_op") > 300);
    assert_true(value_of(run.out, "cycle.bytes_from_redis_per_op") > 100);
    assert_true(value_of(run.out, "cycle.syscalls_per_op") >= 6);
    assert_true(value_of(run.out, "run.heap_peak_bytes") > 1000);
    assert_true(value_of(run.out, "run.live_bytes_per_op") == 0);
    assert_true(value_of(run.out, "claim.latency_ns_p50") > 1000);
    struct answer verify = ASK(place, "verify", "--results", place->out);
    expect_answer(&verify, 0, "");
    assert_non_null(strstr(verify.out, "as measured"));
    assert_non_null(strstr(verify.out, "/none/")); /* no checkout here */
    struct answer quick = ASK(place, "run", "--quick", "--out", place->out, place->tiny);
    expect_answer(&quick, 2, "which counts alone would replace");
    answer_free(&quick);
    assert_int_equal(count_entries(place->tmp), 0);
    answer_free(&run);
    answer_free(&verify);
}

static void instructions_are_the_same_from_any_folder_and_environment(void **state)
{
    struct place *place = *state;
    if (refuses_sanitized(place)) {
        return;
    }
    static char long_env[3000] = "SOME_VARIABLE=";
    memset(long_env + strlen(long_env), 'x', sizeof long_env - 1 - strlen(long_env));
    char deep[200];
    snprintf(deep, sizeof deep, "%s/a/folder/with/a/longer/name", place->dir);
    assert_int_equal(result_make_dirs(deep, NULL), 0);
    const char *const args[] = {"run",   "--quick",  "--json",    "--repeat", "1",
                                "--out", place->out, place->tiny, NULL};
    double instructions[4], syscalls[4];
    for (int i = 0; i < 4; i++) {
        struct answer run = ask(place, i % 2 ? deep : place->dir, i / 2 ? long_env : NULL, args);
        expect_answer(&run, 0, "");
        instructions[i] = value_of(run.out, "cycle.instructions_per_op");
        syscalls[i] = value_of(run.out, "cycle.syscalls_per_op");
        answer_free(&run);
        assert_true(instructions[i] > 5000);
        assert_true(instructions[i] == instructions[0]);
        assert_true(syscalls[i] == syscalls[0]);
    }
}

static void a_broken_off_run_leaves_nothing_behind_and_goes_on(void **state)
{
    struct place *place = *state;
    if (refuses_sanitized(place)) {
        return;
    }
    char text[1024];
    snprintf(text, sizeof text,
             "{\"schema\":\"codeq-lab.scenario/1\",\"id\":\"tiny\",\"rev\":1,"
             "\"workload\":{\"operation\":\"cycle\"},"
             "\"counted\":{\"warm_ops\":5,\"ops\":10,\"repeats\":5},"
             "\"timed\":{\"warm_ops\":5,\"ops\":300,\"runs\":3}}");
    write_text(place->tiny, text);
    char tmp[120], path[2000];
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", place->tmp);
    snprintf(path, sizeof path, "PATH=%s:/usr/sbin", getenv("PATH"));
    const char *envp[] = {tmp, path, NULL};
    const char *argv[] = {bench, "run", "--quick", "--out", place->out, place->tiny, NULL};
    struct child_options options = {.argv = argv,
                                    .envp = envp,
                                    .dir = place->dir,
                                    .stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = -1,
                                    .cpu = -1};
    static const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    size_t lines_before = 0;
    for (size_t i = 0; i < 3; i++) {
        struct child child;
        assert_int_equal(child_start(&child, &options, NULL), 0);
        /* Until it has measured something new. */
        int64_t deadline_ns = clock_monotonic_ns(clock_system()) + TIMEOUT_NS;
        size_t lines = lines_before;
        while (lines <= lines_before && clock_monotonic_ns(clock_system()) < deadline_ns) {
            assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + 5 * NS_PER_MS),
                             -ETIMEDOUT);
            char command[200];
            snprintf(command, sizeof command, "cat %s/none/*/tiny.partial/runs.ndjson 2>&1",
                     place->out);
            FILE *pipe = popen(command, "r");
            lines = 0;
            for (int c; (c = fgetc(pipe)) != EOF;) {
                lines += c == '\n';
            }
            pclose(pipe);
        }
        assert_true(lines > lines_before);
        lines_before = lines;
        kill(child.pid, signals[i]);
        assert_int_equal(child_wait(&child, deadline_ns), 0);
        assert_int_equal(child_exit_code(&child), signals[i] == SIGKILL ? 128 + SIGKILL : 130);
        if (signals[i] != SIGKILL) {
            assert_int_equal(count_entries(place->tmp), 0);
        }
        while (count_processes(place->tmp) > 0 &&
               clock_monotonic_ns(clock_system()) < deadline_ns) {
            child_wait(&child, clock_monotonic_ns(clock_system()) + NS_PER_MS);
        }
        assert_int_equal(count_processes(place->tmp), 0);
    }
    /* The same plan goes on: what is there stays, byte for byte. */
    char command[400];
    snprintf(command, sizeof command,
             "cd %s/none/* && head -c $(stat -c %%s tiny.partial/runs.ndjson) "
             "tiny.partial/runs.ndjson | head -n %zu > %s/before",
             place->out, lines_before, place->dir);
    assert_int_equal(system(command), 0);
    const char *const args[] = {"run", "--quick", "--out", place->out, place->tiny, NULL};
    struct answer run = ask(place, place->dir, NULL, args);
    expect_answer(&run, 0, "");
    answer_free(&run);
    snprintf(command, sizeof command,
             "cd %s/none/* && head -n %zu tiny/runs.ndjson | cmp - %s/before", place->out,
             lines_before, place->dir);
    assert_int_equal(system(command), 0);
    struct answer verify = ASK(place, "verify", "--results", place->out);
    expect_answer(&verify, 0, "");
    answer_free(&verify);
}

/* A driver that is a shell script: what it answers to the first line. */
static void fake_driver(const struct place *place, char *path, size_t bytes, const char *script)
{
    snprintf(path, bytes, "%s/fake", place->dir);
    char text[600];
    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
    write_text(path, text);
    assert_int_equal(chmod(path, 0700), 0);
}

static void drivers_that_speak_otherwise_are_refused(void **state)
{
    static const struct {
        const char *script;
        int code;
        const char *errors;
    } rows[] = {
        {"read l; echo '{\"ok\":false,\"error\":\"version 2 only\"}'; exit 3", 3, "version 2 only"},
        {"read l; echo '{\"ok\":true,\"protocol\":2}'; read l; echo '{\"ok\":true}'", 3,
         "another protocol version"},
        {"read l; echo hello", 2, "its answer"},
        {"echo went wrong >&2; exit 1", 2, "went wrong"},
        {"read l; echo '{\"ok\":true,\"protocol\":1}'; read l; exit 1", 2, "without an answer"},
        {"read l; echo '{\"ok\":true,\"protocol\":1}'; read l; echo '{\"ok\":true}'; exit 4", 2,
         "ended with an error"},
        {"head -c 6000000 /dev/zero | tr '\\0' x", 2, "longer than"},
    };
    struct place *place = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[120];
        fake_driver(place, path, sizeof path, rows[i].script);
        struct answer answer = ASK(place, "run", "--drive", path, "--out", place->out, place->tiny);
        expect_answer(&answer, rows[i].code, rows[i].errors);
        assert_int_equal(count_entries(place->tmp), 0);
        answer_free(&answer);
    }
}

static void wrong_usage_says_what_is_allowed(void **state)
{
    struct place *place = *state;
    struct answer a = ASK(place, "run", "no-such-scenario");
    expect_answer(&a, 2, "codeq-bench: run: scenario 'no-such-scenario': not in");
    answer_free(&a);
    a = ASK(place, "run", "--repeat", "0");
    expect_answer(&a, 2, "--repeat");
    answer_free(&a);
    a = ASK(place, "run", "--nonsense");
    expect_answer(&a, 2, "codeq-bench: unrecognized option '--nonsense'");
    answer_free(&a);
    a = ASK(place, "fly");
    expect_answer(&a, 2, "fly: no such command");
    answer_free(&a);
    a = ASK(place, "verify", "--results", place->tmp);
    expect_answer(&a, 2, "holds no result set");
    answer_free(&a);
    a = ASK(place, "verify", place->tmp);
    expect_answer(&a, 5, "manifest.json");
    answer_free(&a);
    write_text(place->tiny, "{\"schema\":\"codeq-lab.scenario/1\",\"nonsense\":1}");
    a = ASK(place, "run", place->tiny);
    expect_answer(&a, 2, "scenario 'tiny.json': ");
    answer_free(&a);
}

static void scenarios_are_listed_and_all_readable(void **state)
{
    struct place *place = *state;
    struct answer list = ASK(place, "run", "--list");
    expect_answer(&list, 0, "");
    static const char *const ids[] = {"scheduler-create-claim-complete",
                                      "scheduler-create",
                                      "scheduler-claim-deep-queue",
                                      "scheduler-batch",
                                      "json-small",
                                      "json-medium",
                                      "json-large"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_non_null(strstr(list.out, ids[i]));
    }
    answer_free(&list);
}

static void doctor_answers_for_every_part(void **state)
{
    struct place *place = *state;
    struct answer doctor = ASK(place, "doctor", "--json");
    expect_answer(&doctor, 0, "");
    struct json *root = json_parse(doctor.out, strlen(doctor.out), NULL);
    assert_non_null(root);
    assert_string_equal(json_string(json_get(root, "schema"), ""), "codeq-lab.doctor/1");
    size_t count = 0;
    for (const struct json *c = json_first(json_get(root, "checks")); c; c = json_next(c)) {
        bool ok = strcmp(json_string(json_get(c, "verdict"), ""), "ok") == 0;
        const char *advice = json_string(json_get(c, "advice"), NULL);
        assert_non_null(advice);
        assert_true(ok == (advice[0] == '\0')); /* each with what to do */
        assert_true(json_string(json_get(c, "found"), "")[0] != '\0');
        count++;
    }
    assert_true(count >= 14);
    json_free(root);
    answer_free(&doctor);
}

/* Some lines to the driver; its exit code, its answers in *out. */
static int tell_driver(const char *lines, char *out, size_t bytes)
{
    char command[1200];
    snprintf(command, sizeof command, "printf '%s' | %s", lines, driver);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(out, 1, bytes - 1, pipe);
    out[got] = '\0';
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_driver_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    char out[4000];
    assert_int_equal(tell_driver("{\"op\":\"hello\",\"version\":2}\\n", out, sizeof out), 3);
    assert_non_null(strstr(out, "version 1 only"));
    assert_int_equal(tell_driver("{\"op\":\"warm\",\"ops\":1}\\n", out, sizeof out), 2);
    assert_non_null(strstr(out, "first request must be hello"));
    assert_int_equal(
        tell_driver("{\"op\":\"hello\",\"version\":1}\\n{\"op\":\"warm\",\"ops\":1}\\n", out,
                    sizeof out),
        2);
    assert_non_null(strstr(out, "gave no workload"));
    assert_int_equal(tell_driver("{\"op\":\"hello\",\"version\":1,\"workload\":{\"operation\":"
                                 "\"fly\"}}\\n",
                                 out, sizeof out),
                     2);
    assert_non_null(strstr(out, "'fly' is not supported"));
    assert_int_equal(tell_driver("not json\\n", out, sizeof out), 2);
    assert_int_equal(tell_driver("{\"op\":\"hello\",\"version\":1", out, sizeof out), 2);
    assert_non_null(strstr(out, "cut off"));
    assert_int_equal(tell_driver("", out, sizeof out), 0);
    assert_int_equal(
        tell_driver("{\"op\":\"hello\",\"version\":1}\\n{\"op\":\"quit\"}\\n", out, sizeof out), 0);
    assert_non_null(strstr(out, "\"protocol\":1"));
}

#define PLACE_TEST(f) cmocka_unit_test_setup_teardown(f, make_place, drop_place)

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: run_cli_test CODEQ-BENCH CODEQ-DRIVE\n", stderr);
        return 2;
    }
    /* The tests run from folders of their own; meson names the programs from the build folder. */
    bench = realpath(argv[1], NULL);
    driver = realpath(argv[2], NULL);
    if (bench == NULL || driver == NULL) {
        perror("run_cli_test");
        return 2;
    }
    const struct CMUnitTest tests[] = {
        PLACE_TEST(a_whole_run_measures_counts_profiles_and_verifies),
        PLACE_TEST(instructions_are_the_same_from_any_folder_and_environment),
        PLACE_TEST(a_broken_off_run_leaves_nothing_behind_and_goes_on),
        PLACE_TEST(drivers_that_speak_otherwise_are_refused),
        PLACE_TEST(wrong_usage_says_what_is_allowed),
        PLACE_TEST(scenarios_are_listed_and_all_readable),
        PLACE_TEST(doctor_answers_for_every_part),
        cmocka_unit_test(the_driver_refuses_what_it_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
