/* Kernel side of the wire views: follows every Redis connection of the traced processes through
 * their system calls, reads requests and replies (resp.h), and joins them in order, which is the
 * order that Redis promises. Included once by each object that needs it.
 *
 * The time of a request is the end of the read or the start of the write that completed it; of a
 * reply the same the other way round. So the server's latency is "request handed over to reply
 * handed back", the client's is "sent to received".
 *
 * One connection may be read and written on two cores at once: requests touch `in`-fields, the tail
 * and new queue entries only, replies the rest. */
#pragma once

#include "calls.bpf.h"
#include "hist.bpf.h"
#include "target.bpf.h"
#include "wire.h"

const volatile struct wire_config config SEC(".rodata.config");

enum {
    CONN_SUBSCRIBED = 1,
    CONN_RESP3 = 2,
    CONN_DEAF = 4, /* MONITOR, PSYNC, TLS */
    CONN_NO_REPLIES = 8, /* CLIENT REPLY was used */
};

struct pending {
    __u16 id;
    __u16 seq; /* of the first of them, as in struct wire_event */
    __u32 n;
    __u64 ns;
};

#define RESP_HOOKS struct wire_context
struct wire_context;
struct resp_dir;
struct resp_window;
static __always_inline int resp_want(struct wire_context *context, struct resp_dir *dir,
                                     const int request);
static __always_inline void resp_element(struct wire_context *context, struct resp_dir *dir,
                                         struct resp_window *window, const int request, __u8 type);
static __always_inline void resp_inline(struct wire_context *context, struct resp_dir *dir,
                                        struct resp_window *window);
static __always_inline void resp_message(struct wire_context *context, struct resp_dir *dir,
                                         const int request);
#include "resp.h"

struct wire_conn {
    struct wire_conn_head head_words;
    struct wire_conn_key key;
    __u64 cookie; /* of the socket: its number may come back for another one */
    struct resp_dir dir[2]; /* replies, requests */
    __u64 ahead_bytes; /* parsed at the start of writes that took less: will come again */
    __u64 write_bytes; /* of the last writev or sendmsg */
    /* requests */
    __u64 in_ns;
    __u64 name[3];
    __u32 id;
    __u32 kind;
    __u64 want;
    __u32 run_id;
    __u32 run_n;
    __u32 run_seq;
    __u64 cached_name[3];
    __u32 cached_id;
    __u32 cached_kind;
    __u32 tail;
    /* replies */
    __u32 head;
    __u32 taken; /* of the entry at head */
    __u32 reply_id;
    __u32 reply_n;
    __u32 reply_errors;
    __u32 reply_nils;
    __u64 reply_ns;
    __u64 out_ns;
    __u64 reply_want;
    struct pending queue[WIRE_QUEUE_MAX];
};
_Static_assert(sizeof(struct wire_conn) <= WIRE_CONN_BYTES_MAX, "user space reads so much");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WIRE_CONNS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct wire_conn_key);
    __type(value, struct wire_conn);
} conns SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct wire_conn);
} empty_conn SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct resp_window);
} windows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WIRE_NAMES_MAX);
    __type(key, struct wire_name);
    __type(value, struct wire_entry);
} names SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2 * WIRE_NAMES_MAX);
    __type(key, __u32);
    __type(value, struct wire_row);
} rows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct wire_counts);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct wire_peer_key);
    __type(value, struct wire_peer_row);
} peers SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, WIRE_NAMES_MAX);
    __type(key, __u32);
    __type(value, struct wire_mask);
} masks SEC(".maps");

/* Sockets that traced processes had before the tracer came, by inode number. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WIRE_CONNS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u64);
    __type(value, __u32);
} old_sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, WIRE_RING_BYTES);
} ring SEC(".maps");

__u32 names_new = 0;

/* Pointers only: scalars on the stack would be tracked from step to step. */
struct wire_context {
    struct wire_conn *conn;
    struct resp_window *window;
    struct wire_counts *counts;
};

static __always_inline struct wire_counts *counts_here(void)
{
    __u32 zero = 0;
    return bpf_map_lookup_elem(&counts, &zero);
}

/* Only what can be a command's name: bytes from outside become labels. */
static __always_inline int name_is_clean(const struct wire_name *name)
{
    int clean = 1;
    for (int i = 0; i < RESP_NAME_BYTES; i++) {
        __u8 c = (__u8)(name->word[i / 8] >> (8 * (i % 8)));
        int ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                 c == '.' || c == '_' || c == '|' || c == '-' || c == ':' || c == 0;
        clean &= ok;
    }
    return clean;
}

