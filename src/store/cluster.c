#include "store/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/conn_internal.h"
#include "store/slots.h"

#define NO_NODE UINT16_MAX
#define EVENTS_A_TURN 64
#define REFRESH_PAUSE_NS \
    (100 * NS_PER_MS) /* between two looks at the map while something is wrong */
#define CURSOR_BYTES_MAX 40

struct node {
    struct url_place place;
    struct conn *conn;
    bool serves; /* owns slots, as far as is known */
    int fd; /* as epoll knows it; -1: not */
    uint32_t events;
    uint64_t connects; /* of the conn, when its fd was told to epoll */
};

struct cluster {
    struct conn_options options;
    struct url url;
    int epoll;
    struct node *nodes[CLUSTER_NODES_MAX]; /* NULL: free */
    unsigned nodes_end; /* behind the last that was ever used */
    uint16_t owners[SLOTS_COUNT]; /* of nodes, or NO_NODE */
    int64_t refresh_ns; /* when to read the map; INT64_MAX: all is well */
    unsigned asked; /* which node was asked last */
    struct conn_counters left; /* of nodes that are gone */
};

/* ---- requests ---- */

static bool is(const char *name, size_t bytes, const char *text)
{
    return bytes == strlen(text) && memcmp(name, text, bytes) == 0;
}

/* The slot of a request of ours; -1 when it has no key. */
static int slot_of(const struct conn_call *call)
{
    static const char *const keyless[] = {"SCAN",   "PING",    "INFO",    "CONFIG",
                                          "SCRIPT", "PUBLISH", "CLUSTER", "TIME"};
    struct conn_args args = conn_call_args(call);
    size_t bytes = 0;
    const char *name = conn_args_next(&args, &bytes);
    for (size_t i = 0; i < sizeof keyless / sizeof keyless[0]; i++) {
        if (is(name, bytes, keyless[i])) {
            return -1;
        }
    }
    if (is(name, bytes, "EVALSHA")) {
        conn_args_skip(&args, 2);
    }
    const char *key = conn_args_next(&args, &bytes);
    return slots_of_key(key, bytes);
}

/* ---- nodes ---- */

static bool same_place(const struct url_place *a, const struct url_place *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Tell epoll where the node's connection is and what it waits for. */
static void watch(struct cluster *cluster, struct node *node)
{
    int fd = conn_fd(node->conn);
    uint32_t events = EPOLLIN | (conn_wants_write(node->conn) ? EPOLLOUT : 0);
    bool fresh = fd != node->fd || node->conn->connects != node->connects;
    if (fd < 0) {
        node->fd = -1; /* a closed socket has left the set by itself */
    } else if (fresh || events != node->events) {
        struct epoll_event event = {.events = events, .data.ptr = node};
        epoll_ctl(cluster->epoll, fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
        node->fd = fd;
        node->events = events;
        node->connects = node->conn->connects;
    }
}

/* The url's login at one of its places. */
static struct url url_at(const struct cluster *cluster, const struct url_place *place)
{
    struct url url = cluster->url;
    url.kind = URL_ONE;
    url.place_count = 1;
    url.places[0] = *place;
    return url;
}

/* The node of that address, made when it is new. NO_NODE: too many, or no memory. */
static uint16_t node_at(struct cluster *cluster, const struct url_place *place)
{
    unsigned room = cluster->nodes_end;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] == NULL) {
            room = i;
        } else if (same_place(&cluster->nodes[i]->place, place)) {
            return (uint16_t)i;
        }
    }
    struct node *node = room < CLUSTER_NODES_MAX ? calloc(1, sizeof *node) : NULL;
    if (node == NULL) {
        return NO_NODE;
    }
    struct url url = url_at(cluster, place);
    node->place = *place;
    node->fd = -1;
    node->conn = conn_start(&cluster->options, &url, NULL);
    if (node->conn == NULL) {
        free(node);
        return NO_NODE;
    }
    node->conn->node_of = cluster;
    cluster->nodes[room] = node;
    cluster->nodes_end += room == cluster->nodes_end;
    watch(cluster, node);
    return (uint16_t)room;
}

