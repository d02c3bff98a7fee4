#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "compare_timed.h"

/* A timed line of 200 claims around base_ns, as run_process writes it. */
static struct json *line(struct rng *rng, double base_ns)
{
    struct json *line = json_new_object();
    struct hist h;
    const struct hist_config config = {1, HIST_HIGHEST_NS_DEFAULT, 3};
    double noise = 1 + 0.01 * (rng_unit(rng) - 0.5);
    assert_int_equal(hist_init(&h, &config, NULL), 0);
    for (int i = 0; i < 200; i++) {
        hist_record(&h, (int64_t)(base_ns * noise * (1 + 0.1 * rng_unit(rng))));
    }
    char *text = hist_encode(&h);
    json_add_string(json_add_object(json_add_object(line, "hdr"), "claim"), "b64", text);
    free(text);
    hist_fini(&h);
    json_add_int(line, "ops", 200);
    json_add_number(line, "dur_ns", base_ns * 200 * noise);
    json_add_number(line, "cpu_us", base_ns * noise);
    json_add_number(line, "redis_cpu_us", 15.0 * (1 + 0.01 * rng_unit(rng)));
    return line;
}

static struct pairs *made(double slower, size_t count, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    struct pairs *pairs = pairs_new("cycle");
    for (size_t i = 0; i < count; i++) {
        struct json *a = line(&rng, 20000);
        struct json *b = line(&rng, 20000 * slower);
        assert_int_equal(pairs_add(pairs, a, b, NULL), 0);
        json_free(a);
        json_free(b);
    }
    return pairs;
}

static const struct compare_timed_metric *metric(const struct compare_timed *t, const char *id)
{
    for (size_t i = 0; i < t->metric_count; i++) {
        if (strcmp(t->metrics[i].id, id) == 0) {
            return &t->metrics[i];
        }
    }
    fail_msg("no metric %s", id);
    return NULL;
}

static void screen_alone_never_says_worse(void **state)
{
    (void)state;
    static struct compare_timed t;
    struct pairs *screen = made(1.2, 16, 5);
    assert_true(compare_timed_flagged(screen, NULL));
    assert_int_equal(compare_timed_judge(&t, screen, NULL, NULL, 1, NULL), 0);
    const struct compare_timed_metric *m = metric(&t, "claim.latency_ns_p50");
    assert_true(m->flagged && !m->confirmed);
    assert_int_equal(m->judged.verdict, VERDICT_INCONCLUSIVE);
    pairs_free(screen);
}

static void verdict_comes_from_the_fresh_pairs_and_not_from_the_screen(void **state)
{
    (void)state;
    static struct compare_timed t;
    struct pairs *screen = made(1.2, 16, 5);
    struct pairs *like = made(1.0, 48, 6);
    struct pairs *slower = made(1.2, 48, 7);
    assert_int_equal(compare_timed_judge(&t, screen, slower, NULL, 1, NULL), 0);
    const struct compare_timed_metric *m = metric(&t, "claim.latency_ns_p50");
    assert_true(m->confirmed);
    assert_int_equal(m->judged.verdict, VERDICT_WORSE);
    assert_int_equal(m->judged.pairs, 48);
    assert_int_equal(metric(&t, "cycle.time_ns_per_op")->judged.verdict, VERDICT_WORSE);
    assert_int_equal(compare_timed_judge(&t, screen, like, NULL, 1, NULL), 0);
    assert_int_equal(metric(&t, "claim.latency_ns_p50")->judged.verdict, VERDICT_SAME);
    pairs_free(screen);
    pairs_free(like);
    pairs_free(slower);
}

static void metric_that_was_not_flagged_is_not_judged_by_the_second_stage(void **state)
{
    (void)state;
    static struct compare_timed t;
    struct pairs *screen = made(1.0, 16, 5);
    struct pairs *slower = made(1.2, 48, 7);
    assert_int_equal(compare_timed_judge(&t, screen, slower, NULL, 1, NULL), 0);
    const struct compare_timed_metric *m = metric(&t, "claim.latency_ns_p50");
    assert_true(!m->flagged && !m->confirmed);
    assert_int_equal(m->judged.pairs, 16);
    assert_int_not_equal(m->judged.verdict, VERDICT_WORSE);
    pairs_free(screen);
    pairs_free(slower);
}

