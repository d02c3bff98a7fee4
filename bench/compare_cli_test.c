/* compare, top, list and heap as built programs. argv: codeq-bench, the source folder. A small git
 * repository is made of this tree's own driver sources, with one planted change. */
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
#include "env.h"
#include "repo_fixture.h"
#include "result.h"

#define TIMEOUT_NS REPO_TIMEOUT_NS

static const char *bench;
static char sets[2][RESULT_PATH_MAX]; /* of the plain and of the planted program */

#define RUN(...) run_in(fixture.repo, (const char *const[]){bench, __VA_ARGS__, NULL})

/* Tags: old (no driver), plain, planted (conn_arg_space spins). */
static int make_repo(void **state)
{
    (void)state;
    repo_make();
    repo_shell("sed -i '/^char \\*conn_arg_space(/,/^{/ s/^{/{\\n    for (int i = 0; i < 20; i++) {"
               " __asm__ volatile(\"\"); }/' src/store/conn.c;"
               "git diff --quiet && exit 1; git commit -qam 'spin'; git tag planted");
    return 0;
}

static int drop_repo(void **state)
{
    (void)state;
    repo_drop();
    return 0;
}

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

static const struct json *member(const struct json *list, const char *key, const char *value)
{
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        if (strcmp(json_string(json_get(c, key), ""), value) == 0) {
            return c;
        }
    }
    fail_msg("no %s '%s'", key, value);
    return NULL;
}

/* The first test: it builds what the others use. */
static void planted_change_is_found_fresh_and_blamed_on_its_function(void **state)
{
    (void)state;
    struct answer answer =
        RUN("compare", "plain", "planted", "--counts-only", "--json", "--scenario", fixture.tiny);
    expect(&answer, 1, "\"verdict\": \"worse\"", "");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    assert_non_null(json);
    assert_non_null(strstr(json_string(json_get(json, "headline"), ""),
                           "instructions/op in conn_arg_space, 100 % of the growth"));
    assert_true(json_bool(json_get(json, "fresh"), false));
    assert_false(json_bool(json_get(json, "same_program"), true));
    const struct json *scenario = member(json_get(json, "scenarios"), "scenario", "tiny");
    int alarms = 0;
    for (const struct json *m = json_first(json_get(scenario, "metrics")); m != NULL;
         m = json_next(m)) {
        bool same = strcmp(json_string(json_get(m, "verdict"), ""), "same") == 0;
        bool instructions =
            strcmp(json_string(json_get(m, "id"), ""), "cycle.instructions_per_op") == 0;
        assert_true(same != instructions);
        alarms += !same;
        if (instructions) {
            double sum = json_number(json_get(m, "remainder"), 1e9);
            for (const struct json *p = json_first(json_get(m, "parts")); p != NULL;
                 p = json_next(p)) {
                sum += json_number(json_get(p, "difference"), 1e9);
            }
            double difference = json_number(json_get(m, "difference"), 0);
            assert_true(difference > 500 && sum > difference - 0.01 && sum < difference + 0.01);
        }
    }
    assert_int_equal(alarms, 1);
    json_free(json);
    answer_free(&answer);
    assert_int_equal(count_entries(fixture.tmp), 0);
    char work[128];
    snprintf(work, sizeof work, "%s/codeq-lab/compare", fixture.root);
    assert_int_equal(count_entries(work), 0); /* whole: nothing is kept */
}

static void equal_commits_are_the_same_program(void **state)
{
    (void)state;
    struct answer answer = RUN("compare", "plain", "planted~1", "--scenario", fixture.tiny);
    expect(&answer, 0, "same: A and B build the same program", "");
    answer_free(&answer);
}

static void revision_without_a_driver_is_not_comparable_by_name(void **state)
{
    (void)state;
    struct answer answer = RUN("compare", "old", "plain", "--scenario", fixture.tiny);
    expect(&answer, 3, "not comparable: 'old' has no codeq-drive", "");
    answer_free(&answer);
    answer = RUN("compare", "old", "plain", "--json", "--scenario", fixture.tiny);
    expect(&answer, 3, "\"verdict\": \"not comparable\"", "");
    answer_free(&answer);
}