/* Any that serves, one that is up before one that is not. NULL: none. */
static struct node *any_node(const struct cluster *cluster)
{
    struct node *found = NULL;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        struct node *node = cluster->nodes[i];
        if (node == NULL) {
            continue;
        }
        bool better = found == NULL || (node->serves && !found->serves) ||
                      (node->serves == found->serves && node->conn->state == CONN_UP &&
                       found->conn->state != CONN_UP);
        found = better ? node : found;
    }
    return found;
}

static void add_counters(struct conn_counters *to, const struct conn_counters *more)
{
    to->round_trips += more->round_trips;
    to->commands += more->commands;
    to->bytes_sent += more->bytes_sent;
    to->bytes_received += more->bytes_received;
    to->losses += more->losses;
}

static void node_free(struct cluster *cluster, unsigned number)
{
    struct node *node = cluster->nodes[number];
    struct conn_counters gone;
    conn_counters(node->conn, &gone);
    add_counters(&cluster->left, &gone);
    cluster->nodes[number] = NULL;
    conn_close(node->conn);
    free(node);
}

/* ---- the map ---- */

/* A map being read. */
struct taking {
    struct cluster *cluster;
    uint16_t owners[SLOTS_COUNT];
    bool serves[CLUSTER_NODES_MAX];
    bool any;
};

static void take_range(void *arg, const struct url_place *master, uint16_t from, uint16_t to)
{
    struct taking *taking = arg;
    uint16_t node = node_at(taking->cluster, master);
    if (node != NO_NODE) {
        taking->any = taking->serves[node] = true;
        for (unsigned slot = from; slot <= to; slot++) {
            taking->owners[slot] = node;
        }
    }
}

/* False: it names no master, and the map is as it was. */
static bool take_map(struct cluster *cluster, const struct conn_call *call,
                     const struct conn_node *text)
{
    struct taking taking = {.cluster = cluster};
    memset(taking.owners, 0xff, sizeof taking.owners);
    slots_read_nodes(text->data, text->bytes, call->conn->url.places[0].host, take_range, &taking);
    if (!taking.any) {
        return false;
    }
    memcpy(cluster->owners, taking.owners, sizeof taking.owners);
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] != NULL) {
            cluster->nodes[i]->serves = taking.serves[i];
        }
    }
    return true;
}

/* Every slot has an owner, and every owner answers. */
static bool all_well(const struct cluster *cluster)
{
    for (unsigned slot = 0; slot < SLOTS_COUNT; slot++) {
        if (cluster->owners[slot] == NO_NODE) {
            return false;
        }
    }
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        const struct node *node = cluster->nodes[i];
        if (node != NULL && node->serves && node->conn->state != CONN_UP) {
            return false;
        }
    }
    return true;
}

static void refresh_soon(struct cluster *cluster)
{
    int64_t now_ns = clock_monotonic_ns(cluster->options.clock);
    if (cluster->refresh_ns > now_ns + REFRESH_PAUSE_NS) {
        cluster->refresh_ns = now_ns;
    }
}

static void on_map(void *owner, struct conn_call *call, enum conn_status status,
                   const struct conn_reply *reply, const struct err *err)
{
    (void)err;
    struct cluster *cluster = owner;
    if (status != CONN_OK || reply->nodes[0].type != CONN_STRING) {
        return; /* another node is asked soon */
    }
    if (take_map(cluster, call, &reply->nodes[0])) {
        for (unsigned i = 0; i < cluster->nodes_end; i++) {
            if (cluster->nodes[i] != NULL && cluster->nodes[i]->conn != call->conn) {
                conn_hand_over(cluster->nodes[i]->conn);
            }
        }
    }
    if (all_well(cluster)) {
        cluster->refresh_ns = INT64_MAX;
    }
}

static int ask_map(struct conn *conn, conn_done_fn *done, void *owner)
{
    conn_begin(conn, 2);
    conn_arg(conn, "CLUSTER", 7);
    conn_arg(conn, "NODES", 5);
    struct conn_call call = {.done = done, .owner = owner, .repeatable = true};
    return conn_end(conn, &call);
}

