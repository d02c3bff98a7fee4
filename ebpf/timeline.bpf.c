/* Kernel side of the view `timeline`: the commands view, and every command, system call and wait of
 * the traced processes as an event in a ring buffer. */
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
    event->index = 0;
    event->tid = tid;
    event->event = kind;
    event->type = 0;
    event->kept = 0;
    event->client = 0;
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
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
    if (!target_current(&tgid)) {
        return 0;
    }
    struct thread_times *times = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, 0);
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
    __u64 now = bpf_ktime_get_ns();
    struct thread_times *times;
    __u32 tgid = after->tgid;
    if (bpf_map_lookup_elem(&targets, &tgid)) {
        times = bpf_task_storage_get(&threads, after, 0, 0);
        if (times && times->away_ns) {
            send_slice(WIRE_OFF_CPU, tgid, after->pid, 0, times->away_ns, now);
            times->away_ns = 0;
        }
    }
    tgid = before->tgid;
    if (bpf_map_lookup_elem(&targets, &tgid)) {
        times = bpf_task_storage_get(&threads, before, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (times) {
            times->away_ns = now;
        }
    }
    return 0;
}