static void what_cannot_be_understood_exits_2_and_prints_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *const arguments[5];
        const char *errors;
    } wrong[] = {
        {{"plain", "nowhere"}, "'nowhere': git knows no such commit"},
        {{"plain"}, "compare: give two revisions or folders"},
        {{"plain", "planted", "--scenario", "nothing"}, "scenario 'nothing': not in"},
        {{"plain", "planted", "--fail-on", "bad"}, "--fail-on bad: give worse, leak, warning"},
        {{"plain", "planted", "--budget", "10"}, "compare: --budget: "},
        {{"plain", "planted", "--fresh", "--committed"}, "give one of them"},
        {{"plain", "planted", "--committed"}, "results"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *argv[8] = {bench, "compare"};
        for (size_t k = 0; k < 5 && wrong[i].arguments[k] != NULL; k++) {
            argv[2 + k] = wrong[i].arguments[k];
        }
        struct answer answer = run_in(fixture.repo, argv);
        expect(&answer, 2, "", wrong[i].errors);
        assert_string_equal(answer.out, "");
        answer_free(&answer);
    }
}

static void interrupted_comparison_leaves_nothing_running_and_goes_on(void **state)
{
    (void)state;
    const char *const argv[] = {bench,           "compare",    "plain",      "planted", "--fresh",
                                "--counts-only", "--scenario", fixture.tiny, NULL};
    const struct child_options options = {.argv = argv,
                                          .dir = fixture.repo,
                                          .stdin_fd = -1,
                                          .stdout_fd = -1,
                                          .stderr_fd = -1,
                                          .cpu = -1};
    struct child child;
    struct err err = {""};
    assert_int_equal(child_start(&child, &options, &err), 0);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + TIMEOUT_NS;
    while (count_entries(fixture.tmp) == 0 &&
           child_wait(&child, clock_monotonic_ns(clock_system()) + 10 * NS_PER_MS) == -ETIMEDOUT) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    kill(child.pid, SIGINT);
    assert_int_equal(child_wait(&child, deadline_ns), 0);
    assert_int_equal(child_exit_code(&child), 130);
    assert_int_equal(count_entries(fixture.tmp), 0);
}

/* The file of the screen's pairs below the cache, its lines and what the first one says; 0: none.
 */
static size_t screen_lines(char path[512], char **out_first)
{
    const char *const argv[] = {
        "sh", "-c",         "find \"$1\"/codeq-lab/compare -name '*-screen.ndjson'",
        "sh", fixture.root, NULL};
    struct answer answer = run_in(fixture.repo, argv);
    char *text = NULL;
    size_t bytes = 0;
    size_t lines = 0;
    snprintf(path, 512, "%.*s", (int)strcspn(answer.out, "\n"), answer.out);
    answer_free(&answer);
    if (path[0] != '\0' && result_read_file(path, &text, &bytes, NULL) == 0) {
        for (size_t i = 0; i < bytes; i++) {
            lines += text[i] == '\n';
        }
        if (out_first != NULL) {
            *out_first = strndup(text, strcspn(text, "\n"));
        }
        free(text);
    }
    return lines;
}

/* Start an endless comparison of like with like, and kill it when it has so many timed runs. */
static void kill_at(size_t wanted)
{
    const char *const argv[] = {bench,         "compare",    "plain",      "plain",
                                "--even-same", "--scenario", fixture.tiny, NULL};
    const struct child_options options = {.argv = argv,
                                          .dir = fixture.repo,
                                          .stdin_fd = -1,
                                          .stdout_fd = -1,
                                          .stderr_fd = -1,
                                          .cpu = -1};
    struct child child;
    char path[512];
    assert_int_equal(child_start(&child, &options, NULL), 0);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + TIMEOUT_NS;
    while (screen_lines(path, NULL) < wanted) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + 50 * NS_PER_MS),
                         -ETIMEDOUT);
    }
    kill(child.pid, SIGKILL);
    assert_int_equal(child_wait(&child, deadline_ns), 0);
}

