/* Who sends a request and what they may do: bearer tokens to tenant, subject, scopes and event
 * types, by codeQ's rules.
 *
 * Two validators, producer and worker, each of one to four providers (static token or JWT with a
 * key set). A struct auth belongs to one thread: it keeps a bounded cache of verified tokens and
 * the key sets, but does no network I/O; whoever owns the event loop asks auth_fetch_next what to
 * fetch and hands it in by auth_fetch_done.
 *
 * No token is ever copied into an error text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "service/config.h"

#define AUTH_PROVIDERS_MAX 16 /* in one validator; codeQ takes 4 */
#define AUTH_TENANT_BYTES_MAX 63
#define AUTH_SUBJECT_BYTES_MAX 255
#define AUTH_EVENT_TYPES_MAX 64
#define AUTH_EVENT_TYPE_BYTES_MAX 255
#define AUTH_HEADER_BYTES_MAX 8200 /* of the Authorization header's value */
#define AUTH_TOKEN_HASH_BYTES 33 /* 32 hex digits and the NUL */
#define AUTH_CACHE_ENTRIES 1024
#define AUTH_DEVELOPMENT_TOKEN "dev-token" /* what codeQ's load scripts send */
#define AUTH_DEVELOPMENT_TENANT "dev-tenant"

/* How key sets are fetched. */
#define AUTH_KEYS_REFRESH_NS (300 * NS_PER_SEC) /* as in codeQ */
#define AUTH_KEYS_RETRY_NS (10 * NS_PER_SEC) /* least time between two tries, whatever arrives */
#define AUTH_KEYS_STALE_MAX_NS (3600 * NS_PER_SEC) /* an old set serves no longer than this */

enum auth_class {
    AUTH_PUBLIC, /* no token */
    AUTH_PRODUCER,
    AUTH_WORKER,
    AUTH_ANY, /* a worker with event types, or a producer */
    AUTH_ADMIN, /* a producer with the scope codeq:admin or the role ADMIN */
};

enum auth_scope {
    AUTH_SCOPE_NONE = 0,
    AUTH_SCOPE_CLAIM = 1 << 0,
    AUTH_SCOPE_HEARTBEAT = 1 << 1,
    AUTH_SCOPE_ABANDON = 1 << 2,
    AUTH_SCOPE_NACK = 1 << 3,
    AUTH_SCOPE_RESULT = 1 << 4,
    AUTH_SCOPE_SUBSCRIBE = 1 << 5,
    AUTH_SCOPE_ADMIN = 1 << 6,
};

struct identity {
    const char *tenant; /* ^[a-z][a-z0-9-]{1,62}$ */
    const char *subject; /* the worker's name; may be "" for a producer */
    unsigned scopes; /* enum auth_scope */
    bool admin;
    bool worker; /* accepted as a worker; false: as a producer */
    bool every_event_type; /* "*" */
    const char *const *event_types;
    size_t event_type_count;
    const char *token_hash; /* hex, for keys of rate limits; says nothing of the token */
};

struct auth_verdict {
    int status; /* 200, 401, 403, 500 (no validator for this class), 503 (keys not there yet) */
    const char *error; /* text for the answer; static storage; NULL on 200 */
    int retry_after_seconds; /* above 0 with 503 */
    struct identity identity; /* on 200; its pointers are valid until the next call on this auth */
};

struct auth;

/* NULL with text that names the setting. Reads key set files; fetches nothing. config is borrowed
 * for the call only. */
struct auth *auth_new(const struct config *config, struct clock *clock, struct err *err);
void auth_free(struct auth *auth);

/* Judge one request. authorization is the header's value (NULL when absent), role the value of
 * X-Role (NULL when absent), which counts only with env "dev" and a token without a role. scopes:
 * all of these must be there (workers only), else 403. */
void auth_check(struct auth *auth, enum auth_class class, unsigned scopes,
                const char *authorization, size_t authorization_bytes, const char *role,
                struct auth_verdict *out);

/* Whether the identity may claim command. */
bool identity_allows(const struct identity *identity, const char *command);

/* A key set that should be fetched now: true once, then it counts as on its way until
 * auth_fetch_done with the same number. Bounded: one at a time for each set, AUTH_KEYS_RETRY_NS
 * between tries. */
struct auth_fetch {
    size_t number;
    const char *url; /* valid as long as auth */
    int64_t timeout_ns;
};
bool auth_fetch_next(struct auth *auth, struct auth_fetch *out);

/* The body that came, or NULL with text NULL when the fetch failed. A set that cannot be parsed
 * leaves the old one in place: -EINVAL with text. */
int auth_fetch_done(struct auth *auth, size_t number, const char *text, size_t bytes,
                    struct err *err);

/* When auth_fetch_next should be asked again (monotonic); INT64_MAX: never. */
int64_t auth_fetch_due_ns(const struct auth *auth);
