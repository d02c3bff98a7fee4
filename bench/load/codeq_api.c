#include "load/codeq_api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define HEAD_BYTES_MAX 1024
#define TASK_JSON_BYTES_MAX 512 /* beside the payload */

/* The body goes behind a head of fixed room; the head is then put right in front of it, so that
 * nothing is written twice. */
static char *body_start(struct http_conn *conn, size_t body_bytes)
{
    if (http_conn_reserve(conn, HEAD_BYTES_MAX + body_bytes + 1) != 0) {
        return NULL;
    }
    return conn->out + HEAD_BYTES_MAX;
}

static int64_t finish(struct http_conn *conn, const char *method, const char *path,
                      const char *host, const char *token, size_t body_bytes)
{
    char head[HEAD_BYTES_MAX];
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     method, path, host, token, body_bytes);
    if (n < 0 || n >= HEAD_BYTES_MAX) {
        return -EMSGSIZE;
    }
    memmove(conn->out + n, conn->out + HEAD_BYTES_MAX, body_bytes);
    memcpy(conn->out, head, (size_t)n);
    return n + (int64_t)body_bytes;
}

static char *put(char *p, const char *text)
{
    return stpcpy(p, text);
}

static char *put_int(char *p, int64_t value)
{
    return p + sprintf(p, "%" PRId64, value);
}

/* {"seq":7,"run":9,"tenant":0,"text":"..."}: seq first, so that a claim finds it at once. */
static char *put_payload(char *p, const struct codeq_create *task)
{
    char *start = p;
    p = put(p, "{\"seq\":");
    p = put_int(p, (int64_t)task->seq);
    p = put(p, ",\"run\":");
    p = put_int(p, (int64_t)task->run);
    p = put(p, ",\"tenant\":");
    p = put_int(p, task->tenant);
    size_t used = (size_t)(p - start) + strlen(",\"text\":\"\"}");
    if (used <= task->payload_bytes) {
        p = put(p, ",\"text\":\"");
        memcpy(p, task->filler, task->payload_bytes - used);
        p += task->payload_bytes - used;
        p = put(p, "\"");
    }
    return put(p, "}");
}

static char *put_task(char *p, const struct codeq_create *task)
{
    p = put(p, "{\"command\":\"");
    p = put(p, task->command);
    p = put(p, "\",\"payload\":");
    p = put_payload(p, task);
    p = put(p, ",\"priority\":");
    p = put_int(p, task->priority);
    if (task->max_attempts > 0) {
        p = put(p, ",\"maxAttempts\":");
        p = put_int(p, task->max_attempts);
    }
    if (task->run_at_ms != 0) {
        char when[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(task->run_at_ms * NS_PER_MS, when);
        p = put(p, ",\"runAt\":\"");
        p = put(p, when);
        p = put(p, "\"");
    }
    return put(p, "}");
}

int64_t codeq_write_create(struct http_conn *conn, const char *host, const char *token,
                           const struct codeq_create *tasks, size_t count, bool batch)
{
    size_t room = 64;
    for (size_t i = 0; i < count; i++) {
        room += TASK_JSON_BYTES_MAX + tasks[i].payload_bytes + strlen(tasks[i].command);
    }
    char *body = body_start(conn, room);
    if (body == NULL) {
        return -EMSGSIZE;
    }
    char *p = body;
    if (batch) {
        p = put(p, "{\"tasks\":[");
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            *p++ = ',';
        }
        p = put_task(p, &tasks[i]);
    }
    if (batch) {
        p = put(p, "]}");
    }
    return finish(conn, "POST", batch ? "/v1/codeq/tasks/batch" : "/v1/codeq/tasks", host, token,
                  (size_t)(p - body));
}

int64_t codeq_write_claim(struct http_conn *conn, const char *host, const char *token,
                          const char *command, int lease_seconds, int wait_seconds, uint32_t batch)
{
    char *body = body_start(conn, TASK_JSON_BYTES_MAX + strlen(command));
    if (body == NULL) {
        return -EMSGSIZE;
    }
    int n;
    if (batch > 1) {
        n = sprintf(body, "{\"commands\":[\"%s\"],\"leaseSeconds\":%d,\"count\":%u}", command,
                    lease_seconds, batch);
    } else {
        n = sprintf(body, "{\"commands\":[\"%s\"],\"leaseSeconds\":%d,\"waitSeconds\":%d}", command,
                    lease_seconds, wait_seconds);
    }
    return finish(conn, "POST", batch > 1 ? "/v1/codeq/tasks/claim/batch" : "/v1/codeq/tasks/claim",
                  host, token, (size_t)n);
}

static char *put_token(char *p, const struct codeq_task *task)
{
    if (task->token[0] != '\0') {
        p = put(p, ",\"deliveryToken\":\"");
        p = put(p, task->token);
        p = put(p, "\"");
    }
    return p;
}

