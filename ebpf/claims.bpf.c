/* Kernel side of `leases --via usdt`: every hit of a probe point of a traced process becomes an
 * event in a ring buffer, with its arguments and the text that one of them points to. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

typedef _Bool bool; /* usdt.bpf.h takes it from vmlinux.h */
#include <bpf/usdt.bpf.h>

#include "claims_shared.h"
#include "target.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} lost SEC(".maps");

static __always_inline int hit(struct pt_regs *ctx, __u32 point, int args)
{
    __u32 tgid;
    if (!target_current(&tgid)) {
        return 0;
    }
    struct claims_event *event = bpf_ringbuf_reserve(&ring, sizeof *event, 0);
    if (!event) {
        __u32 zero = 0;
        __u64 *count = bpf_map_lookup_elem(&lost, &zero);
        if (count) {
            *count += 1;
        }
        return 0;
    }
    event->ns = bpf_ktime_get_ns();
    event->tgid = tgid;
    event->tid = (__u32)bpf_get_current_pid_tgid();
    event->point = point;
    event->text_bytes = 0;
    __builtin_memset(event->text, 0, sizeof event->text);
    for (int i = 0; i < CLAIMS_ARGS; i++) {
        long value = 0;
        if (i < args) {
            bpf_usdt_arg(ctx, i, &value);
        }
        event->arg[i] = value;
    }
    if (point == CLAIMS_PARSE_END) {
        __u64 n = event->arg[3];
        if (n > CLAIMS_TEXT_BYTES) {
            n = CLAIMS_TEXT_BYTES;
        }
        if (n > 0 && !bpf_probe_read_user(event->text, n, (void *)event->arg[2])) {
            event->text_bytes = n;
        }
    } else if (point == CLAIMS_REDIS_REPLY && event->arg[2]) {
        __u64 name = 0; /* the first word of a script */
        if (!bpf_probe_read_user(&name, sizeof name, (void *)event->arg[2]) && name) {
            bpf_probe_read_user_str(event->text, sizeof event->text, (void *)name);
        }
    } else if (point == CLAIMS_LEASE_GRANTED) {
        bpf_probe_read_user(event->text, 33, (void *)event->arg[0]);
    }
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}

SEC("usdt")
int http_parse_begin(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_PARSE_BEGIN, 1);
}

SEC("usdt")
int http_parse_end(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_PARSE_END, 4);
}

SEC("usdt")
int claim_begin(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_CLAIM_BEGIN, 4);
}

SEC("usdt")
int claim_end(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_CLAIM_END, 3);
}

SEC("usdt")
int redis_send(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_REDIS_SEND, 3);
}

SEC("usdt")
int redis_reply(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_REDIS_REPLY, 5);
}

SEC("usdt")
int lease_granted(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_LEASE_GRANTED, 3);
}

SEC("usdt")
int response_written(struct pt_regs *ctx)
{
    return hit(ctx, CLAIMS_RESPONSE_WRITTEN, 3);
}
