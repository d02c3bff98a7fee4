/* `codeq-bench load --live-profile` as a user calls it: the stacks of codeqd and Redis under load
 * are in the result set. Exits 77 with the reason where BPF may not be loaded. argv: codeq-bench,
 * codeqd. */
#include "trace_fixture.h"

#include <assert.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "loader.h"

static const char *bench;
static const char *codeqd;
static char folder[64];

static const char scenario[] =
    "{\"schema\":\"codeq-lab.scenario/"
    "1\",\"id\":\"live\",\"rev\":1,\"duration_ms\":1500,\"roles\":["
    "{\"role\":\"producer\",\"concurrency\":2},{\"role\":\"worker\",\"concurrency\":2}]}";

static int setup(void **state)
{
    (void)state;
    char path[96];
    strcpy(folder, "/tmp/codeq-live-root-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/live.json", folder);
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(scenario, file) < 0 || fclose(file) != 0) {
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    const char *const argv[] = {"rm", "-rf", folder, NULL};
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    int code =
        child_run(&options, clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC, &out, NULL, NULL);
    free(out);
    return code;
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

static void assert_has(const char *dir, const char *file, const char *what)
{
    char *text = tracer_slurp(dir, file);
    if (strstr(text, what) == NULL) {
        fail_msg("%s has no '%s': %.400s", file, what, text);
    }
    free(text);
}

static void a_set_has_the_stacks_of_the_service_under_load(void **state)
{
    (void)state;
    const char *const argv[] = {bench,         "load",       "--codeqd", codeqd,           "--out",
                                "sets",        "--duration", "4s",       "--live-profile", "1",
                                "./live.json", NULL};
    char *out = NULL;
    char *errors = NULL;
    int code = 4;
    /* A machine that is busy elsewhere makes a run void, and then there is no set. */
    for (int i = 0; i < 5 && code == 4; i++) {
        free(out);
        free(errors);
        code = run(argv, &out, &errors);
    }
    if (code != 0) {
        fail_msg("exit %d: %s%s", code, out, errors);
    }
    free(out);
    free(errors);
    char set[512];
    char dir[600];
    snprintf(set, sizeof set, "%s/sets", folder);
    enter(set, sizeof set);
    enter(set, sizeof set);
    snprintf(dir, sizeof dir, "%s/live", set);
    assert_has(dir, "oncpu.folded", "codeqd;");
    assert_has(dir, "oncpu.folded", "redis-server;");
    char *off_cpu = tracer_slurp(dir, "offcpu.folded");
    assert_null(strstr(off_cpu, "[unknown];[unknown]")); /* one says it */
    free(off_cpu);
    assert_has(dir, "oncpu.folded", ";http_"); /* a function of codeqd's own */
    assert_has(dir, "offcpu.folded", "codeqd;");
    assert_has(dir, "offcpu.folded", "redis-server;");
    assert_has(dir, "offcpu.folded", ";schedule");
    assert_has(dir, "oncpu.svg", "<svg");
    assert_has(dir, "offcpu.svg", "<svg");
    assert_has(set, "manifest.json", "live/oncpu.pb.gz");
    assert_has(set, "manifest.json", "live/offcpu.pb.gz");
    const char *const verify[] = {bench, "verify", set, NULL};
    assert_int_equal(run(verify, &out, &errors), 0);
    free(out);
    free(errors);
}

/* The first child of a process, and of those, the one with that name; 0: none. */
static pid_t find_child(pid_t parent, const char *name)
{
    char path[64];
    char list[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(list, sizeof list, file) == NULL) {
        list[0] = '\0';
    }
    if (file != NULL) {
        fclose(file);
    }
    pid_t found = 0;
    for (char *p = strtok(list, " "); p != NULL && found == 0; p = strtok(NULL, " ")) {
        char comm[64] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", p);
        file = fopen(path, "re");
        if (file != NULL && fgets(comm, sizeof comm, file) != NULL &&
            strncmp(comm, name, strlen(name)) == 0) {
            found = (pid_t)strtol(p, NULL, 10);
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    return found;
}

static void an_interrupt_leaves_no_tracer_behind(void **state)
{
    (void)state;
    const char *const argv[] = {bench,         "load",       "--codeqd", codeqd,           "--out",
                                "none",        "--duration", "5s",       "--live-profile", "300",
                                "./live.json", NULL};
    struct child child = {0};
    struct err err = {""};
    const struct child_options options = {
        .argv = argv, .dir = folder, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    if (child_start(&child, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    pid_t tracer = 0;
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 100 * NS_PER_SEC;
    while (tracer == 0) {
        int64_t now_ns = clock_monotonic_ns(clock_system());
        bool ended = child_wait(&child, now_ns + 5 * NS_PER_MS) == 0;
        if (ended && child_exit_code(&child) == 4 && now_ns < deadline_ns &&
            child_start(&child, &options, &err) == 0) {
            continue; /* void: a machine that is busy elsewhere */
        }
        if (ended || now_ns > deadline_ns) {
            child_stop(&child, NS_PER_SEC);
            fail_msg("no codeq-trace was started; exit %d", child_exit_code(&child));
        }
        tracer = find_child(child.pid, "codeq-trace");
    }
    kill(child.pid, SIGINT);
    assert_int_equal(child_wait(&child, deadline_ns), 0);
    assert_int_equal(child_exit_code(&child), 130);
    assert_int_equal(kill(tracer, 0), -1);
}

int main(int argc, char **argv)
{
    assert(argc == 3);
    bench = realpath(argv[1], NULL);
    codeqd = realpath(argv[2], NULL);
    int code = tracer_check(LOADER_NEEDS_PTRACE);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_set_has_the_stacks_of_the_service_under_load, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_interrupt_leaves_no_tracer_behind, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
