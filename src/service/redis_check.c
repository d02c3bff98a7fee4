#include "service/redis_check.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "store/conn.h"

struct checking {
    char policy[40];
};

static void on_info(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    static const char field[] = "maxmemory_policy:";
    struct checking *checking = owner;
    (void)call;
    (void)err;
    if (status != CONN_OK || reply->nodes[0].type != CONN_STRING) {
        return;
    }
    const char *text = reply->nodes[0].data;
    const char *end = text + reply->nodes[0].bytes;
    const char *at = memmem(text, reply->nodes[0].bytes, field, sizeof(field) - 1);
    for (size_t i = 0; at != NULL && i < sizeof(checking->policy) - 1; i++) {
        const char *c = at + sizeof(field) - 1 + i;
        if (c >= end || *c == '\r' || *c == '\n') {
            break;
        }
        checking->policy[i] = *c;
    }
}

int redis_check(struct conn *conn, struct err *err)
{
    struct checking checking = {""};
    conn_begin(conn, 2);
    conn_arg(conn, "INFO", 4);
    conn_arg(conn, "memory", 6);
    struct conn_call call = {.done = on_info, .owner = &checking, .repeatable = true};
    if (conn_end(conn, &call) == 0) {
        conn_wait(conn, INT64_MAX); /* ends by the request's own time-out */
    }
    if (checking.policy[0] != '\0' && strcmp(checking.policy, "noeviction") != 0) {
        return err_set(err, -EPERM,
                       "redis: maxmemory-policy is %s, so tasks may be thrown away: set it to "
                       "noeviction",
                       checking.policy);
    }
    return 0;
}
