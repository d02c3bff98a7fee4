/* The routes of tasks: create, claim, heartbeat, abandon, nack, result, and reading them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "base/log.h"
#include "base/probe.h"
#include "service/body.h"
#include "service/gather.h"
#include "service/metrics.h"
#include "service/queues.h"
#include "service/reaper.h"
#include "service/service.h"
#include "service/task_json.h"
#include "service/waiters.h"
#include "service/webhook.h"

#define BATCH_TASKS_MAX 100
#define BATCH_CLAIM_MAX 10
#define CLAIM_COMMANDS_MAX 64
#define BUILT_IN_COUNT 2
#define CLAIM_EVERY_MAX 1024 /* queues that one claim of all queues looks at */
#define CLAIM_EVERY_AGE_NS (5 * NS_PER_SEC) /* of the list, where no news came */
#define CLAIM_WAIT_SECONDS_MAX 30
#define RESULT_WAIT_SECONDS_MAX 60
#define TRACE_BYTES_MAX 512
#define RESULT_POLL_NS (100 * NS_PER_MS)

static struct store_bytes none = {"", 0};

static struct store_queue queue_of(const struct request *request, const struct task_id *id)
{
    return (struct store_queue){request->who.tenant, task_id_queue(id), task_id_shard(id)};
}

static struct store_bytes text_of(const char *text)
{
    return (struct store_bytes){text, strlen(text)};
}

static bool is_blank(const char *text)
{
    for (; *text != '\0'; text++) {
        if (!isspace((unsigned char)*text)) {
            return false;
        }
    }
    return true;
}

/* Tasks of an id's queue have become ready. */
static void work_arrived(struct request *request, const struct task_id *id)
{
    waiters_work(request->service, request->who.tenant, task_id_queue(id), 1, false);
}

/* A lease has ended here. */
static struct queue *lease_ended(struct service *service, const char *tenant,
                                 const struct task_id *id, enum metrics_command_counter counter)
{
    struct queue *queue = queues_by_number(service->queues, tenant, task_id_queue(id));
    if (queue != NULL) {
        metrics_count_command(service->metrics, counter, queue->metrics_slot, 1);
        metrics_lease_end(service->metrics, id, queue->metrics_slot, service->now_ns);
    }
    return queue;
}

static void task_ended(struct service *service, const char *tenant, const struct task_id *id,
                       bool failed, int64_t ended_ms)
{
    struct queue *queue =
        lease_ended(service, tenant, id, failed ? METRICS_FAILED : METRICS_COMPLETED);
    if (queue != NULL && ended_ms > 0) {
        metrics_observe_command(service->metrics,
                                failed ? METRICS_PROCESSING_FAILED : METRICS_PROCESSING_COMPLETED,
                                queue->metrics_slot, (ended_ms - task_id_time_ms(id)) * NS_PER_MS);
    }
}

static void task_claimed(struct service *service, const struct queue *queue,
                         const struct store_claimed *task, int64_t claimed_ms)
{
    struct task_id id = task_member_id(&task->member);
    metrics_lease_begin(service->metrics, &id, service->now_ns);
    if (task_member_attempts(&task->member) == 1) {
        metrics_observe_command(service->metrics, METRICS_QUEUE_WAIT, queue->metrics_slot,
                                (claimed_ms - task_id_time_ms(&id)) * NS_PER_MS);
    }
}

/* ---- reads that wait for a result ---- */

/* What ends through this thread wakes them; what ends elsewhere is found by a look each
 * RESULT_POLL_NS. */
struct result_wait {
    struct request *request;
    struct task_id id;
    int64_t until_ns; /* 0: does not wait */
    uint64_t ended_before; /* results_ended of its slot when it looked */
    bool timer_on; /* and in the list of its slot */
    struct result_wait *prev;
    struct result_wait *next;
    ev_timer timer;
};

static void result_look(struct result_wait *wait);

static size_t result_slot(const struct task_id *id)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < TASK_ID_BYTES; i++) {
        h = (h ^ id->bytes[i]) * UINT64_C(0x100000001b3);
    }
    return (size_t)(h ^ (h >> 32)) % RESULT_SLOTS;
}

static void result_park(struct result_wait *wait, int64_t after_ns)
{
    struct service *service = wait->request->service;
    struct result_wait **slot = &service->result_waits[result_slot(&wait->id)];
    wait->prev = NULL;
    wait->next = *slot;
    if (*slot != NULL) {
        (*slot)->prev = wait;
    }
    *slot = wait;
    ev_timer_set(&wait->timer, (double)after_ns / 1e9, 0.);
    ev_timer_start(service->loop, &wait->timer);
    wait->timer_on = true;
}

static void result_unpark(struct result_wait *wait)
{
    struct service *service = wait->request->service;
    if (wait->prev != NULL) {
        wait->prev->next = wait->next;
    } else {
        service->result_waits[result_slot(&wait->id)] = wait->next;
    }
    if (wait->next != NULL) {
        wait->next->prev = wait->prev;
    }
    ev_timer_stop(service->loop, &wait->timer);
    wait->timer_on = false;
}

/* This task has a result now. */
static void result_ended(struct service *service, const struct task_id *id)
{
    size_t slot = result_slot(id);
    service->results_ended[slot]++;
    for (struct result_wait *next, *wait = service->result_waits[slot]; wait != NULL; wait = next) {
        next = wait->next;
        if (task_id_equal(&wait->id, id)) {
            result_unpark(wait);
            result_look(wait);
        }
    }
}

/* ---- one item, alone or in a batch ---- */

struct batch {
    struct request *request;
    const char *open; /* text in front of the items' list */
    size_t count;
    size_t left;
    struct store_bytes *texts; /* one JSON value an item */
};

struct item {
    struct request *request;
    struct batch *batch; /* NULL: the request is about this one alone */
    size_t index;
    struct task_id id;
    bool has_id; /* a batch's answer names it */
    const char *member; /* key of a batch's answer */
    char *text;
    union {
        struct {
            struct queue *queue;
            struct queue_wait wait;
            struct store_create_item create;
        };
        struct {
            struct store_bytes result;
            bool failed;
        };
    };
};

static void batch_one_done(struct batch *batch)
{
    if (--batch->left > 0) {
        return;
    }
    size_t bytes = strlen(batch->open) + 3;
    for (size_t i = 0; i < batch->count; i++) {
        bytes += batch->texts[i].bytes + 1;
    }
    char *at = request_answer_begin(batch->request, 200, bytes);
    at = text_put(at, batch->open, strlen(batch->open));
    for (size_t i = 0; i < batch->count; i++) {
        if (i > 0) {
            *at++ = ',';
        }
        at = text_put(at, batch->texts[i].data, batch->texts[i].bytes);
    }
    request_answer_end(batch->request, TEXT_PUT(at, "]}"));
}

static struct batch *batch_new(struct request *request, const char *open, size_t count)
{
    struct batch *batch = request_alloc(request, sizeof(*batch));
    *batch = (struct batch){.request = request, .open = open, .count = count, .left = count};
    batch->texts = request_alloc(request, count * sizeof(*batch->texts));
    return batch;
}

static char *item_id_begin(struct item *item, char *at)
{
    *at++ = '{';
    if (item->has_id) {
        at = TEXT_PUT(at, "\"taskId\":\"");
        char id[TASK_ID_TEXT_BYTES];
        task_id_format(&item->id, id);
        at = text_put(at, id, TASK_ID_TEXT_BYTES - 1);
        at = TEXT_PUT(at, "\",");
    }
    return at;
}

/* Begin the item's answer, of at most bytes_max; status counts only where it stands alone. */
static char *item_begin(struct item *item, int status, size_t bytes_max)
{
    if (item->batch == NULL) {
        return request_answer_begin(item->request, status, bytes_max);
    }
    item->text = request_alloc(item->request, bytes_max + 128);
    char *at = item_id_begin(item, item->text);
    *at++ = '"';
    at = text_put(at, item->member, strlen(item->member));
    return TEXT_PUT(at, "\":");
}

