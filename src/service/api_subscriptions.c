/* The routes of queue-ready subscriptions. They live in Redis under {tenant}:subs; webhook.c sends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "service/fetch.h"
#include "service/service.h"
#include "service/webhook.h"
#include "store/conn.h"
#include "store/keys.h"

#define EVENT_TYPES_MAX 64
#define TEXT_BYTES_MAX 255
#define TTL_SECONDS_DEFAULT 300
#define TTL_SECONDS_MAX (30 * 86400)
#define INTERVAL_SECONDS_MAX 86400
#define ID_BYTES 37

static const char *const built_in[] = {"GENERATE_MASTER", "GENERATE_CREATIVE"};

struct subscribing {
    struct request *request;
    char id[ID_BYTES];
};

/* A random UUID of version 4. */
static void make_id(char out[ID_BYTES])
{
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
        abort();
    }
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    char *at = out;
    for (size_t i = 0; i < sizeof raw; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        at += snprintf(at, 3, "%02x", raw[i]);
    }
}

static bool id_is_sound(const char *id)
{
    size_t n = strlen(id);
    return n > 0 && n < ID_BYTES && strspn(id, "0123456789abcdef-") == n;
}

static void on_subscribed(void *owner, struct conn_call *call, enum conn_status status,
                          const struct conn_reply *reply, const struct err *err)
{
    struct service *service = owner;
    struct subscribing *subscribing = call->user_arg;
    struct request *request = subscribing->request;
    if (status != CONN_OK || reply->nodes[0].type != CONN_INTEGER) {
        struct store_call_result result = {.status = status == CONN_UNKNOWN ? STORE_UNKNOWN
                                                     : status == CONN_UNAVAILABLE
                                                         ? STORE_UNAVAILABLE
                                                         : STORE_ERROR};
        if (err != NULL) {
            result.err = *err;
        }
        request_answer_store_error(request, &result);
        return;
    }
    int64_t ends_ms = reply->nodes[0].integer;
    if (ends_ms < 0) {
        request_answer_error(request, 400, "too many subscriptions");
    } else if (ends_ms == 0) {
        request_answer_error(request, 404, "not-found");
    } else {
        char at[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(ends_ms * NS_PER_MS, at);
        webhook_subscribed(service->webhook, request->who.tenant);
        struct json *json = json_new_object();
        json_add_string(json, "subscriptionId", subscribing->id);
        json_add_string(json, "expiresAt", at);
        request_answer_json(request, 200, json);
    }
}

/* record "": extend what is there. */
static void keep(struct service *service, struct request *request, const char *id, int64_t ttl_ms,
                 const char *record)
{
    struct subscribing *subscribing = request_alloc(request, sizeof *subscribing);
    subscribing->request = request;
    snprintf(subscribing->id, sizeof subscribing->id, "%s", id);
    struct conn *conn = service_conn(service);
    struct store_call_result result = {.status = STORE_UNAVAILABLE};
    if (conn == NULL) {
        request_answer_store_error(request, &result);
        return;
    }
    char tag[KEYS_BYTES_MAX];
    int n = snprintf(tag, sizeof tag, "{%s}", request->who.tenant);
    const struct script *script = &store_scripts[SCRIPT_SUBSCRIBE];
    conn_begin(conn, 8);
    conn_arg(conn, "EVALSHA", 7);
    conn_arg(conn, script->sha, SCRIPT_SHA_BYTES);
    conn_arg(conn, "1", 1);
    conn_arg(conn, tag, (size_t)n);
    conn_arg(conn, id, strlen(id));
    conn_arg_int(conn, ttl_ms);
    conn_arg(conn, record, strlen(record));
    conn_arg_int(conn, WEBHOOK_SUBSCRIPTIONS_MAX);
    struct conn_call call = {.done = on_subscribed,
                             .owner = service,
                             .user_arg = subscribing,
                             .script = script,
                             .repeatable = true};
    if (conn_end(conn, &call) != 0) {
        request_answer_store_error(request, &result);
    }
}

/* Absent, null and a number of another kind: 0 means "the default"; false: not a whole number. */
static bool seconds_of(const struct json *object, const char *name, int64_t *out)
{
    const struct json *value = json_get(object, name);
    *out = 0;
    if (value == NULL || json_type(value) == JSON_NULL) {
        return true;
    }
    *out = json_int(value, INT64_MIN);
    return *out != INT64_MIN;
}

static bool text_member(const struct json *object, const char *name, size_t bytes_max,
                        const char **out)
{
    const struct json *value = json_get(object, name);
    *out = "";
    if (value == NULL || json_type(value) == JSON_NULL) {
        return true;
    }
    *out = json_string(value, NULL);
    return *out != NULL && strlen(*out) <= bytes_max;
}

/* The types asked for, or those that the token stands for. NULL: the status is the answer. */
static struct json *event_types(struct request *request, const struct json *body, int *out_status)
{
    const struct json *types = json_get(body, "eventTypes");
    struct json *out = json_new_array();
    *out_status = 400;
    if (types != NULL && json_type(types) != JSON_NULL &&
        (json_type(types) != JSON_ARRAY || json_count(types) > EVENT_TYPES_MAX)) {
        json_free(out);
        return NULL;
    }
    for (const struct json *c = types != NULL ? json_first(types) : NULL; c != NULL;
         c = json_next(c)) {
        const char *name = json_string(c, "");
        if (name[0] == '\0' || strlen(name) > TEXT_BYTES_MAX) {
            json_free(out);
            return NULL;
        }
        if (!identity_allows(&request->who, name)) {
            *out_status = 403;
            json_free(out);
            return NULL;
        }
        json_append(out, json_new_string(name));
    }
    if (json_count(out) == 0 && request->who.every_event_type) {
        json_append(out, json_new_string(built_in[0]));
        json_append(out, json_new_string(built_in[1]));
    } else if (json_count(out) == 0) {
        for (size_t i = 0; i < request->who.event_type_count; i++) {
            json_append(out, json_new_string(request->who.event_types[i]));
        }
    }
    return out;
}

static void subscribe(struct service *service, struct request *request)
{
    struct json *body = json_parse(request->http.body.data, request->http.body.bytes, NULL);
    const char *url = "";
    const char *mode = "";
    const char *group = "";
    int64_t ttl_seconds = 0;
    int64_t interval_seconds = 0;
    struct json *types = NULL;
    int status = 400;
    const char *why = NULL;
    if (body == NULL || json_type(body) != JSON_OBJECT ||
        !text_member(body, "callbackUrl", FETCH_URL_BYTES_MAX, &url) || url[0] == '\0' ||
        !text_member(body, "deliveryMode", TEXT_BYTES_MAX, &mode) ||
        !text_member(body, "groupId", TEXT_BYTES_MAX, &group) ||
        !seconds_of(body, "ttlSeconds", &ttl_seconds) ||
        !seconds_of(body, "minIntervalSeconds", &interval_seconds)) {
        why = "invalid body";
    } else if (fetch_check_url(url, NULL) != 0) {
        why = "invalid callback url";
    } else if (mode[0] != '\0' && strcmp(mode, "fanout") != 0 && strcmp(mode, "group") != 0 &&
               strcmp(mode, "hash") != 0) {
        why = "invalid deliveryMode";
    } else if (strcmp(mode, "group") == 0 && group[0] == '\0') {
        why = "groupId is required";
    } else if (ttl_seconds > TTL_SECONDS_MAX || interval_seconds > INTERVAL_SECONDS_MAX) {
        why = "ttlSeconds or minIntervalSeconds is too large";
    } else if ((types = event_types(request, body, &status)) == NULL) {
        why = status == 403 ? "event type not allowed" : "invalid body";
    }
    if (why != NULL) {
        request_answer_error(request, status, why);
        json_free(body);
        return;
    }
    struct json *record = json_new_object();
    json_add_string(record, "callbackUrl", url);
    json_put(record, "eventTypes", types);
    json_add_string(record, "deliveryMode", mode[0] != '\0' ? mode : "fanout");
    json_add_string(record, "groupId", group);
    json_add_int(record, "minIntervalMs",
                 interval_seconds > 0 ? interval_seconds * 1000
                                      : service->config->subscription_interval_min_ns / NS_PER_MS);
    char *text = json_print(record);
    char id[ID_BYTES];
    make_id(id);
    keep(service, request, id, (ttl_seconds > 0 ? ttl_seconds : TTL_SECONDS_DEFAULT) * 1000, text);
    free(text);
    json_free(record);
    json_free(body);
}

/* As in codeQ, a body that is not JSON counts as none. */
static void heartbeat(struct service *service, struct request *request)
{
    struct json *body = json_parse(request->http.body.data, request->http.body.bytes, NULL);
    int64_t ttl_seconds = 0;
    if (!seconds_of(body, "ttlSeconds", &ttl_seconds) || ttl_seconds <= 0) {
        ttl_seconds = TTL_SECONDS_DEFAULT;
    }
    if (ttl_seconds > TTL_SECONDS_MAX) {
        ttl_seconds = TTL_SECONDS_MAX;
    }
    json_free(body);
    if (!id_is_sound(request->params[0])) {
        request_answer_error(request, 404, "not-found");
        return;
    }
    keep(service, request, request->params[0], ttl_seconds * 1000, "");
}

const struct route api_subscriptions_routes[] = {
    {HTTP_METHOD_POST, "/v1/codeq/workers/subscriptions", subscribe, AUTH_WORKER,
     AUTH_SCOPE_SUBSCRIBE, RATE_NONE, "subscribe"},
    {HTTP_METHOD_POST, "/v1/codeq/workers/subscriptions/:id/heartbeat", heartbeat, AUTH_WORKER,
     AUTH_SCOPE_SUBSCRIBE, RATE_NONE, "heartbeatSubscription"},
    {0},
};
