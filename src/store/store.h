/* The scheduler's operations on Redis, asynchronous, each one atomic script and one round trip.
 *
 * A `struct store` is one Redis connection with its scripts. It belongs to one thread and one event
 * loop. Every operation is variadic (1..STORE_TASKS_MAX items of one queue shard), is put into the
 * output buffer at once, leaves with the next store_flush or store_on_ready, and ends in exactly
 * one call of its callback, never from inside the call that started it. Callbacks come in order,
 * but for operations that a restarted Redis did not know the script of: these are sent again and
 * come later. Replies are borrowed for the length of the callback. Arguments are copied before the
 * call returns.
 *
 * Lock step is the same code: start an operation, then store_wait.
 *
 * The store treats bodies, results and worker names as bytes. It knows nothing of HTTP or JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "sched/backoff.h"
#include "sched/lease.h"
#include "sched/task.h"

#define STORE_TASKS_MAX 256 /* items in one call; GATHER_TASKS_MAX of the contracts */
#define STORE_PENDING_MAX 65536 /* operations in flight; past it -EAGAIN */
#define STORE_BODY_BYTES_MAX (16 * 1024 * 1024) /* a body, a result; past it -EINVAL */
#define STORE_NAME_BYTES_MAX 1024 /* a command, worker, idempotency key, reason */
#define STORE_OUTPUT_BYTES_MAX \
    (1024 * 1024 * 1024) /* not yet answered requests; past it -EAGAIN \
                          */
#define STORE_DELAY_MS_MAX (INT64_C(10) * 366 * 24 * 3600 * 1000) /* of create; past it -EINVAL */
#define STORE_RUN_AT_MS_MAX INT64_C(9999999999999) /* the year 2286 */

struct store;

struct store_options {
    const char *url; /* "unix:/path/redis.sock", "redis://[user:password@]host[:port][/db]" */
    const struct conn_tls *tls; /* for "rediss://...", from tls.h; NULL: refused */
    struct clock *clock;
    uint64_t seed; /* of task ids and jitter */
    int64_t connect_timeout_ns;
    int64_t command_timeout_ns; /* no reply within: the operation ends with STORE_UNKNOWN */
    int64_t retention_ms; /* of finished tasks and idempotency keys; default 24 h */
    struct backoff_policy backoff;
    uint8_t shard_count; /* of queues this store is the first to intern; 0: 1 */
    /* Name of the process, 16 hex digits, that its claims wait under: work that others make ready
     * is published to it (store_listen), work of stores with the same name is not. NULL: one that
     * nobody has. */
    const char *instance;
};

/* How an operation ended as a whole. */
enum store_status {
    STORE_OK = 0, /* Redis ran the script; each item has its own verdict */
    STORE_UNAVAILABLE, /* not sent, or refused before it acted (LOADING, READONLY, OOM, closed):
                          safe to retry */
    STORE_UNKNOWN, /* sent, no reply: may or may not have happened */
    STORE_ERROR, /* Redis or a script refused: a fault of ours or of the set-up; see err */
};

/* The verdict on one item. */
enum store_verdict {
    STORE_DONE = 0,
    STORE_DUPLICATE, /* create: the idempotency key names an earlier task; complete: this very token
                        already completed it */
    STORE_LOST, /* the token's lease has moved on or its deadline has passed */
    STORE_NOT_OWNER, /* no token given, and the lease is another worker's */
    STORE_NOT_LEASED, /* no token given, and the task is not under a lease (ready, delayed, dead,
                         finished) */
    STORE_NOT_FOUND,
};

/* One shard of one queue. Plain value; tenant is borrowed for the call. Source: store_intern. */
struct store_queue {
    const char *tenant; /* ^[a-z][a-z0-9-]{1,62}$ */
    uint16_t number;
    uint8_t shard;
};

struct store_bytes {
    const char *data;
    size_t bytes;
};

struct store_call_result {
    enum store_status status;
    bool died; /* claim: tasks whose lease ran out have gone to the dead letters meanwhile */
    int64_t next_due_ms; /* claim that waits: when a lease or delay of the shard ends; 0: none */
    struct err err; /* text unless STORE_OK */
};

/* ---- life ---- */

/* Connect (blocking, within connect_timeout_ns), check the format version key, load the scripts.
 * NULL with text that says what to do. */
struct store *store_open(const struct store_options *options, struct err *err);
void store_close(
    struct store *store); /* operations in flight end with STORE_UNAVAILABLE or STORE_UNKNOWN */

/* ---- the event loop's door ---- */
int store_fd(const struct store *store); /* changes after a reconnect: ask every turn */
bool store_wants_write(const struct store *store);
int64_t store_deadline_ns(
    const struct store *store); /* call store_on_ready by then; INT64_MAX: none */
void store_flush(struct store *store); /* one write of what has gathered */
void store_on_ready(struct store *store, bool readable, bool writable);

size_t store_pending(const struct store *store); /* operations in flight */