static void item_end(struct item *item, char *end)
{
    if (item->batch == NULL) {
        request_answer_end(item->request, end);
        return;
    }
    *end++ = '}';
    item->batch->texts[item->index] = (struct store_bytes){item->text, (size_t)(end - item->text)};
    batch_one_done(item->batch);
}

static void item_error(struct item *item, int status, const char *text)
{
    if (item->batch == NULL) {
        request_answer_error(item->request, status, text);
        return;
    }
    item->text = request_alloc(item->request, strlen(text) * 6 + 128);
    char *at = item_id_begin(item, item->text);
    at = TEXT_PUT(at, "\"error\":\"");
    at = json_escape(at, text, strlen(text));
    *at++ = '"';
    item_end(item, at);
}

static void item_store_error(struct item *item, const struct store_call_result *call)
{
    if (item->batch == NULL) {
        request_answer_store_error(item->request, call);
        return;
    }
    item_error(item, 503, store_error_words(call));
}

/* ---- create ---- */

static const char *const create_keys[] = {"command", "payload",     "priority",
                                          "webhook", "maxAttempts", "idempotencyKey",
                                          "runAt",   "delaySeconds"};
enum {
    CREATE_COMMAND,
    CREATE_PAYLOAD,
    CREATE_PRIORITY,
    CREATE_WEBHOOK,
    CREATE_ATTEMPTS,
    CREATE_KEY,
    CREATE_RUN_AT,
    CREATE_DELAY,
    CREATE_KEYS
};

static bool is_http_url(const char *url)
{
    const char *rest = strncasecmp(url, "http://", 7) == 0    ? url + 7
                       : strncasecmp(url, "https://", 8) == 0 ? url + 8
                                                              : NULL;
    if (rest == NULL || *rest == '\0' || *rest == '/' || *rest == ':' || *rest == '?') {
        return false;
    }
    for (; *rest != '\0'; rest++) {
        if ((unsigned char)*rest <= ' ' || *rest == 0x7f) {
            return false;
        }
    }
    return true;
}

static char *put_trace(struct request *request, char *at, const char *header, const char *key)
{
    struct store_bytes value;
    if (!http_header(&request->http, header, &value) || value.bytes == 0 ||
        value.bytes > TRACE_BYTES_MAX) {
        return at;
    }
    for (size_t i = 0; i < value.bytes; i++) {
        if (value.data[i] < ' ' || value.data[i] > '~') {
            return at;
        }
    }
    at = TEXT_PUT(at, ",\"");
    at = text_put(at, key, strlen(key));
    at = TEXT_PUT(at, "\":\"");
    at = json_escape(at, value.data, value.bytes);
    *at++ = '"';
    return at;
}

/* Fill item->create and item->queue from a request's JSON. NULL, or why not. A batch takes a
 * missing payload as null, as codeQ does. */
static const char *create_read(struct item *item, const struct body_value *value)
{
    struct request *request = item->request;
    struct body_value v[CREATE_KEYS];
    const char *command = NULL;
    const char *webhook = NULL;
    const char *key = NULL;
    const char *run_at = NULL;
    int64_t priority = 0;
    int64_t attempts = 0;
    int64_t delay_seconds = 0;
    if (body_members(value, create_keys, CREATE_KEYS, v) != 0 ||
        !body_text(&v[CREATE_COMMAND], &command) || !body_text(&v[CREATE_WEBHOOK], &webhook) ||
        !body_text(&v[CREATE_KEY], &key) || !body_text(&v[CREATE_RUN_AT], &run_at) ||
        !body_int(&v[CREATE_PRIORITY], 0, &priority) ||
        !body_int(&v[CREATE_ATTEMPTS], 0, &attempts) ||
        !body_int(&v[CREATE_DELAY], 0, &delay_seconds)) {
        return "invalid body";
    }
    if (command == NULL || is_blank(command)) {
        return "command is required";
    }
    size_t command_bytes = strlen(command);
    if (command_bytes > QUEUE_COMMAND_BYTES_MAX) {
        return "command is longer than 255 bytes";
    }
    if (!body_has(&v[CREATE_PAYLOAD]) && item->batch == NULL) {
        return "payload is required";
    }
    bool has_webhook = webhook != NULL && webhook[0] != '\0';
    if (has_webhook && !is_http_url(webhook)) {
        return "webhook must be an http(s) url";
    }
    if (attempts > TASK_ATTEMPTS_MAX) {
        return "maxAttempts is above 65535";
    }
    size_t key_bytes = key == NULL ? 0 : strlen(key);
    if (key_bytes > STORE_NAME_BYTES_MAX) {
        return "idempotencyKey is longer than 1024 bytes";
    }
    struct store_create_item *create = &item->create;
    *create = (struct store_create_item){
        .priority = (uint8_t)(priority < 0   ? 0
                              : priority > 9 ? 9
                                             : priority),
        .max_attempts =
            (uint16_t)(attempts > 0 ? attempts : request->service->config->max_attempts_default),
        .key = none,
        .wants_outbox = has_webhook,
    };
    if (run_at != NULL && run_at[0] != '\0') {
        int64_t wall_ns = 0;
        if (clock_parse_rfc3339(run_at, &wall_ns) != 0) {
            return "runAt must be an RFC 3339 time";
        }
        /* Up to the next ms, so that it is never early. A past one is at once. */
        create->run_at_ms = wall_ns / NS_PER_MS + (wall_ns % NS_PER_MS > 0);
        if (create->run_at_ms < 1) {
            create->run_at_ms = 0;
        }
    } else if (delay_seconds < 0) {
        return "delaySeconds must not be negative";
    } else if (delay_seconds > INT64_C(100) * 366 * 86400) {
        return "delaySeconds is above a hundred years";
    } else {
        create->delay_ms = delay_seconds * 1000;
    }
    item->queue = queues_get(request->service->queues, request->who.tenant, command, command_bytes);
    if (item->queue == NULL) {
        return "too many queues";
    }
    if (key_bytes > 0) {
        create->key = (struct store_bytes){key, key_bytes};
    }
    struct store_bytes payload =
        body_has(&v[CREATE_PAYLOAD]) ? v[CREATE_PAYLOAD].raw : (struct store_bytes){"null", 4};
    size_t room = v[CREATE_COMMAND].raw.bytes + 2 * payload.bytes + 256 +
                  (has_webhook ? v[CREATE_WEBHOOK].raw.bytes : 0) + 4 * TRACE_BYTES_MAX;
    char *text = request_alloc(request, room);
    char *at = TEXT_PUT(text, "\"command\":");
    at = text_put(at, v[CREATE_COMMAND].raw.data, v[CREATE_COMMAND].raw.bytes);
    at = TEXT_PUT(at, ",\"payload\":\"");
    at = json_escape_json(at, payload.data, payload.bytes);
    at = TEXT_PUT(at, "\",\"tenantId\":\"");
    at = text_put(at, request->who.tenant, strlen(request->who.tenant));
    *at++ = '"';
    if (has_webhook) {
        at = TEXT_PUT(at, ",\"webhook\":");
        at = text_put(at, v[CREATE_WEBHOOK].raw.data, v[CREATE_WEBHOOK].raw.bytes);
    }
    at = put_trace(request, at, "traceparent", "traceParent");
    at = put_trace(request, at, "tracestate", "traceState");
    create->body = (struct store_bytes){text, (size_t)(at - text)};
    return NULL;
}

static void answer_task(struct item *item, const struct task_view *view)
{
    char *at = item_begin(item, 202, task_json_room(view));
    item_end(item, task_json(at, view));
}

/* The task that an idempotency key names already, whatever its state. */
static void on_create_replayed(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
    } else if (result->task->state == TASK_NONE) {
        item_error(item, 409, "the task of this idempotencyKey was deleted");
    } else {
        struct task_view view = task_view_of(result->task);
        answer_task(item, &view);
    }
}

