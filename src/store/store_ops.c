/* The operations: writing a request for its script, reading the reply into verdicts. The forms of
 * both are told in the heads of lua/NAME.lua. A reply that has another form is STORE_ERROR: what
 * comes from the network is not trusted to be ours. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/plant.h"
#include "base/probe.h"
#include "store/keys.h"
#include "store/store.h"
#include "store/store_internal.h"

#define ARGS_BEFORE_ARGV 4 /* EVALSHA sha 1 tag */
#define NOW_BYTES 13 /* a time in Unix ms, until 2286 */
#define BODY_SIZE_BYTES 8
#define LETTER_OUTBOX 'o'
#define LETTER_NO_OUTBOX '-'
#define SEED_MASK 0x7fffffff

typedef void (*any_done)(void);

/* ---- writing ---- */

/* EVALSHA sha 1 key, with argc arguments to follow. */
void store_begin_key(struct store *store, enum script_id id, const char *key, size_t key_bytes,
                     size_t argc)
{
    conn_begin(store->conn, ARGS_BEFORE_ARGV + argc);
    conn_arg(store->conn, "EVALSHA", 7);
    conn_arg(store->conn, store->scripts[id].sha, SCRIPT_SHA_BYTES);
    conn_arg(store->conn, "1", 1);
    conn_arg(store->conn, key, key_bytes);
}

/* The same for a shard's script. -EINVAL: no items, too many, or no such tenant. */
int store_begin(struct store *store, enum script_id id, const struct store_queue *queue,
                size_t count, size_t argc)
{
    char tag[KEYS_BYTES_MAX];
    size_t tag_bytes = keys_tag(queue->tenant, queue->number, queue->shard, tag);
    if (tag_bytes == 0 || count == 0 || count > STORE_TASKS_MAX) {
        return -EINVAL;
    }
    store_begin_key(store, id, tag, tag_bytes, argc);
    return 0;
}

int store_end(struct store *store, enum script_id id, size_t count, bool repeatable,
              conn_done_fn *done, any_done user_done, void *arg)
{
    struct conn_call call = {
        .done = done,
        .owner = store,
        .user_done = user_done,
        .user_arg = arg,
        .script = &store->scripts[id],
        .count = (uint16_t)count,
        .repeatable = repeatable,
    };
    return conn_end(store->conn, &call);
}

static void arg_retention(struct store *store)
{
    conn_arg(store->conn, store->retention + KEYS_INSTANCE_BYTES,
             store->retention_bytes - KEYS_INSTANCE_BYTES);
}

static void arg_instance_and_retention(struct store *store)
{
    conn_arg(store->conn, store->retention, store->retention_bytes);
}

static void arg_policy(struct store *store, bool waits)
{
    uint32_t seed = (uint32_t)rng_next(&store->rng) & SEED_MASK;
    char text[12 + 2 + KEYS_INSTANCE_BYTES];
    int bytes = KEYS_INSTANCE_BYTES;
    memcpy(text + sizeof text - KEYS_INSTANCE_BYTES, store->retention, KEYS_INSTANCE_BYTES);
    if (waits) {
        text[sizeof text - 1 - (size_t)bytes++] = 'w';
    }
    text[sizeof text - 1 - (size_t)bytes++] = ' ';
    do {
        text[sizeof text - 1 - (size_t)bytes++] = (char)('0' + seed % 10);
        seed /= 10;
    } while (seed != 0);
    conn_arg_pair(store->conn, store->policy, store->policy_bytes,
                  text + sizeof text - (size_t)bytes, (size_t)bytes);
}

static void arg_bytes(struct store *store, struct store_bytes bytes)
{
    conn_arg(store->conn, bytes.data, bytes.bytes);
}