static void killed_comparison_goes_on_with_the_pairs_it_had(void **state)
{
    (void)state;
    char path[512];
    char *first = NULL;
    char *again = NULL;
    kill_at(4);
    size_t had = screen_lines(path, &first);
    assert_true(had >= 4);
    /* What a kill in the middle of a write leaves: half a line, and half a pair. */
    FILE *file = fopen(path, "ae");
    assert_non_null(file);
    fputs("{\"v\":1,\"kind\":\"tim", file);
    fclose(file);
    kill_at(had + 2);
    assert_true(screen_lines(path, &again) >= had + 2);
    assert_string_equal(again, first);
    free(first);
    free(again);
    remove_tree(fixture.tmp); /* what the killed ones had there */
    assert_int_equal(mkdir(fixture.tmp, 0700), 0);
    struct answer answer = RUN("compare", "plain", "plain", "--even-same", "--json", "--scenario",
                               fixture.tiny, "--budget", "30s");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    if (json == NULL || (answer.code != 0 && answer.code != 4)) {
        fail_msg("exit %d: %s%s", answer.code, answer.errors, answer.out);
    }
    const struct json *scenario = json_first(json_get(json, "scenarios"));
    double pairs = json_number(json_get(scenario, "screen_pairs"), 0);
    double unsteady = json_number(json_get(scenario, "unsteady_pairs"), 0);
    assert_true(pairs + unsteady >= (double)(had / 2));
    const struct json *time = member(json_get(scenario, "metrics"), "id", "cycle.time_ns_per_op");
    assert_string_equal(json_string(json_get(time, "class"), ""), "timed");
    /* More than the screen's, where noise was flagged and fresh pairs had to confirm it. */
    assert_true(json_int(json_get(time, "pairs"), -1) >= (int64_t)pairs);
    /* Like with like is remembered as noise where it was enough to say anything. */
    char noise[128];
    snprintf(noise, sizeof noise, "%s/codeq-lab/noise", fixture.root);
    bool enough = pairs >= 16 && !json_bool(json_get(scenario, "unsteady"), true);
    assert_int_equal(access(noise, F_OK) == 0, enough);
    json_free(json);
    answer_free(&answer);
    assert_int_equal(screen_lines(path, NULL), 0); /* whole: nothing is kept */
}

/* Measure a built driver; its set into sets[at]. */
static void measure(int at, const char *pick)
{
    char script[512];
    char out_dir[96];
    snprintf(out_dir, sizeof out_dir, "%s/out%d", fixture.root, at);
    snprintf(script, sizeof script,
             "d=$(grep -%s 'i < 20' \"$1\"/codeq-lab/builds/*/source/src/store/conn.c | head -n 1);"
             "exec \"$2\" run --quick --profile --repeat 1 --json --out \"$3\""
             " --drive \"${d%%/source/*}/build/src/codeq-drive\" \"$4\"",
             pick);
    const char *const argv[] = {"sh",  "-euc",  script,       "sh", fixture.root,
                                bench, out_dir, fixture.tiny, NULL};
    struct answer answer = run_in(fixture.repo, argv);
    expect(&answer, 0, "\"set\"", "");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    snprintf(sets[at], sizeof sets[at], "%s", json_string(json_get(json, "set"), ""));
    json_free(json);
    answer_free(&answer);
}

