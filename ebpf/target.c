#include "target.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/args.h"
#include "loader.h"

static const char *const server_names[] = {
    "redis-server", "valkey-server", "keydb-server", "kvrocks", "dragonfly", "redis-sentinel",
};

enum target_role target_role_of(const char *comm)
{
    for (size_t i = 0; i < sizeof server_names / sizeof server_names[0]; i++) {
        if (strncmp(comm, server_names[i], TARGET_NAME_BYTES - 1) == 0) {
            return TARGET_SERVER;
        }
    }
    return TARGET_CLIENT;
}

void target_add_default_comms(struct target *target)
{
    target_add_comms(target, "redis-server,valkey-server,keydb-server,kvrocks,dragonfly,codeqd",
                     NULL);
}

int target_add_pids(struct target *target, const char *text, struct err *err)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    char *save = NULL;
    for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
        int64_t pid;
        int code = args_int(p, 1, 4194304, &pid, err);
        if (code != 0) {
            return err_prefix(err, code, "--pid");
        }
        if (target->pids_len == (int)(sizeof target->pids / sizeof target->pids[0])) {
            return err_set(err, -EINVAL, "--pid: more than %d: use --comm or --cgroup",
                           target->pids_len);
        }
        target->pids[target->pids_len++] = (pid_t)pid;
    }
    return target->pids_len > 0 ? 0 : err_set(err, -EINVAL, "--pid: '%s' names no process", text);
}

int target_add_comms(struct target *target, const char *text, struct err *err)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    char *save = NULL;
    for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
        if (target->comms_len == TARGET_NAMES_MAX) {
            return err_set(err, -EINVAL, "--comm: more than %d names", TARGET_NAMES_MAX);
        }
        /* Cut as the kernel cuts. */
        snprintf(target->comms[target->comms_len++], TARGET_NAME_BYTES, "%s", p);
    }
    return target->comms_len > 0 ? 0 : err_set(err, -EINVAL, "--comm: '%s' is no name", text);
}

int target_set_cgroup(struct target *target, const char *text, struct err *err)
{
    static const char *const roots[] = {"", "/sys/fs/cgroup/", "/sys/fs/cgroup/unified/"};
    for (size_t i = text[0] == '/' ? 0 : 1; i < sizeof roots / sizeof roots[0]; i++) {
        char procs[640];
        snprintf(target->cgroup, sizeof target->cgroup, "%s%s", roots[i], text);
        snprintf(procs, sizeof procs, "%s/cgroup.procs", target->cgroup);
        struct stat st;
        if (stat(procs, &st) == 0) {
            return 0;
        }
    }
    target->cgroup[0] = '\0';
    return err_set(err, -ENOENT,
                   "--cgroup: '%s' is no cgroup: give its folder, as in /proc/PID/cgroup", text);
}

static bool read_comm(pid_t pid, char out[TARGET_NAME_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    char line[64] = "";
    bool ok = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
    snprintf(out, TARGET_NAME_BYTES, "%.15s", line);
    return ok;
}

/* The process number inside its own, innermost namespace. */
static pid_t inner_pid(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    pid_t inner = pid;
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "NSpid:", 6) == 0) {
            char *last = strrchr(line, '\t');
            inner = last != NULL ? (pid_t)atoi(last + 1) : pid;
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return inner;
}

static bool wanted(const struct target *target, pid_t pid, const char *comm)
{
    bool by_pid = target->pids_len == 0;
    pid_t seen_as = target->pids_len > 0 && target->cgroup[0] != '\0' ? inner_pid(pid) : pid;
    for (int i = 0; i < target->pids_len; i++) {
        by_pid = by_pid || target->pids[i] == seen_as;
    }
    bool by_comm = target->comms_len == 0;
    for (int i = 0; i < target->comms_len; i++) {
        by_comm = by_comm || strcmp(target->comms[i], comm) == 0;
    }
    return by_pid && by_comm;
}

