/* What works on ranges of commits, as built programs. argv: codeq-bench, the source folder. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "repo_fixture.h"
#include "result.h"

static const char *bench;

#define RUN(...) run_in(fixture.repo, (const char *const[]){bench, __VA_ARGS__, NULL})

/* plain, then commits 1 to 6 on it: 2 does not build, 4 is planted (conn_arg_space spins); the
 * others change words of the source. */
static int make_repo(void **state)
{
    (void)state;
    repo_make();
    repo_shell("for i in 1 2 3 4 5 6; do"
               " echo \"/* $i */\" >> src/store/conn.c;"
               " if [ $i = 2 ]; then echo oops >> src/store/conn.c; fi;"
               " if [ $i = 3 ]; then sed -i '/^oops/d' src/store/conn.c; fi;"
               " if [ $i = 4 ]; then sed -i '/^char \\*conn_arg_space(/,/^{/ s/^{/{\\n    "
               "for (int i = 0; i < 20; i++) { __asm__ volatile(\"\"); }/' src/store/conn.c; fi;"
               " git commit -qam \"change $i\"; git tag c$i; done;"
               " git diff --quiet c3 c4 && exit 1; git tag last");
    return 0;
}

static int drop_repo(void **state)
{
    (void)state;
    repo_drop();
    return 0;
}

static struct json *read_json(const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    struct err err = {""};
    if (result_read_file(path, &text, &bytes, &err) != 0) {
        fail_msg("%s", err.text);
    }
    struct json *json = json_parse(text, bytes, &err);
    free(text);
    assert_non_null(json);
    return json;
}

static void run_commit_measures_it_and_files_it_under_its_name(void **state)
{
    (void)state;
    char out_dir[128];
    snprintf(out_dir, sizeof out_dir, "%s/one", fixture.root);
    struct answer answer = RUN("run", "--commit", "c1", "--quick", "--repeat", "1", "--json",
                               "--out", out_dir, fixture.tiny);
    expect(&answer, 0, "\"set\"", "");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    char path[RESULT_PATH_MAX];
    snprintf(path, sizeof path, "%.900s/manifest.json", json_string(json_get(json, "set"), ""));
    json_free(json);
    answer_free(&answer);
    struct json *manifest = read_json(path);
    const char *const argv[] = {"git", "rev-parse", "c1", "c1^{tree}", "c1^", NULL};
    answer = run_in(fixture.repo, argv);
    char wanted[256];
    snprintf(wanted, sizeof wanted, "%s\n%s\n%s\n", json_string(json_get(manifest, "commit"), ""),
             json_string(json_get(manifest, "tree"), ""),
             json_string(json_get(manifest, "parent"), ""));
    assert_string_equal(answer.out, wanted);
    assert_false(json_bool(json_get(manifest, "dirty"), true));
    json_free(manifest);
    answer_free(&answer);
}

static void run_commit_refuses_what_it_cannot_measure_by_name(void **state)
{
    (void)state;
    struct answer answer = RUN("run", "--commit", "old", fixture.tiny);
    expect(&answer, 3, "", "run: 'old' has no codeq-drive");
    answer_free(&answer);
    answer = RUN("run", "--commit", "nowhere", fixture.tiny);
    expect(&answer, 2, "", "run: 'nowhere': git knows no such commit");
    answer_free(&answer);
    answer = RUN("run", "--commit", "c2", fixture.tiny);
    expect(&answer, 2, "", "run: building 'c2': ninja: ");
    answer_free(&answer);
    answer = RUN("run", "--commit", "c1", "--drive", "/bin/true", fixture.tiny);
    expect(&answer, 2, "", "--commit and --drive: give one of them");
    answer_free(&answer);
    repo_shell("echo more >> README");
    answer = RUN("run", "--commit", ".", fixture.tiny);
    expect(&answer, 2, "", "leave --commit out");
    answer_free(&answer);
    repo_shell("git checkout -q README");
}

static void backfill_measures_what_has_no_set_and_passes_over_the_rest(void **state)
{
    (void)state;
    char out_dir[128];
    snprintf(out_dir, sizeof out_dir, "%s/range", fixture.root);
#define BACKFILL(...) \
    RUN("backfill", "--quick", "--repeat", "1", "--out", out_dir, "--scenario", fixture.tiny, \
        __VA_ARGS__)
    struct answer answer = BACKFILL("plain..c3", "--dry-run");
    expect(&answer, 0, "3 commits: 3 to measure, 0 had a set", "");
    assert_int_equal(access(out_dir, F_OK), -1);
    answer_free(&answer);
    answer = BACKFILL("plain..c3");
    expect(&answer, 2, "3 commits: 2 measured, 0 had a set, 0 without a driver, 1 failed", "");
    expect(&answer, 2, "building '", "");
    answer_free(&answer);
    /* Asked again, only what failed is tried. */
    answer = BACKFILL("plain..c3");
    expect(&answer, 2, "3 commits: 0 measured, 2 had a set, 0 without a driver, 1 failed", "");
    answer_free(&answer);
    /* A set under another scenario file, or of another machine, is none. */
    repo_shell("f=$(ls ../range/*/*/tiny/summary.json | head -n 1);"
               "sed -i '0,/\"sha256\": \"/ s//&0/' \"$f\"; grep -q '\"sha256\": \"0' \"$f\"");
    answer = BACKFILL("plain..c3", "--dry-run");
    expect(&answer, 0, "3 commits: 2 to measure, 1 had a set", "");
    answer_free(&answer);
    repo_shell("for f in ../range/*/*/env.json; do"
               " sed -i 's/\"cpu_model\": \"/&x/' \"$f\"; grep -q 'cpu_model\": \"x' \"$f\"; done");
    answer = BACKFILL("plain..c3", "--dry-run");
    expect(&answer, 0, "3 commits: 3 to measure, 0 had a set", "");
    answer_free(&answer);
    answer = BACKFILL("c3..plain");
    expect(&answer, 2, "", "backfill: 'c3..plain': no commit lies between the two");
    answer_free(&answer);
    answer = BACKFILL("c3");
    expect(&answer, 2, "", "backfill: 'c3': not a range: give two commits as A..B");
    answer_free(&answer);
}

