/* The Lua scripts, embedded at build time from lua/ by lua_embed.py. Constant; any thread. */
#pragma once

#include <stddef.h>

#define SCRIPT_SHA_BYTES 40

enum script_id {
    SCRIPT_OPEN,
    SCRIPT_INTERN,
    SCRIPT_CREATE,
    SCRIPT_CLAIM,
    SCRIPT_HEARTBEAT,
    SCRIPT_COMPLETE,
    SCRIPT_NACK,
    SCRIPT_ABANDON,
    SCRIPT_SWEEP,
    SCRIPT_GET,
    SCRIPT_STATS,
    SCRIPT_DEAD_LIST,
    SCRIPT_DEAD_TAKE,
    SCRIPT_DELETE,
    SCRIPT_QUEUES,
    SCRIPT_CLEANUP,
    /* the service's own: rate limits, webhooks, subscriptions, topics */
    SCRIPT_RATE,
    SCRIPT_OUTBOX_TAKE,
    SCRIPT_OUTBOX_SETTLE,
    SCRIPT_SUBSCRIBE,
    SCRIPT_SUBSCRIBERS,
    SCRIPT_NOTIFY,
    SCRIPT_TOPIC_PUT,
    SCRIPT_COUNT,
};

struct script {
    const char *name;
    const char *text;
    size_t bytes;
    char sha[SCRIPT_SHA_BYTES + 1]; /* of text, by which Redis calls it; lower-case hex */
};

extern const struct script store_scripts[SCRIPT_COUNT]; /* indexed by enum script_id */
