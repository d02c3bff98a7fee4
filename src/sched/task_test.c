#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "sched/task.h"

static void an_id_gives_back_what_it_was_made_of(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 1000; i++) {
        struct task_id_maker maker;
        task_id_maker_init(&maker, rng_next(&rng));
        int64_t ms = (int64_t)rng_below(&rng, UINT64_C(1) << 48);
        uint16_t queue = (uint16_t)rng_next(&rng);
        uint8_t shard = (uint8_t)rng_next(&rng);
        struct task_id id = task_id_next(&maker, ms, queue, shard);
        assert_int_equal(task_id_time_ms(&id), ms);
        assert_int_equal(task_id_queue(&id), queue);
        assert_int_equal(task_id_shard(&id), shard);
        char text[TASK_ID_TEXT_BYTES];
        task_id_format(&id, text);
        assert_int_equal(text[14], '8');
        assert_non_null(strchr("89ab", text[19]));
        struct task_id back;
        assert_int_equal(task_id_parse(text, strlen(text), &back), 0);
        assert_true(task_id_equal(&id, &back));
    }
}

static void ids_of_one_maker_only_grow_whatever_the_clock_does(void **state)
{
    (void)state;
    struct task_id_maker maker;
    task_id_maker_init(&maker, 7);
    struct rng rng;
    rng_init(&rng, 2);
    int64_t now_ms = 1800000000000;
    struct task_id last = task_id_next(&maker, now_ms, 3, 0);
    for (int i = 0; i < 300000; i++) {
        if (i % 1000 == 0) {
            now_ms += (int64_t)rng_below(&rng, 5) - 2;
        }
        struct task_id id = task_id_next(&maker, now_ms, 3, 0);
        assert_true(memcmp(last.bytes, id.bytes, TASK_ID_BYTES) < 0);
        last = id;
    }
    assert_in_range(task_id_time_ms(&last), now_ms, now_ms + 400);
}

static void past_65536_ids_in_one_ms_the_next_is_borrowed(void **state)
{
    (void)state;
    struct task_id_maker maker;
    task_id_maker_init(&maker, 0);
    struct task_id id;
    for (int i = 0; i < 65536; i++) {
        id = task_id_next(&maker, 5000, 0, 0);
    }
    assert_int_equal(task_id_time_ms(&id), 5000);
    id = task_id_next(&maker, 5000, 0, 0);
    assert_int_equal(task_id_time_ms(&id), 5001);
}

static void two_makers_never_make_the_same_id(void **state)
{
    (void)state;
    struct task_id_maker a;
    struct task_id_maker b;
    task_id_maker_init(&a, 0x200000001);
    task_id_maker_init(&b, 0x000000001);
    struct task_id id_a = task_id_next(&a, 5000, 1, 1);
    struct task_id id_b = task_id_next(&b, 5000, 1, 1);
    assert_false(task_id_equal(&id_a, &id_b));
}

static void an_id_text_that_is_not_exact_is_refused(void **state)
{
    (void)state;
    const char *good = "0193a1b2-c3d4-8123-9456-789abcdef012";
    struct task_id id;
    assert_int_equal(task_id_parse(good, 36, &id), 0);
    assert_int_equal(task_id_parse("0193A1B2-C3D4-8123-9456-789ABCDEF012", 36, &id), 0);
    const char *bad[] = {
        "0193a1b2-c3d4-7123-9456-789abcdef012", /* version 7 */
        "0193a1b2-c3d4-8123-c456-789abcdef012", /* variant 11 */
        "0193a1b2-c3d4-8123-9456-789abcdef01", /* short */
        "0193a1b2-c3d4-8123-9456-789abcdef0123", /* long */
        "0193a1b2xc3d4-8123-9456-789abcdef012", /* dash */
        "0193a1b2-c3d4-8123-9456-789abcdeg012", /* not hex */
        "",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct task_id out;
        memset(&out, 0xee, sizeof out);
        assert_int_equal(task_id_parse(bad[i], strlen(bad[i]), &out), -EINVAL);
        assert_int_equal(out.bytes[0], 0xee);
    }
    assert_int_equal(task_id_parse("0193a1b2-c3d4-8123-9456-789abcdef012", 35, &id), -EINVAL);
    char with_nul[36];
    memcpy(with_nul, good, 36);
    with_nul[20] = '\0';
    assert_int_equal(task_id_parse(with_nul, 36, &id), -EINVAL);
}

