/* Every operation and every verdict, in lock step on a private Redis. */
#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/conn.h"
#include "store/keys.h"
#include "store/store.h"
#include "store/store_fixture.h"

static struct store_lease_ref by_token(const struct task_member *token)
{
    return (struct store_lease_ref){.has_token = true, .token = *token};
}

static struct store_lease_ref by_worker(const struct task_id *id, const char *worker)
{
    struct store_lease_ref ref = {.worker = bytes_of(worker)};
    memcpy(ref.token.bytes, id->bytes, TASK_ID_BYTES);
    return ref;
}

static struct task_id id_of(const struct task_member *member)
{
    return task_member_id(member);
}

/* ---- the way of a task ---- */

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

static void a_failed_task_keeps_its_result_and_never_returns(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    struct store_complete_item item = {
        .lease = by_token(&token), .failed = true, .result = bytes_of("boom")};
    struct store_return_verdict verdict;
    assert_int_equal(complete_call(f, f->store, &item, 1, &verdict), STORE_OK);
    assert_int_equal(verdict.verdict, STORE_DONE);
    struct got got;
    assert_int_equal(get_call(f, f->store, &id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_FAILED);
    assert_string_equal(got.result, "boom");
    assert_int_equal(got.updated_ms, verdict.ended_ms);
    got_free(&got);
    assert_false(claim_one(f, 60000, &token));
    assert_int_equal(stats_now(f).failed, 1);
    assert_accounts(f);
}

static void a_higher_priority_goes_first_and_equals_in_order_of_creation(void **state)
{
    struct fixture *f = *state;
    static const uint8_t priorities[] = {1, 9, 5, 9, 0, 5, 1};
    static const size_t order[] = {1, 3, 2, 5, 0, 6, 4};
    struct task_id ids[7];
    for (size_t i = 0; i < 7; i++) {
        ids[i] = create_one(f, priorities[i], "x");
    }
    for (size_t i = 0; i < 7; i++) {
        struct task_member token;
        assert_true(claim_one(f, 60000, &token));
        struct task_id id = id_of(&token);
        assert_true(task_id_equal(&id, &ids[order[i]]));
    }
}

static void tasks_of_one_call_keep_their_order(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[STORE_TASKS_MAX];
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        items[i] =
            (struct store_create_item){.priority = 3, .max_attempts = 1, .body = bytes_of("x")};
    }
    struct store_create_verdict made[STORE_TASKS_MAX];
    assert_int_equal(create_call(f, f->store, items, STORE_TASKS_MAX, made), STORE_OK);
    /* Dealt to three claimers in their order: 100, 150 and what is left, 6. */
    struct store_claim_item claimers[] = {
        {.count = 100, .lease_ms = 1000, .worker = bytes_of("a")},
        {.count = 150, .lease_ms = 2000, .worker = bytes_of("b")},
        {.count = 6, .lease_ms = 3000, .worker = bytes_of("c")},
    };
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, claimers, 3, &claims), STORE_OK);
    assert_int_equal(claims.count, STORE_TASKS_MAX);
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        struct task_id id = id_of(&claims.tasks[i].member);
        assert_true(task_id_equal(&id, &made[i].id));
        size_t claimer = i < 100 ? 0 : i < 250 ? 1 : 2;
        assert_int_equal(claims.tasks[i].claimer, claimer);
        assert_int_equal(claims.tasks[i].lease_until_ms - claims.tasks[0].lease_until_ms,
                         1000 * (int64_t)claimer);
    }
    struct got got;
    assert_int_equal(get_call(f, f->store, &made[255].id, &got), STORE_OK);
    assert_string_equal(got.worker, "c");
    got_free(&got);
    /* All of them end in one call too. */
    struct store_complete_item ends[STORE_TASKS_MAX];
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        ends[i] = (struct store_complete_item){.lease = by_token(&claims.tasks[i].member),
                                               .result = bytes_of("r")};
    }
    struct store_return_verdict verdicts[STORE_TASKS_MAX];
    assert_int_equal(complete_call(f, f->store, ends, STORE_TASKS_MAX, verdicts), STORE_OK);
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        assert_int_equal(verdicts[i].verdict, STORE_DONE);
    }
    claims_free(&claims);
    assert_int_equal(stats_now(f).completed, STORE_TASKS_MAX);
    assert_accounts(f);
}

static void a_claim_of_nothing_is_an_answer_and_takes_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct task_member token;
    assert_false(claim_one(f, 1000, &token));
    create_one(f, 0, "x");
    struct store_claim_item claimers[] = {
        {.count = 5, .lease_ms = 1000, .worker = bytes_of("a")},
        {.count = 5, .lease_ms = 1000, .worker = bytes_of("b")},
    };
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, claimers, 2, &claims), STORE_OK);
    assert_int_equal(claims.count, 1);
    assert_int_equal(claims.tasks[0].claimer, 0);
    claims_free(&claims);
}

/* ---- delays ---- */

