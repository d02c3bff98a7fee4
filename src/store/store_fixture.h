/* Tests only: the operations in lock step, one item each unless a name says otherwise, on a private
 * Redis, with replies copied out of their callbacks. Every function fails the running test when the
 * call itself does not end with STORE_OK, but for the ..._call forms, which return the status. */
#pragma once

#include "base/test.h"

#include "base/redis_server.h"
#include "store/script.h"
#include "store/store.h"

#define FIXTURE_SCRIPT_SETS_MAX 32
#define FIXTURE_T0_US \
    INT64_C(2208988800000000) /* 2040-01-01, for stores whose time stands still \
                               */
#define FIXTURE_T0_MS (FIXTURE_T0_US / 1000)

struct fixture {
    struct redis_server server;
    struct redis_server_options server_options;
    char url[160];
    struct store_options options;
    struct store *store;
    struct store_queue queue;
    struct err err; /* of the last call */
    void *raw; /* connection of redis_do */
    unsigned queues; /* made by fixture_new_queue */
    struct script *script_sets[FIXTURE_SCRIPT_SETS_MAX];
    size_t script_set_count;
};

/* A server, and a store on it with one queue "work" of tenant "acme". Give it zeroed but for
 * server_options.config. */
void fixture_start(struct fixture *fixture);
void fixture_stop(struct fixture *fixture);

/* Make f->queue a new, empty one. */
void fixture_new_queue(struct fixture *fixture);

/* For cmocka: a group's fixture with plain options in *state; a new queue for a test; and, for
 * tests that move the clock, a store of still time at FIXTURE_T0_US until the test is over. */
int fixture_group_start(void **state);
int fixture_group_stop(void **state);
int fixture_queue_start(void **state);
int fixture_still_start(void **state);
int fixture_still_stop(void **state);

/* A copy for another thread, with a connection for raw commands of its own. */
void fixture_share(const struct fixture *fixture, struct fixture *out_copy);
void fixture_unshare(struct fixture *copy);

/* One edit of one script; `from` must stand there exactly once. */
struct patch {
    enum script_id script;
    const char *from;
    const char *to;
};

/* A store whose scripts read the time that fixture_set_time wrote instead of Redis's, and with
 * patch, when not NULL, applied. Options may be changed through options, when not NULL. */
struct store *fixture_open_patched(struct fixture *fixture, const struct store_options *options,
                                   const struct patch *patch);
void fixture_set_time(struct fixture *fixture, int64_t unix_us);

/* Another store on the same server. */
struct store *fixture_open(struct fixture *fixture, uint64_t seed);

struct store_bytes bytes_of(const char *text);

/* A raw command to the fixture's Redis on a connection of its own; the reply as one line of text:
 * integers and strings as they are, arrays with their elements joined by ' ', nil as "nil", errors
 * with a '-' in front. The caller frees it. For commands that the store does not send. */
char *redis_do(struct fixture *fixture, int argc, const char *const *argv, const size_t *bytes);
char *redis_text(struct fixture *fixture, const char *command); /* words parted by spaces */
int64_t redis_number(struct fixture *fixture, const char *command);

/* ---- lock step ---- */

struct claimed {
    size_t claimer;
    struct task_member member;
    int64_t lease_until_ms;
    char *body; /* of body_bytes; freed by claimed_free */
    size_t body_bytes;
};
struct claims {
    size_t count;
    struct claimed tasks[STORE_TASKS_MAX];
};
void claims_free(struct claims *claims);

struct got {
    enum task_state state;
    struct task_member member;
    int64_t updated_ms;
    int64_t due_ms;
    char worker[128];
    char reason[128];
    char *body;
    size_t body_bytes;
    char *result;
    size_t result_bytes;
};
void got_free(struct got *got);

struct store_queue intern(struct fixture *f, struct store *store, const char *tenant,
                          struct store_bytes command);

enum store_status create_call(struct fixture *f, struct store *store,
                              const struct store_create_item *items, size_t count,
                              struct store_create_verdict *out);
enum store_status claim_call(struct fixture *f, struct store *store,
                             const struct store_claim_item *items, size_t count,
                             struct claims *out);
enum store_status heartbeat_call(struct fixture *f, struct store *store,
                                 const struct store_heartbeat_item *items, size_t count,
                                 struct store_return_verdict *out);
enum store_status complete_call(struct fixture *f, struct store *store,
                                const struct store_complete_item *items, size_t count,
                                struct store_return_verdict *out);
enum store_status nack_call(struct fixture *f, struct store *store,
                            const struct store_nack_item *items, size_t count,
                            struct store_return_verdict *out);
enum store_status abandon_call(struct fixture *f, struct store *store,
                               const struct store_abandon_item *items, size_t count,
                               struct store_return_verdict *out);
enum store_status sweep_call(struct fixture *f, struct store *store, uint16_t limit,
                             struct store_sweep_result *out);
enum store_status get_call(struct fixture *f, struct store *store, const struct task_id *id,
                           struct got *out);
enum store_status stats_call(struct fixture *f, struct store *store, struct store_stats *out);

/* One item by token on fixture->store; STORE_OK is asserted. */
struct task_id create_one(struct fixture *f, uint8_t priority, const char *body);
bool claim_one(struct fixture *f, int64_t lease_ms, struct task_member *out); /* by "w" */
enum store_verdict complete_one(struct fixture *f, const struct task_member *token);
struct store_return_verdict nack_one(struct fixture *f, const struct task_member *token,
                                     int64_t delay_ms);
enum store_verdict abandon_one(struct fixture *f, const struct task_member *token);
enum store_verdict heartbeat_one(struct fixture *f, const struct task_member *token,
                                 int64_t extend_ms);
enum task_state state_of_task(struct fixture *f, const struct task_id *id);
struct store_stats stats_now(struct fixture *f);

/* The accounting identities, and that body, current and the sorted sets name the same tasks. Fails
 * the test when one does not hold. */
void assert_accounts(struct fixture *f);

/* Wait for Redis's clock to reach unix_ms (at most 10 s). */
void wait_for_redis_time(struct fixture *f, int64_t unix_ms);
int64_t redis_now_ms(struct fixture *f);
