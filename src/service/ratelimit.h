/* Token buckets in Redis, one for each scope and token; off by default.
 *
 * One script call a check, on the connection that is passed in (not the operations' own), under the
 * key {tenant:token-hash}:rl:SCOPE, so that a Cluster spreads them. Where Redis does not answer the
 * request is let through: a limit must not become an outage. Both are counted apart from the
 * scheduler's own commands (METRICS_RATE_CHECKS, METRICS_RATE_CHECKS_FAILED).
 * A struct ratelimit belongs to one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "service/config.h"
#include "service/metrics.h"

struct conn;
struct ratelimit;

enum ratelimit_scope {
    RATELIMIT_PRODUCER, /* create */
    RATELIMIT_WORKER, /* claim */
    RATELIMIT_ADMIN, /* cleanup */
    RATELIMIT_WEBHOOK, /* deliver: the token is the receiver's host */
    RATELIMIT_SCOPES
};

/* NULL when no scope has a limit. */
struct ratelimit *ratelimit_new(const struct config *config, struct metrics *metrics);
void ratelimit_free(struct ratelimit *ratelimit);
bool ratelimit_is_on(const struct ratelimit *ratelimit, enum ratelimit_scope scope); /* NULL: no */

/* retry_after_ms: 0 means go on; else the least time until a request would pass. */
typedef void ratelimit_fn(void *arg, int64_t retry_after_ms);

/* Ask for one token. token_hash is hex (or any text of a-z, 0-9, '-', '.'). True: done will be
 * called once, later, out of conn's callbacks. False: there is no limit, or conn is NULL or full,
 * and the request goes on now; done is not called. */
bool ratelimit_take(struct ratelimit *ratelimit, struct conn *conn, enum ratelimit_scope scope,
                    const char *tenant, const char *token_hash, ratelimit_fn *done, void *arg);

/* Seconds for the header Retry-After: whole, rounded up, at least 1, so that a client that waits
 * them passes. */
int ratelimit_retry_after_seconds(int64_t retry_after_ms);

/* The answer's body as codeQ's: {"error","scope","operation","retryAfterSeconds"}. Counts the hit.
 */
void ratelimit_refusal(struct ratelimit *ratelimit, enum ratelimit_scope scope,
                       int64_t retry_after_ms, struct buf *out);
