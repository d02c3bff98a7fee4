#include "service/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define GROUP_SLOTS 256 /* hash chains of one turn's groups */
#define TENANT_BYTES 64

enum op { OP_CREATE, OP_CLAIM, OP_HEARTBEAT, OP_COMPLETE, OP_NACK, OP_ABANDON, OP_GET, OP_COUNT };

static const size_t item_bytes[OP_COUNT] = {
    sizeof(struct store_create_item),
    sizeof(struct store_claim_item),
    sizeof(struct store_heartbeat_item),
    sizeof(struct store_complete_item),
    sizeof(struct store_nack_item),
    sizeof(struct store_abandon_item),
    sizeof(struct task_id),
};

struct ref {
    gather_done_fn *done;
    void *arg;
    size_t index;
};

/* One script call: while it gathers, and, without its items, while it is in flight. */
struct call {
    struct gather *gather;
    struct call *next; /* in order of the turn, or in the free list */
    struct call *chain;
    size_t slot;
    int64_t since_ns; /* held since; 0: it has not been */
    enum op op;
    struct store_queue queue;
    char tenant[TENANT_BYTES];
    size_t tasks; /* of claims: the sum wanted */
    size_t count;
    size_t capacity;
    struct ref *refs;
    void *items;
    size_t items_capacity; /* bytes */
};

struct gather {
    struct store *store;
    struct call *first;
    struct call *last;
    struct call *idle;
    struct call *slots[GROUP_SLOTS];
    unsigned in_flight[GROUP_SLOTS]; /* calls */
    bool fresh; /* something was put in since the last flush */
    struct gather_counters counters;
    const struct call *sampled; /* being timed; NULL: none */
    int64_t sampled_at_ns;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

struct gather *gather_new(struct store *store)
{
    struct gather *gather = must(calloc(1, sizeof(*gather)));
    gather->store = store;
    return gather;
}

static void calls_free(struct call *call)
{
    while (call != NULL) {
        struct call *next = call->next;
        free(call->refs);
        free(call->items);
        free(call);
        call = next;
    }
}

void gather_free(struct gather *gather)
{
    if (gather != NULL) {
        calls_free(gather->first);
        calls_free(gather->idle);
        free(gather);
    }
}

static size_t slot_of(enum op op, const struct store_queue *queue)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)op;
    for (const char *p = queue->tenant; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    }
    h = (h ^ queue->number) * UINT64_C(0x100000001b3);
    h = (h ^ queue->shard) * UINT64_C(0x100000001b3);
    /* The last bytes in have reached the low bits only. */
    h = (h ^ (h >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h >> 32) % GROUP_SLOTS;
}

static struct call *call_new(struct gather *gather)
{
    struct call *call = gather->idle;
    if (call != NULL) {
        gather->idle = call->next;
    } else {
        call = must(calloc(1, sizeof(*call)));
        call->gather = gather;
    }
    call->count = 0;
    call->tasks = 0;
    call->next = NULL;
    return call;
}

/* Room for one item more in this turn's call for (op, queue); tasks: how many it asks for. */
static void *add(struct gather *gather, enum op op, const struct store_queue *queue, size_t tasks,
                 gather_done_fn *done, void *arg, size_t index)
{
    size_t at = slot_of(op, queue);
    struct call **slot = &gather->slots[at];
    struct call *call = *slot;
    gather->fresh = true;
    while (call != NULL &&
           (call->op != op || call->queue.number != queue->number ||
            call->queue.shard != queue->shard || strcmp(call->tenant, queue->tenant) != 0)) {
        call = call->chain;
    }
    if (call == NULL || call->tasks + tasks > STORE_TASKS_MAX) {
        /* A full call stays in its chain, behind the new one, until the flush. */
        call = call_new(gather);
        call->op = op;
        call->slot = at;
        call->since_ns = 0;
        strncpy(call->tenant, queue->tenant, TENANT_BYTES - 1);
        call->queue = *queue;
        call->queue.tenant = call->tenant;
        call->chain = *slot;
        *slot = call;
        if (gather->last != NULL) {
            gather->last->next = call;
        } else {
            gather->first = call;
        }
        gather->last = call;
    }
    if (call->count == call->capacity) {
        call->capacity = call->capacity == 0 ? 16 : call->capacity * 2;
        call->refs = must(realloc(call->refs, call->capacity * sizeof(*call->refs)));
    }
    size_t bytes = item_bytes[op];
    if ((call->count + 1) * bytes > call->items_capacity) {
        call->items_capacity = call->capacity * bytes;
        call->items = must(realloc(call->items, call->items_capacity));
    }
    call->refs[call->count] = (struct ref){done, arg, index};
    call->tasks += tasks;
    return (char *)call->items + bytes * call->count++;
}

