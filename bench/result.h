/* A result set on disk: where it lies, its files, its checksums. Format: results/README.md.
 *
 * Files are written whole: to NAME.tmp, then renamed. runs.ndjson alone grows by appended lines,
 * each one write. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#define RESULT_SET_SCHEMA "codeq-lab.set/1"
#define RESULT_PATH_MAX 1024
#define RESULT_FILE_BYTES_MAX (64 * 1024 * 1024)
#define RESULT_RUNS_MAX 10000 /* lines of one runs.ndjson */

/* What was measured: what git says of a folder, and the program. Hashes are "none" outside a
 * checkout. */
struct result_commit {
    char root[RESULT_PATH_MAX]; /* top of the checkout, or the folder itself */
    char commit[80];
    char tree[80];
    char parent[80];
    bool dirty; /* files other than results/ differ from the commit */
    char program[RESULT_PATH_MAX]; /* for the provenance; "" when not known */
};
void result_commit_read(const char *dir, struct result_commit *out);

/* "<commit>", "<commit>-dirty" or "none". */
void result_commit_folder(const struct result_commit *commit, char *out, size_t bytes);

/* mkdir -p. 0 or negative errno with text. */
int result_make_dirs(const char *path, struct err *err);

int result_write_file(const char *path, const char *data, size_t bytes, struct err *err);

/* The whole file; the caller frees it. -ENOENT without it, -EFBIG above RESULT_FILE_BYTES_MAX. */
int result_read_file(const char *path, char **out_text, size_t *out_bytes, struct err *err);

/* Append take_line and a newline in one write. */
int result_append_run(const char *path, struct json *take_line, struct err *err);

/* The lines of a runs.ndjson. Lines are numbered from 1 in texts. The last line may be cut off (a
 * kill): *out_cut_bytes says where it begins when allow_cut, else it is an error as any broken
 * line. -EBADMSG with "line N: why"; -EOPNOTSUPP when a line has a newer version. */
struct result_runs {
    struct json **lines;
    size_t count;
    int64_t cut_at; /* file is whole up to here */
    bool cut;
};
int result_runs_read(const char *path, bool allow_cut, struct result_runs *out, struct err *err);
void result_runs_free(struct result_runs *runs);

/* Write manifest.json of the set in set_dir from what lies there. */
int result_write_manifest(const char *set_dir, const struct result_commit *commit, const char *env8,
                          struct err *err);

/* Every regular file below set_dir but manifest.json, report.html, *.tmp and *.partial, as sorted
 * relative paths. -E2BIG above 10,000 files. result_list_free frees. */
struct result_list {
    char **paths;
    size_t count;
};
int result_list_files(const char *set_dir, struct result_list *out, struct err *err);
void result_list_free(struct result_list *list);

/* The set folder under results_dir ("<commit>/<env8>") whose manifest was written last, by its
 * own words. -ENOENT when there is none. */
int result_newest(const char *results_dir, char out[RESULT_PATH_MAX], struct err *err);
