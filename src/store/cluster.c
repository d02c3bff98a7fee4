#include "store/cluster.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "store/conn_internal.h"

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
    uint16_t owners[CLUSTER_SLOTS]; /* of nodes, or NO_NODE */
    int64_t refresh_ns; /* when to read the map; INT64_MAX: all is well */
    unsigned asked; /* which node was asked last */
    struct conn_counters left; /* of nodes that are gone */
};

/* ---- keys ---- */

/* CRC-16/XMODEM, by half bytes. */
static uint16_t crc16(const char *data, size_t bytes)
{
    static const uint16_t table[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint16_t crc = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)data[i];
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ c >> 4) & 15]);
        crc = (uint16_t)(crc << 4 ^ table[(crc >> 12 ^ c) & 15]);
    }
    return crc;
}

uint16_t cluster_slot(const char *key, size_t bytes)
{
    const char *open = memchr(key, '{', bytes);
    if (open != NULL) {
        const char *close = memchr(open + 1, '}', bytes - (size_t)(open + 1 - key));
        if (close != NULL && close != open + 1) {
            return crc16(open + 1, (size_t)(close - open - 1)) % CLUSTER_SLOTS;
        }
    }
    return crc16(key, bytes) % CLUSTER_SLOTS;
}

static bool is(const char *name, size_t bytes, const char *text)
{
    return bytes == strlen(text) && memcmp(name, text, bytes) == 0;
}

/* The slot of a request of ours; -1 when it has no key. */
static int slot_of(const char *request)
{
    static const char *const keyless[] = {"SCAN",   "PING",    "INFO",    "CONFIG",
                                          "SCRIPT", "PUBLISH", "CLUSTER", "TIME"};
    struct conn_args args = conn_request_args(request);
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
    return cluster_slot(key, bytes);
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

/* The node of that address, made when it is new. NO_NODE: too many, or no memory. */
static uint16_t node_at(struct cluster *cluster, const struct url_place *place)
{
    uint16_t room = NO_NODE;
    for (uint16_t i = 0; i < CLUSTER_NODES_MAX; i++) {
        if (cluster->nodes[i] == NULL) {
            room = room == NO_NODE ? i : room;
        } else if (same_place(&cluster->nodes[i]->place, place)) {
            return i;
        }
    }
    struct node *node = room != NO_NODE ? calloc(1, sizeof *node) : NULL;
    if (node == NULL) {
        return NO_NODE;
    }
    struct url url = cluster->url; /* its login */
    url.kind = URL_ONE;
    url.place_count = 1;
    url.places[0] = *place;
    node->place = *place;
    node->fd = -1;
    node->conn = conn_start(&cluster->options, &url, NULL);
    if (node->conn == NULL) {
        free(node);
        return NO_NODE;
    }
    node->conn->node_of = cluster;
    cluster->nodes[room] = node;
    watch(cluster, node);
    return room;
}

/* Any that serves, one that is up before one that is not. NULL: none. */
static struct node *any_node(const struct cluster *cluster)
{
    struct node *found = NULL;
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
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

static void node_free(struct cluster *cluster, unsigned number)
{
    struct node *node = cluster->nodes[number];
    struct conn_counters *left = &cluster->left;
    struct conn_counters gone;
    conn_counters(node->conn, &gone);
    left->round_trips += gone.round_trips;
    left->commands += gone.commands;
    left->bytes_sent += gone.bytes_sent;
    left->bytes_received += gone.bytes_received;
    left->losses += gone.losses;
    cluster->nodes[number] = NULL;
    conn_close(node->conn);
    free(node);
}

/* ---- the map ---- */

/* "host:port" or "host:port@bus[,name]"; an empty host is the one that answered. */
static bool parse_place(const char *text, size_t bytes, const char *asked_host,
                        struct url_place *out)
{
    const char *at = memchr(text, '@', bytes);
    bytes = at != NULL ? (size_t)(at - text) : bytes;
    const char *colon = memrchr(text, ':', bytes);
    char port[8];
    int64_t number = 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof out->host ||
        bytes - (size_t)(colon + 1 - text) >= sizeof port) {
        return false;
    }
    snprintf(port, sizeof port, "%.*s", (int)(bytes - (size_t)(colon + 1 - text)), colon + 1);
    if (args_int(port, 1, 65535, &number, NULL) != 0) {
        return false;
    }
    *out = (struct url_place){.port = (uint16_t)number};
    if (colon == text || (colon - text == 1 && text[0] == '?')) {
        snprintf(out->host, sizeof out->host, "%s", asked_host);
    } else {
        memcpy(out->host, text, (size_t)(colon - text));
    }
    return true;
}

/* "12-34" or "12"; what is on its way from or to another node stands in brackets. */
static void take_slots(struct cluster *cluster, const char *text, size_t bytes, uint16_t node)
{
    char copy[16];
    unsigned from = 0, to = 0;
    int read = 0;
    if (bytes == 0 || bytes >= sizeof copy || text[0] == '[') {
        return;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (sscanf(copy, "%5u%n", &from, &read) != 1) {
        return;
    }
    to = from;
    if (copy[read] == '-' && sscanf(copy + read + 1, "%5u", &to) != 1) {
        return;
    }
    for (unsigned slot = from; slot <= to && slot < CLUSTER_SLOTS; slot++) {
        cluster->owners[slot] = node;
    }
}

static bool has_flag(const char *flags, size_t bytes, const char *flag)
{
    size_t n = strlen(flag);
    for (const char *p = flags, *end = flags + bytes; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end;
        if ((size_t)(stop - p) == n && memcmp(p, flag, n) == 0) {
            return true;
        }
        p = stop + 1;
    }
    return false;
}

/* A line of CLUSTER NODES: id address flags master ping pong epoch link slot... */
static void take_line(struct cluster *cluster, const char *line, size_t bytes,
                      const char *asked_host)
{
    const char *end = line + bytes;
    const char *field = line;
    uint16_t node = NO_NODE;
    struct url_place place;
    bool has_place = false;
    for (int i = 0; field < end; i++) {
        const char *space = memchr(field, ' ', (size_t)(end - field));
        size_t n = (size_t)((space != NULL ? space : end) - field);
        if (i == 1) {
            has_place = parse_place(field, n, asked_host, &place);
        } else if (i == 2 && (!has_place || !has_flag(field, n, "master") ||
                              has_flag(field, n, "fail") || has_flag(field, n, "noaddr"))) {
            return;
        } else if (i >= 8) {
            node = node == NO_NODE ? node_at(cluster, &place) : node;
            if (node == NO_NODE) {
                return;
            }
            cluster->nodes[node]->serves = true;
            take_slots(cluster, field, n, node);
        }
        field += n + 1;
    }
}

/* False: it names no master, and the map is as it was. */
static bool take_map(struct cluster *cluster, const char *text, size_t bytes,
                     const char *asked_host)
{
    uint16_t before[CLUSTER_SLOTS];
    bool served[CLUSTER_NODES_MAX];
    memcpy(before, cluster->owners, sizeof before);
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        served[i] = cluster->nodes[i] != NULL && cluster->nodes[i]->serves;
        if (cluster->nodes[i] != NULL) {
            cluster->nodes[i]->serves = false;
        }
    }
    memset(cluster->owners, 0xff, sizeof cluster->owners);
    bool any = false;
    for (const char *end = text + bytes; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((newline != NULL ? newline : end) - text);
        take_line(cluster, text, n, asked_host);
        text += n + 1;
    }
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        any = any || (cluster->nodes[i] != NULL && cluster->nodes[i]->serves);
    }
    if (!any) {
        memcpy(cluster->owners, before, sizeof before);
        for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
            if (cluster->nodes[i] != NULL) {
                cluster->nodes[i]->serves = served[i];
            }
        }
    }
    return any;
}