/* Lock step: run I/O until nothing is in flight or deadline_ns. 0 or -ETIMEDOUT. */
int store_wait(struct store *store, int64_t deadline_ns);

/* Sent and received so far on this connection, for the lab. */
struct store_counters {
    uint64_t round_trips; /* writes that carried at least one command and were answered */
    uint64_t commands;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t losses; /* of the connection: what was under way then may have happened unseen */
};
void store_counters(const struct store *store, struct store_counters *out);

/* ---- queues ---- */

/* Give the queue of (tenant, command) its number, making it when it is new. */
typedef void store_intern_fn(void *arg, const struct store_call_result *call,
                             const struct store_queue *queue, uint8_t shard_count);
int store_intern(struct store *store, const char *tenant, struct store_bytes command,
                 store_intern_fn *done, void *arg);

/* Read a tenant's queues, a part a call: cursor 0 first, then what the callback was given, until
 * that is 0. A queue may come twice. */
struct store_queue_list {
    const char *next; /* for store_queue_list_next */
    const char *end;
};
typedef void store_queues_fn(void *arg, const struct store_call_result *call, uint64_t cursor,
                             struct store_queue_list list);
int store_queues(struct store *store, const char *tenant, uint64_t cursor, store_queues_fn *done,
                 void *arg);
/* 1 and the next one, borrowed for the callback; 0: no more; -EPROTO: that is no such list. */
int store_queue_list_next(struct store_queue_list *list, struct store_bytes *out_command,
                          uint16_t *out_number, uint8_t *out_shard_count);

/* ---- operations: 0 when queued, -EAGAIN past STORE_PENDING_MAX, -EINVAL on a wrong argument ----
 */

struct store_create_item {
    uint8_t priority; /* 0..9, 9 first */
    uint16_t max_attempts; /* 1..65535 */
    int64_t delay_ms; /* from now by Redis time; 0: at once */
    int64_t run_at_ms; /* Unix ms; 0: none; beats delay_ms */
    struct store_bytes key; /* idempotency key; empty: none */
    struct store_bytes body; /* kept and given back as it is */
    bool wants_outbox; /* put an entry into the outbox when the task ends (webhook) */
};
struct store_create_verdict {
    enum store_verdict verdict; /* STORE_DONE or STORE_DUPLICATE */
    struct task_id id; /* the earlier task's on STORE_DUPLICATE */
    int64_t created_ms;
    bool delayed;
};
typedef void store_create_fn(void *arg, const struct store_call_result *call,
                             const struct store_create_verdict *items, size_t count);
int store_create(struct store *store, const struct store_queue *queue,
                 const struct store_create_item *items, size_t count, store_create_fn *done,
                 void *arg);

struct store_claim_item { /* one claimer: dealt in arrival order */
    uint16_t count; /* tasks wanted; the sum over items is at most STORE_TASKS_MAX */
    int64_t lease_ms; /* 1..LEASE_MS_MAX */
    struct store_bytes worker;
    bool waits; /* where it gets less than it wants, the store's instance is told of later work */
};
struct store_claimed {
    size_t claimer; /* index of the item that gets it */
    struct task_member
        member; /* id, priority, attempts, max, generation: also the delivery token */
    int64_t lease_until_ms;
    struct store_bytes body;
};
typedef void store_claim_fn(void *arg, const struct store_call_result *call,
                            const struct store_claimed *tasks, size_t count);
int store_claim(struct store *store, const struct store_queue *queue,
                const struct store_claim_item *items, size_t count, store_claim_fn *done,
                void *arg);

/* What names a lease: the token (the member) when has_token, else id and worker. */
struct store_lease_ref {
    bool has_token;
    struct task_member token; /* without a token only token.id is read */
    struct store_bytes worker;
};

struct store_heartbeat_item {
    struct store_lease_ref lease;
    int64_t extend_ms; /* new deadline = now + extend_ms */
};
struct store_complete_item {
    struct store_lease_ref lease;
    bool failed; /* FAILED instead of COMPLETED */
    struct store_bytes result; /* kept as it is for retention_ms */
};
struct store_nack_item {
    struct store_lease_ref lease;
    int64_t delay_ms; /* <= 0: by the backoff policy; capped at backoff.max_ms */
    struct store_bytes reason;
};
struct store_abandon_item {
    struct store_lease_ref lease;
};
struct store_return_verdict { /* of heartbeat, complete, nack, abandon */
    enum store_verdict verdict;
    bool dead; /* nack: went to the dead letters */
    bool outbox; /* complete: a webhook's entry was put into the outbox */
    int64_t delay_ms; /* nack: until it is ready again */
    int64_t lease_until_ms; /* heartbeat */
    int64_t ended_ms; /* complete */
};
typedef void store_return_fn(void *arg, const struct store_call_result *call,
                             const struct store_return_verdict *items, size_t count);
