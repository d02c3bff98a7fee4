/* Against the reference: npm's hdr-histogram-js, found in node_modules of the build or source root
 * (`npm install hdr-histogram-js` there). Without it the test says so and skips (77). */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/json.h"
#include "base/rng.h"

static const double quantiles[] = {0.0001, 0.07, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
#define QUANTILES (sizeof quantiles / sizeof *quantiles)

static const struct hist_config configs[] = {
    {1, HIST_HIGHEST_NS_DEFAULT, 2},   {1, HIST_HIGHEST_NS_DEFAULT, 3},
    {1, HIST_HIGHEST_NS_DEFAULT, 1},   {1000, HIST_HIGHEST_NS_DEFAULT, 2},
    {1000, INT64_C(3600000000000), 3}, {7, 1000003, 3},
};
#define CONFIGS (sizeof configs / sizeof *configs)
#define HISTS (CONFIGS * 3)

static void fill(struct hist *h, size_t number)
{
    const struct hist_config *config = &configs[number % CONFIGS];
    assert_int_equal(hist_init(h, config, NULL), 0);
    struct rng rng;
    rng_init(&rng, number);
    int64_t n = number < CONFIGS ? 1 : number < 2 * CONFIGS ? 300 : 20000;
    for (int64_t i = 0; i < n; i++) {
        int64_t top = config->highest_ns >> rng_below(&rng, 24);
        hist_record_n(h, (int64_t)rng_below(&rng, (uint64_t)top + 1),
                      1 + (int64_t)rng_below(&rng, 5000));
    }
    if (number >= 2 * CONFIGS) {
        hist_record(h, config->highest_ns);
        hist_record(h, 0);
    }
}

/* Run node on the input; the answer, parsed. */
static struct json *ask_reference(const struct json *input)
{
    char path[] = "/tmp/hist-cli-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    char *text = json_print(input);
    size_t bytes = strlen(text);
    assert_int_equal(write(fd, text, bytes), (ssize_t)bytes);
    free(text);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const char *argv[] = {"node", getenv("HIST_REFERENCE_SCRIPT"), NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = fd, .stdout_fd = out[1], .stderr_fd = 2, .cpu = -1};
    struct child child = {0, 0};
    struct err err = {""};
    if (child_start(&child, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    close(fd);
    close(out[1]);
    struct buf answer = BUF_INIT;
    char piece[65536];
    ssize_t n;
    while ((n = read(out[0], piece, sizeof piece)) > 0) {
        buf_append(&answer, piece, (size_t)n);
    }
    close(out[0]);
    assert_int_equal(child_wait(&child, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC), 0);
    assert_int_equal(child_exit_code(&child), 0);
    struct json *parsed = json_parse(answer.data, answer.bytes, &err);
    if (parsed == NULL) {
        fail_msg("%s", err.text);
    }
    buf_fini(&answer);
    return parsed;
}

static void assert_described(const struct hist *h, const struct json *told)
{
    assert_int_equal(json_int(json_get(told, "total"), -1), hist_count(h));
    assert_int_equal(json_int(json_get(told, "digits"), -1), h->config.digits);
    assert_int_equal(json_int(json_get(told, "lowest"), -1), h->config.lowest_ns);
    assert_int_equal(json_int(json_get(told, "highest"), -1), h->config.highest_ns);
    double mean = json_number(json_get(told, "mean"), -1);
    assert_true(mean > hist_mean_ns(h) * (1 - 1e-9) && mean < hist_mean_ns(h) * (1 + 1e-9));
    const struct json *value = json_first(json_get(told, "quantiles"));
    for (size_t i = 0; i < QUANTILES; i++, value = json_next(value)) {
        assert_int_equal(json_int(value, -1), hist_quantile_ns(h, quantiles[i]));
    }
    assert_null(value);
    const struct json *bucket = json_first(json_get(told, "buckets"));
    for (struct hist_bucket b = HIST_BEGIN; hist_next(h, &b); bucket = json_next(bucket)) {
        const struct json *low = json_first(bucket);
        const struct json *high = json_next(low);
        assert_int_equal(json_int(low, -1), b.low_ns);
        assert_int_equal(json_int(high, -1), b.high_ns);
        assert_int_equal(json_int(json_next(high), -1), b.count);
    }
    assert_null(bucket);
}

static struct json *question(void)
{
    struct json *input = json_new_object();
    struct json *asked = json_add_array(input, "quantiles");
    for (size_t i = 0; i < QUANTILES; i++) {
        json_append(asked, json_new_number(quantiles[i]));
    }
    json_add_array(input, "encoded");
    json_add_array(input, "record");
    return input;
}

static void the_reference_reads_what_we_write(void **state)
{
    (void)state;
    struct json *input = question();
    struct json *texts = (struct json *)(uintptr_t)json_get(input, "encoded");
    static struct hist hists[HISTS];
    for (size_t i = 0; i < HISTS; i++) {
        fill(&hists[i], i);
        char *text = hist_encode(&hists[i]);
        assert_non_null(text);
        json_append(texts, json_new_string(text));
        free(text);
    }
    struct json *answer = ask_reference(input);
    assert_int_equal(json_count(json_get(answer, "decoded")), HISTS);
    const struct json *told = json_first(json_get(answer, "decoded"));
    for (size_t i = 0; i < HISTS; i++, told = json_next(told)) {
        assert_described(&hists[i], told);
        if (hists[i].config.lowest_ns == 1) { /* else the port's maximum runs past the bucket */
            assert_int_equal(json_int(json_get(told, "max"), -1), hist_max_ns(&hists[i]));
        }
        hist_fini(&hists[i]);
    }
    json_free(answer);
    json_free(input);
}

static void we_read_what_the_reference_writes(void **state)
{
    (void)state;
    struct json *input = question();
    struct json *wanted = (struct json *)(uintptr_t)json_get(input, "record");
    for (size_t i = 0; i < HISTS; i++) {
        struct hist h;
        fill(&h, i);
        struct json *one = json_new_object();
        json_add_int(one, "lowest", h.config.lowest_ns);
        json_add_int(one, "highest", h.config.highest_ns);
        json_add_int(one, "digits", h.config.digits);
        struct json *values = json_add_array(one, "values");
        for (struct hist_bucket b = HIST_BEGIN; hist_next(&h, &b);) {
            struct json *pair = json_new_array();
            json_append(pair, json_new_number((double)b.low_ns));
            json_append(pair, json_new_number((double)b.count));
            json_append(values, pair);
        }
        json_append(wanted, one);
        hist_fini(&h);
    }
    struct json *answer = ask_reference(input);
    assert_int_equal(json_count(json_get(answer, "encoded")), HISTS);
    const struct json *told = json_first(json_get(answer, "encoded"));
    for (size_t i = 0; i < HISTS; i++, told = json_next(told)) {
        const char *text = json_string(json_get(told, "text"), "");
        struct hist theirs;
        struct hist ours;
        struct err err = {""};
        if (hist_decode(&theirs, text, strlen(text), &err) != 0) {
            fail_msg("%s", err.text);
        }
        assert_described(&theirs, told);
        fill(&ours, i);
        assert_int_equal(theirs.counts_len, ours.counts_len);
        assert_memory_equal(theirs.counts, ours.counts,
                            (size_t)ours.counts_len * sizeof *ours.counts);
        hist_fini(&ours);
        hist_fini(&theirs);
    }
    json_free(answer);
    json_free(input);
}

/* Point NODE_PATH at the first root that has the package. */
static bool find_reference(void)
{
    const char *const roots[] = {getenv("HIST_BUILD_ROOT"), getenv("HIST_SOURCE_ROOT")};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        char path[4096];
        if (roots[i] == NULL) {
            continue;
        }
        snprintf(path, sizeof path, "%s/node_modules/hdr-histogram-js/package.json", roots[i]);
        if (access(path, R_OK) == 0) {
            snprintf(path, sizeof path, "%s/node_modules", roots[i]);
            setenv("NODE_PATH", path, 1);
            return true;
        }
    }
    return false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_reads_what_we_write),
        cmocka_unit_test(we_read_what_the_reference_writes),
    };
    if (getenv("HIST_REFERENCE_SCRIPT") == NULL) {
        fputs("hist_cli_test: HIST_REFERENCE_SCRIPT is not set: run it by `meson test`\n", stderr);
        return 2;
    }
    if (!find_reference()) {
        fputs(
            "hist_cli_test: skipped: hdr-histogram-js is in node_modules of neither the build nor "
            "the source folder: npm install hdr-histogram-js\n",
            stderr);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
