/* The routes of operators: queues and their counts, health. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "service/gather.h"
#include "service/queues.h"
#include "service/service.h"
#include "service/task_json.h"

/* ---- counts ---- */

struct count_line {
    struct counting *counting;
    struct queue *queue;
    struct queue_wait wait;
    struct store_stats sum;
};

struct counting {
    struct request *request;
    bool one; /* a single queue by name */
    const char *command; /* as asked for */
    size_t left; /* calls under way, and 1 while they are being started */
    size_t count;
    struct count_line *lines;
    struct store_call_result failure;
};

static void counting_end(struct counting *counting)
{
    struct request *request = counting->request;
    if (counting->failure.status != STORE_OK) {
        request_answer_store_error(request, &counting->failure);
        return;
    }
    if (counting->one) {
        const struct store_stats *s = &counting->lines[0].sum;
        struct json *json = json_new_object();
        json_add_string(json, "command", counting->command);
        json_add_int(json, "ready", (int64_t)s->ready);
        json_add_int(json, "delayed", (int64_t)s->delayed);
        json_add_int(json, "inProgress", (int64_t)s->leased);
        json_add_int(json, "dlq", (int64_t)s->dead_now);
        request_answer_json(request, 200, json);
        return;
    }
    struct json *json = json_new_object();
    for (size_t i = 0; i < counting->count; i++) {
        const struct count_line *line = &counting->lines[i];
        const struct {
            const char *name;
            uint64_t value;
        } parts[] = {{"ready", line->sum.ready},
                     {"delayed", line->sum.delayed},
                     {"inprog", line->sum.leased},
                     {"dlq", line->sum.dead_now}};
        for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
            struct buf name = BUF_INIT;
            buf_printf(&name, "codeq:q:%s:%s:%s", line->queue->command, request->who.tenant,
                       parts[k].name);
            json_add_int(json, name.data, (int64_t)parts[k].value);
            buf_fini(&name);
        }
    }
    request_answer_json(request, 200, json);
}

static void counting_done(struct counting *counting)
{
    if (--counting->left == 0) {
        counting_end(counting);
    }
}

static void on_stats(void *arg, const struct store_call_result *call,
                     const struct store_stats *stats)
{
    struct count_line *line = arg;
    struct counting *counting = line->counting;
    if (call->status != STORE_OK) {
        counting->failure = *call;
    } else {
        line->sum.ready += stats->ready;
        line->sum.delayed += stats->delayed;
        line->sum.leased += stats->leased;
        line->sum.dead_now += stats->dead_now;
    }
    counting_done(counting);
}

static void count_queue(struct count_line *line)
{
    struct counting *counting = line->counting;
    struct service *service = counting->request->service;
    for (unsigned shard = 0; shard < line->queue->shard_count; shard++) {
        struct store_queue at = queue_shard(line->queue, (uint8_t)shard);
        counting->left++;
        int code = store_stats(service->store, &at, on_stats, line);
        if (code != 0) {
            counting->left--;
            counting->failure.status = STORE_UNAVAILABLE;
            err_set(&counting->failure.err, code, "too many operations wait for Redis");
        }
    }
}

static void count_resume(void *arg, struct queue *queue, const struct store_call_result *call)
{
    struct count_line *line = arg;
    if (queue->known) {
        count_queue(line);
    } else {
        line->counting->failure = *call;
    }
    counting_done(line->counting);
}

static struct counting *counting_new(struct request *request, size_t lines)
{
    struct counting *counting = request_alloc(request, sizeof(*counting));
    memset(counting, 0, sizeof(*counting));
    counting->request = request;
    counting->left = 1;
    counting->lines = request_alloc(request, (lines + 1) * sizeof(*counting->lines));
    memset(counting->lines, 0, lines * sizeof(*counting->lines));
    return counting;
}

