#include "service/waiters.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "service/metrics.h"

#define INBOX_MAX \
    1024 /* notes to one thread that it has not read; more become one: "look at all" */

struct note {
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    uint16_t number;
    size_t tasks;
};

/* One thread's letter box. */
struct inbox {
    atomic_size_t interested; /* claims that wait or may come to */
    pthread_mutex_t mutex;
    struct note notes[INBOX_MAX];
    size_t count;
    bool overflow;
    struct ev_loop *loop;
    ev_async *bell; /* NULL: nobody reads */
    _Atomic(struct metrics *) metrics;
};

struct service_shared {
    unsigned threads;
    struct inbox inboxes[];
};

struct waiters {
    struct service *service;
    size_t parked;
    size_t max;
    ev_async bell;
    ev_timer look;
    struct note notes[INBOX_MAX]; /* being read */
};

struct service_shared *service_shared_new(unsigned threads)
{
    struct service_shared *shared =
        calloc(1, sizeof(*shared) + threads * sizeof(shared->inboxes[0]));
    if (shared == NULL) {
        abort();
    }
    shared->threads = threads;
    for (unsigned i = 0; i < threads; i++) {
        pthread_mutex_init(&shared->inboxes[i].mutex, NULL);
    }
    return shared;
}

void service_shared_free(struct service_shared *shared)
{
    if (shared == NULL) {
        return;
    }
    for (unsigned i = 0; i < shared->threads; i++) {
        pthread_mutex_destroy(&shared->inboxes[i].mutex);
    }
    free(shared);
}

void service_shared_add_metrics(struct service_shared *shared, unsigned thread,
                                struct metrics *metrics)
{
    atomic_store(&shared->inboxes[thread].metrics, metrics);
}

size_t service_shared_metrics(struct service_shared *shared, struct metrics **out, size_t max)
{
    size_t count = 0;
    for (unsigned i = 0; i < shared->threads && count < max; i++) {
        struct metrics *metrics = atomic_load(&shared->inboxes[i].metrics);
        if (metrics != NULL) {
            out[count++] = metrics;
        }
    }
    return count;
}

static struct inbox *inbox_of(struct waiters *waiters)
{
    return &waiters->service->shared->inboxes[waiters->service->thread];
}

static void work_here(struct service *service, struct queue *queue, size_t *tasks)
{
    queue->wakes++;
    for (; *tasks > 0 && queue->first_waiter != NULL; --*tasks) {
        struct parked *parked = queue->first_waiter->parked;
        waiters_unpark(service->waiters, parked);
        metrics_count(service->metrics, METRICS_WAKEUPS, 1);
        parked->retry(parked);
    }
}

static void on_bell(struct ev_loop *loop, ev_async *bell, int events)
{
    (void)loop;
    (void)events;
    struct waiters *waiters = bell->data;
    struct service *service = waiters->service;
    struct inbox *inbox = inbox_of(waiters);
    pthread_mutex_lock(&inbox->mutex);
    size_t count = inbox->count;
    bool overflow = inbox->overflow;
    memcpy(waiters->notes, inbox->notes, count * sizeof(struct note));
    inbox->count = 0;
    inbox->overflow = false;
    pthread_mutex_unlock(&inbox->mutex);
    for (size_t i = 0; i < count; i++) {
        struct note *note = &waiters->notes[i];
        struct queue *queue = queues_by_number(service->queues, note->tenant, note->number);
        if (queue != NULL) {
            work_here(service, queue, &note->tasks);
        }
    }
    if (overflow) {
        size_t at = 0;
        struct queue *queue;
        while ((queue = queues_next(service->queues, NULL, &at)) != NULL) {
            size_t all = SIZE_MAX;
            work_here(service, queue, &all);
        }
    }
}

static void tell(struct inbox *inbox, const struct queue *queue, size_t tasks)
{
    pthread_mutex_lock(&inbox->mutex);
    bool ring = inbox->count == 0 && !inbox->overflow;
    struct note *last = inbox->count > 0 ? &inbox->notes[inbox->count - 1] : NULL;
    if (last != NULL && last->number == queue->number && strcmp(last->tenant, queue->tenant) == 0) {
        last->tasks += tasks;
    } else if (inbox->count == INBOX_MAX) {
        inbox->overflow = true;
    } else {
        struct note *note = &inbox->notes[inbox->count++];
        memcpy(note->tenant, queue->tenant, sizeof(note->tenant));
        note->number = queue->number;
        note->tasks = tasks;
    }
    if (ring && inbox->bell != NULL) {
        ev_async_send(inbox->loop, inbox->bell);
    }
    pthread_mutex_unlock(&inbox->mutex);
}

