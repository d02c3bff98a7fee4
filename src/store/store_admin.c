/* Dead letters and deletion: what people and administrators do. As in store_ops.c. */
#include <errno.h>
#include <string.h>

#include "store/store.h"
#include "store/store_internal.h"

typedef void (*any_done)(void);

static bool read_dead(struct store *store, const struct conn_reply *reply)
{
    const struct conn_node *nodes = reply->nodes;
    if (!store_is_flat_array(reply) || reply->count < 2 || (reply->count - 2) % 4 != 0 ||
        (reply->count - 2) / 4 > STORE_DEAD_PAGE_MAX || nodes[1].type != CONN_INTEGER) {
        return false;
    }
    for (size_t i = 0; i < (reply->count - 2) / 4; i++) {
        /* member, died, current, body: as of a get, in another order. */
        const struct conn_node *at = &nodes[2 + 4 * i];
        const struct conn_node task[3] = {at[2], at[1], at[3]};
        struct task_member member;
        if (at[0].type != CONN_STRING ||
            task_member_from_bytes(at[0].data, at[0].bytes, &member) != 0) {
            return false;
        }
        struct task_id id = task_member_id(&member);
        if (!store_read_task(&id, task, &store->out.tasks[i]) ||
            store->out.tasks[i].state != TASK_DEAD) {
            return false;
        }
    }
    return true;
}

static void on_dead_list(void *owner, struct conn_call *call, enum conn_status status,
                         const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    if (result.status == STORE_OK && !read_dead(store, reply)) {
        store_nonsense(&result, call);
    }
    bool good = result.status == STORE_OK;
    ((store_dead_list_fn *)call->user_done)(call->user_arg, &result,
                                            good ? (uint64_t)reply->nodes[1].integer : 0,
                                            store->out.tasks, good ? (reply->count - 2) / 4 : 0);
}

int store_dead_list(struct store *store, const struct store_queue *queue, uint32_t skip,
                    uint16_t limit, store_dead_list_fn *done, void *arg)
{
    if (limit > STORE_DEAD_PAGE_MAX) {
        return -EINVAL;
    }
    int rc = store_begin(store, SCRIPT_DEAD_LIST, queue, limit, 2);
    if (rc != 0) {
        return rc;
    }
    conn_arg_int(store->conn, skip);
    conn_arg_int(store->conn, limit);
    return store_end(store, SCRIPT_DEAD_LIST, 1, true, on_dead_list, (any_done)done, arg);
}

static void on_dead_take(void *owner, struct conn_call *call, enum conn_status status,
                         const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    uint32_t taken = 0;
    uint64_t left = 0;
    if (result.status == STORE_OK) {
        const struct conn_node *nodes = reply->nodes;
        if (store_is_flat_array(reply) && reply->count == 3 && nodes[1].type == CONN_INTEGER &&
            nodes[2].type == CONN_INTEGER) {
            taken = (uint32_t)nodes[1].integer;
            left = (uint64_t)nodes[2].integer;
        } else {
            store_nonsense(&result, call);
        }
    }
    ((store_dead_take_fn *)call->user_done)(call->user_arg, &result, taken, left);
}

static int dead_take(struct store *store, const struct store_queue *queue, char what,
                     const struct task_id *ids, size_t count, int64_t died_by_ms,
                     store_dead_take_fn *done, void *arg)
{
    int rc = store_begin(store, SCRIPT_DEAD_TAKE, queue, count != 0 ? count : 1, 3 + count);
    if (rc != 0) {
        return rc;
    }
    conn_arg_pair(store->conn, &what, 1, store->retention, KEYS_INSTANCE_BYTES);
    conn_arg_int(store->conn, died_by_ms);
    conn_arg_int(store->conn, STORE_TASKS_MAX);
    for (size_t i = 0; i < count; i++) {
        conn_arg(store->conn, ids[i].bytes, TASK_ID_BYTES);
    }
    /* Again, either would find none of the same; but its count would then be wrong. */
    return store_end(store, SCRIPT_DEAD_TAKE, 1, false, on_dead_take, (any_done)done, arg);
}

int store_dead_replay(struct store *store, const struct store_queue *queue,
                      const struct task_id *ids, size_t count, int64_t died_by_ms,
                      store_dead_take_fn *done, void *arg)
{
    return dead_take(store, queue, 'r', ids, count, died_by_ms, done, arg);
}

int store_dead_purge(struct store *store, const struct store_queue *queue,
                     const struct task_id *ids, size_t count, int64_t died_by_ms,
                     store_dead_take_fn *done, void *arg)
{
    return dead_take(store, queue, 'p', ids, count, died_by_ms, done, arg);
}

static void on_delete(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    if (result.status == STORE_OK) {
        const struct conn_node *node = reply->nodes;
        bool good = node->type == CONN_STRING && node->bytes == call->count;
        for (size_t i = 0; good && i < call->count; i++) {
            char letter = node->data[i];
            good = letter == 'D' || letter == 'L' || letter == 'F';
            store->out.deleted[i] = letter == 'D'   ? STORE_DELETED
                                    : letter == 'L' ? STORE_DELETE_LEASED
                                                    : STORE_DELETE_NOT_FOUND;
        }
        if (!good) {
            store_nonsense(&result, call);
        }
    }
    ((store_delete_fn *)call->user_done)(call->user_arg, &result,
                                         result.status == STORE_OK ? store->out.deleted : NULL,
                                         call->count);
}

int store_delete(struct store *store, const struct store_queue *queue, const struct task_id *ids,
                 size_t count, bool force, store_delete_fn *done, void *arg)
{
    int rc = store_begin(store, SCRIPT_DELETE, queue, count, 2 + count);
    if (rc != 0) {
        return rc;
    }
    conn_arg(store->conn, store->retention + KEYS_INSTANCE_BYTES,
             store->retention_bytes - KEYS_INSTANCE_BYTES);
    conn_arg(store->conn, force ? "1" : "0", 1);
    for (size_t i = 0; i < count; i++) {
        conn_arg(store->conn, ids[i].bytes, TASK_ID_BYTES);
    }
    return store_end(store, SCRIPT_DELETE, count, false, on_delete, (any_done)done, arg);
}