/* The reference that resolve.lua reads: by_token and its member, or by_worker, id and worker. */
static void arg_lease(struct store *store, const struct store_lease_ref *lease, char by_token,
                      char by_worker)
{
    if (lease->has_token) {
        conn_arg_pair(store->conn, &by_token, 1, lease->token.bytes, TASK_MEMBER_BYTES);
        return;
    }
    char *p = conn_arg_space(store->conn, 1 + TASK_ID_BYTES + lease->worker.bytes);
    if (p != NULL) {
        p[0] = by_worker;
        memcpy(p + 1, lease->token.bytes, TASK_ID_BYTES);
        if (lease->worker.bytes != 0) {
            memcpy(p + 1 + TASK_ID_BYTES, lease->worker.data, lease->worker.bytes);
        }
    }
}

static bool name_fits(struct store_bytes bytes)
{
    return bytes.bytes <= STORE_NAME_BYTES_MAX;
}

static bool body_fits(struct store_bytes bytes)
{
    return bytes.bytes <= STORE_BODY_BYTES_MAX;
}

static bool lease_fits(const struct store_lease_ref *lease)
{
    return lease->has_token || name_fits(lease->worker);
}

/* ---- reading ---- */

void store_nonsense(struct store_call_result *result, const struct conn_call *call)
{
    result->status = STORE_ERROR;
    err_set(&result->err, 0, "redis: the reply of script %s makes no sense: is this Redis ours?",
            call->script->name);
}

bool store_is_flat_array(const struct conn_reply *reply)
{
    return reply->nodes[0].type == CONN_ARRAY &&
           (size_t)reply->nodes[0].integer == reply->count - 1;
}

/* Exactly `digits` decimal digits. */
static bool read_digits(const char *data, size_t digits, int64_t *out)
{
    int64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        if (data[i] < '0' || data[i] > '9') {
            return false;
        }
        value = value * 10 + (data[i] - '0');
    }
    *out = value;
    return true;
}

/* A number that we wrote into a request ourselves. */
static int64_t own_number(struct conn_args *args)
{
    size_t bytes = 0;
    const char *data = conn_args_next(args, &bytes);
    bool negative = data[0] == '-';
    int64_t value = 0;
    read_digits(data + negative, bytes - negative, &value);
    return negative ? -value : value;
}

static bool read_verdict(char letter, struct store_return_verdict *out)
{
    *out = (struct store_return_verdict){.verdict = STORE_DONE};
    switch (letter) {
    case 'D':
        return true;
    case 'W':
        out->outbox = true;
        return true;
    case 'X':
        out->dead = true;
        return true;
    case 'U':
        out->verdict = STORE_DUPLICATE;
        return true;
    case 'L':
        out->verdict = STORE_LOST;
        return true;
    case 'O':
        out->verdict = STORE_NOT_OWNER;
        return true;
    case 'N':
        out->verdict = STORE_NOT_LEASED;
        return true;
    case 'F':
        out->verdict = STORE_NOT_FOUND;
        return true;
    default:
        return false;
    }
}

/* ---- intern ---- */

static void on_intern(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    struct store_queue queue = {0};
    unsigned shards = 0;
    if (result.status == STORE_OK) {
        const struct conn_node *node = reply->nodes;
        unsigned number = 0;
        char text[16];
        if (node->type == CONN_STRING && node->bytes == 0) {
            result.status = STORE_ERROR;
            err_set(&result.err, 0, "the tenant has 65536 queues already: no more can be made");
        } else if (node->type == CONN_STRING && node->bytes < sizeof text &&
                   snprintf(text, sizeof text, "%.*s", (int)node->bytes, node->data) > 0 &&
                   sscanf(text, "%5u %3u", &number, &shards) == 2 && number <= UINT16_MAX &&
                   shards >= 1 && shards <= UINT8_MAX) {
            queue.number = (uint16_t)number;
        } else {
            shards = 0;
            store_nonsense(&result, call);
        }
    }
    ((store_intern_fn *)call->user_done)(
        call->user_arg, &result, result.status == STORE_OK ? &queue : NULL, (uint8_t)shards);
}

