/* Which processes are traced, seen from user space: --pid, --comm and --cgroup become entries of
 * the kernel's map, again at every refresh, so that processes that come later are found.
 *
 * The caller owns the struct; target_fini frees what it holds. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "target_shared.h"

struct loader;

struct target_process {
    pid_t pid; /* as the kernel counts: in the host's namespace */
    char comm[TARGET_NAME_BYTES];
    enum target_role role;
    bool alive;
};

struct target {
    pid_t pids[64]; /* as given; inside the cgroup's pid namespace when there is a cgroup */
    int pids_len;
    char comms[TARGET_NAMES_MAX][TARGET_NAME_BYTES];
    int comms_len;
    char cgroup[512]; /* folder under the cgroup mount; "" for none */
    enum target_role role; /* 0: by the process name */
    struct target_process processes[TARGETS_MAX];
    int processes_len; /* all ever seen, those that ended included */
    int overflow; /* processes that did not fit */
};

/* One or more, comma separated. -EINVAL with text. */
int target_add_pids(struct target *target, const char *text, struct err *err);
int target_add_comms(struct target *target, const char *text, struct err *err);
/* A path, absolute or below /sys/fs/cgroup (or its unified folder). -ENOENT with text. */
int target_set_cgroup(struct target *target, const char *text, struct err *err);

/* Redis servers of any name, and codeqd. */
void target_add_default_comms(struct target *target);

/* Find processes and put them into every loader's map. The number alive, or negative errno with
 * text (no such process: only on the first call, and not when follow is set). */
int target_refresh(struct target *target, struct loader *const *loaders, int loaders_len,
                   bool first, bool follow, struct err *err);

/* Can nothing but Redis servers ever be traced? False where it cannot be told. */
bool target_servers_only(const struct target *target);

/* Name of a traced process, "?" when unknown. */
const char *target_comm(const struct target *target, pid_t pid);

/* Server when the name is one of a Redis server's. */
enum target_role target_role_of(const char *comm);
