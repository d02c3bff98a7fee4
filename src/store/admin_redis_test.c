/* Dead letters and deletion. */
#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "store/store_fixture.h"

struct page {
    enum store_status status;
    uint64_t total;
    size_t count;
    struct task_member members[STORE_DEAD_PAGE_MAX];
    char reasons[STORE_DEAD_PAGE_MAX][32];
    char bodies[STORE_DEAD_PAGE_MAX][16];
    int64_t died_ms[STORE_DEAD_PAGE_MAX];
};

static void on_page(void *arg, const struct store_call_result *call, uint64_t total,
                    const struct store_task *tasks, size_t count)
{
    struct page *page = arg;
    page->status = call->status;
    page->total = total;
    page->count = count;
    for (size_t i = 0; i < count; i++) {
        page->members[i] = tasks[i].member;
        page->died_ms[i] = tasks[i].due_ms;
        snprintf(page->reasons[i], 32, "%.*s", (int)tasks[i].reason.bytes, tasks[i].reason.data);
        snprintf(page->bodies[i], 16, "%.*s", (int)tasks[i].body.bytes, tasks[i].body.data);
    }
}

static void list(struct fixture *f, uint32_t skip, uint16_t limit, struct page *page)
{
    page->status = STORE_ERROR;
    assert_int_equal(store_dead_list(f->store, &f->queue, skip, limit, on_page, page), 0);
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(page->status, STORE_OK);
}

struct taken {
    enum store_status status;
    uint32_t taken;
    uint64_t left;
};

static void on_taken(void *arg, const struct store_call_result *call, uint32_t taken, uint64_t left)
{
    *(struct taken *)arg = (struct taken){call->status, taken, left};
}

static struct taken take(struct fixture *f, bool replay, const struct task_id *ids, size_t count,
                         int64_t died_by_ms)
{
    struct taken taken = {.status = STORE_ERROR};
    int rc = replay
                 ? store_dead_replay(f->store, &f->queue, ids, count, died_by_ms, on_taken, &taken)
                 : store_dead_purge(f->store, &f->queue, ids, count, died_by_ms, on_taken, &taken);
    assert_int_equal(rc, 0);
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(taken.status, STORE_OK);
    return taken;
}

struct deleted {
    enum store_status status;
    enum store_deleted items[16];
};

static void on_deleted(void *arg, const struct store_call_result *call,
                       const enum store_deleted *items, size_t count)
{
    struct deleted *deleted = arg;
    deleted->status = call->status;
    memcpy(deleted->items, items, count * sizeof *items);
}

static void delete_these(struct fixture *f, const struct task_id *ids, size_t count, bool force,
                         struct deleted *out)
{
    out->status = STORE_ERROR;
    assert_int_equal(store_delete(f->store, &f->queue, ids, count, force, on_deleted, out), 0);
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(out->status, STORE_OK);
}

static struct task_id kill_one(struct fixture *f, const char *body)
{
    struct store_create_item item = {.max_attempts = 1, .priority = 4, .body = bytes_of(body)};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    assert_true(nack_one(f, &token, 0).dead);
    return made.id;
}

static void dead_letters_are_paged_longest_dead_first(void **state)
{
    struct fixture *f = *state;
    static struct page page;
    list(f, 0, 10, &page);
    assert_int_equal(page.total, 0);
    assert_int_equal(page.count, 0);
    struct task_id ids[5];
    for (int i = 0; i < 5; i++) {
        char body[8];
        snprintf(body, sizeof body, "%d", i);
        ids[i] = kill_one(f, body);
        wait_for_redis_time(f, redis_now_ms(f) + 1);
    }
    list(f, 1, 3, &page);
    assert_int_equal(page.total, 5);
    assert_int_equal(page.count, 3);
    for (size_t i = 0; i < 3; i++) {
        struct task_id id = task_member_id(&page.members[i]);
        assert_true(task_id_equal(&id, &ids[1 + i]));
        assert_string_equal(page.reasons[i], "because");
        assert_int_equal(atoi(page.bodies[i]), (int)i + 1);
        assert_in_range(page.died_ms[i], redis_now_ms(f) - 60000, redis_now_ms(f));
    }
    list(f, 5, 100, &page);
    assert_int_equal(page.count, 0);
    assert_int_equal(store_dead_list(f->store, &f->queue, 0, 101, on_page, &page), -EINVAL);
    assert_int_equal(store_dead_list(f->store, &f->queue, 0, 0, on_page, &page), -EINVAL);
}