static void on_created(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    struct request *request = item->request;
    request->service->creates--;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
        return;
    }
    const struct store_create_verdict *created = result->created;
    if (created->verdict == STORE_DUPLICATE) {
        struct store_queue queue = queue_of(request, &created->id);
        metrics_count_command(request->service->metrics, METRICS_DUPLICATES,
                              item->queue->metrics_slot, 1);
        gather_get(request->service->gather, &queue, &created->id, on_create_replayed, item, 0);
        return;
    }
    struct queue *queue = item->queue;
    struct service *service = request->service;
    bool delayed = created->delayed;
    metrics_count_command(service->metrics, METRICS_CREATED, queue->metrics_slot, 1);
    if (delayed) {
        struct store_queue at = queue_of(request, &created->id);
        reaper_due(service->reaper, &at,
                   item->create.run_at_ms != 0 ? item->create.run_at_ms
                                               : created->created_ms + item->create.delay_ms);
    }
    struct task_view view = {
        .id = created->id,
        .body = item->create.body,
        .priority = item->create.priority,
        .max_attempts = item->create.max_attempts,
        .state = delayed ? TASK_DELAYED : TASK_READY,
        .updated_ms = created->created_ms,
    };
    answer_task(item, &view); /* the last use of item */
    if (!delayed) {
        queue->backlog++;
        waiters_work(service, queue->tenant, queue->number, 1, false);
        webhook_ready(service->webhook, queue->tenant, queue->command, queue->command_bytes);
    }
}

static uint8_t create_shard(struct queue *queue, const struct store_bytes *key)
{
    if (queue->shard_count == 1) {
        return 0;
    }
    if (key->bytes == 0) {
        queue->next_shard = (uint8_t)((queue->next_shard + 1u) % queue->shard_count);
        return queue->next_shard;
    }
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < key->bytes; i++) {
        h = (h ^ (unsigned char)key->data[i]) * UINT64_C(0x100000001b3);
    }
    return (uint8_t)((h ^ (h >> 32)) % queue->shard_count);
}

static void create_go(struct item *item)
{
    struct store_queue queue =
        queue_shard(item->queue, create_shard(item->queue, &item->create.key));
    item->request->service->creates++;
    gather_create(item->request->service->gather, &queue, &item->create, on_created, item, 0);
}

static void create_resume(void *arg, struct queue *queue, const struct store_call_result *call)
{
    struct item *item = arg;
    if (!queue->known) {
        item_store_error(item, call);
    } else {
        create_go(item);
    }
}

static void create_start(struct item *item, const struct body_value *value)
{
    const char *why = create_read(item, value);
    if (why != NULL) {
        item_error(item, 400, why);
        return;
    }
    item->wait = (struct queue_wait){.resume = create_resume, .arg = item};
    if (queues_ensure(item->request->service->queues, item->queue, &item->wait)) {
        create_go(item);
    }
}

/* Past the limit new work is refused before its body is looked at, so that the refusal costs less
 * than the work: claims and results, which take work away, are not. A request is let in whole. */
static bool create_refused(struct service *service, struct request *request)
{
    if (service->creates < service->creates_max) {
        return false;
    }
    request_header(request, "Retry-After", "1");
    request_answer_error(request, 503, "too many creates");
    return true;
}

