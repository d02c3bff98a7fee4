#include "service/waiters.h"

#include <stdlib.h>

struct waiters {
    struct service *service;
    size_t parked;
    size_t max;
};

struct waiters *waiters_new(struct service *service)
{
    struct waiters *waiters = calloc(1, sizeof(*waiters));
    if (waiters == NULL) {
        abort();
    }
    waiters->service = service;
    const struct config *config = service->config;
    waiters->max = (size_t)((config->waiters_max + config->threads - 1) / config->threads);
    return waiters;
}

void waiters_free(struct waiters *waiters)
{
    free(waiters);
}

bool waiters_park(struct waiters *waiters, struct parked *parked)
{
    if (waiters->parked >= waiters->max) {
        return false;
    }
    waiters->parked++;
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
    queue->wakes++;
    for (; tasks > 0 && queue->first_waiter != NULL; tasks--) {
        struct parked *parked = queue->first_waiter->parked;
        waiters_unpark(service->waiters, parked);
        parked->retry(parked);
    }
}