/* Every slot has an owner, and every owner answers. */
static bool all_well(const struct cluster *cluster)
{
    for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
        if (cluster->owners[slot] == NO_NODE) {
            return false;
        }
    }
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
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
    if (take_map(cluster, reply->nodes[0].data, reply->nodes[0].bytes,
                 call->conn->url.places[0].host)) {
        for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
            if (cluster->nodes[i] != NULL && cluster->nodes[i]->conn != call->conn) {
                conn_hand_over(cluster->nodes[i]->conn);
            }
        }
    }
    if (all_well(cluster)) {
        cluster->refresh_ns = INT64_MAX;
    }
}

static int ask_map(struct cluster *cluster, struct conn *conn)
{
    conn_begin(conn, 2);
    conn_arg(conn, "CLUSTER", 7);
    conn_arg(conn, "NODES", 5);
    struct conn_call call = {.done = on_map, .owner = cluster, .repeatable = true};
    return conn_end(conn, &call);
}

static void refresh(struct cluster *cluster, int64_t now_ns)
{
    cluster->refresh_ns = now_ns + REFRESH_PAUSE_NS;
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        cluster->asked = (cluster->asked + 1) % CLUSTER_NODES_MAX;
        struct node *node = cluster->nodes[cluster->asked];
        if (node != NULL && node->conn->state == CONN_UP && node->conn->login_replies == 0) {
            ask_map(cluster, node->conn);
            return;
        }
    }
    /* Nobody is up. Those who were there at the beginning may be. */
    for (unsigned i = 0; i < cluster->url.place_count; i++) {
        node_at(cluster, &cluster->url.places[i]);
    }
}

/* ---- requests ---- */

