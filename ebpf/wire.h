/* What the wire views (commands, leases, timeline) share between kernel and user space: names and
 * kinds of commands, counts, connections. wire.bpf.h fills it, wire.c reads it. */
#pragma once

#include "loghist.h"
#include "resp_limits.h"
#include <linux/types.h>

#define WIRE_NAMES_MAX 256 /* different commands and scripts; what comes later counts as OTHER */
#define WIRE_OTHER (WIRE_NAMES_MAX - 1)
#define WIRE_MIXED (WIRE_NAMES_MAX - 2) /* replies whose command the full queue no longer tells */
#define WIRE_NAMES_USABLE (WIRE_NAMES_MAX - 2)
#define WIRE_CONNS_MAX 16384
#define WIRE_QUEUE_MAX 256 /* runs of equal commands that wait for replies, of one connection */
#define WIRE_IOV_MAX 1024

enum wire_kind {
    WIRE_PLAIN,
    WIRE_SCRIPT_SHA, /* EVALSHA: the name goes on with the first 16 hex digits */
    WIRE_SCRIPT_BODY, /* EVAL: with a hash of the first 64 bytes, and the length */
    WIRE_FUNCTION, /* FCALL: with the function's name */
    WIRE_GROUP, /* CONFIG, CLIENT, ...: with the second word */
    WIRE_SUBSCRIBE, /* answered by messages from then on */
    WIRE_LAST, /* MONITOR, PSYNC: what follows is no dialogue */
    WIRE_REPLY_MODE, /* CLIENT REPLY: replies can no longer be counted off */
    WIRE_HELLO,
};

struct wire_name {
    __u64 word[RESP_NAME_BYTES / 8];
};

struct wire_entry {
    __u32 id;
    __u32 kind; /* enum wire_kind */
};

enum wire_elements {
    WIRE_ELEMENTS_NONE,
    WIRE_ELEMENTS_RULES, /* send what the masks ask for */
    WIRE_ELEMENTS_KEYS, /* and where a key may be (arguments 1 to 3) of commands without a mask */
};

struct wire_config {
    __u32 names_preset; /* ids below it are user space's */
    __u32 sample; /* connections whose hash is 0 modulo this; 1: all */
    __u32 elements; /* enum wire_elements */
    __u32 events; /* send every command */
    /* System call numbers of this machine. */
    __u32 nr_read, nr_write, nr_readv, nr_writev, nr_recvfrom, nr_sendto, nr_recvmsg, nr_sendmsg;
    __u32 nr_close, nr_accept, nr_accept4, nr_connect, nr_io_uring_enter;
};

/* Row of a per-CPU array: index role_is_client * WIRE_NAMES_MAX + id. */
struct wire_row {
    __u64 requests;
    __u64 replies;
    __u64 ns;
    __u64 ns_max;
    __u64 errors;
    __u64 nils;
    __u64 buckets[LOGHIST_BUCKETS];
};
#define WIRE_ROW_WORDS (sizeof(struct wire_row) / 8)
#define WIRE_ROW_MAX_WORD 3

struct wire_counts {
    __u64 requests;
    __u64 replies;
    __u64 request_calls; /* system calls that carried requests */
    __u64 reply_calls;
    __u64 request_bytes;
    __u64 reply_bytes;
    __u64 batches; /* calls with more than one request */
    __u64 cut; /* messages cut by the end of a call */
    __u64 inlines;
    __u64 pushes;
    /* Losses. */
    __u64 unmatched; /* replies without a request: asked before the tracer came */
    __u64 desyncs; /* times the thread was lost */
    __u64 unparsed_bytes;
    __u64 faults; /* reads of the process's memory that failed */
    __u64 mixed; /* requests beyond the queue: counted, latency under (mixed) */
    __u64 conns_full; /* connections that did not fit */
    __u64 tls;
    __u64 io_uring;
    __u64 events_lost;
    __u64
        unpaired; /* requests of subscribers, monitors and those who want no replies: no latency */
};
#define WIRE_COUNTS_WORDS (sizeof(struct wire_counts) / 8)

struct wire_conn_key {
    __u32 tgid;
    __u32 fd;
};

struct wire_peer {
    __u32 family; /* 0: unknown */
    __u16 port;
    __u16 local_port;
    __u32 address[4]; /* network order; the first word alone for IPv4 */
};

/* Totals of one peer address over closed connections; open ones are in the connections. */
struct wire_peer_key {
    __u32 client; /* role */
    __u32 family;
    __u32 address[4];
};
struct wire_peer_row {
    __u64 conns;
    __u64 requests;
    __u64 replies;
    __u64 ns;
    __u64 depth_max;
};

struct wire_mask {
    __u64 request; /* bit i: argument i is wanted, bit 63: all from 63 */
    __u64 reply;
};

enum wire_event_type {
    WIRE_ELEMENT_REQUEST = 1,
    WIRE_ELEMENT_REPLY,
    WIRE_COMMAND,
    WIRE_SYSCALL,
    WIRE_OFF_CPU,
    WIRE_HTTP, /* bytes: method and path; length: status */
};

struct wire_event {
    __u64 ns; /* when */
    __u64 start_ns; /* of a command or reply: when its request was complete */
    __u64 length; /* of the element in full */
    __u32 tgid;
    __u32 fd;
    __u16 id; /* command */
    __u16 seq; /* request of its connection, counted from its first, modulo 2^16 */
    __u32 index; /* element number in the message */
    __u32 tid;
    __u8 event; /* enum wire_event_type */
    __u8 type; /* RESP type byte */
    __u8 kept;
    __u8 client; /* seen at the client's side */
    char bytes[RESP_KEEP_BYTES];
};

#define WIRE_CONN_BYTES_MAX 8192 /* of the kernel's connection behind its head */

/* The words in front of struct wire_conn (wire.bpf.h): what user space reads of it. */
struct wire_conn_head {
    struct wire_peer peer;
    __u32 client; /* role */
    __u32 flags;
    __u64 requests;
    __u64 replies;
    __u64 ns; /* of all replies together */
    __u64 depth_max; /* most requests waiting at once */
};
