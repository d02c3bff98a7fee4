/* What happens between the store and a Redis that fails: the n-th command, restarts, refusals,
 * silence, logins, and servers that are none. */
#include "base/test.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/redis_cluster.h"
#include "store/conn_fault.h"
#include "store/keys.h"
#include "store/store.h"
#include "store/store_fixture.h"

static struct store_options through(struct fixture *f, const struct conn_fault *fault,
                                    char url[160])
{
    struct store_options options = f->options;
    snprintf(url, 160, "unix:%s", fault->path);
    options.url = url;
    options.command_timeout_ns = 5 * NS_PER_SEC;
    options.seed = 77;
    return options;
}

enum kind {
    CREATE,
    CREATE_KEYED,
    CLAIM,
    HEARTBEAT,
    COMPLETE,
    COMPLETE_BY_WORKER,
    NACK,
    ABANDON,
    KINDS
};

/* Run the operation once on store; its status and its verdict when STORE_OK. */
static enum store_status act(struct fixture *f, struct store *store, enum kind kind,
                             const struct task_member *token, enum store_verdict *out_verdict,
                             size_t *out_claimed)
{
    struct store_return_verdict v = {0};
    struct store_lease_ref lease = {.has_token = true, .token = *token};
    enum store_status status = STORE_ERROR;
    *out_claimed = 0;
    switch (kind) {
    case CREATE:
    case CREATE_KEYED: {
        struct store_create_item item = {.max_attempts = 3, .body = bytes_of("x")};
        struct store_create_verdict made = {0};
        if (kind == CREATE_KEYED) {
            item.key = bytes_of("key");
        }
        status = create_call(f, store, &item, 1, &made);
        *out_verdict = made.verdict;
        return status;
    }
    case CLAIM: {
        struct store_claim_item item = {.count = 1, .lease_ms = 60000, .worker = bytes_of("w")};
        struct claims *claims = calloc(1, sizeof *claims);
        status = claim_call(f, store, &item, 1, claims);
        *out_claimed = claims->count;
        claims_free(claims);
        free(claims);
        break;
    }
    case HEARTBEAT: {
        struct store_heartbeat_item item = {lease, 90000};
        status = heartbeat_call(f, store, &item, 1, &v);
        break;
    }
    case COMPLETE:
    case COMPLETE_BY_WORKER: {
        lease.has_token = kind == COMPLETE;
        lease.worker = bytes_of("w");
        struct store_complete_item item = {lease, false, bytes_of("r")};
        status = complete_call(f, store, &item, 1, &v);
        break;
    }
    case NACK: {
        struct store_nack_item item = {lease, 1000, bytes_of("r")};
        status = nack_call(f, store, &item, 1, &v);
        break;
    }
    case ABANDON: {
        struct store_abandon_item item = {lease};
        status = abandon_call(f, store, &item, 1, &v);
        break;
    }
    case KINDS:
        break;
    }
    *out_verdict = v.verdict;
    return status;
}

/* How often the operation has taken effect, by what Redis holds. */
static uint64_t effects(struct fixture *f, enum kind kind)
{
    struct store_stats s = stats_now(f);
    switch (kind) {
    case CREATE:
    case CREATE_KEYED:
        return s.created;
    case CLAIM:
        return s.leased;
    case COMPLETE:
    case COMPLETE_BY_WORKER:
        return s.completed;
    case NACK:
        return s.delayed;
    case ABANDON:
        return s.ready;
    case HEARTBEAT:
    case KINDS:
        break;
    }
    return 0;
}

/* Fail the n-th command of "open a store, do the operation" for n = 1, 2, ... until it is not
 * reached any more. */