static void refresh(struct cluster *cluster, int64_t now_ns)
{
    cluster->refresh_ns = now_ns + REFRESH_PAUSE_NS;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        cluster->asked = (cluster->asked + 1) % cluster->nodes_end;
        struct node *node = cluster->nodes[cluster->asked];
        if (node != NULL && node->conn->state == CONN_UP && node->conn->login_replies == 0) {
            ask_map(node->conn, on_map, cluster);
            return;
        }
    }
    /* Nobody is up. Those who were there at the beginning may be. */
    for (unsigned i = 0; i < cluster->url.place_count; i++) {
        node_at(cluster, &cluster->url.places[i]);
    }
}

struct conn *cluster_route(struct cluster *cluster, const struct conn_call *call)
{
    int slot = slot_of(call);
    uint16_t owner = slot >= 0 ? cluster->owners[slot] : NO_NODE;
    struct node *node = owner != NO_NODE ? cluster->nodes[owner] : any_node(cluster);
    return node != NULL ? node->conn : NULL;
}

/* A SCAN on its way round the nodes. */
struct scan {
    struct cluster *cluster;
    struct conn_call call; /* as the caller gave it */
    unsigned node;
};

/* The first node from that number on that serves; CLUSTER_NODES_MAX: none. */
static unsigned serving_from(const struct cluster *cluster, unsigned number)
{
    while (number < cluster->nodes_end &&
           (cluster->nodes[number] == NULL || !cluster->nodes[number]->serves)) {
        number++;
    }
    return number < cluster->nodes_end ? number : CLUSTER_NODES_MAX;
}

static void on_scanned(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    struct scan *scan = owner;
    char cursor[CURSOR_BYTES_MAX];
    if (status == CONN_OK && reply->count >= 3 && reply->nodes[1].type == CONN_STRING &&
        reply->nodes[1].bytes <= 20) {
        struct conn_node *node = &call->conn->nodes[1];
        bool last = is(node->data, node->bytes, "0");
        unsigned next = last ? serving_from(scan->cluster, scan->node + 1) : scan->node;
        int n = snprintf(cursor, sizeof cursor, "%.*s-%u", (int)node->bytes, node->data, next);
        node->data = cursor;
        node->bytes = last && next == CLUSTER_NODES_MAX ? 1 : (size_t)n; /* "0": all are seen */
    }
    struct conn_call theirs = *call;
    theirs.done = scan->call.done;
    theirs.owner = scan->call.owner;
    theirs.done(theirs.owner, &theirs, status, reply, err);
    free(scan);
}

static int send_scan(struct cluster *cluster, const struct conn_call *call)
{
    struct conn_args args = conn_call_args(call);
    size_t argc = args.count;
    size_t bytes = 0;
    unsigned long long at = 0;
    unsigned from = 0;
    char text[CURSOR_BYTES_MAX];
    conn_args_skip(&args, 1);
    const char *cursor = conn_args_next(&args, &bytes);
    snprintf(text, sizeof text, "%.*s", bytes < sizeof text ? (int)bytes : 0, cursor);
    if (sscanf(text, "%20llu-%4u", &at, &from) < 1) {
        return -EINVAL;
    }
    unsigned node = serving_from(cluster, from);
    struct scan *scan = node < CLUSTER_NODES_MAX ? malloc(sizeof *scan) : NULL;
    if (scan == NULL) {
        return -EAGAIN;
    }
    *scan = (struct scan){cluster, *call, node};
    struct conn *conn = cluster->nodes[node]->conn;
    conn_begin(conn, argc);
    conn_arg(conn, "SCAN", 4);
    int n = snprintf(text, sizeof text, "%llu", node == from ? at : 0);
    conn_arg(conn, text, (size_t)n);
    for (size_t i = 2; i < argc; i++) {
        const char *arg = conn_args_next(&args, &bytes);
        conn_arg(conn, arg, bytes);
    }
    struct conn_call ours = *call;
    ours.done = on_scanned;
    ours.owner = scan;
    int rc = conn_end(conn, &ours);
    if (rc != 0) {
        free(scan);
    }
    return rc;
}

