#include "service/webhook.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/rng.h"
#include "service/fetch.h"
#include "store/conn.h"
#include "store/keys.h"

#define MEMBER_BYTES (TASK_ID_BYTES + 1)
#define TENANT_BYTES (KEYS_TENANT_BYTES_MAX + 1)
#define COMMAND_BYTES_MAX 255
#define REDIS_PAUSE_NS NS_PER_SEC /* after Redis did not answer */
#define RESPONSE_BYTES_MAX 4096
#define SCAN_COUNT \
    500 /* keys looked at by one command; a reply has CONN_NODES_MAX values at most */

/* One outbox: of a queue shard, or of a tenant's notices. */
struct shard {
    char tenant[TENANT_BYTES];
    char tag[KEYS_BYTES_MAX];
    bool notices;
    uint16_t number;
    uint8_t shard;
    bool busy; /* a take, or the read that follows it, is on its way */
    int64_t due_ns; /* look again then, monotonic */
};

/* An entry that was taken. */
struct delivery {
    struct webhook *webhook;
    struct delivery *next;
    struct delivery **previous;
    size_t shard; /* index: the array moves */
    char member[MEMBER_BYTES];
    int64_t tries;
    char *url;
    struct buf body;
};

struct poke {
    char tenant[TENANT_BYTES];
    uint16_t number;
    uint8_t shard;
};

struct ready {
    char tenant[TENANT_BYTES];
    char command[COMMAND_BYTES_MAX + 1];
};

struct tenant {
    char name[TENANT_BYTES];
};

struct webhook {
    struct webhook_options options;
    struct fetch *fetch;
    struct rng rng;
    bool stopped;
    ev_timer timer;
    ev_async wake;
    struct shard *shards;
    size_t shard_count;
    size_t shard_capacity;
    struct delivery *deliveries;
    size_t delivery_count;
    int64_t discovery_due_ns;
    bool discovering;
    /* what other threads write */
    pthread_mutex_t lock;
    struct poke *pokes;
    size_t poke_count;
    size_t poke_capacity;
    struct ready *readies;
    size_t ready_count;
    size_t ready_capacity;
    struct tenant *tenants; /* with subscriptions */
    size_t tenant_capacity;
    _Atomic size_t tenant_count;
};

/* A batch of tasks being read after a take. */
struct reading {
    struct webhook *webhook;
    size_t shard;
    size_t count;
    struct delivery *deliveries[WEBHOOK_TAKE_MAX];
};

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* Room for one more in an array that doubles. */
static void *room(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity != 0 ? *capacity * 2 : 16;
    return must(realloc(array, *capacity * size));
}

static int64_t now_ns(const struct webhook *webhook)
{
    return clock_monotonic_ns(webhook->options.clock);
}

void webhook_sign(const char *secret, int64_t timestamp_seconds, const char *body, size_t bytes,
                  char out[WEBHOOK_SIGNATURE_BYTES])
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "%lld.", (long long)timestamp_seconds);
    buf_append(&text, body, bytes);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_bytes = 0;
    if (HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)text.data,
             text.bytes, mac, &mac_bytes) == NULL) {
        abort();
    }
    for (unsigned i = 0; i < mac_bytes; i++) {
        snprintf(out + 2 * (size_t)i, 3, "%02x", mac[i]);
    }
    buf_fini(&text);
}

/* ---- the timer ---- */

static void plan(struct webhook *webhook)
{
    int64_t at_ns = webhook->discovery_due_ns;
    for (size_t i = 0; i < webhook->shard_count; i++) {
        if (!webhook->shards[i].busy && webhook->shards[i].due_ns < at_ns) {
            at_ns = webhook->shards[i].due_ns;
        }
    }
    int64_t wait_ns = at_ns - now_ns(webhook);
    ev_timer_stop(webhook->options.loop, &webhook->timer);
    if (!webhook->stopped) {
        ev_timer_set(&webhook->timer, wait_ns > 0 ? (double)wait_ns / 1e9 : 0.0, 0.0);
        ev_timer_start(webhook->options.loop, &webhook->timer);
    }
}

static size_t shard_find(struct webhook *webhook, const char *tenant, bool notices, uint16_t number,
                         uint8_t shard)
{
    for (size_t i = 0; i < webhook->shard_count; i++) {
        const struct shard *s = &webhook->shards[i];
        if (s->number == number && s->shard == shard && s->notices == notices &&
            strcmp(s->tenant, tenant) == 0) {
            return i;
        }
    }
    if (webhook->shard_count == WEBHOOK_SHARDS_MAX) {
        return SIZE_MAX;
    }
    struct shard s = {.notices = notices, .number = number, .shard = shard};
    snprintf(s.tenant, sizeof s.tenant, "%s", tenant);
    if (notices) {
        snprintf(s.tag, sizeof s.tag, "{%s}", tenant);
    } else if (keys_tag(tenant, number, shard, s.tag) == 0) {
        return SIZE_MAX;
    }
    webhook->shards = room(webhook->shards, webhook->shard_count, &webhook->shard_capacity,
                           sizeof *webhook->shards);
    webhook->shards[webhook->shard_count] = s;
    return webhook->shard_count++;
}

