/* Kernel side of the view `syscalls`: one histogram per process and system call, filled here; only
 * counts leave the kernel. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "hist.bpf.h"
#include "syscalls.h"
#include "target.bpf.h"

char LICENSE[] SEC("license") = "GPL";

const volatile struct syscalls_config config SEC(".rodata.config");

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
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, SYSCALLS_ROWS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct syscalls_key);
    __type(value, struct syscalls_value);
} rows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct syscalls_value);
} zero SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct syscalls_losses);
} losses SEC(".maps");

static __always_inline struct syscalls_losses *losses_here(void)
{
    __u32 index = 0;
    return bpf_map_lookup_elem(&losses, &index);
}

static __always_inline int enter(long nr)
{
    __u32 tgid;
    if (!target_current(&tgid)) {
        return 0;
    }
    struct call *call =
        bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (call) {
        call->nr = (__u32)nr;
        call->start_ns = bpf_ktime_get_ns();
    }
    return 0;
}

static __noinline struct syscalls_value *new_row(struct syscalls_key *key)
{
    __u32 index = 0;
    struct syscalls_value *empty = bpf_map_lookup_elem(&zero, &index);
    if (empty) {
        bpf_map_update_elem(&rows, key, empty, BPF_NOEXIST);
    }
    return bpf_map_lookup_elem(&rows, key);
}

static __always_inline int leave(long result)
{
    struct syscalls_key key;
    if (!target_current(&key.tgid)) {
        return 0;
    }
    struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
    struct syscalls_losses *lost;
    if (!call || call->start_ns == 0) {
        if ((lost = losses_here())) {
            lost->no_start++;
        }
        return 0;
    }
    __u64 ns = bpf_ktime_get_ns() - call->start_ns;
    key.nr = call->nr;
    call->start_ns = 0;
    struct syscalls_value *row = bpf_map_lookup_elem(&rows, &key);
    if (!row && !(row = new_row(&key))) {
        if ((lost = losses_here())) {
            lost->no_row++;
        }
        return 0;
    }
    row->count++;
    row->ns += ns;
    if (ns > row->ns_max) {
        row->ns_max = ns;
    }
    if (result < 0) {
        row->errors++;
    } else {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            if (key.nr == config.byte_calls[i]) {
                row->bytes += result;
            }
        }
    }
    __u32 bucket = hist_bucket(ns);
    if (bucket < LOGHIST_BUCKETS) {
        row->buckets[bucket]++;
    }
    return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long nr)
{
    return enter(nr);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{
    return leave(result);
}

/* The same by untyped tracepoints, for kernels that refuse the typed ones. */
SEC("raw_tp/sys_enter")
int on_enter_raw(struct bpf_raw_tracepoint_args *args)
{
    return enter((long)args->args[1]);
}

SEC("raw_tp/sys_exit")
int on_exit_raw(struct bpf_raw_tracepoint_args *args)
{
    return leave((long)args->args[1]);
}