int store_heartbeat(struct store *store, const struct store_queue *queue,
                    const struct store_heartbeat_item *items, size_t count, store_return_fn *done,
                    void *arg);
int store_complete(struct store *store, const struct store_queue *queue,
                   const struct store_complete_item *items, size_t count, store_return_fn *done,
                   void *arg);
int store_nack(struct store *store, const struct store_queue *queue,
               const struct store_nack_item *items, size_t count, store_return_fn *done, void *arg);
int store_abandon(struct store *store, const struct store_queue *queue,
                  const struct store_abandon_item *items, size_t count, store_return_fn *done,
                  void *arg);

/* Take back expired leases and promote due delayed tasks, at most limit of each, in deadline order.
 */
struct store_sweep_result {
    uint32_t reaped;
    uint32_t dead; /* of the reaped: went to the dead letters */
    uint32_t promoted;
    int64_t next_due_ms; /* earliest deadline or due time left, Unix ms; 0: none */
    int64_t now_ms;
};
typedef void store_sweep_fn(void *arg, const struct store_call_result *call,
                            const struct store_sweep_result *result);
int store_sweep(struct store *store, const struct store_queue *queue, uint16_t limit,
                store_sweep_fn *done, void *arg);

/* Read one task. state TASK_NONE: not found. */
struct store_task {
    enum task_state state;
    struct task_member member;
    int64_t updated_ms;
    int64_t due_ms; /* delayed: due time; leased: lease_until; else 0 */
    struct store_bytes worker; /* leased */
    struct store_bytes reason; /* of the last nack or expiry; "" otherwise */
    struct store_bytes body;
    struct store_bytes result; /* finished */
};
typedef void store_get_fn(void *arg, const struct store_call_result *call,
                          const struct store_task *tasks, size_t count);
int store_get(struct store *store, const struct store_queue *queue, const struct task_id *ids,
              size_t count, store_get_fn *done, void *arg);

/* Counts of one shard. created = delayed + ready + leased + completed + failed + dead + purged -
 * replayed holds after every script; dead counts entries into the dead letters, dead_now what lies
 * there: dead = dead_now + replayed + dead_purged. purged counts tasks deleted before they had
 * ended. */
struct store_stats {
    uint64_t ready, delayed, leased, dead_now;
    uint64_t created, completed, failed, dead, purged, replayed, dead_purged, duplicates, reaped;
    int64_t oldest_ready_ms; /* when the longest-waiting ready task became ready; 0: none */
};
typedef void store_stats_fn(void *arg, const struct store_call_result *call,
                            const struct store_stats *stats);
int store_stats(struct store *store, const struct store_queue *queue, store_stats_fn *done,
                void *arg);

/* ---- dead letters and deletion ---- */

#define STORE_DEAD_PAGE_MAX 100

/* A page of the dead letters, longest dead first. state is TASK_DEAD; due_ms is when it died. */
typedef void store_dead_list_fn(void *arg, const struct store_call_result *call, uint64_t total,
                                const struct store_task *tasks, size_t count);
int store_dead_list(struct store *store, const struct store_queue *queue, uint32_t skip,
                    uint16_t limit, store_dead_list_fn *done, void *arg);

/* Replay (ready again, attempts 0) or purge: these ids, or with count 0 the longest dead that died
 * by died_by_ms, at most STORE_TASKS_MAX a call: call again while taken is that many. Ids that are
 * not dead are passed over. Not repeated after a lost reply: the count would be wrong. */
typedef void store_dead_take_fn(void *arg, const struct store_call_result *call, uint32_t taken,
                                uint64_t left);
int store_dead_replay(struct store *store, const struct store_queue *queue,
                      const struct task_id *ids, size_t count, int64_t died_by_ms,
                      store_dead_take_fn *done, void *arg);
int store_dead_purge(struct store *store, const struct store_queue *queue,
                     const struct task_id *ids, size_t count, int64_t died_by_ms,
                     store_dead_take_fn *done, void *arg);

/* Delete finished tasks that ended by ended_by_ms (Unix ms), at most limit (1..STORE_TASKS_MAX), of
 * one part of the shard: cursor "" first, then what the callback was given, until that is "". */
#define STORE_CURSOR_BYTES_MAX 24
typedef void store_cleanup_fn(void *arg, const struct store_call_result *call, uint32_t deleted,
                              const char *cursor);
int store_cleanup(struct store *store, const struct store_queue *queue, int64_t ended_by_ms,
                  uint16_t limit, const char *cursor, store_cleanup_fn *done, void *arg);

/* Delete tasks whatever their state; under a lease only with force. */
enum store_deleted { STORE_DELETED, STORE_DELETE_LEASED, STORE_DELETE_NOT_FOUND };
typedef void store_delete_fn(void *arg, const struct store_call_result *call,
                             const enum store_deleted *items, size_t count);
int store_delete(struct store *store, const struct store_queue *queue, const struct task_id *ids,
                 size_t count, bool force, store_delete_fn *done, void *arg);