static void create_one(struct service *service, struct request *request)
{
    if (create_refused(service, request)) {
        return;
    }
    struct body body;
    struct body_value value;
    if (body_open(&body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid body");
        return;
    }
    struct item *item = request_alloc(request, sizeof(*item));
    *item = (struct item){.request = request};
    create_start(item, &value);
    body_close(&body);
}

/* The list under key, of 1..BATCH_TASKS_MAX elements; answers and returns 0 where it is not so. */
static size_t batch_open(struct request *request, struct body *body, const char *key,
                         struct body_items *items)
{
    struct body_value value;
    if (body_open(body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid body");
        return 0;
    }
    struct body_value list;
    size_t count = 0;
    if (body_members(&value, &key, 1, &list) != 0 ||
        (body_has(&list) && !body_items_begin(&list, items))) {
        request_answer_error(request, 400, "invalid body");
    } else if (!body_has(&list) || body_count(&list) == 0) {
        request_answer_error(request, 400, "the list is empty");
    } else if (body_count(&list) > BATCH_TASKS_MAX) {
        request_answer_error(request, 400, "more than 100 items");
    } else {
        count = body_count(&list);
    }
    if (count == 0) {
        body_close(body);
    }
    return count;
}

static void create_batch(struct service *service, struct request *request)
{
    if (create_refused(service, request)) {
        return;
    }
    struct body body;
    struct body_items list;
    size_t count = batch_open(request, &body, "tasks", &list);
    if (count == 0) {
        return;
    }
    struct batch *batch = batch_new(request, "{\"results\":[", count);
    struct item *items = request_alloc(request, count * sizeof(*items));
    struct body_value value;
    for (size_t i = 0; i < count && body_items_next(&list, &value); i++) {
        items[i] = (struct item){.request = request, .batch = batch, .index = i, .member = "task"};
        create_start(&items[i], &value);
    }
    body_close(&body);
}

/* ---- claim ---- */

struct claim {
    struct request *request;
    struct queue **queues;
    size_t count;
    size_t at; /* queue being tried */
    unsigned tried; /* shards of it */
    unsigned first_shard;
    uint16_t want;
    uint16_t got;
    bool batch;
    int64_t lease_ms;
    struct queue_wait wait;
    /* batch: tasks so far */
    char *text;
    size_t text_bytes;
    size_t text_room;
    /* waiting */
    int64_t wait_until_ns; /* 0: does not wait */
    bool parked;
    bool timer_on;
    bool entered; /* waiters_enter */
    uint64_t wakes_before; /* of all its queues, when the round began */
    bool every; /* of all the tenant's queues */
    uint64_t news_before; /* waiters_news when its queues were listed */
    struct parked park;
    ev_timer timer;
};

static void claim_step(struct claim *claim);

/* The shard that is being tried. */
static uint8_t claim_shard(const struct claim *claim)
{
    return (uint8_t)((claim->first_shard + claim->tried) % claim->queues[claim->at]->shard_count);
}

static void claim_end(struct claim *claim)
{
    if (claim->timer_on) {
        ev_timer_stop(claim->request->service->loop, &claim->timer);
        claim->timer_on = false;
    }
    if (claim->entered) {
        waiters_leave(claim->request->service->waiters);
        claim->entered = false;
    }
    claim->request->on_gone = NULL;
}

static void claim_answer_none(struct claim *claim)
{
    claim_end(claim);
    request_answer(claim->request, 204, "", 0);
}

/* It was woken and has found a task: is there a claim that must look in its place? */
static void claim_pass_on(struct claim *claim, const struct queue *from)
{
    struct queue *by = claim->park.woken_by;
    if (by != NULL && (claim->park.chain || by != from)) {
        waiters_work(claim->request->service, by->tenant, by->number, 1, claim->park.chain);
    }
}

static struct task_view claimed_view(const struct claim *claim, const struct store_claimed *task)
{
    return (struct task_view){
        .id = task_member_id(&task->member),
        .body = task->body,
        .priority = task_member_priority(&task->member),
        .attempts = task_member_attempts(&task->member),
        .max_attempts = task_member_max_attempts(&task->member),
        .state = TASK_LEASED,
        .worker = text_of(claim->request->who.subject),
        .lease_until_ms = task->lease_until_ms,
        .updated_ms = task->lease_until_ms - claim->lease_ms,
        .token = &task->member,
    };
}

struct given_back {
    struct service *service;
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    uint16_t number;
};

static void on_given_back(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct given_back *given = arg;
    if (result->call->status == STORE_OK) { /* where it failed the lease runs out */
        waiters_work(given->service, given->tenant, given->number, 1, false);
    }
    free(given);
}

/* The client has gone: nobody will work on these. */
static void give_back(struct claim *claim, const struct store_claimed *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct task_id id = task_member_id(&tasks[i].member);
        struct store_queue queue = queue_of(claim->request, &id);
        struct store_abandon_item item = {
            .lease = {.has_token = true, .token = tasks[i].member, .worker = none}};
        struct given_back *given = malloc(sizeof(*given));
        if (given == NULL) {
            abort();
        }
        *given = (struct given_back){.service = claim->request->service, .number = queue.number};
        snprintf(given->tenant, sizeof(given->tenant), "%s", queue.tenant);
        gather_abandon(claim->request->service->gather, &queue, &item, on_given_back, given, 0);
    }
}

static void claim_add(struct claim *claim, const struct store_claimed *task)
{
    struct task_view view = claimed_view(claim, task);
    size_t room = task_json_room(&view) + 1;
    if (claim->text_room - claim->text_bytes < room) {
        size_t bigger = (claim->text_room + room) * 2;
        char *text = request_alloc(claim->request, bigger);
        text_put(text, claim->text, claim->text_bytes);
        claim->text = text;
        claim->text_room = bigger;
    }
    char *at = claim->text + claim->text_bytes;
    if (claim->text_bytes > 0) {
        *at++ = ',';
    }
    claim->text_bytes = (size_t)(task_json(at, &view) - claim->text);
    claim->got++;
}

static void claim_answer_batch(struct claim *claim, const char *error)
{
    claim_end(claim);
    size_t error_bytes = error == NULL ? 0 : strlen(error);
    char *at = request_answer_begin(claim->request, 200, claim->text_bytes + error_bytes + 64);
    at = TEXT_PUT(at, "{\"tasks\":[");
    at = text_put(at, claim->text, claim->text_bytes);
    *at++ = ']';
    if (error != NULL) {
        at = TEXT_PUT(at, ",\"error\":\"");
        at = text_put(at, error, error_bytes);
        *at++ = '"';
    }
    request_answer_end(claim->request, TEXT_PUT(at, "}"));
}

static void on_claimed(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct claim *claim = arg;
    struct request *request = claim->request;
    PROBE3(claim_end, request->http.conn, result->call->status, result->claimed_count);
    if (result->call->status != STORE_OK) {
        for (size_t i = 0; claim->park.waiters != NULL && i < claim->count; i++) {
            claim->queues[i]->registered_ns = 0; /* another that waits looks soon */
        }
        if (claim->got > 0) {
            claim_answer_batch(claim, store_error_words(result->call));
        } else {
            claim_end(claim);
            request_answer_store_error(request, result->call);
        }
        return;
    }
    if (result->call->next_due_ms > 0) {
        struct store_queue at = queue_shard(claim->queues[claim->at], claim_shard(claim));
        reaper_due(request->service->reaper, &at, result->call->next_due_ms);
    }
    if (result->call->died) {
        webhook_poke(request->service->webhook, request->who.tenant,
                     claim->queues[claim->at]->number, claim_shard(claim));
    }
    if (result->claimed_count > 0) {
        struct task_id id = task_member_id(&result->claimed[0].member);
        struct store_queue queue = queue_of(request, &id);
        int64_t until_ms = result->claimed[0].lease_until_ms;
        reaper_clock(request->service->reaper, until_ms - claim->lease_ms);
        reaper_due(request->service->reaper, &queue, until_ms);
        if (claim->park.woken_by != NULL && claim->got == 0) {
            metrics_observe(request->service->metrics, METRICS_CLAIM_WAKE,
                            clock_monotonic_ns(request->service->clock) - claim->park.woken_ns);
        }
        metrics_count_command(request->service->metrics, METRICS_CLAIMED,
                              claim->queues[claim->at]->metrics_slot, result->claimed_count);
        for (size_t i = 0; i < result->claimed_count; i++) {
            task_claimed(request->service, claim->queues[claim->at], &result->claimed[i],
                         until_ms - claim->lease_ms);
        }
    }
    claim->queues[claim->at]->backlog =
        result->claimed_count == 0
            ? 0
            : claim->queues[claim->at]->backlog - (int64_t)result->claimed_count;
    if (result->claimed_count > 0 && http_is_gone(request->http.conn)) {
        claim_pass_on(claim, claim->queues[claim->at]);
        give_back(claim, result->claimed, result->claimed_count);
        claim_answer_none(claim); /* to nobody */
        return;
    }
    if (!claim->batch && result->claimed_count > 0) {
        claim_pass_on(claim, claim->queues[claim->at]);
        claim_end(claim);
        struct task_view view = claimed_view(claim, &result->claimed[0]);
        char *at = request_answer_begin(request, 200, task_json_room(&view));
        request_answer_end(request, task_json(at, &view));
        return;
    }
    for (size_t i = 0; i < result->claimed_count; i++) {
        claim_add(claim, &result->claimed[i]);
    }
    if (claim->got == claim->want) {
        claim_answer_batch(claim, NULL);
        return;
    }
    if (++claim->tried >= claim->queues[claim->at]->shard_count) {
        if (claim->entered) {
            claim->queues[claim->at]->registered_ns = request->service->now_ns;
        }
        claim->tried = 0;
        claim->at++;
    }
    claim_step(claim);
}

static uint64_t claim_wakes(const struct claim *claim)
{
    uint64_t wakes = 0;
    for (size_t i = 0; i < claim->count; i++) {
        wakes += claim->queues[i]->wakes;
    }
    return wakes;
}

static void claim_round_now(struct claim *claim)
{
    claim->at = 0;
    claim->tried = 0;
    claim->wakes_before = claim_wakes(claim);
    claim_step(claim);
}

static int compare_backlog(const void *a, const void *b)
{
    const struct queue *x = *(struct queue *const *)a;
    const struct queue *y = *(struct queue *const *)b;
    return (x->backlog < y->backlog) - (x->backlog > y->backlog);
}

/* All queues of the tenant that are known now: codeQ's two first, then the longest backlog that was
 * seen here. Past CLAIM_EVERY_MAX a claim takes the next so many, from where the one before it
 * ended. */
static void claim_list(struct claim *claim)
{
    struct service *service = claim->request->service;
    const char *tenant = claim->request->who.tenant;
    size_t count = 0;
    struct queue *queue;
    struct queue *const built_in[BUILT_IN_COUNT] = {claim->queues[0], claim->queues[1]};
    for (size_t at = 0; (queue = queues_next(service->queues, tenant, &at)) != NULL;) {
        count += queue->known && queue != built_in[0] && queue != built_in[1];
    }
    claim->news_before = waiters_news(service->waiters);
    if (count + BUILT_IN_COUNT == claim->count) {
        return; /* as before: queues are never removed */
    }
    size_t skip = count > CLAIM_EVERY_MAX ? service->every_from % count : 0;
    size_t take = count > CLAIM_EVERY_MAX ? CLAIM_EVERY_MAX : count;
    service->every_from += take;
    claim->queues = request_alloc(claim->request, (take + BUILT_IN_COUNT) * sizeof(struct queue *));
    memcpy(claim->queues, built_in, sizeof(built_in));
    claim->count = BUILT_IN_COUNT;
    claim->park.waiters = NULL; /* of fewer queues */
    size_t at = 0;
    for (size_t seen = 0; claim->count < take + BUILT_IN_COUNT;) {
        queue = queues_next(service->queues, tenant, &at);
        if (queue == NULL) {
            at = 0;
        } else if (queue->known && queue != built_in[0] && queue != built_in[1] && seen++ >= skip) {
            claim->queues[claim->count++] = queue;
        }
    }
    qsort(claim->queues + BUILT_IN_COUNT, take, sizeof(struct queue *), compare_backlog);
}

static void claim_listed(void *arg, struct queue *queue, const struct store_call_result *call)
{
    (void)queue;
    struct claim *claim = arg;
    if (call->status != STORE_OK) {
        claim_end(claim);
        request_answer_store_error(claim->request, call);
        return;
    }
    claim_list(claim);
    claim_round_now(claim);
}

static void claim_round(struct claim *claim)
{
    struct service *service = claim->request->service;
    if (claim->every) {
        claim->wait = (struct queue_wait){.resume = claim_listed, .arg = claim};
        if (!queues_know(service->queues, claim->request->who.tenant, service->now_ns,
                         CLAIM_EVERY_AGE_NS, &claim->wait)) {
            return;
        }
        claim_list(claim);
    }
    claim_round_now(claim);
}

static void claim_retry(struct parked *parked)
{
    struct claim *claim = (struct claim *)((char *)parked - offsetof(struct claim, park));
    claim->parked = false;
    claim_round(claim);
}

static void claim_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct claim *claim = timer->data;
    claim->timer_on = false;
    if (claim->parked) {
        waiters_unpark(claim->request->service->waiters, &claim->park);
        claim->parked = false;
        claim_answer_none(claim);
    } else {
        claim->wait_until_ns = 0; /* the round under way is the last */
    }
}

