/* Kernel side of the view `profile`: samples, or time off the CPU in ns, per stack. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "profile.h"
#include "target.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(max_entries, PROFILE_STACKS_MAX);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, PROFILE_DEPTH_MAX * sizeof(__u64));
} stacks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, PROFILE_STACKS_MAX);
    __type(key, struct profile_key);
    __type(value, __u64);
} values SEC(".maps");

struct away {
    struct profile_key key;
    __u64 ns;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct away);
} aways SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct profile_losses);
} losses SEC(".maps");

static __always_inline void add(struct profile_key *key, __u64 value)
{
    __u32 zero = 0;
    struct profile_losses *lost = bpf_map_lookup_elem(&losses, &zero);
    if (lost && key->user < 0 && key->kernel < 0) {
        lost->no_stack++;
    }
    __u64 *sum = bpf_map_lookup_elem(&values, key);
    if (!sum) {
        __u64 none = 0;
        bpf_map_update_elem(&values, key, &none, BPF_NOEXIST);
        sum = bpf_map_lookup_elem(&values, key);
    }
    if (sum) {
        __sync_fetch_and_add(sum, value);
    } else if (lost) {
        lost->no_row++;
    }
}

SEC("perf_event")
int on_sample(void *context)
{
    struct profile_key key = {};
    if (!target_current(&key.tgid)) {
        return 0;
    }
    key.kernel = bpf_get_stackid(context, &stacks, 0);
    key.user = bpf_get_stackid(context, &stacks, BPF_F_USER_STACK);
    add(&key, 1);
    return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, _Bool preempt, struct task_struct *before, struct task_struct *after)
{
    __u32 tgid = after->tgid;
    struct away *away;
    if (target_role(tgid)) {
        away = bpf_task_storage_get(&aways, after, 0, 0);
        if (away && away->ns) {
            add(&away->key, bpf_ktime_get_ns() - away->ns);
            away->ns = 0;
        }
    }
    tgid = before->tgid;
    if (target_role(tgid)) {
        away = bpf_task_storage_get(&aways, before, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (away) {
            away->key.tgid = tgid;
            away->key.kernel = bpf_get_stackid(ctx, &stacks, 2); /* without this program itself */
            away->key.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
            away->ns = bpf_ktime_get_ns();
        }
    }
    return 0;
}
