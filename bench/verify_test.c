#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hist.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "digest.h"
#include "env.h"
#include "result.h"
#include "summary.h"
#include "verify.h"

struct set {
    char dir[64];
    char env8[ENV_ID_BYTES];
};

static void write_in(const struct set *set, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", set->dir, file);
    assert_int_equal(result_write_file(path, text, strlen(text), NULL), 0);
}

static char *read_in(const struct set *set, const char *file)
{
    char path[256], *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/%s", set->dir, file);
    assert_int_equal(result_read_file(path, &text, &bytes, NULL), 0);
    return text;
}

static void seal(const struct set *set)
{
    struct result_commit commit = {.commit = "none", .tree = "none", .parent = "none"};
    struct err err = {""};
    assert_int_equal(result_write_manifest(set->dir, &commit, set->env8, &err), 0);
}

/* 1..count us, one each. */
static char *timed_line(int run, int count)
{
    struct hist hist;
    assert_int_equal(hist_init(&hist, NULL, NULL), 0);
    for (int i = 1; i <= count; i++) {
        hist_record(&hist, i * INT64_C(1000));
    }
    char *b64 = hist_encode(&hist);
    struct buf line = BUF_INIT;
    buf_printf(&line,
               "{\"v\":1,\"kind\":\"timed\",\"repeat\":%d,\"scale\":1,\"ops\":%d,\"dur_ns\":%d000,"
               "\"cpu_us\":%d,\"redis_cpu_us\":%d,\"hdr\":{\"claim\":{\"enc\":\"HDR-V2\",\"n\":%d,"
               "\"b64\":\"%s\"}},\"run\":%d}\n",
               run, count, count * 4, count * 2, count * 3, count, b64, run);
    free(b64);
    hist_fini(&hist);
    return buf_take(&line);
}

static const char counted_lines[] =
    "{\"v\":1,\"kind\":\"callgrind\",\"repeat\":0,\"scale\":1,\"ops\":10,"
    "\"totals\":{\"instructions\":1500},\"run\":1}\n"
    "{\"v\":1,\"kind\":\"callgrind\",\"repeat\":0,\"scale\":2,\"ops\":20,"
    "\"totals\":{\"instructions\":2500},\"run\":2}\n"
    "{\"v\":1,\"kind\":\"callgrind\",\"repeat\":1,\"scale\":1,\"ops\":10,"
    "\"totals\":{\"instructions\":1500},\"run\":3}\n"
    "{\"v\":1,\"kind\":\"callgrind\",\"repeat\":1,\"scale\":2,\"ops\":20,"
    "\"totals\":{\"instructions\":2530},\"run\":4}\n"
    "{\"v\":1,\"kind\":\"massif\",\"repeat\":0,\"scale\":1,\"ops\":10,"
    "\"totals\":{\"heap_peak_bytes\":777},\"run\":5}\n";

static void summarise(const struct set *set)
{
    char path[256], digest[DIGEST_BYTES];
    snprintf(path, sizeof path, "%s/s/scenario.json", set->dir);
    assert_int_equal(digest_file(path, digest, NULL), 0);
    struct summary_header header = {"s", 1, digest, "r", "claim", 1, "one-core"};
    struct result_runs runs;
    struct err err = {""};
    snprintf(path, sizeof path, "%s/s/runs.ndjson", set->dir);
    assert_int_equal(result_runs_read(path, false, &runs, &err), 0);
    char *summary = summary_derive(&header, runs.lines, runs.count, &err);
    assert_string_equal(err.text, "");
    assert_non_null(summary);
    write_in(set, "s/summary.json", summary);
    free(summary);
    result_runs_free(&runs);
}

static int make_set(void **state)
{
    struct set *set = calloc(1, sizeof *set);
    assert_non_null(set);
    snprintf(set->dir, sizeof set->dir, "/tmp/verify-test-XXXXXX");
    assert_non_null(mkdtemp(set->dir));
    char path[128];
    snprintf(path, sizeof path, "%s/s", set->dir);
    assert_int_equal(result_make_dirs(path, NULL), 0);
    struct env env = {0};
    env_set(&env, "cpus", "2");
    env_id(&env, set->env8);
    char *text = env_print(&env);
    write_in(set, "env.json", text);
    free(text);
    write_in(set, "s/scenario.json", "{}\n");
    char *timed = timed_line(0, 5000);
    struct buf runs = BUF_INIT;
    buf_printf(&runs, "%s%s", timed, counted_lines);
    write_in(set, "s/runs.ndjson", runs.data);
    buf_fini(&runs);
    free(timed);
    summarise(set);
    seal(set);
    *state = set;
    return 0;
}

