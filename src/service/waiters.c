#include "service/waiters.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "base/rng.h"
#include "service/metrics.h"
#include "store/keys.h"

#define INBOX_MAX \
    1024 /* notes to one thread that it has not read; more become one: "look at all" */

struct note {
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    uint16_t number;
    bool chain;
    size_t tasks; /* 0: the tenant has a new queue */
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
    char instance[KEYS_INSTANCE_BYTES + 1];
    unsigned threads;
    struct inbox inboxes[];
};

struct waiters {
    struct service *service;
    size_t parked;
    size_t max;
    struct parked *every; /* claims of all queues of their tenant */
    uint64_t news;
    ev_async bell;
    ev_timer tick;
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
    snprintf(shared->instance, sizeof(shared->instance), "%016llx",
             (unsigned long long)rng_seed_system());
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

/* Let up to *tasks claims of this thread look again, the longest waiting first. */
static void work_here(struct service *service, struct queue *queue, size_t *tasks, bool chain)
{
    queue->wakes++;
    for (; *tasks > 0 && queue->first_waiter != NULL; --*tasks) {
        struct parked *parked = queue->first_waiter->parked;
        waiters_unpark(service->waiters, parked);
        metrics_count(service->metrics, METRICS_WAKEUPS, 1);
        parked->woken_by = queue;
        parked->woken_ns = clock_monotonic_ns(service->clock);
        parked->chain = chain;
        parked->retry(parked);
    }
}

/* A tenant (NULL: each, perhaps) has a queue that was made just now: claims of all its queues wait
 * for that too. */
static void news_here(struct service *service, const char *tenant)
{
    struct waiters *waiters = service->waiters;
    waiters->news++;
    queues_forget_age(service->queues, tenant);
    struct parked *list = NULL;
    for (struct parked *next, *p = waiters->every; p != NULL; p = next) {
        next = p->every_next;
        if (tenant == NULL || strcmp(p->every, tenant) == 0) {
            waiters_unpark(waiters, p);
            p->every_next = list; /* it may park again at once: later */
            list = p;
        }
    }
    while (list != NULL) {
        struct parked *next = list->every_next;
        list->woken_by = NULL;
        list->chain = false;
        list->retry(list);
        list = next;
    }
}

/* One claim of each queue that claims of this thread wait for. */
static void look_here(struct service *service)
{
    news_here(service, NULL);
    size_t at = 0;
    struct queue *queue;
    while ((queue = queues_next(service->queues, NULL, &at)) != NULL) {
        size_t one = 1;
        work_here(service, queue, &one, true);
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
        if (note->tasks == 0) {
            news_here(service, note->tenant);
            continue;
        }
        struct queue *queue = queues_by_number(service->queues, note->tenant, note->number);
        if (queue != NULL) {
            work_here(service, queue, &note->tasks, note->chain);
        }
    }
    if (overflow) {
        look_here(service);
    }
}

static void ring(struct inbox *inbox, bool was_empty)
{
    if (was_empty && inbox->bell != NULL) {
        ev_async_send(inbox->loop, inbox->bell);
    }
}

static void tell(struct inbox *inbox, const char *tenant, uint16_t number, size_t tasks, bool chain)
{
    pthread_mutex_lock(&inbox->mutex);
    bool was_empty = inbox->count == 0 && !inbox->overflow;
    struct note *last = inbox->count > 0 ? &inbox->notes[inbox->count - 1] : NULL;
    if (last != NULL && last->number == number && strcmp(last->tenant, tenant) == 0 &&
        (last->tasks == 0) == (tasks == 0)) {
        last->tasks += tasks;
        last->chain |= chain;
    } else if (inbox->count == INBOX_MAX) {
        inbox->overflow = true;
    } else {
        struct note *note = &inbox->notes[inbox->count++];
        snprintf(note->tenant, sizeof(note->tenant), "%s", tenant);
        note->number = number;
        note->tasks = tasks;
        note->chain = chain;
    }
    ring(inbox, was_empty);
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

/* A registration in Redis lives WAITERS_REGISTERED_NS; what claims wait for longer is looked at
 * again, which registers anew. So is what a look that failed may have left unregistered. */
static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
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
        if (queue->first_waiter != NULL &&
            service->now_ns - queue->registered_ns >= WAITERS_RENEW_NS) {
            queue->registered_ns = service->now_ns;
            size_t one = 1;
            work_here(service, queue, &one, true);
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
    ev_timer_init(&waiters->tick, on_tick, 1., 1.);
    waiters->tick.data = waiters;
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
    ev_timer_stop(waiters->service->loop, &waiters->tick);
    free(waiters);
}

bool waiters_park(struct waiters *waiters, struct parked *parked)
{
    if (waiters->parked >= waiters->max) {
        return false;
    }
    waiters->parked++;
    if (parked->every != NULL) {
        parked->every_prev = NULL;
        parked->every_next = waiters->every;
        if (waiters->every != NULL) {
            waiters->every->every_prev = parked;
        }
        waiters->every = parked;
    }
    if (!ev_is_active(&waiters->tick)) {
        ev_timer_again(waiters->service->loop, &waiters->tick);
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
    if (parked->every != NULL) {
        if (parked->every_prev != NULL) {
            parked->every_prev->every_next = parked->every_next;
        } else {
            waiters->every = parked->every_next;
        }
        if (parked->every_next != NULL) {
            parked->every_next->every_prev = parked->every_prev;
        }
    }
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

void waiters_work(struct service *service, const char *tenant, uint16_t number, size_t tasks,
                  bool chain)
{
    struct queue *queue = queues_by_number(service->queues, tenant, number);
    if (queue != NULL) {
        work_here(service, queue, &tasks, chain);
    }
    struct service_shared *shared = service->shared;
    for (unsigned i = 0; tasks > 0 && i < shared->threads; i++) {
        if (i != service->thread && atomic_load(&shared->inboxes[i].interested) > 0) {
            tell(&shared->inboxes[i], tenant, number, tasks, chain);
        }
    }
}

void waiters_look(struct service *service)
{
    struct service_shared *shared = service->shared;
    look_here(service);
    for (unsigned i = 0; i < shared->threads; i++) {
        struct inbox *inbox = &shared->inboxes[i];
        if (i != service->thread && atomic_load(&inbox->interested) > 0) {
            pthread_mutex_lock(&inbox->mutex);
            bool was_empty = inbox->count == 0 && !inbox->overflow;
            inbox->overflow = true;
            ring(inbox, was_empty);
            pthread_mutex_unlock(&inbox->mutex);
        }
    }
}

static void news(struct service *service, const char *tenant)
{
    struct service_shared *shared = service->shared;
    news_here(service, tenant);
    for (unsigned i = 0; i < shared->threads; i++) {
        if (i != service->thread) { /* whoever claims from all of them later must know too */
            tell(&shared->inboxes[i], tenant, 0, 0, false);
        }
    }
}

uint64_t waiters_news(const struct waiters *waiters)
{
    return waiters->news;
}

void waiters_message(void *arg, const char *text, size_t bytes)
{
    struct service *service = arg;
    char tenant[KEYS_TENANT_BYTES_MAX + 1];
    uint16_t number = 0;
    uint8_t shard = 0;
    static const char queues[] = "}:queues";
    const size_t queues_bytes = sizeof(queues) - 1;
    if (bytes > queues_bytes + 1 && bytes - queues_bytes - 1 < sizeof(tenant) && text[0] == '{' &&
        memcmp(text + bytes - queues_bytes, queues, queues_bytes) == 0) {
        memcpy(tenant, text + 1, bytes - queues_bytes - 1);
        tenant[bytes - queues_bytes - 1] = '\0';
        if (keys_tenant_valid(tenant)) {
            news(service, tenant);
        }
        return;
    }
    size_t at = keys_tag_parse(text, bytes, tenant, &number, &shard);
    if (at == 0 || at == bytes || text[at] != ' ') {
        return; /* whoever publishes that, it is none of ours */
    }
    size_t tasks = 0;
    for (at++; at < bytes && text[at] >= '0' && text[at] <= '9' && tasks < STORE_TASKS_MAX; at++) {
        tasks = tasks * 10 + (size_t)(text[at] - '0');
    }
    if (tasks > 0) {
        waiters_work(service, tenant, number, tasks, true);
    }
}

bool waiters_any(const struct service *service)
{
    for (unsigned i = 0; i < service->shared->threads; i++) {
        if (atomic_load(&service->shared->inboxes[i].interested) > 0) {
            return true;
        }
    }
    return false;
}

const char *service_shared_instance(const struct service_shared *shared)
{
    return shared->instance;
}