/* id | kind << 16. Global, so that it is verified once. */
__noinline int name_id(__u64 a, __u64 b, __u64 c, __u32 binary)
{
    struct wire_name name = {{a, b, c}};
    struct wire_entry *entry = bpf_map_lookup_elem(&names, &name);
    if (entry) {
        return (int)(entry->id | entry->kind << 16);
    }
    if (!binary && !name_is_clean(&name)) {
        return WIRE_OTHER;
    }
    __u32 id = config.names_preset + __sync_fetch_and_add(&names_new, 1);
    if (id >= WIRE_NAMES_USABLE) {
        __sync_fetch_and_add(&names_new, -1);
        return WIRE_OTHER;
    }
    struct wire_entry fresh = {.id = id, .kind = WIRE_PLAIN};
    if (bpf_map_update_elem(&names, &name, &fresh, BPF_NOEXIST) != 0) {
        entry = bpf_map_lookup_elem(&names, &name); /* another core was faster: one id is wasted */
        return entry ? (int)(entry->id | entry->kind << 16) : WIRE_OTHER;
    }
    if (config.elements) {
        /* Not classified yet: everything is wanted until user space has looked at it. */
        struct wire_mask all = {.request = -1ULL, .reply = -1ULL};
        if (config.elements == WIRE_ELEMENTS_KEYS) {
            struct wire_mask keys = {.request = 0xe};
            bpf_map_update_elem(&masks, &id, &keys, BPF_ANY);
        } else if (a == 0x3a4148534c415645ULL || a == 0x4c415645ULL || a == 0x4c4c414346ULL) {
            bpf_map_update_elem(&masks, &id, &all, BPF_ANY);
        }
    }
    return (int)id;
}

__noinline int count_requests(__u32 row_index, __u32 n)
{
    struct wire_row *row = bpf_map_lookup_elem(&rows, &row_index);
    if (row) {
        row->requests += n;
    }
    return 0;
}

__noinline int count_replies(__u32 row_index, __u64 ns, __u32 n, __u32 errors, __u32 nils)
{
    struct wire_row *row = bpf_map_lookup_elem(&rows, &row_index);
    if (!row) {
        return 0;
    }
    row->replies += n;
    row->ns += ns * n;
    if (ns > row->ns_max) {
        row->ns_max = ns;
    }
    row->errors += errors;
    row->nils += nils;
    __u32 bucket = hist_bucket(ns);
    if (bucket < LOGHIST_BUCKETS) {
        row->buckets[bucket] += n;
    }
    return 0;
}

/* The requests of one command that came together: count them and let them wait for replies. */
__noinline int flush_run(struct wire_conn *conn)
{
    if (!conn || conn->run_n == 0) {
        return 0;
    }
    __u32 n = conn->run_n;
    __u32 id = conn->run_id;
    conn->run_n = 0;
    count_requests((conn->head_words.client ? WIRE_NAMES_MAX : 0) + id, n);
    if (conn->head_words.flags & (CONN_NO_REPLIES | CONN_DEAF)) {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->unpaired += n;
        }
        return 0;
    }
    __u32 tail = conn->tail;
    __u32 waiting = tail - conn->head;
    struct pending *last = &conn->queue[(tail - 1) & (WIRE_QUEUE_MAX - 1)];
    if (waiting > 0 && last->ns == conn->in_ns && last->id == id &&
        (__u16)(last->seq + last->n) == (__u16)conn->run_seq) {
        last->n += n; /* the same call still: no reply can have been read yet */
        return 0;
    }
    if (waiting >= WIRE_QUEUE_MAX) {
        last->id = WIRE_MIXED;
        last->n += n;
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->mixed += n;
        }
        return 0;
    }
    struct pending *next = &conn->queue[tail & (WIRE_QUEUE_MAX - 1)];
    next->id = id;
    next->seq = conn->run_seq;
    next->n = n;
    next->ns = conn->in_ns;
    barrier();
    conn->tail = tail + 1;
    return 0;
}

__noinline int flush_replies(struct wire_conn *conn)
{
    if (!conn || conn->reply_n == 0) {
        return 0;
    }
    conn->head_words.replies += conn->reply_n;
    conn->head_words.ns += conn->reply_ns * conn->reply_n;
    count_replies((conn->head_words.client ? WIRE_NAMES_MAX : 0) + conn->reply_id, conn->reply_ns,
                  conn->reply_n, conn->reply_errors, conn->reply_nils);
    conn->reply_n = 0;
    conn->reply_errors = 0;
    conn->reply_nils = 0;
    return 0;
}

static __always_inline void resolve(struct wire_conn *conn, __u32 binary)
{
    if (conn->name[0] == conn->cached_name[0] && conn->name[1] == conn->cached_name[1] &&
        conn->name[2] == conn->cached_name[2]) {
        conn->id = conn->cached_id;
        conn->kind = conn->cached_kind;
        return;
    }
    int found = name_id(conn->name[0], conn->name[1], conn->name[2], binary);
    conn->id = found & 0xffff;
    conn->kind = (__u32)found >> 16;
    conn->cached_id = conn->id;
    conn->cached_kind = conn->kind;
    conn->cached_name[0] = conn->name[0];
    conn->cached_name[1] = conn->name[1];
    conn->cached_name[2] = conn->name[2];
}

__noinline int send_element(struct wire_conn *conn, struct resp_window *window, __u32 index,
                            __u32 request_type)
{
    if (!conn || !window) {
        return 0;
    }
    struct wire_event *event = bpf_ringbuf_reserve(&ring, sizeof *event, 0);
    if (!event) {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->events_lost++;
        }
        return 0;
    }
    __u32 request = request_type >> 8;
    event->ns = request ? conn->in_ns : conn->out_ns;
    event->start_ns = conn->queue[conn->head & (WIRE_QUEUE_MAX - 1)].ns;
    event->length = window->number;
    event->tgid = conn->key.tgid;
    event->fd = conn->key.fd;
    event->id = request ? conn->id : conn->queue[conn->head & (WIRE_QUEUE_MAX - 1)].id;
    event->seq = request ? conn->head_words.requests : 0;
    event->index = index;
    event->tid = (__u32)bpf_get_current_pid_tgid();
    event->event = request ? WIRE_ELEMENT_REQUEST : WIRE_ELEMENT_REPLY;
    event->type = (__u8)request_type;
    event->kept = (__u8)window->kept;
    event->client = (__u8)conn->head_words.client;
    const __u8 *from =
        window->bytes + (window->offset & (RESP_WINDOW_BYTES - 1)) + (window->header & 15);
    for (int i = 0; i < RESP_KEEP_BYTES / 8; i++) {
        *(__u64 *)(event->bytes + 8 * i) = RESP_LOAD8(from, 8 * i);
    }
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}

