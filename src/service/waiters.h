/* Claims that wait for work, and who is told when work arrives.
 *
 * A claim that found nothing parks on the queues it asked for. Whoever makes tasks ready calls
 * waiters_work, which lets as many parked claims try again, the longest waiting first. One thread;
 * other threads and other codeqd are told by waiters_work too. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "service/queues.h"
#include "service/service.h"

/* Work that another codeqd makes ready is found by a look at most this late: for each queue that
 * claims wait for, one of them tries again; where it finds something the next follows at once. */
#define WAITERS_LOOK_NS NS_PER_SEC

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
};

struct waiters *waiters_new(struct service *service);
void waiters_free(struct waiters *waiters);

/* False: waiters_max of this thread is reached. queues: count of them. */
bool waiters_park(struct waiters *waiters, struct parked *parked);
void waiters_unpark(struct waiters *waiters, struct parked *parked);
size_t waiters_count(const struct waiters *waiters);

/* tasks of this queue have become ready, seen by this thread. Those that no claim of this thread
 * waits for are offered to the other threads' claims. */
void waiters_work(struct service *service, struct queue *queue, size_t tasks);

/* A claim that may wait begins and ends: between the two this thread is told of work that others
 * see, so that none slips between an empty look and the parking. */
void waiters_enter(struct waiters *waiters);
void waiters_leave(struct waiters *waiters);

/* What the threads of a process share. Any thread. */
struct service_shared *service_shared_new(unsigned threads);
void service_shared_free(struct service_shared *shared);

struct metrics;
/* The metrics of all threads; those of a thread that has not begun are left out. Any thread. */
void service_shared_add_metrics(struct service_shared *shared, unsigned thread,
                                struct metrics *metrics);
size_t service_shared_metrics(struct service_shared *shared, struct metrics **out, size_t max);
