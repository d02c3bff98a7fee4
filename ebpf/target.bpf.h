/* Which processes are traced, seen from the kernel: a map from process to role, kept by target.c,
 * and by the two programs here between its looks: a process that starts under a wanted name is
 * traced from its first system call on. Included once by each object. */
#pragma once

#include "target_shared.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TARGETS_MAX);
    __type(key, __u32);
    __type(value, struct target_entry);
} targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TARGET_NAMES_MAX);
    __type(key, struct target_name);
    __type(value, struct target_entry);
} target_names SEC(".maps");

static __always_inline struct target_entry *target_current(__u32 *out_tgid)
{
    *out_tgid = bpf_get_current_pid_tgid() >> 32;
    return bpf_map_lookup_elem(&targets, out_tgid);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(target_exec, struct task_struct *task)
{
    struct target_name name = {};
    bpf_get_current_comm(name.text, sizeof name.text);
    struct target_entry *wanted = bpf_map_lookup_elem(&target_names, &name);
    if (wanted) {
        __u32 tgid = bpf_get_current_pid_tgid() >> 32;
        struct target_entry entry = *wanted;
        bpf_map_update_elem(&targets, &tgid, &entry, BPF_NOEXIST);
    }
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(target_exit, struct task_struct *task)
{
    __u64 id = bpf_get_current_pid_tgid();
    __u32 tgid = id >> 32;
    if (tgid == (__u32)id) {
        bpf_map_delete_elem(&targets, &tgid);
    }
    return 0;
}
