/* The catalog of topics: kept and versioned per tenant, applied to nothing, as in codeQ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "service/service.h"
#include "store/conn.h"
#include "store/keys.h"

#define TIERS_MAX 10
#define PRIORITY_MAX 10
#define ATTEMPTS_MAX 100
#define CONSUMERS_MAX 10000
#define RETENTION_SECONDS_MAX INT32_MAX
#define NAME_BYTES_MAX 63
#define TOPICS_MAX 10000 /* of one tenant */

struct policy {
    int64_t tiers[TIERS_MAX];
    size_t tier_count;
    int64_t attempts;
    char dead_letter[NAME_BYTES_MAX + 1];
    int64_t retention_seconds;
    int64_t consumers;
};

/* A DNS label. */
static bool name_is_sound(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= NAME_BYTES_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n && name[0] != '-' &&
           name[n - 1] != '-';
}

static void refuse_field(struct request *request, const char *field, const char *message)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "{\"error\":\"invalid %s: %s\",\"field\":\"%s\"}", field, message, field);
    request_answer(request, 422, text.data, text.bytes);
    buf_fini(&text);
}

/* -1: another type; 0: absent or null (out is 0); 1: there. */
static int whole(const struct json *object, const char *name, int64_t *out)
{
    const struct json *value = json_get(object, name);
    *out = 0;
    if (value == NULL || json_type(value) == JSON_NULL) {
        return 0;
    }
    *out = json_int(value, INT64_MIN);
    return *out == INT64_MIN ? -1 : 1;
}

/* What Go's decoder would refuse: NULL when nothing. */
static const char *read_policy(const struct json *body, struct policy *out, bool *out_many)
{
    static const char *const known[] = {"priorityTiers", "maxAttempts", "deadLetterTopicRef",
                                        "retentionSeconds", "maxConsumers"};
    if (body == NULL || json_type(body) != JSON_OBJECT) {
        return "not one JSON object";
    }
    for (const struct json *c = json_first(body); c != NULL; c = json_next(c)) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], json_key(c)) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof *known) {
            return "unknown field";
        }
    }
    memset(out, 0, sizeof *out);
    const struct json *tiers = json_get(body, "priorityTiers");
    if (tiers != NULL && json_type(tiers) != JSON_ARRAY && json_type(tiers) != JSON_NULL) {
        return "priorityTiers is no array";
    }
    for (const struct json *c = tiers != NULL ? json_first(tiers) : NULL; c != NULL;
         c = json_next(c)) {
        int64_t tier = json_int(c, INT64_MIN);
        if (tier == INT64_MIN) {
            return "priorityTiers holds no whole number";
        }
        if (out->tier_count == TIERS_MAX) {
            *out_many = true;
            break;
        }
        out->tiers[out->tier_count++] = tier;
    }
    const struct json *dead = json_get(body, "deadLetterTopicRef");
    const char *dead_text = json_string(dead, "");
    if ((dead != NULL && json_type(dead) != JSON_STRING) ||
        whole(body, "maxAttempts", &out->attempts) < 0 ||
        whole(body, "retentionSeconds", &out->retention_seconds) < 0 ||
        whole(body, "maxConsumers", &out->consumers) < 0) {
        return "a field is of another type";
    }
    snprintf(out->dead_letter, sizeof out->dead_letter, "%s",
             strlen(dead_text) <= NAME_BYTES_MAX ? dead_text : "");
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* False: the 422 is sent. Sorts the tiers. */
static bool check_policy(struct request *request, struct policy *p, bool many)
{
    const char *name = request->params[0];
    if (p->tier_count == 0 || many) {
        refuse_field(request, "priorityTiers", "must contain between 1 and 10 priorities");
        return false;
    }
    qsort(p->tiers, p->tier_count, sizeof *p->tiers, by_value);
    for (size_t i = 0; i < p->tier_count; i++) {
        if (p->tiers[i] < 0 || p->tiers[i] > PRIORITY_MAX) {
            refuse_field(request, "priorityTiers", "priorities must be integers from 0 through 10");
            return false;
        }
        if (i > 0 && p->tiers[i] == p->tiers[i - 1]) {
            refuse_field(request, "priorityTiers", "priorities must be unique");
            return false;
        }
    }
    if (p->attempts < 1 || p->attempts > ATTEMPTS_MAX) {
        refuse_field(request, "maxAttempts", "must be between 1 and 100");
    } else if (!name_is_sound(p->dead_letter)) {
        refuse_field(request, "deadLetterTopicRef",
                     "must be a DNS label with at most 63 characters");
    } else if (strcmp(p->dead_letter, name) == 0) {
        refuse_field(request, "deadLetterTopicRef", "must differ from topicName");
    } else if (p->retention_seconds < 0 || p->retention_seconds > RETENTION_SECONDS_MAX) {
        refuse_field(request, "retentionSeconds", "must be between 0 and 2147483647");
    } else if (p->consumers < 0 || p->consumers > CONSUMERS_MAX) {
        refuse_field(request, "maxConsumers", "must be between 0 and 10000");
    } else {
        return true;
    }
    return false;
}

