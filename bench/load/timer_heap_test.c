#include "base/test.h"

#include "base/rng.h"
#include "load/timer_heap.h"

enum { TIMERS = 500 };

static void timers_come_out_in_order_whatever_was_done_to_them(void **state)
{
    (void)state;
    static struct timer timers[TIMERS];
    struct timer_heap heap;
    struct rng rng;
    rng_init(&rng, 1);
    assert_int_equal(timer_heap_init(&heap, TIMERS), 0);
    for (int i = 0; i < TIMERS; i++) {
        timers[i].index = TIMER_NOT_SET;
    }
    for (int i = 0; i < 20000; i++) {
        struct timer *timer = &timers[rng_below(&rng, TIMERS)];
        if (rng_below(&rng, 4) == 0) {
            timer_clear(&heap, timer);
            timer_clear(&heap, timer);
        } else {
            timer_set(&heap, timer, (int64_t)rng_below(&rng, 1000));
        }
    }
    size_t set = 0;
    for (int i = 0; i < TIMERS; i++) {
        set += timers[i].index != TIMER_NOT_SET;
    }
    assert_int_equal(heap.count, set);
    int64_t last = -1;
    for (struct timer *first; (first = timer_first(&heap)) != NULL; set--) {
        assert_true(first->at_ns >= last);
        last = first->at_ns;
        timer_clear(&heap, first);
    }
    assert_int_equal(set, 0);
    timer_heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_come_out_in_order_whatever_was_done_to_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
