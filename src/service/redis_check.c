#include "service/redis_check.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "store/conn.h"

struct checking {
    char policy[40]; /* "": none that throws keys away */
    char port[8]; /* of the node that has it */
};

/* A field of an INFO answer, cut off where out ends. */
static void field_of(const struct conn_node *info, const char *field, char *out, size_t bytes)
{
    const char *end = info->data + info->bytes;
    const char *at = memmem(info->data, info->bytes, field, strlen(field));
    size_t n = 0;
    at = at == NULL ? end : at + strlen(field);
    while (at + n < end && n < bytes - 1 && at[n] != '\r' && at[n] != '\n') {
        out[n] = at[n];
        n++;
    }
    out[n] = '\0';
}

static void on_info(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    struct checking *checking = owner;
    (void)call;
    (void)err;
    if (status != CONN_OK || reply->nodes[0].type != CONN_STRING) {
        return;
    }
    char policy[sizeof(checking->policy)];
    field_of(&reply->nodes[0], "maxmemory_policy:", policy, sizeof(policy));
    if (policy[0] != '\0' && strcmp(policy, "noeviction") != 0) {
        memcpy(checking->policy, policy, sizeof(policy));
        field_of(&reply->nodes[0], "tcp_port:", checking->port, sizeof(checking->port));
    }
}

int redis_check(struct conn *conn, struct err *err)
{
    struct checking checking = {"", ""};
    conn_begin(conn, 2);
    conn_arg(conn, "INFO", 4);
    conn_arg(conn, "everything", 10);
    struct conn_call call = {.done = on_info, .owner = &checking, .repeatable = true};
    if (conn_end_everywhere(conn, &call) > 0) {
        conn_wait(conn, INT64_MAX); /* ends by the request's own time-out */
    }
    if (checking.policy[0] != '\0') {
        bool tcp = checking.port[0] != '\0' && strcmp(checking.port, "0") != 0;
        return err_set(err, -EPERM,
                       "redis%s%s: maxmemory-policy is %s, so tasks may be thrown away: set it to "
                       "noeviction",
                       tcp ? " at port " : "", tcp ? checking.port : "", checking.policy);
    }
    return 0;
}