static void count_add(struct counting *counting, struct queue *queue)
{
    struct count_line *line = &counting->lines[counting->count++];
    line->counting = counting;
    line->queue = queue;
    line->wait = (struct queue_wait){.resume = count_resume, .arg = line};
    counting->left++;
    if (queues_ensure(counting->request->service->queues, queue, &line->wait)) {
        count_queue(line);
        counting->left--;
    }
}

static void queue_stats(struct service *service, struct request *request)
{
    const char *command = request->params[0];
    struct queue *queue =
        queues_get(service->queues, request->who.tenant, command, strlen(command));
    if (queue == NULL) {
        request_answer_error(request, 400, "command is longer than 255 bytes");
        return;
    }
    struct counting *counting = counting_new(request, 1);
    counting->one = true;
    counting->command = command;
    count_add(counting, queue);
    counting_done(counting);
}

static void queues_list_all(struct request *request)
{
    struct service *service = request->service;
    size_t count = 0;
    size_t at = 0;
    while (queues_next(service->queues, request->who.tenant, &at) != NULL) {
        count++;
    }
    struct counting *counting = counting_new(request, count);
    at = 0;
    struct queue *queue;
    while (counting->count < count &&
           (queue = queues_next(service->queues, request->who.tenant, &at)) != NULL) {
        count_add(counting, queue);
    }
    counting_done(counting);
}

static void on_all_known(void *arg, struct queue *queue, const struct store_call_result *call)
{
    (void)queue;
    if (call->status != STORE_OK) {
        request_answer_store_error(arg, call);
    } else {
        queues_list_all(arg);
    }
}

static void queues_list(struct service *service, struct request *request)
{
    struct queue_wait *wait = request_alloc(request, sizeof(*wait));
    *wait = (struct queue_wait){.resume = on_all_known, .arg = request};
    if (queues_know(service->queues, request->who.tenant, service->now_ns, 0, wait)) {
        queues_list_all(request);
    }
}

/* ---- health ---- */

static void healthz(struct service *service, struct request *request)
{
    (void)service;
    static const char body[] = "{\"status\":\"ok\"}";
    request_answer(request, 200, body, sizeof(body) - 1);
}

static void on_ready(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    static const char body[] = "{\"status\":\"ready\"}";
    struct request *request = arg;
    if (result->call->status != STORE_OK) {
        request_answer_error(request, 503, store_error_words(result->call));
    } else {
        request_answer(request, 200, body, sizeof(body) - 1);
    }
}

/* Redis runs our scripts: asked with a task that does not exist. */
static void readyz(struct service *service, struct request *request)
{
    if (service->draining) {
        request_answer_error(request, 503, "draining");
        return;
    }
    struct task_id_maker maker;
    task_id_maker_init(&maker, 0);
    struct task_id id = task_id_next(&maker, 0, 0, 0);
    struct store_queue queue = {"codeqd-readyz", 0, 0};
    gather_get(service->gather, &queue, &id, on_ready, request, 0);
}

static void raft_status(struct service *service, struct request *request)
{
    (void)service;
    static const char body[] = "{\"enabled\":false,\"numGroups\":0}";
    request_answer(request, 200, body, sizeof(body) - 1);
}

const struct route api_admin_routes[] = {
    {HTTP_METHOD_GET, "/v1/codeq/admin/queues", queues_list, AUTH_ADMIN, 0, RATE_NONE,
     "listQueues"},
    {HTTP_METHOD_GET, "/v1/codeq/admin/queues/:command", queue_stats, AUTH_ADMIN, 0, RATE_NONE,
     "queueStats"},
    {HTTP_METHOD_GET, "/v1/codeq/raft/status", raft_status, AUTH_ANY, 0, RATE_NONE, "raftStatus"},
    {HTTP_METHOD_GET, "/healthz", healthz, AUTH_PUBLIC, 0, RATE_NONE, "healthz"},
    {HTTP_METHOD_GET, "/readyz", readyz, AUTH_PUBLIC, 0, RATE_NONE, "readyz"},
    {0},
};
