/* The load generator's own book of tasks: what it created, what came back, what is owed.
 *
 * Written only from what this process sent and was answered, so that a scheduler that loses or
 * repeats a task cannot hide it. One entry a task, by its sequence number; memory grows in chunks
 * of LEDGER_CHUNK tasks. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define LEDGER_CHUNK 65536
#define LEDGER_TASKS_MAX (16 * 1000 * 1000)
#define LEDGER_PRIORITIES 10

struct ledger_entry {
    int64_t
        ready_ns; /* wall: from when it may be delivered (acknowledged, due, end of its lease) */
    uint16_t queue; /* index of (tenant, command) */
    uint8_t priority;
    uint8_t flags;
};

struct ledger {
    struct ledger_entry *chunks[LEDGER_TASKS_MAX / LEDGER_CHUNK + 1];
    uint64_t issued; /* sequence numbers given out: 0..issued-1 */
    uint64_t created; /* acknowledged */
    uint64_t finished; /* result acknowledged */
    uint64_t duplicated; /* delivered again under a running lease and without a nack or an
                            unanswered request, or after its end, or accepted twice */
    uint64_t early; /* delivered before it was due */
    uint64_t *waiting; /* [queue][priority]: acknowledged, ready at once, never delivered */
    uint32_t queue_count;
};

/* What a delivery was. */
enum ledger_delivery {
    LEDGER_FIRST,
    LEDGER_AGAIN, /* expected: nacked, unanswered, or its lease has run out */
    LEDGER_DUPLICATE,
    LEDGER_FOREIGN, /* not a task of this run or of this queue */
};

int ledger_init(struct ledger *ledger, uint32_t queue_count, uint64_t tasks_expected,
                struct err *err);
void ledger_fini(struct ledger *ledger);

/* The next sequence number for a task of queue with priority; delay_ms above 0 when it is delayed.
 * -ENOSPC past LEDGER_TASKS_MAX. */
int64_t ledger_issue(struct ledger *ledger, uint32_t queue, uint8_t priority, bool delayed);

/* The create of seq was acknowledged at wall time now_ns; due_ns is when it may first be claimed.
 */
void ledger_created(struct ledger *ledger, uint64_t seq, int64_t due_ns);

struct ledger_arrival {
    enum ledger_delivery what;
    bool delayed; /* a first delivery of a delayed task */
    bool crashed; /* the delivery before it was dropped without a word */
    int64_t wait_ns; /* since it could be delivered; INT64_MIN when that is not known */
};

/* A claim brought seq at wall time now_ns with a lease until lease_end_ns. early_slack_ns forgives
 * the distance between two readings of the clock. */
struct ledger_arrival ledger_delivered(struct ledger *ledger, uint64_t seq, uint32_t queue,
                                       int64_t now_ns, int64_t lease_end_ns,
                                       int64_t early_slack_ns);

/* A heartbeat moved the lease's end. */
void ledger_extended(struct ledger *ledger, uint64_t seq, int64_t lease_end_ns);

/* Its worker drops it without a word: it comes again when the lease runs out. */
void ledger_crashed(struct ledger *ledger, uint64_t seq);

/* The task may come again at any time: nacked, or the answer to its result never came. */
void ledger_may_return(struct ledger *ledger, uint64_t seq);

/* Its result was acknowledged. */
void ledger_finished(struct ledger *ledger, uint64_t seq);

uint8_t ledger_priority(const struct ledger *ledger, uint64_t seq);
uint64_t ledger_waiting(const struct ledger *ledger, uint32_t queue, uint8_t priority);

/* Acknowledged creates without an acknowledged result. */
uint64_t ledger_open(const struct ledger *ledger);
