/* The test makes its sets: 300 of 3 scenarios, and with CODEQ_LONG=true 10,000 of 12, which takes
 * a minute or two. */
#include "base/test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/rng.h"
#include "base/temp_dir.h"

static const char *program;
static char dir[] = "/tmp/history-cli-test-XXXXXX";

enum { SETS_DEFAULT = 300, SETS_LONG = 10000, SCENARIOS_LONG = 12 };
#define LONG_RSS_KB_MAX (200 * 1024)

static int scenario_count = 3;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Set number n: instructions step up at 100, the p99 by 10 % at 200; one minute apart. */
static void write_set(const char *root, int n, const char *env8, const char *sha8)
{
    char path[512];
    char text[2048];
    struct rng rng;
    rng_init(&rng, (uint64_t)n + 1);
    snprintf(path, sizeof path, "%s/%040x", root, n + 1);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%040x/%s", root, n + 1, env8);
    assert_int_equal(mkdir(path, 0755), 0);
    for (int s = 0; s < scenario_count; s++) {
        char file[640];
        snprintf(file, sizeof file, "%s/scenario-%d", path, s);
        assert_int_equal(mkdir(file, 0755), 0);
        snprintf(
            text, sizeof text,
            "{\"schema\":\"codeq-lab.summary/1\",\"scenario\":{\"id\":\"scenario-%d\",\"rev\":1,"
            "\"sha256\":\"%s\"},\"metrics\":["
            "{\"id\":\"cycle.instructions_per_op\",\"class\":\"counted\",\"value\":%d},"
            "{\"id\":\"claim.latency_ns_p999\",\"class\":\"timed\",\"value\":null},"
            "{\"id\":\"claim.latency_ns_p99\",\"class\":\"timed\",\"value\":%.1f},"
            "{\"id\":\"later.metric\",\"value\":1}]}",
            s, sha8, n < 100 ? 10890 : 10990,
            (n < 200 ? 20000 : 22000) * (1 + 0.02 * (rng_unit(&rng) - 0.5)));
        snprintf(file, sizeof file, "%s/scenario-%d/summary.json", path, s);
        write_file(file, text);
    }
    char names[512] = "";
    for (int s = 0; s < scenario_count; s++) {
        size_t bytes = strlen(names);
        snprintf(names + bytes, sizeof names - bytes, "%s\"scenario-%d\"", s > 0 ? "," : "", s);
    }
    snprintf(text, sizeof text,
             "{\"schema\":\"codeq-lab.set/1\",\"commit\":\"%040x\",\"env8\":\"%s\",\"created\":"
             "\"2026-%02d-%02dT%02d:%02d:00.000Z\",\"scenarios\":[%s],\"files\":{}}",
             n + 1, env8, 1 + n / 1440 / 28, 1 + n / 1440 % 28, n / 60 % 24, n % 60, names);
    char file[640];
    snprintf(file, sizeof file, "%s/manifest.json", path);
    write_file(file, text);
}

static int run(char **out, char **errors, const char *root, const char *a, const char *b,
               const char *c)
{
    const char *argv[] = {program, "history", "--results", root, a, b, c, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    return child_run(&options, clock_monotonic_ns(clock_system()) + 120 * NS_PER_SEC, out, errors,
                     NULL);
}

static struct json *ask(const char *root, const char *what, const char *scenario)
{
    char *out = NULL;
    char *errors = NULL;
    char option[80];
    snprintf(option, sizeof option, "--scenario=%s", scenario);
    if (run(&out, &errors, root, "--json", what, scenario != NULL ? option : NULL) != 0) {
        fail_msg("%s", errors);
    }
    struct json *answer = json_parse(out, strlen(out), NULL);
    assert_non_null(answer);
    free(out);
    free(errors);
    return answer;
}

static void root_of(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", dir, name);
    assert_int_equal(mkdir(out, 0755), 0);
}

static void changes_are_found_at_their_commits_and_fast(void **state)
{
    (void)state;
    char root[256];
    const char *asked = getenv("CODEQ_LONG");
    bool is_long = asked != NULL && strcmp(asked, "true") == 0;
    int sets = is_long ? SETS_LONG : SETS_DEFAULT;
    scenario_count = is_long ? SCENARIOS_LONG : 3;
    root_of(root, "many");
    for (int n = 0; n < sets; n++) {
        write_set(root, n, "0123abcd", "aaaaaaaa");
    }
    char commit[48];
    struct json *answer = ask(root, "cycle.instructions_per_op", NULL); /* makes the index */
    json_free(answer);
    int64_t from = clock_monotonic_ns(clock_system());
    answer = ask(root, "cycle.instructions_per_op", NULL);
    double sec = (double)(clock_monotonic_ns(clock_system()) - from) / 1e9;
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &usage), 0); /* the largest, the index's too */
    print_message("history of one metric in %d sets of %d scenarios: %.2f s, %ld KiB\n", sets,
                  scenario_count, sec, usage.ru_maxrss);
    assert_true(sec < 2 * (is_long ? 1 : 5)); /* few sets: the machine may be busy */
