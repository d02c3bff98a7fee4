#include "loader.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "profile.h"
#include "syscalls.h"
#include "wire.h"

/* The skeletons are taken for their embedded bytes only: everything else goes by name. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "claims.skel.h"
#include "commands.skel.h"
#include "floor.skel.h"
#include "leases.skel.h"
#include "profile.skel.h"
#include "syscalls.skel.h"
#include "timeline.skel.h"
#pragma GCC diagnostic pop

#define LINKS_MAX 1024 /* one a core */
#define LOG_BYTES (1 << 20)
#define LOG_SHOWN_BYTES 4000 /* of its end, where the reason is */
#define PID_NAMESPACE_INIT 0xEFFFFFFCu /* Source: linux/include/linux/proc_ns.h */

struct loader {
    struct bpf_object *object;
    struct bpf_link *links[LINKS_MAX];
    int links_len;
    struct ring_buffer *ring;
    loader_event_fn *ring_fn;
    void *ring_context;
    char *log; /* LOG_BYTES, the verifier's */
    uint64_t *scratch; /* one value of a per-CPU map, all cores */
    size_t scratch_bytes;
    int cpus;
};

static const void *object_bytes(enum loader_object object, size_t *out_bytes)
{
    switch (object) {
    case LOADER_SYSCALLS:
        return syscalls__elf_bytes(out_bytes);
    case LOADER_COMMANDS:
        return commands__elf_bytes(out_bytes);
    case LOADER_LEASES:
        return leases__elf_bytes(out_bytes);
    case LOADER_PROFILE:
        return profile__elf_bytes(out_bytes);
    case LOADER_TIMELINE:
        return timeline__elf_bytes(out_bytes);
    case LOADER_CLAIMS:
        return claims__elf_bytes(out_bytes);
    case LOADER_FLOOR:
        return floor__elf_bytes(out_bytes);
    case LOADER_COUNT:
        break;
    }
    assert(!"unknown object");
    return NULL;
}

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    if (getenv("CODEQ_TRACE_LIBBPF") != NULL && level != LIBBPF_DEBUG) {
        return vfprintf(stderr, format, args);
    }
    return 0;
}

struct capability {
    int bit;
    const char *name;
};

static uint64_t effective_capabilities(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    unsigned long long caps = 0;
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "CapEff: %llx", &caps) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return caps;
}

int loader_check(unsigned needs, struct err *err)
{
    static const struct capability admin = {21, "CAP_SYS_ADMIN"};
    static const struct capability ptrace = {19, "CAP_SYS_PTRACE"};
    static const struct capability bpf = {39, "CAP_BPF"};
    static const struct capability perfmon = {38, "CAP_PERFMON"};
    uint64_t caps = effective_capabilities();
    bool all = (caps >> admin.bit) & 1; /* the old all-embracing right covers the two new ones */
    char missing[128] = "";
    const struct capability *wanted[4] = {&bpf, &perfmon, NULL, NULL};
    if (needs & LOADER_NEEDS_PTRACE) {
        wanted[2] = &ptrace;
    }
    if (needs & LOADER_NEEDS_ADMIN) {
        wanted[3] = &admin;
    }
    for (int i = 0; i < 4; i++) {
        if (wanted[i] == NULL || ((caps >> wanted[i]->bit) & 1) || (all && i < 2)) {
            continue;
        }
        size_t n = strlen(missing);
        snprintf(missing + n, sizeof missing - n, "%s%s", n > 0 ? " and " : "", wanted[i]->name);
    }
    if (missing[0] != '\0') {
        return err_set(err, -EPERM,
                       "not permitted: %s missing: run as root, or give the program the capability "
                       "with setcap",
                       missing);
    }
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        return err_set(err, -ENOTSUP,
                       "kernel without type information: /sys/kernel/btf/vmlinux: %s: use a kernel "
                       "built with CONFIG_DEBUG_INFO_BTF=y and mount /sys",
                       strerror(errno));
    }
    struct stat st;
    if (stat("/proc/self/ns/pid", &st) == 0 && (unsigned)st.st_ino != PID_NAMESPACE_INIT) {
        return err_set(err, -ENOTSUP,
                       "inside a container's pid namespace: process numbers here are not the "
                       "kernel's: run it on the host, and name the container by --cgroup");
    }
    return 0;
}