static void fail_each_command(struct fixture *f, struct conn_fault *fault, enum kind kind,
                              enum conn_fault_kind how)
{
    bool repeatable = kind == CREATE_KEYED || kind == HEARTBEAT || kind == COMPLETE;
    bool saw_unknown = false;
    int n = 1;
    for (;; n++) {
        fixture_new_queue(f);
        struct task_member token = {{0}};
        if (kind != CREATE && kind != CREATE_KEYED) {
            create_one(f, 0, "x");
            if (kind != CLAIM) {
                assert_true(claim_one(f, 60000, &token));
            }
        }
        char url[160];
        struct store_options options = through(f, fault, url);
        conn_fault_arm(fault, n, how);
        struct store *store = store_open(&options, &f->err);
        if (store == NULL) {
            fail_msg("n = %d: %s", n, f->err.text);
        }
        enum store_verdict verdict = STORE_DONE;
        size_t claimed = 0;
        enum store_status status = act(f, store, kind, &token, &verdict, &claimed);
        bool fired = fault->fired;
        uint64_t count = kind == HEARTBEAT ? 1 : effects(f, kind);
        bool acted = how != CONN_FAULT_BEFORE;
        switch (status) {
        case STORE_OK:
            assert_int_equal(count, 1);
            assert_true(verdict == STORE_DONE || (kind == COMPLETE && verdict == STORE_DUPLICATE));
            assert_int_equal(claimed, kind == CLAIM);
            break;
        case STORE_UNAVAILABLE:
            assert_int_equal(count, 0);
            break;
        case STORE_UNKNOWN:
            assert_false(repeatable);
            assert_int_equal(count, acted);
            saw_unknown = true;
            break;
        case STORE_ERROR:
            fail_msg("n = %d: %s", n, f->err.text);
        }
        assert_accounts(f);
        /* The store works on. */
        struct store_stats stats;
        assert_int_equal(stats_call(f, store, &stats), STORE_OK);
        store_close(store);
        if (!fired) {
            break;
        }
    }
    assert_true(n > SCRIPT_COUNT + 2); /* the opening's commands and the operation's own */
    assert_int_equal(saw_unknown, !repeatable);
}

static void fail_all(struct fixture *f, enum conn_fault_kind how)
{
    struct conn_fault fault;
    conn_fault_start(&fault, f->server.socket_path);
    for (int kind = 0; kind < KINDS; kind++) {
        fail_each_command(f, &fault, (enum kind)kind, how);
    }
    conn_fault_stop(&fault);
}

static void a_command_that_never_reached_redis_is_repeated_or_told_as_unknown(void **state)
{
    fail_all(*state, CONN_FAULT_BEFORE);
}

static void a_command_whose_reply_was_lost_takes_effect_once(void **state)
{
    fail_all(*state, CONN_FAULT_AFTER);
}

static void half_a_reply_is_no_reply(void **state)
{
    fail_all(*state, CONN_FAULT_PARTIAL);
}

static void silence_ends_at_the_time_out_as_unknown(void **state)
{
    struct fixture *f = *state;
    struct conn_fault fault;
    conn_fault_start(&fault, f->server.socket_path);
    char url[160];
    struct store_options options = through(f, &fault, url);
    options.command_timeout_ns = 150 * NS_PER_MS;
    struct store *store = store_open(&options, &f->err);
    assert_non_null(store);
    fixture_new_queue(f);
    conn_fault_arm(&fault, 1, CONN_FAULT_SILENT);
    struct store_create_item item = {.max_attempts = 1, .body = bytes_of("x")};
    struct store_create_verdict made;
    int64_t before_ns = clock_monotonic_ns(clock_system());
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_UNKNOWN);
    int64_t took_ns = clock_monotonic_ns(clock_system()) - before_ns;
    assert_in_range(took_ns, 150 * NS_PER_MS, 5 * NS_PER_SEC);
    assert_non_null(strstr(f->err.text, "no reply in time"));
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
    assert_int_equal(stats_now(f).created, 2);
    store_close(store);
    conn_fault_stop(&fault);
}

static void flushed_scripts_are_loaded_again_in_the_middle_of_a_pipeline(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    create_one(f, 0, "x");
    free(redis_text(f, "SCRIPT FLUSH"));
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    free(redis_text(f, "SCRIPT FLUSH"));
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    assert_int_equal(stats_now(f).completed, 1);
    assert_accounts(f);
}

