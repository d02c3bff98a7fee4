/* A connection to Redis: requests in, replies out, in order. The one door to hiredis.
 *
 * To a Redis Cluster it is one connection a master node (cluster.h): a request goes where its key
 * lives, replies come in order node by node. To a Redis that Sentinels watch it is one to the
 * master that they name; who stopped being it is left.
 *
 * hiredis connects and parses; bytes move through buffers of our own, so that a request that Redis
 * refused for want of a script, or that a lost connection may safely repeat, can be sent again as
 * it was. Nothing is allocated per request once the buffers have grown to their working size.
 *
 * A request is written with conn_begin, conn_arg..., conn_end, and ends in exactly one call of its
 * `done`, never from inside conn_end. Replies are borrowed for the length of that call. `done` may
 * start requests but not call conn_wait or conn_close. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"
#include "store/script.h"

#define CONN_NODES_MAX 1024 /* values in one reply, the array itself included */
#define CONN_PENDING_MAX 65536
#define CONN_OUTPUT_BYTES_MAX (size_t)(1024 * 1024 * 1024)
/* Most of a reply: 256 finished tasks, each with the largest body and result, would be more, but a
 * Redis that sends it is either not ours or asked for what callers must not ask. */
#define CONN_INPUT_BYTES_MAX (size_t)(1024 * 1024 * 1024)
#define CONN_RETRY_MS_MIN 10 /* pause before a reconnect, doubled up to the maximum */
#define CONN_RETRY_MS_MAX 1000
#define CONN_CHANNEL_BYTES_MAX 63 /* of all channels */

struct conn;

/* What carries the bytes of a rediss:// connection. The library speaks through this door, so that
 * it needs no TLS library itself; tls.h makes one. */
struct conn_tls {
    void *arg;
    /* On a socket that is connected to host. NULL: out of memory. */
    void *(*begin)(void *arg, int fd, const char *host);
    /* 0: done; -EAGAIN: again when the socket is ready; else refused, with text. */
    int (*handshake)(void *session, struct err *err);
    /* As recv and send on a socket that does not wait. */
    ssize_t (*read)(void *session, void *data, size_t bytes);
    ssize_t (*write)(void *session, const void *data, size_t bytes);
    bool (*wants_write)(const void *session); /* before it can go on */
    void (*end)(void *session); /* the socket stays open */
    /* What broke it, where read or write failed with EPROTO. */
    const char *(*why)(const void *session);
};

struct conn_options {
    const char *url; /* as in struct store_options */
    const struct conn_tls *tls; /* for rediss://, borrowed; NULL: such urls are refused */
    struct clock *clock;
    int64_t connect_timeout_ns;
    int64_t command_timeout_ns;
    /* Subscribe to these channels, parted by a space, with each login; on_message gets what is
     * published there (borrowed for the call, which starts no requests). Of requests only PING is
     * then allowed. NULL: none.
     */
    const char *channel;
    void (*on_message)(void *arg, const char *text, size_t bytes);
    void *message_arg;
};

enum conn_status {
    CONN_OK, /* Redis replied, and not with an error */
    CONN_UNAVAILABLE, /* not sent, or refused before it acted */
    CONN_UNKNOWN, /* sent, no reply */
    CONN_ERROR, /* Redis replied with an error that a repeat would not mend */
};

enum conn_type { CONN_NIL, CONN_INTEGER, CONN_STRING, CONN_ARRAY, CONN_FAILURE };

/* A reply is nodes[0]; the elements of an array follow it as nodes[1..integer]. Arrays in arrays
 * arrive as CONN_ARRAY nodes in between and are for the reader to refuse. */
struct conn_node {
    enum conn_type type;
    int64_t integer; /* of an integer; elements of an array */
    const char *data; /* of a string (statuses included) or failure; not NUL-terminated */
    size_t bytes;
};

struct conn_reply {
    const struct conn_node *nodes; /* NULL unless CONN_OK */
    size_t count; /* of nodes */
};

/* One request in flight. */
struct conn_call;
typedef void conn_done_fn(void *owner, struct conn_call *call, enum conn_status status,
                          const struct conn_reply *reply, const struct err *err);
struct conn_call {
    conn_done_fn *done;
    void *owner;
    void (*user_done)(void); /* the owner's; kept, not called */
    void *user_arg;
    const struct script *script; /* loaded when Redis does not know it; NULL: not a script */
    uint16_t count; /* the owner's */
    bool repeatable; /* may run twice: sent again after a lost connection */
    /* the connection's own */
    bool sent_before;
    uint8_t loads;
    uint8_t hops; /* redirections so far */
    struct conn *conn; /* that holds it */
    size_t bytes;
    uint64_t at; /* place in the stream of requests */
    int64_t deadline_ns;
};

struct conn_counters {
    uint64_t round_trips;
    uint64_t commands;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t losses; /* connections that ended after their login */
};

/* Connect, log in and select the database, within connect_timeout_ns, trying again while Redis
 * refuses or is loading. NULL with text. */
struct conn *conn_open(const struct conn_options *options, struct err *err);

/* What is in flight ends with CONN_UNKNOWN when it was sent, else CONN_UNAVAILABLE. NULL is fine.
 */
void conn_close(struct conn *conn);

int conn_fd(const struct conn *conn); /* -1 between connections; a cluster's stays the same */
bool conn_wants_write(const struct conn *conn);
int64_t conn_deadline_ns(const struct conn *conn);
void conn_flush(struct conn *conn);
void conn_on_ready(struct conn *conn, bool readable, bool writable);
int conn_wait(struct conn *conn, int64_t deadline_ns);
size_t conn_pending(const struct conn *conn);
void conn_counters(const struct conn *conn, struct conn_counters *out);

/* Write one request of argc arguments. Only conn_end puts it in line: 0; -EAGAIN when
 * CONN_PENDING_MAX or CONN_OUTPUT_BYTES_MAX would be passed, and then nothing has happened. */
void conn_begin(struct conn *conn, size_t argc);
void conn_arg(struct conn *conn, const void *data, size_t bytes);
void conn_arg_pair(struct conn *conn, const void *a, size_t a_bytes, const void *b, size_t b_bytes);
void conn_arg_int(struct conn *conn, int64_t value);
/* Leave room for an argument of bytes and return where it goes (valid until the next call). */
char *conn_arg_space(struct conn *conn, size_t bytes);
int conn_end(struct conn *conn, const struct conn_call *call);
/* The same, at every master of a Redis Cluster that is up: for what has no key and asks a node
 * about itself. `done` comes once for each. How many, else 1; -EAGAIN as above, or when none is up.
 */
int conn_end_everywhere(struct conn *conn, const struct conn_call *call);

/* Walk the arguments of a request in flight: for its `done`, which finds there what was asked.
 * Valid until a request is begun. */
struct conn_args {
    const char *next;
    size_t count; /* of all, those that were passed included */
};
struct conn_args conn_call_args(const struct conn_call *call);
const char *conn_args_next(struct conn_args *args, size_t *out_bytes);
void conn_args_skip(struct conn_args *args, size_t count);
