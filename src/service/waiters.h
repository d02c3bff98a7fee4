/* Claims that wait for work, and who is told when work arrives.
 *
 * A claim that found nothing parks on the queues it asked for. Whoever makes tasks ready calls
 * waiters_work, which lets as many parked claims try again, the longest waiting first, on the other
 * threads too.
 *
 * Across processes: the look that found nothing has, in the same script, put this process into the
 * shard's zset of waiters. Where another process makes tasks ready, the script takes it out and
 * publishes to it (lua/wake.lua): waiters_message. From then on this process is told of nothing
 * more until a look finds nothing again. So a claim woken that way which gets a task lets the next
 * one look (`chain`), and the last, which finds nothing, has registered again. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "service/queues.h"
#include "service/service.h"

#define WAITERS_REGISTERED_NS (35 * NS_PER_SEC) /* as lua/claim.lua has it */
#define WAITERS_RENEW_NS (25 * NS_PER_SEC) /* a look again, where claims wait for longer */

struct waiter { /* one claim on one queue; in the claim's memory */
    struct waiter *prev;
    struct waiter *next;
    struct queue *queue;
    struct parked *parked;
};

struct parked { /* one claim */
    struct waiter *waiters;
    size_t count;
    void (*retry)(struct parked *parked); /* unparked already; never from inside waiters_park */
    struct queue *woken_by; /* why it tries again; NULL: it never has */
    int64_t woken_ns; /* when */
    const char *every; /* of all queues of this tenant, new ones too; NULL: of those named */
    struct parked *every_prev;
    struct parked *every_next;
    bool chain; /* where it gets a task, another one must look: waiters_work with chain */
};

struct waiters *waiters_new(struct service *service);
void waiters_free(struct waiters *waiters);

/* False: waiters_max of this thread is reached. queues: count of them. */
bool waiters_park(struct waiters *waiters, struct parked *parked);
void waiters_unpark(struct waiters *waiters, struct parked *parked);
size_t waiters_count(const struct waiters *waiters);

/* tasks of this queue have become ready, seen by this thread. Those that no claim of this thread
 * waits for are offered to the other threads' claims. chain: nobody is registered any more, look
 * until nothing is left. */
void waiters_work(struct service *service, const char *tenant, uint16_t number, size_t tasks,
                  bool chain);

/* Messages may have been missed: one claim of each queue looks again, on all threads. */
void waiters_look(struct service *service);

/* What was published to this process: work, or a new queue; arg: the service. For
 * conn_options.on_message. */
void waiters_message(void *arg, const char *text, size_t bytes);

/* How often a tenant has got a new queue that this thread was told of: a claim of all queues that
 * sees it change while it looks must look again. */
uint64_t waiters_news(const struct waiters *waiters);

/* Does a claim wait, on whatever thread? */
bool waiters_any(const struct service *service);

/* A claim that may wait begins and ends: between the two this thread is told of work that others
 * see, so that none slips between an empty look and the parking. */
void waiters_enter(struct waiters *waiters);
void waiters_leave(struct waiters *waiters);

/* What the threads of a process share. Any thread. */
struct service_shared *service_shared_new(unsigned threads);
void service_shared_free(struct service_shared *shared);
const char *service_shared_instance(const struct service_shared *shared); /* as in store_options */

struct metrics;
/* The metrics of all threads; those of a thread that has not begun are left out. Any thread. */
void service_shared_add_metrics(struct service_shared *shared, unsigned thread,
                                struct metrics *metrics);
size_t service_shared_metrics(struct service_shared *shared, struct metrics **out, size_t max);
