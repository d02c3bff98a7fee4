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

/* Who is the target of this remainder? An array's look-up is a load in line: for most processes,
 * traced or not, it is all that the question costs. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, TARGET_MARKS);
    __type(key, __u32);
    __type(value, __u64); /* struct target_mark, as one word */
} target_marks SEC(".maps");

/* enum target_role; 0 when not traced. */
static __always_inline __u32 target_role(__u32 tgid)
{
    __u32 slot = tgid & (TARGET_MARKS - 1);
    __u64 *mark = bpf_map_lookup_elem(&target_marks, &slot);
    if (!mark) {
        return 0;
    }
    __u64 word = *mark;
    if ((__u32)word == tgid) {
        return word >> 32;
    }
    if ((__u32)word != TARGET_MARK_SHARED) {
        return 0;
    }
    struct target_entry *target = bpf_map_lookup_elem(&targets, &tgid);
    return target ? target->role : 0;
}

static __always_inline __u32 target_current(__u32 *out_tgid)
{
    *out_tgid = bpf_get_current_pid_tgid() >> 32;
    return target_role(*out_tgid);
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
        bpf_map_update_elem(&targets, &tgid, &entry, BPF_NOEXIST);
        __u64 *mark = bpf_map_lookup_elem(&target_marks, &slot);
        __u64 before =
            mark ? __sync_val_compare_and_swap(mark, 0, tgid | (__u64)entry.role << 32) : 0;
        if (mark && before != 0 && (__u32)before != tgid) {
            *mark = TARGET_MARK_SHARED;
        }
    }
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(target_exit, struct task_struct *task)
{
    __u64 id = bpf_get_current_pid_tgid();
    __u32 tgid = id >> 32;
    if (tgid == (__u32)id) {
        __u32 slot = tgid & (TARGET_MARKS - 1);
        __u64 *mark = bpf_map_lookup_elem(&target_marks, &slot);
        bpf_map_delete_elem(&targets, &tgid);
        if (mark && (__u32)*mark == tgid) {
            *mark = 0;
        }
    }
    return 0;
}
