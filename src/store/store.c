#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/keys.h"
#include "store/store_internal.h"

#define RETENTION_MS_DEFAULT (INT64_C(24) * 3600 * 1000)
#define RETENTION_MS_MAX (INT64_C(366) * 24 * 3600 * 1000)
#define CONNECT_TIMEOUT_NS_DEFAULT (INT64_C(5) * NS_PER_SEC)
#define COMMAND_TIMEOUT_NS_DEFAULT (INT64_C(5) * NS_PER_SEC)
#define MAKER_SEED_BITS 16

void store_call_result(struct store_call_result *out, enum conn_status status,
                       const struct err *err)
{
    static const enum store_status of[] = {
        [CONN_OK] = STORE_OK,
        [CONN_UNAVAILABLE] = STORE_UNAVAILABLE,
        [CONN_UNKNOWN] = STORE_UNKNOWN,
        [CONN_ERROR] = STORE_ERROR,
    };
    out->status = of[status];
    out->died = false;
    out->next_due_ms = 0;
    if (status == CONN_OK) {
        out->err.text[0] = '\0';
    } else {
        out->err = *err;
    }
}

/* ---- opening ---- */

struct opening {
    const struct script *script;
    enum conn_status status;
    struct err err;
    bool answered;
    bool makes_sense;
    char format[64];
    int64_t maker;
};

static void on_loaded(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct opening *opening = call->user_arg;
    opening->answered = true;
    if (status != CONN_OK) {
        opening->status = status;
        opening->err = *err;
        return;
    }
    const struct conn_node *node = reply->nodes;
    if (node->type != CONN_STRING || node->bytes != SCRIPT_SHA_BYTES ||
        memcmp(node->data, opening->script->sha, SCRIPT_SHA_BYTES) != 0) {
        opening->status = CONN_ERROR;
        err_set(&opening->err, 0, "script %s was loaded under another name than its SHA-1 %s",
                opening->script->name, opening->script->sha);
    }
}

static void on_opened(void *owner, struct conn_call *call, enum conn_status status,
                      const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct opening *opening = call->user_arg;
    opening->answered = true;
    opening->status = status;
    if (status != CONN_OK) {
        opening->err = *err;
        return;
    }
    const struct conn_node *nodes = reply->nodes;
    opening->makes_sense = reply->count == 3 && nodes[0].type == CONN_ARRAY &&
                           nodes[1].type == CONN_STRING && nodes[2].type == CONN_INTEGER;
    if (opening->makes_sense) {
        snprintf(opening->format, sizeof opening->format, "%.*s",
                 nodes[1].bytes < 40 ? (int)nodes[1].bytes : 40, nodes[1].data);
        opening->maker = nodes[2].integer;
    }
}

/* One request of the opening, in lock step. Again while Redis is loading, until deadline_ns. */
static int open_step(struct store *store, const struct script *script, bool load,
                     struct opening *opening, int64_t deadline_ns, struct err *err)
{
    for (;;) {
        *opening = (struct opening){.script = script};
        struct conn_call call = {.owner = store,
                                 .user_arg = opening,
                                 .repeatable = true,
                                 .script = load ? NULL : script};
        if (load) {
            call.done = on_loaded;
            conn_begin(store->conn, 3);
            conn_arg(store->conn, "SCRIPT", 6);
            conn_arg(store->conn, "LOAD", 4);
            conn_arg(store->conn, script->text, script->bytes);
        } else {
            call.done = on_opened;
            conn_begin(store->conn, 5);
            conn_arg(store->conn, "EVALSHA", 7);
            conn_arg(store->conn, script->sha, SCRIPT_SHA_BYTES);
            conn_arg(store->conn, "1", 1);
            conn_arg(store->conn, KEYS_META, strlen(KEYS_META));
            conn_arg(store->conn, KEYS_FORMAT, strlen(KEYS_FORMAT));
        }
        int rc = conn_end(store->conn, &call);
        if (rc != 0) {
            return err_set(err, rc, "out of memory");
        }
        conn_wait(store->conn, INT64_MAX); /* ends by the request's own time-out */
        if (opening->status == CONN_OK) {
            return 0;
        }
        bool later = opening->status != CONN_ERROR;
        if (!later || clock_monotonic_ns(store->clock) >= deadline_ns) {
            return err_set(err, later ? -EAGAIN : -EIO, "%s", opening->err.text);
        }
        struct timespec pause = {0, 10 * NS_PER_MS};
        nanosleep(&pause, NULL);
    }
}