static void bisect_names_the_planted_commit_and_its_cause(void **state)
{
    (void)state;
    struct answer answer =
        RUN("bisect", "cycle.instructions_per_op", "plain..last", "--scenario", fixture.tiny);
    expect(&answer, 0, "change 4\nchanged cycle.instructions_per_op from ", "");
    expect(&answer, 0, "instructions/op in conn_arg_space, 100 % of the growth", "");
    answer_free(&answer);
    /* Kept by tree: a machine without a compiler answers too. */
    repo_shell("mkdir ../poor; for p in git sh redis-server valgrind tar; do"
               " ln -s \"$(PATH=$PATH:/usr/sbin command -v $p)\" ../poor/$p; done;"
               " printf '#!/bin/sh\\nexit 1\\n' > ../poor/ninja; chmod +x ../poor/ninja");
    char path[128];
    char *kept = strdup(getenv("PATH"));
    snprintf(path, sizeof path, "%s/poor", fixture.root);
    setenv("PATH", path, 1);
    answer = RUN("bisect", "cycle.instructions_per_op", "plain..last", "--scenario", fixture.tiny,
                 "--json");
    setenv("PATH", kept, 1);
    free(kept);
    expect(&answer, 0, "\"subject\": \"change 4\"", "");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    assert_non_null(json);
    /* A..B of six commits: the whole, then at most three, and one more for what does not build. */
    assert_in_range(json_number(json_get(json, "comparisons"), 0), 3, 5);
    json_free(json);
    answer_free(&answer);
}

static void bisect_names_the_commits_left_where_one_does_not_build(void **state)
{
    (void)state;
    /* A new line of commits: the change comes with the one that does not build. */
    repo_shell("git checkout -qb broken plain; git show c4:src/store/conn.c > src/store/conn.c;"
               "echo oops >> src/store/conn.c; git commit -qam 'broken change';"
               "sed -i '/^oops/d' src/store/conn.c; git commit -qam mended; git checkout -q main");
    struct answer answer =
        RUN("bisect", "cycle.instructions_per_op", "plain..broken", "--scenario", fixture.tiny);
    expect(&answer, 4, "one of these 2 commits changed cycle.instructions_per_op", "");
    expect(&answer, 4, "passed over", "");
    answer_free(&answer);
}

static void bisect_without_a_change_or_a_measure_says_so(void **state)
{
    (void)state;
    struct answer answer =
        RUN("bisect", "cycle.instructions_per_op", "plain..c1", "--scenario", fixture.tiny);
    expect(&answer, 4, "", "does not differ between A and B: nothing to find");
    answer_free(&answer);
    answer = RUN("bisect", "cycle.instructions_per_op", "old..last", "--scenario", fixture.tiny);
    expect(&answer, 3, "", "has no codeq-drive");
    answer_free(&answer);
    answer = RUN("bisect", "cycle.instructions_per_op", "plain..c2", "--scenario", fixture.tiny);
    expect(&answer, 2, "", "building '");
    answer_free(&answer);
    answer = RUN("bisect", "cycle.colour", "plain..last");
    expect(&answer, 2, "", "bisect: 'cycle.colour': no such metric");
    answer_free(&answer);
    answer = RUN("bisect", "cycle.instructions_per_op");
    expect(&answer, 2, "", "bisect: give a metric and a range");
    answer_free(&answer);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CODEQ-BENCH SOURCES\n", argv[0]);
        return 2;
    }
    bench = realpath(argv[1], NULL); /* the tests run in folders of their own */
    if (bench == NULL) {
        perror(argv[1]);
        return 2;
    }
    fixture.sources = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_commit_measures_it_and_files_it_under_its_name),
        cmocka_unit_test(run_commit_refuses_what_it_cannot_measure_by_name),
        cmocka_unit_test(backfill_measures_what_has_no_set_and_passes_over_the_rest),
        cmocka_unit_test(bisect_names_the_planted_commit_and_its_cause),
        cmocka_unit_test(bisect_names_the_commits_left_where_one_does_not_build),
        cmocka_unit_test(bisect_without_a_change_or_a_measure_says_so),
    };
    return cmocka_run_group_tests(tests, make_repo, drop_repo);
}