static void shard_due(struct webhook *webhook, size_t i, int64_t due_ns)
{
    webhook->shards[i].due_ns = due_ns;
    plan(webhook);
}

/* ---- settling ---- */

static void delivery_free(struct delivery *delivery)
{
    *delivery->previous = delivery->next;
    if (delivery->next != NULL) {
        delivery->next->previous = delivery->previous;
    }
    delivery->webhook->delivery_count--;
    metrics_set(delivery->webhook->options.metrics, METRICS_WEBHOOKS_IN_FLIGHT,
                (int64_t)delivery->webhook->delivery_count);
    free(delivery->url);
    buf_fini(&delivery->body);
    free(delivery);
}

static void ignore_reply(void *owner, struct conn_call *call, enum conn_status status,
                         const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    (void)call;
    (void)status;
    (void)reply;
    (void)err;
}

static void begin_script(struct conn *conn, enum script_id id, const char *key, size_t argc)
{
    conn_begin(conn, 4 + argc);
    conn_arg(conn, "EVALSHA", 7);
    conn_arg(conn, store_scripts[id].sha, SCRIPT_SHA_BYTES);
    conn_arg(conn, "1", 1);
    conn_arg(conn, key, strlen(key));
}

/* delay_ms < 0: over. Where Redis does not hear it, the entry comes again. */
static void settle(struct delivery *delivery, int64_t delay_ms)
{
    struct webhook *webhook = delivery->webhook;
    const struct shard *shard = &webhook->shards[delivery->shard];
    struct conn *conn = webhook->stopped ? NULL : webhook->options.conn(webhook->options.conn_arg);
    if (conn != NULL) {
        begin_script(conn, SCRIPT_OUTBOX_SETTLE, shard->tag, 2);
        conn_arg(conn, delivery->member, MEMBER_BYTES);
        conn_arg_int(conn, delay_ms);
        struct conn_call call = {.done = ignore_reply,
                                 .owner = webhook,
                                 .script = &store_scripts[SCRIPT_OUTBOX_SETTLE],
                                 .repeatable = delay_ms < 0};
        (void)conn_end(conn, &call);
        if (delay_ms >= 0) {
            int64_t due_ns = now_ns(webhook) + delay_ms * NS_PER_MS;
            if (due_ns < shard->due_ns) {
                shard_due(webhook, delivery->shard, due_ns);
            }
        }
    }
    delivery_free(delivery);
}

static void settle_failed(struct delivery *delivery, int64_t least_ns)
{
    const struct config *config = delivery->webhook->options.config;
    if (delivery->tries + 1 >= config->webhook_attempts_max) {
        metrics_count(delivery->webhook->options.metrics, METRICS_WEBHOOK_RESULT_DROPPED, 1);
        settle(delivery, -1);
        return;
    }
    int64_t delay_ns = config->webhook_backoff_base_ns;
    for (int64_t i = 0; i < delivery->tries && delay_ns < config->webhook_backoff_max_ns; i++) {
        delay_ns *= 2;
    }
    delay_ns = least_ns > delay_ns ? least_ns : delay_ns; /* the receiver's Retry-After */
    if (delay_ns > config->webhook_backoff_max_ns) {
        delay_ns = config->webhook_backoff_max_ns;
    }
    settle(delivery, delay_ns / NS_PER_MS);
}

/* ---- sending ---- */

static bool is_notice(const struct delivery *delivery)
{
    return delivery->member[MEMBER_BYTES - 1] == 'q';
}

static void on_answer(void *arg, const struct fetch_result *result)
{
    struct delivery *delivery = arg;
    struct metrics *metrics = delivery->webhook->options.metrics;
    bool notice = is_notice(delivery);
    if (result->outcome == FETCH_CANCELLED) {
        delivery_free(delivery);
        return;
    }
    if (result->outcome == FETCH_REFUSED) {
        metrics_count(metrics, METRICS_WEBHOOK_REFUSED, 1);
        settle(delivery, -1);
        return;
    }
    if (result->outcome == FETCH_ANSWERED && result->status >= 200 && result->status < 300) {
        metrics_count(metrics,
                      notice ? METRICS_WEBHOOK_READY_SUCCESS : METRICS_WEBHOOK_RESULT_SUCCESS, 1);
        settle(delivery, -1);
        return;
    }
    metrics_count(metrics, notice ? METRICS_WEBHOOK_READY_FAILURE : METRICS_WEBHOOK_RESULT_FAILURE,
                  1);
    settle_failed(delivery, result->retry_after_ns);
}