static void result_sets_are_compared_and_fail_on_chooses_the_exit_code(void **state)
{
    (void)state;
    measure(0, "L");
    measure(1, "l");
    struct answer answer = RUN("compare", sets[0], sets[1]);
    expect(&answer, 1, "worse: +", "");
    expect(&answer, 1, "instructions/op in conn_arg_space", "");
    expect(&answer, 1, "from result sets", "");
    assert_null(strchr(answer.out, '\033'));
    answer_free(&answer);
    answer = RUN("compare", "--fail-on", "leak", sets[0], sets[1]);
    expect(&answer, 0, "worse: +", "");
    answer_free(&answer);
    answer = RUN("compare", sets[1], sets[0]);
    expect(&answer, 0, "better: -", "");
    answer_free(&answer);
    answer = RUN("compare", sets[0], sets[0]);
    expect(&answer, 0, "same: no counted metric left its budget", "");
    answer_free(&answer);
    answer = RUN("compare", sets[0], sets[1], "--scenario", "other");
    expect(&answer, 3, "not comparable: no scenario in common: other", "");
    answer_free(&answer);
}

static void markdown_leads_with_three_lines_and_folds_the_rest(void **state)
{
    (void)state;
    struct answer answer = RUN("compare", "--markdown", sets[0], sets[1]);
    expect(&answer, 1, "**worse: ", "");
    const char *at = answer.out;
    for (int line = 0; line < 3; line++) {
        at = strchr(at, '\n');
        assert_non_null(at);
        at++;
    }
    assert_memory_equal(at, "\n<details>", 10);
    assert_non_null(strstr(at, "remainder: "));
    assert_non_null(strstr(at, "</details>"));
    answer_free(&answer);
}

/* What the program prints on a terminal of its own. */
static char *on_terminal(const char *const *argv)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    const struct child_options options = {.argv = argv,
                                          .dir = fixture.repo,
                                          .stdin_fd = -1,
                                          .stdout_fd = slave,
                                          .stderr_fd = -1,
                                          .cpu = -1};
    struct child child;
    assert_int_equal(child_start(&child, &options, NULL), 0);
    close(slave);
    struct buf text = BUF_INIT;
    char chunk[4096];
    for (ssize_t n; (n = read(master, chunk, sizeof chunk)) > 0;) {
        buf_append(&text, chunk, (size_t)n);
    }
    close(master);
    assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + TIMEOUT_NS), 0);
    return buf_take(&text);
}

static void colour_is_for_terminals_without_no_color_alone(void **state)
{
    (void)state;
    const char *const argv[] = {bench, "compare", sets[0], sets[1], NULL};
    char *text = on_terminal(argv);
    assert_non_null(strstr(text, "\033[31mworse\033[0m"));
    free(text);
    setenv("NO_COLOR", "1", 1);
    text = on_terminal(argv);
    setenv("NO_COLOR", "", 1);
    assert_non_null(strstr(text, "worse"));
    assert_null(strchr(text, '\033'));
    free(text);
}

static void other_machine_is_refused_by_the_name_of_the_field(void **state)
{
    (void)state;
    char script[128];
    char path[RESULT_PATH_MAX + 64];
    char other[RESULT_PATH_MAX];
    struct env env;
    struct err err = {""};
    snprintf(other, sizeof other, "%s/other", fixture.root);
    snprintf(script, sizeof script, "cp -r \"$2\" '%.80s'", other);
    const char *const argv[] = {"sh", "-euc", script, "sh", fixture.sources, sets[0], NULL};
    struct answer answer = run_in(fixture.repo, argv);
    assert_int_equal(answer.code, 0);
    answer_free(&answer);
    char *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/env.json", other);
    assert_int_equal(result_read_file(path, &text, &bytes, &err), 0);
    assert_int_equal(env_parse(&env, text, bytes, &err), 0);
    free(text);
    env_set(&env, "cpu_model", "999");
    text = env_print(&env);
    assert_int_equal(result_write_file(path, text, strlen(text), &err), 0);
    free(text);
    char env8[ENV_ID_BYTES];
    struct result_commit commit;
    env_id(&env, env8);
    result_commit_read(fixture.repo, &commit);
    assert_int_equal(result_write_manifest(other, &commit, env8, &err), 0);
    answer = RUN("compare", sets[0], other);
    expect(&answer, 3, "not comparable: cpu_model differs: '", "");
    expect(&answer, 3, "'999' in B", "");
    answer_free(&answer);
    /* A byte that is not what the manifest says: broken, by the file's name. */
    snprintf(path, sizeof path, "%s/tiny/functions.tsv", other);
    FILE *file = fopen(path, "ae");
    assert_non_null(file);
    fputs("x\n", file);
    fclose(file);
    answer = RUN("compare", other, other);
    expect(&answer, 5, "", "functions.tsv");
    assert_string_equal(answer.out, "");
    answer_free(&answer);
}

