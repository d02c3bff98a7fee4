/* Webhooks: results of tasks and queue-ready notices, off the request path.
 *
 * What is to be sent stands in Redis before anybody is told that it will be: the script that ends a
 * task puts an entry into the outbox of its queue shard, the script that decides on a notice into
 * the tenant's. Here entries are taken for a while, sent over HTTP, and settled; one that a dead
 * codeqd took is due again when that while is over. Delivery is at least once.
 *
 * One struct for the process, on one thread's loop (all functions but the two that say so). Its
 * Redis connections are passed in; what it begins on them is sent by their owner.
 * Source of the payloads, the signature and the modes: codeQ's notifier. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "service/config.h"
#include "service/metrics.h"
#include "service/ratelimit.h"
#include "store/store.h"

#define WEBHOOK_TAKE_MAX 16 /* entries taken from one shard at once */
#define WEBHOOK_SHARDS_MAX 65536 /* shards watched */
#define WEBHOOK_SETTLE_NS \
    (5 * NS_PER_SEC) /* beyond the HTTP time-out, until an entry is due again */
#define WEBHOOK_DISCOVERY_NS \
    (15 * NS_PER_SEC) /* outboxes and subscriptions that others made are found after this */
#define WEBHOOK_SUBSCRIPTIONS_MAX \
    450 /* of one tenant: a reply has CONN_NODES_MAX values at most \
         */

struct conn;
struct ev_loop;
struct webhook;

struct webhook_options {
    struct ev_loop *loop;
    const struct config *config;
    struct clock *clock;
    struct metrics *metrics;
    struct ratelimit *ratelimit; /* may be NULL */
    struct store *store;
    struct conn *(*conn)(void *arg); /* NULL: Redis cannot be reached now */
    void *conn_arg;
};

/* NULL with text. */
struct webhook *webhook_new(const struct webhook_options *options, struct err *err);

/* Before the store and the conn are closed it must be told: nothing new is begun, what is on its
 * way is given up (its entries stay in Redis). Free it when both are closed. NULL is fine for both.
 */
void webhook_stop(struct webhook *webhook);
void webhook_free(struct webhook *webhook);

/* A task with a webhook has ended in this shard, or the shard has become known: look at its outbox.
 * Any thread. NULL is fine. */
void webhook_poke(struct webhook *webhook, const char *tenant, uint16_t number, uint8_t shard);

/* Work has become ready. Costs one atomic read while nobody has subscribed. Any thread. NULL is
 * fine. */
void webhook_ready(struct webhook *webhook, const char *tenant, const char *command,
                   size_t command_bytes);

/* A subscription was made or extended through this codeqd: its notices begin at once. Any thread.
 */
void webhook_subscribed(struct webhook *webhook, const char *tenant);

/* Hex HMAC-SHA256 of "timestamp.body" under secret, 64 digits and a NUL. */
#define WEBHOOK_SIGNATURE_BYTES 65
void webhook_sign(const char *secret, int64_t timestamp_seconds, const char *body, size_t bytes,
                  char out[WEBHOOK_SIGNATURE_BYTES]);
