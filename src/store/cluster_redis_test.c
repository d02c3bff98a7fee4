/* The store on a real Redis Cluster of three masters and three replicas, and on a Redis that a
 * Sentinel watches: every key at its node, a slot that moves, a master that is killed. */
#include "base/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/redis_cluster.h"
#include "store/conn.h"
#include "store/keys.h"
#include "store/slots.h"
#include "store/store.h"
#include "store/store_fixture.h"

#define QUEUES 40
#define NODE_TIMEOUT_MS 500
#define RECOVER_NS (30 * NS_PER_SEC)

struct place {
    struct redis_cluster cluster;
    struct fixture f; /* without a server of its own */
};

static void fixture_on(struct fixture *f, const char *url)
{
    *f = (struct fixture){.options = {
                              .url = url,
                              .clock = clock_system(),
                              .seed = 1,
                              .connect_timeout_ns = 10 * NS_PER_SEC,
                              .command_timeout_ns = 2 * NS_PER_SEC,
                              .backoff = {BACKOFF_EXPONENTIAL, 5000, 900000},
                          }};
}

static int start(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct redis_cluster_options options = {
        .masters = 3, .replicas = 1, .node_timeout_ms = NODE_TIMEOUT_MS, .cpu = -1};
    struct err err;
    if (redis_cluster_start(&p->cluster, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    fixture_on(&p->f, p->cluster.url);
    p->f.store = fixture_open(&p->f, 1);
    *state = p;
    return 0;
}

static int stop(void **state)
{
    struct place *p = *state;
    store_close(p->f.store);
    redis_cluster_stop(&p->cluster);
    free(p);
    return 0;
}

static struct store_queue queue_named(struct fixture *f, const char *prefix, int number)
{
    char name[32];
    snprintf(name, sizeof name, "%s-%d", prefix, number);
    return intern(f, f->store, "acme", bytes_of(name));
}

static uint16_t slot_of(const struct store_queue *queue)
{
    char tag[KEYS_BYTES_MAX];
    return slots_of_key(tag, keys_tag(queue->tenant, queue->number, queue->shard, tag));
}

static char *asked(struct place *p, unsigned node, const char *command)
{
    char *text = NULL;
    struct err err;
    if (redis_server_ask(p->cluster.nodes[node].socket_path, command, &text, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return text;
}

static double info_of(struct place *p, unsigned node, const char *section, const char *field)
{
    char *info = NULL;
    struct err err;
    if (redis_server_info(p->cluster.nodes[node].socket_path, section, &info, &err) != 0) {
        fail_msg("%s", err.text);
    }
    double number = redis_info_number(info, field);
    free(info);
    return number;
}

static void keys_are_hashed_as_redis_does(void **state)
{
    struct place *p = *state;
    /* Source: Redis Cluster specification, "Appendix A" and "Hash tags". */
    assert_int_equal(slots_of_key("123456789", 9), 0x31C3 % SLOTS_COUNT);
    static const char *const keys[] = {"foo",
                                       "",
                                       "{user1000}.following",
                                       "foo{}{bar}",
                                       "foo{{bar}}zap",
                                       "foo{bar}{zap}",
                                       "{acme/0/0}",
                                       "{codeq}:meta",
                                       "{acme}:queues",
                                       "{",
                                       "}{",
                                       "{}x"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (keys[i][0] == '\0') {
            assert_int_equal(slots_of_key("", 0), 0);
            continue;
        }
        char command[64];
        snprintf(command, sizeof command, "CLUSTER KEYSLOT %s", keys[i]);
        char *text = asked(p, 0, command);
        assert_int_equal(slots_of_key(keys[i], strlen(keys[i])), atoi(text));
        free(text);
    }
}

/* One more task, and the whole life of the first in line. */
static void live(struct fixture *f)
{
    struct task_member token;
    struct task_id id;
    create_one(f, 5, "body");
    assert_true(claim_one(f, 60000, &token));
    assert_int_equal(complete_one(f, &token), STORE_DONE);
    memcpy(id.bytes, token.bytes, TASK_ID_BYTES); /* a member begins with it */
    assert_int_equal(state_of_task(f, &id), TASK_COMPLETED);
}

static void each_queue_lives_at_its_node_and_no_request_is_redirected(void **state)
{
    struct place *p = *state;
    bool used[3] = {false};
    struct store_counters before, after;
    for (int i = 0; i < QUEUES; i++) {
        p->f.queue = queue_named(&p->f, "work", i);
        used[slot_of(&p->f.queue) / (SLOTS_COUNT / 3 + 1)] = true;
        store_counters(p->f.store, &before);
        live(&p->f);
        store_counters(p->f.store, &after);
        /* create, claim, complete, get; a node that has not seen a script yet is sent it again. */
        uint64_t commands = after.commands - before.commands;
        assert_true(i < QUEUES / 2 ? commands >= 4 : commands == 4);
    }
    assert_true(used[0] && used[1] && used[2]);
    for (unsigned i = 0; i < 3; i++) {
        char *errors = NULL;
        assert_int_equal(
            redis_server_info(p->cluster.nodes[i].socket_path, "errorstats", &errors, NULL), 0);
        assert_null(strstr(errors, "MOVED"));
        free(errors);
    }
}

/* ---- SCAN ---- */

struct scanned {
    char cursor[64];
    size_t keys;
    bool came;
};

static void on_scanned(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    (void)call;
    struct scanned *scanned = owner;
    if (status != CONN_OK) {
        fail_msg("%s", err->text);
    }
    assert_true(reply->count >= 3 && reply->nodes[1].bytes < sizeof scanned->cursor);
    snprintf(scanned->cursor, sizeof scanned->cursor, "%.*s", (int)reply->nodes[1].bytes,
             reply->nodes[1].data);
    scanned->keys += reply->count - 3;
    scanned->came = true;
}

static void a_scan_visits_every_master(void **state)
{
    struct place *p = *state;
    double keys = 0;
    for (unsigned i = 0; i < 3; i++) {
        char *size = asked(p, i, "DBSIZE");
        keys += atoi(size);
        assert_true(atoi(size) > 0);
        free(size);
    }
    struct conn_options options = {.url = p->cluster.url,
                                   .clock = clock_system(),
                                   .connect_timeout_ns = 5 * NS_PER_SEC,
                                   .command_timeout_ns = 5 * NS_PER_SEC};
    struct err err;
    struct conn *conn = conn_open(&options, &err);
    assert_non_null(conn);
    struct scanned scanned = {.cursor = "0"};
    do {
        conn_begin(conn, 4);
        conn_arg(conn, "SCAN", 4);
        conn_arg(conn, scanned.cursor, strlen(scanned.cursor));
        conn_arg(conn, "COUNT", 5);
        conn_arg(conn, "7", 1);
        struct conn_call call = {.done = on_scanned, .owner = &scanned, .repeatable = true};
        scanned.came = false;
        assert_int_equal(conn_end(conn, &call), 0);
        assert_int_equal(conn_wait(conn, INT64_MAX), 0);
        assert_true(scanned.came);
    } while (strcmp(scanned.cursor, "0") != 0);
    assert_true((double)scanned.keys >= keys); /* SCAN may say a key twice, never leave one out */
    assert_true((double)scanned.keys < 2 * keys);
    conn_close(conn);
}

/* ---- what moves ---- */

static unsigned owner_of(uint16_t slot)
{
    for (unsigned i = 0; i < 3; i++) {
        if (slot < (i + 1) * SLOTS_COUNT / 3) {
            return i;
        }
    }
    fail();
    return 0;
}

static void set_slot(struct place *p, unsigned node, uint16_t slot, const char *what,
                     unsigned whose)
{
    char command[128];
    snprintf(command, sizeof command, "CLUSTER SETSLOT %u %s %s", slot, what,
             p->cluster.ids[whose]);
    free(asked(p, node, command));
}

static void a_slot_on_its_way_is_unavailable_and_then_found_at_its_new_node(void **state)
{
    struct place *p = *state;
    p->f.queue = queue_named(&p->f, "moving", 0);
    uint16_t slot = slot_of(&p->f.queue);
    unsigned from = owner_of(slot);
    unsigned to = (from + 1) % 3;
    struct task_id kept = create_one(&p->f, 5, "kept");
    set_slot(p, to, slot, "IMPORTING", from);
    set_slot(p, from, slot, "MIGRATING", to);

    /* Half there, half here: nothing is done rather than half of it. */
    struct store_create_item item = {.priority = 5, .max_attempts = 3, .body = bytes_of("x")};
    struct store_create_verdict made;
    assert_int_equal(create_call(&p->f, p->f.store, &item, 1, &made), STORE_UNAVAILABLE);
    char command[512];
    for (;;) {
        snprintf(command, sizeof command, "CLUSTER COUNTKEYSINSLOT %u", slot);
        char *count = asked(p, from, command);
        int left = atoi(count);
        free(count);
        if (left == 0) {
            break;
        }
        snprintf(command, sizeof command,
                 "EVAL \"return redis.call('CLUSTER','GETKEYSINSLOT',%u,1)[1]\" 0", slot);
        char *key = asked(p, from, command); /* a script: the command itself replies an array */
        snprintf(command, sizeof command, "MIGRATE 127.0.0.1 %d %s 0 5000", p->cluster.ports[to],
                 key);
        free(asked(p, from, command));
        free(key);
    }
    set_slot(p, to, slot, "NODE", to);
    set_slot(p, from, slot, "NODE", to);

    assert_int_equal(state_of_task(&p->f, &kept), TASK_READY);
    live(&p->f);
}

/* Try until Redis takes it. */
static struct task_id create_at_last(struct fixture *f)
{
    struct store_create_item item = {.priority = 5, .max_attempts = 3, .body = bytes_of("x")};
    struct store_create_verdict made = {0};
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + RECOVER_NS;
    while (create_call(f, f->store, &item, 1, &made) != STORE_OK) {
        if (clock_monotonic_ns(clock_system()) > deadline_ns) {
            fail_msg("no recovery in 30 s: %s", f->err.text);
        }
        struct timespec pause = {0, 5 * NS_PER_MS};
        nanosleep(&pause, NULL);
    }
    return made.id;
}

static void a_killed_master_is_followed_by_its_replica_and_nothing_that_it_had_is_lost(void **state)
{
    struct place *p = *state;
    p->f.queue = queue_named(&p->f, "failing", 0);
    unsigned master = owner_of(slot_of(&p->f.queue));
    struct task_id before[50], after[50];
    for (int i = 0; i < 50; i++) {
        before[i] = create_one(&p->f, 5, "before");
    }
    /* Replication is asynchronous: what the replica has not yet got would be lost. */
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + RECOVER_NS;
    while (info_of(p, master + 3, "replication", "slave_repl_offset") <
           info_of(p, master, "replication", "master_repl_offset")) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    redis_server_kill(&p->cluster.nodes[master]);
    for (int i = 0; i < 50; i++) {
        after[i] = create_at_last(&p->f);
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(state_of_task(&p->f, &before[i]), TASK_READY);
        assert_int_equal(state_of_task(&p->f, &after[i]), TASK_READY);
    }
    /* The other queues never stood still, and a store that is opened now works as well. */
    for (int i = 0; i < QUEUES; i++) {
        p->f.queue = queue_named(&p->f, "work", i);
        live(&p->f);
    }
    struct store *kept = p->f.store;
    p->f.store = fixture_open(&p->f, 2);
    p->f.queue = queue_named(&p->f, "failing", 0);
    live(&p->f);
    store_close(p->f.store);
    p->f.store = kept;
}

static void what_is_no_cluster_and_what_is_one_say_so(void **state)
{
    struct place *p = *state;
    struct redis_server alone;
    struct err err = {""};
    char port[8], url[96];
    int number = redis_cluster_free_port();
    snprintf(port, sizeof port, "%d", number);
    const char *const config[] = {"--port", port, "--bind", "127.0.0.1", NULL};
    struct redis_server_options options = {.config = config, .cpu = -1};
    assert_int_equal(redis_server_start(&alone, &options, &err), 0);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d?cluster=yes", number);
    struct fixture other;
    fixture_on(&other, url);
    other.options.connect_timeout_ns = NS_PER_SEC;
    assert_null(store_open(&other.options, &err));
    assert_non_null(strstr(err.text, "cluster support disabled"));
    redis_server_stop(&alone);

    /* A node of the cluster as if it were alone: some key is not there. */
    unsigned wrong = (owner_of(slots_of_key("{codeq}", 7)) + 1) % 3;
    unsigned node = p->cluster.nodes[wrong].child.pid != 0 ? wrong : wrong + 3;
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", p->cluster.ports[node]);
    assert_null(store_open(&other.options, &err));
    assert_non_null(strstr(err.text, "add ?cluster=yes"));
}

/* ---- Sentinel ---- */

static void after_a_failover_the_sentinel_s_new_master_is_used(void **state)
{
    (void)state;
    struct redis_server servers[2];
    int ports[3];
    char texts[3][8], replica_of[32];
    struct err err;
    for (int i = 0; i < 3; i++) {
        ports[i] = redis_cluster_free_port();
        snprintf(texts[i], sizeof texts[i], "%d", ports[i]);
    }
    snprintf(replica_of, sizeof replica_of, "127.0.0.1 %d", ports[0]);
    const char *const master[] = {"--port", texts[0], "--bind", "127.0.0.1", NULL};
    const char *const replica[] = {"--port",      texts[1],   "--bind", "127.0.0.1",
                                   "--replicaof", replica_of, NULL};
    const char *const *const configs[] = {master, replica};
    for (int i = 0; i < 2; i++) {
        struct redis_server_options options = {.config = configs[i], .cpu = -1};
        if (redis_server_start(&servers[i], &options, &err) != 0) {
            fail_msg("%s", err.text);
        }
    }
    char path[REDIS_SERVER_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/sentinel.conf", servers[1].dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fprintf(file,
            "port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor the-master 127.0.0.1 %d 1\n"
            "sentinel down-after-milliseconds the-master 300\n"
            "sentinel failover-timeout the-master 3000\n",
            ports[2], servers[1].dir, ports[0]);
    fclose(file);
    const char *const argv[] = {"redis-server", path, "--sentinel", NULL};
    struct child_options child = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct child sentinel = {0};
    assert_int_equal(child_start(&sentinel, &child, &err), 0);

    char url[128];
    snprintf(url, sizeof url, "redis://127.0.0.1:1,127.0.0.1:%d?sentinel=the-master", ports[2]);
    struct fixture f;
    fixture_on(&f, url);
    f.store = fixture_open(&f, 1); /* the first of its Sentinels is not there */
    f.queue = intern(&f, f.store, "acme", bytes_of("work"));
    live(&f);
    struct store_counters counters;
    store_counters(f.store, &counters);
    assert_int_equal(counters.losses, 0); /* leaving the Sentinel is none */

    /* The Sentinel must know the replica before it can make it the master. */
    char info_url[64];
    snprintf(info_url, sizeof info_url, "%s", servers[1].socket_path);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + RECOVER_NS;
    for (bool ready = false; !ready;) {
        char *info = NULL;
        assert_int_equal(redis_server_info(info_url, "replication", &info, &err), 0);
        ready = strstr(info, "master_link_status:up") != NULL;
        free(info);
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    redis_server_kill(&servers[0]);
    create_at_last(&f);
    char *info = NULL;
    assert_int_equal(redis_server_info(info_url, "replication", &info, &err), 0);
    assert_non_null(strstr(info, "role:master"));
    free(info);
    struct task_member token;
    assert_true(claim_one(&f, 60000, &token));
    store_close(f.store);
    child_stop(&sentinel, NS_PER_SEC);
    redis_server_stop(&servers[0]);
    redis_server_stop(&servers[1]);

    snprintf(url, sizeof url, "redis://127.0.0.1:%d?sentinel=another", ports[2]);
    f.options.connect_timeout_ns = NS_PER_SEC / 2;
    assert_null(store_open(&f.options, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_hashed_as_redis_does),
        cmocka_unit_test(each_queue_lives_at_its_node_and_no_request_is_redirected),
        cmocka_unit_test(a_scan_visits_every_master),
        cmocka_unit_test(a_slot_on_its_way_is_unavailable_and_then_found_at_its_new_node),
        cmocka_unit_test(
            a_killed_master_is_followed_by_its_replica_and_nothing_that_it_had_is_lost),
        cmocka_unit_test(what_is_no_cluster_and_what_is_one_say_so),
        cmocka_unit_test(after_a_failover_the_sentinel_s_new_master_is_used),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
