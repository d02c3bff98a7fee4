/* The 14 weaknesses that were found in codeQ's Redis back end (codeQ at 044168f), one test each, to
 * show that this scheduler does not have them. */
#include "base/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/conn_fault.h"
#include "store/keys.h"
#include "store/store.h"
#include "store/store_fixture.h"

static struct store_lease_ref by_token(const struct task_member *token)
{
    return (struct store_lease_ref){.has_token = true, .token = *token};
}

static char *key_of(struct fixture *f, const char *format, char out[160])
{
    char tag[KEYS_BYTES_MAX];
    keys_tag(f->queue.tenant, f->queue.number, f->queue.shard, tag);
    snprintf(out, 160, format, tag);
    return out;
}

/* 1: claim pops in one trip and leases in another; a crash between loses the task. */
static void w01_a_client_that_dies_at_any_command_of_a_claim_loses_no_task(void **state)
{
    struct fixture *f = *state;
    struct conn_fault fault;
    conn_fault_start(&fault, f->server.socket_path);
    char url[160];
    snprintf(url, sizeof url, "unix:%s", fault.path);
    struct store_options options = f->options;
    options.url = url;
    for (int kind = CONN_FAULT_BEFORE; kind <= CONN_FAULT_AFTER; kind++) {
        fixture_new_queue(f);
        create_one(f, 0, "x");
        struct store *store = store_open(&options, &f->err);
        assert_non_null(store);
        conn_fault_arm(&fault, 1, (enum conn_fault_kind)kind);
        struct store_claim_item item = {.count = 1, .lease_ms = 1, .worker = bytes_of("w")};
        struct claims claims;
        assert_int_equal(claim_call(f, store, &item, 1, &claims), STORE_UNKNOWN);
        store_close(store);
        /* Ready still, or leased by the dead client: never in neither. */
        struct store_stats s = stats_now(f);
        assert_int_equal(s.ready + s.leased, 1);
        assert_int_equal(s.leased, kind == CONN_FAULT_AFTER);
        assert_accounts(f);
        if (s.leased == 1) {
            wait_for_redis_time(f, redis_now_ms(f) + 2);
            struct store_sweep_result swept;
            assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
            assert_int_equal(swept.reaped, 1);
        }
    }
    conn_fault_stop(&fault);
}

/* 2: a repair between pop and lease leaves a lease that nobody tracks. */
static void w02_every_lease_given_out_is_in_the_sorted_set_that_expiry_reads(void **state)
{
    struct fixture *f = *state;
    struct store *other = fixture_open(f, 9);
    for (int i = 0; i < 50; i++) {
        create_one(f, 0, "x");
        struct task_member token;
        assert_true(claim_one(f, 60000, &token));
        struct store_sweep_result swept;
        assert_int_equal(sweep_call(f, other, 10, &swept), STORE_OK);
        assert_int_equal(swept.reaped, 0);
        char key[160];
        char *argv[] = {"ZSCORE", key_of(f, "%s:l", key), token.bytes};
        size_t bytes[] = {6, strlen(key), TASK_MEMBER_BYTES};
        char *score = redis_do(f, 3, (const char *const *)argv, bytes);
        assert_string_not_equal(score, "nil");
        free(score);
    }
    store_close(other);
    assert_accounts(f);
}

/* 3: read, modify, write without a check: a heartbeat may write IN_PROGRESS over COMPLETED. */
static void w03_a_heartbeat_after_a_result_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    /* In one write, result first and heartbeat first: the scripts run whole, one after the other.
     */
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    assert_int_equal(heartbeat_one(f, &token, 60000), STORE_LOST);
    assert_int_equal(state_of_task(f, &id), TASK_COMPLETED);
    assert_int_equal(stats_now(f).leased, 0);
    assert_accounts(f);
}

