/* The view `syscalls`: per process and system call how often, how long, how many bytes.
 * The first part is shared with the BPF side. */
#pragma once

#include "loghist.h"
#include <linux/types.h>

#define SYSCALLS_ROWS_MAX 8192

struct syscalls_config {
    __u32 byte_calls[16]; /* numbers of the calls whose result is a count of bytes; 0xffffffff: none
                           */
};

struct syscalls_key {
    __u32 tgid;
    __u32 nr;
};

struct syscalls_value {
    __u64 count;
    __u64 ns;
    __u64 ns_max;
    __u64 errors;
    __u64 bytes;
    __u64 buckets[LOGHIST_BUCKETS];
};

#define SYSCALLS_WORDS (sizeof(struct syscalls_value) / 8)
#define SYSCALLS_MAX_WORD 2

struct syscalls_losses {
    __u64 no_row; /* the map of rows was full */
    __u64 no_start; /* a call that began before the tracer did */
};

#ifndef __bpf__
struct view;
extern const struct view syscalls_view;
#endif
