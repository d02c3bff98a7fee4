/* What a view is: the one interface between the subcommands and the programs behind them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loader.h"
#include "report.h"
#include "target.h"

/* Options as given; a view reads those that are its own. */
struct view_options {
    int64_t duration_ns; /* 0: until interrupted */
    int64_t interval_ns;
    bool json;
    bool interval_given;
    bool follow;
    bool raw_tracepoints;
    bool show_keys;
    bool syscalls; /* the wire views: and the table of system calls */
    bool names_only; /* tables tell processes by name: their numbers come and go */
    int rows_max;
    int sample; /* one connection in so many */
    int frequency_hz;
    bool off_cpu;
    bool events;
    const char *output; /* file; NULL: none */
    const char *format;
    const char *via;
    const char *listen;
    const char *rules[8];
    int rules_len;
    const char *scripts[8]; /* files or folders of Lua */
    int scripts_len;
};

struct view {
    const char *name;
    const char *summary; /* one line */
    const char *help; /* of its own options, and examples */
    unsigned needs; /* LOADER_NEEDS_* */
    /* Options of its own, as long names, space separated; the common ones are always there. */
    const char *options;
    bool quiet; /* shows nothing on stdout but the summary */

    /* Open and configure the object; the caller loads, fills targets and attaches. -EINVAL etc. */
    int (*open)(const struct view_options *options, struct target *target, void **out_state,
                struct loader **out_loader, struct err *err);
    /* After load, before attach; may be NULL. */
    int (*ready)(void *state, struct err *err);
    /* Every few milliseconds while tracing; may be NULL. */
    void (*tick)(void *state);
    /* Fill report with what was seen since the last call (final: since the start). */
    void (*collect)(void *state, struct report *report);
    /* After detach: write what is written at the end; may be NULL. */
    int (*finish)(void *state, struct err *err);
    void (*close)(void *state);
};
