/* `codeq-bench run` with the tracer, as a user calls it: what it adds to a set, and what is said
 * where BPF may not be loaded. Exits 77 with the reason where that is here. argv: codeq-bench. */
#include "trace_fixture.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/temp_dir.h"
#include "loader.h"

static const char *bench;
static char folder[256];

static int setup(void **state)
{
    (void)state;
    return temp_dir_make(folder, sizeof folder, "run-trace", NULL);
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
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + 100 * NS_PER_SEC, out,
                         errors, &err);
    if (code < 0) {
        fail_msg("%s", err.text);
    }
    return code;
}

/* The only entry of a folder that is a folder. */
static void enter(char *path, size_t bytes)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR) {
            size_t at = strlen(path);
            snprintf(path + at, bytes - at, "/%s", entry->d_name);
            break;
        }
    }
    closedir(dir);
}

static void must_say(const char *text, const char *what)
{
    if (strstr(text, what) == NULL) {
        fail_msg("not said: '%s': %s", what, text);
    }
}

static const struct json *row_of(const struct json *table, const char *key, const char *value)
{
    for (const struct json *row = json_first(table); row != NULL; row = json_next(row)) {
        if (strncmp(json_string(json_get(row, key), ""), value, strlen(value)) == 0) {
            return row;
        }
    }
    fail_msg("no %s %s", key, value);
    return NULL;
}

/* Three system calls a command at either side, one command an operation of create alone. */
static void set_holds_what_the_tracer_saw_and_its_totals(void **state)
{
    (void)state;
    const char *const argv[] = {bench,     "run",   "scheduler-create", "--quick",
                                "--trace", "--out", "traced",           NULL};
    char *out = NULL, *errors = NULL;
    int code = run(argv, &out, &errors);
    if (code != 0) {
        fail_msg("exit %d: %s%s", code, out, errors);
    }
    must_say(out, "client off-CPU us/op");
    must_say(out, "Redis system calls/op");
    assert_null(strstr(out, "not measured"));
    free(out);
    free(errors);
    char set[512];
    snprintf(set, sizeof set, "%s/traced", folder);
    enter(set, sizeof set);
    enter(set, sizeof set);
    char scenario[600];
    snprintf(scenario, sizeof scenario, "%s/scheduler-create", set);
    char *text = tracer_slurp(scenario, "trace.json");
    struct json *trace = json_parse(text, strlen(text), NULL);
    free(text);
    int64_t ops = json_int(json_get(trace, "ops"), 0);
    assert_true(ops > 0);
    const struct json *commands = json_get(json_get(trace, "commands"), "commands");
    assert_int_equal(json_int(json_get(row_of(commands, "command", "EVALSHA create"), "count"), -1),
                     ops);
    const struct json *leases = json_get(json_get(trace, "leases"), "leases");
    assert_int_equal(json_int(json_get(row_of(leases, "event", "create"), "calls"), -1), ops);
    assert_non_null(json_first(json_get(json_get(trace, "off_cpu"), "functions")));
    json_free(trace);

    /* One figure changed, in the file and in its checksum's stead: verify sees it. */
    const char *const verify[] = {bench, "verify", set, NULL};
    assert_int_equal(run(verify, &out, &errors), 0);
    free(out);
    free(errors);
    const char *const change[] = {
        "sh",
        "-c",
        "cd \"$1\" && sed -i \"0,/\\\"count\\\": /s/\\\"count\\\": /&1/\" "
        "scheduler-create/trace.json && "
        "new=$(sha256sum < scheduler-create/trace.json | cut -d' ' -f1) && "
        "sed -i \"s|\\(scheduler-create/trace.json\\\": \\\"\\)[0-9a-f]*|\\1$new|\" manifest.json",
        "sh",
        set,
        NULL};
    assert_int_equal(run(change, &out, &errors), 0);
    free(out);
    free(errors);
    assert_int_equal(run(verify, &out, &errors), 5);
    must_say(errors, "trace.json: not what runs.ndjson has of it");
    free(out);
    free(errors);
}

/* `run` by root without the two rights; its exit code, and what it said in the folder's files. */
static int run_without_rights(const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        char path[300];
        prctl(PR_CAPBSET_DROP, CAP_BPF);
        prctl(PR_CAPBSET_DROP, CAP_PERFMON);
        prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN);
        const char *const names[] = {"out", "err"};
        for (int i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/%s", folder, names[i]);
            int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            dup2(fd, STDOUT_FILENO + i);
        }
        if (chdir(folder) == 0) {
            execv(bench, (char *const *)(uintptr_t)argv);
        }
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_is_not_measured_says_which_right_it_needs(void **state)
{
    (void)state;
    const char *const argv[] = {bench,   "run", "scheduler-create", "--quick", "--out",
                                "plain", NULL};
    assert_int_equal(run_without_rights(argv), 0);
    char *out = tracer_slurp(folder, "out");
    must_say(out, "system calls/op");
    must_say(out, "not measured: needs CAP_BPF");
    free(out);
}

static void trace_that_cannot_be_had_is_refused_with_the_right_it_needs(void **state)
{
    (void)state;
    const char *const argv[] = {bench,  "run", "scheduler-create", "--quick", "--trace", "--out",
                                "none", NULL};
    assert_int_equal(run_without_rights(argv), 2);
    char *errors = tracer_slurp(folder, "err");
    must_say(errors, "--trace: needs CAP_BPF");
    free(errors);
}

int main(int argc, char **argv)
{
    assert(argc == 2);
    bench = realpath(argv[1], NULL);
    int code = tracer_check(LOADER_NEEDS_PTRACE);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_holds_what_the_tracer_saw_and_its_totals),
        cmocka_unit_test(what_is_not_measured_says_which_right_it_needs),
        cmocka_unit_test(trace_that_cannot_be_had_is_refused_with_the_right_it_needs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
