/* The lab's end of the driver protocol: starts a driver, plain, under a tool or under ptrace, and
 * speaks one JSON line each way over its stdin and stdout. The protocol stands in bench/README.md.
 *
 * drive_client_start and drive_client_finish or _stop are a pair; a client that was finished may be
 * stopped again. Everything a driver says is hostile: lines are bounded, fields are checked by the
 * caller. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/err.h"
#include "base/json.h"
#include "syscall_count.h"

#define DRIVE_PROTOCOL_VERSION 1
#define DRIVE_LINE_BYTES_MAX (4 * 1024 * 1024)

struct drive_client_options {
    const char *const *prefix; /* the tool's argv, NULL-terminated; NULL: none */
    const char *program; /* as written into argv */
    const char *dir; /* working folder: holds redis.sock; stderr goes to drive.err in it */
    const char *preload; /* LD_PRELOAD; NULL: none */
    bool trace_syscalls;
    bool aslr; /* leave address randomisation on */
    size_t padding_bytes; /* of one more variable of the environment; 0: none */
    int cpu; /* -1: leave free */
    bool (*stopped)(void); /* true: give up waiting with -EINTR; NULL: never */
};

struct drive_client {
    struct child child;
    struct syscall_tracer tracer;
    bool traced;
    int to_fd; /* the driver's stdin; -1: closed */
    int from_fd;
    struct buf input; /* read and not yet used */
    bool (*stopped)(void);
    char dir[128];
};

/* The glibc tunable that pins which string functions are chosen: the same on every machine that has
 * AVX2. Recorded in env.json. */
extern const char drive_client_hwcaps[];

#define DRIVE_CLIENT_PADDING_MAX 4096

/* The whole environment of a measured program is PATH, LD_BIND_NOW, GLIBC_TUNABLES and, where asked
 * for, LD_PRELOAD and PADDING. */
int drive_client_start(struct drive_client *client, const struct drive_client_options *options,
                       struct err *err);

/* Send take_request and wait for the answer, at most timeout_ns. *out_reply is the caller's to
 * free. 0, or with text: -EPROTO (not JSON, no answer, line too long, driver ended), -EREMOTEIO
 * (the driver refused: its words), -EPROTONOSUPPORT (it refused the protocol version), -ETIMEDOUT,
 * -EINTR (a signal came). */
int drive_client_call(struct drive_client *client, struct json *take_request, int64_t timeout_ns,
                      struct json **out_reply, struct err *err);

/* Say quit, wait for the end, see that it ended well. out_syscalls: where traced; may be NULL. */
int drive_client_finish(struct drive_client *client, int64_t timeout_ns,
                        struct syscall_counts *out_syscalls, struct err *err);

/* End it now. */
void drive_client_stop(struct drive_client *client);