int store_intern(struct store *store, const char *tenant, struct store_bytes command,
                 store_intern_fn *done, void *arg)
{
    char key[KEYS_BYTES_MAX];
    size_t key_bytes = keys_queues(tenant, key);
    if (key_bytes == 0 || !name_fits(command)) {
        return -EINVAL;
    }
    store_begin_key(store, SCRIPT_INTERN, key, key_bytes, 2);
    arg_bytes(store, command);
    conn_arg_int(store->conn, store->shard_count);
    return store_end(store, SCRIPT_INTERN, 1, true, on_intern, (any_done)done, arg);
}

/* ---- create ---- */

static bool read_created(struct store *store, const struct conn_call *call,
                         const struct conn_reply *reply)
{
    const struct conn_node *node = reply->nodes;
    if (node->type != CONN_STRING || node->bytes < call->count) {
        return false;
    }
    const char *old = node->data + call->count;
    const char *limit = node->data + node->bytes;
    struct conn_args args = conn_call_args(call);
    conn_args_skip(&args, ARGS_BEFORE_ARGV);
    size_t bytes = 0;
    const char *columns = conn_args_next(&args, &bytes);
    bool has_delay = bytes >= 1 && columns[0] == 'd';
    bool has_key = bytes >= 1 && columns[bytes - 1] == 'k';
    conn_args_skip(&args, 1);
    for (size_t i = 0; i < call->count; i++) {
        struct store_create_verdict *out = &store->out.created[i];
        memcpy(out->id.bytes, conn_args_next(&args, &bytes), TASK_ID_BYTES);
        conn_args_skip(&args, 1);
        int64_t due = has_delay ? own_number(&args) : 0;
        conn_args_skip(&args, has_key);
        out->verdict = STORE_DONE;
        out->delayed = false;
        switch (node->data[i]) {
        case 'R':
            break;
        case 'D':
            out->delayed = true;
            break;
        case 'E':
            if (limit - old < TASK_ID_BYTES) {
                return false;
            }
            if (memcmp(out->id.bytes, old, TASK_ID_BYTES) == 0) {
                /* Our own task: the request was sent again after a lost connection. */
                out->delayed = due > 0 || -due > task_id_time_ms(&out->id);
            } else {
                memcpy(out->id.bytes, old, TASK_ID_BYTES);
                out->verdict = STORE_DUPLICATE;
            }
            old += TASK_ID_BYTES;
            break;
        default:
            return false;
        }
        out->created_ms = task_id_time_ms(&out->id);
    }
    return old == limit;
}

static void on_create(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    if (result.status == STORE_OK && !read_created(store, call, reply)) {
        store_nonsense(&result, call);
    }
    ((store_create_fn *)call->user_done)(call->user_arg, &result,
                                         result.status == STORE_OK ? store->out.created : NULL,
                                         call->count);
}

int store_create(struct store *store, const struct store_queue *queue,
                 const struct store_create_item *items, size_t count, store_create_fn *done,
                 void *arg)
{
    PLANT_HERE(CREATE)
    bool has_delay = false;
    bool has_key = false;
    bool all_keyed = true;
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        const struct store_create_item *item = &items[i];
        if (item->priority > TASK_PRIORITY_MAX || item->max_attempts < 1 || item->delay_ms < 0 ||
            item->delay_ms > STORE_DELAY_MS_MAX || item->run_at_ms < 0 ||
            item->run_at_ms > STORE_RUN_AT_MS_MAX || !name_fits(item->key) ||
            !body_fits(item->body)) {
            return -EINVAL;
        }
        has_delay |= item->delay_ms != 0 || item->run_at_ms != 0;
        has_key |= item->key.bytes != 0;
        all_keyed &= item->key.bytes != 0;
    }
    int rc = store_begin(store, SCRIPT_CREATE, queue, count,
                         2 + count * (2 + (size_t)has_delay + (size_t)has_key));
    if (rc != 0) {
        return rc;
    }
    conn_arg(store->conn, has_delay ? "dk" : "k", (size_t)has_delay + (size_t)has_key);
    arg_instance_and_retention(store);
    int64_t now_ms = clock_wall_ns(store->clock) / NS_PER_MS;
    for (size_t i = 0; i < count; i++) {
        const struct store_create_item *item = &items[i];
        struct task_id id = task_id_next(&store->ids, now_ms, queue->number, queue->shard);
        struct task_member member = task_member_first(&id, item->priority, item->max_attempts);
        conn_arg(store->conn, member.bytes, TASK_MEMBER_BYTES);
        char letter = item->wants_outbox ? LETTER_OUTBOX : LETTER_NO_OUTBOX;
        conn_arg_pair(store->conn, &letter, 1, item->body.data, item->body.bytes);
        if (has_delay) {
            conn_arg_int(store->conn, item->run_at_ms != 0 ? -item->run_at_ms : item->delay_ms);
        }
        if (has_key) {
            arg_bytes(store, item->key);
        }
    }
    return store_end(store, SCRIPT_CREATE, count, all_keyed, on_create, (any_done)done, arg);
}

