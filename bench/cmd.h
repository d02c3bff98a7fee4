/* The subcommands of codeq-bench: each is one cmd_x.c and one row of the table in codeq-bench.c.
 *
 * A command gets its own argc and argv (argv[0] is its name), prints, and returns an exit code. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Exit codes of codeq-bench. Source: CONTRACTS, "Exit codes". */
enum cmd_exit {
    CMD_OK = 0,
    CMD_WORSE = 1,
    CMD_USAGE = 2, /* or the environment */
    CMD_NOT_COMPARABLE = 3,
    CMD_INCONCLUSIVE = 4,
    CMD_UNREADABLE = 5, /* newer, broken or failed verify */
    CMD_LAB_FAILED = 6, /* the lab's own check */
    CMD_INTERRUPTED = 130,
};

/* Print "codeq-bench: TEXT" on stderr and return code. */
int cmd_fail(int code, const struct err *err);

/* A signal to stop has come (SIGINT, SIGTERM or SIGHUP). Long work looks at it between steps; waits
 * end with EINTR. */
bool cmd_stopped(void);

int cmd_run(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_heap(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_load(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_selftest(int argc, char **argv);
int cmd_backfill(int argc, char **argv);
int cmd_bisect(int argc, char **argv);
int cmd_env(int argc, char **argv);
int cmd_prune(int argc, char **argv);
int cmd_history(int argc, char **argv);