#ifndef __SANITIZE_ADDRESS__
    assert_true(usage.ru_maxrss < LONG_RSS_KB_MAX);
#endif
    assert_int_equal(json_int(json_get(answer, "sets"), -1), sets);
    assert_int_equal(json_count(json_get(answer, "series")), scenario_count);
    const struct json *series = json_first(json_get(answer, "series"));
    for (; series != NULL; series = json_next(series)) {
        assert_int_equal(json_count(json_get(series, "points")), sets);
        assert_int_equal(json_count(json_get(series, "changes")), 1);
        const struct json *change = json_first(json_get(series, "changes"));
        snprintf(commit, sizeof commit, "%040x", 101);
        assert_string_equal(json_string(json_get(change, "commit"), ""), commit);
        assert_int_equal(json_int(json_get(change, "at"), -1), 100);
        assert_int_equal(json_int(json_get(change, "after"), -1), 10990);
    }
    json_free(answer);
    if (!is_long) {
        answer = ask(root, "claim.latency_ns_p99", "scenario-1");
        assert_int_equal(json_count(json_get(answer, "series")), 1);
        series = json_first(json_get(answer, "series"));
        assert_int_equal(json_count(json_get(series, "changes")), 1);
        const struct json *change = json_first(json_get(series, "changes"));
        snprintf(commit, sizeof commit, "%040x", 201);
        assert_string_equal(json_string(json_get(change, "commit"), ""), commit);
        assert_true(json_number(json_get(change, "p"), 1) < 0.005);
        json_free(answer);
    }
}

static int back_to_three(void **state)
{
    (void)state;
    scenario_count = 3;
    return remove_tree(dir) == 0 && mkdir(dir, 0700) == 0 ? 0 : -1;
}

static int64_t points_of(const char *root)
{
    struct json *answer = ask(root, "cycle.instructions_per_op", "scenario-0");
    int64_t n = (int64_t)json_count(json_get(json_first(json_get(answer, "series")), "points"));
    json_free(answer);
    return n;
}

static void the_index_follows_what_comes_changes_and_goes(void **state)
{
    (void)state;
    char root[256];
    char path[512];
    root_of(root, "index");
    for (int n = 0; n < 20; n++) {
        write_set(root, n, "0123abcd", "aaaaaaaa");
    }
    assert_int_equal(points_of(root), 20);
    write_set(root, 20, "0123abcd", "aaaaaaaa");
    assert_int_equal(points_of(root), 21);
    snprintf(path, sizeof path, "%s/%040x", root, 5);
    assert_int_equal(remove_tree(path), 0);
    assert_int_equal(points_of(root), 20);
    snprintf(path, sizeof path, "%s/.index/sets.tsv", root);
    write_file(path, "codeq-lab.index/1\nbroken"); /* made again from the sets */
    assert_int_equal(points_of(root), 20);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(points_of(root), 20);
}

