/* Finding committed result sets by anything git can name, and what the readers of sets share.
 *
 * A name is a set's folder, a folder inside one, or a revision: commit, tag, HEAD~3, "." for the
 * working tree. A revision's sets are those of its commit; else those of a commit with the same
 * tree (a rebase keeps it), where results/ does not count (committing a set changes the tree that
 * holds it). Main thread only. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"
#include "result.h"

#define SET_COUNT_MAX 64

struct result_set {
    char dir[RESULT_PATH_MAX];
    char commit[80]; /* measured; as in the manifest */
    char env8[16];
    char created[32];
};

struct set_list {
    struct result_set sets[SET_COUNT_MAX]; /* newest first */
    size_t count;
};

/* The sets that `name` means; NULL: the newest one under results_dir.
 * 0 with at least one; -ENOENT with text; -EBADMSG or -EOPNOTSUPP when a manifest is broken or
 * newer than this reader (text names file and line). */
int set_find(const char *results_dir, const char *name, struct set_list *out, struct err *err);

/* The scenario of a set to show: `wanted`, or with NULL the one whose file `needs` was written
 * last (of equal ones the default scenario, then by name). out_dir: its folder.
 * -ENOENT with text that says which scenarios have the file. */
int set_scenario(const struct result_set *set, const char *wanted, const char *needs,
                 char out_dir[RESULT_PATH_MAX], struct err *err);

/* A JSON file of a set whose schema must be `schema` ("codeq-lab.summary/1"). -EBADMSG, -ENOENT,
 * -EOPNOTSUPP when it is newer; text names file and line. The caller frees it. */
int set_read_json(const char *path, const char *schema, struct json **out, struct err *err);

/* "1a2b3c4d" or "1a2b3c4d-dirty" for people. */
void set_short_name(const struct result_set *set, char out[32]);

/* Split [SET] and options that top, list and heap share: --results DIR, --scenario ID, --json,
 * --help. */
struct set_options {
    const char *results_dir;
    const char *scenario;
    const char *set;
    int as_json;
};

/* Find the set and the scenario's folder of options. 0, or the exit code of cmd.h with text. */
int set_open(const struct set_options *options, const char *needs, struct result_set *out_set,
             char out_dir[RESULT_PATH_MAX], struct err *err);

/* 1234567.89 -> "1,234,567.89", with `decimals` of them. */
#define SET_NUMBER_BYTES 48
const char *set_number(double value, int decimals, char out[SET_NUMBER_BYTES]);
