/* The operations that codeq-drive can be asked for, in lock step on one connection.
 *
 * One op is one task through the operation; with a batch of b a call carries b tasks and counts b
 * ops. drive_work_run makes no system call and no allocation of its own unless it is timed: what is
 * counted is the store's and the JSON library's. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"
#include "store/store.h"

#define DRIVE_BATCH_MAX STORE_TASKS_MAX
#define DRIVE_PAYLOAD_BYTES_MAX (1024 * 1024)

enum drive_operation {
    DRIVE_CYCLE = 0, /* create, claim, complete */
    DRIVE_CREATE,
    DRIVE_CLAIM,
    DRIVE_OPERATION_COUNT
};

const char *drive_operation_name(enum drive_operation operation);
int drive_operation_parse(const char *name, enum drive_operation *out); /* 0 or -EINVAL */

enum drive_call { DRIVE_CALL_CREATE = 0, DRIVE_CALL_CLAIM, DRIVE_CALL_COMPLETE, DRIVE_CALL_COUNT };

const char *drive_call_name(enum drive_call call);

struct drive_work_options {
    enum drive_operation operation;
    int batch; /* 1..DRIVE_BATCH_MAX tasks a call */
    bool json; /* build and read the task as a client of the service would */
    int64_t payload_bytes; /* 0..DRIVE_PAYLOAD_BYTES_MAX */
};

struct drive_work;

/* store stays the caller's and must outlive the work. NULL with text: out of range, or Redis does
 * not answer. */
struct drive_work *drive_work_new(struct store *store, const struct drive_work_options *options,
                                  struct err *err);
void drive_work_free(struct drive_work *work);

/* Run until ops are done or, when duration_ns > 0, until that has passed; ops is rounded up to
 * whole batches. hists: NULL, or DRIVE_CALL_COUNT histograms that get the latency of each call.
 * Returns the ops done, or negative errno with text: any refused, lost or missing task ends the
 * run. */
int64_t drive_work_run(struct drive_work *work, int64_t ops, int64_t duration_ns,
                       struct hist *hists, struct err *err);

/* Create tasks that wait, in calls of DRIVE_BATCH_MAX. 0 or negative errno with text. */
int drive_work_preload(struct drive_work *work, int64_t tasks, struct err *err);