static void add_unsteady(struct pairs *pairs, size_t count)
{
    struct rng rng;
    rng_init(&rng, 77);
    for (size_t i = 0; i < count; i++) {
        struct json *a = line(&rng, 20000);
        struct json *b = line(&rng, 90000);
        json_add_bool(i % 2 == 0 ? a : b, "steady", false);
        assert_int_equal(pairs_add(pairs, a, b, NULL), 0);
        json_free(a);
        json_free(b);
    }
}

static void pair_with_a_run_that_never_settled_is_only_counted(void **state)
{
    (void)state;
    static struct compare_timed t;
    struct pairs *screen = made(1.0, 16, 5);
    add_unsteady(screen, 4);
    assert_int_equal(screen->count, 16);
    assert_int_equal(screen->unsteady, 4);
    assert_int_equal(compare_timed_judge(&t, screen, NULL, NULL, 1, NULL), 0);
    assert_int_equal(t.unsteady_pairs, 4);
    assert_false(t.unsteady);
    assert_int_equal(metric(&t, "cycle.time_ns_per_op")->judged.verdict, VERDICT_SAME);
    pairs_free(screen);
}

static void more_than_a_quarter_unsteady_pairs_say_nothing(void **state)
{
    (void)state;
    static struct compare_timed t;
    struct pairs *screen = made(1.2, 16, 5);
    struct pairs *slower = made(1.2, 48, 7);
    add_unsteady(slower, 17);
    assert_int_equal(compare_timed_judge(&t, screen, slower, NULL, 1, NULL), 0);
    const struct compare_timed_metric *m = metric(&t, "claim.latency_ns_p50");
    assert_true(t.unsteady && m->flagged);
    assert_int_equal(m->judged.verdict, VERDICT_INCONCLUSIVE);
    assert_int_equal(m->judged.reason, VERDICT_UNSTEADY);
    add_unsteady(screen, 6); /* the screen itself: nothing is flagged, so nothing is confirmed */
    assert_false(compare_timed_flagged(screen, NULL));
    assert_int_equal(compare_timed_judge(&t, screen, NULL, NULL, 1, NULL), 0);
    m = metric(&t, "claim.latency_ns_p50");
    assert_true(t.unsteady && !m->flagged);
    assert_int_equal(m->judged.reason, VERDICT_UNSTEADY);
    pairs_free(screen);
    pairs_free(slower);
}

static void effect_below_the_machines_noise_floor_is_the_same(void **state)
{
    (void)state;
    static struct compare_timed t;
    static struct noise_floor floor = {
        .metrics = {{"cycle.time_ns_per_op", 0.12}}, .count = 1, .comparisons = 3};
    struct pairs *screen = made(1.06, 16, 5);
    struct pairs *confirm = made(1.06, 48, 7);
    assert_int_equal(compare_timed_judge(&t, screen, confirm, NULL, 1, NULL), 0);
    assert_int_equal(metric(&t, "cycle.time_ns_per_op")->judged.verdict, VERDICT_WORSE);
    assert_int_equal(compare_timed_judge(&t, screen, confirm, &floor, 1, NULL), 0);
    const struct compare_timed_metric *m = metric(&t, "cycle.time_ns_per_op");
    assert_int_equal(m->judged.verdict, VERDICT_SAME);
    assert_float_equal(m->effect_min, 0.12, 1e-12);
    assert_int_equal(t.floor_comparisons, 3);
    /* A metric of which nothing is known has 2 %. */
    m = metric(&t, "claim.latency_ns_p50");
    assert_int_equal(m->judged.verdict, VERDICT_WORSE);
    assert_float_equal(m->effect_min, VERDICT_EFFECT_MIN, 1e-12);
    pairs_free(screen);
    pairs_free(confirm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(screen_alone_never_says_worse),
        cmocka_unit_test(verdict_comes_from_the_fresh_pairs_and_not_from_the_screen),
        cmocka_unit_test(metric_that_was_not_flagged_is_not_judged_by_the_second_stage),
        cmocka_unit_test(pair_with_a_run_that_never_settled_is_only_counted),
        cmocka_unit_test(more_than_a_quarter_unsteady_pairs_say_nothing),
        cmocka_unit_test(effect_below_the_machines_noise_floor_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