void gather_create(struct gather *gather, const struct store_queue *queue,
                   const struct store_create_item *item, gather_done_fn *done, void *arg,
                   size_t index)
{
    *(struct store_create_item *)add(gather, OP_CREATE, queue, 1, done, arg, index) = *item;
}

void gather_claim(struct gather *gather, const struct store_queue *queue,
                  const struct store_claim_item *item, gather_done_fn *done, void *arg,
                  size_t index)
{
    *(struct store_claim_item *)add(gather, OP_CLAIM, queue, item->count, done, arg, index) = *item;
}

void gather_heartbeat(struct gather *gather, const struct store_queue *queue,
                      const struct store_heartbeat_item *item, gather_done_fn *done, void *arg,
                      size_t index)
{
    *(struct store_heartbeat_item *)add(gather, OP_HEARTBEAT, queue, 1, done, arg, index) = *item;
}

void gather_complete(struct gather *gather, const struct store_queue *queue,
                     const struct store_complete_item *item, gather_done_fn *done, void *arg,
                     size_t index)
{
    *(struct store_complete_item *)add(gather, OP_COMPLETE, queue, 1, done, arg, index) = *item;
}

void gather_nack(struct gather *gather, const struct store_queue *queue,
                 const struct store_nack_item *item, gather_done_fn *done, void *arg, size_t index)
{
    *(struct store_nack_item *)add(gather, OP_NACK, queue, 1, done, arg, index) = *item;
}

void gather_abandon(struct gather *gather, const struct store_queue *queue,
                    const struct store_abandon_item *item, gather_done_fn *done, void *arg,
                    size_t index)
{
    *(struct store_abandon_item *)add(gather, OP_ABANDON, queue, 1, done, arg, index) = *item;
}

void gather_get(struct gather *gather, const struct store_queue *queue, const struct task_id *id,
                gather_done_fn *done, void *arg, size_t index)
{
    *(struct task_id *)add(gather, OP_GET, queue, 1, done, arg, index) = *id;
}

static void release(struct call *call)
{
    struct gather *timed = call->gather;
    if (timed->sampled == call) {
        timed->sampled = NULL;
        timed->counters.samples++;
        timed->counters.sample_ns = clock_monotonic_ns(clock_system()) - timed->sampled_at_ns;
    }
    timed->in_flight[call->slot]--;
    call->next = call->gather->idle;
    call->gather->idle = call;
}

/* The same end for every item of a call: not reached, or no verdicts came. */
static void fail_all(struct call *call, const struct store_call_result *result)
{
    struct gather_result each = {.call = result};
    for (size_t i = 0; i < call->count; i++) {
        call->refs[i].done(call->refs[i].arg, call->refs[i].index, &each);
    }
    release(call);
}

static void on_created(void *arg, const struct store_call_result *result,
                       const struct store_create_verdict *items, size_t count)
{
    struct call *call = arg;
    if (result->status != STORE_OK || count != call->count) {
        fail_all(call, result);
        return;
    }
    struct gather_result each = {.call = result};
    for (size_t i = 0; i < count; i++) {
        each.created = &items[i];
        call->refs[i].done(call->refs[i].arg, call->refs[i].index, &each);
    }
    release(call);
}

static void on_returned(void *arg, const struct store_call_result *result,
                        const struct store_return_verdict *items, size_t count)
{
    struct call *call = arg;
    if (result->status != STORE_OK || count != call->count) {
        fail_all(call, result);
        return;
    }
    struct gather_result each = {.call = result};
    for (size_t i = 0; i < count; i++) {
        each.returned = &items[i];
        call->refs[i].done(call->refs[i].arg, call->refs[i].index, &each);
    }
    release(call);
}