/* ---- claim ---- */

/* "NOW DUE", NOW with a sign in front perhaps. */
static bool read_now_and_due(const struct conn_node *node, int64_t *out_now_ms, int64_t *out_due_ms)
{
    bool negative = node->bytes != 0 && node->data[0] == '-';
    const char *data = node->data + negative;
    size_t bytes = node->bytes - negative;
    if (bytes < NOW_BYTES + 2 || bytes > 2 * NOW_BYTES + 1 || data[NOW_BYTES] != ' ' ||
        !read_digits(data, NOW_BYTES, out_now_ms) ||
        !read_digits(data + NOW_BYTES + 1, bytes - NOW_BYTES - 1, out_due_ms)) {
        return false;
    }
    *out_now_ms = negative ? -*out_now_ms : *out_now_ms;
    return true;
}

static bool read_claimed(struct store *store, const struct conn_call *call,
                         const struct conn_reply *reply, size_t *out_count,
                         struct store_call_result *result)
{
    const struct conn_node *nodes = reply->nodes;
    if (!store_is_flat_array(reply) || reply->count < 2 || reply->count % 2 != 0 ||
        (nodes[1].type != CONN_INTEGER && nodes[1].type != CONN_STRING)) {
        return false;
    }
    size_t count = (reply->count - 2) / 2;
    if (count > STORE_TASKS_MAX) {
        return false;
    }
    int64_t now_ms = nodes[1].integer;
    if (nodes[1].type == CONN_STRING &&
        !read_now_and_due(&nodes[1], &now_ms, &result->next_due_ms)) {
        return false;
    }
    result->died = now_ms < 0;
    now_ms = result->died ? -now_ms : now_ms;
    struct conn_args args = conn_call_args(call);
    conn_args_skip(&args, ARGS_BEFORE_ARGV + 1);
    size_t claimer = 0;
    int64_t left = own_number(&args);
    int64_t lease_ms = own_number(&args);
    for (size_t i = 0; i < count; i++) {
        while (left == 0) {
            if (++claimer == call->count) {
                return false;
            }
            conn_args_skip(&args, 1);
            left = own_number(&args);
            lease_ms = own_number(&args);
        }
        left--;
        const struct conn_node *member = &nodes[2 + 2 * i];
        const struct conn_node *body = member + 1;
        struct store_claimed *out = &store->out.claimed[i];
        if (member->type != CONN_STRING || body->type != CONN_STRING || body->bytes == 0 ||
            task_member_from_bytes(member->data, member->bytes, &out->member) != 0) {
            return false;
        }
        out->claimer = claimer;
        out->lease_until_ms = lease_deadline_ms(now_ms, lease_ms);
        PROBE3(lease_granted, out->member.bytes, lease_ms, out->lease_until_ms);
        out->body = (struct store_bytes){body->data + 1, body->bytes - 1};
    }
    *out_count = count;
    return true;
}

static void on_claim(void *owner, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    size_t count = 0;
    if (result.status == STORE_OK && !read_claimed(store, call, reply, &count, &result)) {
        store_nonsense(&result, call);
    }
    ((store_claim_fn *)call->user_done)(call->user_arg, &result, store->out.claimed, count);
}

