/* The routes of dead letters, of deletion and of cleaning up. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "service/body.h"
#include "service/queues.h"
#include "service/reaper.h"
#include "service/service.h"
#include "service/task_json.h"
#include "service/waiters.h"

#define PAGE_DEFAULT 50
#define IDS_MAX 100

/* ---- what walks over a queue's shards ---- */

struct walk {
    struct request *request;
    struct queue *queue;
    struct queue_wait wait;
    unsigned shard;
    /* list */
    uint64_t skip;
    uint64_t want;
    uint64_t total;
    bool any;
    struct buf tasks; /* freed at the end */
    /* replay and purge */
    bool replay;
    bool by_ids;
    struct task_id *ids;
    size_t id_count;
    int64_t died_by_ms;
    uint64_t taken;
    uint64_t left;
    void (*step)(struct walk *walk);
};

static void walk_fail(struct walk *walk, const struct store_call_result *call)
{
    buf_fini(&walk->tasks);
    request_answer_store_error(walk->request, call);
}

static void walk_busy(struct walk *walk, int code)
{
    struct store_call_result result = {.status = STORE_UNAVAILABLE};
    err_set(&result.err, code, "too many operations wait for Redis");
    walk_fail(walk, &result);
}

static void walk_resume(void *arg, struct queue *queue, const struct store_call_result *call)
{
    struct walk *walk = arg;
    if (queue->known) {
        walk->step(walk);
    } else {
        walk_fail(walk, call);
    }
}

/* NULL: answered. */
static struct walk *walk_new(struct request *request, void (*step)(struct walk *walk))
{
    const char *command = request->params[0];
    struct queue *queue =
        queues_get(request->service->queues, request->who.tenant, command, strlen(command));
    if (queue == NULL) {
        request_answer_error(request, 400, "command is longer than 255 bytes");
        return NULL;
    }
    struct walk *walk = request_alloc(request, sizeof(*walk));
    *walk = (struct walk){.request = request, .queue = queue, .step = step};
    walk->wait = (struct queue_wait){.resume = walk_resume, .arg = walk};
    return walk;
}

static void walk_start(struct walk *walk)
{
    if (queues_ensure(walk->request->service->queues, walk->queue, &walk->wait)) {
        walk->step(walk);
    }
}

/* ---- list ---- */

static void list_step(struct walk *walk);

static void list_end(struct walk *walk)
{
    struct request *request = walk->request;
    const char *command = request->params[0];
    size_t bytes = strlen(command);
    char *at = request_answer_begin(request, 200, walk->tasks.bytes + 6 * bytes + 96);
    at = TEXT_PUT(at, "{\"command\":\"");
    at = json_escape(at, command, bytes);
    at = TEXT_PUT(at, "\",\"total\":");
    at = text_int(at, (int64_t)walk->total);
    at = TEXT_PUT(at, ",\"tasks\":[");
    if (walk->tasks.bytes > 0) {
        at = text_put(at, walk->tasks.data, walk->tasks.bytes);
    }
    at = TEXT_PUT(at, "]}");
    buf_fini(&walk->tasks);
    request_answer_end(request, at);
}

static void on_list(void *arg, const struct store_call_result *call, uint64_t total,
                    const struct store_task *tasks, size_t count)
{
    struct walk *walk = arg;
    if (call->status != STORE_OK) {
        walk_fail(walk, call);
        return;
    }
    walk->total += total;
    for (size_t i = 0; i < count && walk->want > 0; i++, walk->want--) {
        struct task_view view = task_view_of(&tasks[i]);
        char *text = malloc(task_json_room(&view));
        if (text == NULL) {
            abort();
        }
        char *end = task_json(text, &view);
        if (walk->any) {
            buf_append(&walk->tasks, ",", 1);
        }
        walk->any = true;
        buf_append(&walk->tasks, text, (size_t)(end - text));
        free(text);
    }
    walk->skip = walk->skip > total ? walk->skip - total : 0;
    walk->shard++;
    list_step(walk);
}