static void add_process(struct target *target, struct loader *const *loaders, int loaders_len,
                        pid_t pid)
{
    char comm[TARGET_NAME_BYTES];
    if (!read_comm(pid, comm) || !wanted(target, pid, comm)) {
        return;
    }
    struct target_process *process = NULL;
    for (int i = 0; i < target->processes_len; i++) {
        if (target->processes[i].pid == pid) {
            process = &target->processes[i];
        }
    }
    if (process == NULL) {
        if (target->processes_len == TARGETS_MAX) {
            target->overflow++;
            return;
        }
        process = &target->processes[target->processes_len++];
    }
    bool changed = !process->alive || strcmp(process->comm, comm) != 0;
    process->pid = pid;
    process->alive = true;
    memcpy(process->comm, comm, sizeof comm);
    process->role = target->role != 0 ? target->role : target_role_of(comm);
    if (changed) {
        struct target_entry entry = {.role = process->role};
        __u32 tgid = (__u32)pid;
        __u32 slot = tgid & (TARGET_MARKS - 1);
        for (int i = 0; i < loaders_len; i++) {
            struct target_mark mark = {0};
            loader_map_set(loaders[i], "targets", &tgid, &entry);
            loader_map_get(loaders[i], "target_marks", &slot, &mark);
            bool shared = mark.tgid != 0 && mark.tgid != tgid;
            mark = (struct target_mark){.tgid = shared ? TARGET_MARK_SHARED : tgid,
                                        .role = entry.role};
            loader_map_set(loaders[i], "target_marks", &slot, &mark);
        }
    }
}

static void scan_cgroup(struct target *target, struct loader *const *loaders, int loaders_len,
                        const char *dir, int depth)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    FILE *file = fopen(path, "re");
    int pid;
    while (file != NULL && fscanf(file, "%d", &pid) == 1) {
        add_process(target, loaders, loaders_len, pid);
    }
    if (file != NULL) {
        fclose(file);
    }
    DIR *d = depth < 16 ? opendir(dir) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_type == DT_DIR && e->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path) {
            scan_cgroup(target, loaders, loaders_len, path, depth + 1);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

static void scan_all(struct target *target, struct loader *const *loaders, int loaders_len)
{
    DIR *d = opendir("/proc");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        int pid = atoi(e->d_name);
        if (pid > 0) {
            add_process(target, loaders, loaders_len, pid);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

int target_refresh(struct target *target, struct loader *const *loaders, int loaders_len,
                   bool first, bool follow, struct err *err)
{
    if (first && target->cgroup[0] == '\0' && target->pids_len == 0) {
        for (int n = 0; n < target->comms_len; n++) {
            struct target_name name = {0};
            memcpy(name.text, target->comms[n], TARGET_NAME_BYTES);
            struct target_entry entry = {
                .role = target->role != 0 ? target->role : target_role_of(target->comms[n])};
            for (int i = 0; i < loaders_len; i++) {
                loader_map_set(loaders[i], "target_names", &name, &entry);
            }
        }
    }
    for (int i = 0; i < target->processes_len; i++) {
        struct target_process *process = &target->processes[i];
        char path[64];
        snprintf(path, sizeof path, "/proc/%d", (int)process->pid);
        struct stat st;
        if (process->alive && stat(path, &st) != 0) {
            process->alive = false;
        }
    }
    if (target->cgroup[0] != '\0') {
        scan_cgroup(target, loaders, loaders_len, target->cgroup, 0);
    } else if (target->pids_len > 0) {
        for (int i = 0; i < target->pids_len; i++) {
            add_process(target, loaders, loaders_len, target->pids[i]);
        }
    } else {
        scan_all(target, loaders, loaders_len);
    }
    int alive = 0;
    for (int i = 0; i < target->processes_len; i++) {
        alive += target->processes[i].alive;
    }
    if (first && alive == 0 && !follow) {
        return err_set(err, -ESRCH,
                       "no such process: none that runs is what --pid, --comm or --cgroup say: "
                       "check with ps, or wait for it with --follow");
    }
    return alive;
}

bool target_servers_only(const struct target *target)
{
    if (target->role != 0) {
        return target->role == TARGET_SERVER;
    }
    bool servers = target->cgroup[0] == '\0'; /* anything may be in one */
    for (int i = 0; i < target->pids_len && servers; i++) {
        char comm[TARGET_NAME_BYTES];
        servers = read_comm(target->pids[i], comm) && target_role_of(comm) == TARGET_SERVER;
    }
    for (int i = 0; i < target->comms_len && target->pids_len == 0 && servers; i++) {
        servers = target_role_of(target->comms[i]) == TARGET_SERVER;
    }
    return servers;
}

const char *target_comm(const struct target *target, pid_t pid)
{
    for (int i = 0; i < target->processes_len; i++) {
        if (target->processes[i].pid == pid) {
            return target->processes[i].comm;
        }
    }
    return "?";
}
