/* One measured process run: a private Redis, the preload, the driver under its tool, the figures.
 *
 * A session is a temporary folder with copies of the measured programs; every process runs in the
 * same folder of it, so that paths and their lengths are the same in all of them. session_close
 * removes it. Whatever way a run ends, no process of it is left. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "profile.h"
#include "scenario.h"

#define SESSION_PATH_MAX 96
#define SESSION_DIR_BYTES 68 /* redis.sock below it must fit into a socket address */

struct session {
    char dir[SESSION_PATH_MAX];
    char run_dir[SESSION_PATH_MAX + 8]; /* dir/run: where every process runs; emptied before each */
    char drive_sha256[DIGEST_BYTES];
    char
        preloaded[DIGEST_BYTES]; /* sha256 of the scenario whose waiting tasks dir/dump.rdb holds */
    int cpu; /* both driver and Redis; -1: free */
    bool (*stopped)(void);
    char tracer[512]; /* codeq-trace, where it may trace; "": system calls are counted by ptrace */
    char untraced[320]; /* what it would need, where it may not */
};

/* Copy the programs into a new temporary folder. 0 or negative errno with text. */
int session_open(struct session *session, const char *drive_path, const char *alloc_count_path,
                 struct err *err);
void session_close(struct session *session); /* accepts a zeroed one */

/* The last core that this program may use, for session.cpu: the first ones serve most interrupts.
 * -1 when it cannot be told. */
int session_core(void);

enum run_kind { RUN_TIMED, RUN_COUNTS, RUN_SYSCALLS, RUN_CALLGRIND, RUN_MASSIF, RUN_DHAT };
const char *run_kind_name(enum run_kind kind);

struct run_order {
    enum run_kind kind;
    int64_t repeat; /* 0.. */
    int64_t scale; /* 1: N, 2: 2N; timed: 1 */
    /* timed only */
    int64_t windows; /* cut the region into so many (STEADY_WINDOWS), and leave the warm-up out;
                      * 0: one region */
    size_t padding_bytes; /* of the environment */
    /* syscalls only, with a tracer */
    bool trace; /* leave trace.json and offcpu.folded in run_dir */
};

/* Start a driver without a workload and ask who it is; *out_hello is the caller's to free.
 * -EPROTONOSUPPORT: it speaks another version. */
int run_hello(struct session *session, struct json **out_hello, struct err *err);

/* Whether a driver that said hello can be counted. -ENOTSUP: it was built with a sanitizer or
 * without marks of the region. */
int run_check_build(const struct json *hello, struct err *err);

/* Run one process. *out_line is the line for runs.ndjson without "run", the caller's to free;
 * totals of tools that write a raw file are not in it yet: the file lies in session->run_dir.
 * 0, or with text: -EINTR (stopped), -ETIMEDOUT, or what failed. */
int run_process(struct session *session, const struct scenario *scenario,
                const struct run_order *order, struct json **out_line, struct err *err);