static void list_step(struct walk *walk)
{
    if (walk->shard == walk->queue->shard_count) {
        list_end(walk);
        return;
    }
    struct store_queue at = queue_shard(walk->queue, (uint8_t)walk->shard);
    uint16_t limit = walk->want > 0 ? (uint16_t)walk->want : 1; /* 1: for its total */
    uint32_t skip = walk->skip > UINT32_MAX ? UINT32_MAX : (uint32_t)walk->skip;
    int code = store_dead_list(walk->request->service->store, &at, skip, limit, on_list, walk);
    if (code != 0) {
        walk_busy(walk, code);
    }
}

/* A query parameter of digits in min..max. False: it is something else. */
static bool query_number(struct request *request, const char *name, uint64_t min, uint64_t max,
                         uint64_t *out)
{
    const char *text = NULL;
    if (!request_query(request, name, &text)) {
        return true;
    }
    if (*text < '0' || *text > '9' || strlen(text) > 10) {
        return false;
    }
    char *end = NULL;
    uint64_t n = strtoull(text, &end, 10);
    if (*end != '\0' || n < min || n > max) {
        return false;
    }
    *out = n;
    return true;
}

static void dead_list(struct service *service, struct request *request)
{
    (void)service;
    uint64_t limit = PAGE_DEFAULT;
    uint64_t offset = 0;
    if (!query_number(request, "limit", 1, STORE_DEAD_PAGE_MAX, &limit) ||
        !query_number(request, "offset", 0, UINT32_MAX, &offset)) {
        request_answer_error(request, 400, "limit must be 1 to 100, offset 0 or more");
        return;
    }
    struct walk *walk = walk_new(request, list_step);
    if (walk != NULL) {
        walk->want = limit;
        walk->skip = offset;
        walk_start(walk);
    }
}

/* ---- replay and purge ---- */

static void take_step(struct walk *walk);

static void on_taken(void *arg, const struct store_call_result *call, uint32_t taken, uint64_t left)
{
    struct walk *walk = arg;
    if (call->status != STORE_OK) {
        walk_fail(walk, call);
        return;
    }
    walk->taken += taken;
    if (walk->replay && taken > 0) {
        waiters_work(walk->request->service, walk->queue->tenant, walk->queue->number, taken,
                     false);
    }
    if (walk->by_ids || taken < STORE_TASKS_MAX) {
        walk->left += left;
        walk->shard++;
    }
    take_step(walk);
}

static void take_step(struct walk *walk)
{
    struct request *request = walk->request;
    struct service *service = request->service;
    if (walk->shard == walk->queue->shard_count) {
        char *at = request_answer_begin(request, 200, 96);
        at = walk->replay ? TEXT_PUT(at, "{\"replayed\":") : TEXT_PUT(at, "{\"purged\":");
        at = text_int(at, (int64_t)walk->taken);
        at = TEXT_PUT(at, ",\"remaining\":");
        at = text_int(at, (int64_t)walk->left);
        request_answer_end(request, TEXT_PUT(at, "}"));
        return;
    }
    struct store_queue at = queue_shard(walk->queue, (uint8_t)walk->shard);
    struct task_id ids[IDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < walk->id_count; i++) {
        if (task_id_queue(&walk->ids[i]) == at.number && task_id_shard(&walk->ids[i]) == at.shard) {
            ids[count++] = walk->ids[i];
        }
    }
    if (walk->by_ids && count == 0) {
        walk->shard++;
        take_step(walk); /* at most shard_count deep */
        return;
    }
    int code =
        walk->replay
            ? store_dead_replay(service->store, &at, ids, count, walk->died_by_ms, on_taken, walk)
            : store_dead_purge(service->store, &at, ids, count, walk->died_by_ms, on_taken, walk);
    if (code != 0) {
        walk_busy(walk, code);
    }
}