/* A copy of a set, broken by a script in its folder ("$1"), and sealed again: the manifest has the
 * right checksums, so that what is broken is found for itself. */
static void every_broken_set_is_refused_by_file_and_line(void **state)
{
    (void)state;
#define TIMED \
    "{\"v\":1,\"run\":%d,\"kind\":\"timed\",\"repeat\":0,\"scale\":1,\"ops\":9,\"errors\":0," \
    "\"mode\":\"closed\",\"dur_ns\":9,\"rate\":1,\"cpu_us\":1,\"redis_cpu_us\":1," \
    "\"hdr\":{\"claim\":{\"enc\":\"HDR-V2\",\"lo\":1,\"hi\":9,\"sig\":3,\"n\":9,\"clamped\":0," \
    "\"b64\":\"%s\"}}}"
#define APPEND_TIMED(b64) \
    "n=$(wc -l < tiny/runs.ndjson); printf '" TIMED "\\n' \"$n\" '" b64 "' >> tiny/runs.ndjson"
    static const struct {
        const char *script;
        const char *file;
        const char *says;
    } broken[] = {
        {"truncate -s -20 tiny/runs.ndjson", "tiny/runs.ndjson: line ", "cut off"},
        {"sed -i '2s/.*/{\"v\":1,/' tiny/runs.ndjson", "tiny/runs.ndjson: line 2", ""},
        {"printf 'nonsense' > tiny/runs.ndjson", "tiny/runs.ndjson: line 1", ""},
        {": > tiny/runs.ndjson", "tiny/runs.ndjson", "no runs"},
        {"sed -i '1s/\"v\":1/\"v\":2/' tiny/runs.ndjson", "tiny/runs.ndjson: line 1", ""},
        {"sed -i '1s/\"ops\":[0-9]*/\"ops\":0/' tiny/runs.ndjson", "tiny/runs.ndjson: line 1",
         "ops"},
        {"sed -i '0,/\"instructions\":[0-9]*/s//\"instructions\":NaN/' tiny/runs.ndjson",
         "tiny/runs.ndjson: line ", ""},
        {"sed -i '0,/\"instructions\":[0-9]*/s//\"instructions\":1e999/' tiny/runs.ndjson",
         "tiny/summary.json: line ", "not what runs.ndjson gives"},
        {APPEND_TIMED("!!!!"), "tiny/runs.ndjson: line ", ": hdr.claim"},
        {APPEND_TIMED("HISTFAAAAAAAAAAA"), "tiny/runs.ndjson: line ", ": hdr.claim"},
        {"sed -i 's/summary\\/1/summary\\/9/' tiny/summary.json", "tiny/summary.json", "newer"},
        {"sed -i '0,/\"value\": [0-9.]*/s//\"value\": NaN/' tiny/summary.json",
         "tiny/summary.json: line ", ""},
        {"sed -i '$d' tiny/summary.json", "tiny/summary.json: line ", ""},
        {"sed -i 's/env\\/1/env\\/2/' env.json", "env.json", "schema is 'codeq-lab.env/2'"},
        {"sed -i 's/set\\/1/set\\/2/' manifest.json", "manifest.json", "newer"},
        {"sed -i '3s/\"/x/' manifest.json", "manifest.json: line ", ""},
        {"rm tiny/runs.ndjson", "tiny/runs.ndjson", "missing"},
        {"rm tiny/summary.json", "tiny/summary.json", "missing"},
        {"rm env.json", "env.json", "missing"},
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char script[2048];
        char copy[128];
        snprintf(copy, sizeof copy, "%s/broken%zu", fixture.root, i);
        snprintf(script, sizeof script,
                 "cp -r \"$1\" \"$2\"; cd \"$2\"; find . -type f ! -name manifest.json -exec "
                 "sha256sum {} + | sort -k2 > ../before; %s;"
                 "while read -r sum name; do [ ! -f \"$name\" ] ||"
                 " sed -i \"s/$sum/$(sha256sum < \"$name\" | cut -c1-64)/\" manifest.json;"
                 " done < ../before",
                 broken[i].script);
        const char *const argv[] = {"sh", "-euc", script, "sh", sets[0], copy, NULL};
        struct answer answer = run_in(fixture.repo, argv);
        if (answer.code != 0) {
            fail_msg("%s: %s", script, answer.errors);
        }
        answer_free(&answer);
        for (int side = 0; side < 2; side++) {
            answer = RUN("compare", side == 0 ? copy : sets[0], side == 0 ? sets[0] : copy);
            if (answer.code != 5 || strstr(answer.errors, broken[i].file) == NULL ||
                strstr(answer.errors, broken[i].says) == NULL || answer.out[0] != '\0') {
                fail_msg("%s: exit %d: %s%s", broken[i].script, answer.code, answer.errors,
                         answer.out);
            }
            answer_free(&answer);
        }
    }
}