/* 4: two claimers move the same due task: it is in the list twice. */
static void w04_two_claimers_of_one_due_task_get_it_once(void **state)
{
    struct fixture *f = *state;
    struct store *store = f->store;
    struct store_create_item item = {.max_attempts = 5, .delay_ms = 1000, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    struct task_member none;
    assert_false(claim_one(f, 60000, &none));
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, store, 10, &swept), STORE_OK);
    assert_int_equal(swept.promoted, 0);
    assert_int_equal(state_of_task(f, &made.id), TASK_LEASED);
    assert_accounts(f);
}

/* 5: a duplicate id popped after completion is delivered again. */
static void w05_a_completed_task_is_never_delivered_again(void **state)
{
    struct fixture *f = *state;
    struct store_create_item item = {
        .max_attempts = 5, .key = bytes_of("k"), .body = bytes_of("x")};
    struct store_create_verdict made;
    struct task_member token;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    assert_true(claim_one(f, 1000, &token));
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    assert_int_equal(nack_one(f, &token, 0).verdict, STORE_LOST);
    assert_int_equal(abandon_one(f, &token), STORE_LOST);
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    assert_int_equal(made.verdict, STORE_DUPLICATE);
    fixture_set_time(f, FIXTURE_T0_US + INT64_C(3600000000));
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_false(claim_one(f, 1000, &token));
    assert_accounts(f);
}