static void claim_on_gone(struct request *request)
{
    struct claim *claim = request->state;
    claim->wait_until_ns = 0;
    if (claim->parked) {
        waiters_unpark(request->service->waiters, &claim->park);
        claim->parked = false;
        claim_answer_none(claim);
    }
}

/* Nothing was found: wait, or say so. */
static void claim_missed(struct claim *claim)
{
    struct service *service = claim->request->service;
    if (claim->got > 0) {
        claim_answer_batch(claim, NULL);
        return;
    }
    if (claim->wait_until_ns <= service->now_ns || service->draining ||
        http_is_half_closed(claim->request->http.conn)) {
        claim_answer_none(claim);
        return;
    }
    if (claim->park.waiters == NULL) {
        claim->park.waiters =
            request_alloc(claim->request, claim->count * sizeof(*claim->park.waiters));
        for (size_t i = 0; i < claim->count; i++) {
            claim->park.waiters[i].queue = claim->queues[i];
        }
        claim->park.count = claim->count;
        claim->park.retry = claim_retry;
        claim->park.every = claim->every ? claim->request->who.tenant : NULL;
    }
    if (!claim->timer_on) {
        ev_timer_init(&claim->timer, claim_on_timer,
                      (double)(claim->wait_until_ns - service->now_ns) / 1e9, 0.);
        claim->timer.data = claim;
        ev_timer_start(service->loop, &claim->timer);
        claim->timer_on = true;
        claim->request->state = claim;
        claim->request->on_gone = claim_on_gone;
    }
    /* Work that arrived while this round was under way may have come behind its look. */
    if (claim->wakes_before != claim_wakes(claim) ||
        (claim->every && claim->news_before != waiters_news(service->waiters))) {
        claim_round(claim);
        return;
    }
    if (!waiters_park(service->waiters, &claim->park)) {
        claim_end(claim);
        request_header(claim->request, "Retry-After", "1");
        request_answer_error(claim->request, 503, "too many waiting claims");
        return;
    }
    claim->parked = true;
    claim->request->waited = true;
}

static void claim_resume(void *arg, struct queue *queue, const struct store_call_result *call)
{
    struct claim *claim = arg;
    if (queue->known) {
        claim_step(claim);
    } else if (claim->got > 0) {
        claim_answer_batch(claim, store_error_words(call));
    } else {
        claim_end(claim);
        request_answer_store_error(claim->request, call);
    }
}

static void claim_step(struct claim *claim)
{
    if (claim->at == claim->count) {
        claim_missed(claim);
        return;
    }
    struct service *service = claim->request->service;
    struct queue *queue = claim->queues[claim->at];
    if (!queue->known) {
        claim->wait = (struct queue_wait){.resume = claim_resume, .arg = claim};
        if (!queues_ensure(service->queues, queue, &claim->wait)) {
            return;
        }
    }
    if (claim->tried == 0) {
        claim->first_shard = queue->next_shard;
        queue->next_shard = (uint8_t)((queue->next_shard + 1u) % queue->shard_count);
    }
    struct store_queue at = queue_shard(queue, claim_shard(claim));
    struct store_claim_item item = {
        .count = (uint16_t)(claim->want - claim->got),
        .lease_ms = claim->lease_ms,
        .worker = text_of(claim->request->who.subject),
        .waits = claim->entered,
    };
    PROBE4(claim_begin, claim->request->http.conn, queue->number, item.count, item.lease_ms);
    gather_claim(service->gather, &at, &item, on_claimed, claim, 0);
}

/* Which queues a claim is about. False: answered. */
static bool claim_queues(struct claim *claim, const struct body_value *commands)
{
    struct request *request = claim->request;
    struct service *service = request->service;
    const struct identity *who = &request->who;
    struct body_items items;
    if (body_has(commands) && !body_items_begin(commands, &items)) {
        request_answer_error(request, 400, "invalid body");
        return false;
    }
    size_t named = body_has(commands) ? body_count(commands) : 0;
    if (named > CLAIM_COMMANDS_MAX) {
        request_answer_error(request, 400, "more than 64 commands");
        return false;
    }
    claim->queues = request_alloc(request, (CLAIM_COMMANDS_MAX + 1) * sizeof(struct queue *));
    struct body_value value;
    for (size_t i = 0; i < named && body_items_next(&items, &value); i++) {
        const char *command = NULL;
        if (!body_text(&value, &command) || command == NULL) {
            request_answer_error(request, 400, "invalid body");
            return false;
        }
        if (!identity_allows(who, command)) {
            request_answer_error(request, 403, "event type not allowed");
            return false;
        }
        struct queue *queue = queues_get(service->queues, who->tenant, command, strlen(command));
        if (queue == NULL) {
            request_answer_error(request, 400, "command is empty or longer than 255 bytes");
            return false;
        }
        claim->queues[claim->count++] = queue;
    }
    if (named > 0) {
        return true;
    }
    static const char *const built_in[BUILT_IN_COUNT] = {"GENERATE_MASTER", "GENERATE_CREATIVE"};
    const char *const *list = who->every_event_type ? built_in : who->event_types;
    size_t count = who->every_event_type ? BUILT_IN_COUNT : who->event_type_count;
    for (size_t i = 0; i < count && claim->count < CLAIM_COMMANDS_MAX; i++) {
        struct queue *queue = queues_get(service->queues, who->tenant, list[i], strlen(list[i]));
        if (queue != NULL) {
            claim->queues[claim->count++] = queue;
        }
    }
    claim->every = who->every_event_type && claim->count == BUILT_IN_COUNT;
    if (claim->count == 0) {
        request_answer_error(request, 403, "event type not allowed");
        return false;
    }
    return true;
}