int cluster_send(struct cluster *cluster, const struct conn_call *call)
{
    struct conn_args args = conn_call_args(call);
    size_t bytes = 0;
    const char *name = conn_args_next(&args, &bytes);
    if (is(name, bytes, "SCAN")) {
        return send_scan(cluster, call);
    }
    struct conn *conn = cluster_route(cluster, call);
    return conn != NULL && conn_adopt(conn, call) ? 0 : -EAGAIN;
}

int cluster_send_everywhere(struct cluster *cluster, const struct conn_call *call)
{
    int sent = 0;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        struct node *node = cluster->nodes[i];
        if (node != NULL && node->serves && node->conn->state == CONN_UP &&
            conn_adopt(node->conn, call)) {
            sent++;
        }
    }
    return sent > 0 ? sent : -EAGAIN;
}

bool cluster_redirected(struct cluster *cluster, const struct conn_call *call, const char *text,
                        size_t bytes)
{
    static const char down[] = "CLUSTERDOWN";
    uint16_t slot = 0;
    struct url_place place;
    bool moved = slots_read_moved(text, bytes, call->conn->url.places[0].host, &slot, &place);
    if (moved || (bytes >= sizeof down - 1 && memcmp(text, down, sizeof down - 1) == 0)) {
        refresh_soon(cluster);
    }
    uint16_t number = moved && call->hops < CLUSTER_HOPS_MAX ? node_at(cluster, &place) : NO_NODE;
    if (number == NO_NODE || cluster->nodes[number]->conn == call->conn) {
        return false;
    }
    cluster->owners[slot] = number;
    cluster->nodes[number]->serves = true;
    struct conn_call again = *call;
    again.hops++;
    again.sent_before = false;
    return conn_adopt(cluster->nodes[number]->conn, &again);
}

/* ---- the loop's door ---- */

int cluster_fd(const struct cluster *cluster)
{
    return cluster->epoll;
}

int64_t cluster_deadline_ns(const struct cluster *cluster)
{
    int64_t deadline_ns = cluster->refresh_ns;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] != NULL) {
            int64_t own_ns = conn_deadline_ns(cluster->nodes[i]->conn);
            deadline_ns = own_ns < deadline_ns ? own_ns : deadline_ns;
        }
    }
    return deadline_ns;
}

void cluster_flush(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] != NULL) {
            conn_flush(cluster->nodes[i]->conn);
            watch(cluster, cluster->nodes[i]);
        }
    }
}

void cluster_on_ready(struct cluster *cluster)
{
    struct epoll_event events[EVENTS_A_TURN];
    int count = epoll_wait(cluster->epoll, events, EVENTS_A_TURN, 0);
    for (int i = 0; i < count; i++) {
        struct node *node = events[i].data.ptr;
        bool broken = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
        conn_on_ready(node->conn, broken || (events[i].events & EPOLLIN) != 0,
                      broken || (events[i].events & EPOLLOUT) != 0);
    }
    int64_t now_ns = clock_monotonic_ns(cluster->options.clock);
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        struct node *node = cluster->nodes[i];
        if (node == NULL) {
            continue;
        }
        if (conn_deadline_ns(node->conn) <= now_ns) {
            conn_on_ready(node->conn, false, false);
        }
        if (node->serves && node->conn->state == CONN_DOWN) {
            refresh_soon(cluster);
        } else if (!node->serves && conn_pending(node->conn) == 0 &&
                   cluster->refresh_ns == INT64_MAX) { /* else it may be the one to ask */
            node_free(cluster, i);
        }
    }
    if (cluster->refresh_ns <= now_ns) {
        refresh(cluster, now_ns);
    }
    cluster_flush(cluster);
}

size_t cluster_pending(const struct cluster *cluster)
{
    size_t pending = 0;
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        pending += cluster->nodes[i] != NULL ? conn_pending(cluster->nodes[i]->conn) : 0;
    }
    return pending;
}

