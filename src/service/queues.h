/* The queues one thread knows: (tenant, command) to number and shards, interned in Redis at first
 * use and never forgotten. Commands are compared without regard to ASCII case, as in codeQ.
 * One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "service/auth.h"
#include "store/store.h"

#define QUEUES_MAX 65536 /* of one thread; past it new ones are refused */
#define QUEUE_COMMAND_BYTES_MAX 255

struct metrics;
struct queues;
struct queue_wait;
struct waiter;

struct queue {
    struct queue *next_by_name;
    struct queue *next_by_number;
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    char *command; /* as first seen, NUL-terminated */
    size_t command_bytes;
    bool known; /* number and shard_count are valid */
    uint16_t number;
    uint8_t next_shard; /* where the next create or claim begins */
    unsigned shard_count;
    struct queue_wait *first_wait; /* for the number */
    struct waiter *first_waiter; /* of waiters.c */
    struct waiter *last_waiter;
    uint64_t wakes; /* how often work has arrived */
    int64_t registered_ns; /* when a claim of this thread that waits last found nothing */
    unsigned metrics_slot;
    int64_t backlog; /* a hint for claims of all queues: tasks seen here that nobody has claimed */
};

/* Something that goes on when the number, or the tenant's list, is there; in the caller's memory.
 */
struct queue_wait {
    struct queue_wait *next;
    void (*resume)(void *arg, struct queue *queue, const struct store_call_result *call);
    void *arg;
};

struct queues *queues_new(struct store *store, struct metrics *metrics);
void queues_free(struct queues *queues); /* after store_close */

/* The queue of a command, made when it is new to this thread. NULL: QUEUES_MAX reached, or the
 * command is longer than QUEUE_COMMAND_BYTES_MAX or empty. */
struct queue *queues_get(struct queues *queues, const char *tenant, const char *command,
                         size_t command_bytes);

/* The queue with this number, if this thread knows it. */
struct queue *queues_by_number(struct queues *queues, const char *tenant, uint16_t number);

/* True: queue->known. Else wait->resume is called later, once; queue->known tells how it went. */
bool queues_ensure(struct queues *queues, struct queue *queue, struct queue_wait *wait);

/* True: this thread knows all queues that the tenant had max_age_ns ago. Else they are read, and
 * wait->resume is called later, once, with no queue; its call tells how it went. */
bool queues_know(struct queues *queues, const char *tenant, int64_t now_ns, int64_t max_age_ns,
                 struct queue_wait *wait);
/* The tenant (NULL: each) has a new one, made elsewhere: what is known is too old. */
void queues_forget_age(struct queues *queues, const char *tenant);

/* All of a tenant's (NULL: of all) that this thread knows: call with *at 0 first; NULL: no more. */
struct queue *queues_next(struct queues *queues, const char *tenant, size_t *at);

/* One shard of it, for the store; valid as long as the queue. */
struct store_queue queue_shard(const struct queue *queue, uint8_t shard);