static void claim_start(struct request *request, bool batch)
{
    static const char *const keys[] = {"commands", "leaseSeconds", "waitSeconds", "count"};
    struct service *service = request->service;
    struct body body;
    struct body_value value;
    if (body_open(&body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid body");
        return;
    }
    struct body_value v[4];
    int64_t lease_seconds = 0;
    int64_t wait_seconds = 0;
    int64_t want = 1;
    if (body_members(&value, keys, 4, v) != 0 || !body_int(&v[1], 0, &lease_seconds) ||
        (!batch && !body_int(&v[2], 0, &wait_seconds)) || (batch && !body_int(&v[3], 0, &want))) {
        request_answer_error(request, 400, "invalid body");
        goto out;
    }
    if (want < 1 || want > BATCH_CLAIM_MAX) {
        request_answer_error(request, 400, "count must be 1 to 10");
        goto out;
    }
    struct claim *claim = request_alloc(request, sizeof(*claim));
    memset(claim, 0, sizeof(*claim));
    claim->request = request;
    claim->batch = batch;
    claim->want = (uint16_t)want;
    claim->lease_ms = lease_seconds <= 0 ? service->config->lease_default_ns / NS_PER_MS
                      : lease_seconds > LEASE_MS_MAX / 1000 ? LEASE_MS_MAX
                                                            : lease_seconds * 1000;
    if (wait_seconds > 0) {
        wait_seconds =
            wait_seconds > CLAIM_WAIT_SECONDS_MAX ? CLAIM_WAIT_SECONDS_MAX : wait_seconds;
        claim->wait_until_ns = service->now_ns + wait_seconds * NS_PER_SEC;
    }
    if (!claim_queues(claim, &v[0])) {
        goto out;
    }
    if (service->draining) {
        claim_answer_none(claim);
        goto out;
    }
    if (claim->wait_until_ns != 0) {
        waiters_enter(service->waiters);
        claim->entered = true;
    }
    claim_round(claim);
out:
    body_close(&body);
}

static void claim_one(struct service *service, struct request *request)
{
    (void)service;
    claim_start(request, false);
}

static void claim_batch(struct service *service, struct request *request)
{
    (void)service;
    claim_start(request, true);
}

/* ---- what a lease's holder does ---- */

/* The id in the path; false: answered 404 with text. */
static bool path_id(struct request *request, const char *not_found, struct task_id *out)
{
    if (task_id_parse(request->params[0], strlen(request->params[0]), out) != 0) {
        request_answer_error(request, 404, not_found);
        return false;
    }
    return true;
}

/* Read a token's text into lease, whose id is known. NULL, or why not. */
static const char *lease_read(struct store_lease_ref *lease, struct request *request,
                              const struct task_id *id, const char *token, size_t token_bytes)
{
    *lease = (struct store_lease_ref){.worker = text_of(request->who.subject)};
    if (token_bytes == 0) {
        lease->token = task_member_first(id, 0, 1);
        return NULL;
    }
    lease->has_token = true;
    if (task_member_parse(token, token_bytes, &lease->token) != 0) {
        return "invalid deliveryToken";
    }
    struct task_id named = task_member_id(&lease->token);
    return task_id_equal(&named, id) ? NULL : "deliveryToken is of another task";
}

static const char *lease_read_value(struct store_lease_ref *lease, struct request *request,
                                    const struct task_id *id, const struct body_value *value)
{
    const char *token = NULL;
    if (!body_text(value, &token)) {
        return "invalid body";
    }
    return lease_read(lease, request, id, token, token == NULL ? 0 : strlen(token));
}

/* What the verdicts other than STORE_DONE mean. */
static void item_refused(struct item *item, enum store_verdict verdict, const char *not_found,
                         int not_leased_status)
{
    switch (verdict) {
    case STORE_LOST:
        lease_ended(item->request->service, item->request->who.tenant, &item->id,
                    METRICS_LEASES_LOST);
        item_error(item, 409, "lease-lost");
        break;
    case STORE_NOT_OWNER:
        item_error(item, 403, "not-owner");
        break;
    case STORE_NOT_LEASED:
        item_error(item, not_leased_status,
                   not_leased_status == 403 ? "not-owner" : "not-in-progress");
        break;
    case STORE_NOT_FOUND:
        item_error(item, 404, not_found);
        break;
    case STORE_DONE:
    case STORE_DUPLICATE:
        item_error(item, 500, "internal error");
        break;
    }
}

static struct item *item_alone(struct request *request, const struct task_id *id)
{
    struct item *item = request_alloc(request, sizeof(*item));
    *item = (struct item){.request = request, .id = *id};
    return item;
}

static void on_heartbeat(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
        return;
    }
    if (result->returned->verdict != STORE_DONE) {
        item_refused(item, result->returned->verdict, "not-found", 403);
        return;
    }
    struct store_queue queue = queue_of(item->request, &item->id);
    reaper_due(item->request->service->reaper, &queue, result->returned->lease_until_ms);
    struct queue *known =
        queues_by_number(item->request->service->queues, queue.tenant, queue.number);
    if (known != NULL) {
        metrics_count_command(item->request->service->metrics, METRICS_HEARTBEATS,
                              known->metrics_slot, 1);
    }
    if (item->batch != NULL) {
        item_end(item, TEXT_PUT(item_begin(item, 200, 16), "true"));
    } else {
        item_end(item, TEXT_PUT(item_begin(item, 200, 16), "{\"ok\":true}"));
    }
}

static int64_t extend_ms(const struct request *request, int64_t seconds)
{
    return seconds <= 0                    ? request->service->config->lease_default_ns / NS_PER_MS
           : seconds > LEASE_MS_MAX / 1000 ? LEASE_MS_MAX
                                           : seconds * 1000;
}

static void heartbeat(struct service *service, struct request *request)
{
    static const char *const keys[] = {"extendSeconds", "deliveryToken"};
    struct task_id id;
    struct body body;
    struct body_value value;
    struct body_value v[2];
    int64_t seconds = 0;
    if (body_open(&body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid body");
        return;
    }
    struct store_heartbeat_item item;
    if (body_members(&value, keys, 2, v) != 0 || !body_int(&v[0], 0, &seconds)) {
        request_answer_error(request, 400, "invalid body");
    } else if (path_id(request, "not-found", &id)) {
        const char *why = lease_read_value(&item.lease, request, &id, &v[1]);
        if (why != NULL) {
            request_answer_error(request, 400, why);
        } else {
            item.extend_ms = extend_ms(request, seconds);
            struct store_queue queue = queue_of(request, &id);
            gather_heartbeat(service->gather, &queue, &item, on_heartbeat, item_alone(request, &id),
                             0);
        }
    }
    body_close(&body);
}

static void on_abandoned(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
        return;
    }
    if (result->returned->verdict != STORE_DONE) {
        item_refused(item, result->returned->verdict, "not-found", 403);
        return;
    }
    lease_ended(item->request->service, item->request->who.tenant, &item->id, METRICS_ABANDONED);
    work_arrived(item->request, &item->id);
    item_end(item, TEXT_PUT(item_begin(item, 200, 32), "{\"status\":\"requeued\"}"));
}

static void abandon(struct service *service, struct request *request)
{
    struct task_id id;
    if (!path_id(request, "not-found", &id)) {
        return;
    }
    struct store_bytes token = {"", 0};
    (void)http_header(&request->http, "x-delivery-token", &token);
    struct store_abandon_item item;
    const char *why = lease_read(&item.lease, request, &id, token.data, token.bytes);
    if (why != NULL) {
        request_answer_error(request, 400, why);
        return;
    }
    struct store_queue queue = queue_of(request, &id);
    gather_abandon(service->gather, &queue, &item, on_abandoned, item_alone(request, &id), 0);
}

/* codeQ tells an unclaimed task (403) from a finished one (409). */
static void on_nack_state(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
    } else if (result->task->state == TASK_READY || result->task->state == TASK_DELAYED ||
               result->task->state == TASK_LEASED) {
        item_error(item, 403, "not-owner");
    } else if (result->task->state == TASK_NONE) {
        item_error(item, 404, "task not found");
    } else {
        item_error(item, 409, "not-in-progress");
    }
}

static void on_nacked(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
        return;
    }
    const struct store_return_verdict *returned = result->returned;
    if (returned->verdict == STORE_NOT_LEASED) {
        struct store_queue queue = queue_of(item->request, &item->id);
        gather_get(item->request->service->gather, &queue, &item->id, on_nack_state, item, 0);
        return;
    }
    if (returned->verdict != STORE_DONE) {
        item_refused(item, returned->verdict, "task not found", 409);
        return;
    }
    struct service *service = item->request->service;
    const char *tenant = item->request->who.tenant;
    lease_ended(service, tenant, &item->id, METRICS_NACKED);
    if (returned->dead) {
        task_ended(service, tenant, &item->id, true, 0);
        webhook_poke(service->webhook, tenant, task_id_queue(&item->id), task_id_shard(&item->id));
    }
    if (!returned->dead && returned->delay_ms == 0) {
        work_arrived(item->request, &item->id);
    } else if (!returned->dead) {
        struct store_queue queue = queue_of(item->request, &item->id);
        struct reaper *reaper = item->request->service->reaper;
        reaper_due(reaper, &queue, reaper_now_ms(reaper) + returned->delay_ms);
    }
    char *at = item_begin(item, 200, 80);
    at = returned->dead ? TEXT_PUT(at, "{\"status\":\"dlq\",\"delaySeconds\":")
                        : TEXT_PUT(at, "{\"status\":\"requeued\",\"delaySeconds\":");
    at = text_int(at, returned->dead ? 0 : (returned->delay_ms + 999) / 1000);
    item_end(item, TEXT_PUT(at, "}"));
}