static __always_inline int resp_want(struct wire_context *context, struct resp_dir *dir,
                                     const int request)
{
    struct wire_conn *conn = context->conn;
    __u32 index = dir->element;
    if (request) {
        if (index == 0 || (index == 1 && conn->kind != WIRE_PLAIN)) {
            return 1;
        }
        return config.elements && (conn->want >> (index < 63 ? index : 63)) & 1;
    }
    if (!config.elements) {
        return 0;
    }
    if (index == 0) {
        conn->reply_want = 0;
        if (conn->head != conn->tail && dir->type != '>') {
            __u32 id = conn->queue[conn->head & (WIRE_QUEUE_MAX - 1)].id;
            struct wire_mask *mask = bpf_map_lookup_elem(&masks, &id);
            conn->reply_want = mask ? mask->reply : 0;
        }
    }
    return (conn->reply_want >> (index < 63 ? index : 63)) & 1;
}

static __always_inline void want_of_command(struct wire_conn *conn)
{
    if (config.elements) {
        __u32 id = conn->id;
        struct wire_mask *mask = bpf_map_lookup_elem(&masks, &id);
        conn->want = mask ? mask->request : 0;
    }
}

static __always_inline void resp_element(struct wire_context *context, struct resp_dir *dir,
                                         struct resp_window *window, const int request, __u8 type)
{
    struct wire_conn *conn = context->conn;
    __u32 index = dir->element;
    if (request && index < 2) {
        const __u8 *from =
            window->bytes + (window->offset & (RESP_WINDOW_BYTES - 1)) + (window->header & 15);
        __u32 n = (__u32)window->kept;
        __u64 a = resp_first_bytes(RESP_LOAD8(from, 0), n);
        __u64 b = n > 8 ? resp_first_bytes(RESP_LOAD8(from, 8), n - 8) : 0;
        if (index == 0) {
            conn->name[0] = resp_upper(a);
            conn->name[1] = resp_upper(b);
            conn->name[2] = n > 16 ? resp_upper(resp_first_bytes(RESP_LOAD8(from, 16), n - 16)) : 0;
            resolve(conn, 0);
            conn->want = 0;
            if (conn->kind == WIRE_PLAIN) {
                want_of_command(conn);
            }
        } else {
            switch (conn->kind) {
            case WIRE_SCRIPT_SHA:
                conn->name[0] = 0x3a4148534c415645ULL; /* "EVALSHA:" */
                conn->name[1] = a;
                conn->name[2] = b;
                resolve(conn, 0);
                want_of_command(conn);
                break;
            case WIRE_SCRIPT_BODY: {
                __u64 hash = 0xcbf29ce484222325ULL;
                for (int i = 0; i < RESP_KEEP_BYTES / 8; i++) {
                    __u64 word = (__u32)(8 * i) < n
                                     ? resp_first_bytes(RESP_LOAD8(from, 8 * i), n - 8 * i)
                                     : 0;
                    hash = (hash ^ word) * 0x100000001b3ULL;
                    hash ^= hash >> 29;
                }
                conn->name[0] = 0x4c415645ULL; /* "EVAL" */
                conn->name[1] = hash;
                conn->name[2] = window->number;
                resolve(conn, 1);
                want_of_command(conn);
                break;
            }
            case WIRE_FUNCTION:
                conn->name[0] = 0x4c4c414346ULL; /* "FCALL" */
                conn->name[1] = a;
                conn->name[2] = b;
                resolve(conn, 0);
                want_of_command(conn);
                break;
            case WIRE_GROUP:
                conn->name[1] = resp_upper(a);
                conn->name[2] = resp_upper(b);
                resolve(conn, 0);
                break;
            case WIRE_HELLO:
                if ((a & 0xff) == '3') {
                    conn->head_words.flags |= CONN_RESP3;
                }
                break;
            }
        }
    }
    if (config.elements) {
        __u64 want = request ? conn->want : conn->reply_want;
        if ((want >> (index < 63 ? index : 63)) & 1) {
            send_element(conn, window, index, type | (request ? 256 : 0));
        }
    }
}

static __always_inline void resp_inline(struct wire_context *context, struct resp_dir *dir,
                                        struct resp_window *window)
{
    struct wire_conn *conn = context->conn;
    const __u8 *from = window->bytes + (window->offset & (RESP_WINDOW_BYTES - 1));
    context->counts->inlines++;
    __u32 open = 1;
    for (int i = 0; i < 3; i++) {
        __u64 word = RESP_LOAD8(from, 8 * i);
        __u64 ends = resp_zero_bytes(word ^ (' ' * RESP_ONES)) |
                     resp_zero_bytes(word ^ ('\r' * RESP_ONES)) |
                     resp_zero_bytes(word ^ ('\n' * RESP_ONES));
        __u32 n = !open ? 0 : (ends ? resp_lowest(ends) : 8);
        conn->name[i] = n == 0 ? 0 : resp_upper(resp_first_bytes(word, n));
        open = open && !ends;
    }
    resolve(conn, 0);
    conn->want = 0;
}

