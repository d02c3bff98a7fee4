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

/* Has any process of this remainder ever been a target? An array's look-up is a load in line: it is
 * all that a system call of a process that nobody looks at costs. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, TARGET_MARKS);
    __type(key, __u32);
    __type(value, __u32);
} target_marks SEC(".maps");

static __always_inline int target_marked(__u32 tgid)
{
    __u32 slot = tgid & (TARGET_MARKS - 1);
    __u32 *mark = bpf_map_lookup_elem(&target_marks, &slot);
    return mark && *mark;
}

static __always_inline struct target_entry *target_of(__u32 *tgid)
{
    return target_marked(*tgid) ? bpf_map_lookup_elem(&targets, tgid) : 0;
}

static __always_inline struct target_entry *target_current(__u32 *out_tgid)
{
    *out_tgid = bpf_get_current_pid_tgid() >> 32;
    return target_of(out_tgid);
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
        __u32 slot = tgid & (TARGET_MARKS - 1);
        __u32 marked = 1;
        bpf_map_update_elem(&target_marks, &slot, &marked, BPF_ANY);
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