static int drop_set(void **state)
{
    struct set *set = *state;
    remove_tree(set->dir);
    free(set);
    return 0;
}

static void expect(const struct set *set, int code, const char *what, const char *why)
{
    struct err err = {""};
    struct verify_counts counts;
    int got = verify_set(set->dir, &counts, &err);
    if (got != code || strstr(err.text, what) == NULL || strstr(err.text, why) == NULL) {
        fail_msg("%d: '%s'", got, err.text);
    }
}

static void a_whole_set_is_as_measured(void **state)
{
    struct err err = {""};
    struct verify_counts counts;
    assert_int_equal(verify_set(((struct set *)*state)->dir, &counts, &err), 0);
    assert_int_equal(counts.files, 4);
    assert_int_equal(counts.runs, 6);
    assert_int_equal(counts.scenarios, 1);
}

static const struct json *metric_of(const struct json *summary, const char *id)
{
    for (const struct json *c = json_first(json_get(summary, "metrics")); c; c = json_next(c)) {
        if (strcmp(json_string(json_get(c, "id"), ""), id) == 0) {
            return c;
        }
    }
    fail_msg("no metric %s", id);
    return NULL;
}

static void slopes_medians_and_quantiles_are_those_of_the_runs(void **state)
{
    char *text = read_in(*state, "s/summary.json");
    struct json *summary = json_parse(text, strlen(text), NULL);
    const struct json *ir = metric_of(summary, "claim.instructions_per_op");
    assert_true(json_number(json_get(ir, "value"), 0) == 101.5); /* 100 and 103 */
    assert_true(json_number(json_get(ir, "range"), 0) == 3);
    assert_string_equal(json_string(json_get(ir, "status"), ""), "jittery");
    const struct json *peak = metric_of(summary, "run.heap_peak_bytes");
    assert_true(json_number(json_get(peak, "value"), 0) == 777);
    assert_string_equal(json_string(json_get(peak, "status"), ""), "exact");
    const struct json *rate = metric_of(summary, "run.throughput_per_sec");
    assert_true(json_number(json_get(rate, "value"), 0) == 250000);
    assert_true(
        json_number(json_get(metric_of(summary, "claim.redis_cpu_us_per_op"), "value"), 0) == 3);
    double p50 = json_number(json_get(metric_of(summary, "claim.latency_ns_p50"), "value"), 0);
    assert_true(p50 >= 2500e3 && p50 < 2500e3 * 1.01);
    /* p99.9 of 5000: 5 beyond it. */
    const struct json *p999 = metric_of(summary, "claim.latency_ns_p999");
    assert_int_equal(json_type(json_get(p999, "value")), JSON_NULL);
    assert_int_equal(json_type(json_first(json_get(p999, "values"))), JSON_NULL);
    assert_int_equal(json_type(json_get(metric_of(summary, "claim.latency_ns_p99"), "value")),
                     JSON_NUMBER);
    json_free(summary);
    free(text);
}

static void a_changed_byte_is_found(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    strstr(text, "1500")[0] = '2';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    expect(*state, -EBADMSG, "s/runs.ndjson", "sha256");
}

static void a_resealed_change_is_found_by_recomputing(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    strstr(text, "2530")[0] = '3';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "s/summary.json: line ", "not what runs.ndjson gives");
}

static void a_cut_off_run_is_found(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    text[strlen(text) - 20] = '\0';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "runs.ndjson", "line 6: cut off");
}

static void a_broken_histogram_is_found(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    strstr(text, "\"b64\":\"")[20] = '!';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "s/runs.ndjson", "line 1: hdr.claim");
}

static void a_histogram_of_other_values_than_it_says_is_found(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    strstr(text, "\"n\":5000")[4] = '6';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "s/runs.ndjson", "n is not the number");
}

static void a_broken_line_is_named_by_its_number(void **state)
{
    char *text = read_in(*state, "s/runs.ndjson");
    strstr(text, "\"massif\"")[0] = ' ';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "runs.ndjson", "line 6");
}