static __always_inline void request_done(struct wire_context *context)
{
    struct wire_conn *conn = context->conn;
    context->counts->requests++;
    conn->head_words.requests++;
    if (conn->kind == WIRE_SUBSCRIBE) {
        conn->head_words.flags |= CONN_SUBSCRIBED;
    }
    /* Subscribed: with RESP2 everything that comes back is a message; with RESP3 only the answer to
     * the subscription itself is. */
    if ((conn->head_words.flags & CONN_SUBSCRIBED) &&
        (conn->kind == WIRE_SUBSCRIBE || !(conn->head_words.flags & CONN_RESP3))) {
        context->counts->unpaired++;
        count_requests((conn->head_words.client ? WIRE_NAMES_MAX : 0) + conn->id, 1);
        return;
    }
    if (conn->kind == WIRE_LAST) {
        conn->head_words.flags |= CONN_DEAF;
    }
    if (conn->kind == WIRE_REPLY_MODE) {
        conn->head_words.flags |= CONN_NO_REPLIES;
    }
    if (conn->run_n > 0 && conn->run_id != conn->id) {
        flush_run(conn);
    }
    if (conn->run_n == 0) {
        conn->run_seq = conn->head_words.requests - 1;
    }
    conn->run_id = conn->id;
    conn->run_n++;
}

static __always_inline void reply_done(struct wire_context *context, struct resp_dir *dir)
{
    struct wire_conn *conn = context->conn;
    if (dir->type == '>') {
        context->counts->pushes++;
        conn->head_words.flags |= CONN_RESP3;
        return;
    }
    if (conn->head_words.flags & CONN_SUBSCRIBED && !(conn->head_words.flags & CONN_RESP3)) {
        context->counts->pushes++;
        return;
    }
    context->counts->replies++;
    __u32 head = conn->head;
    if (conn->head_words.flags & CONN_NO_REPLIES) {
        return;
    }
    if (head == conn->tail) {
        context->counts->unmatched++;
        return;
    }
    struct pending *entry = &conn->queue[head & (WIRE_QUEUE_MAX - 1)];
    __u64 ns = conn->out_ns - entry->ns;
    if ((__s64)ns < 0) {
        ns = 0;
    }
    if (conn->reply_n > 0 && (conn->reply_id != entry->id || conn->reply_ns != ns)) {
        flush_replies(conn);
    }
    conn->reply_id = entry->id;
    conn->reply_ns = ns;
    conn->reply_n++;
    if (dir->type == '-' || dir->type == '!') {
        conn->reply_errors++;
    }
    if (dir->type == '_' || dir->first_number < 0) {
        conn->reply_nils++;
    }
    if (config.events) {
        struct wire_event *event = bpf_ringbuf_reserve(&ring, sizeof *event, 0);
        if (event) {
            event->ns = conn->out_ns;
            event->start_ns = entry->ns;
            event->length = 0;
            event->tgid = conn->key.tgid;
            event->fd = conn->key.fd;
            event->id = entry->id;
            event->seq = entry->seq + conn->taken;
            event->index = 0;
            event->tid = (__u32)bpf_get_current_pid_tgid();
            event->event = WIRE_COMMAND;
            event->type = dir->first_number < 0 ? '_' : dir->type;
            event->kept = 0;
            event->client = (__u8)conn->head_words.client;
            bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
        } else {
            context->counts->events_lost++;
        }
    }
    if (++conn->taken >= entry->n) {
        conn->taken = 0;
        barrier();
        conn->head = head + 1;
    }
}

static __always_inline void resp_message(struct wire_context *context, struct resp_dir *dir,
                                         const int request)
{
    if (request) {
        request_done(context);
    } else {
        reply_done(context, dir);
    }
}

static __always_inline long step(struct wire_context *context, const int request)
{
    struct wire_conn *conn = context->conn;
    struct resp_window *window = context->window;
    struct resp_dir *dir = &conn->dir[request];
    if (request && (conn->head_words.flags & CONN_DEAF)) {
        return 1;
    }
    int what = resp_step(context, dir, window, request);
    if (what != RESP_NEED_READ) {
        return what != RESP_MORE || window->pos >= window->total;
    }
    __u64 n = window->total - window->pos;
    if (n > RESP_WINDOW_BYTES) {
        n = RESP_WINDOW_BYTES;
    }
    window->start = window->pos;
    window->len = n;
    if (bpf_probe_read_user(window->bytes, n,
                            (void *)(window->base + window->pos - window->carried))) {
        context->counts->faults++;
        dir->bad = 1;
        return 1;
    }
    return 0;
}

static long step_reply(__u32 i, void *context)
{
    return step(context, 0);
}

static long step_request(__u32 i, void *context)
{
    return step(context, 1);
}