int64_t codeq_write_result(struct http_conn *conn, const char *host, const char *token,
                           const struct codeq_task *tasks, size_t count, bool batch)
{
    char *body = body_start(conn, 64 + count * (TASK_JSON_BYTES_MAX + CODEQ_TOKEN_BYTES));
    if (body == NULL) {
        return -EMSGSIZE;
    }
    char *p = body;
    if (batch) {
        p = put(p, "{\"results\":[");
    }
    for (size_t i = 0; i < count; i++) {
        p = put(p, i > 0 ? ",{" : "{");
        if (batch) {
            p = put(p, "\"taskId\":\"");
            p = put(p, tasks[i].id);
            p = put(p, "\",");
        }
        p = put(p, "\"status\":\"COMPLETED\",\"result\":{\"ok\":true}");
        p = put_token(p, &tasks[i]);
        p = put(p, "}");
    }
    if (batch) {
        p = put(p, "]}");
    }
    char path[128] = "/v1/codeq/tasks/batch/results";
    if (!batch) {
        snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result", tasks[0].id);
    }
    return finish(conn, "POST", path, host, token, (size_t)(p - body));
}

int64_t codeq_write_heartbeat(struct http_conn *conn, const char *host, const char *token,
                              const struct codeq_task *task, int extend_seconds)
{
    char *body = body_start(conn, TASK_JSON_BYTES_MAX + CODEQ_TOKEN_BYTES);
    if (body == NULL) {
        return -EMSGSIZE;
    }
    char *p = put(body, "{\"extendSeconds\":");
    p = put_int(p, extend_seconds);
    p = put(put_token(p, task), "}");
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/heartbeat", task->id);
    return finish(conn, "POST", path, host, token, (size_t)(p - body));
}

int64_t codeq_write_nack(struct http_conn *conn, const char *host, const char *token,
                         const struct codeq_task *task)
{
    char *body = body_start(conn, TASK_JSON_BYTES_MAX + CODEQ_TOKEN_BYTES);
    if (body == NULL) {
        return -EMSGSIZE;
    }
    char *p = put(put_token(put(body, "{\"delaySeconds\":1,\"reason\":\"load\""), task), "}");
    char path[128];
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/nack", task->id);
    return finish(conn, "POST", path, host, token, (size_t)(p - body));
}

int64_t codeq_write_get(struct http_conn *conn, const char *host, const char *token,
                        const char *path)
{
    if (body_start(conn, 0) == NULL) {
        return -EMSGSIZE;
    }
    return finish(conn, "GET", path, host, token, 0);
}

static const char *find(const char *from, const char *end, const char *text)
{
    return from < end ? memmem(from, (size_t)(end - from), text, strlen(text)) : NULL;
}

/* Copy up to the closing quote. False when it does not fit or does not end. */
static bool copy_string(const char *from, const char *end, char *out, size_t out_bytes)
{
    const char *quote = find(from, end, "\"");
    if (quote == NULL || (size_t)(quote - from) >= out_bytes) {
        return false;
    }
    memcpy(out, from, (size_t)(quote - from));
    out[quote - from] = '\0';
    return true;
}

static bool read_number(const char *from, const char *end, const char *key, uint64_t *out_value)
{
    const char *p = find(from, end, key);
    if (p == NULL) {
        return false;
    }
    p += strlen(key);
    uint64_t value = 0;
    const char *digits = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - digits < 19; p++) {
        value = value * 10 + (uint64_t)(*p - '0');
    }
    *out_value = value;
    return p > digits;
}

/* "id":" cannot stand inside the payload: there every quote is escaped. */
size_t codeq_read_tasks(const char *body, size_t bytes, uint64_t run, struct codeq_task *out,
                        size_t max)
{
    static const char id_key[] = "\"id\":\"";
    const char *end = body + bytes;
    size_t count = 0;
    const char *p = find(body, end, id_key);
    while (p != NULL && count < max) {
        p += strlen(id_key);
        const char *next = find(p, end, id_key);
        const char *stop = next != NULL ? next : end;
        struct codeq_task *task = &out[count];
        *task = (struct codeq_task){0};
        if (copy_string(p, stop, task->id, sizeof task->id)) {
            const char *token = find(p, stop, "\"deliveryToken\":\"");
            if (token != NULL) {
                copy_string(token + strlen("\"deliveryToken\":\""), stop, task->token,
                            sizeof task->token);
            }
            const char *payload = find(p, stop, "\"payload\":\"{\\\"seq\\\":");
            uint64_t of_run = 0;
            uint64_t tenant = 0;
            task->ours = payload != NULL &&
                         read_number(payload, stop, "\\\"seq\\\":", &task->seq) &&
                         read_number(payload, stop, "\\\"run\\\":", &of_run) && of_run == run &&
                         read_number(payload, stop, "\\\"tenant\\\":", &tenant);
            task->tenant = (uint32_t)tenant;
            count++;
        }
        p = next;
    }
    return count;
}

size_t codeq_read_refused(const char *body, size_t bytes, bool *out_refused, size_t count)
{
    if (find(body, body + bytes, "\"error\"") == NULL) {
        memset(out_refused, 0, count * sizeof *out_refused);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        out_refused[i] = true;
    }
    size_t refused = count;
    struct json *json = json_parse(body, bytes, NULL);
    const struct json *item = json_first(json_get(json, "results"));
    for (size_t i = 0; i < count && item != NULL; i++, item = json_next(item)) {
        if (json_get(item, "error") == NULL) {
            out_refused[i] = false;
            refused--;
        }
    }
    json_free(json);
    return refused;
}
