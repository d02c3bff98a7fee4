/* Gathering by event-loop turn: what arrived in one turn for one operation on one shard of one
 * queue goes to Redis as one script call, at most STORE_TASKS_MAX tasks a call, in arrival order.
 * While a call of that operation and shard is on its way, what arrives for it waits for its answer
 * and then leaves together: the busier Redis is, the larger the calls. A lone request waits for
 * nobody, and none for longer than GATHER_HELD_NS.
 *
 * Items are put in during a turn; gather_flush, at its end, hands them to the store. Texts that an
 * item points to must stay until its end. Each item's done is called once, later, never from inside
 * the call that put it in, also when the store takes no more. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "store/store.h"

#define GATHER_HELD_NS (2 * NS_PER_MS)
#define GATHER_HELD_TASKS_MAX 64 /* so many go at once: larger calls save nothing more */

struct gather;

/* What became of one item; borrowed for the call. The pointer that fits the operation is set, and
 * only when call->status is STORE_OK. */
struct gather_result {
    const struct store_call_result *call;
    const struct store_create_verdict *created;
    const struct store_return_verdict *returned;
    const struct store_task *task;
    const struct store_claimed *claimed; /* the claimer's tasks */
    size_t claimed_count;
};
typedef void gather_done_fn(void *arg, size_t index, const struct gather_result *result);

struct gather_counters {
    uint64_t calls; /* script calls begun */
    uint64_t items;
    uint64_t samples; /* calls that were timed: one at a time */
    int64_t sample_ns; /* the last one, from begun to answered */
};

struct gather *gather_new(struct store *store);
void gather_free(struct gather *gather); /* after store_close: nothing is in flight */

void gather_create(struct gather *gather, const struct store_queue *queue,
                   const struct store_create_item *item, gather_done_fn *done, void *arg,
                   size_t index);
void gather_claim(struct gather *gather, const struct store_queue *queue,
                  const struct store_claim_item *item, gather_done_fn *done, void *arg,
                  size_t index);
void gather_heartbeat(struct gather *gather, const struct store_queue *queue,
                      const struct store_heartbeat_item *item, gather_done_fn *done, void *arg,
                      size_t index);
void gather_complete(struct gather *gather, const struct store_queue *queue,
                     const struct store_complete_item *item, gather_done_fn *done, void *arg,
                     size_t index);
void gather_nack(struct gather *gather, const struct store_queue *queue,
                 const struct store_nack_item *item, gather_done_fn *done, void *arg, size_t index);
void gather_abandon(struct gather *gather, const struct store_queue *queue,
                    const struct store_abandon_item *item, gather_done_fn *done, void *arg,
                    size_t index);
void gather_get(struct gather *gather, const struct store_queue *queue, const struct task_id *id,
                gather_done_fn *done, void *arg, size_t index);

/* Hand over what has gathered and need not wait. */
void gather_flush(struct gather *gather, int64_t now_ns);
bool gather_pending(const struct gather *gather); /* something was put in since the flush */
bool gather_held(const struct gather *gather); /* something waits: flush again by GATHER_HELD_NS */
void gather_counters(const struct gather *gather, struct gather_counters *out);