static void send_delivery(struct delivery *delivery)
{
    struct webhook *webhook = delivery->webhook;
    const struct config *config = webhook->options.config;
    struct fetch_request request = {
        .url = delivery->url,
        .body = delivery->body.data,
        .body_bytes = delivery->body.bytes,
        .timeout_ns = config->webhook_timeout_ns,
        .headers = {"Content-Type: application/json"},
    };
    char timestamp[64];
    char signature[WEBHOOK_SIGNATURE_BYTES + 32];
    if (config->webhook_hmac_secret != NULL) {
        char hex[WEBHOOK_SIGNATURE_BYTES];
        int64_t seconds = clock_wall_ns(webhook->options.clock) / NS_PER_SEC;
        webhook_sign(config->webhook_hmac_secret, seconds, delivery->body.data,
                     delivery->body.bytes, hex);
        snprintf(timestamp, sizeof timestamp, "X-CodeQ-Timestamp: %lld", (long long)seconds);
        snprintf(signature, sizeof signature, "X-CodeQ-Signature: %s", hex);
        request.headers[1] = timestamp;
        request.headers[2] = signature;
    }
    int code = fetch_start(webhook->fetch, &request, on_answer, delivery, NULL);
    if (code == -EAGAIN) {
        settle(delivery, 100); /* cannot be: deliveries are bounded below the fetches */
    } else if (code != 0) {
        settle(delivery, -1); /* not a URL that we ever send to */
    }
}

static void on_limit(void *arg, int64_t retry_after_ms)
{
    struct delivery *delivery = arg;
    if (delivery->webhook->stopped) {
        delivery_free(delivery);
    } else if (retry_after_ms == 0) {
        send_delivery(delivery);
    } else {
        metrics_count(delivery->webhook->options.metrics, METRICS_RATE_HITS_WEBHOOK, 1);
        settle(delivery, retry_after_ms);
    }
}

static void deliver(struct delivery *delivery)
{
    struct webhook *webhook = delivery->webhook;
    char host[256];
    const char *tenant = webhook->shards[delivery->shard].tenant;
    bool limited = ratelimit_is_on(webhook->options.ratelimit, RATELIMIT_WEBHOOK) &&
                   fetch_host(delivery->url, host, sizeof host) &&
                   strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(host);
    if (!limited || !ratelimit_take(webhook->options.ratelimit,
                                    webhook->options.conn(webhook->options.conn_arg),
                                    RATELIMIT_WEBHOOK, tenant, host, on_limit, delivery)) {
        send_delivery(delivery);
    }
}

/* ---- taking ---- */

