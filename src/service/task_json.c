#include "service/task_json.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

char *text_time(char *at, int64_t unix_ms)
{
    /* Creation, update and end of the lease of many tasks fall into few seconds, the ends some
     * round number of them later; 7 divides none of the usual ones. */
    static _Thread_local struct {
        int64_t second;
        char text[20]; /* "2026-11-23T06:04:05." */
    } seconds[7];
    int64_t second = unix_ms / 1000;
    int64_t ms = unix_ms % 1000;
    if (ms < 0) {
        ms += 1000;
        second--;
    }
    size_t slot = (uint64_t)second % 7;
    if (second != seconds[slot].second || seconds[slot].text[0] == '\0') {
        char text[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(second * NS_PER_SEC, text);
        memcpy(seconds[slot].text, text, sizeof(seconds[slot].text));
        seconds[slot].second = second;
    }
    at = text_put(at, seconds[slot].text, sizeof(seconds[slot].text));
    at[0] = (char)('0' + ms / 100);
    at[1] = (char)('0' + ms / 10 % 10);
    at[2] = (char)('0' + ms % 10);
    at[3] = 'Z';
    return at + 4;
}

static const char *status_of(enum task_state state)
{
    switch (state) {
    case TASK_LEASED:
        return "\"status\":\"IN_PROGRESS\",\"lastKnownLocation\":\"INPROG_SET\"";
    case TASK_COMPLETED:
        return "\"status\":\"COMPLETED\",\"lastKnownLocation\":\"NONE\"";
    case TASK_FAILED:
        return "\"status\":\"FAILED\",\"lastKnownLocation\":\"NONE\"";
    case TASK_DEAD:
        return "\"status\":\"FAILED\",\"lastKnownLocation\":\"DLQ_SET\"";
    case TASK_DELAYED:
        return "\"status\":\"PENDING\",\"lastKnownLocation\":\"DELAYED_ZSET\"";
    case TASK_READY:
    case TASK_NONE:
        break;
    }
    return "\"status\":\"PENDING\",\"lastKnownLocation\":\"PENDING_LIST\"";
}

size_t task_json_room(const struct task_view *view)
{
    return 640 + view->body.bytes + 6 * (view->worker.bytes + view->error.bytes);
}

char *task_json(char *at, const struct task_view *view)
{
    char id[TASK_ID_TEXT_BYTES];
    task_id_format(&view->id, id);
    at = TEXT_PUT(at, "{\"id\":\"");
    at = text_put(at, id, TASK_ID_TEXT_BYTES - 1);
    at = TEXT_PUT(at, "\",");
    at = text_put(at, view->body.data, view->body.bytes);
    *at++ = ',';
    if (view->priority != 0) {
        at = TEXT_PUT(at, "\"priority\":");
        *at++ = (char)('0' + view->priority % 10);
        *at++ = ',';
    }
    const char *status = status_of(view->state);
    at = text_put(at, status, strlen(status));
    if (view->worker.bytes > 0) {
        at = TEXT_PUT(at, ",\"workerId\":\"");
        at = json_escape(at, view->worker.data, view->worker.bytes);
        *at++ = '"';
    }
    if (view->lease_until_ms != 0) {
        at = TEXT_PUT(at, ",\"leaseUntil\":\"");
        at = text_time(at, view->lease_until_ms);
        *at++ = '"';
    }
    if (view->attempts != 0) {
        at = TEXT_PUT(at, ",\"attempts\":");
        at = text_int(at, view->attempts);
    }
    at = TEXT_PUT(at, ",\"maxAttempts\":");
    at = text_int(at, view->max_attempts);
    if (view->error.bytes > 0) {
        at = TEXT_PUT(at, ",\"error\":");
        if (view->error_is_json) {
            at = text_put(at, view->error.data, view->error.bytes);
        } else {
            *at++ = '"';
            at = json_escape(at, view->error.data, view->error.bytes);
            *at++ = '"';
        }
    }
    if (view->state == TASK_COMPLETED || view->state == TASK_FAILED) {
        at = TEXT_PUT(at, ",\"resultKey\":\"");
        at = text_put(at, id, TASK_ID_TEXT_BYTES - 1);
        *at++ = '"';
    }
    at = TEXT_PUT(at, ",\"createdAt\":\"");
    at = text_time(at, task_id_time_ms(&view->id));
    at = TEXT_PUT(at, "\",\"updatedAt\":\"");
    at = text_time(at, view->updated_ms);
    *at++ = '"';
    if (view->token != NULL) {
        char token[TASK_TOKEN_BYTES];
        task_member_format(view->token, token);
        at = TEXT_PUT(at, ",\"deliveryToken\":\"");
        at = text_put(at, token, TASK_TOKEN_BYTES - 1);
        *at++ = '"';
    }
    *at++ = '}';
    return at;
}

struct task_view task_view_of(const struct store_task *task)
{
    struct task_view view = {
        .id = task_member_id(&task->member),
        .body = task->body,
        .priority = task_member_priority(&task->member),
        .attempts = task_member_attempts(&task->member),
        .max_attempts = task_member_max_attempts(&task->member),
        .state = task->state,
        .updated_ms = task->updated_ms,
        .error = task->reason,
    };
    if (task->state == TASK_LEASED) {
        view.worker = task->worker;
        view.lease_until_ms = task->due_ms;
    }
    if (task->state == TASK_FAILED && fragment_member(&task->result, "error", &view.error)) {
        view.error_is_json = true;
    }
    return view;
}

size_t result_json_room(size_t result_bytes)
{
    return result_bytes + 128;
}

char *result_json(char *at, const struct task_id *id, const struct store_bytes *result,
                  int64_t completed_ms)
{
    char text[TASK_ID_TEXT_BYTES];
    task_id_format(id, text);
    at = TEXT_PUT(at, "{\"taskId\":\"");
    at = text_put(at, text, TASK_ID_TEXT_BYTES - 1);
    at = TEXT_PUT(at, "\",");
    at = text_put(at, result->data, result->bytes);
    at = TEXT_PUT(at, ",\"completedAt\":\"");
    at = text_time(at, completed_ms);
    return TEXT_PUT(at, "\"}");
}

bool fragment_member(const struct store_bytes *fragment, const char *key, struct store_bytes *out)
{
    /* The fragment is ours, but it comes back from Redis: every step looks for the end. */
    const char *p = fragment->data;
    const char *end = p + fragment->bytes;
    size_t key_bytes = strlen(key);
    while (p < end && *p == '"') {
        const char *name = ++p;
        while (p < end && *p != '"') {
            p++;
        }
        size_t name_bytes = (size_t)(p - name);
        if (end - p < 2 || p[1] != ':') {
            return false;
        }
        const char *value = p + 2;
        unsigned depth = 0;
        bool in_string = false;
        for (p = value; p < end; p++) {
            if (in_string) {
                if (*p == '\\') {
                    p++;
                } else if (*p == '"') {
                    in_string = false;
                }
            } else if (*p == '"') {
                in_string = true;
            } else if (*p == '{' || *p == '[') {
                depth++;
            } else if ((*p == '}' || *p == ']') && depth > 0) {
                depth--;
            } else if (*p == ',' && depth == 0) {
                break;
            }
        }
        if (p > end) {
            return false;
        }
        if (name_bytes == key_bytes && memcmp(name, key, key_bytes) == 0) {
            *out = (struct store_bytes){value, (size_t)(p - value)};
            return true;
        }
        if (p < end) {
            p++;
        }
    }
    return false;
}