void cluster_add_counters(const struct cluster *cluster, struct conn_counters *to)
{
    add_counters(to, &cluster->left);
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] != NULL) {
            struct conn_counters one;
            conn_counters(cluster->nodes[i]->conn, &one);
            add_counters(to, &one);
        }
    }
}

/* ---- life ---- */

struct opening {
    struct cluster *cluster;
    bool done;
    bool good;
    bool refused; /* it knows of no cluster, or may not tell */
    struct err err;
};

static void on_first_map(void *owner, struct conn_call *call, enum conn_status status,
                         const struct conn_reply *reply, const struct err *err)
{
    struct opening *opening = owner;
    opening->done = true;
    if (status != CONN_OK) {
        opening->err = *err;
        opening->refused = status == CONN_ERROR;
    } else if (reply->nodes[0].type != CONN_STRING ||
               !take_map(opening->cluster, call, &reply->nodes[0])) {
        err_set(&opening->err, 0, "redis at %s: its cluster has no master with slots yet",
                call->conn->where);
    } else {
        opening->good = true;
    }
}

/* The map from one of the url's places. */
static bool first_map(struct cluster *cluster, const struct url_place *place, int64_t deadline_ns,
                      bool *out_is_cluster, struct err *err)
{
    struct url url = url_at(cluster, place);
    struct conn *conn = conn_start(&cluster->options, &url, err);
    struct opening opening = {.cluster = cluster};
    if (conn == NULL || !conn_up(conn, deadline_ns, err)) {
        conn_close(conn);
        return false;
    }
    if (ask_map(conn, on_first_map, &opening) == 0) {
        conn_wait(conn, deadline_ns);
    }
    if (!opening.good) {
        *err = opening.err;
        if (!opening.done) {
            err_set(err, 0, "redis at %s: no answer in time", conn->where);
        }
    }
    *out_is_cluster = !opening.refused;
    conn_close(conn); /* ends what is in flight: before `opening` goes */
    return opening.good;
}

struct cluster *cluster_open(const struct conn_options *options, const struct url *url,
                             int64_t deadline_ns, bool *out_is_cluster, struct err *err)
{
    *out_is_cluster = true;
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    cluster->options = *options;
    cluster->options.url = NULL; /* the nodes' are their own */
    cluster->url = *url;
    cluster->refresh_ns = INT64_MAX;
    memset(cluster->owners, 0xff, sizeof cluster->owners);
    cluster->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (cluster->epoll < 0) {
        err_set(err, -errno, "epoll: %s", strerror(errno));
        free(cluster);
        return NULL;
    }
    bool known = false;
    for (unsigned i = 0; i < url->place_count && !known && *out_is_cluster; i++) {
        /* An equal share of the time for each, so that one that is away leaves some for the rest.
         */
        int64_t now_ns = clock_monotonic_ns(options->clock);
        int64_t share_ns = (deadline_ns - now_ns) / (int64_t)(url->place_count - i);
        known = share_ns > 0 &&
                first_map(cluster, &url->places[i], now_ns + share_ns, out_is_cluster, err);
    }
    for (unsigned i = 0; i < CLUSTER_NODES_MAX && known; i++) {
        if (cluster->nodes[i] != NULL) {
            struct err ignored;
            conn_up(cluster->nodes[i]->conn, deadline_ns, &ignored); /* one may be away */
            watch(cluster, cluster->nodes[i]);
        }
    }
    if (!known) {
        cluster_close(cluster);
        return NULL;
    }
    if (!all_well(cluster)) {
        refresh_soon(cluster);
    }
    return cluster;
}

void cluster_close(struct cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    for (unsigned i = 0; i < cluster->nodes_end; i++) {
        if (cluster->nodes[i] != NULL) {
            cluster->nodes[i]->conn->node_of = NULL;
            conn_close(cluster->nodes[i]->conn);
            free(cluster->nodes[i]);
        }
    }
    close(cluster->epoll);
    free(cluster);
}
