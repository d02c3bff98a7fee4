/* What store.c and store_ops.c share, and what tests replace. Not for other folders. */
#pragma once

#include "base/rng.h"
#include "store/conn.h"
#include "store/keys.h"
#include "store/script.h"
#include "store/store.h"

#define STORE_POLICY_BYTES_MAX 64

struct store {
    struct conn *conn;
    const struct script *scripts; /* SCRIPT_COUNT of them */
    struct clock *clock;
    struct rng rng;
    struct task_id_maker ids;
    struct backoff_policy backoff;
    uint8_t shard_count;
    char retention[KEYS_INSTANCE_BYTES + 24]; /* instance, then ms, as the scripts take them */
    size_t retention_bytes;
    char policy[STORE_POLICY_BYTES_MAX]; /* "kind base_ms max_ms "; seed and instance follow */
    size_t policy_bytes;

    /* What a callback is given; borrowed for its length. */
    union {
        struct store_create_verdict created[STORE_TASKS_MAX];
        struct store_claimed claimed[STORE_TASKS_MAX];
        struct store_return_verdict returned[STORE_TASKS_MAX];
        struct store_task tasks[STORE_TASKS_MAX];
        enum store_deleted deleted[STORE_TASKS_MAX];
    } out;
};

/* store_open with other scripts: a test's, whose clock stands still or whose text is broken on
 * purpose. Their SHA must be that of their text. */
struct store *store_open_scripts(const struct store_options *options, const struct script *scripts,
                                 struct err *err);

/* The call's result for a callback, from what the connection says. */
void store_call_result(struct store_call_result *out, enum conn_status status,
                       const struct err *err);

/* ---- of store_ops.c, for store_admin.c ---- */

/* EVALSHA of a shard's script with argc arguments to follow. -EINVAL: count is 0 or above
 * STORE_TASKS_MAX, or no such tenant. */
/* EVALSHA of another script. */
void store_begin_key(struct store *store, enum script_id id, const char *key, size_t key_bytes,
                     size_t argc);
int store_begin(struct store *store, enum script_id id, const struct store_queue *queue,
                size_t count, size_t argc);
int store_end(struct store *store, enum script_id id, size_t count, bool repeatable,
              conn_done_fn *done, void (*user_done)(void), void *arg);
void store_nonsense(struct store_call_result *result, const struct conn_call *call);
bool store_is_flat_array(const struct conn_reply *reply);

/* nodes: what current or the finished record says, due, body. */
bool store_read_task(const struct task_id *id, const struct conn_node *nodes,
                     struct store_task *out);