int store_claim(struct store *store, const struct store_queue *queue,
                const struct store_claim_item *items, size_t count, store_claim_fn *done, void *arg)
{
    PLANT_HERE(CLAIM)
    size_t wanted = 0;
    bool waits = false;
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        if (items[i].count == 0 || !lease_ms_valid(items[i].lease_ms) ||
            !name_fits(items[i].worker)) {
            return -EINVAL;
        }
        wanted += items[i].count;
        waits |= items[i].waits;
    }
    if (wanted > STORE_TASKS_MAX) {
        return -EINVAL;
    }
    int rc = store_begin(store, SCRIPT_CLAIM, queue, count, 1 + 3 * count);
    if (rc != 0) {
        return rc;
    }
    arg_policy(store, waits);
    for (size_t i = 0; i < count; i++) {
        conn_arg_int(store->conn, items[i].count);
        conn_arg_int(store->conn, items[i].lease_ms);
        arg_bytes(store, items[i].worker);
    }
    return store_end(store, SCRIPT_CLAIM, count, false, on_claim, (any_done)done, arg);
}

/* ---- heartbeat, complete, nack, abandon ---- */

static void give_returned(struct store *store, const struct conn_call *call,
                          struct store_call_result *result)
{
    ((store_return_fn *)call->user_done)(call->user_arg, result,
                                         result->status == STORE_OK ? store->out.returned : NULL,
                                         call->count);
}

/* now and letters, the reply of heartbeat, complete and abandon. */
static bool read_now_and_letters(struct store *store, const struct conn_call *call,
                                 const struct conn_reply *reply, int64_t *out_now_ms)
{
    const struct conn_node *node = reply->nodes;
    if (node->type != CONN_STRING || node->bytes != NOW_BYTES + (size_t)call->count ||
        !read_digits(node->data, NOW_BYTES, out_now_ms)) {
        return false;
    }
    for (size_t i = 0; i < call->count; i++) {
        if (!read_verdict(node->data[NOW_BYTES + i], &store->out.returned[i])) {
            return false;
        }
    }
    return true;
}

static void on_heartbeat(void *owner, struct conn_call *call, enum conn_status status,
                         const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    int64_t now_ms = 0;
    if (result.status == STORE_OK) {
        if (read_now_and_letters(store, call, reply, &now_ms)) {
            struct conn_args args = conn_call_args(call);
            conn_args_skip(&args, ARGS_BEFORE_ARGV + 1);
            for (size_t i = 0; i < call->count; i++) {
                conn_args_skip(&args, 1);
                int64_t extend_ms = own_number(&args);
                if (store->out.returned[i].verdict == STORE_DONE) {
                    store->out.returned[i].lease_until_ms = lease_deadline_ms(now_ms, extend_ms);
                }
            }
        } else {
            store_nonsense(&result, call);
        }
    }
    give_returned(store, call, &result);
}

int store_heartbeat(struct store *store, const struct store_queue *queue,
                    const struct store_heartbeat_item *items, size_t count, store_return_fn *done,
                    void *arg)
{
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        if (!lease_fits(&items[i].lease) || !lease_ms_valid(items[i].extend_ms)) {
            return -EINVAL;
        }
    }
    int rc = store_begin(store, SCRIPT_HEARTBEAT, queue, count, 1 + 2 * count);
    if (rc != 0) {
        return rc;
    }
    arg_retention(store);
    for (size_t i = 0; i < count; i++) {
        arg_lease(store, &items[i].lease, 't', 'W');
        conn_arg_int(store->conn, items[i].extend_ms);
    }
    return store_end(store, SCRIPT_HEARTBEAT, count, true, on_heartbeat, (any_done)done, arg);
}

static void on_complete(void *owner, struct conn_call *call, enum conn_status status,
                        const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    int64_t now_ms = 0;
    if (result.status == STORE_OK) {
        if (read_now_and_letters(store, call, reply, &now_ms)) {
            for (size_t i = 0; i < call->count; i++) {
                if (store->out.returned[i].verdict == STORE_DONE) {
                    store->out.returned[i].ended_ms = now_ms;
                }
            }
        } else {
            store_nonsense(&result, call);
        }
    }
    give_returned(store, call, &result);
}