static void nack(struct service *service, struct request *request)
{
    static const char *const keys[] = {"delaySeconds", "reason", "deliveryToken"};
    struct task_id id;
    struct body body;
    struct body_value value;
    struct body_value v[3];
    int64_t seconds = 0;
    const char *reason = NULL;
    if (body_open(&body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid body");
        return;
    }
    struct store_nack_item item;
    if (body_members(&value, keys, 3, v) != 0 || !body_int(&v[0], 0, &seconds) ||
        !body_text(&v[1], &reason)) {
        request_answer_error(request, 400, "invalid body");
    } else if (reason != NULL && strlen(reason) > STORE_NAME_BYTES_MAX) {
        request_answer_error(request, 400, "reason is longer than 1024 bytes");
    } else if (path_id(request, "task not found", &id)) {
        const char *why = lease_read_value(&item.lease, request, &id, &v[2]);
        if (why != NULL) {
            request_answer_error(request, 400, why);
        } else {
            item.delay_ms = seconds <= 0                      ? 0
                            : seconds > BACKOFF_MS_MAX / 1000 ? BACKOFF_MS_MAX
                                                              : seconds * 1000;
            item.reason = none;
            if (reason != NULL) {
                item.reason = text_of(reason);
            }
            struct store_queue queue = queue_of(request, &id);
            gather_nack(service->gather, &queue, &item, on_nacked, item_alone(request, &id), 0);
        }
    }
    body_close(&body);
}

/* ---- result ---- */

static const char *const result_keys[] = {"status", "result", "error", "artifacts",
                                          "deliveryToken"};
enum { RESULT_STATUS, RESULT_RESULT, RESULT_ERROR, RESULT_ARTIFACTS, RESULT_TOKEN, RESULT_KEYS };

static char *put_member(char *at, const char *key, const struct store_bytes *raw)
{
    at = TEXT_PUT(at, ",\"");
    at = text_put(at, key, strlen(key));
    at = TEXT_PUT(at, "\":");
    return text_put(at, raw->data, raw->bytes);
}

/* Check artifacts and, with at, write them. NULL, or why not. */
static const char *artifacts_read(const struct body_value *list, char **at)
{
    static const char *const keys[] = {"name", "url", "contentBase64", "contentType"};
    struct body_items items;
    if (!body_items_begin(list, &items)) {
        return "invalid request body";
    }
    char *p = *at;
    *p++ = '[';
    struct body_value value;
    for (bool first = true; body_items_next(&items, &value); first = false) {
        struct body_value v[4];
        const char *name = NULL;
        const char *url = NULL;
        const char *content = NULL;
        const char *type = NULL;
        if (body_members(&value, keys, 4, v) != 0 || !body_text(&v[0], &name) ||
            !body_text(&v[1], &url) || !body_text(&v[2], &content) || !body_text(&v[3], &type)) {
            return "invalid request body";
        }
        if (name == NULL || is_blank(name) || strchr(name, '/') != NULL ||
            strchr(name, '\\') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            return "artifact name is missing or not a plain file name";
        }
        if (content != NULL) {
            return "artifacts with contentBase64 are not stored here: give a url";
        }
        if (url == NULL || !is_http_url(url)) {
            return "artifact needs an http(s) url";
        }
        if (!first) {
            *p++ = ',';
        }
        p = TEXT_PUT(p, "{\"name\":");
        p = text_put(p, v[0].raw.data, v[0].raw.bytes);
        p = put_member(p, "url", &v[1].raw);
        *p++ = '}';
    }
    *p++ = ']';
    *at = p;
    return NULL;
}

/* Fill complete from the JSON of one result. NULL, or why not. */
static const char *result_read(struct item *item, const struct body_value *v,
                               struct store_complete_item *complete)
{
    const char *status = NULL;
    const char *error = NULL;
    if (!body_text(&v[RESULT_STATUS], &status) || !body_text(&v[RESULT_ERROR], &error) ||
        (body_has(&v[RESULT_RESULT]) && !body_is_object(&v[RESULT_RESULT]))) {
        return "invalid request body";
    }
    bool failed = status != NULL && strcmp(status, "FAILED") == 0;
    if (!failed && (status == NULL || strcmp(status, "COMPLETED") != 0)) {
        return "status must be COMPLETED or FAILED";
    }
    if (!failed && !body_has(&v[RESULT_RESULT])) {
        return "result is required when status is COMPLETED";
    }
    if (failed && (error == NULL || is_blank(error))) {
        return "error is required when status is FAILED";
    }
    complete->failed = failed;
    const char *why =
        lease_read_value(&complete->lease, item->request, &item->id, &v[RESULT_TOKEN]);
    if (why != NULL) {
        return why;
    }
    size_t room = 128 + v[RESULT_RESULT].raw.bytes + v[RESULT_ERROR].raw.bytes +
                  2 * v[RESULT_ARTIFACTS].raw.bytes;
    char *text = request_alloc(item->request, room);
    char *at = failed ? TEXT_PUT(text, "\"status\":\"FAILED\"")
                      : TEXT_PUT(text, "\"status\":\"COMPLETED\"");
    if (body_has(&v[RESULT_RESULT])) {
        at = put_member(at, "result", &v[RESULT_RESULT].raw);
    }
    if (failed) {
        at = put_member(at, "error", &v[RESULT_ERROR].raw);
    }
    if (body_has(&v[RESULT_ARTIFACTS])) {
        at = TEXT_PUT(at, ",\"artifacts\":");
        why = artifacts_read(&v[RESULT_ARTIFACTS], &at);
        if (why != NULL) {
            return why;
        }
    }
    item->result = (struct store_bytes){text, (size_t)(at - text)};
    complete->result = item->result;
    item->failed = failed;
    return NULL;
}

/* This token has completed it already: the answer is what was stored then. */
static void on_result_again(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
    } else if (result->task->state != TASK_COMPLETED && result->task->state != TASK_FAILED) {
        item_error(item, 409, "not-in-progress");
    } else {
        char *at = item_begin(item, 200, result_json_room(result->task->result.bytes));
        item_end(item, result_json(at, &item->id, &result->task->result, result->task->updated_ms));
    }
}

static void on_completed(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
        return;
    }
    const struct store_return_verdict *returned = result->returned;
    if (returned->verdict == STORE_DUPLICATE) {
        struct store_queue queue = queue_of(item->request, &item->id);
        gather_get(item->request->service->gather, &queue, &item->id, on_result_again, item, 0);
        return;
    }
    if (returned->verdict != STORE_DONE) {
        item_refused(item, returned->verdict, "task not found", 409);
        return;
    }
    struct service *service = item->request->service;
    const char *tenant = item->request->who.tenant;
    task_ended(service, tenant, &item->id, item->failed, returned->ended_ms);
    result_ended(service, &item->id);
    if (returned->outbox) {
        webhook_poke(service->webhook, tenant, task_id_queue(&item->id), task_id_shard(&item->id));
    }
    char *at = item_begin(item, 200, result_json_room(item->result.bytes));
    item_end(item, result_json(at, &item->id, &item->result, returned->ended_ms));
}

static void result_post(struct service *service, struct request *request)
{
    struct body body;
    struct body_value value;
    struct body_value v[RESULT_KEYS];
    if (body_open(&body, request, &value) != 0) {
        request_answer_error(request, 400, "invalid request body");
        return;
    }
    struct task_id id;
    if (body_members(&value, result_keys, RESULT_KEYS, v) != 0) {
        request_answer_error(request, 400, "invalid request body");
    } else if (path_id(request, "task not found", &id)) {
        struct item *item = item_alone(request, &id);
        struct store_complete_item complete;
        const char *why = result_read(item, v, &complete);
        if (why != NULL) {
            request_answer_error(request, 400, why);
        } else {
            struct store_queue queue = queue_of(request, &id);
            gather_complete(service->gather, &queue, &complete, on_completed, item, 0);
        }
    }
    body_close(&body);
}