static void profile_readers_show_what_is_there_and_refuse_what_is_not(void **state)
{
    (void)state;
    struct answer answer = RUN("top", sets[1], "-n", "3");
    expect(&answer, 0, "conn_arg_space", "");
    answer_free(&answer);
    answer = RUN("top", sets[1], "--by", "inclusive", "--json");
    struct json *json = json_parse(answer.out, strlen(answer.out), NULL);
    assert_non_null(json);
    json_free(json);
    expect(&answer, 0, "measured_region", "");
    answer_free(&answer);
    answer = RUN("list", "conn_arg_space", sets[1]);
    expect(&answer, 0, "conn.c", "");
    answer_free(&answer);
    answer = RUN("heap", "--by", "peak", sets[1]);
    expect(&answer, 0, "conn_new", "");
    answer_free(&answer);
    answer = RUN("top", sets[1], "--by", "colour");
    expect(&answer, 2, "", "--by");
    answer_free(&answer);
    answer = RUN("heap", sets[1], "--by", "colour");
    expect(&answer, 2, "", "--by");
    answer_free(&answer);
    answer = RUN("list", "no_such_function", sets[1]);
    expect(&answer, 2, "", "no_such_function");
    answer_free(&answer);
    answer = RUN("top", "nowhere");
    expect(&answer, 2, "", "nowhere");
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
        cmocka_unit_test(planted_change_is_found_fresh_and_blamed_on_its_function),
        cmocka_unit_test(equal_commits_are_the_same_program),
        cmocka_unit_test(revision_without_a_driver_is_not_comparable_by_name),
        cmocka_unit_test(what_cannot_be_understood_exits_2_and_prints_nothing),
        cmocka_unit_test(interrupted_comparison_leaves_nothing_running_and_goes_on),
        cmocka_unit_test(killed_comparison_goes_on_with_the_pairs_it_had),
        cmocka_unit_test(result_sets_are_compared_and_fail_on_chooses_the_exit_code),
        cmocka_unit_test(markdown_leads_with_three_lines_and_folds_the_rest),
        cmocka_unit_test(colour_is_for_terminals_without_no_color_alone),
        cmocka_unit_test(other_machine_is_refused_by_the_name_of_the_field),
        cmocka_unit_test(every_broken_set_is_refused_by_file_and_line),
        cmocka_unit_test(profile_readers_show_what_is_there_and_refuse_what_is_not),
    };
    return cmocka_run_group_tests(tests, make_repo, drop_repo);
}
