/* A whole comparison as people and programs read it: one sentence, a terminal page, Markdown for a
 * pull request, one JSON object. All from the same struct. Prints to a buf; main thread only. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "compare.h"
#include "compare_fresh.h"
#include "set.h"

#define COMPARISON_NAME_BYTES 128

struct comparison_side {
    char name[COMPARISON_NAME_BYTES]; /* as it was asked for */
    char commit[80]; /* "" for a working tree */
    char subject[200]; /* "" when not known */
    char dir[RESULT_PATH_MAX]; /* its result set, as long as it is there; "" without one */
};

struct comparison {
    struct comparison_side a;
    struct comparison_side b;
    char env8[16];
    bool fresh; /* built and measured now */
    bool same_program; /* equal bytes of the program */
    double sec; /* fresh: how long it took */
    char reason[400]; /* nothing can be compared; "" */
    struct compare_scenario scenarios[COMPARE_SCENARIOS_MAX];
    struct compare_timed *timed[COMPARE_SCENARIOS_MAX]; /* NULL: not timed; borrowed */
    size_t count;
    char only_a[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES];
    char only_b[COMPARE_SCENARIOS_MAX][SCENARIO_ID_BYTES];
    size_t only_a_count, only_b_count;
    char left_out[600]; /* by the budget; "" */
};

/* worse before not comparable before inconclusive before better before same. */
enum verdict comparison_verdict(const struct comparison *comparison);

/* The verdict and its cause. */
void comparison_headline(const struct comparison *comparison, struct buf *out);

void comparison_text(const struct comparison *comparison, bool colour, struct buf *out);
void comparison_markdown(const struct comparison *comparison, struct buf *out);
/* codeq-lab.compare/1; the caller frees the text. */
char *comparison_json(const struct comparison *comparison, int exit_code);

/* "+0.5", "12", "1,234.50". */
const char *comparison_signed(double value, char out[SET_NUMBER_BYTES]);
const char *comparison_plain(double value, char out[SET_NUMBER_BYTES]);

/* A timed metric of which the screen saw something that is not settled. */
bool comparison_unsettled(const struct compare_timed *timed);
