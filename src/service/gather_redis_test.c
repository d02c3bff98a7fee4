/* What leaves together, what waits and for how long. */
#include "base/test.h"

#include <stdlib.h>

#include "service/gather.h"
#include "store/store_fixture.h"

struct world {
    struct fixture fixture;
    struct gather *gather;
    size_t done; /* items */
    size_t order[128]; /* their indexes as they ended */
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    fixture_start(&w->fixture);
    w->gather = gather_new(w->fixture.store);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    fixture_stop(&w->fixture);
    gather_free(w->gather);
    free(w);
    return 0;
}

static void on_done(void *arg, size_t index, const struct gather_result *result)
{
    struct world *w = arg;
    assert_int_equal(result->call->status, STORE_OK);
    w->order[w->done++] = index;
}

static void put(struct world *w, const struct store_queue *queue, size_t index)
{
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    gather_create(w->gather, queue, &item, on_done, w, index);
}

static size_t calls(const struct world *w)
{
    struct gather_counters counters;
    gather_counters(w->gather, &counters);
    return counters.calls;
}

static void answers(struct world *w)
{
    assert_int_equal(store_wait(w->fixture.store, INT64_MAX), 0);
}

static void what_arrives_behind_a_call_waits_for_its_answer_and_leaves_together(void **state)
{
    struct world *w = *state;
    const struct store_queue *queue = &w->fixture.queue;
    put(w, queue, 0);
    assert_true(gather_pending(w->gather));
    gather_flush(w->gather, 1);
    assert_false(gather_pending(w->gather));
    assert_int_equal(calls(w), 1); /* a lone request waits for nobody */
    for (size_t i = 1; i < 10; i++) {
        put(w, queue, i);
        gather_flush(w->gather, 1 + (int64_t)i);
        assert_int_equal(calls(w), 1);
        assert_true(gather_held(w->gather));
    }
    /* Another operation, and another queue, wait for nothing of that. */
    struct store_claim_item claim = {.count = 1, .lease_ms = 1000, .worker = bytes_of("w")};
    gather_claim(w->gather, queue, &claim, on_done, w, 10);
    struct store_queue other = intern(&w->fixture, w->fixture.store, "acme", bytes_of("other"));
    assert_int_equal(w->done, 1); /* the first was answered meanwhile */
    put(w, &other, 11);
    gather_flush(w->gather, 20);
    assert_int_equal(calls(w), 4);
    assert_false(gather_held(w->gather));
    answers(w);
    assert_int_equal(w->done, 12);
    for (size_t i = 0; i < 10; i++) { /* nine of them in one call, in order of arrival */
        assert_int_equal(w->order[i], i);
    }
}

static void nothing_waits_longer_than_it_may(void **state)
{
    struct world *w = *state;
    const struct store_queue *queue = &w->fixture.queue;
    size_t before = calls(w);
    put(w, queue, 0);
    gather_flush(w->gather, 1000);
    put(w, queue, 1);
    gather_flush(w->gather, 1000);
    gather_flush(w->gather, 1000 + GATHER_HELD_NS - 1);
    assert_int_equal(calls(w), before + 1);
    gather_flush(w->gather, 1000 + GATHER_HELD_NS);
    assert_int_equal(calls(w), before + 2);
    /* Nor does a call that is large enough. */
    for (size_t i = 0; i < GATHER_HELD_TASKS_MAX; i++) {
        assert_int_equal(calls(w), before + 2);
        put(w, queue, 2 + i % 10);
        gather_flush(w->gather, 1001 + GATHER_HELD_NS);
    }
    assert_int_equal(calls(w), before + 3);
    answers(w);
    assert_int_equal(w->done, 2 + GATHER_HELD_TASKS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            what_arrives_behind_a_call_waits_for_its_answer_and_leaves_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_waits_longer_than_it_may, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
