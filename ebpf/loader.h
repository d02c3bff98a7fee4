/* The one door to libbpf: open an embedded BPF object, configure, load, attach, read its maps.
 *
 * The caller frees with loader_free, which detaches; a process that dies, however it dies, detaches
 * too, because every link is a file descriptor. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct loader;

enum loader_object {
    LOADER_SYSCALLS,
    LOADER_COMMANDS,
    LOADER_LEASES,
    LOADER_PROFILE,
    LOADER_TIMELINE,
    LOADER_CLAIMS,
    LOADER_FLOOR,
    LOADER_COUNT,
};

/* What a view needs beyond CAP_BPF and CAP_PERFMON. */
#define LOADER_NEEDS_PTRACE 1u /* reads /proc of others: maps, ns */
#define LOADER_NEEDS_ADMIN 2u /* uprobes */

/* Say what is missing before the kernel says EPERM without a reason: rights, BTF, the host's pid
 * namespace. 0; -EPERM or -ENOTSUP with text that names the capability or kernel option. */
int loader_check(unsigned needs, struct err *err);

/* -EINVAL or the kernel's answer with text. The verifier's log of a refused program is kept for
 * loader_print_log. */
int loader_open(struct loader **out_loader, enum loader_object object, struct err *err);
/* The same of an object of the caller's, borrowed until loader_free. */
int loader_open_bytes(struct loader **out_loader, const void *data, size_t bytes, struct err *err);

/* Set the object's `config` (its one variable in .rodata.config). Before loader_load. */
int loader_config(struct loader *loader, const void *config, size_t bytes, struct err *err);
/* The same of another section than .rodata.config. */
int loader_config_part(struct loader *loader, const char *section, const void *config, size_t bytes,
                       struct err *err);

/* Leave one program out. Before loader_load; no such program is a mistake of the caller. */
void loader_skip(struct loader *loader, const char *program);

/* Of this kernel (linux/include/trace/events), for programs of tp_btf. */
bool loader_has_tracepoint(const char *name);

int loader_load(struct loader *loader, struct err *err);

/* Attach what attaches by its section name; iterators run once, first. */
int loader_attach(struct loader *loader, struct err *err);

/* Attach one program to a perf event; the event is closed with the loader. */
int loader_attach_perf(struct loader *loader, const char *program, int perf_fd, struct err *err);

/* Attach one USDT program to every process that maps path. */
int loader_attach_usdt(struct loader *loader, const char *program, const char *path,
                       const char *provider, const char *name, struct err *err);

/* Detach everything; maps stay readable. */
void loader_detach(struct loader *loader);
void loader_free(struct loader *loader); /* accepts NULL */

/* The end of the verifier's log of the program that the kernel refused, if any. */
void loader_print_log(const struct loader *loader, FILE *out);

struct loader_program {
    char name[32];
    uint32_t verified_insns;
    uint64_t run_ns; /* since load; 0 unless the kernel's BPF statistics are on */
    uint64_t runs;
    uint64_t missed; /* hits not run because the program was already running on that core */
};
/* The i-th loaded program; -ENOENT past the last. */
int loader_program(const struct loader *loader, int i, struct loader_program *out_program);

/* Maps by name; a wrong name is a mistake of the caller and asserts. */
int loader_map_fd(const struct loader *loader, const char *map);
int loader_map_set(const struct loader *loader, const char *map, const void *key,
                   const void *value);
int loader_map_get(const struct loader *loader, const char *map, const void *key, void *value);
void loader_map_delete(const struct loader *loader, const char *map, const void *key);
/* Next key after `key` (NULL: the first). False at the end. */
bool loader_map_next(const struct loader *loader, const char *map, const void *key, void *out_key);

/* One entry of a per-CPU map whose value is words of 64 bits, added up over all cores; words_max
 * of them, and the largest instead of the sum in word max_word (-1: none). */
int loader_map_sum(const struct loader *loader, const char *map, const void *key, uint64_t *out,
                   size_t words, int max_word);

/* Events of a ring buffer. consume takes what is there and does not wait. */
typedef void loader_event_fn(void *context, const void *data, size_t bytes);
int loader_ring_open(struct loader *loader, const char *map, loader_event_fn *fn, void *context,
                     struct err *err);
void loader_ring_consume(struct loader *loader);