struct conn *cluster_route(struct cluster *cluster, const char *request)
{
    int slot = slot_of(request);
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
    while (number < CLUSTER_NODES_MAX &&
           (cluster->nodes[number] == NULL || !cluster->nodes[number]->serves)) {
        number++;
    }
    return number;
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

static int send_scan(struct cluster *cluster, const char *request, const struct conn_call *call)
{
    struct conn_args args = conn_request_args(request);
    size_t argc = conn_request_argc(request);
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

int cluster_send(struct cluster *cluster, const char *request, const struct conn_call *call)
{
    struct conn_args args = conn_request_args(request);
    size_t bytes = 0;
    const char *name = conn_args_next(&args, &bytes);
    if (is(name, bytes, "SCAN")) {
        return send_scan(cluster, request, call);
    }
    struct conn *conn = cluster_route(cluster, request);
    return conn != NULL && conn_adopt(conn, request, call->bytes, call) ? 0 : -EAGAIN;
}

/* "MOVED 3999 127.0.0.1:6381": slot and place. */
static bool parse_moved(const char *text, size_t bytes, const char *asked_host, unsigned *out_slot,
                        struct url_place *out)
{
    const char *end = text + bytes;
    const char *slot = text + strlen("MOVED ");
    const char *place = memchr(slot, ' ', (size_t)(end - slot));
    char number[8];
    int64_t value = 0;
    if (place == NULL || (size_t)(place - slot) >= sizeof number) {
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)(place - slot), slot);
    if (args_int(number, 0, CLUSTER_SLOTS - 1, &value, NULL) != 0) {
        return false;
    }
    *out_slot = (unsigned)value;
    return parse_place(place + 1, (size_t)(end - place - 1), asked_host, out);
}

bool cluster_redirected(struct cluster *cluster, struct conn *from, const struct conn_call *call,
                        const char *request, const char *text, size_t bytes)
{
    bool moved = bytes > 6 && memcmp(text, "MOVED ", 6) == 0;
    if (moved || (bytes > 11 && memcmp(text, "CLUSTERDOWN", 11) == 0)) {
        refresh_soon(cluster);
    }
    unsigned slot = 0;
    struct url_place place;
    if (!moved || call->hops == CLUSTER_HOPS_MAX ||
        !parse_moved(text, bytes, from->url.places[0].host, &slot, &place)) {
        return false;
    }
    uint16_t number = node_at(cluster, &place);
    if (number == NO_NODE || cluster->nodes[number]->conn == from) {
        return false;
    }
    cluster->owners[slot] = number;
    cluster->nodes[number]->serves = true;
    struct conn_call again = *call;
    again.hops++;
    again.sent_before = false;
    return conn_adopt(cluster->nodes[number]->conn, request, call->bytes, &again);
}

/* ---- the loop's door ---- */

int cluster_fd(const struct cluster *cluster)
{
    return cluster->epoll;
}

int64_t cluster_deadline_ns(const struct cluster *cluster)
{
    int64_t deadline_ns = cluster->refresh_ns;
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        if (cluster->nodes[i] != NULL) {
            int64_t own_ns = conn_deadline_ns(cluster->nodes[i]->conn);
            deadline_ns = own_ns < deadline_ns ? own_ns : deadline_ns;
        }
    }
    return deadline_ns;
}

void cluster_flush(struct cluster *cluster)
{
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
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
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
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
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        pending += cluster->nodes[i] != NULL ? conn_pending(cluster->nodes[i]->conn) : 0;
    }
    return pending;
}

void cluster_add_counters(const struct cluster *cluster, struct conn_counters *to)
{
    struct conn_counters all = cluster->left;
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        if (cluster->nodes[i] != NULL) {
            struct conn_counters one;
            conn_counters(cluster->nodes[i]->conn, &one);
            all.round_trips += one.round_trips;
            all.commands += one.commands;
            all.bytes_sent += one.bytes_sent;
            all.bytes_received += one.bytes_received;
            all.losses += one.losses;
        }
    }
    to->round_trips += all.round_trips;
    to->commands += all.commands;
    to->bytes_sent += all.bytes_sent;
    to->bytes_received += all.bytes_received;
    to->losses += all.losses;
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
               !take_map(opening->cluster, reply->nodes[0].data, reply->nodes[0].bytes,
                         call->conn->url.places[0].host)) {
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
    struct url url = cluster->url;
    url.kind = URL_ONE;
    url.place_count = 1;
    url.places[0] = *place;
    struct conn *conn = conn_start(&cluster->options, &url, err);
    struct opening opening = {.cluster = cluster};
    if (conn == NULL || !conn_up(conn, deadline_ns, err)) {
        conn_close(conn);
        return false;
    }
    conn_begin(conn, 2);
    conn_arg(conn, "CLUSTER", 7);
    conn_arg(conn, "NODES", 5);
    struct conn_call call = {.done = on_first_map, .owner = &opening, .repeatable = true};
    if (conn_end(conn, &call) == 0) {
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
    for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
        if (cluster->nodes[i] != NULL) {
            cluster->nodes[i]->conn->node_of = NULL;
            conn_close(cluster->nodes[i]->conn);
            free(cluster->nodes[i]);
        }
    }
    close(cluster->epoll);
    free(cluster);
}
