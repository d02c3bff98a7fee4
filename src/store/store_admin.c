/* Dead letters and deletion: what people and administrators do. As in store_ops.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/keys.h"
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

/* ---- all queues of a tenant ---- */

/* Up to digits decimal digits and the byte behind them. */
static bool take_number(const char **at, const char *end, char behind, unsigned max, unsigned *out)
{
    unsigned value = 0;
    const char *p = *at;
    for (; p < end && p - *at < 6 && *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (unsigned)(*p - '0');
    }
    if (p == *at || p == end || *p != behind || value > max) {
        return false;
    }
    *at = p + 1;
    *out = value;
    return true;
}

int store_queue_list_next(struct store_queue_list *list, struct store_bytes *out_command,
                          uint16_t *out_number, uint8_t *out_shard_count)
{
    unsigned number = 0;
    unsigned shards = 0;
    unsigned bytes = 0;
    if (list->next == list->end) {
        return 0;
    }
    if (!take_number(&list->next, list->end, ' ', UINT16_MAX, &number) ||
        !take_number(&list->next, list->end, ' ', UINT8_MAX, &shards) || shards == 0 ||
        !take_number(&list->next, list->end, '\n', STORE_NAME_BYTES_MAX, &bytes) ||
        (size_t)(list->end - list->next) < bytes) {
        list->next = list->end;
        return -EPROTO;
    }
    *out_command = (struct store_bytes){list->next, bytes};
    *out_number = (uint16_t)number;
    *out_shard_count = (uint8_t)shards;
    list->next += bytes;
    return 1;
}

/* A cursor's text in out; false: too long. */
static bool read_text(const struct conn_node *node, char out[STORE_CURSOR_BYTES_MAX])
{
    if (node->type != CONN_STRING || node->bytes >= STORE_CURSOR_BYTES_MAX) {
        return false;
    }
    if (node->bytes != 0) {
        memcpy(out, node->data, node->bytes);
    }
    out[node->bytes] = '\0';
    return true;
}

static void on_queues(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    struct store_queue_list list = {NULL, NULL};
    char cursor[STORE_CURSOR_BYTES_MAX] = "";
    if (result.status == STORE_OK) {
        const struct conn_node *nodes = reply->nodes;
        if (store_is_flat_array(reply) && reply->count == 3 && read_text(&nodes[1], cursor) &&
            nodes[2].type == CONN_STRING) {
            list = (struct store_queue_list){nodes[2].data, nodes[2].data + nodes[2].bytes};
        } else {
            store_nonsense(&result, call);
        }
    }
    ((store_queues_fn *)call->user_done)(call->user_arg, &result, strtoull(cursor, NULL, 10), list);
}

int store_queues(struct store *store, const char *tenant, uint64_t cursor, store_queues_fn *done,
                 void *arg)
{
    char key[KEYS_BYTES_MAX];
    size_t key_bytes = keys_queues(tenant, key);
    if (key_bytes == 0) {
        return -EINVAL;
    }
    char text[STORE_CURSOR_BYTES_MAX];
    int bytes = snprintf(text, sizeof text, "%llu", (unsigned long long)cursor);
    store_begin_key(store, SCRIPT_QUEUES, key, key_bytes, 1);
    conn_arg(store->conn, text, (size_t)bytes);
    return store_end(store, SCRIPT_QUEUES, 1, true, on_queues, (any_done)done, arg);
}

static void on_cleanup(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    char cursor[STORE_CURSOR_BYTES_MAX] = "";
    uint32_t deleted = 0;
    if (result.status == STORE_OK) {
        const struct conn_node *nodes = reply->nodes;
        if (store_is_flat_array(reply) && reply->count == 3 && nodes[1].type == CONN_INTEGER &&
            nodes[1].integer >= 0 && nodes[1].integer <= call->count &&
            read_text(&nodes[2], cursor)) {
            deleted = (uint32_t)nodes[1].integer;
        } else {
            store_nonsense(&result, call);
        }
    }
    ((store_cleanup_fn *)call->user_done)(call->user_arg, &result, deleted, cursor);
}

int store_cleanup(struct store *store, const struct store_queue *queue, int64_t ended_by_ms,
                  uint16_t limit, const char *cursor, store_cleanup_fn *done, void *arg)
{
    int rc = store_begin(store, SCRIPT_CLEANUP, queue, limit, 4);
    if (rc != 0) {
        return rc;
    }
    cursor = cursor[0] == '\0' ? "0 0" : cursor;
    conn_arg(store->conn, store->retention + KEYS_INSTANCE_BYTES,
             store->retention_bytes - KEYS_INSTANCE_BYTES);
    conn_arg_int(store->conn, ended_by_ms);
    conn_arg_int(store->conn, limit);
    conn_arg(store->conn, cursor, strlen(cursor));
    /* Again, it would delete others: the count would be wrong. */
    return store_end(store, SCRIPT_CLEANUP, limit, false, on_cleanup, (any_done)done, arg);
}