/* {"taskId","eventType",status and result as kept,"completedAt"}, and the URL out of the body. */
static bool render_task(struct delivery *delivery, const struct store_task *task)
{
    struct buf text = BUF_INIT;
    buf_puts(&text, "{");
    buf_append(&text, task->body.data, task->body.bytes);
    buf_puts(&text, "}");
    struct json *body = json_parse(text.data, text.bytes, NULL);
    buf_fini(&text);
    const char *url = json_string(json_get(body, "webhook"), NULL);
    if (url == NULL || task->state == TASK_NONE) {
        json_free(body);
        return false;
    }
    delivery->url = must(strdup(url));
    struct json *out = json_new_object();
    struct task_id id;
    memcpy(id.bytes, delivery->member, TASK_ID_BYTES);
    char id_text[TASK_ID_TEXT_BYTES];
    task_id_format(&id, id_text);
    json_add_string(out, "taskId", id_text);
    json_add_string(out, "eventType", json_string(json_get(body, "command"), ""));
    json_free(body);
    bool finished = task->state == TASK_COMPLETED || task->state == TASK_FAILED;
    if (!finished) {
        json_add_string(out, "status", "FAILED");
        text = BUF_INIT;
        buf_append(&text, task->reason.data, task->reason.bytes);
        json_add_string(out, "error", text.bytes != 0 ? text.data : "MAX_ATTEMPTS");
        buf_fini(&text);
    }
    char *begin = json_print(out);
    json_free(out);
    begin[strlen(begin) - 1] = '\0'; /* the brace */
    buf_puts(&delivery->body, begin);
    free(begin);
    if (finished && task->result.bytes > 0) {
        buf_puts(&delivery->body, ",");
        buf_append(&delivery->body, task->result.data, task->result.bytes);
    }
    char at[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(task->updated_ms * NS_PER_MS, at);
    buf_printf(&delivery->body, ",\"completedAt\":\"%s\"}", at);
    return true;
}

static void on_tasks(void *arg, const struct store_call_result *call,
                     const struct store_task *tasks, size_t count)
{
    struct reading *reading = arg;
    struct webhook *webhook = reading->webhook;
    webhook->shards[reading->shard].busy = false;
    for (size_t i = 0; i < reading->count; i++) {
        struct delivery *delivery = reading->deliveries[i];
        if (call->status != STORE_OK || i >= count || webhook->stopped) {
            delivery_free(delivery); /* due again by itself */
        } else if (render_task(delivery, &tasks[i])) {
            deliver(delivery);
        } else {
            settle(delivery, -1); /* deleted, or kept no longer */
        }
    }
    free(reading);
    plan(webhook);
}

static void on_notices(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    (void)err;
    struct webhook *webhook = owner;
    struct reading *reading = call->user_arg;
    webhook->shards[reading->shard].busy = false;
    for (size_t i = 0; i < reading->count; i++) {
        struct delivery *delivery = reading->deliveries[i];
        if (status != CONN_OK || webhook->stopped || reply->count != reading->count + 1) {
            delivery_free(delivery);
            continue;
        }
        const struct conn_node *node = &reply->nodes[i + 1];
        struct json *record =
            node->type == CONN_STRING ? json_parse(node->data, node->bytes, NULL) : NULL;
        const char *url = json_string(json_get(record, "url"), NULL);
        const char *body = json_string(json_get(record, "body"), NULL);
        if (url != NULL && body != NULL) {
            delivery->url = must(strdup(url));
            buf_puts(&delivery->body, body);
            json_free(record);
            deliver(delivery);
        } else {
            json_free(record);
            settle(delivery, -1);
        }
    }
    free(reading);
    plan(webhook);
}

static int read_tasks(struct reading *reading)
{
    struct webhook *webhook = reading->webhook;
    const struct shard *shard = &webhook->shards[reading->shard];
    struct task_id ids[WEBHOOK_TAKE_MAX];
    for (size_t i = 0; i < reading->count; i++) {
        memcpy(ids[i].bytes, reading->deliveries[i]->member, TASK_ID_BYTES);
    }
    struct store_queue queue = {shard->tenant, shard->number, shard->shard};
    return store_get(webhook->options.store, &queue, ids, reading->count, on_tasks, reading);
}

static int read_notices(struct reading *reading, struct conn *conn)
{
    const struct shard *shard = &reading->webhook->shards[reading->shard];
    char key[KEYS_BYTES_MAX + 4];
    snprintf(key, sizeof key, "%s:ob", shard->tag);
    conn_begin(conn, 2 + reading->count);
    conn_arg(conn, "HMGET", 5);
    conn_arg(conn, key, strlen(key));
    for (size_t i = 0; i < reading->count; i++) {
        conn_arg(conn, reading->deliveries[i]->member, MEMBER_BYTES);
    }
    struct conn_call call = {
        .done = on_notices, .owner = reading->webhook, .user_arg = reading, .repeatable = true};
    return conn_end(conn, &call);
}

static struct delivery *delivery_new(struct webhook *webhook, size_t shard, const char *member,
                                     int64_t tries)
{
    struct delivery *delivery = must(calloc(1, sizeof *delivery));
    delivery->webhook = webhook;
    delivery->shard = shard;
    delivery->tries = tries;
    memcpy(delivery->member, member, MEMBER_BYTES);
    delivery->next = webhook->deliveries;
    delivery->previous = &webhook->deliveries;
    if (delivery->next != NULL) {
        delivery->next->previous = &delivery->next;
    }
    webhook->deliveries = delivery;
    webhook->delivery_count++;
    metrics_set(webhook->options.metrics, METRICS_WEBHOOKS_IN_FLIGHT,
                (int64_t)webhook->delivery_count);
    return delivery;
}

static void on_taken(void *owner, struct conn_call *call, enum conn_status status,
                     const struct conn_reply *reply, const struct err *err)
{
    (void)err;
    struct webhook *webhook = owner;
    size_t index = (size_t)(uintptr_t)call->user_arg;
    struct shard *shard = &webhook->shards[index];
    shard->busy = false;
    bool sound = status == CONN_OK && reply->count >= 2 && reply->count % 2 == 0 &&
                 reply->nodes[1].type == CONN_INTEGER;
    if (!sound) {
        shard_due(webhook, index, now_ns(webhook) + REDIS_PAUSE_NS);
        return;
    }
    int64_t next_ms = reply->nodes[1].integer;
    shard->due_ns = next_ms < 0 ? INT64_MAX : now_ns(webhook) + next_ms * NS_PER_MS;
    struct reading *reading = must(calloc(1, sizeof *reading));
    reading->webhook = webhook;
    reading->shard = index;
    for (size_t i = 2; i + 1 < reply->count && reading->count < WEBHOOK_TAKE_MAX; i += 2) {
        const struct conn_node *member = &reply->nodes[i];
        if (member->type == CONN_STRING && member->bytes == MEMBER_BYTES &&
            reply->nodes[i + 1].type == CONN_INTEGER && !webhook->stopped) {
            reading->deliveries[reading->count++] =
                delivery_new(webhook, index, member->data, reply->nodes[i + 1].integer);
        }
    }
    struct conn *conn = webhook->stopped ? NULL : webhook->options.conn(webhook->options.conn_arg);
    int code = reading->count == 0 || conn == NULL ? -1
               : shard->notices                    ? read_notices(reading, conn)
                                                   : read_tasks(reading);
    if (code == 0) {
        shard->busy = true;
    } else {
        for (size_t i = 0; i < reading->count; i++) {
            delivery_free(reading->deliveries[i]);
        }
        free(reading);
    }
    plan(webhook);
}

static void take(struct webhook *webhook, size_t index)
{
    struct shard *shard = &webhook->shards[index];
    size_t free_slots = (size_t)webhook->options.config->webhook_connections_max;
    if (webhook->delivery_count >= free_slots) {
        shard->due_ns = now_ns(webhook) + 20 * NS_PER_MS;
        return;
    }
    free_slots -= webhook->delivery_count;
    struct conn *conn = webhook->options.conn(webhook->options.conn_arg);
    shard->due_ns = now_ns(webhook) + REDIS_PAUSE_NS;
    if (conn == NULL) {
        return;
    }
    int64_t hold_ns = webhook->options.config->webhook_timeout_ns + WEBHOOK_SETTLE_NS;
    begin_script(conn, SCRIPT_OUTBOX_TAKE, shard->tag, 2);
    conn_arg_int(conn, (int64_t)(free_slots < WEBHOOK_TAKE_MAX ? free_slots : WEBHOOK_TAKE_MAX));
    conn_arg_int(conn, hold_ns / NS_PER_MS);
    struct conn_call call = {.done = on_taken,
                             .owner = webhook,
                             .user_arg = (void *)(uintptr_t)index,
                             .script = &store_scripts[SCRIPT_OUTBOX_TAKE]};
    shard->busy = conn_end(conn, &call) == 0;
}

/* ---- notices ---- */

struct candidate {
    const char *id;
    int64_t interval_ms;
    const char *url;
};

static void add_candidate(struct webhook *webhook, struct conn *conn,
                          const struct candidate *candidate, const char *command)
{
    char member[MEMBER_BYTES];
    for (size_t i = 0; i < TASK_ID_BYTES; i += 8) {
        uint64_t random = rng_next(&webhook->rng);
        memcpy(member + i, &random, 8);
    }
    member[MEMBER_BYTES - 1] = 'q';
    char sent_at[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(webhook->options.clock), sent_at);
    char notice_id[80];
    snprintf(notice_id, sizeof notice_id, "ntf-%.60s", candidate->id);
    struct json *body = json_new_object();
    json_add_string(body, "eventType", command);
    json_add_bool(body, "available", true);
    json_add_int(body, "queueDepth", 0);
    json_add_string(body, "claimUrl", "/v1/codeq/tasks/claim");
    json_add_string(body, "sentAt", sent_at);
    json_add_string(body, "notificationId", notice_id);
    char *body_text = json_print(body);
    struct json *record = json_new_object();
    json_add_string(record, "url", candidate->url);
    json_add_string(record, "body", body_text);
    char *record_text = json_print(record);
    conn_arg(conn, candidate->id, strlen(candidate->id));
    conn_arg_int(conn, candidate->interval_ms);
    conn_arg(conn, member, MEMBER_BYTES);
    conn_arg(conn, record_text, strlen(record_text));
    free(record_text);
    free(body_text);
    json_free(record);
    json_free(body);
}

static void on_notified(void *owner, struct conn_call *call, enum conn_status status,
                        const struct conn_reply *reply, const struct err *err)
{
    (void)err;
    struct webhook *webhook = owner;
    size_t index = (size_t)(uintptr_t)call->user_arg;
    if (status == CONN_OK && reply->nodes[0].type == CONN_INTEGER && reply->nodes[0].integer > 0 &&
        !webhook->stopped && index != SIZE_MAX) {
        shard_due(webhook, index, now_ns(webhook));
    }
}

static void notify(struct webhook *webhook, struct conn *conn, const char *tenant,
                   const char *group, const struct candidate *candidates, size_t count,
                   const char *command)
{
    if (count == 0) {
        return;
    }
    char tag[KEYS_BYTES_MAX];
    snprintf(tag, sizeof tag, "{%s}", tenant);
    begin_script(conn, SCRIPT_NOTIFY, tag, 1 + 4 * count);
    struct buf counter = BUF_INIT;
    if (group != NULL) {
        buf_printf(&counter, "%s:%s", command, group);
    }
    conn_arg(conn, counter.data != NULL ? counter.data : "", counter.bytes);
    buf_fini(&counter);
    for (size_t i = 0; i < count; i++) {
        add_candidate(webhook, conn, &candidates[i], command);
    }
    size_t index = shard_find(webhook, tenant, true, 0, 0);
    struct conn_call call = {.done = on_notified,
                             .owner = webhook,
                             .user_arg = (void *)(uintptr_t)index,
                             .script = &store_scripts[SCRIPT_NOTIFY]};
    (void)conn_end(conn, &call);
}

struct subscriber {
    struct json *record;
    struct candidate candidate;
    const char *mode;
    const char *group;
    bool done;
};

static bool wants(const struct json *record, const char *command)
{
    const struct json *types = json_get(record, "eventTypes");
    for (const struct json *c = types != NULL ? json_first(types) : NULL; c != NULL;
         c = json_next(c)) {
        if (strcmp(json_string(c, ""), command) == 0) {
            return true;
        }
    }
    return false;
}

static void on_subscribers(void *owner, struct conn_call *call, enum conn_status status,
                           const struct conn_reply *reply, const struct err *err)
{
    (void)err;
    struct webhook *webhook = owner;
    struct ready *ready = call->user_arg;
    struct conn *conn = status == CONN_OK && !webhook->stopped
                            ? webhook->options.conn(webhook->options.conn_arg)
                            : NULL;
    if (conn == NULL || reply->nodes[0].type != CONN_ARRAY) {
        free(ready);
        return;
    }
    size_t count = 0;
    struct subscriber *all = must(calloc(reply->count / 2 + 1, sizeof *all));
    struct candidate *some = must(calloc(reply->count / 2 + 1, sizeof *some));
    char(*ids)[64] = must(calloc(reply->count / 2 + 1, sizeof *ids));
    for (size_t i = 1; i + 1 < reply->count; i += 2) {
        const struct conn_node *id = &reply->nodes[i];
        const struct conn_node *text = &reply->nodes[i + 1];
        if (id->type != CONN_STRING || text->type != CONN_STRING || id->bytes >= sizeof *ids) {
            continue;
        }
        struct json *record = json_parse(text->data, text->bytes, NULL);
        const char *url = json_string(json_get(record, "callbackUrl"), NULL);
        if (url == NULL || !wants(record, ready->command)) {
            json_free(record);
            continue;
        }
        memcpy(ids[count], id->data, id->bytes);
        all[count] = (struct subscriber){
            .record = record,
            .candidate = {ids[count], json_int(json_get(record, "minIntervalMs"), 5000), url},
            .mode = json_string(json_get(record, "deliveryMode"), "fanout"),
            .group = json_string(json_get(record, "groupId"), ""),
        };
        count++;
    }
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].mode, "fanout") == 0) {
            some[n++] = all[i].candidate;
            all[i].done = true;
        }
    }
    notify(webhook, conn, ready->tenant, NULL, some, n, ready->command);
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].mode, "hash") == 0) {
            some[n++] = all[i].candidate;
            all[i].done = true;
        }
    }
    if (n > 0) { /* one of them for each minute of the clock, as in codeQ */
        int64_t minute = clock_wall_ns(webhook->options.clock) / (60 * NS_PER_SEC);
        notify(webhook, conn, ready->tenant, NULL, &some[minute % (int64_t)n], 1, ready->command);
    }
    for (size_t i = 0; i < count; i++) {
        n = 0;
        for (size_t k = i; k < count && !all[i].done; k++) {
            if (!all[k].done && strcmp(all[k].group, all[i].group) == 0) {
                some[n++] = all[k].candidate;
                all[k].done = k != i;
            }
        }
        notify(webhook, conn, ready->tenant, all[i].group, some, n, ready->command);
    }
    for (size_t i = 0; i < count; i++) {
        json_free(all[i].record);
    }
    free(all);
    free(some);
    free(ids);
    free(ready);
}