int store_complete(struct store *store, const struct store_queue *queue,
                   const struct store_complete_item *items, size_t count, store_return_fn *done,
                   void *arg)
{
    PLANT_HERE(COMPLETE)
    bool all_tokens = true;
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        if (!lease_fits(&items[i].lease) || !body_fits(items[i].result)) {
            return -EINVAL;
        }
        all_tokens &= items[i].lease.has_token;
    }
    int rc = store_begin(store, SCRIPT_COMPLETE, queue, count, 1 + 2 * count);
    if (rc != 0) {
        return rc;
    }
    arg_retention(store);
    for (size_t i = 0; i < count; i++) {
        arg_lease(store, &items[i].lease, items[i].failed ? 'f' : 'c', items[i].failed ? 'F' : 'C');
        arg_bytes(store, items[i].result);
    }
    return store_end(store, SCRIPT_COMPLETE, count, all_tokens, on_complete, (any_done)done, arg);
}

static bool read_nacked(struct store *store, const struct conn_call *call,
                        const struct conn_reply *reply)
{
    const struct conn_node *nodes = reply->nodes;
    if (!store_is_flat_array(reply) || reply->count < 2 || nodes[1].type != CONN_STRING ||
        nodes[1].bytes != call->count) {
        return false;
    }
    size_t next = 2;
    for (size_t i = 0; i < call->count; i++) {
        struct store_return_verdict *out = &store->out.returned[i];
        if (!read_verdict(nodes[1].data[i], out)) {
            return false;
        }
        if (out->verdict == STORE_DONE && !out->dead) {
            if (next == reply->count || nodes[next].type != CONN_INTEGER) {
                return false;
            }
            out->delay_ms = nodes[next++].integer;
        }
    }
    return next == reply->count;
}

static void on_nack(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    if (result.status == STORE_OK && !read_nacked(store, call, reply)) {
        store_nonsense(&result, call);
    }
    give_returned(store, call, &result);
}

int store_nack(struct store *store, const struct store_queue *queue,
               const struct store_nack_item *items, size_t count, store_return_fn *done, void *arg)
{
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        if (!lease_fits(&items[i].lease) || !name_fits(items[i].reason)) {
            return -EINVAL;
        }
    }
    int rc = store_begin(store, SCRIPT_NACK, queue, count, 2 + 3 * count);
    if (rc != 0) {
        return rc;
    }
    arg_retention(store);
    arg_policy(store, false);
    for (size_t i = 0; i < count; i++) {
        int64_t delay_ms = items[i].delay_ms;
        if (delay_ms > store->backoff.max_ms) {
            delay_ms = store->backoff.max_ms;
        }
        arg_lease(store, &items[i].lease, 't', 'W');
        conn_arg_int(store->conn, delay_ms > 0 ? delay_ms : 0);
        arg_bytes(store, items[i].reason);
    }
    return store_end(store, SCRIPT_NACK, count, false, on_nack, (any_done)done, arg);
}

static void on_abandon(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    int64_t now_ms = 0;
    if (result.status == STORE_OK && !read_now_and_letters(store, call, reply, &now_ms)) {
        store_nonsense(&result, call);
    }
    give_returned(store, call, &result);
}

int store_abandon(struct store *store, const struct store_queue *queue,
                  const struct store_abandon_item *items, size_t count, store_return_fn *done,
                  void *arg)
{
    for (size_t i = 0; i < count && count <= STORE_TASKS_MAX; i++) {
        if (!lease_fits(&items[i].lease)) {
            return -EINVAL;
        }
    }
    int rc = store_begin(store, SCRIPT_ABANDON, queue, count, 1 + count);
    if (rc != 0) {
        return rc;
    }
    arg_instance_and_retention(store);
    for (size_t i = 0; i < count; i++) {
        arg_lease(store, &items[i].lease, 't', 'W');
    }
    return store_end(store, SCRIPT_ABANDON, count, false, on_abandon, (any_done)done, arg);
}