static void a_replayed_task_is_new_but_for_its_id_and_body(void **state)
{
    struct fixture *f = *state;
    struct task_id dead = kill_one(f, "again");
    struct task_id ready = create_one(f, 0, "ready");
    struct task_id ids[] = {dead, ready, dead};
    struct taken taken = take(f, true, ids, 3, 0);
    assert_int_equal(taken.taken, 1); /* one is not dead, one is named twice */
    assert_int_equal(taken.left, 0);
    assert_accounts(f);
    struct store_claim_item item = {.count = 1, .lease_ms = 60000, .worker = bytes_of("w")};
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, &item, 1, &claims), STORE_OK);
    struct task_member token = claims.tasks[0].member;
    struct task_id id = task_member_id(&token);
    assert_true(task_id_equal(&id, &dead));
    assert_string_equal(claims.tasks[0].body, "again");
    assert_int_equal(task_member_attempts(&token), 1);
    assert_int_equal(task_member_generation(&token), 5);
    claims_free(&claims);
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    struct store_stats s = stats_now(f);
    assert_int_equal(s.dead, 1);
    assert_int_equal(s.replayed, 1);
    assert_int_equal(s.dead_now, 0);
    assert_accounts(f);
}

static void all_dead_letters_are_purged_and_those_that_died_later_stay(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        kill_one(f, "x");
    }
    int64_t by_ms = redis_now_ms(f);
    wait_for_redis_time(f, by_ms + 2);
    struct task_id later = kill_one(f, "later");
    struct taken taken = take(f, false, NULL, 0, by_ms);
    assert_int_equal(taken.taken, 3);
    assert_int_equal(taken.left, 1);
    assert_int_equal(state_of_task(f, &later), TASK_DEAD);
    assert_int_equal(take(f, false, &later, 1, 0).taken, 1);
    assert_int_equal(state_of_task(f, &later), TASK_NONE);
    assert_int_equal(take(f, false, &later, 1, 0).taken, 0);
    assert_int_equal(stats_now(f).dead_purged, 4);
    assert_accounts(f);
}

static void a_task_is_deleted_in_any_state_and_under_a_lease_only_by_force(void **state)
{
    struct fixture *f = *state;
    struct task_id leased = create_one(f, 9, "leased");
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    struct task_id done = create_one(f, 9, "done");
    struct task_member ending;
    assert_true(claim_one(f, 60000, &ending));
    assert_int_equal(complete_one(f, &ending), STORE_DONE);
    struct task_id dead = kill_one(f, "dead");
    struct task_id ready = create_one(f, 0, "ready");
    struct store_create_item item = {.max_attempts = 1, .delay_ms = 60000};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    struct task_id ids[] = {leased, done, dead, ready, made.id, ready};
    struct deleted deleted;
    delete_these(f, ids, 6, false, &deleted);
    assert_int_equal(deleted.items[0], STORE_DELETE_LEASED);
    for (int i = 1; i < 5; i++) {
        assert_int_equal(deleted.items[i], STORE_DELETED);
    }
    assert_int_equal(deleted.items[5], STORE_DELETE_NOT_FOUND);
    assert_accounts(f);
    delete_these(f, ids, 1, true, &deleted);
    assert_int_equal(deleted.items[0], STORE_DELETED);
    assert_int_equal(complete_one(f, &token), STORE_NOT_FOUND);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(state_of_task(f, &ids[i]), TASK_NONE);
    }
    struct store_stats s = stats_now(f);
    assert_int_equal(s.purged, 3);
    assert_int_equal(s.dead_purged, 1);
    assert_int_equal(s.ready + s.delayed + s.leased + s.dead_now, 0);
    assert_accounts(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(dead_letters_are_paged_longest_dead_first, fixture_queue_start),
        cmocka_unit_test_setup(a_replayed_task_is_new_but_for_its_id_and_body, fixture_queue_start),
        cmocka_unit_test_setup(all_dead_letters_are_purged_and_those_that_died_later_stay,
                               fixture_queue_start),
        cmocka_unit_test_setup(a_task_is_deleted_in_any_state_and_under_a_lease_only_by_force,
                               fixture_queue_start),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
