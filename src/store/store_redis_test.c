/* Every operation and every verdict, in lock step on a private Redis. */
#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "store/store_fixture.h"

static int start(void **state)
{
    struct fixture *f = malloc(sizeof *f);
    fixture_start(f);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    fixture_stop(*state);
    free(*state);
    return 0;
}

static void a_task_is_created_claimed_and_completed(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 5, "hello");
    assert_int_equal(state_of_task(f, &id), TASK_READY);
    struct store_claim_item item = {.count = 1, .lease_ms = 60000, .worker = bytes_of("worker 7")};
    struct claims claims;
    int64_t before_ms = redis_now_ms(f);
    assert_int_equal(claim_call(f, f->store, &item, 1, &claims), STORE_OK);
    assert_int_equal(claims.count, 1);
    struct task_member token = claims.tasks[0].member;
    struct task_id claimed_id = task_member_id(&token);
    assert_true(task_id_equal(&claimed_id, &id));
    assert_int_equal(task_member_attempts(&token), 1);
    assert_int_equal(task_member_max_attempts(&token), 5);
    assert_int_equal(task_member_priority(&token), 5);
    assert_int_equal(task_member_generation(&token), 2);
    assert_in_range(claims.tasks[0].lease_until_ms, before_ms + 60000, redis_now_ms(f) + 60000);
    assert_string_equal(claims.tasks[0].body, "hello");

    struct got got;
    assert_int_equal(get_call(f, f->store, &id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_LEASED);
    assert_string_equal(got.worker, "worker 7");
    assert_int_equal(got.due_ms, claims.tasks[0].lease_until_ms);
    assert_string_equal(got.body, "hello");
    assert_true(task_member_equal(&got.member, &token));
    got_free(&got);
    assert_accounts(f);

    assert_int_equal(complete_one(f, &token), STORE_DONE);
    assert_int_equal(get_call(f, f->store, &id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_COMPLETED);
    assert_string_equal(got.body, "hello");
    assert_string_equal(got.result, "done");
    assert_true(task_member_equal(&got.member, &token));
    assert_in_range(got.updated_ms, before_ms, redis_now_ms(f));
    got_free(&got);
    claims_free(&claims);
    assert_accounts(f);
    struct store_stats stats = stats_now(f);
    assert_int_equal(stats.created, 1);
    assert_int_equal(stats.completed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_task_is_created_claimed_and_completed, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
