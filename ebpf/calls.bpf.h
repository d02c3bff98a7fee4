/* Counts of system calls, kernel side: one histogram per process and system call, filled here; only
 * counts leave the kernel. The view `syscalls` is this alone; the wire views take it in on demand,
 * so that both are had for one pair of tracepoints. */
#pragma once

#include "hist.bpf.h"
#include "syscalls.h"
#include "target.bpf.h"

const volatile struct syscalls_config calls_config SEC(".rodata.calls");

struct call {
    __u64 start_ns;
    __u32 nr;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct call);
} calls SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SYSCALLS_ROWS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct syscalls_row);
    __type(value, struct syscalls_value);
} call_rows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct syscalls_value);
} call_zero SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct syscalls_losses);
} call_losses SEC(".maps");

static __always_inline struct syscalls_losses *call_losses_here(void)
{
    __u32 index = 0;
    return bpf_map_lookup_elem(&call_losses, &index);
}

/* This thread's call, when a process that may be traced makes it; NULL the first time. */
static __always_inline struct call *call_here(void)
{
    return bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
}

/* A traced process begins a call; `call` is call_here's. */
static __always_inline void call_begin(struct call *call, long nr)
{
    struct task_struct *task = bpf_get_current_task_btf();
    if (!call) {
        call = bpf_task_storage_get(&calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    }
    if (call) {
        call->nr = (__u32)nr;
        call->start_ns = bpf_ktime_get_ns();
    }
}

static __noinline struct syscalls_value *call_new_row(struct syscalls_row *key)
{
    __u32 index = 0;
    struct syscalls_value *empty = bpf_map_lookup_elem(&call_zero, &index);
    if (empty) {
        bpf_map_update_elem(&call_rows, key, empty, BPF_NOEXIST);
    }
    return bpf_map_lookup_elem(&call_rows, key);
}

/* And ends it. The time of the end; 0 where nothing was counted. */
static __always_inline __u64 call_end(struct call *call, __u32 tgid, long result)
{
    struct syscalls_losses *lost;
    if (!call || call->start_ns == 0) {
        if ((lost = call_losses_here())) {
            lost->no_start++;
        }
        return 0;
    }
    __u64 now = bpf_ktime_get_ns();
    __u64 ns = now - call->start_ns;
    struct syscalls_row key = {{tgid, call->nr}, bpf_get_smp_processor_id()};
    call->start_ns = 0;
    struct syscalls_value *row = bpf_map_lookup_elem(&call_rows, &key);
    if (!row && !(row = call_new_row(&key))) {
        if ((lost = call_losses_here())) {
            lost->no_row++;
        }
        return now;
    }
    row->count++;
    row->ns += ns;
    if (ns > row->ns_max) {
        row->ns_max = ns;
    }
    if (result < 0) {
        row->errors++;
    } else if (key.key.nr < 64 * SYSCALLS_BYTE_WORDS &&
               (calls_config.byte_calls[key.key.nr / 64] >> (key.key.nr % 64)) & 1) {
        row->bytes += result;
    }
    __u32 bucket = hist_bucket(ns);
    if (bucket < LOGHIST_BUCKETS) {
        row->buckets[bucket]++;
    }
    return now;
}