static void newer_schemas_are_refused(void **state)
{
    char *text = read_in(*state, "manifest.json");
    strstr(text, "set/1")[4] = '2';
    write_in(*state, "manifest.json", text);
    expect(*state, -EOPNOTSUPP, "manifest.json", "newer");
    free(text);
    text = read_in(*state, "s/runs.ndjson");
    strstr(text, "\"v\":1")[4] = '2';
    write_in(*state, "s/runs.ndjson", text);
    free(text);
    seal(*state);
    expect(*state, -EOPNOTSUPP, "runs.ndjson", "line 1");
    text = read_in(*state, "s/summary.json");
    strstr(text, "summary/1")[8] = '9';
    write_in(*state, "s/summary.json", text);
    free(text);
    seal(*state);
    expect(*state, -EOPNOTSUPP, "summary.json", "newer");
}

static void missing_and_unknown_files_are_named(void **state)
{
    struct set *set = *state;
    write_in(set, "s/extra.txt", "x");
    expect(set, -EBADMSG, "s/extra.txt", "manifest.json does not know it");
    seal(set);
    char path[128];
    snprintf(path, sizeof path, "%s/s/extra.txt", set->dir);
    assert_int_equal(unlink(path), 0);
    expect(set, -EBADMSG, "s/extra.txt", "missing");
    snprintf(path, sizeof path, "%s/manifest.json", set->dir);
    assert_int_equal(unlink(path), 0);
    expect(set, -ENOENT, "manifest.json", "No such file");
}

static void an_edited_environment_is_found(void **state)
{
    char *text = read_in(*state, "env.json");
    strstr(text, "\"2\"")[1] = '8';
    write_in(*state, "env.json", text);
    free(text);
    seal(*state);
    expect(*state, -EBADMSG, "env.json", "env8");
}

static void a_cut_off_run_can_be_cut_away_to_go_on(void **state)
{
    struct set *set = *state;
    char *text = read_in(set, "s/runs.ndjson");
    size_t whole = (size_t)(strstr(text, "{\"v\":1,\"kind\":\"massif\"") - text);
    text[strlen(text) - 3] = '\0';
    write_in(set, "s/runs.ndjson", text);
    free(text);
    char path[128];
    snprintf(path, sizeof path, "%s/s/runs.ndjson", set->dir);
    struct result_runs runs;
    assert_int_equal(result_runs_read(path, true, &runs, NULL), 0);
    assert_true(runs.cut);
    assert_int_equal(runs.count, 5);
    assert_int_equal(runs.cut_at, whole);
    result_runs_free(&runs);
}

static void the_newest_set_is_the_one_that_says_so(void **state)
{
    struct set *set = *state;
    static const char *const created[] = {"2026-11-23T08:00:00.000Z", "2026-11-24T08:00:00.000Z",
                                          "2026-11-22T08:00:00.000Z"};
    char dir[160], text[120], newest[RESULT_PATH_MAX];
    struct err err;
    snprintf(dir, sizeof dir, "%s/r", set->dir);
    assert_int_equal(result_newest(dir, newest, &err), -ENOENT);
    for (int i = 0; i < 3; i++) {
        snprintf(dir, sizeof dir, "%s/r/commit%d/env", set->dir, i);
        assert_int_equal(result_make_dirs(dir, NULL), 0);
        snprintf(dir, sizeof dir, "r/commit%d/env/manifest.json", i);
        snprintf(text, sizeof text, "{\"created\":\"%s\"}", created[i]);
        write_in(set, dir, text);
    }
    snprintf(dir, sizeof dir, "%s/r", set->dir);
    assert_int_equal(result_newest(dir, newest, &err), 0);
    assert_non_null(strstr(newest, "/commit1/env"));
}

#define SET_TEST(f) cmocka_unit_test_setup_teardown(f, make_set, drop_set)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SET_TEST(a_whole_set_is_as_measured),
        SET_TEST(slopes_medians_and_quantiles_are_those_of_the_runs),
        SET_TEST(a_changed_byte_is_found),
        SET_TEST(a_resealed_change_is_found_by_recomputing),
        SET_TEST(a_cut_off_run_is_found),
        SET_TEST(a_broken_histogram_is_found),
        SET_TEST(a_histogram_of_other_values_than_it_says_is_found),
        SET_TEST(a_broken_line_is_named_by_its_number),
        SET_TEST(newer_schemas_are_refused),
        SET_TEST(missing_and_unknown_files_are_named),
        SET_TEST(an_edited_environment_is_found),
        SET_TEST(a_cut_off_run_can_be_cut_away_to_go_on),
        SET_TEST(the_newest_set_is_the_one_that_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
