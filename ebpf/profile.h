/* The view `profile`: where CPU time goes, or, with --off-cpu, where threads wait; by stacks of
 * user and kernel. The first part is shared with the BPF side. */
#pragma once

#include <linux/types.h>

#define PROFILE_STACKS_MAX 16384
#define PROFILE_DEPTH_MAX 127 /* kernel.perf_event_max_stack */

struct profile_key {
    __u32 tgid;
    __s32 user; /* stack number; negative: none or not to be had */
    __s32 kernel;
    __u32 reserved;
};

struct profile_losses {
    __u64 no_row;
    __u64 no_stack; /* neither stack could be kept */
};

#ifndef __bpf__
struct view;
extern const struct view profile_view;
#endif