/* One text for one policy, so that Redis compares texts. */
static void policy_text(const struct policy *p, struct buf *out)
{
    buf_puts(out, "{\"priorityTiers\":[");
    for (size_t i = 0; i < p->tier_count; i++) {
        buf_printf(out, "%s%d", i > 0 ? "," : "", (int)p->tiers[i]);
    }
    buf_printf(out, "],\"maxAttempts\":%d,\"deadLetterTopicRef\":\"%s\"", (int)p->attempts,
               p->dead_letter);
    if (p->retention_seconds != 0) {
        buf_printf(out, ",\"retentionSeconds\":%d", (int)p->retention_seconds);
    }
    if (p->consumers != 0) {
        buf_printf(out, ",\"maxConsumers\":%d", (int)p->consumers);
    }
    buf_puts(out, "}");
}

static bool refuse_name(struct request *request)
{
    if (name_is_sound(request->params[0])) {
        return false;
    }
    refuse_field(request, "topicName", "must be a DNS label with at most 63 characters");
    return true;
}

static void answer_missing(struct request *request)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "queue topic \"%s.%s\" not found", request->who.tenant, request->params[0]);
    request_answer_error(request, 404, text.data);
    buf_fini(&text);
}

static void answer_topic(struct request *request, int status, const char *policy, size_t bytes,
                         int64_t version, int64_t created_ms, int64_t updated_ms)
{
    char created[CLOCK_RFC3339_BYTES];
    char updated[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(created_ms * NS_PER_MS, created);
    clock_format_rfc3339(updated_ms * NS_PER_MS, updated);
    struct buf text = BUF_INIT;
    buf_printf(&text, "{\"topicId\":\"%s.%s\",\"tenantId\":\"%s\",\"topicName\":\"%s\",\"policy\":",
               request->who.tenant, request->params[0], request->who.tenant, request->params[0]);
    buf_append(&text, policy, bytes);
    buf_printf(&text, ",\"version\":%lld,\"createdAt\":\"%s\",\"updatedAt\":\"%s\"}",
               (long long)version, created, updated);
    request_answer(request, status, text.data, text.bytes);
    buf_fini(&text);
}

static bool answered_failure(struct request *request, enum conn_status status,
                             const struct err *err)
{
    if (status == CONN_OK) {
        return false;
    }
    struct store_call_result result = {.status = status == CONN_UNKNOWN       ? STORE_UNKNOWN
                                                 : status == CONN_UNAVAILABLE ? STORE_UNAVAILABLE
                                                                              : STORE_ERROR};
    if (err != NULL) {
        result.err = *err;
    }
    request_answer_store_error(request, &result);
    return true;
}

struct putting {
    struct request *request;
    struct store_bytes policy;
};

static void on_put(void *owner, struct conn_call *call, enum conn_status status,
                   const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct putting *putting = call->user_arg;
    if (answered_failure(putting->request, status, err)) {
        return;
    }
    const struct conn_node *n = reply->nodes;
    if (reply->count != 5 || n[1].type != CONN_STRING || n[1].bytes == 0) {
        request_answer_error(putting->request, 500, "internal error");
    } else if (n[1].data[0] == 'f') {
        request_answer_error(putting->request, 409, "too many topics");
    } else {
        bool created = n[1].bytes == 7 && memcmp(n[1].data, "created", 7) == 0;
        answer_topic(putting->request, created ? 201 : 200, putting->policy.data,
                     putting->policy.bytes, n[2].integer, n[3].integer, n[4].integer);
    }
}

static struct conn *topics_conn(struct service *service, struct request *request,
                                char key[KEYS_BYTES_MAX])
{
    struct conn *conn = service_conn(service);
    snprintf(key, KEYS_BYTES_MAX, "{%s}:topics", request->who.tenant);
    if (conn == NULL) {
        answered_failure(request, CONN_UNAVAILABLE, NULL);
    }
    return conn;
}

static void put_topic(struct service *service, struct request *request)
{
    struct policy policy;
    bool many = false;
    struct err err = {""};
    struct json *body = json_parse(request->http.body.data, request->http.body.bytes, &err);
    const char *why = body == NULL ? err.text : read_policy(body, &policy, &many);
    if (why != NULL) {
        struct buf text = BUF_INIT;
        buf_printf(&text, "invalid request body: %s", why);
        request_answer_error(request, 400, text.data);
        buf_fini(&text);
        json_free(body);
        return;
    }
    json_free(body);
    char key[KEYS_BYTES_MAX];
    struct conn *conn;
    if (refuse_name(request) || !check_policy(request, &policy, many) ||
        (conn = topics_conn(service, request, key)) == NULL) {
        return;
    }
    struct buf text = BUF_INIT;
    policy_text(&policy, &text);
    struct putting *putting = request_alloc(request, sizeof *putting);
    *putting =
        (struct putting){request, {request_strdup(request, text.data, text.bytes), text.bytes}};
    buf_fini(&text);
    const struct script *script = &store_scripts[SCRIPT_TOPIC_PUT];
    conn_begin(conn, 7);
    conn_arg(conn, "EVALSHA", 7);
    conn_arg(conn, script->sha, SCRIPT_SHA_BYTES);
    conn_arg(conn, "1", 1);
    conn_arg(conn, key, strlen(key));
    conn_arg(conn, request->params[0], strlen(request->params[0]));
    conn_arg(conn, putting->policy.data, putting->policy.bytes);
    conn_arg_int(conn, TOPICS_MAX);
    struct conn_call call = {
        .done = on_put, .owner = service, .user_arg = putting, .script = script};
    if (conn_end(conn, &call) != 0) {
        answered_failure(request, CONN_UNAVAILABLE, NULL);
    }
}

static void on_got(void *owner, struct conn_call *call, enum conn_status status,
                   const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct request *request = call->user_arg;
    if (answered_failure(request, status, err)) {
        return;
    }
    if (reply->nodes[0].type != CONN_STRING) {
        answer_missing(request);
        return;
    }
    char *text = request_strdup(request, reply->nodes[0].data, reply->nodes[0].bytes);
    char *at = text;
    int64_t numbers[3];
    for (int i = 0; i < 3; i++) {
        numbers[i] = strtoll(at, &at, 10);
    }
    at += *at == ' ';
    answer_topic(request, 200, at, strlen(at), numbers[0], numbers[1], numbers[2]);
}

static void on_deleted(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    struct request *request = call->user_arg;
    if (answered_failure(request, status, err)) {
        return;
    }
    if (reply->nodes[0].type == CONN_INTEGER && reply->nodes[0].integer > 0) {
        request_answer(request, 204, "", 0);
    } else {
        answer_missing(request);
    }
}

static void hash_command(struct service *service, struct request *request, const char *command,
                         conn_done_fn *done)
{
    char key[KEYS_BYTES_MAX];
    struct conn *conn = topics_conn(service, request, key);
    if (conn == NULL) {
        return;
    }
    conn_begin(conn, 3);
    conn_arg(conn, command, strlen(command));
    conn_arg(conn, key, strlen(key));
    conn_arg(conn, request->params[0], strlen(request->params[0]));
    struct conn_call call = {.done = done, .owner = service, .user_arg = request};
    if (conn_end(conn, &call) != 0) {
        answered_failure(request, CONN_UNAVAILABLE, NULL);
    }
}

static void get_topic(struct service *service, struct request *request)
{
    if (!refuse_name(request)) {
        hash_command(service, request, "HGET", on_got);
    }
}

static void delete_topic(struct service *service, struct request *request)
{
    const char *policy = "";
    if (!request_query(request, "deletionPolicy", &policy) || strcmp(policy, "Delete") != 0) {
        request_answer_error(request, 400, "deletionPolicy=Delete is required");
    } else if (!refuse_name(request)) {
        hash_command(service, request, "HDEL", on_deleted);
    }
}

const struct route api_topics_routes[] = {
    {HTTP_METHOD_PUT, "/v1/codeq/admin/topics/:name", put_topic, AUTH_ADMIN, 0, RATE_NONE,
     "putTopic"},
    {HTTP_METHOD_GET, "/v1/codeq/admin/topics/:name", get_topic, AUTH_ADMIN, 0, RATE_NONE,
     "getTopic"},
    {HTTP_METHOD_DELETE, "/v1/codeq/admin/topics/:name", delete_topic, AUTH_ADMIN, 0, RATE_NONE,
     "deleteTopic"},
    {0},
};
