/* What target.c and target.bpf.h agree on. */
#pragma once

#include <linux/types.h>

#define TARGETS_MAX 1024
#define TARGET_NAMES_MAX 16
#define TARGET_MARKS 4096 /* a power of two */
#define TARGET_NAME_BYTES 16 /* as the kernel cuts a process name, NUL included */

enum target_role {
    TARGET_SERVER = 1, /* reads commands, writes replies */
    TARGET_CLIENT = 2,
};

struct target_entry {
    __u32 role; /* enum target_role */
    __u32 reserved;
};

/* What stands at a process's place in the table of marks. */
struct target_mark {
    __u32 tgid; /* 0: nobody; TARGET_MARK_SHARED: several, look into the map */
    __u32 role;
};
#define TARGET_MARK_SHARED 0xffffffffu

struct target_name {
    char text[TARGET_NAME_BYTES];
};
