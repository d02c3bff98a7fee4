/* The view `syscalls`: per process and system call how often, how long, how many bytes.
 * The first part is shared with the BPF side. */
#pragma once

#include "loghist.h"
#include <linux/types.h>

#define SYSCALLS_ROWS_MAX 32768

#define SYSCALLS_BYTE_WORDS 8

struct syscalls_config {
    __u64 byte_calls[SYSCALLS_BYTE_WORDS]; /* bit per number: its result is a count of bytes */
    __u32 on; /* read by the wire views only */
    __u32 reserved;
};

struct syscalls_key {
    __u32 tgid;
    __u32 nr;
};

/* Each core counts into rows of its own. A per-CPU map would do that too, but what it allocates on
 * demand (2.6 KB a core and row) is often refused inside a tracepoint. */
struct syscalls_row {
    struct syscalls_key key;
    __u32 cpu;
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
#include <stdbool.h>

struct err;
struct loader;
struct report;
struct syscalls;
struct target;
struct view;
extern const struct view syscalls_view;

/* The table of system calls for any view whose object includes calls.bpf.h: switch it on before
 * loader_load. Arguments stay the caller's. names_only: processes of one name are one row. */
struct syscalls *syscalls_new(struct loader *loader, struct target *target, bool names_only);
void syscalls_free(struct syscalls *syscalls); /* accepts NULL */
int syscalls_configure(struct loader *loader, struct err *err);
void syscalls_report(struct syscalls *syscalls, struct report *report);
#endif