static __always_inline int feed(struct wire_conn *conn, __u64 base, __u64 len, __u64 now,
                                const int request)
{
    __u32 zero = 0;
    struct resp_window *window = bpf_map_lookup_elem(&windows, &zero);
    struct wire_counts *counts = counts_here();
    if (!window || !counts || len == 0 || (conn->head_words.flags & CONN_DEAF)) {
        return 0;
    }
    struct resp_dir *dir = &conn->dir[request];
    if (request) {
        counts->request_bytes += len;
        conn->in_ns = now;
    } else {
        counts->reply_bytes += len;
        conn->out_ns = now;
    }
    if (dir->bad) {
        __u8 first = 0;
        bpf_probe_read_user(&first, 1, (void *)base);
        if (!request || first != '*') {
            counts->unparsed_bytes += len;
            return 0;
        }
        /* A new beginning, of both directions: what was asked before is forgotten. */
        __builtin_memset(&conn->dir, 0, sizeof conn->dir);
        conn->head = conn->tail;
        conn->taken = 0;
    }
    __u64 carried = dir->carry_len;
    if (carried >= RESP_CARRY_BYTES) {
        carried = RESP_CARRY_BYTES - 1;
    }
    dir->carry_len = 0;
    if (carried) {
        for (int i = 0; i < RESP_CARRY_BYTES / 8; i++) {
            *(__u64 *)(window->bytes + 8 * i) = RESP_LOAD8(dir->carry, 8 * i);
        }
    }
    __u64 n = len;
    if (n > RESP_WINDOW_BYTES - RESP_CARRY_BYTES) {
        n = RESP_WINDOW_BYTES - RESP_CARRY_BYTES;
    }
    if (bpf_probe_read_user(window->bytes + carried, n, (void *)base)) {
        counts->faults++;
        dir->bad = 1;
        return 0;
    }
    /* What lies behind must not look like an end of line. */
    __u8 *behind = window->bytes + ((carried + n) & (RESP_WINDOW_BYTES - 1));
    *(__u64 *)behind = 0;
    *(__u64 *)(behind + 8) = 0;
    *(__u64 *)(behind + 16) = 0;
    window->base = base;
    window->pos = 0;
    window->start = 0;
    window->len = carried + n;
    window->total = carried + len;
    window->carried = carried;
    struct wire_context context = {conn, window, counts};
    bpf_loop(1 << 18, request ? (void *)step_request : (void *)step_reply, &context, 0);
    if (dir->bad || window->pos < window->total) {
        if (!(conn->head_words.flags & CONN_DEAF)) {
            dir->bad = 1;
            counts->desyncs++;
            counts->unparsed_bytes += window->total - window->pos;
        }
    } else if (dir->todo > 0 || dir->carry_len > 0) {
        counts->cut++;
    }
    return 0;
}

/* Global functions: verified on their own, once. */
__noinline int feed_requests(struct wire_conn *conn, __u64 base, __u64 len, __u64 now)
{
    if (!conn) {
        return 0;
    }
    feed(conn, base, len, now, 1);
    flush_run(conn);
    return 0;
}

__noinline int feed_replies(struct wire_conn *conn, __u64 base, __u64 len, __u64 now)
{
    if (!conn) {
        return 0;
    }
    feed(conn, base, len, now, 0);
    flush_replies(conn);
    return 0;
}

#define S_IFMT 0170000
#define S_IFSOCK 0140000

struct found_socket {
    struct wire_peer peer; /* its other end */
    __u64 sock;
    __u64 inode;
    __u64 cookie; /* 0 where it is not asked for */
};

/* Is fd a socket, and which? */
static __always_inline int socket_of(__u32 fd, struct found_socket *found)
{
    struct wire_peer *out = &found->peer;
    struct task_struct *task = bpf_get_current_task_btf();
    struct file **files = BPF_CORE_READ(task, files, fdt, fd);
    struct file *file = NULL;
    if (fd >= BPF_CORE_READ(task, files, fdt, max_fds) ||
        bpf_probe_read_kernel(&file, sizeof file, files + fd) || !file) {
        return 0;
    }
    if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK) {
        return 0;
    }
    struct socket *socket = BPF_CORE_READ(file, private_data);
    struct sock *sk = BPF_CORE_READ(socket, sk);
    found->sock = (__u64)sk;
    found->inode = BPF_CORE_READ(file, f_inode, i_ino);
    out->family = BPF_CORE_READ(sk, __sk_common.skc_family);
    if (out->family == 2 || out->family == 10) {
        out->port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
        out->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
    }
    if (out->family == 2) {
        out->address[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
    } else if (out->family == 10) {
        bpf_probe_read_kernel(out->address, 16, &sk->__sk_common.skc_v6_daddr);
    }
    return 1;
}

static __noinline struct wire_conn *conn_new(struct wire_conn_key *key, __u32 role, __u32 flags,
                                             struct found_socket *found)
{
    __u32 zero = 0;
    struct wire_conn *empty = bpf_map_lookup_elem(&empty_conn, &zero);
    struct wire_counts *counts = counts_here();
    if (!empty || !counts) {
        return 0;
    }
    if (bpf_map_update_elem(&conns, key, empty, BPF_NOEXIST)) {
        counts->conns_full++;
        return 0;
    }
    struct wire_conn *conn = bpf_map_lookup_elem(&conns, key);
    if (conn) {
        conn->key = *key;
        conn->cookie = found->cookie;
        conn->head_words.peer = found->peer;
        conn->head_words.client = role == TARGET_CLIENT;
        conn->head_words.flags = flags;
        if (flags & CONN_DEAF) {
            counts->tls++;
        }
    }
    return conn;
}