static void other_environments_and_revisions_are_kept_apart(void **state)
{
    (void)state;
    char root[256];
    root_of(root, "apart");
    for (int n = 0; n < 10; n++) {
        write_set(root, n, "0123abcd", n < 4 ? "aaaaaaaa" : "bbbbbbbb");
    }
    write_set(root, 2, "ffffffff", "aaaaaaaa");
    struct json *answer = ask(root, "cycle.instructions_per_op", "scenario-0");
    const struct json *series = json_first(json_get(answer, "series"));
    assert_string_equal(json_string(json_get(answer, "env8"), ""), "0123abcd");
    assert_int_equal(json_int(json_get(answer, "sets_of_other_environments"), -1), 1);
    assert_int_equal(json_count(json_get(series, "points")), 6);
    assert_int_equal(json_int(json_get(series, "left_out"), -1), 4);
    json_free(answer);
}

static void broken_and_newer_sets_end_with_5_and_name_the_file(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        const char *text;
        const char *said;
    } cases[] = {
        {"manifest.json", "{\"schema\":\"codeq-lab.set/2\"}", "newer"},
        {"manifest.json", "{\"schema\":\"codeq-lab.set/1\",\"scenarios\":[]}", "created"},
        {"manifest.json", "{\"schema\":\"x\"}", "schema"},
        {"manifest.json", "{", "manifest.json"},
        {"manifest.json",
         "{\"schema\":\"codeq-lab.set/1\",\"created\":\"2026-01-01T00:00:00Z\","
         "\"scenarios\":[\"../x\"]}",
         "not a name"},
        {"scenario-1/summary.json", "{\"schema\":\"codeq-lab.summary/9\"}", "newer"},
        {"scenario-1/summary.json", "{\"schema\":\"codeq-lab.summary/1\"}", "sha256"},
        {"scenario-1/summary.json", "{\"schema\":\"codeq-lab.summary/1\",\"scen", "summary.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[256];
        char path[640];
        char name[16];
        char *out = NULL;
        char *errors = NULL;
        snprintf(name, sizeof name, "broken%zu", i);
        root_of(root, name);
        write_set(root, 0, "0123abcd", "aaaaaaaa");
        snprintf(path, sizeof path, "%s/%040x/0123abcd/%s", root, 1, cases[i].file);
        write_file(path, cases[i].text);
        assert_int_equal(run(&out, &errors, root, NULL, NULL, NULL), 5);
        assert_string_equal(out, "");
        if (strstr(errors, cases[i].said) == NULL || strstr(errors, cases[i].file) == NULL) {
            fail_msg("case %zu said \"%s\"", i, errors);
        }
        free(out);
        free(errors);
    }
}

static void nothing_to_show_is_said(void **state)
{
    (void)state;
    char root[256];
    char *out = NULL;
    char *errors = NULL;
    root_of(root, "empty");
    assert_int_equal(run(&out, &errors, root, NULL, NULL, NULL), 2);
    assert_non_null(strstr(errors, "no result sets"));
    free(out);
    free(errors);
    assert_int_equal(run(&out, &errors, "/nonexistent", NULL, NULL, NULL), 2);
    assert_non_null(strstr(errors, "/nonexistent"));
    free(out);
    free(errors);
    write_set(root, 0, "0123abcd", "aaaaaaaa");
    assert_int_equal(run(&out, &errors, root, "no-such-thing", NULL, NULL), 2);
    assert_non_null(strstr(errors, "no-such-thing"));
    free(out);
    free(errors);
    assert_int_equal(run(&out, &errors, root, "scenario-2", NULL, NULL), 0);
    assert_non_null(strstr(out, "scenario-2 cycle.instructions_per_op: 1 sets, newest 10,890"));
    assert_non_null(strstr(out, "no change"));
    free(out);
    free(errors);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(changes_are_found_at_their_commits_and_fast, back_to_three),
        cmocka_unit_test(the_index_follows_what_comes_changes_and_goes),
        cmocka_unit_test(other_environments_and_revisions_are_kept_apart),
        cmocka_unit_test(broken_and_newer_sets_end_with_5_and_name_the_file),
        cmocka_unit_test(nothing_to_show_is_said),
    };
    if (argc != 2) {
        fputs("usage: cmd_history_cli_test CODEQ-BENCH\n", stderr);
        return 2;
    }
    program = argv[1];
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 2;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(dir);
    return failed;
}