/* ---- sweep, get, stats ---- */

static void on_sweep(void *owner, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    struct store_sweep_result out = {0};
    if (result.status == STORE_OK) {
        const struct conn_node *nodes = reply->nodes;
        bool good = store_is_flat_array(reply) && reply->count == 6;
        for (size_t i = 1; good && i < 6; i++) {
            good = nodes[i].type == CONN_INTEGER && nodes[i].integer >= 0;
        }
        if (good) {
            out = (struct store_sweep_result){
                .reaped = (uint32_t)nodes[1].integer,
                .dead = (uint32_t)nodes[2].integer,
                .promoted = (uint32_t)nodes[3].integer,
                .next_due_ms = nodes[4].integer,
                .now_ms = nodes[5].integer,
            };
        } else {
            store_nonsense(&result, call);
        }
    }
    ((store_sweep_fn *)call->user_done)(call->user_arg, &result, &out);
}

int store_sweep(struct store *store, const struct store_queue *queue, uint16_t limit,
                store_sweep_fn *done, void *arg)
{
    int rc = store_begin(store, SCRIPT_SWEEP, queue, limit, 2);
    if (rc != 0) {
        return rc;
    }
    arg_policy(store, false);
    conn_arg_int(store->conn, limit);
    return store_end(store, SCRIPT_SWEEP, 1, true, on_sweep, (any_done)done, arg);
}

static enum task_state state_of(char letter)
{
    switch (letter) {
    case 'r':
        return TASK_READY;
    case 'd':
        return TASK_DELAYED;
    case 'l':
        return TASK_LEASED;
    case 'c':
        return TASK_COMPLETED;
    case 'f':
        return TASK_FAILED;
    case 'x':
        return TASK_DEAD;
    default:
        return TASK_NONE;
    }
}

/* nodes: what current or the finished record says, due, body. */
bool store_read_task(const struct task_id *id, const struct conn_node *nodes,
                     struct store_task *out)
{
    *out = (struct store_task){.state = TASK_NONE};
    memcpy(out->member.bytes, id->bytes, TASK_ID_BYTES);
    memcpy(out->member.bytes + TASK_ID_BYTES, "00000000000000000", TASK_MEMBER_TAIL_BYTES);
    if (nodes[0].type == CONN_NIL) {
        return true;
    }
    const size_t fixed = 1 + TASK_MEMBER_TAIL_BYTES + NOW_BYTES;
    if (nodes[0].type != CONN_STRING || nodes[0].bytes < fixed || nodes[1].type != CONN_INTEGER) {
        return false;
    }
    const char *data = nodes[0].data;
    char member[TASK_MEMBER_BYTES];
    memcpy(member, id->bytes, TASK_ID_BYTES);
    memcpy(member + TASK_ID_BYTES, data + 1, TASK_MEMBER_TAIL_BYTES);
    if (task_member_from_bytes(member, sizeof member, &out->member) != 0 ||
        !read_digits(data + 1 + TASK_MEMBER_TAIL_BYTES, NOW_BYTES, &out->updated_ms)) {
        return false;
    }
    out->state = state_of(data[0]);
    const char *rest = data + fixed;
    size_t rest_bytes = nodes[0].bytes - fixed;
    const char *body = NULL;
    size_t body_bytes = 0;
    switch (out->state) {
    case TASK_NONE:
        return false;
    case TASK_COMPLETED:
    case TASK_FAILED: {
        int64_t size = 0;
        if (rest_bytes < BODY_SIZE_BYTES || !read_digits(rest, BODY_SIZE_BYTES, &size) ||
            (size_t)size > rest_bytes - BODY_SIZE_BYTES) {
            return false;
        }
        body = rest + BODY_SIZE_BYTES;
        body_bytes = (size_t)size;
        out->result =
            (struct store_bytes){body + body_bytes, rest_bytes - BODY_SIZE_BYTES - body_bytes};
        break;
    }
    case TASK_READY:
    case TASK_DELAYED:
    case TASK_LEASED:
    case TASK_DEAD:
        if (nodes[2].type != CONN_STRING) {
            return false;
        }
        body = nodes[2].data;
        body_bytes = nodes[2].bytes;
        out->due_ms = nodes[1].integer;
        if (out->state == TASK_LEASED) {
            out->worker = (struct store_bytes){rest, rest_bytes};
        } else {
            out->reason = (struct store_bytes){rest, rest_bytes};
        }
        break;
    }
    if (body_bytes == 0) {
        return false;
    }
    out->body = (struct store_bytes){body + 1, body_bytes - 1};
    return true;
}