/* {"ids":[...]}, or all without. */
static void dead_take(struct request *request, bool replay)
{
    static const char *const keys[] = {"ids"};
    struct walk *walk = walk_new(request, take_step);
    if (walk == NULL) {
        return;
    }
    walk->replay = replay;
    walk->died_by_ms = reaper_now_ms(request->service->reaper) + 1;
    if (request->http.body.bytes > 0) {
        struct body body;
        struct body_value value;
        struct body_value list;
        struct body_items items;
        const char *why = NULL;
        if (body_open(&body, request, &value) != 0) {
            request_answer_error(request, 400, "invalid body");
            return;
        }
        if (body_members(&value, keys, 1, &list) != 0) {
            why = "invalid body";
        } else if (body_has(&list)) {
            walk->by_ids = true;
            if (!body_items_begin(&list, &items)) {
                why = "invalid body";
            } else if (body_count(&list) == 0 || body_count(&list) > IDS_MAX) {
                why = "ids must name 1 to 100 tasks";
            } else {
                walk->ids = request_alloc(request, body_count(&list) * sizeof(*walk->ids));
                while (why == NULL && body_items_next(&items, &value)) {
                    const char *text = NULL;
                    if (!body_text(&value, &text) || text == NULL ||
                        task_id_parse(text, strlen(text), &walk->ids[walk->id_count]) != 0) {
                        why = "ids must name tasks by their id";
                    } else {
                        walk->id_count++;
                    }
                }
            }
        }
        body_close(&body);
        if (why != NULL) {
            request_answer_error(request, 400, why);
            return;
        }
    }
    walk_start(walk);
}

static void dead_replay(struct service *service, struct request *request)
{
    (void)service;
    dead_take(request, true);
}

static void dead_purge(struct service *service, struct request *request)
{
    (void)service;
    dead_take(request, false);
}

/* ---- delete ---- */

static void on_deleted(void *arg, const struct store_call_result *call,
                       const enum store_deleted *items, size_t count)
{
    struct request *request = arg;
    if (call->status != STORE_OK || count != 1) {
        request_answer_store_error(request, call);
        return;
    }
    switch (items[0]) {
    case STORE_DELETED:
        request_answer(request, 204, "", 0);
        break;
    case STORE_DELETE_LEASED:
        request_answer_error(request, 409, "leased");
        break;
    case STORE_DELETE_NOT_FOUND:
        request_answer_error(request, 404, "task not found");
        break;
    }
}

static void delete_task(struct service *service, struct request *request)
{
    struct task_id id;
    const char *force = "";
    if (task_id_parse(request->params[0], strlen(request->params[0]), &id) != 0) {
        request_answer_error(request, 404, "task not found");
        return;
    }
    request_query(request, "force", &force);
    struct store_queue queue = {request->who.tenant, task_id_queue(&id), task_id_shard(&id)};
    int code = store_delete(service->store, &queue, &id, 1, strcmp(force, "true") == 0, on_deleted,
                            request);
    if (code != 0) {
        struct store_call_result result = {.status = STORE_UNAVAILABLE};
        err_set(&result.err, code, "too many operations wait for Redis");
        request_answer_store_error(request, &result);
    }
}

/* ---- cleaning up ---- */

#define CLEANUP_LIMIT_DEFAULT 1000

/* Finished tasks that ended a retention before `before`, of all queues of the tenant, one shard
 * after the other. What waits, is leased or lies in the dead letters is not touched. */
struct cleanup {
    struct request *request;
    struct queue_wait wait;
    int64_t limit; /* as sent */
    int64_t left;
    int64_t before_ns;
    int64_t deleted;
    size_t next_queue;
    struct queue *queue;
    unsigned shard;
    char cursor[STORE_CURSOR_BYTES_MAX];
};

static void cleanup_step(struct cleanup *cleanup);

static void on_cleaned(void *arg, const struct store_call_result *call, uint32_t deleted,
                       const char *cursor)
{
    struct cleanup *cleanup = arg;
    if (call->status != STORE_OK) {
        request_answer_store_error(cleanup->request, call);
        return;
    }
    cleanup->deleted += deleted;
    cleanup->left -= deleted;
    strcpy(cleanup->cursor, cursor);
    if (cursor[0] == '\0') {
        cleanup->shard++;
    }
    cleanup_step(cleanup);
}

