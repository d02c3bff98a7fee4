/* Two revisions built and measured side by side, under this laboratory and its scenarios.
 *
 * Both trees are built by revision.h; counts are written as two result sets, so that compare.h
 * judges them as it judges committed ones; then pairs are timed. What is measured lies in
 *
 *   $XDG_CACHE_HOME/codeq-lab/compare/<build A>_<build B>_<laboratory>/
 *
 * until the comparison is whole, so that one that was killed goes on where it stopped; then it is
 * removed. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "compare_timed.h"
#include "env.h"
#include "result.h"
#include "revision.h"

#define COMPARE_SCENARIOS_MAX 64

struct compare_fresh_options {
    const char *a; /* revisions, or paths of drivers */
    const char *b;
    const char *scenarios_dir;
    const char *const *scenarios; /* ids; none: the default one */
    size_t scenario_count;
    bool counts_only;
    int64_t repeats; /* of the counts; 0: as the scenario says */
    bool even_same; /* measure one program against itself */
    int64_t budget_ns; /* 0: none */
    uint64_t seed;
};

struct compare_fresh {
    struct revision a;
    struct revision b;
    bool same_program; /* equal bytes; nothing was measured unless even_same */
    char reason[400]; /* why it cannot be compared; "" */
    char env8[ENV_ID_BYTES];
    char dir[RESULT_PATH_MAX]; /* the work folder; "" before it is made */
    char set[2][RESULT_PATH_MAX]; /* A's and B's result set */
    int lock; /* of the work folder; -1 */
    char scenarios[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES];
    struct compare_timed *timed[COMPARE_SCENARIOS_MAX]; /* NULL: not timed */
    size_t scenario_count; /* whose counts are whole */
    char left_out[600]; /* what the budget left out; "" */
    double sec;
};

/* Build and measure. 0, also with a reason or same_program; or with text: -ENOENT (no such
 * revision or scenario), -EIO (does not build), -EINTR (what is measured is kept), or what failed.
 * The caller calls compare_fresh_fini in any case. */
int compare_fresh_run(struct compare_fresh *out, const struct compare_fresh_options *options,
                      struct err *err);

/* The comparison is whole: what was measured is no longer needed. */
void compare_fresh_forget(struct compare_fresh *fresh);
void compare_fresh_fini(struct compare_fresh *fresh);
