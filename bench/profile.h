/* Profiles of a measured program: how Valgrind is started, and what is kept of what it wrote.
 *
 * profile_argv gives what to put before the program's own argv; the tool writes profile_raw_name()
 * into the program's working folder. profile_keep reads one raw file (or two: N and 2N operations),
 * checks it, and writes canonical plain text into a scenario's folder of a result set: equal
 * profiles are equal files, whatever folder, environment or process id they came from.
 *
 *   callgrind  callgrind.out   the file of the last run, with callers; opens in callgrind_annotate
 *              functions.tsv   function, object, file, self, inclusive, calls
 *              lines.tsv       file, line, function, self
 *              folded.txt      exact stacks from the region frame down, self instructions
 *   massif     massif.out      opens in ms_print
 *   dhat       dhat.json       opens in dh_view.html
 *              heap.tsv        allocation site, blocks, bytes, live and peak
 *
 * The tables hold the difference of the two runs where two are given (so that start-up falls out
 * and a figure divided by the operations is the slope), else the one run. Their first lines say for
 * how many operations they stand.
 *
 * The measured program brackets the region with CALLGRIND_START_INSTRUMENTATION and
 * CALLGRIND_STOP_INSTRUMENTATION around one call of a noinline function; the warm-up runs in
 * another. Nothing here is kept between calls; main thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The frame that every stack of the region must reach. */
#define PROFILE_REGION "measured_region"
#define PROFILE_CALLERS_MAX 40 /* frames callgrind keeps of a stack */

enum profile_tool { PROFILE_CALLGRIND, PROFILE_MASSIF, PROFILE_DHAT };
#define PROFILE_TOOL_COUNT 3

const char *profile_tool_name(enum profile_tool tool); /* "callgrind" */

/* "valgrind", its flags, NULL: static storage. Run it in a folder of its own, with no_aslr, a fixed
 * environment and LD_BIND_NOW=1, and the measured program by the same path text every time. */
const char *const *profile_argv(enum profile_tool tool);
const char *profile_raw_name(enum profile_tool tool); /* relative to the working folder */

/* One process run under the tool. */
struct profile_run {
    const char *dir; /* where the raw file lies */
    int64_t ops; /* operations inside the region, > 0 */
};

struct profile_keep_options {
    struct profile_run first; /* N operations */
    struct profile_run second; /* 2N; dir NULL: there is only one run */
    const char *region; /* NULL: PROFILE_REGION */
    const char *const *local_paths; /* prefixes to cut from every path, NULL-terminated; may be NULL
                                     */
    const char *out_dir; /* exists; files of the same name are replaced */
};

/* What the raw files say, [0] for the first run and [1] for the second. */
struct profile_totals {
    int64_t instructions[2]; /* callgrind: below the region frame */
    int64_t outside_instructions[2]; /* callgrind: between START, the region frame and STOP */
    int64_t blocks[2]; /* dhat, whole process */
    int64_t bytes[2];
    int64_t live_bytes[2]; /* dhat: at the end */
    int64_t peak_bytes[2]; /* massif: heap at the peak, without the allocator's own; dhat: t-gmax */
};

/* Read, check and keep. out_totals gets the fields of this tool only; the others stay.
 * 0, or with text: -ENOENT no raw file; -EBADMSG not a file of this tool, broken or inconsistent;
 * -ENODATA no instruction was counted in the region (the region frame is missing or inlined);
 * -ERANGE stacks are cut before the region frame (raise PROFILE_CALLERS_MAX) or the file is too
 * large; else negative errno of writing. Nothing is left half written. */
int profile_keep(enum profile_tool tool, const struct profile_keep_options *options,
                 struct profile_totals *out_totals, struct err *err);