int loader_open_bytes(struct loader **out_loader, const void *data, size_t bytes, struct err *err)
{
    libbpf_set_print(quiet);
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    struct loader *loader = calloc(1, sizeof *loader);
    assert(loader != NULL);
    loader->log = calloc(1, LOG_BYTES);
    assert(loader->log != NULL);
    loader->cpus = libbpf_num_possible_cpus();
    /* On success the log stays empty: the kernel writes it only for a program it refuses. */
    LIBBPF_OPTS(bpf_object_open_opts, options, .kernel_log_buf = loader->log,
                .kernel_log_size = LOG_BYTES, .kernel_log_level = 0);
    loader->object = bpf_object__open_mem(data, bytes, &options);
    if (loader->object == NULL) {
        int code = -errno;
        loader_free(loader);
        return err_set(err, code, "BPF object: cannot open: %s", strerror(-code));
    }
    *out_loader = loader;
    return 0;
}

int loader_open(struct loader **out_loader, enum loader_object object, struct err *err)
{
    size_t bytes;
    const void *data = object_bytes(object, &bytes);
    return loader_open_bytes(out_loader, data, bytes, err);
}

int loader_config_part(struct loader *loader, const char *section, const void *config, size_t bytes,
                       struct err *err)
{
    struct bpf_map *map;
    bpf_object__for_each_map(map, loader->object)
    {
        if (strstr(bpf_map__name(map), section) != NULL) {
            int code = bpf_map__set_initial_value(map, config, bytes);
            return code == 0 ? 0 : err_set(err, code, "BPF config: %s", strerror(-code));
        }
    }
    return err_set(err, -EINVAL, "BPF object has no %s", section);
}

int loader_config(struct loader *loader, const void *config, size_t bytes, struct err *err)
{
    return loader_config_part(loader, ".rodata.config", config, bytes, err);
}

static struct bpf_program *program_of(struct loader *loader, const char *program)
{
    struct bpf_program *p = bpf_object__find_program_by_name(loader->object, program);
    assert(p != NULL);
    return p;
}

void loader_skip(struct loader *loader, const char *program)
{
    bpf_program__set_autoload(program_of(loader, program), false);
}

bool loader_has_tracepoint(const char *name)
{
    return libbpf_find_vmlinux_btf_id(name, BPF_TRACE_RAW_TP) > 0;
}

int loader_load(struct loader *loader, struct err *err)
{
    int code = bpf_object__load(loader->object);
    if (code != 0) {
        return err_set(err, code, "the kernel refused a BPF program: %s: %s", strerror(-code),
                       loader->log[0] != '\0' ? "its verifier's log follows"
                                              : "it gave no log (a policy, or a missing right)");
    }
    return 0;
}

static int keep_link(struct loader *loader, struct bpf_link *link, const char *what,
                     struct err *err)
{
    if (link == NULL) {
        int code = -errno;
        return err_set(err, code, "cannot attach %s: %s", what, strerror(-code));
    }
    assert(loader->links_len < LINKS_MAX);
    loader->links[loader->links_len++] = link;
    return 0;
}

static int run_iterator(struct bpf_program *program, struct err *err)
{
    struct bpf_link *link = bpf_program__attach_iter(program, NULL);
    int fd = link != NULL ? bpf_iter_create(bpf_link__fd(link)) : -1;
    char none[64];
    ssize_t n = fd >= 0 ? 1 : -1;
    while (n > 0) {
        n = read(fd, none, sizeof none);
    }
    int code = n < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    bpf_link__destroy(link);
    return code == 0 ? 0
                     : err_set(err, code, "cannot run %s: %s", bpf_program__section_name(program),
                               strerror(-code));
}