static void ask_subscribers(struct webhook *webhook, const struct ready *ready)
{
    struct conn *conn = webhook->options.conn(webhook->options.conn_arg);
    if (conn == NULL) {
        return;
    }
    struct ready *kept = must(malloc(sizeof *kept));
    *kept = *ready;
    char tag[KEYS_BYTES_MAX];
    snprintf(tag, sizeof tag, "{%s}", ready->tenant);
    begin_script(conn, SCRIPT_SUBSCRIBERS, tag, 0);
    struct conn_call call = {.done = on_subscribers,
                             .owner = webhook,
                             .user_arg = kept,
                             .script = &store_scripts[SCRIPT_SUBSCRIBERS],
                             .repeatable = true};
    if (conn_end(conn, &call) != 0) {
        free(kept);
    }
}

static void add_tenant(struct webhook *webhook, const char *tenant)
{
    size_t count = atomic_load(&webhook->tenant_count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(webhook->tenants[i].name, tenant) == 0) {
            return;
        }
    }
    webhook->tenants =
        room(webhook->tenants, count, &webhook->tenant_capacity, sizeof *webhook->tenants);
    snprintf(webhook->tenants[count].name, TENANT_BYTES, "%s", tenant);
    atomic_store(&webhook->tenant_count, count + 1);
}

