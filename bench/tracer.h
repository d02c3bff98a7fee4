/* codeq-trace run beside a measured process: started, waited for until it traces, interrupted, its
 * report read. What it may see depends on rights, so the first question is whether it may.
 *
 * tracer_start and tracer_finish or tracer_stop are a pair; tracer_stop accepts a zeroed one and
 * one that was finished. Main thread only. */
#pragma once

#include "base/child.h"
#include "base/err.h"
#include "base/json.h"

#define TRACER_REPORT_BYTES_MAX (16 * 1024 * 1024)

struct tracer_run {
    struct child child;
    char out_path[200];
    char err_path[200];
};

/* Whether this program may trace system calls and waits of processes here. 0; -EPERM with text that
 * says what is missing, as the rest of "not measured: needs ...". */
int tracer_check(const char *program, const char *dir, struct err *err);

/* Run `program ARGS... --json` with files in dir, and return when it traces. 0, or negative errno
 * with its own words. */
int tracer_start(struct tracer_run *run, const char *program, const char *const *args,
                 const char *dir, struct err *err);

/* Interrupt it and read its report, the caller's. 0, or negative errno with text; -EIO when it lost
 * some of what it should have seen. */
int tracer_finish(struct tracer_run *run, struct json **out_report, struct err *err);

void tracer_stop(struct tracer_run *run);
