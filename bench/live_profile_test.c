/* Live profiles with a stand-in for codeq-trace: a script that writes what it is told to. */
#include "live_profile.h"

#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "result.h"

static char folder[64];
static char trace[96];

/* The script finds in $out the file it is to write. */
static void stand_in(const char *script)
{
    struct err err = {""};
    char text[2048];
    snprintf(text, sizeof text,
             "#!/bin/sh\nkind=on\nwhile [ $# -gt 0 ]; do\n"
             "case $1 in --output) out=$2; shift;; --off-cpu) kind=off;; esac\nshift\ndone\n%s\n",
             script);
    snprintf(trace, sizeof trace, "%s/trace", folder);
    if (result_write_file(trace, text, strlen(text), &err) != 0) {
        fail_msg("%s", err.text);
    }
    chmod(trace, 0700);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/codeq-live-test-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const files[] = {"trace",        "oncpu.folded",  "oncpu.svg",
                                        "oncpu.pb.gz",  "offcpu.folded", "offcpu.svg",
                                        "offcpu.pb.gz", "live.json"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* Tick until it is over; the child is a process, so time is real. */
static void tick_to_the_end(struct live_profile *live)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 30 * NS_PER_SEC;
    while (!live_profile_tick(live, LIVE_PROFILE_SETTLE_SECONDS * NS_PER_SEC)) {
        if (clock_monotonic_ns(clock_system()) > deadline_ns) {
            fail_msg("not over after 30 s");
        }
        struct timespec wait = {0, NS_PER_MS};
        nanosleep(&wait, NULL);
    }
}

static const char report_line[] =
    "echo '{\"elapsed_seconds\":2.5,\"losses\":{\"stacks_full\":3}}'\n";

static char *read_text(const char *name)
{
    char path[128];
    char *text = NULL;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return result_read_file(path, &text, &bytes, NULL) == 0 ? text : NULL;
}

static void both_kinds_are_recorded_and_kept_in_three_forms(void **state)
{
    (void)state;
    char script[512];
    snprintf(script, sizeof script, "%secho \"codeqd;main;${kind}_cpu 7\" > $out", report_line);
    stand_in(script);
    struct live_profile live;
    struct err err = {""};
    live_profile_init(&live, trace, 2);
    live_profile_watch(&live, 11, 12);
    assert_string_equal(live.pids, "11,12");
    assert_false(live_profile_tick(&live, 0));
    assert_false(live.started); /* not before the load has settled */
    tick_to_the_end(&live);
    char dir[64];
    strcpy(dir, live.dir);
    live_profile_end(&live);
    assert_int_equal(access(dir, F_OK), -1);
    assert_true(live.parts[LIVE_ON_CPU].recorded && live.parts[LIVE_OFF_CPU].recorded);
    assert_true(live.parts[LIVE_ON_CPU].dropped == 3);
    assert_int_equal(live_profile_write(&live, folder, &err), 0);
    char *on = read_text("oncpu.folded");
    char *off = read_text("offcpu.folded");
    char *svg = read_text("oncpu.svg");
    char *pprof = read_text("offcpu.pb.gz");
    char *said = read_text("live.json");
    assert_string_equal(on, "codeqd;main;on_cpu 7\n");
    assert_string_equal(off, "codeqd;main;off_cpu 7\n");
    assert_non_null(strstr(svg, "on_cpu"));
    assert_memory_equal(pprof, "\x1f\x8b", 2);
    assert_non_null(strstr(said, "\"waited_ns\": 7"));
    assert_non_null(strstr(said, "\"seconds\": 2.5"));
    free(on);
    free(off);
    free(svg);
    free(pprof);
    free(said);
    assert_int_equal(live_profile_verify(folder, &err), 0);

    /* A set whose stacks were edited, or lost, is not as it was measured. */
    char path[128];
    snprintf(path, sizeof path, "%s/oncpu.folded", folder);
    result_write_file(path, "codeqd;main 8\n", 14, &err);
    assert_int_equal(live_profile_verify(folder, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "oncpu.folded: adds up to 8, live.json says 7"));
    result_write_file(path, "codeqd;main\n", 12, &err);
    assert_int_equal(live_profile_verify(folder, &err), -EBADMSG);
    unlink(path);
    assert_int_equal(live_profile_verify(folder, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "do not agree"));
    snprintf(path, sizeof path, "%s/live.json", folder);
    result_write_file(path, "{\"schema\":\"codeq-lab.live/2\"}", 29, &err);
    assert_int_equal(live_profile_verify(folder, &err), -EOPNOTSUPP);
    result_write_file(path, "{\"schema\":\"codeq-lab.live/1\"}", 29, &err);
    assert_int_equal(live_profile_verify(folder, &err), -EBADMSG);
    result_write_file(path, "[", 1, &err);
    assert_int_equal(live_profile_verify(folder, &err), -EBADMSG);

    /* A measurement without live profiles leaves none of an earlier one behind. */
    assert_int_equal(live_profile_write(NULL, folder, &err), 0);
    assert_null(read_text("offcpu.folded"));
    assert_null(read_text("live.json"));
    assert_int_equal(live_profile_verify(folder, &err), 0);
    live_profile_fini(&live);
}

static void without_rights_the_reason_stands_for_both(void **state)
{
    (void)state;
    stand_in("echo 'codeq-trace: profile: not permitted: CAP_BPF missing' >&2\nexit 2");
    struct live_profile live;
    struct err err = {""};
    live_profile_init(&live, trace, 2);
    live_profile_watch(&live, 11, 0);
    assert_string_equal(live.pids, "11");
    tick_to_the_end(&live);
    for (int k = 0; k < LIVE_KINDS; k++) {
        assert_false(live.parts[k].recorded);
        assert_string_equal(live.parts[k].reason, "not permitted: CAP_BPF missing");
    }
    live_profile_end(&live);
    assert_int_equal(live_profile_write(&live, folder, &err), 0);
    assert_int_equal(live_profile_verify(folder, &err), 0);
    char *said = read_text("live.json");
    assert_non_null(strstr(said, "CAP_BPF missing"));
    free(said);
    live_profile_fini(&live);
}

static void a_missing_tracer_is_named(void **state)
{
    (void)state;
    struct live_profile live;
    live_profile_init(&live, "", 2);
    live_profile_watch(&live, 11, 12);
    assert_true(live_profile_tick(&live, 0));
    assert_non_null(strstr(live.parts[LIVE_OFF_CPU].reason, "codeq-trace"));
    live_profile_fini(&live);
    live_profile_init(&live, "/no/such/trace", 2);
    live_profile_watch(&live, 11, 12);
    assert_true(live_profile_tick(&live, LIVE_PROFILE_SETTLE_SECONDS * NS_PER_SEC));
    assert_non_null(strstr(live.parts[LIVE_ON_CPU].reason, "/no/such/trace"));
    live_profile_fini(&live);
}

/* The tracer writes what it has at SIGTERM; what was not begun says that the load was too short. */
static void a_load_that_ends_first_keeps_what_was_seen(void **state)
{
    (void)state;
    char script[512];
    snprintf(script, sizeof script,
             "trap '%secho codeqd\\;main 5 > $out; exit 0' TERM\n: > $out.up\n"
             "while :; do sleep 0.01; done",
             "printf %s {\\\"elapsed_seconds\\\":0.5};");
    stand_in(script);
    struct live_profile live;
    live_profile_init(&live, trace, 200);
    live_profile_watch(&live, 11, 12);
    assert_false(live_profile_tick(&live, LIVE_PROFILE_SETTLE_SECONDS * NS_PER_SEC));
    assert_true(live.started);
    char up[128];
    snprintf(up, sizeof up, "%s/stacks.folded.up", live.dir);
    for (int i = 0; i < 30000 && access(up, F_OK) != 0; i++) {
        struct timespec wait = {0, NS_PER_MS};
        nanosleep(&wait, NULL);
    }
    unlink(up);
    live_profile_end(&live);
    assert_true(live.parts[LIVE_ON_CPU].recorded);
    assert_true(live.parts[LIVE_ON_CPU].value == 5);
    assert_false(live.parts[LIVE_OFF_CPU].recorded);
    assert_non_null(strstr(live.parts[LIVE_OFF_CPU].reason, "the load ended before"));
    assert_int_equal(live.child.pid, 0);
    live_profile_fini(&live);
}

/* What it wrote is judged, not believed. */
static void broken_output_is_not_a_profile(void **state)
{
    (void)state;
    static const char *const scripts[] = {"echo nonsense > $out",
                                          "true",
                                          ": > $out",
                                          "echo 'a;b 99999999999999999999999' > $out",
                                          "exit 1",
                                          "kill -SEGV $$"};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        stand_in(scripts[i]);
        struct live_profile live;
        live_profile_init(&live, trace, 2);
        live_profile_watch(&live, 11, 12);
        tick_to_the_end(&live);
        assert_false(live.parts[LIVE_ON_CPU].recorded);
        assert_true(live.parts[LIVE_ON_CPU].reason[0] != '\0');
        live_profile_fini(&live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_kinds_are_recorded_and_kept_in_three_forms, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_rights_the_reason_stands_for_both, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_tracer_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_load_that_ends_first_keeps_what_was_seen, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(broken_output_is_not_a_profile, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
