/* Kernel side of the view `syscalls`: calls.bpf.h alone. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "calls.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int enter(long nr)
{
    __u32 tgid;
    if (target_current(&tgid)) {
        call_begin(call_here(), nr);
    }
    return 0;
}

static __always_inline int leave(long result)
{
    __u32 tgid;
    if (target_current(&tgid)) {
        call_end(call_here(), tgid, result);
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