void waiters_enter(struct waiters *waiters)
{
    atomic_fetch_add(&inbox_of(waiters)->interested, 1);
}

void waiters_leave(struct waiters *waiters)
{
    atomic_fetch_sub(&inbox_of(waiters)->interested, 1);
}

/* OPEN: a publish by the script that makes work would bring this under 5 ms; until then a look. */
static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct waiters *waiters = timer->data;
    struct service *service = waiters->service;
    if (waiters->parked == 0) {
        ev_timer_stop(loop, timer);
        return;
    }
    size_t at = 0;
    struct queue *queue;
    while ((queue = queues_next(service->queues, NULL, &at)) != NULL) {
        if (queue->first_waiter != NULL) {
            struct parked *parked = queue->first_waiter->parked;
            waiters_unpark(waiters, parked);
            parked->retry(parked);
        }
    }
}

struct waiters *waiters_new(struct service *service)
{
    struct waiters *waiters = calloc(1, sizeof(*waiters));
    if (waiters == NULL) {
        abort();
    }
    waiters->service = service;
    const struct config *config = service->config;
    waiters->max = (size_t)((config->waiters_max + config->threads - 1) / config->threads);
    ev_async_init(&waiters->bell, on_bell);
    waiters->bell.data = waiters;
    ev_async_start(service->loop, &waiters->bell);
    ev_timer_init(&waiters->look, on_look, (double)WAITERS_LOOK_NS / 1e9,
                  (double)WAITERS_LOOK_NS / 1e9);
    waiters->look.data = waiters;
    struct inbox *inbox = inbox_of(waiters);
    pthread_mutex_lock(&inbox->mutex);
    inbox->loop = service->loop;
    inbox->bell = &waiters->bell;
    pthread_mutex_unlock(&inbox->mutex);
    return waiters;
}

void waiters_free(struct waiters *waiters)
{
    if (waiters == NULL) {
        return;
    }
    struct inbox *inbox = inbox_of(waiters);
    pthread_mutex_lock(&inbox->mutex);
    inbox->bell = NULL;
    pthread_mutex_unlock(&inbox->mutex);
    ev_async_stop(waiters->service->loop, &waiters->bell);
    ev_timer_stop(waiters->service->loop, &waiters->look);
    free(waiters);
}

bool waiters_park(struct waiters *waiters, struct parked *parked)
{
    if (waiters->parked >= waiters->max) {
        return false;
    }
    waiters->parked++;
    if (!ev_is_active(&waiters->look)) {
        ev_timer_again(waiters->service->loop, &waiters->look);
    }
    for (size_t i = 0; i < parked->count; i++) {
        struct waiter *waiter = &parked->waiters[i];
        struct queue *queue = waiter->queue;
        waiter->parked = parked;
        waiter->next = NULL;
        waiter->prev = queue->last_waiter;
        if (queue->last_waiter != NULL) {
            queue->last_waiter->next = waiter;
        } else {
            queue->first_waiter = waiter;
        }
        queue->last_waiter = waiter;
    }
    return true;
}

void waiters_unpark(struct waiters *waiters, struct parked *parked)
{
    waiters->parked--;
    for (size_t i = 0; i < parked->count; i++) {
        struct waiter *waiter = &parked->waiters[i];
        struct queue *queue = waiter->queue;
        if (waiter->prev != NULL) {
            waiter->prev->next = waiter->next;
        } else {
            queue->first_waiter = waiter->next;
        }
        if (waiter->next != NULL) {
            waiter->next->prev = waiter->prev;
        } else {
            queue->last_waiter = waiter->prev;
        }
    }
}

size_t waiters_count(const struct waiters *waiters)
{
    return waiters->parked;
}

void waiters_work(struct service *service, struct queue *queue, size_t tasks)
{
    work_here(service, queue, &tasks);
    struct service_shared *shared = service->shared;
    for (unsigned i = 0; tasks > 0 && i < shared->threads; i++) {
        if (i != service->thread && atomic_load(&shared->inboxes[i].interested) > 0) {
            tell(&shared->inboxes[i], queue, tasks);
        }
    }
}