static void a_delayed_task_is_ready_at_its_ms_and_not_before(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[] = {
        {.max_attempts = 1, .delay_ms = 1500, .body = bytes_of("delay")},
        {.max_attempts = 1, .run_at_ms = FIXTURE_T0_MS + 1000, .body = bytes_of("run at")},
        {.max_attempts = 1, .run_at_ms = FIXTURE_T0_MS, .delay_ms = 9999, .body = bytes_of("past")},
    };
    struct store_create_verdict made[3];
    assert_int_equal(create_call(f, f->store, items, 3, made), STORE_OK);
    assert_true(made[0].delayed);
    assert_true(made[1].delayed);
    assert_false(made[2].delayed); /* run at beats delay, and is due */
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    assert_int_equal(task_member_id(&token).bytes[15], made[2].id.bytes[15]);
    struct got got;
    assert_int_equal(get_call(f, f->store, &made[0].id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_DELAYED);
    assert_int_equal(got.due_ms, FIXTURE_T0_MS + 1500);
    got_free(&got);

    fixture_set_time(f, FIXTURE_T0_US + 999999);
    assert_false(claim_one(f, 60000, &token));
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    assert_true(claim_one(f, 60000, &token));
    struct task_id id = id_of(&token);
    assert_true(task_id_equal(&id, &made[1].id));
    fixture_set_time(f, FIXTURE_T0_US + 1499999);
    assert_false(claim_one(f, 60000, &token));
    fixture_set_time(f, FIXTURE_T0_US + 1500000);
    assert_true(claim_one(f, 60000, &token));
    id = id_of(&token);
    assert_true(task_id_equal(&id, &made[0].id));
    assert_accounts(f);
}

static void due_tasks_come_in_order_of_their_due_time(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[] = {
        {.max_attempts = 1, .delay_ms = 300, .body = bytes_of("3")},
        {.max_attempts = 1, .delay_ms = 100, .body = bytes_of("1")},
        {.max_attempts = 1, .delay_ms = 200, .body = bytes_of("2")},
    };
    struct store_create_verdict made[3];
    assert_int_equal(create_call(f, f->store, items, 3, made), STORE_OK);
    fixture_set_time(f, FIXTURE_T0_US + 250000);
    struct task_id direct = create_one(f, 0, "at 250");
    fixture_set_time(f, FIXTURE_T0_US + 5000000);
    struct task_id order[] = {made[1].id, made[2].id, direct, made[0].id};
    for (size_t i = 0; i < 4; i++) {
        struct task_member token;
        assert_true(claim_one(f, 60000, &token));
        struct task_id id = id_of(&token);
        assert_true(task_id_equal(&id, &order[i]));
    }
}

/* ---- leases ---- */

static void a_lease_holds_to_the_ms_before_its_deadline_for_every_operation(void **state)
{
    struct fixture *f = *state;
    struct task_member tokens[4];
    for (int i = 0; i < 4; i++) {
        create_one(f, 0, "x");
        assert_true(claim_one(f, 1000, &tokens[i]));
    }
    fixture_set_time(f, FIXTURE_T0_US + 999999);
    assert_int_equal(heartbeat_one(f, &tokens[0], 1), STORE_DONE);
    assert_int_equal(complete_one(f, &tokens[1]), STORE_DONE);
    assert_int_equal(nack_one(f, &tokens[2], 10).verdict, STORE_DONE);
    assert_int_equal(abandon_one(f, &tokens[3]), STORE_DONE);
    assert_accounts(f);
}

static void a_lease_is_lost_at_its_deadline_though_nobody_took_the_task_back(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    assert_int_equal(heartbeat_one(f, &token, 5000), STORE_LOST);
    assert_int_equal(complete_one(f, &token), STORE_LOST);
    assert_int_equal(nack_one(f, &token, 10).verdict, STORE_LOST);
    assert_int_equal(abandon_one(f, &token), STORE_LOST);
    struct store_heartbeat_item by_name = {.lease = by_worker(&id, "w"), .extend_ms = 5000};
    struct store_return_verdict verdict;
    assert_int_equal(heartbeat_call(f, f->store, &by_name, 1, &verdict), STORE_OK);
    assert_int_equal(verdict.verdict, STORE_LOST);
    assert_int_equal(state_of_task(f, &id), TASK_LEASED); /* nobody has looked yet */
    assert_accounts(f);
}

static void expired_lease_makes_task_claimable_again_after_its_backoff(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member first;
    assert_true(claim_one(f, 1000, &first));
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    struct task_member second;
    assert_false(claim_one(f, 1000, &second)); /* this claim took it back: base 5 s * 2^1 */
    struct got got;
    assert_int_equal(get_call(f, f->store, &id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_DELAYED);
    assert_int_equal(got.due_ms, FIXTURE_T0_MS + 1000 + 10000);
    assert_string_equal(got.reason, LEASE_REASON_EXPIRED);
    got_free(&got);
    fixture_set_time(f, FIXTURE_T0_US + 11000000);
    assert_true(claim_one(f, 1000, &second));
    struct task_id again = id_of(&second);
    assert_true(task_id_equal(&id, &again));
    assert_int_equal(task_member_attempts(&second), 2);
    assert_int_equal(task_member_generation(&second), 4);
    assert_int_equal(complete_one(f, &first), STORE_LOST);
    assert_int_equal(complete_one(f, &second), STORE_DONE);
    assert_int_equal(stats_now(f).reaped, 1);
    assert_accounts(f);
}

static void a_heartbeat_moves_the_deadline_both_ways(void **state)
{
    struct fixture *f = *state;
    create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    struct store_heartbeat_item item = {.lease = by_token(&token), .extend_ms = 3000};
    struct store_return_verdict verdict;
    assert_int_equal(heartbeat_call(f, f->store, &item, 1, &verdict), STORE_OK);
    assert_int_equal(verdict.lease_until_ms, FIXTURE_T0_MS + 3000);
    fixture_set_time(f, FIXTURE_T0_US + 2999999);
    assert_int_equal(heartbeat_one(f, &token, 10), STORE_DONE); /* shorter: to 3009 */
    fixture_set_time(f, FIXTURE_T0_US + 3008000);
    assert_int_equal(heartbeat_one(f, &token, 1), STORE_DONE);
    fixture_set_time(f, FIXTURE_T0_US + 3009000);
    assert_int_equal(heartbeat_one(f, &token, 1000), STORE_LOST);
}

static void sweep_takes_back_in_order_of_deadline_and_says_what_is_next(void **state)
{
    struct fixture *f = *state;
    struct task_member tokens[3];
    static const int64_t leases_ms[] = {3000, 1000, 2000};
    for (int i = 0; i < 3; i++) {
        create_one(f, 0, "x");
        assert_true(claim_one(f, leases_ms[i], &tokens[i]));
    }
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_int_equal(swept.reaped + swept.promoted + swept.dead, 0);
    assert_int_equal(swept.next_due_ms, FIXTURE_T0_MS + 1000);
    assert_int_equal(swept.now_ms, FIXTURE_T0_MS);
    fixture_set_time(f, FIXTURE_T0_US + 2500000);
    assert_int_equal(sweep_call(f, f->store, 1, &swept), STORE_OK);
    assert_int_equal(swept.reaped, 1);
    assert_int_equal(swept.next_due_ms, FIXTURE_T0_MS + 2000);
    struct task_id id = id_of(&tokens[1]);
    assert_int_equal(state_of_task(f, &id), TASK_DELAYED);
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_int_equal(swept.reaped, 1);
    assert_int_equal(swept.next_due_ms, FIXTURE_T0_MS + 3000);
    fixture_set_time(f, FIXTURE_T0_US + 20000000);
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_int_equal(swept.reaped, 1);
    assert_int_equal(swept.promoted, 2);
    assert_int_equal(swept.next_due_ms, FIXTURE_T0_MS + 30000);
    assert_int_equal(stats_now(f).ready, 2);
    assert_accounts(f);
}

/* ---- attempts, backoff, dead letters ---- */

static void a_task_is_delivered_max_attempts_times_and_then_dead(void **state)
{
    struct fixture *f = *state;
    struct store_create_item item = {.max_attempts = 3, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    struct task_member token;
    int64_t now_us = FIXTURE_T0_US;
    for (int delivery = 1; delivery <= 3; delivery++) {
        fixture_set_time(f, now_us);
        assert_true(claim_one(f, 1000, &token));
        assert_int_equal(task_member_attempts(&token), delivery);
        if (delivery == 2) {
            now_us += 1000000; /* this one expires instead */
            fixture_set_time(f, now_us);
            struct store_sweep_result swept;
            assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
            assert_int_equal(swept.reaped, 1);
            now_us += 20000000;
        } else {
            struct store_return_verdict verdict = nack_one(f, &token, 0);
            assert_int_equal(verdict.verdict, STORE_DONE);
            assert_int_equal(verdict.dead, delivery == 3);
            assert_int_equal(verdict.delay_ms, delivery == 3 ? 0 : 10000);
            now_us += 10000000;
        }
    }
    struct got got;
    assert_int_equal(get_call(f, f->store, &made.id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_DEAD);
    assert_string_equal(got.reason, "because");
    assert_string_equal(got.body, "x");
    got_free(&got);
    assert_int_equal(stats_now(f).dead, 1);
    assert_int_equal(stats_now(f).dead_now, 1);
    fixture_set_time(f, now_us + 1000000000);
    assert_false(claim_one(f, 1000, &token));
    assert_accounts(f);
}

static void expiry_of_the_last_attempt_goes_to_the_dead_letters(void **state)
{
    struct fixture *f = *state;
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_int_equal(swept.reaped, 1);
    assert_int_equal(swept.dead, 1);
    struct got got;
    assert_int_equal(get_call(f, f->store, &made.id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_DEAD);
    assert_string_equal(got.reason, LEASE_REASON_EXPIRED);
    got_free(&got);
    assert_accounts(f);
}

static void a_nack_waits_as_asked_and_at_most_the_maximum(void **state)
{
    struct fixture *f = *state;
    create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    struct store_return_verdict verdict = nack_one(f, &token, 777);
    assert_int_equal(verdict.delay_ms, 777);
    fixture_set_time(f, FIXTURE_T0_US + 776999);
    assert_false(claim_one(f, 1000, &token));
    fixture_set_time(f, FIXTURE_T0_US + 777000);
    assert_true(claim_one(f, 1000, &token));
    verdict = nack_one(f, &token, 900001);
    assert_int_equal(verdict.delay_ms, 900000);
}

static void an_abandoned_task_is_ready_at_once_at_the_back_and_its_delivery_is_not_counted(
    void **state)
{
    struct fixture *f = *state;
    struct task_id first = create_one(f, 4, "first");
    fixture_set_time(f, FIXTURE_T0_US + 1);
    create_one(f, 4, "second");
    fixture_set_time(f, FIXTURE_T0_US + 2);
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    assert_int_equal(abandon_one(f, &token), STORE_DONE);
    assert_int_equal(abandon_one(f, &token), STORE_LOST);
    struct task_member next;
    assert_true(claim_one(f, 1000, &next));
    struct task_id id = id_of(&next);
    assert_false(task_id_equal(&id, &first));
    assert_true(claim_one(f, 1000, &next));
    id = id_of(&next);
    assert_true(task_id_equal(&id, &first));
    assert_int_equal(task_member_attempts(&next), 1);
    assert_int_equal(task_member_generation(&next), 4);
    assert_int_equal(complete_one(f, &token), STORE_LOST);
    assert_accounts(f);
}

static void the_script_and_backoff_c_compute_the_same_delays(void **state)
{
    struct fixture *f = *state;
    char tag[KEYS_BYTES_MAX];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    struct rng {
        uint64_t x;
    } rng = {88172645463325252u};
    for (int round = 0; round < 200; round++) {
        rng.x ^= rng.x << 13;
        rng.x ^= rng.x >> 7;
        rng.x ^= rng.x << 17;
        struct backoff_policy policy = {(enum backoff_kind)(round % 5),
                                        (int64_t)(rng.x >> 8) % 100000,
                                        (int64_t)(rng.x >> 20) % 10000000};
        uint32_t seed = (uint32_t)(rng.x >> 33);
        create_one(f, 0, "x");
        struct task_member token;
        int deliveries = 1 + round % 3;
        assert_true(claim_one(f, 60000, &token));
        for (int i = 1; i < deliveries; i++) {
            assert_int_equal(nack_one(f, &token, 1).verdict, STORE_DONE);
            fixture_set_time(f, FIXTURE_T0_US + round * 1000000 + i * 1000);
            assert_true(claim_one(f, 60000, &token));
        }
        char text[80];
        snprintf(text, sizeof text, "%d %lld %lld %u 0123456789abcdef", (int)policy.kind,
                 (long long)policy.base_ms, (long long)policy.max_ms, seed);
        char ref[1 + TASK_MEMBER_BYTES] = "t";
        memcpy(ref + 1, token.bytes, TASK_MEMBER_BYTES);
        const char *argv[] = {
            "EVALSHA", store_scripts[SCRIPT_NACK].sha, "1", tag, "86400000", text, ref, "0", "why"};
        /* The script with still time, under its own name. */
        argv[1] = f->script_sets[f->script_set_count - 1][SCRIPT_NACK].sha;
        size_t bytes[9];
        for (int i = 0; i < 9; i++) {
            bytes[i] = i == 6 ? sizeof ref : strlen(argv[i]);
        }
        char *reply = redis_do(f, 9, argv, bytes);
        char expected[40];
        snprintf(expected, sizeof expected, "D %lld",
                 (long long)backoff_delay_ms(&policy, (uint16_t)deliveries, seed));
        assert_string_equal(reply, expected);
        free(reply);
        fixture_set_time(f, FIXTURE_T0_US + (round + 1) * 1000000);
        /* Out of the way of the next round. */
        char dels[400];
        snprintf(dels, sizeof dels, "DEL %s:d %s:r %s:b %s:c", tag, tag, tag, tag);
        redis_number(f, dels);
    }
}

/* ---- verdicts ---- */

static void each_operation_tells_not_found_from_lost_from_not_owner_from_not_leased(void **state)
{
    struct fixture *f = *state;
    struct task_id ready = create_one(f, 0, "x");
    struct task_id_maker maker;
    task_id_maker_init(&maker, 0x3ffffffff);
    struct task_id nobody = task_id_next(&maker, FIXTURE_T0_MS, f->queue.number, 0);
    struct task_member nobody_token = task_member_first(&nobody, 0, 5);
    struct task_member ready_token = task_member_first(&ready, 0, 5);

    struct store_heartbeat_item beats[] = {
        {.lease = by_token(&nobody_token), .extend_ms = 1000},
        {.lease = by_worker(&nobody, "w"), .extend_ms = 1000},
        {.lease = by_worker(&ready, "w"), .extend_ms = 1000},
        {.lease = by_token(&ready_token), .extend_ms = 1000},
    };
    struct store_return_verdict v[8];
    assert_int_equal(heartbeat_call(f, f->store, beats, 4, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_NOT_FOUND);
    assert_int_equal(v[1].verdict, STORE_NOT_FOUND);
    assert_int_equal(v[2].verdict, STORE_NOT_LEASED);
    assert_int_equal(v[3].verdict, STORE_LOST);

    struct task_member token;
    assert_true(claim_one(f, 1000, &token)); /* by "w" */
    struct store_complete_item ends[] = {
        {.lease = by_worker(&ready, "somebody else"), .result = bytes_of("1")},
        {.lease = by_worker(&ready, ""), .result = bytes_of("2")},
        {.lease = by_token(&ready_token), .result = bytes_of("3")},
        {.lease = by_worker(&ready, "w"), .result = bytes_of("4")},
        {.lease = by_worker(&ready, "w"), .result = bytes_of("5")},
        {.lease = by_token(&token), .result = bytes_of("6")},
    };
    assert_int_equal(complete_call(f, f->store, ends, 6, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_NOT_OWNER);
    assert_int_equal(v[1].verdict, STORE_NOT_OWNER);
    assert_int_equal(v[2].verdict, STORE_LOST);
    assert_int_equal(v[3].verdict, STORE_DONE);
    assert_int_equal(v[4].verdict, STORE_LOST);
    assert_int_equal(v[5].verdict, STORE_DUPLICATE);
    struct got got;
    assert_int_equal(get_call(f, f->store, &ready, &got), STORE_OK);
    assert_string_equal(got.result, "4");
    got_free(&got);

    /* After the end: the token that did it, another, the worker. */
    struct store_nack_item nacks[] = {
        {.lease = by_token(&token)},
        {.lease = by_worker(&ready, "w")},
        {.lease = by_worker(&nobody, "w")},
    };
    assert_int_equal(nack_call(f, f->store, nacks, 3, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_LOST);
    assert_int_equal(v[1].verdict, STORE_NOT_LEASED);
    assert_int_equal(v[2].verdict, STORE_NOT_FOUND);
    struct store_abandon_item abandons[] = {
        {.lease = by_token(&token)},
        {.lease = by_worker(&ready, "w")},
        {.lease = by_worker(&nobody, "w")},
    };
    assert_int_equal(abandon_call(f, f->store, abandons, 3, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_LOST);
    assert_int_equal(v[1].verdict, STORE_NOT_LEASED);
    assert_int_equal(v[2].verdict, STORE_NOT_FOUND);
    assert_int_equal(complete_one(f, &token), STORE_DUPLICATE);
    assert_int_equal(state_of_task(f, &nobody), TASK_NONE);
    assert_int_equal(stats_now(f).completed, 1);
    assert_accounts(f);
}

static void without_a_token_the_worker_may_do_everything(void **state)
{
    struct fixture *f = *state;
    struct task_member token;
    struct task_id id = create_one(f, 0, "x");
    struct store_return_verdict v;
    assert_true(claim_one(f, 1000, &token));
    struct store_heartbeat_item beat = {.lease = by_worker(&id, "w"), .extend_ms = 5000};
    assert_int_equal(heartbeat_call(f, f->store, &beat, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_DONE);
    assert_int_equal(v.lease_until_ms, FIXTURE_T0_MS + 5000);
    struct store_abandon_item abandon = {.lease = by_worker(&id, "w")};
    assert_int_equal(abandon_call(f, f->store, &abandon, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_DONE);
    assert_true(claim_one(f, 1000, &token));
    struct store_nack_item nack = {.lease = by_worker(&id, "w"), .delay_ms = 5};
    assert_int_equal(nack_call(f, f->store, &nack, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_DONE);
    fixture_set_time(f, FIXTURE_T0_US + 5000);
    assert_true(claim_one(f, 1000, &token));
    assert_int_equal(task_member_attempts(&token), 2);
    struct store_complete_item end = {.lease = by_worker(&id, "w"), .failed = true};
    assert_int_equal(complete_call(f, f->store, &end, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_DONE);
    assert_int_equal(state_of_task(f, &id), TASK_FAILED);
    assert_accounts(f);
}

static void a_worker_name_that_begins_like_another_is_another(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct store_claim_item claim = {.count = 1, .lease_ms = 1000, .worker = {"a\0b}:\xc3\xa9", 7}};
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, &claim, 1, &claims), STORE_OK);
    claims_free(&claims);
    struct store_complete_item end = {.lease = by_worker(&id, "a")};
    struct store_return_verdict v;
    assert_int_equal(complete_call(f, f->store, &end, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_NOT_OWNER);
    end.lease.worker = claim.worker;
    assert_int_equal(complete_call(f, f->store, &end, 1, &v), STORE_OK);
    assert_int_equal(v.verdict, STORE_DONE);
}

/* ---- idempotency and retention ---- */

static enum store_verdict create_keyed(struct fixture *f, struct store_bytes key,
                                       struct task_id *out)
{
    struct store_create_item item = {.max_attempts = 1, .key = key, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    *out = made.id;
    return made.verdict;
}

static void one_key_makes_one_task_in_one_call_and_over_calls(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[] = {
        {.max_attempts = 1, .key = bytes_of("k"), .body = bytes_of("first")},
        {.max_attempts = 1, .key = bytes_of("k"), .body = bytes_of("second")},
        {.max_attempts = 1, .body = bytes_of("none")},
        {.max_attempts = 1, .key = bytes_of("l"), .delay_ms = 100, .body = bytes_of("other")},
    };
    struct store_create_verdict made[4];
    assert_int_equal(create_call(f, f->store, items, 4, made), STORE_OK);
    assert_int_equal(made[0].verdict, STORE_DONE);
    assert_int_equal(made[1].verdict, STORE_DUPLICATE);
    assert_true(task_id_equal(&made[0].id, &made[1].id));
    assert_int_equal(made[2].verdict, STORE_DONE);
    assert_int_equal(made[3].verdict, STORE_DONE);
    assert_true(made[3].delayed);
    struct task_id again;
    assert_int_equal(create_keyed(f, bytes_of("l"), &again), STORE_DUPLICATE);
    assert_true(task_id_equal(&again, &made[3].id));
    struct store_stats stats = stats_now(f);
    assert_int_equal(stats.created, 3);
    assert_int_equal(stats.duplicates, 2);
    assert_int_equal(stats.ready, 2);
    assert_accounts(f);
}

static void a_key_is_remembered_for_the_retention_and_forgotten_after_twice_that(void **state)
{
    struct fixture *f = *state;
    const int64_t day_us = INT64_C(86400000000);
    struct task_id first;
    struct task_id again;
    fixture_set_time(f, FIXTURE_T0_US + day_us - 1);
    assert_int_equal(create_keyed(f, bytes_of("k"), &first), STORE_DONE);
    fixture_set_time(f, FIXTURE_T0_US + 2 * day_us - 1);
    assert_int_equal(create_keyed(f, bytes_of("k"), &again), STORE_DUPLICATE);
    assert_true(task_id_equal(&first, &again));
    fixture_set_time(f, FIXTURE_T0_US + 2 * day_us);
    assert_int_equal(create_keyed(f, bytes_of("k"), &again), STORE_DONE);
    assert_false(task_id_equal(&first, &again));
}

static void finished_tasks_are_kept_for_the_retention_and_their_keys_expire(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    const int64_t day_us = INT64_C(86400000000);
    fixture_set_time(f, FIXTURE_T0_US + 2 * day_us - 1);
    assert_int_equal(state_of_task(f, &id), TASK_COMPLETED);
    assert_int_equal(complete_one(f, &token), STORE_DUPLICATE);
    fixture_set_time(f, FIXTURE_T0_US + 2 * day_us);
    assert_int_equal(state_of_task(f, &id), TASK_NONE);
    assert_int_equal(complete_one(f, &token), STORE_NOT_FOUND);
    char tag[KEYS_BYTES_MAX];
    char command[200];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    snprintf(command, sizeof command, "PEXPIRETIME %s:f:%lld", tag,
             (long long)(FIXTURE_T0_MS / 86400000));
    assert_int_equal(redis_number(f, command), FIXTURE_T0_MS / 86400000 * 86400000 + 2 * 86400000);
}

/* ---- names, sizes, limits ---- */

static void queues_of_hostile_names_are_apart_and_keys_hold_numbers_only(void **state)
{
    struct fixture *f = *state;
    static const struct store_bytes names[] = {
        {"}", 1},
        {":", 1},
        {"{", 1},
        {"\0", 1},
        {"", 0},
        {"a", 1},
        {"a\0", 2},
        {"\xe2\x82\xac", 3},
        {"\r\n*1", 4},
        {" ", 1},
        {"}:r\r\n$9999", 10},
        {"acme/0/0}", 9},
    };
    enum { NAMES = sizeof names / sizeof names[0] };
    struct store_queue queues[NAMES];
    for (size_t i = 0; i < NAMES; i++) {
        queues[i] = intern(f, f->store, "acme", names[i]);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(queues[i].number, queues[j].number);
        }
        f->queue = queues[i];
        create_one(f, 0, "x");
    }
    for (size_t i = 0; i < NAMES; i++) {
        struct store_queue again = intern(f, f->store, "acme", names[i]);
        assert_int_equal(again.number, queues[i].number);
        f->queue = again;
        assert_int_equal(stats_now(f).created, 1);
        assert_accounts(f);
    }
    /* The same name of another tenant is another queue. */
    f->queue = intern(f, f->store, "acme-2", names[0]);
    assert_int_equal(stats_now(f).created, 0);
    /* No name is in a key. */
    char *keys = redis_text(f, "KEYS *");
    assert_null(strstr(keys, "\xe2\x82\xac"));
    assert_null(strstr(keys, "9999"));
    free(keys);
}

static void intern_ignore(void *arg, const struct store_call_result *call,
                          const struct store_queue *queue, uint8_t shards)
{
    (void)arg;
    (void)call;
    (void)queue;
    (void)shards;
    fail_msg("the operation was refused, yet its callback came");
}

static void a_tenant_that_is_not_a_name_is_refused_before_redis_sees_it(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "",
        "a",
        "Acme",
        "1acme",
        "-acme",
        "ac}me",
        "ac:me",
        "acme ",
        "acm\xc3\xa9",
        "a123456789012345678901234567890123456789012345678901234567890123",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(store_intern(f->store, bad[i], bytes_of("q"), intern_ignore, NULL),
                         -EINVAL);
        struct store_queue queue = {.tenant = bad[i]};
        assert_int_equal(store_stats(f->store, &queue, NULL, NULL), -EINVAL);
        assert_false(keys_tenant_valid(bad[i]));
    }
    assert_true(keys_tenant_valid("ab"));
    assert_true(
        keys_tenant_valid("a12345678901234567890123456789012345678901234567890123456789012"));
}

static void bodies_of_0_bytes_and_of_1_mib_come_back_as_they_were(void **state)
{
    struct fixture *f = *state;
    size_t sizes[] = {0, 1, 1024 * 1024, 3 * 1024 * 1024};
    for (size_t k = 0; k < 4; k++) {
        char *body = malloc(sizes[k] + 1);
        for (size_t i = 0; i < sizes[k]; i++) {
            body[i] = (char)(i * 131 >> 3);
        }
        struct store_create_item item = {.max_attempts = 1, .body = {body, sizes[k]}};
        struct store_create_verdict made;
        assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
        struct store_claim_item claim = {.count = 1, .lease_ms = 60000, .worker = bytes_of("w")};
        struct claims claims;
        assert_int_equal(claim_call(f, f->store, &claim, 1, &claims), STORE_OK);
        assert_int_equal(claims.count, 1);
        assert_int_equal(claims.tasks[0].body_bytes, sizes[k]);
        assert_memory_equal(claims.tasks[0].body, body, sizes[k]);
        struct store_complete_item end = {.lease = by_token(&claims.tasks[0].member),
                                          .result = {body, sizes[k]}};
        struct store_return_verdict v;
        assert_int_equal(complete_call(f, f->store, &end, 1, &v), STORE_OK);
        assert_int_equal(v.verdict, STORE_DONE);
        struct got got;
        assert_int_equal(get_call(f, f->store, &made.id, &got), STORE_OK);
        assert_int_equal(got.body_bytes, sizes[k]);
        assert_memory_equal(got.body, body, sizes[k]);
        assert_int_equal(got.result_bytes, sizes[k]);
        assert_memory_equal(got.result, body, sizes[k]);
        got_free(&got);
        claims_free(&claims);
        free(body);
    }
}

static void counts_and_values_past_their_limits_are_refused(void **state)
{
    struct fixture *f = *state;
    static struct store_create_item items[STORE_TASKS_MAX + 1];
    for (size_t i = 0; i <= STORE_TASKS_MAX; i++) {
        items[i] = (struct store_create_item){.max_attempts = 1};
    }
    assert_int_equal(store_create(f->store, &f->queue, items, 0, NULL, NULL), -EINVAL);
    assert_int_equal(store_create(f->store, &f->queue, items, STORE_TASKS_MAX + 1, NULL, NULL),
                     -EINVAL);
    struct store_create_item bad[] = {
        {.max_attempts = 0},
        {.max_attempts = 1, .priority = 10},
        {.max_attempts = 1, .delay_ms = -1},
        {.max_attempts = 1, .delay_ms = STORE_DELAY_MS_MAX + 1},
        {.max_attempts = 1, .run_at_ms = -1},
        {.max_attempts = 1, .run_at_ms = STORE_RUN_AT_MS_MAX + 1},
        {.max_attempts = 1, .key = {"", STORE_NAME_BYTES_MAX + 1}},
        {.max_attempts = 1, .body = {"", STORE_BODY_BYTES_MAX + 1}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(store_create(f->store, &f->queue, &bad[i], 1, NULL, NULL), -EINVAL);
    }
    struct store_claim_item claims[] = {
        {.count = 0, .lease_ms = 1},
        {.count = STORE_TASKS_MAX + 1, .lease_ms = 1},
        {.count = 1, .lease_ms = 0},
        {.count = 1, .lease_ms = LEASE_MS_MAX + 1},
    };
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        assert_int_equal(store_claim(f->store, &f->queue, &claims[i], 1, NULL, NULL), -EINVAL);
    }
    struct store_claim_item sum[] = {{.count = 200, .lease_ms = 1}, {.count = 57, .lease_ms = 1}};
    assert_int_equal(store_claim(f->store, &f->queue, sum, 2, NULL, NULL), -EINVAL);
    struct store_heartbeat_item beat = {.extend_ms = 0};
    assert_int_equal(store_heartbeat(f->store, &f->queue, &beat, 1, NULL, NULL), -EINVAL);
    assert_int_equal(store_sweep(f->store, &f->queue, 0, NULL, NULL), -EINVAL);
    assert_int_equal(store_sweep(f->store, &f->queue, STORE_TASKS_MAX + 1, NULL, NULL), -EINVAL);
    assert_int_equal(stats_now(f).created, 0); /* and the connection is in order */
}

static void a_full_batch_of_keyed_delayed_tasks_and_a_full_nack_stay_below_luas_limit(void **state)
{
    struct fixture *f = *state;
    static struct store_create_item items[STORE_TASKS_MAX];
    static char keys[STORE_TASKS_MAX][16];
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        snprintf(keys[i], sizeof keys[i], "key %zu", i);
        items[i] = (struct store_create_item){.max_attempts = (uint16_t)(1 + i % 2),
                                              .delay_ms = 1 + (int64_t)(i % 7),
                                              .key = bytes_of(keys[i]),
                                              .body = bytes_of("b"),
                                              .wants_outbox = i % 3 == 0};
    }
    struct store_create_verdict made[STORE_TASKS_MAX];
    assert_int_equal(create_call(f, f->store, items, STORE_TASKS_MAX, made), STORE_OK);
    assert_int_equal(create_call(f, f->store, items, STORE_TASKS_MAX, made), STORE_OK);
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        assert_int_equal(made[i].verdict, STORE_DUPLICATE);
    }
    fixture_set_time(f, FIXTURE_T0_US + 10000);
    struct store_claim_item claim = {
        .count = STORE_TASKS_MAX, .lease_ms = 60000, .worker = bytes_of("w")};
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, &claim, 1, &claims), STORE_OK);
    assert_int_equal(claims.count, STORE_TASKS_MAX);
    static struct store_nack_item nacks[STORE_TASKS_MAX];
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        nacks[i] = (struct store_nack_item){.lease = by_token(&claims.tasks[i].member),
                                            .reason = bytes_of("r")};
    }
    struct store_return_verdict v[STORE_TASKS_MAX];
    assert_int_equal(nack_call(f, f->store, nacks, STORE_TASKS_MAX, v), STORE_OK);
    size_t dead = 0;
    for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
        assert_int_equal(v[i].verdict, STORE_DONE);
        dead += v[i].dead;
    }
    assert_int_equal(dead, STORE_TASKS_MAX / 2);
    claims_free(&claims);
    assert_accounts(f);
    /* Each dead task that wanted one has an outbox entry: every third of the dead ones. */
    char tag[KEYS_BYTES_MAX];
    char command[120];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    snprintf(command, sizeof command, "ZCARD %s:o", tag);
    assert_int_equal(redis_number(f, command), 43);
}

static void an_outbox_entry_is_made_in_the_script_that_ends_the_task_and_only_when_wanted(
    void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[] = {
        {.max_attempts = 1, .body = bytes_of("x"), .wants_outbox = true},
        {.max_attempts = 1, .body = bytes_of("ox")},
    };
    struct store_create_verdict made[2];
    assert_int_equal(create_call(f, f->store, items, 2, made), STORE_OK);
    char tag[KEYS_BYTES_MAX];
    char command[120];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    snprintf(command, sizeof command, "ZCARD %s:o", tag);
    struct task_member token;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(redis_number(f, command), i);
        assert_true(claim_one(f, 1000, &token));
        assert_int_equal(complete_one(f, &token), STORE_DONE);
        assert_int_equal(redis_number(f, command), 1);
    }
}

static void on_one_deleted(void *arg, const struct store_call_result *call,
                           const enum store_deleted *items, size_t count)
{
    assert_int_equal(call->status, STORE_OK);
    assert_int_equal(count, 1);
    *(enum store_deleted *)arg = items[0];
}

static void a_promoted_task_is_ready_for_whoever_asks_and_whoever_deletes_it(void **state)
{
    struct fixture *f = *state;
    struct store_create_item item = {.max_attempts = 3, .delay_ms = 1000, .body = bytes_of("x")};
    struct store_create_verdict made;
    struct store_sweep_result swept;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    assert_int_equal(state_of_task(f, &made.id), TASK_DELAYED);
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    struct got got;
    assert_int_equal(get_call(f, f->store, &made.id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_READY);
    assert_int_equal(got.due_ms, 0);
    got_free(&got);
    enum store_deleted deleted = STORE_DELETE_NOT_FOUND;
    assert_int_equal(
        store_delete(f->store, &f->queue, &made.id, 1, false, on_one_deleted, &deleted), 0);
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(deleted, STORE_DELETED);
    assert_int_equal(stats_now(f).ready, 0);
    assert_accounts(f);
}

struct claim_end {
    int64_t until_ms;
    size_t count;
    bool died;
};

static void on_claim_end(void *arg, const struct store_call_result *call,
                         const struct store_claimed *tasks, size_t count)
{
    assert_int_equal(call->status, STORE_OK);
    *(struct claim_end *)arg =
        (struct claim_end){count != 0 ? tasks[0].lease_until_ms : 0, count, call->died};
}

static void a_claim_tells_that_tasks_have_died_in_it(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[] = {{.max_attempts = 1, .body = bytes_of("x")},
                                        {.max_attempts = 9, .body = bytes_of("y")}};
    struct store_create_verdict made[2];
    struct task_member token;
    assert_int_equal(create_call(f, f->store, items, 2, made), STORE_OK);
    assert_true(claim_one(f, 1000, &token));
    struct store_claim_item item = {.count = 1, .lease_ms = 5000, .worker = bytes_of("w")};
    for (int round = 1; round <= 2; round++) { /* at the first it dies, beside a task taken */
        struct claim_end end;
        fixture_set_time(f, FIXTURE_T0_US + round * INT64_C(2000000));
        assert_int_equal(store_claim(f->store, &f->queue, &item, 1, on_claim_end, &end), 0);
        assert_int_equal(store_wait(f->store, INT64_MAX), 0);
        assert_int_equal(end.died, round == 1);
        assert_int_equal(end.count, round == 1);
        assert_int_equal(end.until_ms, round == 1 ? FIXTURE_T0_MS + 2000 + 5000 : 0);
    }
    assert_int_equal(stats_now(f).dead_now, 1);
}

/* ---- who is told of work ---- */

#define LISTENER "00000000000000aa"

struct told {
    size_t messages;
    char last[120];
};

static void on_told(void *arg, const char *text, size_t bytes)
{
    struct told *told = arg;
    told->messages++;
    snprintf(told->last, sizeof told->last, "%.*s", (int)bytes, text);
}

static void on_pong(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    (void)call;
    (void)reply;
    (void)err;
    assert_int_equal(status, CONN_OK);
}

/* What has been published comes before the answer to a PING that is sent now. */
static void listen_until_now(struct conn *conn)
{
    conn_begin(conn, 1);
    conn_arg(conn, "PING", 4);
    struct conn_call call = {.done = on_pong};
    assert_int_equal(conn_end(conn, &call), 0);
    assert_int_equal(conn_wait(conn, INT64_MAX), 0);
}

static void wait_for_work(struct fixture *f, struct store *store)
{
    struct store_claim_item item = {
        .count = 1, .lease_ms = 1000, .worker = bytes_of("w"), .waits = true};
    struct claims claims;
    assert_int_equal(claim_call(f, store, &item, 1, &claims), STORE_OK);
    assert_int_equal(claims.count, 0);
}

enum way { BY_CREATE, BY_ABANDON, BY_NACK, BY_PROMOTE, BY_EXPIRY, BY_CLAIM, BY_REPLAY, WAYS };

/* Make one task ready through store in one of all ways; the task was prepared before. */
static struct task_member prepare(struct fixture *f, enum way way)
{
    struct task_member token = {0};
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    struct store_create_verdict made[2];
    switch (way) {
    case BY_PROMOTE:
    case BY_CLAIM:
        item.delay_ms = 1000;
        assert_int_equal(create_call(f, f->store, &item, 1, made), STORE_OK);
        if (way == BY_CLAIM) {
            assert_int_equal(create_call(f, f->store, &item, 1, made), STORE_OK);
        }
        break;
    case BY_ABANDON:
    case BY_NACK:
    case BY_EXPIRY:
    case BY_REPLAY:
        create_one(f, 0, "x");
        assert_true(claim_one(f, 1000, &token));
        if (way == BY_REPLAY) {
            struct task_id id = task_member_id(&token);
            for (int i = 1; state_of_task(f, &id) != TASK_DEAD; i++) {
                nack_one(f, &token, 1);
                fixture_set_time(f, FIXTURE_T0_US + i * 1000000);
                claim_one(f, 1000, &token);
            }
        }
        break;
    case BY_CREATE:
    case WAYS:
        break;
    }
    return token;
}

static void on_replayed(void *arg, const struct store_call_result *call, uint32_t taken,
                        uint64_t left)
{
    (void)left;
    assert_int_equal(call->status, STORE_OK);
    *(uint32_t *)arg = taken;
}

static void make_ready(struct fixture *f, struct store *store, enum way way,
                       const struct task_member *token)
{
    struct store_return_verdict v;
    struct store_sweep_result swept;
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    struct store_create_verdict made;
    struct store_abandon_item abandon = {by_token(token)};
    struct store_nack_item nack = {.lease = by_token(token)};
    struct store_claim_item one = {.count = 1, .lease_ms = 1000, .worker = bytes_of("w")};
    struct claims claims;
    uint32_t taken = 0;
    switch (way) {
    case BY_CREATE:
        assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
        break;
    case BY_ABANDON:
        assert_int_equal(abandon_call(f, store, &abandon, 1, &v), STORE_OK);
        break;
    case BY_NACK:
        assert_int_equal(nack_call(f, store, &nack, 1, &v), STORE_OK);
        assert_int_equal(v.delay_ms, 0);
        break;
    case BY_PROMOTE:
    case BY_EXPIRY:
        fixture_set_time(f, FIXTURE_T0_US + 1000000);
        assert_int_equal(sweep_call(f, store, 10, &swept), STORE_OK);
        assert_int_equal(swept.promoted + swept.reaped, 1);
        break;
    case BY_CLAIM: /* it promotes two, and takes one */
        fixture_set_time(f, FIXTURE_T0_US + 1000000);
        assert_int_equal(claim_call(f, store, &one, 1, &claims), STORE_OK);
        assert_int_equal(claims.count, 1);
        claims_free(&claims);
        break;
    case BY_REPLAY:
        assert_int_equal(
            store_dead_replay(store, &f->queue, NULL, 0, INT64_MAX / 2, on_replayed, &taken), 0);
        assert_int_equal(store_wait(store, INT64_MAX), 0);
        assert_int_equal(taken, 1);
        break;
    case WAYS:
        break;
    }
}

static void whatever_makes_a_task_ready_tells_those_who_wait_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct store_options options = f->options;
    options.backoff = (struct backoff_policy){.kind = BACKOFF_FIXED, .base_ms = 0, .max_ms = 1000};
    store_close(f->store);
    options.instance = "00000000000000bb";
    f->store = fixture_open_patched(f, &options, NULL);
    options.instance = LISTENER;
    struct store *waiting = fixture_open_patched(f, &options, NULL);
    struct told told = {0};
    struct conn_options listen = {.url = f->url,
                                  .clock = clock_system(),
                                  .connect_timeout_ns = 5 * NS_PER_SEC,
                                  .command_timeout_ns = 5 * NS_PER_SEC,
                                  .channel = KEYS_CHANNEL LISTENER,
                                  .on_message = on_told,
                                  .message_arg = &told};
    struct err err;
    struct conn *conn = conn_open(&listen, &err);
    assert_non_null(conn);
    for (int round = 0; round < 3; round++) {
        for (enum way way = BY_CREATE; way < WAYS; way++) {
            fixture_set_time(f, FIXTURE_T0_US);
            fixture_new_queue(f);
            char tag[KEYS_BYTES_MAX];
            char command[160];
            char expected[120];
            keys_tag(f->queue.tenant, f->queue.number, 0, tag);
            snprintf(command, sizeof command, "ZCARD %s:w", tag);
            snprintf(expected, sizeof expected, "%s 1", tag);
            struct task_member token = prepare(f, way);
            size_t before = told.messages;
            if (round != 2) { /* nobody waits, then: nobody is told */
                wait_for_work(f, waiting);
                wait_for_work(f, waiting);
                assert_int_equal(redis_number(f, command), 1);
            }
            /* Its own work it tells itself: but for what a claim finds besides. */
            bool own = round == 1;
            make_ready(f, own ? waiting : f->store, way, &token);
            listen_until_now(conn);
            size_t expected_messages = round == 0 || (own && way == BY_CLAIM);
            if (told.messages != before + expected_messages) {
                fail_msg("round %d, way %d: %zu messages", round, (int)way, told.messages - before);
            }
            assert_int_equal(redis_number(f, command), round == 1 && way != BY_CLAIM);
            if (expected_messages == 1) {
                assert_string_equal(told.last, expected);
            }
            assert_accounts(f);
        }
    }
    /* Who has not looked for long is dead: taken out, and told nothing. */
    fixture_set_time(f, FIXTURE_T0_US);
    fixture_new_queue(f);
    wait_for_work(f, waiting);
    size_t before = told.messages;
    fixture_set_time(f, FIXTURE_T0_US + INT64_C(60) * 1000000);
    struct task_member none = {0};
    make_ready(f, f->store, BY_CREATE, &none);
    listen_until_now(conn);
    assert_int_equal(told.messages, before);
    char command[160];
    char tag[KEYS_BYTES_MAX];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    snprintf(command, sizeof command, "EXISTS %s:w", tag);
    assert_int_equal(redis_number(f, command), 0);
    conn_close(conn);
    store_close(waiting);
}

static void a_tag_is_read_back_and_nothing_else_is_taken_for_one(void **state)
{
    (void)state;
    char tenant[KEYS_TENANT_BYTES_MAX + 1];
    uint16_t number = 0;
    uint8_t shard = 0;
    char tag[KEYS_BYTES_MAX];
    size_t bytes = keys_tag("a-1", 65535, 255, tag);
    assert_int_equal(keys_tag_parse(tag, bytes, tenant, &number, &shard), bytes);
    assert_string_equal(tenant, "a-1");
    assert_int_equal(number, 65535);
    assert_int_equal(shard, 255);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(keys_tag_parse(tag, i, tenant, &number, &shard), 0);
    }
    static const char *const bad[] = {
        "",          "{",         "{/0/0}",     "{a/0/0}",  "{aa/65536/0}", "{aa/0/256}",
        "{aa/00/0}", "{aa/0/-1}", "{aa//0}",    "{aa/0/}",  "aa/0/0}",      "{Aa/0/0}",
        "{aa/0/0",   "{aa/0 /0}", "{aa/0/0/0}", "{a}/0/0}", "{aa/100000/0}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (keys_tag_parse(bad[i], strlen(bad[i]), tenant, &number, &shard) != 0) {
            fail_msg("%s", bad[i]);
        }
    }
}

/* ---- stats, open ---- */

static void stats_tell_how_long_the_oldest_ready_task_waits(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(stats_now(f).oldest_ready_ms, 0);
    fixture_set_time(f, FIXTURE_T0_US + 5000);
    create_one(f, 0, "x");
    fixture_set_time(f, FIXTURE_T0_US + 9000);
    create_one(f, 9, "x");
    assert_int_equal(stats_now(f).oldest_ready_ms, FIXTURE_T0_MS + 5);
    struct task_member token;
    assert_true(claim_one(f, 1000, &token)); /* priority 9 */
    assert_int_equal(stats_now(f).oldest_ready_ms, FIXTURE_T0_MS + 5);
    assert_true(claim_one(f, 1000, &token));
    assert_int_equal(stats_now(f).oldest_ready_ms, 0);
}

static void another_format_is_refused_by_its_name(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(redis_number(f, "HSET {codeq}:meta format 99x"), 0);
    struct err err;
    assert_null(store_open(&f->options, &err));
    assert_non_null(strstr(err.text, "99x"));
    assert_int_equal(redis_number(f, "HSET {codeq}:meta format " KEYS_FORMAT), 0);
    struct store *store = fixture_open(f, 3);
    store_close(store);
}

static void what_is_not_ours_in_redis_is_an_error_and_not_a_crash(void **state)
{
    struct fixture *f = *state;
    char tag[KEYS_BYTES_MAX];
    char command[200];
    keys_tag(f->queue.tenant, f->queue.number, 0, tag);
    /* A member in ready that no script made, with and without a body. */
    snprintf(command, sizeof command, "ZADD %s:r 5 junk", tag);
    redis_number(f, command);
    struct store_claim_item claim = {.count = 1, .lease_ms = 1000, .worker = bytes_of("w")};
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, &claim, 1, &claims), STORE_ERROR);
    assert_true(f->err.text[0] != '\0');
    /* A key of another type. */
    snprintf(command, sizeof command, "DEL %s:l %s:r %s:c %s:b", tag, tag, tag, tag);
    redis_number(f, command);
    snprintf(command, sizeof command, "SET %s:l x", tag);
    free(redis_text(f, command));
    assert_int_equal(claim_call(f, f->store, &claim, 1, &claims), STORE_ERROR);
    assert_non_null(strstr(f->err.text, "WRONGTYPE"));
    snprintf(command, sizeof command, "DEL %s:l", tag);
    redis_number(f, command);
    create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
}

