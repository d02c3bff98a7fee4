/* What conn.c and cluster.c share. Not for others. */
#pragma once

#include <hiredis/hiredis.h>

#include "store/conn.h"
#include "store/url.h"

#define CONN_INPUT_CHUNK_BYTES (64 * 1024)

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_UP };

struct cluster;

struct conn {
    struct url url;
    struct cluster *cluster; /* of a Redis Cluster: requests are built here and sent by its nodes */
    struct cluster *node_of; /* a node's own connection: who may take what it redirects */
    struct clock *clock;
    int64_t connect_timeout_ns;
    int64_t command_timeout_ns;
    char channel[CONN_CHANNEL_BYTES_MAX + 1]; /* parted by spaces; "": none */
    void (*on_message)(void *arg, const char *text, size_t bytes);
    void *message_arg;

    enum conn_state state;
    redisContext *context;
    const struct conn_tls *tls; /* NULL: plain */
    void *session; /* its, of this socket */
    redisReader *reader;
    int64_t retry_at_ns; /* CONN_DOWN: the next attempt */
    int64_t retry_pause_ns; /* before the one after */
    uint64_t received_before; /* all bytes received, when the attempt began */
    uint64_t connects; /* attempts so far: the socket of each is another */
    unsigned place; /* of the url's, where the next attempt goes */
    bool resolving; /* the attempt asks a Sentinel where the master is */
    struct url_place master; /* as the Sentinel said; port 0: ask */
    char host[URL_TEXT_BYTES_MAX]; /* of the last attempt */
    char where[URL_TEXT_BYTES_MAX + 8]; /* the last attempt's address, for people */
    int64_t connect_by_ns; /* CONN_CONNECTING, and until the login is answered */
    unsigned login_replies; /* still to come before the replies of requests */
    struct err down_reason;
    bool dispatching;
    bool closing;

    /* Requests: out[0] is stream position out_base; answered < sent <= end. */
    char *out;
    size_t out_capacity;
    uint64_t out_base;
    uint64_t out_sent; /* position */
    uint64_t out_end; /* position behind the last whole request */
    size_t build; /* length of the request being written, behind out_end */
    bool build_failed;
    char login[2 * URL_TEXT_BYTES_MAX + 256]; /* AUTH, SELECT, SUBSCRIBE of this connection */
    size_t login_bytes;
    size_t login_sent;

    struct conn_call *ring;
    size_t ring_capacity; /* a power of 2 */
    size_t ring_head;
    size_t ring_count;

    /* The reply being read. */
    struct conn_node nodes[CONN_NODES_MAX];
    size_t node_count;
    char *arena; /* bytes of its strings; nodes hold offsets until the reply is whole */
    size_t arena_bytes;
    size_t arena_capacity;

    uint64_t writes;
    uint64_t writes_answered;
    struct conn_counters counters;
    char input[CONN_INPUT_CHUNK_BYTES];
};

/* Start to connect and return at once. NULL with text. */
struct conn *conn_start(const struct conn_options *options, const struct url *url, struct err *err);

/* Put a request in line that call->conn has built or holds. False: no room. */
bool conn_adopt(struct conn *conn, const struct conn_call *call);

/* Wait, blocking, until it is logged in. False with text at deadline_ns. */
bool conn_up(struct conn *conn, int64_t deadline_ns, struct err *err);

/* What waits in line for a cluster's node that is away goes where its keys live now. */
void conn_hand_over(struct conn *conn);