static void on_got(void *arg, const struct store_call_result *result,
                   const struct store_task *tasks, size_t count)
{
    struct call *call = arg;
    if (result->status != STORE_OK || count != call->count) {
        fail_all(call, result);
        return;
    }
    struct gather_result each = {.call = result};
    for (size_t i = 0; i < count; i++) {
        each.task = &tasks[i];
        call->refs[i].done(call->refs[i].arg, call->refs[i].index, &each);
    }
    release(call);
}

static void on_claimed(void *arg, const struct store_call_result *result,
                       const struct store_claimed *tasks, size_t count)
{
    struct call *call = arg;
    if (result->status != STORE_OK) {
        fail_all(call, result);
        return;
    }
    struct gather_result each = {.call = result};
    size_t at = 0;
    for (size_t i = 0; i < call->count; i++) {
        size_t from = at;
        while (at < count && tasks[at].claimer == i) {
            at++;
        }
        each.claimed = tasks + from;
        each.claimed_count = at - from;
        call->refs[i].done(call->refs[i].arg, call->refs[i].index, &each);
    }
    release(call);
}

static int start(struct gather *gather, struct call *call)
{
    if (gather->sampled == NULL) {
        gather->sampled = call;
        gather->sampled_at_ns = clock_monotonic_ns(clock_system());
    }
    struct store *store = gather->store;
    switch (call->op) {
    case OP_CREATE:
        return store_create(store, &call->queue, call->items, call->count, on_created, call);
    case OP_CLAIM:
        return store_claim(store, &call->queue, call->items, call->count, on_claimed, call);
    case OP_HEARTBEAT:
        return store_heartbeat(store, &call->queue, call->items, call->count, on_returned, call);
    case OP_COMPLETE:
        return store_complete(store, &call->queue, call->items, call->count, on_returned, call);
    case OP_NACK:
        return store_nack(store, &call->queue, call->items, call->count, on_returned, call);
    case OP_ABANDON:
        return store_abandon(store, &call->queue, call->items, call->count, on_returned, call);
    case OP_GET:
        return store_get(store, &call->queue, call->items, call->count, on_got, call);
    case OP_COUNT:
        break;
    }
    return -EINVAL;
}

static void keep(struct gather *gather, struct call *call, int64_t now_ns)
{
    if (call->since_ns == 0) {
        call->since_ns = now_ns;
    }
    call->next = NULL;
    call->chain = gather->slots[call->slot];
    gather->slots[call->slot] = call;
    if (gather->last != NULL) {
        gather->last->next = call;
    } else {
        gather->first = call;
    }
    gather->last = call;
}

void gather_flush(struct gather *gather, int64_t now_ns)
{
    struct call *call = gather->first;
    gather->fresh = false;
    if (call == NULL) {
        return;
    }
    gather->first = gather->last = NULL;
    memset(gather->slots, 0, sizeof(gather->slots));
    while (call != NULL) {
        struct call *next = call->next;
        if (gather->in_flight[call->slot] > 0 && call->tasks < GATHER_HELD_TASKS_MAX &&
            (call->since_ns == 0 || now_ns - call->since_ns < GATHER_HELD_NS)) {
            keep(gather, call, now_ns);
            call = next;
            continue;
        }
        gather->in_flight[call->slot]++;
        gather->counters.calls++;
        gather->counters.items += call->count;
        int code = start(gather, call);
        if (code != 0) {
            struct store_call_result result = {.status = code == -EAGAIN ? STORE_UNAVAILABLE
                                                                         : STORE_ERROR};
            err_set(&result.err, code, "%s",
                    code == -EAGAIN ? "too many operations wait for Redis"
                                    : "the store refused the arguments");
            fail_all(call, &result);
        }
        call = next;
    }
}

bool gather_pending(const struct gather *gather)
{
    return gather->fresh;
}

bool gather_held(const struct gather *gather)
{
    return gather->first != NULL;
}

void gather_counters(const struct gather *gather, struct gather_counters *out)
{
    *out = gather->counters;
}