/* 6: result check and write are four trips apart: two results may both be accepted. */
static void w06_of_two_results_the_first_is_kept_and_the_second_told(void **state)
{
    struct fixture *f = *state;
    struct task_id id = create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    struct store_complete_item items[] = {
        {.lease = by_token(&token), .result = bytes_of("first")},
        {.lease = by_token(&token), .failed = true, .result = bytes_of("second")},
    };
    struct store_return_verdict v[2];
    assert_int_equal(complete_call(f, f->store, items, 2, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_DONE);
    assert_int_equal(v[1].verdict, STORE_DUPLICATE);
    struct store *other = fixture_open(f, 9);
    assert_int_equal(complete_call(f, other, &items[1], 1, v), STORE_OK);
    assert_int_equal(v[0].verdict, STORE_DUPLICATE);
    store_close(other);
    struct got got;
    assert_int_equal(get_call(f, f->store, &id, &got), STORE_OK);
    assert_int_equal(got.state, TASK_COMPLETED);
    assert_string_equal(got.result, "first");
    got_free(&got);
    struct store_stats s = stats_now(f);
    assert_int_equal(s.completed, 1);
    assert_int_equal(s.failed, 0);
}

/* 7: a late heartbeat says ok, a late result is taken until a claim repairs; no fencing token. */
static void w07_a_late_worker_is_told_at_once_and_cannot_touch_the_next_lease(void **state)
{
    struct fixture *f = *state;
    create_one(f, 0, "x");
    struct task_member old;
    assert_true(claim_one(f, 1000, &old));
    fixture_set_time(f, FIXTURE_T0_US + 1000000);
    assert_int_equal(heartbeat_one(f, &old, 60000), STORE_LOST);
    assert_int_equal(complete_one(f, &old), STORE_LOST);
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    fixture_set_time(f, FIXTURE_T0_US + 12000000);
    struct task_member token;
    assert_true(claim_one(f, 60000, &token)); /* the same worker name, even */
    assert_int_equal(heartbeat_one(f, &old, 60000), STORE_LOST);
    assert_int_equal(nack_one(f, &old, 0).verdict, STORE_LOST);
    assert_int_equal(complete_one(f, &old), STORE_LOST);
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    assert_accounts(f);
}

/* 8: nothing sweeps: an expired or due task of a command that nobody claims waits for ever. */
static void w08_a_sweep_needs_no_claim(void **state)
{
    struct fixture *f = *state;
    struct store_create_item item = {.max_attempts = 5, .delay_ms = 500, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    create_one(f, 0, "x");
    struct task_member token;
    assert_true(claim_one(f, 500, &token));
    fixture_set_time(f, FIXTURE_T0_US + 500000);
    struct store_sweep_result swept;
    assert_int_equal(sweep_call(f, f->store, 10, &swept), STORE_OK);
    assert_int_equal(swept.reaped, 1);
    assert_int_equal(swept.promoted, 1);
    struct store_stats s = stats_now(f);
    assert_int_equal(s.ready, 1);
    assert_int_equal(s.delayed, 1);
    assert_int_equal(s.leased, 0);
}

static uint64_t trips(struct fixture *f)
{
    struct store_counters counters;
    store_counters(f->store, &counters);
    return counters.round_trips;
}

/* 9: a trip is wasted on every claim. */
static void w09_a_claim_is_one_round_trip_whether_it_finds_expired_due_or_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_create_item items[2] = {
        {.max_attempts = 5, .delay_ms = 500, .body = bytes_of("due")},
        {.max_attempts = 5, .body = bytes_of("expires")},
    };
    struct store_create_verdict made[2];
    struct task_member token;
    uint64_t before = trips(f);
    assert_false(claim_one(f, 500, &token));
    assert_int_equal(trips(f) - before, 1);
    assert_int_equal(create_call(f, f->store, items, 2, made), STORE_OK);
    assert_int_equal(trips(f) - before, 2);
    assert_true(claim_one(f, 500, &token));
    assert_int_equal(trips(f) - before, 3);
    fixture_set_time(f, FIXTURE_T0_US + 500000);
    assert_true(claim_one(f, 500, &token));
    assert_int_equal(trips(f) - before, 4);
}

/* 10: an idle waiter polls. In the store: a store that waits sends nothing by itself. */
static void w10_an_idle_store_sends_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_counters before;
    struct store_counters after;
    store_counters(f->store, &before);
    assert_int_equal(store_deadline_ns(f->store), INT64_MAX);
    assert_false(store_wants_write(f->store));
    for (int i = 0; i < 100; i++) {
        store_on_ready(f->store, false, true);
        store_flush(f->store);
    }
    store_counters(f->store, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

/* 11: cleanup stumbles over ghosts, and results leak. */
static void w11_results_and_keys_go_by_themselves_and_nothing_else_is_left(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++) {
        struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        item.key = bytes_of(key);
        struct store_create_verdict made;
        assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
        struct task_member token;
        assert_true(claim_one(f, 1000, &token));
        assert_int_equal(complete_one(f, &token), STORE_DONE);
    }
    /* What is left of a drained shard: its counters, and two buckets that expire. */
    char pattern[160];
    char command[220];
    snprintf(command, sizeof command, "KEYS %s", key_of(f, "%s:*", pattern));
    char *keys = redis_text(f, command);
    int count = 0;
    char *save = NULL;
    for (char *key = strtok_r(keys, " ", &save); key != NULL; key = strtok_r(NULL, " ", &save)) {
        count++;
        snprintf(command, sizeof command, "PTTL %s", key);
        const char *kind = strrchr(key, '}');
        if (strcmp(kind, "}:n") != 0) {
            assert_true(strncmp(kind, "}:f:", 4) == 0 || strncmp(kind, "}:i:", 4) == 0);
            assert_true(redis_number(f, command) > 0);
        }
    }
    free(keys);
    assert_int_equal(count, 3);
}

/* 12: O(list length) work inside MULTI. */
static void w12_the_commands_of_an_operation_do_not_grow_with_the_queue(void **state)
{
    struct fixture *f = *state;
    int64_t calls[2];
    for (int round = 0; round < 2; round++) {
        static struct store_create_item items[STORE_TASKS_MAX];
        struct store_create_verdict made[STORE_TASKS_MAX];
        for (size_t i = 0; i < STORE_TASKS_MAX; i++) {
            items[i] = (struct store_create_item){.max_attempts = 5, .body = bytes_of("x")};
        }
        for (int i = 0; i < (round == 0 ? 1 : 40); i++) {
            assert_int_equal(create_call(f, f->store, items, STORE_TASKS_MAX, made), STORE_OK);
        }
        struct task_member token;
        assert_true(claim_one(f, 60000, &token));
        assert_int_equal(complete_one(f, &token), STORE_DONE); /* the first of its bucket */
        free(redis_text(f, "CONFIG RESETSTAT"));
        assert_true(claim_one(f, 60000, &token));
        assert_int_equal(complete_one(f, &token), STORE_DONE);
        assert_true(claim_one(f, 60000, &token));
        assert_int_equal(abandon_one(f, &token), STORE_DONE);
        char *info = redis_text(f, "INFO commandstats");
        assert_null(strstr(info, "cmdstat_lrem"));
        calls[round] = 0;
        for (char *at = strstr(info, "calls="); at != NULL; at = strstr(at + 1, "calls=")) {
            calls[round] += strtoll(at + 6, NULL, 10);
        }
        free(info);
    }
    assert_int_equal(calls[0], calls[1]);
}

/* 13: time-outs are switched off: a hung Redis hangs requests. */
static void w13_a_hung_redis_ends_in_a_time_out(void **state)
{
    struct fixture *f = *state;
    struct store_options options = f->options;
    options.command_timeout_ns = 100 * NS_PER_MS;
    struct store *store = store_open(&options, &f->err);
    assert_non_null(store);
    kill(f->server.child.pid, SIGSTOP);
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    struct store_create_verdict made;
    int64_t before_ns = clock_monotonic_ns(clock_system());
    enum store_status status = create_call(f, store, &item, 1, &made);
    int64_t took_ns = clock_monotonic_ns(clock_system()) - before_ns;
    kill(f->server.child.pid, SIGCONT);
    assert_int_equal(status, STORE_UNKNOWN);
    assert_in_range(took_ns, 100 * NS_PER_MS, 5 * NS_PER_SEC);
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
    store_close(store);
}

/* 14: names from outside are joined into paths. In the store: no such name reaches a key. */
static void w14_names_from_outside_reach_no_key(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"../../etc", "a/b}:r", "{codeq}:meta"};
    for (size_t i = 0; i < 3; i++) {
        f->queue = intern(f, f->store, "acme", bytes_of(names[i]));
        struct store_create_item item = {
            .max_attempts = 1, .key = bytes_of(names[i]), .body = bytes_of(names[i])};
        struct store_create_verdict made;
        assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    }
    char *keys = redis_text(f, "KEYS *etc*");
    assert_string_equal(keys, "");
    free(keys);
    keys = redis_text(f, "KEYS *a/b*");
    assert_string_equal(keys, "");
    free(keys);
    char *type = redis_text(f, "HGET {codeq}:meta format");
    assert_string_equal(type, KEYS_FORMAT);
    free(type);
    struct store_queue outside = {.tenant = "../acme"};
    assert_int_equal(store_stats(f->store, &outside, NULL, NULL), -EINVAL);
}