static __noinline int conn_close(__u32 tgid, __u32 fd)
{
    struct wire_conn_key key = {tgid, fd};
    struct wire_conn *conn = bpf_map_lookup_elem(&conns, &key);
    if (!conn) {
        return 0;
    }
    struct wire_peer_key peer = {conn->head_words.client, conn->head_words.peer.family, {}};
    __builtin_memcpy(peer.address, conn->head_words.peer.address, sizeof peer.address);
    struct wire_peer_row *row = bpf_map_lookup_elem(&peers, &peer);
    if (!row) {
        struct wire_peer_row fresh = {};
        bpf_map_update_elem(&peers, &peer, &fresh, BPF_NOEXIST);
        row = bpf_map_lookup_elem(&peers, &peer);
    }
    if (row) {
        __sync_fetch_and_add(&row->conns, 1);
        __sync_fetch_and_add(&row->requests, conn->head_words.requests);
        __sync_fetch_and_add(&row->replies, conn->head_words.replies);
        __sync_fetch_and_add(&row->ns, conn->head_words.ns);
        if (conn->head_words.depth_max > row->depth_max) {
            row->depth_max = conn->head_words.depth_max;
        }
    }
    bpf_map_delete_elem(&conns, &key);
    return 0;
}

static __always_inline int sampled(__u32 tgid, __u32 fd)
{
    return config.sample <= 1 || (tgid * 2654435761u + fd) % config.sample == 0;
}

/* Bytes of a connection that is not known, or of another one than the last of that number. */
static __noinline struct wire_conn *conn_first(struct wire_conn_key *key, __u32 role, __u64 base,
                                               int is_request, struct sock *sk)
{
    struct found_socket found = {};
    __u8 first[2] = {};
    bpf_probe_read_user(first, 2, (void *)base);
    int is_tls = (first[0] == 0x16 || first[0] == 0x17) && first[1] == 3;
    int is_array = first[0] == '*' && (__u8)(first[1] - '1') < 9;
    int is_word = first[0] == '*' || first[0] == '\r' || first[0] == '\n' ||
                  (__u8)((first[0] | 0x20) - 'a') < 26;
    if (!sk && !is_tls && !is_array) {
        return 0;
    }
    if (!socket_of(key->fd, &found)) {
        return 0;
    }
    if (sk) {
        if (found.sock != (__u64)sk) {
            return 0; /* the kernel's own, used by a call of another thing */
        }
        conn_close(key->tgid, key->fd);
        found.cookie = bpf_get_socket_cookie(sk);
        /* Of one that was there before the tracer these may be the middle of anything. */
        int is_new = !bpf_map_lookup_elem(&old_sockets, &found.inode);
        if (!is_request || !(is_tls || is_array || (is_new && is_word))) {
            return 0;
        }
    }
    /* TLS: counted once, then left alone. */
    return conn_new(key, role, is_tls ? CONN_DEAF : 0, &found);
}

/* The connection; a new one when these bytes begin a request. */
static __always_inline struct wire_conn *conn_of(__u32 tgid, __u32 fd, __u32 role, __u64 base,
                                                 int is_request, struct sock *sk)
{
    if (!sampled(tgid, fd)) {
        return 0;
    }
    struct wire_conn_key key = {tgid, fd};
    struct wire_conn *conn = bpf_map_lookup_elem(&conns, &key);
    int is_known = conn && (!sk || conn->cookie == bpf_get_socket_cookie(sk));
    if (is_known || (!conn && !is_request)) {
        return conn;
    }
    return conn_first(&key, role, base, is_request, sk);
}

static __always_inline void depth(struct wire_conn *conn, __u64 before)
{
    struct wire_counts *counts = counts_here();
    __u64 n = conn->head_words.requests - before;
    if (n > conn->head_words.depth_max) {
        conn->head_words.depth_max = n;
    }
    if (counts) {
        counts->request_calls++;
        counts->batches += n > 1;
    }
}

struct iovec_user {
    __u64 base;
    __u64 len;
};

struct iov_context {
    struct wire_conn *conn;
    struct iov_scalars *scalars;
};

struct iov_scalars {
    __u64 vector;
    __u64 left; /* bytes that the call moved */
    __u64 skip; /* bytes that were parsed before */
    __u64 sum;
    __u64 now;
    __u32 n;
    __u32 request;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct iov_scalars);
} iovs SEC(".maps");

static long iov_step(__u32 i, void *argument)
{
    struct iov_context *context = argument;
    struct iov_scalars *s = context->scalars;
    struct iovec_user iov;
    if (i >= s->n || s->left == 0 ||
        bpf_probe_read_user(&iov, sizeof iov, (void *)(s->vector + i * sizeof iov))) {
        return 1;
    }
    __u64 n = iov.len < s->left ? iov.len : s->left;
    s->left -= n;
    s->sum += n;
    __u64 skip = s->skip < n ? s->skip : n;
    s->skip -= skip;
    if (s->request) {
        feed_requests(context->conn, iov.base + skip, n - skip, s->now);
    } else {
        feed_replies(context->conn, iov.base + skip, n - skip, s->now);
    }
    return 0;
}

/* All buffers of a call: `vector` of `n` when n > 0, else one of `left` bytes. */
static __noinline int feed_all(struct wire_conn *conn, struct iov_scalars *s)
{
    if (!conn || !s) {
        return 0;
    }
    __u64 before = conn->head_words.requests;
    struct iov_context context = {conn, s};
    bpf_loop(WIRE_IOV_MAX, iov_step, &context, 0);
    if (s->request) {
        depth(conn, before);
    }
    return 0;
}