static void result_batch(struct service *service, struct request *request)
{
    static const char *const keys[] = {"status",    "result",        "error",
                                       "artifacts", "deliveryToken", "taskId"};
    struct body body;
    struct body_items list;
    size_t count = batch_open(request, &body, "results", &list);
    if (count == 0) {
        return;
    }
    struct batch *batch = batch_new(request, "{\"results\":[", count);
    struct item *items = request_alloc(request, count * sizeof(*items));
    struct body_value value;
    for (size_t i = 0; i < count && body_items_next(&list, &value); i++) {
        struct item *item = &items[i];
        *item = (struct item){.request = request, .batch = batch, .index = i, .member = "result"};
        struct body_value v[RESULT_KEYS + 1];
        const char *text = NULL;
        if (body_members(&value, keys, RESULT_KEYS + 1, v) != 0 ||
            !body_text(&v[RESULT_KEYS], &text)) {
            item_error(item, 400, "invalid request body");
            continue;
        }
        if (text == NULL || task_id_parse(text, strlen(text), &item->id) != 0) {
            item_error(item, 404, "task not found");
            continue;
        }
        item->has_id = true;
        struct store_complete_item complete;
        const char *why = result_read(item, v, &complete);
        if (why != NULL) {
            item_error(item, 400, why);
            continue;
        }
        struct store_queue queue = queue_of(request, &item->id);
        gather_complete(service->gather, &queue, &complete, on_completed, item, 0);
    }
    body_close(&body);
}

static void heartbeat_batch(struct service *service, struct request *request)
{
    static const char *const keys[] = {"taskId", "extendSeconds", "deliveryToken"};
    struct body body;
    struct body_items list;
    size_t count = batch_open(request, &body, "heartbeats", &list);
    if (count == 0) {
        return;
    }
    struct batch *batch = batch_new(request, "{\"results\":[", count);
    struct item *items = request_alloc(request, count * sizeof(*items));
    struct body_value value;
    for (size_t i = 0; i < count && body_items_next(&list, &value); i++) {
        struct item *item = &items[i];
        *item = (struct item){.request = request, .batch = batch, .index = i, .member = "ok"};
        struct body_value v[3];
        const char *text = NULL;
        int64_t seconds = 0;
        if (body_members(&value, keys, 3, v) != 0 || !body_text(&v[0], &text) ||
            !body_int(&v[1], 0, &seconds)) {
            item_error(item, 400, "invalid body");
            continue;
        }
        if (text == NULL || task_id_parse(text, strlen(text), &item->id) != 0) {
            item_error(item, 404, "not-found");
            continue;
        }
        item->has_id = true;
        struct store_heartbeat_item beat;
        const char *why = lease_read_value(&beat.lease, request, &item->id, &v[2]);
        if (why != NULL) {
            item_error(item, 400, why);
            continue;
        }
        beat.extend_ms = extend_ms(request, seconds);
        struct store_queue queue = queue_of(request, &item->id);
        gather_heartbeat(service->gather, &queue, &beat, on_heartbeat, item, 0);
    }
    body_close(&body);
}

/* ---- reading ---- */

static void on_got(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct item *item = arg;
    if (result->call->status != STORE_OK) {
        item_store_error(item, result->call);
    } else if (result->task->state == TASK_NONE) {
        item_error(item, 404, "task not found");
    } else {
        struct task_view view = task_view_of(result->task);
        char *at = item_begin(item, 200, task_json_room(&view));
        item_end(item, task_json(at, &view));
    }
}

static void get_task(struct service *service, struct request *request)
{
    struct task_id id;
    if (path_id(request, "task not found", &id)) {
        struct store_queue queue = queue_of(request, &id);
        gather_get(service->gather, &queue, &id, on_got, item_alone(request, &id), 0);
    }
}

static void result_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct result_wait *wait = timer->data;
    result_unpark(wait);
    result_look(wait);
}

static void result_on_gone(struct request *request)
{
    struct result_wait *wait = request->state;
    wait->until_ns = 0;
    if (wait->timer_on) {
        result_unpark(wait);
        request->on_gone = NULL;
        request_answer_error(request, 404, "result not found");
    }
}

static void on_result_got(void *arg, size_t index, const struct gather_result *result)
{
    (void)index;
    struct result_wait *wait = arg;
    struct request *request = wait->request;
    struct service *service = request->service;
    if (result->call->status != STORE_OK) {
        request->on_gone = NULL;
        request_answer_store_error(request, result->call);
        return;
    }
    const struct store_task *task = result->task;
    if (task->state == TASK_NONE) {
        request->on_gone = NULL;
        request_answer_error(request, 404, "task not found");
        return;
    }
    if (task->state == TASK_COMPLETED || task->state == TASK_FAILED) {
        request->on_gone = NULL;
        struct task_view view = task_view_of(task);
        char *at = request_answer_begin(
            request, 200, task_json_room(&view) + result_json_room(task->result.bytes) + 32);
        at = TEXT_PUT(at, "{\"task\":");
        at = task_json(at, &view);
        at = TEXT_PUT(at, ",\"result\":");
        at = result_json(at, &wait->id, &task->result, task->updated_ms);
        request_answer_end(request, TEXT_PUT(at, "}"));
        return;
    }
    int64_t left = wait->until_ns - service->now_ns;
    if (wait->until_ns == 0 || left <= 0 || service->draining) {
        request->on_gone = NULL;
        request_answer_error(request, 404, "result not found");
        return;
    }
    int64_t after = left < RESULT_POLL_NS ? left : RESULT_POLL_NS;
    request->waited = true;
    if (wait->ended_before != service->results_ended[result_slot(&wait->id)]) {
        result_look(wait); /* it may have ended behind the look */
        return;
    }
    ev_init(&wait->timer, result_on_timer);
    wait->timer.data = wait;
    result_park(wait, after);
}

static void result_look(struct result_wait *wait)
{
    struct service *service = wait->request->service;
    struct store_queue queue = queue_of(wait->request, &wait->id);
    wait->ended_before = service->results_ended[result_slot(&wait->id)];
    gather_get(service->gather, &queue, &wait->id, on_result_got, wait, 0);
}

static void get_result(struct service *service, struct request *request)
{
    struct task_id id;
    if (!path_id(request, "task not found", &id)) {
        return;
    }
    struct result_wait *wait = request_alloc(request, sizeof(*wait));
    *wait = (struct result_wait){.request = request, .id = id};
    const char *text = NULL;
    if (request_query(request, "waitSeconds", &text)) {
        char *end = NULL;
        long seconds = strtol(text, &end, 10);
        if (end != text && *end == '\0' && seconds > 0) {
            seconds = seconds > RESULT_WAIT_SECONDS_MAX ? RESULT_WAIT_SECONDS_MAX : seconds;
            wait->until_ns = service->now_ns + seconds * NS_PER_SEC;
        }
    }
    request->state = wait;
    request->on_gone = result_on_gone;
    result_look(wait);
}

#define WORKER AUTH_WORKER
const struct route api_tasks_routes[] = {
    {HTTP_METHOD_POST, "/v1/codeq/tasks", create_one, AUTH_PRODUCER, 0, RATE_PRODUCER,
     "createTask"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/claim", claim_one, WORKER, AUTH_SCOPE_CLAIM, RATE_WORKER,
     "claimTask"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/:id/result", result_post, WORKER, AUTH_SCOPE_RESULT,
     RATE_NONE, "submitResult"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/:id/heartbeat", heartbeat, WORKER, AUTH_SCOPE_HEARTBEAT,
     RATE_NONE, "heartbeatTask"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/batch", create_batch, AUTH_PRODUCER, 0, RATE_PRODUCER,
     "createTasks"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/claim/batch", claim_batch, WORKER, AUTH_SCOPE_CLAIM,
     RATE_WORKER, "claimTasks"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/batch/results", result_batch, WORKER, AUTH_SCOPE_RESULT,
     RATE_NONE, "submitResults"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/heartbeat/batch", heartbeat_batch, WORKER,
     AUTH_SCOPE_HEARTBEAT, RATE_NONE, "heartbeatTasks"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/:id/abandon", abandon, WORKER, AUTH_SCOPE_ABANDON,
     RATE_NONE, "abandonTask"},
    {HTTP_METHOD_POST, "/v1/codeq/tasks/:id/nack", nack, WORKER, AUTH_SCOPE_NACK, RATE_NONE,
     "nackTask"},
    {HTTP_METHOD_GET, "/v1/codeq/tasks/:id", get_task, AUTH_ANY, 0, RATE_NONE, "getTask"},
    {HTTP_METHOD_GET, "/v1/codeq/tasks/:id/result", get_result, AUTH_ANY, 0, RATE_NONE,
     "getResult"},
    {0},
};