#define REAL(name) cmocka_unit_test_setup(name, fixture_queue_start)
#define STILL(name) cmocka_unit_test_setup_teardown(name, fixture_still_start, fixture_still_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REAL(a_task_is_created_claimed_and_completed),
        REAL(a_failed_task_keeps_its_result_and_never_returns),
        REAL(a_higher_priority_goes_first_and_equals_in_order_of_creation),
        REAL(tasks_of_one_call_keep_their_order),
        REAL(a_claim_of_nothing_is_an_answer_and_takes_what_is_there),
        STILL(a_delayed_task_is_ready_at_its_ms_and_not_before),
        STILL(due_tasks_come_in_order_of_their_due_time),
        STILL(a_lease_holds_to_the_ms_before_its_deadline_for_every_operation),
        STILL(a_lease_is_lost_at_its_deadline_though_nobody_took_the_task_back),
        STILL(expired_lease_makes_task_claimable_again_after_its_backoff),
        STILL(a_heartbeat_moves_the_deadline_both_ways),
        STILL(sweep_takes_back_in_order_of_deadline_and_says_what_is_next),
        STILL(a_task_is_delivered_max_attempts_times_and_then_dead),
        STILL(expiry_of_the_last_attempt_goes_to_the_dead_letters),
        STILL(a_nack_waits_as_asked_and_at_most_the_maximum),
        STILL(an_abandoned_task_is_ready_at_once_at_the_back_and_its_delivery_is_not_counted),
        STILL(the_script_and_backoff_c_compute_the_same_delays),
        STILL(each_operation_tells_not_found_from_lost_from_not_owner_from_not_leased),
        STILL(without_a_token_the_worker_may_do_everything),
        REAL(a_worker_name_that_begins_like_another_is_another),
        REAL(one_key_makes_one_task_in_one_call_and_over_calls),
        STILL(a_key_is_remembered_for_the_retention_and_forgotten_after_twice_that),
        STILL(finished_tasks_are_kept_for_the_retention_and_their_keys_expire),
        REAL(queues_of_hostile_names_are_apart_and_keys_hold_numbers_only),
        REAL(a_tenant_that_is_not_a_name_is_refused_before_redis_sees_it),
        REAL(bodies_of_0_bytes_and_of_1_mib_come_back_as_they_were),
        REAL(counts_and_values_past_their_limits_are_refused),
        STILL(a_full_batch_of_keyed_delayed_tasks_and_a_full_nack_stay_below_luas_limit),
        REAL(an_outbox_entry_is_made_in_the_script_that_ends_the_task_and_only_when_wanted),
        STILL(stats_tell_how_long_the_oldest_ready_task_waits),
        REAL(another_format_is_refused_by_its_name),
        STILL(a_promoted_task_is_ready_for_whoever_asks_and_whoever_deletes_it),
        STILL(a_claim_tells_that_tasks_have_died_in_it),
        STILL(whatever_makes_a_task_ready_tells_those_who_wait_elsewhere),
        REAL(a_tag_is_read_back_and_nothing_else_is_taken_for_one),
        REAL(what_is_not_ours_in_redis_is_an_error_and_not_a_crash),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
