/* codeQ's Task and ResultRecord as JSON text, and the two fragments of them that are kept in Redis.
 *
 * A task's body in the store is the part of its Task that never changes, written once at create and
 * pasted into every answer: members without braces,
 *   "command":"X","payload":"{\"a\":1}","tenantId":"t"[,"webhook":"http://..."]
 *   [,"traceParent":"..."][,"traceState":"..."]
 * A finished task's result in the store is likewise the part of its ResultRecord between taskId and
 * completedAt:
 *   "status":"COMPLETED","result":{...}[,"artifacts":[...]]
 *   "status":"FAILED"[,"result":{...}],"error":"..."[,"artifacts":[...]]
 * Pure functions that write at a given address and return the end; the caller has made room by the
 * function that says how much. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json_text.h"
#include "sched/task.h"
#include "store/store.h"

/* "2026-11-23T06:04:05.678Z" without quotes, 24 bytes. */
char *text_time(char *at, int64_t unix_ms);

struct task_view {
    struct task_id id;
    struct store_bytes body; /* the fragment */
    uint8_t priority;
    uint16_t attempts;
    uint16_t max_attempts;
    enum task_state state;
    struct store_bytes worker; /* empty: none */
    int64_t lease_until_ms; /* 0: none */
    int64_t updated_ms;
    struct store_bytes error; /* empty: none */
    bool error_is_json; /* error is a JSON string with its quotes */
    const struct task_member *token; /* NULL: none */
};
size_t task_json_room(const struct task_view *view);
char *task_json(char *at, const struct task_view *view);

/* From the store's answer to a get. The error of a finished task is found in its result. */
struct task_view task_view_of(const struct store_task *task);

size_t result_json_room(size_t result_bytes);
char *result_json(char *at, const struct task_id *id, const struct store_bytes *result,
                  int64_t completed_ms);

/* A member of a fragment, as raw JSON. false: not there. */
bool fragment_member(const struct store_bytes *fragment, const char *key, struct store_bytes *out);