static bool read_tasks(struct store *store, const struct conn_call *call,
                       const struct conn_reply *reply)
{
    if (!store_is_flat_array(reply) || reply->count != 1 + 3 * (size_t)call->count) {
        return false;
    }
    struct conn_args args = conn_call_args(call);
    conn_args_skip(&args, ARGS_BEFORE_ARGV + 1);
    for (size_t i = 0; i < call->count; i++) {
        struct task_id id;
        size_t bytes = 0;
        memcpy(id.bytes, conn_args_next(&args, &bytes), TASK_ID_BYTES);
        if (!store_read_task(&id, &reply->nodes[1 + 3 * i], &store->out.tasks[i])) {
            return false;
        }
    }
    return true;
}

static void on_get(void *owner, struct conn_call *call, enum conn_status status,
                   const struct conn_reply *reply, const struct err *err)
{
    struct store *store = owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    if (result.status == STORE_OK && !read_tasks(store, call, reply)) {
        store_nonsense(&result, call);
    }
    ((store_get_fn *)call->user_done)(
        call->user_arg, &result, result.status == STORE_OK ? store->out.tasks : NULL, call->count);
}

int store_get(struct store *store, const struct store_queue *queue, const struct task_id *ids,
              size_t count, store_get_fn *done, void *arg)
{
    int rc = store_begin(store, SCRIPT_GET, queue, count, 1 + count);
    if (rc != 0) {
        return rc;
    }
    arg_retention(store);
    for (size_t i = 0; i < count; i++) {
        conn_arg(store->conn, ids[i].bytes, TASK_ID_BYTES);
    }
    return store_end(store, SCRIPT_GET, count, true, on_get, (any_done)done, arg);
}

#define STATS_FIELDS 14

static void on_stats(void *owner, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct store_call_result result;
    store_call_result(&result, status, err);
    struct store_stats out = {0};
    if (result.status == STORE_OK) {
        const struct conn_node *nodes = reply->nodes;
        bool good = store_is_flat_array(reply) && reply->count == 1 + STATS_FIELDS;
        for (size_t i = 1; good && i <= STATS_FIELDS; i++) {
            good = nodes[i].type == CONN_INTEGER;
        }
        if (good) {
            uint64_t *const fields[STATS_FIELDS - 1] = {
                &out.ready,       &out.delayed,    &out.leased, &out.dead_now, &out.created,
                &out.completed,   &out.failed,     &out.dead,   &out.purged,   &out.replayed,
                &out.dead_purged, &out.duplicates, &out.reaped,
            };
            for (size_t i = 0; i < STATS_FIELDS - 1; i++) {
                *fields[i] = (uint64_t)nodes[1 + i].integer;
            }
            out.oldest_ready_ms = nodes[STATS_FIELDS].integer;
        } else {
            store_nonsense(&result, call);
        }
    }
    ((store_stats_fn *)call->user_done)(call->user_arg, &result, &out);
}

int store_stats(struct store *store, const struct store_queue *queue, store_stats_fn *done,
                void *arg)
{
    int rc = store_begin(store, SCRIPT_STATS, queue, 1, 0);
    if (rc != 0) {
        return rc;
    }
    return store_end(store, SCRIPT_STATS, 1, true, on_stats, (any_done)done, arg);
}