static void count_create(void *arg, const struct store_call_result *call,
                         const struct store_create_verdict *items, size_t count)
{
    (void)items;
    int *counts = arg;
    counts[call->status] += (int)count;
}

static void a_pipeline_of_1000_survives_flushed_scripts_and_each_runs_once(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    free(redis_text(f, "SCRIPT FLUSH"));
    int counts[4] = {0};
    char body[3000];
    memset(body, 'b', sizeof body);
    struct store_create_item item = {.max_attempts = 1, .body = {body, sizeof body}};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(store_create(f->store, &f->queue, &item, 1, count_create, counts), 0);
    }
    assert_int_equal(counts[STORE_OK], 0); /* never from inside the call */
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(counts[STORE_OK], 1000);
    assert_int_equal(stats_now(f).created, 1000);
    assert_accounts(f);
}

static void past_the_limit_of_operations_in_flight_the_answer_is_again(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    int counts[4] = {0};
    struct store_create_item item = {.max_attempts = 1};
    for (int i = 0; i < STORE_PENDING_MAX; i++) {
        assert_int_equal(store_create(f->store, &f->queue, &item, 1, count_create, counts), 0);
    }
    assert_int_equal(store_create(f->store, &f->queue, &item, 1, count_create, counts), -EAGAIN);
    assert_int_equal(store_wait(f->store, INT64_MAX), 0);
    assert_int_equal(counts[STORE_OK], STORE_PENDING_MAX);
    assert_int_equal(stats_now(f).created, STORE_PENDING_MAX);
}

static void a_restarted_redis_is_found_again_and_what_it_kept_is_there(void **state)
{
    (void)state;
    struct fixture f = {0};
    static const char *const config[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    f.server_options = (struct redis_server_options){.cpu = -1, .config = config};
    fixture_start(&f);
    struct task_id id = create_one(&f, 0, "x");
    redis_server_kill(&f.server);
    /* Nothing listens: what cannot be sent is refused once it has waited its time. */
    struct store_options options = f.options;
    options.connect_timeout_ns = 50 * NS_PER_MS;
    struct err err;
    assert_null(store_open(&options, &err));
    assert_non_null(strstr(err.text, "redis-server"));
    assert_int_equal(redis_server_restart(&f.server, &f.server_options, &f.err), 0);
    struct task_member token;
    assert_true(claim_one(&f, 60000, &token));
    struct task_id claimed = task_member_id(&token);
    assert_true(task_id_equal(&id, &claimed));
    assert_accounts(&f);
    fixture_stop(&f);
}

static void while_redis_is_away_an_operation_waits_its_time_and_is_unavailable(void **state)
{
    (void)state;
    struct fixture f = {0};
    fixture_start(&f);
    struct store_options options = f.options;
    options.command_timeout_ns = 100 * NS_PER_MS;
    struct store *store = store_open(&options, &f.err);
    redis_server_kill(&f.server);
    struct store_stats stats;
    /* The first may find the closed socket before or after it is sent; being repeatable it waits.
     */
    assert_int_not_equal(stats_call(&f, store, &stats), STORE_OK);
    struct store_create_item item = {.max_attempts = 1};
    struct store_create_verdict made;
    assert_int_equal(create_call(&f, store, &item, 1, &made), STORE_UNAVAILABLE);
    store_close(store);
    fixture_stop(&f);
}

static void a_full_redis_refuses_creates_whole_and_lets_work_end(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    create_one(f, 0, "x");
    free(redis_text(f, "CONFIG SET maxmemory 1"));
    struct store_create_item item = {
        .max_attempts = 1, .key = bytes_of("k"), .body = bytes_of("y")};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_UNAVAILABLE);
    assert_non_null(strstr(f->err.text, "OOM"));
    struct task_member token;
    assert_true(claim_one(f, 60000, &token));
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    free(redis_text(f, "CONFIG SET maxmemory 0"));
    assert_int_equal(stats_now(f).created, 1);
    assert_accounts(f);
    assert_int_equal(create_call(f, f->store, &item, 1, &made), STORE_OK);
    assert_int_equal(made.verdict, STORE_DONE);
}

