#include "base/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "pairs.h"

/* A timed line as run_process writes it: ops requests around base_ns, every stall_every-th 5 ms. */
static struct json *line(struct rng *rng, double base_ns, int ops, int stall_every)
{
    static const char *const names[] = {"create", "claim", "complete"};
    struct json *line = json_new_object();
    struct json *hdr = json_add_object(line, "hdr");
    for (int c = 0; c < 3; c++) {
        struct hist h;
        const struct hist_config config = {1, HIST_HIGHEST_NS_DEFAULT, 3};
        assert_int_equal(hist_init(&h, &config, NULL), 0);
        for (int i = 0; i < ops; i++) {
            double tail = -log(1 - rng_unit(rng));
            bool stall = c == 1 && stall_every > 0 && i % stall_every == 0;
            hist_record(&h, (int64_t)(base_ns * (1 + 0.3 * tail)) + (stall ? 5000000 : 0));
        }
        char *text = hist_encode(&h);
        json_add_string(json_add_object(hdr, names[c]), "b64", text);
        free(text);
        hist_fini(&h);
    }
    double noise = 1 + 0.01 * (rng_unit(rng) - 0.5);
    json_add_int(line, "ops", ops);
    json_add_number(line, "dur_ns", 3 * base_ns * ops * noise);
    json_add_number(line, "cpu_us", base_ns * ops / 1e3 * noise);
    json_add_number(line, "redis_cpu_us", 15.0 * ops * (1 + 0.01 * rng_unit(rng)));
    return line;
}

static struct pairs *made(double slower, int stall_every, int ops, size_t count)
{
    struct rng rng;
    rng_init(&rng, 81);
    struct pairs *pairs = pairs_new("cycle");
    for (size_t i = 0; i < count; i++) {
        struct json *a = line(&rng, 20000, ops, 0);
        struct json *b = line(&rng, 20000 * slower, ops, stall_every);
        assert_int_equal(pairs_add(pairs, a, b, NULL), 0);
        json_free(a);
        json_free(b);
    }
    return pairs;
}

/* The verdict on one metric, by itself. */
static enum verdict verdict_of(const struct pairs *pairs, const char *id)
{
    for (size_t i = 0; i < pairs->metric_count; i++) {
        const struct pairs_metric *metric = &pairs->metrics[i];
        if (strcmp(metric->id, id) == 0) {
            const struct verdict_pairs input = {
                .a = metric->a,
                .b = metric->b,
                .pairs = pairs->count,
                .unsteady = pairs->unsteady,
                .few_samples = metric->few_samples,
                .effect_min = 0.02,
            };
            struct verdict_timed verdict;
            assert_int_equal(verdict_timed(&input, &verdict, NULL), 0);
            return verdict.verdict;
        }
    }
    fail_msg("no metric %s", id);
    return VERDICT_SAME;
}

static void every_metric_is_a_row_of_the_table(void **state)
{
    (void)state;
    struct pairs *pairs = made(1, 0, 1000, 1);
    assert_int_equal(pairs->metric_count, 12);
    for (size_t i = 0; i < pairs->metric_count; i++) {
        const struct metric *metric = metric_find(pairs->metrics[i].id);
        if (metric == NULL) {
            fail_msg("%s is not in the table", pairs->metrics[i].id);
        }
        assert_int_equal(metric->class, METRIC_TIMED);
    }
    pairs_free(pairs);
}

static void like_runs_are_the_same_and_slower_ones_worse(void **state)
{
    (void)state;
    struct pairs *pairs = made(1, 0, 5000, 16);
    assert_int_equal(verdict_of(pairs, "cycle.time_ns_per_op"), VERDICT_SAME);
    assert_int_equal(verdict_of(pairs, "claim.latency_ns_p50"), VERDICT_SAME);
    pairs_free(pairs);
    pairs = made(1.1, 0, 5000, 16);
    assert_int_equal(verdict_of(pairs, "cycle.time_ns_per_op"), VERDICT_WORSE);
    assert_int_equal(verdict_of(pairs, "cycle.client_cpu_us_per_op"), VERDICT_WORSE);
    assert_int_equal(verdict_of(pairs, "cycle.redis_cpu_us_per_op"), VERDICT_SAME);
    assert_int_equal(verdict_of(pairs, "create.latency_ns_p50"), VERDICT_WORSE);
    pairs_free(pairs);
}

static void a_rare_stall_shows_in_the_tail_of_its_call_alone(void **state)
{
    (void)state;
    struct pairs_tail tails[PAIRS_CALLS_MAX];
    struct pairs *pairs = made(1, 500, 5000, 12);
    assert_int_equal(pairs_tails(pairs, tails, NULL), 3);
    assert_string_equal(tails[1].call, "claim");
    assert_int_equal(tails[1].verdict, VERDICT_WORSE);
    assert_true(tails[1].ratio.estimate > 2 && tails[1].ratio.low > 1);
    assert_int_equal(tails[1].samples_a, 60000);
    assert_int_equal(tails[0].verdict, VERDICT_INCONCLUSIVE);
    assert_int_equal(tails[2].verdict, VERDICT_INCONCLUSIVE);
    pairs_free(pairs);
    pairs = made(1, 500, 1600, 12); /* 19,200 samples are too few to say */
    assert_int_equal(pairs_tails(pairs, tails, NULL), 3);
    assert_int_equal(tails[1].verdict, VERDICT_INCONCLUSIVE);
    pairs_free(pairs);
}

static void few_samples_beyond_a_quantile_are_said(void **state)
{
    (void)state;
    struct pairs *pairs = made(1.2, 0, 1999, 12); /* 19 beyond p99 */
    assert_int_equal(verdict_of(pairs, "claim.latency_ns_p99"), VERDICT_INCONCLUSIVE);
    assert_int_equal(verdict_of(pairs, "claim.latency_ns_p90"), VERDICT_WORSE);
    pairs_free(pairs);
}

static void broken_lines_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 82);
    struct pairs *pairs = made(1, 0, 100, 1);
    const char *const wrong[] = {
        "{}",
        "{\"ops\":0,\"dur_ns\":1,\"cpu_us\":1,\"redis_cpu_us\":1}",
        "{\"ops\":1,\"dur_ns\":1,\"cpu_us\":1,\"redis_cpu_us\":1}",
        "{\"ops\":1,\"dur_ns\":1,\"cpu_us\":1,\"redis_cpu_us\":1,\"hdr\":{\"claim\":{\"b64\":\"x\"}"
        "}}",
        "{\"ops\":1,\"dur_ns\":1,\"cpu_us\":1,\"redis_cpu_us\":1,\"hdr\":{\"claim\":7}}",
    };
    struct json *good = line(&rng, 20000, 100, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct json *bad = json_parse(wrong[i], strlen(wrong[i]), NULL);
        struct err err = {""};
        assert_int_equal(pairs_add(pairs, good, bad, &err), -EBADMSG);
        assert_string_not_equal(err.text, "");
        assert_int_equal(pairs_add(pairs, bad, good, &err), -EBADMSG);
        json_free(bad);
    }
    assert_int_equal(pairs->count, 1);
    json_free(good);
    pairs_free(pairs);
    pairs_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_is_a_row_of_the_table),
        cmocka_unit_test(like_runs_are_the_same_and_slower_ones_worse),
        cmocka_unit_test(a_rare_stall_shows_in_the_tail_of_its_call_alone),
        cmocka_unit_test(few_samples_beyond_a_quantile_are_said),
        cmocka_unit_test(broken_lines_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