/* "{tenant/number/shard}:o", "{tenant}:o" or "{tenant}:subs": what an earlier codeqd left, or
 * another one made. */
static void discovered(struct webhook *webhook, const char *key, size_t bytes)
{
    char text[KEYS_BYTES_MAX + 8] = "";
    char tenant[TENANT_BYTES] = "";
    unsigned number = 0;
    unsigned shard = 0;
    int end = 0;
    if (bytes >= sizeof text) {
        return;
    }
    memcpy(text, key, bytes);
    bool task = sscanf(text, "{%63[a-z0-9-]/%5u/%3u}:o%n", tenant, &number, &shard, &end) == 3 &&
                end == (int)bytes && number <= UINT16_MAX && shard <= UINT8_MAX;
    end = 0;
    bool box = !task && sscanf(text, "{%63[a-z0-9-]}:o%n", tenant, &end) == 1 && end == (int)bytes;
    end = 0;
    bool subs = !task && !box && sscanf(text, "{%63[a-z0-9-]}:subs%n", tenant, &end) == 1 &&
                end == (int)bytes;
    if ((!task && !box && !subs) || !keys_tenant_valid(tenant)) {
        return;
    }
    if (subs) {
        pthread_mutex_lock(&webhook->lock);
        add_tenant(webhook, tenant);
        pthread_mutex_unlock(&webhook->lock);
        return;
    }
    size_t index = shard_find(webhook, tenant, box, (uint16_t)number, (uint8_t)shard);
    if (index != SIZE_MAX) {
        webhook->shards[index].due_ns = now_ns(webhook);
    }
}

