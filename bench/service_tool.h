/* The service under a tool of Valgrind: codeqd, or the Redis behind it, started as the tool's
 * client in place of itself, and what the tool wrote turned into a scenario folder's files.
 *
 * Callgrind counts from service_tool_begin to service_tool_end, both at moments without a request
 * under way; massif and dhat see the whole process. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "profile.h"
#include "service.h"

#define SERVICE_TOOL_SCHEMA "codeq-lab.service/1"
#define SERVICE_TOOL_FILE "service.json"

struct service_tool {
    enum profile_tool tool;
    bool of_redis; /* redis-server is the client; else codeqd */
    char dir[64]; /* of the tool's files */
    char program[96]; /* a script that starts the tool with the program */
};

/* Make the script; program is codeqd's path, and unused of_redis. 0 or negative errno with text. */
int service_tool_init(struct service_tool *tool, enum profile_tool kind, bool of_redis,
                      const char *program, struct err *err);
void service_tool_fini(struct service_tool *tool); /* removes its files */

/* Have the process forget what it counted, and write what it counted since. */
int service_tool_begin(const struct service_tool *tool, const struct service *service,
                       struct err *err);
int service_tool_end(const struct service_tool *tool, const struct service *service,
                     struct err *err);

/* After the process has ended: keep its profile in out_dir (made here; for Redis out_dir/redis) and
 * add what it says to `into`. ops: tasks between begin and end. */
int service_tool_keep(const struct service_tool *tool, int64_t ops, int64_t requests,
                      const char *out_dir, struct json *into, struct err *err);

/* "callgrind.codeqd": the member of service.json. */
void service_tool_key(const struct service_tool *tool, char out[32]);