static void a_read_only_replica_refuses_without_a_trace(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    create_one(f, 0, "x");
    free(redis_text(f, "CONFIG SET replica-serve-stale-data yes"));
    free(redis_text(f, "REPLICAOF 127.0.0.1 1"));
    struct store_claim_item item = {.count = 1, .lease_ms = 1000, .worker = bytes_of("w")};
    struct claims claims;
    assert_int_equal(claim_call(f, f->store, &item, 1, &claims), STORE_UNAVAILABLE);
    assert_non_null(strstr(f->err.text, "READONLY"));
    free(redis_text(f, "REPLICAOF NO ONE"));
    struct task_member token;
    assert_true(claim_one(f, 1000, &token));
    assert_accounts(f);
}

/* Until INFO replication of the server says what, at most 15 s. */
static void wait_for_replication(const struct redis_server *server, const char *what)
{
    int64_t until_ns = clock_monotonic_ns(clock_system()) + 15 * NS_PER_SEC;
    for (bool said = false; !said;) {
        char *text = NULL;
        struct err err = {""};
        if (redis_server_info(server->socket_path, "replication", &text, &err) == 0) {
            said = strstr(text, what) != NULL;
        }
        free(text);
        if (!said && clock_monotonic_ns(clock_system()) > until_ns) {
            fail_msg("never said %s: %s", what, err.text);
        }
        poll(NULL, 0, said ? 0 : 5);
    }
}

static void of_several_addresses_the_master_is_used_and_its_successor_after_it_is_killed(
    void **state)
{
    struct fixture *f = *state;
    char first[8];
    char second[8];
    snprintf(first, sizeof first, "%d", redis_cluster_free_port());
    snprintf(second, sizeof second, "%d", redis_cluster_free_port());
    const char *const of_master[] = {"--port", first, "--repl-diskless-sync-delay", "0", NULL};
    const char *const of_replica[] = {"--port", second, "--replicaof", "127.0.0.1", first, NULL};
    struct redis_server_options as_master = {.config = of_master, .cpu = -1};
    struct redis_server_options as_replica = {.config = of_replica, .cpu = -1};
    struct redis_server master = {0};
    struct redis_server replica = {0};
    if (redis_server_start(&master, &as_master, &f->err) != 0 ||
        redis_server_start(&replica, &as_replica, &f->err) != 0) {
        fail_msg("%s", f->err.text);
    }
    wait_for_replication(&replica, "master_link_status:up");

    char url[160];
    snprintf(url, sizeof url, "redis://127.0.0.1:%s,127.0.0.1:%s", second, first);
    struct fixture g = {.options = f->options};
    g.options.url = url;
    g.options.command_timeout_ns = 10 * NS_PER_SEC;
    g.store = store_open(&g.options, &g.err);
    if (g.store == NULL) {
        fail_msg("%s", g.err.text);
    }
    struct store_counters counters;
    store_counters(g.store, &counters);
    assert_int_equal(counters.losses, 0); /* the replica was passed over in the login */
    fixture_new_queue(&g);
    struct store_create_item item = {.max_attempts = 3, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(&g, g.store, &item, 1, &made), STORE_OK);
    char *text = NULL;
    assert_int_equal(redis_server_info(master.socket_path, "replication", &text, &g.err), 0);
    char offset[64];
    snprintf(offset, sizeof offset, "slave_repl_offset:%.0f",
             redis_info_number(text, "master_repl_offset"));
    free(text);
    wait_for_replication(&replica, offset);

    redis_server_kill(&master);
    assert_int_equal(redis_server_tell(replica.socket_path, "REPLICAOF NO ONE"), 0);
    item.key = bytes_of("once"); /* makes it repeatable: it was sent to the dead one first */
    int64_t before_ns = clock_monotonic_ns(clock_system());
    assert_int_equal(create_call(&g, g.store, &item, 1, &made), STORE_OK);
    assert_in_range(clock_monotonic_ns(clock_system()) - before_ns, 0, 5 * NS_PER_SEC);
    assert_int_equal(stats_now(&g).created, 2);

    item.key = bytes_of("");
    /* The old one comes back, and the master steps down in its favour: refused once, then found. */
    if (redis_server_restart(&master, &as_master, &f->err) != 0) {
        fail_msg("%s", f->err.text);
    }
    char demote[64];
    snprintf(demote, sizeof demote, "REPLICAOF 127.0.0.1 %s", first);
    assert_int_equal(redis_server_tell(replica.socket_path, demote), 0);
    wait_for_replication(&replica, "master_link_status:up");
    assert_int_equal(create_call(&g, g.store, &item, 1, &made), STORE_UNAVAILABLE);
    assert_non_null(strstr(g.err.text, "READONLY"));
    assert_int_equal(create_call(&g, g.store, &item, 1, &made), STORE_OK);
    store_close(g.store);
    redis_server_stop(&replica);
    redis_server_stop(&master);
}