static __always_inline int message_iov(__u64 message, __u64 *out_vector, __u64 *out_n)
{
    __u64 words[4]; /* name, name length, vector, count */
    if (bpf_probe_read_user(words, sizeof words, (void *)message)) {
        return 0;
    }
    *out_vector = words[2];
    *out_n = words[3];
    return 1;
}

static __always_inline __u64 iov_first(__u64 vector, __u64 n)
{
    struct iovec_user iov = {};
    if (n > 0) {
        bpf_probe_read_user(&iov, sizeof iov, (void *)vector);
    }
    return iov.base;
}

static __always_inline int wire_vector(__u32 tgid, __u32 role, __u32 fd, __u64 vector, __u64 n,
                                       __u64 left, int is_write, __u64 now, struct sock *sk)
{
    int is_request = (role == TARGET_CLIENT) == is_write;
    struct wire_conn *conn = conn_of(tgid, fd, role, iov_first(vector, n), is_request, sk);
    __u32 zero = 0;
    struct iov_scalars *s = bpf_map_lookup_elem(&iovs, &zero);
    if (!conn || !s) {
        return 0;
    }
    s->vector = vector;
    s->n = n < WIRE_IOV_MAX ? n : WIRE_IOV_MAX;
    s->left = left;
    s->skip = is_write ? conn->ahead_bytes : 0;
    s->sum = 0;
    s->now = now ? now : bpf_ktime_get_ns();
    s->request = is_request;
    feed_all(conn, s);
    if (is_write) {
        conn->ahead_bytes = s->skip;
        conn->write_bytes = s->sum;
    }
    return 0;
}

static __always_inline int wire_plain(__u32 tgid, __u32 role, __u32 fd, __u64 base, __u64 len,
                                      int is_write, __u64 now, struct sock *sk)
{
    int is_request = (role == TARGET_CLIENT) == is_write;
    struct wire_conn *conn = conn_of(tgid, fd, role, base, is_request, sk);
    if (!conn) {
        return 0;
    }
    if (!now) {
        now = bpf_ktime_get_ns();
    }
    if (is_write && conn->ahead_bytes > 0) {
        __u64 skip = conn->ahead_bytes < len ? conn->ahead_bytes : len;
        conn->ahead_bytes -= skip;
        base += skip;
        len -= skip;
    }
    if (is_request) {
        __u64 before = conn->head_words.requests;
        feed_requests(conn, base, len, now);
        depth(conn, before);
    } else {
        feed_replies(conn, base, len, now);
    }
    return 0;
}

/* At the start of a write its bytes are read: the reply counts from here. */
static __always_inline int wire_enter(struct pt_regs *regs, __u32 nr, __u32 tgid, __u32 role)
{
    if (nr == config.nr_write || nr == config.nr_sendto) {
        return wire_plain(tgid, role, REGS_ARG1(regs), REGS_ARG2(regs), REGS_ARG3(regs), 1, 0, 0);
    }
    if (nr == config.nr_writev) {
        return wire_vector(tgid, role, REGS_ARG1(regs), REGS_ARG2(regs), REGS_ARG3(regs), -1ULL, 1,
                           0, 0);
    }
    if (nr == config.nr_sendmsg) {
        __u64 vector, n;
        if (message_iov(REGS_ARG2(regs), &vector, &n)) {
            return wire_vector(tgid, role, REGS_ARG1(regs), vector, n, -1ULL, 1, 0, 0);
        }
        return 0;
    }
    if (nr == config.nr_close) {
        return conn_close(tgid, REGS_ARG1(regs));
    }
    return 0;
}

/* A write that took less than it was given will be given the rest again. */
static __always_inline int wire_short_write(__u32 tgid, __u32 fd, long result, __u64 len,
                                            int is_vector)
{
    if (!is_vector && result == (long)len) {
        return 0;
    }
    struct wire_conn_key key = {tgid, fd};
    struct wire_conn *conn = bpf_map_lookup_elem(&conns, &key);
    if (conn) {
        __u64 given = is_vector ? conn->write_bytes : len;
        __u64 taken = result > 0 ? result : 0;
        if (taken < given) {
            conn->ahead_bytes += given - taken;
        }
        conn->write_bytes = 0;
    }
    return 0;
}

#if defined(__TARGET_ARCH_x86)
#define REGS_NR(regs) ((regs)->orig_ax)
#else
#define REGS_NR(regs) ((regs)->regs[8])
#endif

