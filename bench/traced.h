/* What codeq-trace sees of a driver and its Redis during one measured region: system calls, waits
 * and, where they are to be kept, Redis commands and leases. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/json.h"
#include "tracer.h"

#define TRACED_SCHEMA "codeq-lab.trace/1"
#define TRACED_FILE "trace.json"
#define TRACED_FOLDED_FILE "offcpu.folded"

enum traced_view { TRACED_SYSCALLS, TRACED_OFF_CPU, TRACED_COMMANDS, TRACED_LEASES, TRACED_COUNT };

struct traced {
    struct tracer_run runs[TRACED_COUNT];
    const char *dir; /* borrowed */
    bool whole; /* all views, and files in dir */
    char pids[32]; /* driver and Redis */
    char drive_pid[16];
    char redis_pid[16];
    char folded[200];
};

/* Start the views' programs, their files in dir, and wait until they trace. To be ended by
 * traced_stop either way. 0, or negative errno with text. */
int traced_start(struct traced *traced, const char *tracer, const char *dir, pid_t drive_pid,
                 pid_t redis_pid, bool whole, struct err *err);

/* End them and join their reports, the caller's, of a region of ops operations. -EIO: one of them
 * lost something. */
int traced_finish(struct traced *traced, int64_t ops, struct json **out_reports, struct err *err);
void traced_stop(struct traced *traced); /* accepts a zeroed one */

/* The reports' totals, as a line of runs.ndjson has them: syscalls and by_name of the driver,
 * redis_syscalls, off_cpu_ns of the driver. -EIO: nothing was seen of it. */
int traced_totals(const struct json *reports, struct json *line, struct json *totals,
                  struct err *err);

/* Whether the file of a scenario's folder, if there is one, is what the runs' first line of system
 * calls was made from. 0 or -EBADMSG with text. */
int traced_verify(const char *dir, struct json *const *runs, size_t count, struct err *err);