static void discover(struct webhook *webhook, const char *cursor, size_t bytes);

static void on_discovered(void *owner, struct conn_call *call, enum conn_status status,
                          const struct conn_reply *reply, const struct err *err)
{
    (void)call;
    (void)err;
    struct webhook *webhook = owner;
    webhook->discovering = false;
    /* An array of the next cursor and an array of keys. */
    if (status != CONN_OK || webhook->stopped || reply->count < 3 ||
        reply->nodes[1].type != CONN_STRING || reply->nodes[1].bytes > 20) {
        return;
    }
    char cursor[24];
    size_t bytes = reply->nodes[1].bytes;
    memcpy(cursor, reply->nodes[1].data, bytes);
    for (size_t i = 3; i < reply->count; i++) {
        if (reply->nodes[i].type == CONN_STRING) {
            discovered(webhook, reply->nodes[i].data, reply->nodes[i].bytes);
        }
    }
    if (bytes != 1 || cursor[0] != '0') {
        discover(webhook, cursor, bytes);
    }
    plan(webhook);
}

static void discover(struct webhook *webhook, const char *cursor, size_t bytes)
{
    struct conn *conn = webhook->options.conn(webhook->options.conn_arg);
    if (conn == NULL || webhook->discovering) {
        return;
    }
    conn_begin(conn, 6);
    conn_arg(conn, "SCAN", 4);
    conn_arg(conn, cursor, bytes);
    conn_arg(conn, "MATCH", 5);
    conn_arg(conn, "{*}:[os]*", 9);
    conn_arg(conn, "COUNT", 5);
    conn_arg_int(conn, SCAN_COUNT);
    struct conn_call call = {.done = on_discovered, .owner = webhook, .repeatable = true};
    webhook->discovering = conn_end(conn, &call) == 0;
}

/* ---- events ---- */

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct webhook *webhook = timer->data;
    int64_t now = now_ns(webhook);
    if (webhook->discovery_due_ns <= now) {
        webhook->discovery_due_ns = now + WEBHOOK_DISCOVERY_NS;
        discover(webhook, "0", 1);
    }
    for (size_t i = 0; i < webhook->shard_count; i++) {
        if (!webhook->shards[i].busy && webhook->shards[i].due_ns <= now) {
            take(webhook, i);
        }
    }
    plan(webhook);
}

static void on_wake(struct ev_loop *loop, ev_async *async, int events)
{
    (void)loop;
    (void)events;
    struct webhook *webhook = async->data;
    pthread_mutex_lock(&webhook->lock);
    struct poke *pokes = webhook->pokes;
    size_t poke_count = webhook->poke_count;
    struct ready *readies = webhook->readies;
    size_t ready_count = webhook->ready_count;
    webhook->pokes = NULL;
    webhook->poke_count = webhook->poke_capacity = 0;
    webhook->readies = NULL;
    webhook->ready_count = webhook->ready_capacity = 0;
    pthread_mutex_unlock(&webhook->lock);
    for (size_t i = 0; i < poke_count && !webhook->stopped; i++) {
        size_t index = shard_find(webhook, pokes[i].tenant, false, pokes[i].number, pokes[i].shard);
        if (index != SIZE_MAX) {
            webhook->shards[index].due_ns = now_ns(webhook);
        }
    }
    for (size_t i = 0; i < ready_count && !webhook->stopped; i++) {
        ask_subscribers(webhook, &readies[i]);
    }
    free(pokes);
    free(readies);
    plan(webhook);
}