static void cleanup_step(struct cleanup *cleanup)
{
    struct request *request = cleanup->request;
    struct service *service = request->service;
    while (cleanup->queue == NULL || cleanup->shard == cleanup->queue->shard_count) {
        cleanup->shard = 0;
        do {
            cleanup->queue =
                queues_next(service->queues, request->who.tenant, &cleanup->next_queue);
        } while (cleanup->queue != NULL && !cleanup->queue->known);
        if (cleanup->queue == NULL) {
            break;
        }
    }
    if (cleanup->queue == NULL || cleanup->left == 0) {
        char *at = request_answer_begin(request, 200, 128);
        at = TEXT_PUT(at, "{\"deleted\":");
        at = text_int(at, cleanup->deleted);
        at = TEXT_PUT(at, ",\"before\":\"");
        at = text_time(at, cleanup->before_ns / NS_PER_MS);
        at = TEXT_PUT(at, "\",\"limit\":");
        at = text_int(at, cleanup->limit);
        request_answer_end(request, TEXT_PUT(at, "}"));
        return;
    }
    struct store_queue at = queue_shard(cleanup->queue, (uint8_t)cleanup->shard);
    int64_t ended_by_ms = (cleanup->before_ns - service->config->retention_ns) / NS_PER_MS;
    int code =
        store_cleanup(service->store, &at, ended_by_ms,
                      (uint16_t)(cleanup->left < STORE_TASKS_MAX ? cleanup->left : STORE_TASKS_MAX),
                      cleanup->cursor, on_cleaned, cleanup);
    if (code != 0) {
        struct store_call_result result = {.status = STORE_UNAVAILABLE};
        err_set(&result.err, code, "too many operations wait for Redis");
        request_answer_store_error(request, &result);
    }
}

static void on_queues_known(void *arg, struct queue *queue, const struct store_call_result *call)
{
    (void)queue;
    struct cleanup *cleanup = arg;
    if (call->status != STORE_OK) {
        request_answer_store_error(cleanup->request, call);
    } else {
        cleanup_step(cleanup);
    }
}

static void cleanup(struct service *service, struct request *request)
{
    static const char *const keys[] = {"limit", "before"};
    struct cleanup *cleanup = request_alloc(request, sizeof(*cleanup));
    *cleanup = (struct cleanup){.request = request, .before_ns = clock_wall_ns(service->clock)};
    if (request->http.body.bytes > 0) {
        struct body body;
        struct body_value value;
        struct body_value v[2];
        const char *before = NULL;
        const char *why = NULL;
        if (body_open(&body, request, &value) != 0) {
            request_answer_error(request, 400, "invalid body");
            return;
        }
        if (body_members(&value, keys, 2, v) != 0 || !body_int(&v[0], 0, &cleanup->limit) ||
            !body_text(&v[1], &before)) {
            why = "invalid body";
        } else if (before != NULL && before[0] != '\0' &&
                   clock_parse_rfc3339(before, &cleanup->before_ns) != 0) {
            why = "before must be an RFC 3339 time";
        }
        body_close(&body);
        if (why != NULL) {
            request_answer_error(request, 400, why);
            return;
        }
    }
    cleanup->left = cleanup->limit > 0 ? cleanup->limit : CLEANUP_LIMIT_DEFAULT;
    cleanup->wait = (struct queue_wait){.resume = on_queues_known, .arg = cleanup};
    if (queues_know(service->queues, request->who.tenant, service->now_ns, 0, &cleanup->wait)) {
        cleanup_step(cleanup);
    }
}

const struct route api_dead_routes[] = {
    {HTTP_METHOD_GET, "/v1/codeq/admin/queues/:command/dlq", dead_list, AUTH_ADMIN, 0, RATE_NONE,
     "listDeadLetters"},
    {HTTP_METHOD_POST, "/v1/codeq/admin/queues/:command/dlq/replay", dead_replay, AUTH_ADMIN, 0,
     RATE_NONE, "replayDeadLetters"},
    {HTTP_METHOD_POST, "/v1/codeq/admin/queues/:command/dlq/purge", dead_purge, AUTH_ADMIN, 0,
     RATE_NONE, "purgeDeadLetters"},
    {HTTP_METHOD_DELETE, "/v1/codeq/tasks/:id", delete_task, AUTH_PRODUCER, 0, RATE_NONE,
     "deleteTask"},
    {HTTP_METHOD_POST, "/v1/codeq/admin/tasks/cleanup", cleanup, AUTH_ADMIN, 0, RATE_ADMIN,
     "cleanupTasks"},
    {0},
};
