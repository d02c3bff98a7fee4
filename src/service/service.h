/* What the parts of the service share: one thread's service, a request, the table of routes.
 *
 * A `struct service` is one event loop with its own Redis connections, its own auth and its own
 * gathering; codeqd runs one a thread and they share only what service_shared holds. Everything in
 * this header is called from the loop's thread.
 *
 * A request lives from the moment its last byte has arrived until it is answered. Until then its
 * texts (path parameters, query, headers, body, identity) stay where they are, so a handler may
 * keep pointers to them over a round trip to Redis. It is answered exactly once, at any later time,
 * by one of the request_answer functions; the client may be gone by then, which changes nothing for
 * the handler. Requests of one connection are handed out one after another. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "service/auth.h"
#include "service/config.h"
#include "service/http.h"
#include "store/store.h"

struct conn;
struct ev_loop;
struct gather;
struct metrics;
struct queues;
struct reaper;
struct request;
struct result_wait;
struct waiters;
struct webhook;
struct ratelimit;

#define RESULT_SLOTS 256

/* One for the process. */
struct service_shared;

struct service {
    const struct config *config;
    struct service_shared *shared;
    struct clock *clock;
    int64_t now_ns; /* monotonic, read once a turn */
    int64_t started_ns;
    struct ev_loop *loop;
    struct http *http;
    struct auth *auth;
    struct store *store; /* the scheduler's operations; used through gather */
    struct conn *conn; /* scripts of subscriptions, topics, rate limits, webhooks; what is
                          begun in a turn is sent at its end; NULL until one is needed:
                          service_conn */
    struct gather *gather;
    struct queues *queues;
    struct waiters *waiters;
    struct reaper *reaper;
    struct metrics *metrics;
    struct ratelimit *ratelimit; /* NULL: off */
    struct webhook *webhook; /* the first thread's; others use only its any-thread functions */
    struct result_wait *result_waits[RESULT_SLOTS]; /* reads that wait for a result, by task */
    uint64_t results_ended[RESULT_SLOTS]; /* tasks of that slot that ended through this thread */
    int64_t creates; /* tasks to be created that are on their way to Redis and back */
    int64_t creates_max; /* then creates are refused: work that is here already goes first */
    size_t every_from; /* where the next claim of all queues begins, of too many for one */
    unsigned thread; /* 0.. */
    bool draining;
};

/* The thread's second connection, opened at the first call. NULL: Redis cannot be reached now. */
struct conn *service_conn(struct service *service);

/* ---- routes ---- */

typedef void route_fn(struct service *service, struct request *request);

enum rate_scope { RATE_NONE, RATE_PRODUCER, RATE_WORKER, RATE_ADMIN };

/* One line of the table. pattern: "/v1/codeq/tasks/:id/result"; ":name" takes one segment, which
 * arrives percent-decoded in request->params in the order of the pattern. */
struct route {
    enum http_verb method;
    const char *pattern;
    route_fn *handle;
    enum auth_class class;
    unsigned scopes; /* enum auth_scope, all of them */
    enum rate_scope rate;
    const char *operation; /* OpenAPI operationId; label of logs and metrics */
};

/* Each family's table ends with a line whose pattern is NULL. */
extern const struct route api_tasks_routes[];
extern const struct route api_admin_routes[];
extern const struct route api_dead_routes[];
extern const struct route api_subscriptions_routes[];
extern const struct route api_topics_routes[];
extern const struct route metrics_routes[];
extern const struct route openapi_routes[];

#define REQUEST_PARAMS_MAX 2
#define REQUEST_ID_BYTES_MAX 128

struct request {
    struct service *service;
    const struct route *route;
    struct http_request http; /* method, query, body, headers */
    const char *params[REQUEST_PARAMS_MAX]; /* NUL-terminated; no NUL inside */
    struct identity who; /* empty on AUTH_PUBLIC; event types only until the
                            handler returns, the rest until the answer */
    int64_t arrived_ns;
    bool waited; /* a long poll: its time says nothing of ours */
    void (*on_gone)(struct request *request); /* the client has hung up; NULL: let it run on */
    void *state; /* the handler's */
};

/* Memory until the answer, 16-aligned, not cleared. Never NULL. */
void *request_alloc(struct request *request, size_t bytes);
char *request_strdup(struct request *request, const char *text, size_t bytes);

/* The value of a query parameter, decoded into the request's memory. false: absent. */
bool request_query(struct request *request, const char *name, const char **out_value);

/* ---- answers ---- */

/* One more header for the answer to come; value without CR or LF. */
void request_header(struct request *request, const char *name, const char *value);

/* body is copied. content type application/json unless a Content-Type header was set. */
void request_answer(struct request *request, int status, const char *body, size_t bytes);
void request_answer_json(struct request *request, int status, struct json *take);
/* {"error": text} */
void request_answer_error(struct request *request, int status, const char *text);
/* What a client is told: "redis unavailable", and why where Redis itself refuses. Static. */
const char *store_error_words(const struct store_call_result *call);
/* What an operation that did not end well means to the client: 503 where it may be tried again,
 * 503 with "outcome unknown" where it may have happened, 500 else. Logs the reason. */
void request_answer_store_error(struct request *request, const struct store_call_result *call);

/* Write an answer's body in place: room for bytes_max bytes is reserved, the head is written, and
 * the body goes to the returned address; request_answer_end takes the end of it. Nothing else may
 * be answered in between. */
char *request_answer_begin(struct request *request, int status, size_t bytes_max);
void request_answer_end(struct request *request, char *end);