struct webhook *webhook_new(const struct webhook_options *options, struct err *err)
{
    struct fetch_options fetch_options = {
        .loop = options->loop,
        .allow_private = options->config->webhook_allow_private,
        .in_flight_max = (size_t)options->config->webhook_connections_max + WEBHOOK_TAKE_MAX,
        .body_bytes_max = RESPONSE_BYTES_MAX,
    };
    struct fetch *fetch = fetch_new(&fetch_options, err);
    if (fetch == NULL) {
        return NULL;
    }
    struct webhook *webhook = must(calloc(1, sizeof *webhook));
    webhook->options = *options;
    webhook->fetch = fetch;
    rng_init(&webhook->rng, rng_seed_system());
    pthread_mutex_init(&webhook->lock, NULL);
    ev_init(&webhook->timer, on_timer);
    webhook->timer.data = webhook;
    ev_async_init(&webhook->wake, on_wake);
    webhook->wake.data = webhook;
    ev_async_start(options->loop, &webhook->wake);
    plan(webhook);
    return webhook;
}

void webhook_stop(struct webhook *webhook)
{
    if (webhook == NULL || webhook->stopped) {
        return;
    }
    webhook->stopped = true;
    ev_timer_stop(webhook->options.loop, &webhook->timer);
    ev_async_stop(webhook->options.loop, &webhook->wake);
    fetch_free(webhook->fetch);
    webhook->fetch = NULL;
}

void webhook_free(struct webhook *webhook)
{
    if (webhook == NULL) {
        return;
    }
    webhook_stop(webhook);
    assert(webhook->deliveries == NULL); /* the closed connections have ended them all */
    pthread_mutex_destroy(&webhook->lock);
    free(webhook->shards);
    free(webhook->pokes);
    free(webhook->readies);
    free(webhook->tenants);
    free(webhook);
}

/* ---- from any thread ---- */

void webhook_poke(struct webhook *webhook, const char *tenant, uint16_t number, uint8_t shard)
{
    if (webhook == NULL) {
        return;
    }
    pthread_mutex_lock(&webhook->lock);
    bool there = false;
    for (size_t i = 0; i < webhook->poke_count && !there; i++) {
        const struct poke *poke = &webhook->pokes[i];
        there = poke->number == number && poke->shard == shard && strcmp(poke->tenant, tenant) == 0;
    }
    if (!there) {
        webhook->pokes = room(webhook->pokes, webhook->poke_count, &webhook->poke_capacity,
                              sizeof *webhook->pokes);
        struct poke *poke = &webhook->pokes[webhook->poke_count++];
        *poke = (struct poke){.number = number, .shard = shard};
        snprintf(poke->tenant, TENANT_BYTES, "%s", tenant);
    }
    pthread_mutex_unlock(&webhook->lock);
    if (!there) {
        ev_async_send(webhook->options.loop, &webhook->wake);
    }
}

void webhook_ready(struct webhook *webhook, const char *tenant, const char *command,
                   size_t command_bytes)
{
    if (webhook == NULL ||
        atomic_load_explicit(&webhook->tenant_count, memory_order_relaxed) == 0 ||
        command_bytes > COMMAND_BYTES_MAX) {
        return;
    }
    pthread_mutex_lock(&webhook->lock);
    bool subscribed = false;
    size_t count = atomic_load(&webhook->tenant_count);
    for (size_t i = 0; i < count && !subscribed; i++) {
        subscribed = strcmp(webhook->tenants[i].name, tenant) == 0;
    }
    bool there = !subscribed;
    for (size_t i = 0; i < webhook->ready_count && !there; i++) {
        const struct ready *ready = &webhook->readies[i];
        there = strncmp(ready->command, command, command_bytes) == 0 &&
                ready->command[command_bytes] == '\0' && strcmp(ready->tenant, tenant) == 0;
    }
    if (!there) {
        webhook->readies = room(webhook->readies, webhook->ready_count, &webhook->ready_capacity,
                                sizeof *webhook->readies);
        struct ready *ready = &webhook->readies[webhook->ready_count++];
        memset(ready, 0, sizeof *ready);
        snprintf(ready->tenant, TENANT_BYTES, "%s", tenant);
        memcpy(ready->command, command, command_bytes);
    }
    pthread_mutex_unlock(&webhook->lock);
    if (!there) {
        ev_async_send(webhook->options.loop, &webhook->wake);
    }
}

void webhook_subscribed(struct webhook *webhook, const char *tenant)
{
    if (webhook == NULL) {
        return;
    }
    pthread_mutex_lock(&webhook->lock);
    add_tenant(webhook, tenant);
    pthread_mutex_unlock(&webhook->lock);
}