static int open_scripts(struct store *store, int64_t deadline_ns, struct err *err)
{
    struct opening opening;
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        int rc = open_step(store, &store->scripts[i], true, &opening, deadline_ns, err);
        if (rc != 0) {
            return rc;
        }
    }
    int rc = open_step(store, &store->scripts[SCRIPT_OPEN], false, &opening, deadline_ns, err);
    if (rc != 0) {
        return rc;
    }
    if (!opening.makes_sense) {
        return err_set(err, -EPROTO, "redis: the reply to open makes no sense: is it a Redis?");
    }
    if (strcmp(opening.format, KEYS_FORMAT) != 0) {
        return err_set(
            err, -EPROTONOSUPPORT,
            "redis: it holds tasks in format '%s', this program knows format '%s': use a "
            "program of that version, or another database",
            opening.format, KEYS_FORMAT);
    }
    /* Redis numbers the stores; the seed's bits keep two apart even where Redis lost its count. */
    task_id_maker_init(&store->ids, (uint64_t)opening.maker << MAKER_SEED_BITS |
                                        (rng_next(&store->rng) & ((1u << MAKER_SEED_BITS) - 1)));
    return 0;
}

struct store *store_open_scripts(const struct store_options *options, const struct script *scripts,
                                 struct err *err)
{
    int64_t retention_ms =
        options->retention_ms != 0 ? options->retention_ms : RETENTION_MS_DEFAULT;
    if (retention_ms < 1 || retention_ms > RETENTION_MS_MAX) {
        err_set(err, -EINVAL, "retention is %lld ms: give 1 ms to 366 days",
                (long long)retention_ms);
        return NULL;
    }
    if (!backoff_policy_valid(&options->backoff)) {
        err_set(err, -EINVAL, "backoff: base and maximum must lie in 0 to 7 days");
        return NULL;
    }
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    store->scripts = scripts;
    store->clock = options->clock != NULL ? options->clock : clock_system();
    store->backoff = options->backoff;
    store->shard_count = options->shard_count != 0 ? options->shard_count : 1;
    rng_init(&store->rng, options->seed);
    char instance[KEYS_INSTANCE_BYTES + 1];
    snprintf(instance, sizeof instance, "%016llx", (unsigned long long)rng_next(&store->rng));
    if (options->instance != NULL) {
        assert(strlen(options->instance) == KEYS_INSTANCE_BYTES);
        memcpy(instance, options->instance, sizeof instance);
    }
    store->retention_bytes = (size_t)snprintf(store->retention, sizeof store->retention, "%s%lld",
                                              instance, (long long)retention_ms);
    store->policy_bytes = (size_t)snprintf(
        store->policy, sizeof store->policy, "%d %lld %lld ", (int)options->backoff.kind,
        (long long)options->backoff.base_ms, (long long)options->backoff.max_ms);

    struct conn_options conn_options = {
        .url = options->url,
        .tls = options->tls,
        .clock = store->clock,
        .connect_timeout_ns = options->connect_timeout_ns > 0 ? options->connect_timeout_ns
                                                              : CONNECT_TIMEOUT_NS_DEFAULT,
        .command_timeout_ns = options->command_timeout_ns > 0 ? options->command_timeout_ns
                                                              : COMMAND_TIMEOUT_NS_DEFAULT,
    };
    int64_t deadline_ns = clock_monotonic_ns(store->clock) + conn_options.connect_timeout_ns;
    store->conn = conn_open(&conn_options, err);
    if (store->conn == NULL || open_scripts(store, deadline_ns, err) != 0) {
        store_close(store);
        return NULL;
    }
    return store;
}

struct store *store_open(const struct store_options *options, struct err *err)
{
    return store_open_scripts(options, store_scripts, err);
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    conn_close(store->conn);
    free(store);
}

/* ---- the event loop's door ---- */

int store_fd(const struct store *store)
{
    return conn_fd(store->conn);
}

bool store_wants_write(const struct store *store)
{
    return conn_wants_write(store->conn);
}

int64_t store_deadline_ns(const struct store *store)
{
    return conn_deadline_ns(store->conn);
}

void store_flush(struct store *store)
{
    conn_flush(store->conn);
}

void store_on_ready(struct store *store, bool readable, bool writable)
{
    conn_on_ready(store->conn, readable, writable);
}

size_t store_pending(const struct store *store)
{
    return conn_pending(store->conn);
}

int store_wait(struct store *store, int64_t deadline_ns)
{
    return conn_wait(store->conn, deadline_ns);
}

void store_counters(const struct store *store, struct store_counters *out)
{
    struct conn_counters counters;
    conn_counters(store->conn, &counters);
    *out = (struct store_counters){counters.round_trips, counters.commands, counters.bytes_sent,
                                   counters.bytes_received, counters.losses};
}