int loader_attach(struct loader *loader, struct err *err)
{
    struct bpf_program *program;
    bpf_object__for_each_program(program, loader->object)
    {
        if (bpf_program__autoload(program) &&
            strncmp(bpf_program__section_name(program), "iter/", 5) == 0) {
            int code = run_iterator(program, err);
            if (code != 0) {
                return code;
            }
        }
    }
    bpf_object__for_each_program(program, loader->object)
    {
        const char *section = bpf_program__section_name(program);
        if (!bpf_program__autoload(program) ||
            (strncmp(section, "tp_btf", 6) != 0 && strncmp(section, "raw_tp", 6) != 0)) {
            continue;
        }
        int code = keep_link(loader, bpf_program__attach(program), section, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

int loader_attach_perf(struct loader *loader, const char *program, int perf_fd, struct err *err)
{
    return keep_link(loader, bpf_program__attach_perf_event(program_of(loader, program), perf_fd),
                     "perf event", err);
}

int loader_attach_usdt(struct loader *loader, const char *program, const char *path,
                       const char *provider, const char *name, struct err *err)
{
    return keep_link(
        loader,
        bpf_program__attach_usdt(program_of(loader, program), -1, path, provider, name, NULL), name,
        err);
}

void loader_detach(struct loader *loader)
{
    while (loader->links_len > 0) {
        bpf_link__destroy(loader->links[--loader->links_len]);
    }
}

void loader_free(struct loader *loader)
{
    if (loader == NULL) {
        return;
    }
    loader_detach(loader);
    ring_buffer__free(loader->ring);
    bpf_object__close(loader->object);
    free(loader->log);
    free(loader->scratch);
    free(loader);
}

void loader_print_log(const struct loader *loader, FILE *out)
{
    size_t n = strlen(loader->log);
    fputs(n > LOG_SHOWN_BYTES ? loader->log + n - LOG_SHOWN_BYTES : loader->log, out);
}

int loader_program(const struct loader *loader, int i, struct loader_program *out_program)
{
    struct bpf_program *program;
    bpf_object__for_each_program(program, loader->object)
    {
        int fd = bpf_program__fd(program);
        if (fd < 0 || i-- > 0) {
            continue;
        }
        struct bpf_prog_info info = {0};
        __u32 bytes = sizeof info;
        if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0) {
            return -errno;
        }
        snprintf(out_program->name, sizeof out_program->name, "%s", bpf_program__name(program));
        out_program->verified_insns = info.verified_insns;
        out_program->run_ns = info.run_time_ns;
        out_program->runs = info.run_cnt;
        out_program->missed = info.recursion_misses;
        return 0;
    }
    return -ENOENT;
}

static struct bpf_map *map_of(const struct loader *loader, const char *map)
{
    struct bpf_map *m = bpf_object__find_map_by_name(loader->object, map);
    assert(m != NULL);
    return m;
}

int loader_map_fd(const struct loader *loader, const char *map)
{
    return bpf_map__fd(map_of(loader, map));
}

int loader_map_set(const struct loader *loader, const char *map, const void *key, const void *value)
{
    return bpf_map_update_elem(loader_map_fd(loader, map), key, value, BPF_ANY) == 0 ? 0 : -errno;
}

int loader_map_get(const struct loader *loader, const char *map, const void *key, void *value)
{
    return bpf_map_lookup_elem(loader_map_fd(loader, map), key, value) == 0 ? 0 : -errno;
}

void loader_map_delete(const struct loader *loader, const char *map, const void *key)
{
    bpf_map_delete_elem(loader_map_fd(loader, map), key);
}

bool loader_map_next(const struct loader *loader, const char *map, const void *key, void *out_key)
{
    return bpf_map_get_next_key(loader_map_fd(loader, map), key, out_key) == 0;
}

int loader_map_sum(const struct loader *loader, const char *map, const void *key, uint64_t *out,
                   size_t words, int max_word)
{
    struct loader *l = (struct loader *)loader; /* scratch is no part of what the caller sees */
    size_t bytes = words * sizeof(uint64_t) * (size_t)loader->cpus;
    assert(bpf_map__value_size(map_of(loader, map)) == words * sizeof(uint64_t));
    if (bytes > l->scratch_bytes) {
        free(l->scratch);
        l->scratch = malloc(bytes);
        assert(l->scratch != NULL);
        l->scratch_bytes = bytes;
    }
    if (bpf_map_lookup_elem(loader_map_fd(loader, map), key, l->scratch) != 0) {
        return -errno;
    }
    for (size_t w = 0; w < words; w++) {
        uint64_t sum = 0;
        for (int cpu = 0; cpu < loader->cpus; cpu++) {
            uint64_t value = l->scratch[(size_t)cpu * words + w];
            sum = (int)w == max_word ? (value > sum ? value : sum) : sum + value;
        }
        out[w] = sum;
    }
    return 0;
}

static int on_event(void *context, void *data, size_t bytes)
{
    struct loader *loader = context;
    loader->ring_fn(loader->ring_context, data, bytes);
    return 0;
}

int loader_ring_open(struct loader *loader, const char *map, loader_event_fn *fn, void *context,
                     struct err *err)
{
    loader->ring_fn = fn;
    loader->ring_context = context;
    loader->ring = ring_buffer__new(loader_map_fd(loader, map), on_event, loader, NULL);
    if (loader->ring == NULL) {
        int code = -errno;
        return err_set(err, code, "ring buffer: %s", strerror(-code));
    }
    return 0;
}

void loader_ring_consume(struct loader *loader)
{
    ring_buffer__consume(loader->ring);
}