static void a_login_and_a_database_are_used_also_after_a_reconnect(void **state)
{
    struct fixture *f = *state;
    free(redis_text(f, "ACL SETUSER ann on >se:cr@t ~* +@all"));
    char url[200];
    snprintf(url, sizeof url, "unix:%s?db=3&user=ann&password=se:cr%%40t", f->server.socket_path);
    struct store_options options = f->options;
    options.url = url;
    struct store *store = store_open(&options, &f->err);
    if (store == NULL) {
        fail_msg("%s", f->err.text);
    }
    fixture_new_queue(f);
    struct store_create_item item = {.max_attempts = 1};
    struct store_create_verdict made;
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
    assert_int_equal(stats_now(f).created, 0); /* that is database 0 */
    free(redis_text(f, "CLIENT KILL USER ann"));
    /* Whether this one is told before or after it was sent, the next goes to database 3 as ann. */
    enum store_status status = create_call(f, store, &item, 1, &made);
    assert_true(status == STORE_OK || status == STORE_UNKNOWN);
    assert_int_equal(create_call(f, store, &item, 1, &made), STORE_OK);
    struct store_stats stats;
    assert_int_equal(stats_call(f, store, &stats), STORE_OK);
    assert_true(stats.created >= 2);
    assert_int_equal(stats_now(f).created, 0);
    store_close(store);
    snprintf(url, sizeof url, "unix:%s?user=ann&password=wrong", f->server.socket_path);
    options.connect_timeout_ns = 50 * NS_PER_MS;
    assert_null(store_open(&options, &f->err));
    assert_non_null(strstr(f->err.text, "WRONGPASS"));
    assert_null(strstr(f->err.text, "wrong&"));
}

static void closing_ends_what_is_in_flight_once_each(void **state)
{
    struct fixture *f = *state;
    struct store *store = fixture_open(f, 5);
    int counts[4] = {0};
    struct store_create_item item = {.max_attempts = 1};
    fixture_new_queue(f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(store_create(store, &f->queue, &item, 1, count_create, counts), 0);
    }
    store_flush(store);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(store_create(store, &f->queue, &item, 1, count_create, counts), 0);
    }
    store_close(store);
    assert_int_equal(counts[STORE_UNKNOWN], 3);
    assert_int_equal(counts[STORE_UNAVAILABLE], 4);
}

static void an_operation_in_lock_step_is_one_round_trip(void **state)
{
    struct fixture *f = *state;
    fixture_new_queue(f);
    struct store_counters before;
    struct store_counters after;
    store_counters(f->store, &before);
    for (int i = 0; i < 100; i++) {
        struct task_member token;
        create_one(f, 0, "x");
        assert_true(claim_one(f, 60000, &token));
        assert_int_equal(complete_one(f, &token), STORE_DONE);
    }
    store_counters(f->store, &after);
    assert_int_equal(after.round_trips - before.round_trips, 300);
    assert_int_equal(after.commands - before.commands, 300);
    assert_true(after.bytes_sent > before.bytes_sent);
    assert_true(after.bytes_received > before.bytes_received);
}