/* At the end of a read its bytes are there. The registers still hold the arguments. */
static __always_inline int wire_exit(struct pt_regs *regs, long result, __u32 tgid, __u32 role,
                                     __u64 now)
{
    __u32 nr = REGS_NR(regs);
    __u32 fd = REGS_ARG1(regs);
    if (nr == config.nr_read || nr == config.nr_recvfrom) {
        return result > 0 ? wire_plain(tgid, role, fd, REGS_ARG2(regs), result, 0, now, 0) : 0;
    }
    if (nr == config.nr_write || nr == config.nr_sendto) {
        return wire_short_write(tgid, fd, result, REGS_ARG3(regs), 0);
    }
    if (nr == config.nr_writev || nr == config.nr_sendmsg) {
        return wire_short_write(tgid, fd, result, 0, 1);
    }
    if (nr == config.nr_readv) {
        return result > 0 ? wire_vector(tgid, role, fd, REGS_ARG2(regs), REGS_ARG3(regs), result, 0,
                                        now, 0)
                          : 0;
    }
    if (nr == config.nr_recvmsg) {
        __u64 vector, n;
        if (result > 0 && message_iov(REGS_ARG2(regs), &vector, &n)) {
            return wire_vector(tgid, role, fd, vector, n, result, 0, now, 0);
        }
        return 0;
    }
    if (nr == config.nr_accept4 || nr == config.nr_accept) {
        if (result >= 0 && role == TARGET_SERVER && sampled(tgid, (__u32)result)) {
            conn_close(tgid, (__u32)result);
            struct wire_conn_key key = {tgid, (__u32)result};
            struct found_socket found = {};
            if (socket_of(key.fd, &found)) {
                conn_new(&key, role, 0, &found);
            }
        }
        return 0;
    }
    if (nr == config.nr_connect) {
        return conn_close(tgid, fd);
    }
    if (nr == config.nr_io_uring_enter) {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->io_uring++;
        }
    }
    return 0;
}

/* Most system calls carry nothing, of whichever process: they are told first. */
static __always_inline int enter_matters(__u32 nr)
{
    return nr == config.nr_write || nr == config.nr_sendto || nr == config.nr_writev ||
           nr == config.nr_sendmsg || nr == config.nr_close;
}

static __always_inline int exit_matters(struct pt_regs *regs, long result)
{
    __u32 nr = REGS_NR(regs);
    if (nr == config.nr_read || nr == config.nr_recvfrom || nr == config.nr_readv ||
        nr == config.nr_recvmsg) {
        return result > 0;
    }
    if (nr == config.nr_write || nr == config.nr_sendto) {
        return result != (long)REGS_ARG3(regs);
    }
    if (nr == config.nr_accept4 || nr == config.nr_accept) {
        return result >= 0;
    }
    return nr == config.nr_writev || nr == config.nr_sendmsg || nr == config.nr_connect ||
           nr == config.nr_io_uring_enter;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long nr)
{
    int matters = enter_matters((__u32)nr);
    if (!matters && !calls_config.on) {
        return 0;
    }
    __u32 tgid;
    __u32 role = target_current(&tgid);
    if (!role) {
        return 0;
    }
    if (matters) {
        wire_enter(regs, (__u32)nr, tgid, role);
    }
    if (calls_config.on) {
        call_begin(call_here(), nr); /* last: what is done here is no time of the call */
    }
    return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{
    int matters = exit_matters(regs, result);
    if (!matters && !calls_config.on) {
        return 0;
    }
    __u32 tgid;
    __u32 role = target_current(&tgid);
    if (!role) {
        return 0;
    }
    __u64 now = calls_config.on ? call_end(call_here(), tgid, result) : 0;
    return matters ? wire_exit(regs, result, tgid, role, now) : 0;
}

/* ---- the same at the sockets ----
 *
 * Hooks that no other system call passes, of whichever process. They come when the kernel has moved
 * the bytes: the end of a write is a reply's time, which a server may stand for; a client's request
 * would be late, and its reply perhaps there before. So these are for servers only. That a
 * socket was closed is seen at the first bytes of the next one of its number. */

#define PF_USER_WORKER 0x4000 /* Source: linux/include/linux/sched.h */
#define WIRE_MSG_PEEK 2

static __always_inline int wire_socket(struct sock *sk, int result, int is_write)
{
    __u32 tgid;
    __u32 role;
    if (result <= 0 || !(role = target_current(&tgid))) {
        return 0;
    }
    struct task_struct *task = bpf_get_current_task_btf();
    struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
    __u32 nr = REGS_NR(regs);
    __u32 fd = REGS_ARG1(regs);
    if (nr == config.nr_io_uring_enter || task->flags & PF_USER_WORKER) {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->io_uring++;
        }
        return 0;
    }
    if (is_write ? nr == config.nr_write || nr == config.nr_sendto
                 : nr == config.nr_read || nr == config.nr_recvfrom) {
        return wire_plain(tgid, role, fd, REGS_ARG2(regs), result, is_write, 0, sk);
    }
    __u64 vector = REGS_ARG2(regs);
    __u64 n = REGS_ARG3(regs);
    if (nr != (is_write ? config.nr_writev : config.nr_readv) &&
        (nr != (is_write ? config.nr_sendmsg : config.nr_recvmsg) ||
         !message_iov(vector, &vector, &n))) {
        return 0;
    }
    return wire_vector(tgid, role, fd, vector, n, result, is_write, 0, sk);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sent, struct sock *sk, int result, int flags)
{
    return wire_socket(sk, result, 1);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_received, struct sock *sk, int result, int flags)
{
    return flags & WIRE_MSG_PEEK ? 0 : wire_socket(sk, result, 0);
}

SEC("iter/task_file")
int old_sockets_of(struct bpf_iter__task_file *at)
{
    struct task_struct *task = at->task;
    struct file *file = at->file;
    if (!task || !file || !target_role(task->tgid) ||
        (file->f_inode->i_mode & S_IFMT) != S_IFSOCK) {
        return 0;
    }
    __u64 inode = file->f_inode->i_ino;
    __u32 one = 1;
    bpf_map_update_elem(&old_sockets, &inode, &one, BPF_ANY);
    return 0;
}
