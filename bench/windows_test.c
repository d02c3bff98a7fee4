#include "base/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "windows.h"

/* A driver's answer: `ops` claims and completes of about ns each. */
static struct json *answer(struct rng *rng, int64_t ops, double ns)
{
    static const char *const names[] = {"claim", "complete"};
    struct json *stopped = json_new_object();
    struct json *latency = json_add_object(stopped, "latency");
    for (int c = 0; c < 2; c++) {
        const struct hist_config config = {1, HIST_HIGHEST_NS_DEFAULT, 3};
        struct hist h;
        assert_int_equal(hist_init(&h, &config, NULL), 0);
        for (int64_t i = 0; i < ops; i++) {
            hist_record(&h, (int64_t)(ns * (0.95 + 0.1 * rng_unit(rng))));
        }
        char *text = hist_encode(&h);
        json_add_string(json_add_object(latency, names[c]), "b64", text);
        free(text);
        hist_fini(&h);
    }
    json_add_int(stopped, "ops", ops);
    json_add_number(stopped, "duration_ns",
                    (double)(int64_t)(2 * ns * (double)ops * (0.99 + 0.02 * rng_unit(rng))));
    json_add_int(stopped, "cpu_ns", 1000 * ops);
    return stopped;
}

static void fill(struct windows *windows, const double *ns)
{
    struct rng rng;
    rng_init(&rng, 11);
    memset(windows, 0, sizeof *windows);
    for (size_t i = 0; i < STEADY_WINDOWS; i++) {
        struct json *stopped = answer(&rng, 100, ns[i]);
        assert_int_equal(windows_add(windows, stopped, NULL), 0);
        json_free(stopped);
    }
}

static void steady_run_counts_from_its_first_window(void **state)
{
    (void)state;
    static struct windows windows;
    double ns[STEADY_WINDOWS];
    for (size_t i = 0; i < STEADY_WINDOWS; i++) {
        ns[i] = 20000;
    }
    fill(&windows, ns);
    struct windows_sum sum;
    assert_int_equal(windows_sum(&windows, 1, &sum, NULL), 0);
    assert_true(sum.steady);
    assert_int_equal(sum.cut, 0);
    assert_int_equal(sum.ops, 2000);
    assert_int_equal(sum.cpu_ns, 2000000);
    const struct json *claim = json_get(sum.latency, "claim");
    assert_int_equal(json_int(json_get(claim, "n"), 0), 2000);
    struct hist h;
    const char *text = json_string(json_get(claim, "b64"), "");
    assert_int_equal(hist_decode(&h, text, strlen(text), NULL), 0);
    assert_int_equal(hist_count(&h), 2000);
    assert_in_range(hist_quantile_ns(&h, 0.5), 19500, 20500);
    hist_fini(&h);
    json_free(sum.latency);
    windows_fini(&windows);
}

static void warm_up_is_left_out_of_the_figures(void **state)
{
    (void)state;
    static struct windows windows;
    double ns[STEADY_WINDOWS];
    for (size_t i = 0; i < STEADY_WINDOWS; i++) {
        ns[i] = i < 4 ? 40000 : 20000;
    }
    fill(&windows, ns);
    struct windows_sum sum;
    assert_int_equal(windows_sum(&windows, 1, &sum, NULL), 0);
    assert_true(sum.steady);
    assert_in_range(sum.cut, 3, 5); /* a single slow window is a spike and no step */
    assert_int_equal(sum.ops, (int64_t)(STEADY_WINDOWS - sum.cut) * 100);
    assert_int_equal(json_int(json_get(json_get(sum.latency, "complete"), "n"), 0), sum.ops);
    assert_in_range(sum.dur_ns / sum.ops, 39000, 43000);
    json_free(sum.latency);
    windows_fini(&windows);
}

static void run_that_never_settles_says_so_and_keeps_all(void **state)
{
    (void)state;
    static struct windows windows;
    double ns[STEADY_WINDOWS];
    for (size_t i = 0; i < STEADY_WINDOWS; i++) {
        ns[i] = 20000 + 2000 * (double)i;
    }
    fill(&windows, ns);
    struct windows_sum sum;
    assert_int_equal(windows_sum(&windows, 1, &sum, NULL), 0);
    assert_false(sum.steady);
    assert_int_equal(sum.ops, 2000);
    json_free(sum.latency);
    windows_fini(&windows);
}

static void broken_answers_are_refused_by_field_and_leave_no_window(void **state)
{
    (void)state;
    static struct windows windows;
    struct rng rng;
    struct err err = {""};
    rng_init(&rng, 3);
    memset(&windows, 0, sizeof windows);
    static const struct {
        const char *text;
        const char *says;
    } broken[] = {
        {"{}", "ops, duration_ns or cpu_ns"},
        {"{\"ops\":0,\"duration_ns\":1,\"cpu_ns\":1}", "ops, duration_ns or cpu_ns"},
        {"{\"ops\":1,\"duration_ns\":1,\"cpu_ns\":1}", "latency lacks calls"},
        {"{\"ops\":1,\"duration_ns\":1,\"cpu_ns\":1,\"latency\":{\"claim\":{\"b64\":\"!\"}}}",
         "latency.claim"},
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct json *json = json_parse(broken[i].text, strlen(broken[i].text), NULL);
        assert_int_equal(windows_add(&windows, json, &err), -EPROTO);
        if (strstr(err.text, broken[i].says) == NULL) {
            fail_msg("%s: %s", broken[i].text, err.text);
        }
        assert_int_equal(windows.count, 0);
        json_free(json);
    }
    struct json *good = answer(&rng, 10, 1000);
    assert_int_equal(windows_add(&windows, good, NULL), 0);
    json_put(json_get(good, "latency") != NULL ? (struct json *)(uintptr_t)json_get(good, "latency")
                                               : good,
             "create", json_new_object());
    assert_int_equal(windows_add(&windows, good, &err), -EPROTO);
    assert_non_null(strstr(err.text, "other calls"));
    assert_int_equal(windows.count, 1);
    json_free(good);
    windows_fini(&windows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_run_counts_from_its_first_window),
        cmocka_unit_test(warm_up_is_left_out_of_the_figures),
        cmocka_unit_test(run_that_never_settles_says_so_and_keeps_all),
        cmocka_unit_test(broken_answers_are_refused_by_field_and_leave_no_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