/* ---- servers that are none ---- */

struct impostor {
    int listener;
    pthread_t thread;
    const char *reply;
    size_t bytes;
    atomic_bool stop;
};

/* Answer whatever comes with the same bytes. */
static void *pretend(void *arg)
{
    struct impostor *impostor = arg;
    while (!impostor->stop) {
        int client = accept4(impostor->listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) {
            break;
        }
        char chunk[65536];
        while (recv(client, chunk, sizeof chunk, 0) > 0 &&
               send(client, impostor->reply, impostor->bytes, MSG_NOSIGNAL) > 0) {
        }
        close(client);
    }
    return NULL;
}

static void replies_of_a_server_that_is_no_redis_are_errors(void **state)
{
    struct fixture *f = *state;
    static const char *const replies[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$-7\r\n",
        "*-9\r\n",
        "*1000000000\r\n",
        "*2000\r\n:1\r\n",
        "$99999999999999999999\r\n",
        ":12x\r\n",
        "+OK\r\n",
        ":1\r\n",
        "$40\r\n0000000000000000000000000000000000000000\r\n",
        "*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "-ERR no\r\n",
        "-\r\n",
        "+OK\r\n+OK\r\n+OK\r\n",
    };
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        struct impostor impostor = {.reply = replies[i], .bytes = strlen(replies[i])};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s.no", f->server.socket_path);
        impostor.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(impostor.listener, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(impostor.listener, 8), 0);
        assert_int_equal(pthread_create(&impostor.thread, NULL, pretend, &impostor), 0);
        struct store_options options = f->options;
        char url[160];
        snprintf(url, sizeof url, "unix:%s", address.sun_path);
        options.url = url;
        options.connect_timeout_ns = 30 * NS_PER_MS;
        options.command_timeout_ns = 30 * NS_PER_MS;
        struct err err = {""};
        struct store *store = store_open(&options, &err);
        if (store != NULL) {
            fail_msg("opened on: %s", replies[i]);
        }
        assert_true(err.text[0] != '\0');
        impostor.stop = true;
        shutdown(impostor.listener, SHUT_RDWR);
        pthread_join(impostor.thread, NULL);
        close(impostor.listener);
        unlink(address.sun_path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_that_never_reached_redis_is_repeated_or_told_as_unknown),
        cmocka_unit_test(a_command_whose_reply_was_lost_takes_effect_once),
        cmocka_unit_test(half_a_reply_is_no_reply),
        cmocka_unit_test(silence_ends_at_the_time_out_as_unknown),
        cmocka_unit_test(flushed_scripts_are_loaded_again_in_the_middle_of_a_pipeline),
        cmocka_unit_test(a_pipeline_of_1000_survives_flushed_scripts_and_each_runs_once),
        cmocka_unit_test(past_the_limit_of_operations_in_flight_the_answer_is_again),
        cmocka_unit_test(a_restarted_redis_is_found_again_and_what_it_kept_is_there),
        cmocka_unit_test(while_redis_is_away_an_operation_waits_its_time_and_is_unavailable),
        cmocka_unit_test(a_full_redis_refuses_creates_whole_and_lets_work_end),
        cmocka_unit_test(a_read_only_replica_refuses_without_a_trace),
        cmocka_unit_test(
            of_several_addresses_the_master_is_used_and_its_successor_after_it_is_killed),
        cmocka_unit_test(a_login_and_a_database_are_used_also_after_a_reconnect),
        cmocka_unit_test(closing_ends_what_is_in_flight_once_each),
        cmocka_unit_test(an_operation_in_lock_step_is_one_round_trip),
        cmocka_unit_test(replies_of_a_server_that_is_no_redis_are_errors),
    };
    return cmocka_run_group_tests(tests, fixture_group_start, fixture_group_stop);
}