#define REAL(name) cmocka_unit_test_setup(name, fixture_queue_start)
#define STILL(name) cmocka_unit_test_setup_teardown(name, fixture_still_start, fixture_still_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REAL(w01_a_client_that_dies_at_any_command_of_a_claim_loses_no_task),
        REAL(w02_every_lease_given_out_is_in_the_sorted_set_that_expiry_reads),
        REAL(w03_a_heartbeat_after_a_result_changes_nothing),
        STILL(w04_two_claimers_of_one_due_task_get_it_once),
        STILL(w05_a_completed_task_is_never_delivered_again),
        REAL(w06_of_two_results_the_first_is_kept_and_the_second_told),
        STILL(w07_a_late_worker_is_told_at_once_and_cannot_touch_the_next_lease),
        STILL(w08_a_sweep_needs_no_claim),
        STILL(w09_a_claim_is_one_round_trip_whether_it_finds_expired_due_or_nothing),
        REAL(w10_an_idle_store_sends_nothing),
        REAL(w11_results_and_keys_go_by_themselves_and_nothing_else_is_left),
        REAL(w12_the_commands_of_an_operation_do_not_grow_with_the_queue),
        REAL(w13_a_hung_redis_ends_in_a_time_out),
        REAL(w14_names_from_outside_reach_no_key),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