static struct task_id some_id(void)
{
    struct task_id_maker maker;
    task_id_maker_init(&maker, 99);
    return task_id_next(&maker, 1800000000000, 12, 3);
}

static void a_first_member_reads_back_and_has_no_delivery(void **state)
{
    (void)state;
    struct task_id id = some_id();
    struct task_member m = task_member_first(&id, 7, 65535);
    struct task_id back = task_member_id(&m);
    assert_true(task_id_equal(&id, &back));
    assert_int_equal(task_member_priority(&m), 7);
    assert_int_equal(task_member_attempts(&m), 0);
    assert_int_equal(task_member_max_attempts(&m), 65535);
    assert_int_equal(task_member_generation(&m), 1);
    assert_memory_equal(m.bytes + 16, "70000ffff00000001", 17);
}

static void a_token_text_reads_back_and_broken_ones_are_refused(void **state)
{
    (void)state;
    struct task_id id = some_id();
    struct task_member m = task_member_first(&id, 0, 5);
    char text[TASK_TOKEN_BYTES];
    task_member_format(&m, text);
    assert_int_equal(strlen(text), 49);
    struct task_member back;
    assert_int_equal(task_member_parse(text, 49, &back), 0);
    assert_true(task_member_equal(&m, &back));
    /* A token has one spelling: any other byte anywhere is another token or none. */
    for (size_t at = 0; at < 49; at++) {
        char broken[TASK_TOKEN_BYTES];
        memcpy(broken, text, sizeof broken);
        broken[at] = 'G';
        assert_int_equal(task_member_parse(broken, 49, &back), -EINVAL);
        broken[at] = 'A';
        assert_int_equal(task_member_parse(broken, 49, &back), -EINVAL);
        broken[at] = '\0';
        assert_int_equal(task_member_parse(broken, 49, &back), -EINVAL);
    }
    assert_int_equal(task_member_parse(text, 48, &back), -EINVAL);
    assert_int_equal(task_member_parse(text, 0, &back), -EINVAL);
    assert_int_equal(task_member_from_bytes(m.bytes, 32, &back), -EINVAL);
}

static void states_move_as_the_drawing_says(void **state)
{
    (void)state;
    /* none ready delayed leased completed failed dead; the rows in the same order. */
    static const char *const table[] = {
        "-xx----", "x--x---", "xx-----", "xxxxxxx", "x------", "x------", "xx-----",
    };
    for (int from = TASK_NONE; from <= TASK_DEAD; from++) {
        for (int to = TASK_NONE; to <= TASK_DEAD; to++) {
            assert_int_equal(task_state_may((enum task_state)from, (enum task_state)to),
                             table[from][to] == 'x');
        }
        assert_true(strlen(task_state_name((enum task_state)from)) >= 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_gives_back_what_it_was_made_of),
        cmocka_unit_test(ids_of_one_maker_only_grow_whatever_the_clock_does),
        cmocka_unit_test(past_65536_ids_in_one_ms_the_next_is_borrowed),
        cmocka_unit_test(two_makers_never_make_the_same_id),
        cmocka_unit_test(an_id_text_that_is_not_exact_is_refused),
        cmocka_unit_test(a_first_member_reads_back_and_has_no_delivery),
        cmocka_unit_test(a_token_text_reads_back_and_broken_ones_are_refused),
        cmocka_unit_test(states_move_as_the_drawing_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
