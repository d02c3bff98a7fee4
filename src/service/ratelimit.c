#include "service/ratelimit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/conn.h"

#define KEY_BYTES_MAX 256

struct ratelimit {
    struct metrics *metrics;
    struct config_bucket buckets[RATELIMIT_SCOPES];
};

static const struct {
    const char *scope;
    const char *operation;
    enum metrics_counter hits;
} NAMES[RATELIMIT_SCOPES] = {
    [RATELIMIT_PRODUCER] = {"producer", "create_task", METRICS_RATE_HITS_PRODUCER},
    [RATELIMIT_WORKER] = {"worker", "claim", METRICS_RATE_HITS_WORKER},
    [RATELIMIT_ADMIN] = {"admin", "cleanup", METRICS_RATE_HITS_ADMIN},
    [RATELIMIT_WEBHOOK] = {"webhook", "deliver", METRICS_RATE_HITS_WEBHOOK},
};

struct ratelimit *ratelimit_new(const struct config *config, struct metrics *metrics)
{
    struct ratelimit *ratelimit = calloc(1, sizeof *ratelimit);
    if (ratelimit == NULL) {
        abort();
    }
    *ratelimit = (struct ratelimit){metrics,
                                    {
                                        [RATELIMIT_PRODUCER] = config->rate_producer,
                                        [RATELIMIT_WORKER] = config->rate_worker,
                                        [RATELIMIT_ADMIN] = config->rate_admin,
                                        [RATELIMIT_WEBHOOK] = config->rate_webhook,
                                    }};
    for (int scope = 0; scope < RATELIMIT_SCOPES; scope++) {
        if (ratelimit_is_on(ratelimit, (enum ratelimit_scope)scope)) {
            return ratelimit;
        }
    }
    free(ratelimit);
    return NULL;
}

void ratelimit_free(struct ratelimit *ratelimit)
{
    free(ratelimit);
}

bool ratelimit_is_on(const struct ratelimit *ratelimit, enum ratelimit_scope scope)
{
    return ratelimit != NULL && ratelimit->buckets[scope].requests_per_minute > 0 &&
           ratelimit->buckets[scope].burst > 0;
}

static void on_reply(void *owner, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    struct ratelimit *ratelimit = owner;
    (void)err;
    int64_t wait_ms = 0;
    if (status == CONN_OK && reply->count == 1 && reply->nodes[0].type == CONN_INTEGER &&
        reply->nodes[0].integer >= 0) {
        wait_ms = reply->nodes[0].integer;
    } else {
        metrics_count(ratelimit->metrics, METRICS_RATE_CHECKS_FAILED, 1);
    }
    ((ratelimit_fn *)call->user_done)(call->user_arg, wait_ms);
}

bool ratelimit_take(struct ratelimit *ratelimit, struct conn *conn, enum ratelimit_scope scope,
                    const char *tenant, const char *token_hash, ratelimit_fn *done, void *arg)
{
    if (!ratelimit_is_on(ratelimit, scope)) {
        return false;
    }
    char key[KEY_BYTES_MAX];
    int n = snprintf(key, sizeof key, "{%s:%s}:rl:%s", tenant, token_hash, NAMES[scope].scope);
    metrics_count(ratelimit->metrics, METRICS_RATE_CHECKS, 1);
    if (conn == NULL || n < 0 || (size_t)n >= sizeof key) {
        metrics_count(ratelimit->metrics, METRICS_RATE_CHECKS_FAILED, 1);
        return false;
    }
    const struct script *script = &store_scripts[SCRIPT_RATE];
    conn_begin(conn, 6);
    conn_arg(conn, "EVALSHA", 7);
    conn_arg(conn, script->sha, SCRIPT_SHA_BYTES);
    conn_arg(conn, "1", 1);
    conn_arg(conn, key, (size_t)n);
    conn_arg_int(conn, ratelimit->buckets[scope].requests_per_minute);
    conn_arg_int(conn, ratelimit->buckets[scope].burst);
    struct conn_call call = {
        .done = on_reply,
        .owner = ratelimit,
        .user_done = (void (*)(void))done,
        .user_arg = arg,
        .script = script,
    };
    if (conn_end(conn, &call) != 0) {
        metrics_count(ratelimit->metrics, METRICS_RATE_CHECKS_FAILED, 1);
        return false;
    }
    return true;
}

int ratelimit_retry_after_seconds(int64_t retry_after_ms)
{
    int64_t seconds = retry_after_ms / 1000 + (retry_after_ms % 1000 != 0);
    return seconds < 1 ? 1 : seconds > 86400 ? 86400 : (int)seconds;
}

void ratelimit_refusal(struct ratelimit *ratelimit, enum ratelimit_scope scope,
                       int64_t retry_after_ms, struct buf *out)
{
    metrics_count(ratelimit->metrics, NAMES[scope].hits, 1);
    buf_printf(out,
               "{\"error\":\"rate limit exceeded\",\"scope\":\"%s\",\"operation\":\"%s\","
               "\"retryAfterSeconds\":%d}",
               NAMES[scope].scope, NAMES[scope].operation,
               ratelimit_retry_after_seconds(retry_after_ms));
}
