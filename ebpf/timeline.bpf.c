/* Kernel side of the view `timeline`: the commands view, and every command, system call and wait of
 * the traced processes, and every HTTP request that they answer, as an event in a ring buffer. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define WIRE_RING_BYTES (16 << 20)
#include "wire.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct thread_times {
    __u64 call_ns;
    __u64 away_ns;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct thread_times);
} threads SEC(".maps");

static __always_inline void send_slice(__u8 kind, __u32 tgid, __u32 tid, __u32 id, __u64 start_ns,
                                       __u64 ns)
{
    struct wire_event *event = bpf_ringbuf_reserve(&ring, sizeof *event, 0);
    if (!event) {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->events_lost++;
        }
        return;
    }
    event->ns = ns;
    event->start_ns = start_ns;
    event->length = 0;
    event->tgid = tgid;
    event->fd = 0;
    event->id = id;
    event->seq = 0;
    event->index = 0;
    event->tid = tid;
    event->event = kind;
    event->type = 0;
    event->kept = 0;
    event->client = 0;
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* An HTTP request that a traced process has read and not answered. */
struct http_open {
    __u64 start_ns;
    char line[RESP_KEEP_BYTES]; /* method and path */
};

#define HTTP_HEAD_BYTES 12 /* "HTTP/1.1 200", and no request is shorter */

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, WIRE_CONNS_MAX);
    __type(key, struct wire_conn_key);
    __type(value, struct http_open);
} https SEC(".maps");

static __always_inline int is_method(__u32 four)
{
    return four == 0x20544547 || four == 0x54534f50 || four == 0x20545550 || /* GET, POST, PUT */
           four == 0x454c4544 || four == 0x44414548 || four == 0x43544150; /* DELE HEAD PATC */
}

/* A read that begins with a method opens a request, a write that begins with an answer closes it;
 * of requests that come in one read the first stands for all. Of the buffer only the `moved` bytes
 * are looked at: behind them may be anything of an earlier request. */
static __noinline int http_bytes(struct wire_conn_key *key, __u64 base, __u32 tid, long moved)
{
    __u32 four = 0;
    __u64 now = bpf_ktime_get_ns();
    __u64 bytes = moved < 0 ? -moved : moved; /* negative: written */
    if (!key || bytes < HTTP_HEAD_BYTES || bpf_map_lookup_elem(&conns, key) ||
        bpf_probe_read_user(&four, sizeof four, (void *)base)) {
        return 0;
    }
    if (moved > 0) {
        if (is_method(four)) {
            struct http_open fresh = {.start_ns = now};
            __u64 n = bytes < RESP_KEEP_BYTES ? bytes : RESP_KEEP_BYTES;
            bpf_probe_read_user(fresh.line, n, (void *)base);
            bpf_map_update_elem(&https, key, &fresh, BPF_NOEXIST);
        }
        return 0;
    }
    struct http_open *open = four == 0x50545448 ? bpf_map_lookup_elem(&https, key) : 0;
    if (!open) {
        return 0;
    }
    __u32 status = 0;
    bpf_probe_read_user(&status, 3, (void *)(base + 9));
    struct wire_event *event = bpf_ringbuf_reserve(&ring, sizeof *event, 0);
    if (event) {
        event->ns = now;
        event->start_ns = open->start_ns;
        event->length = status;
        event->tgid = key->tgid;
        event->fd = key->fd;
        event->id = 0;
        event->seq = 0;
        event->index = 0;
        event->tid = tid;
        event->event = WIRE_HTTP;
        event->type = 0;
        event->kept = RESP_KEEP_BYTES;
        event->client = 0;
        __builtin_memcpy(event->bytes, open->line, sizeof open->line);
        bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    } else {
        struct wire_counts *counts = counts_here();
        if (counts) {
            counts->events_lost++;
        }
    }
    bpf_map_delete_elem(&https, key);
    return 0;
}

static __always_inline void http_call(struct pt_regs *regs, long result, __u32 tgid, __u32 tid)
{
    __u32 nr = REGS_NR(regs);
    struct wire_conn_key key = {tgid, (__u32)REGS_ARG1(regs)};
    if (nr == config.nr_close) {
        bpf_map_delete_elem(&https, &key);
        return;
    }
    if (result <= 0) {
        return;
    }
    __u64 base = REGS_ARG2(regs);
    __u64 vector, n;
    if (nr == config.nr_writev) {
        base = iov_first(base, REGS_ARG3(regs));
    } else if (nr == config.nr_sendmsg && message_iov(base, &vector, &n)) {
        base = iov_first(vector, n);
    } else if (nr == config.nr_read || nr == config.nr_recvfrom) {
        http_bytes(&key, base, tid, result);
        return;
    } else if (nr != config.nr_write && nr != config.nr_sendto) {
        return;
    }
    http_bytes(&key, base, tid, -result);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_call, struct pt_regs *regs, long nr)
{
    __u32 tgid;
    if (!target_current(&tgid)) {
        return 0;
    }
    struct thread_times *times = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0,
                                                      BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (times) {
        times->call_ns = bpf_ktime_get_ns();
    }
    return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_return, struct pt_regs *regs, long result)
{
    __u32 tgid;
    __u32 role = target_current(&tgid);
    if (!role) {
        return 0;
    }
    struct thread_times *times = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 0);
    if (times && role == TARGET_CLIENT) {
        http_call(regs, result, tgid, (__u32)bpf_get_current_pid_tgid());
    }
    if (times && times->call_ns) {
        send_slice(WIRE_SYSCALL, tgid, (__u32)bpf_get_current_pid_tgid(), (__u32)REGS_NR(regs),
                   times->call_ns, bpf_ktime_get_ns());
        times->call_ns = 0;
    }
    return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, _Bool preempt, struct task_struct *before, struct task_struct *after)
{
    struct thread_times *times;
    __u32 tgid = after->tgid;
    if (target_role(tgid)) {
        times = bpf_task_storage_get(&threads, after, 0, 0);
        if (times && times->away_ns) {
            send_slice(WIRE_OFF_CPU, tgid, after->pid, 0, times->away_ns, bpf_ktime_get_ns());
            times->away_ns = 0;
        }
    }
    tgid = before->tgid;
    if (target_role(tgid)) {
        times = bpf_task_storage_get(&threads, before, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (times) {
            times->away_ns = bpf_ktime_get_ns();
        }
    }
    return 0;
}
