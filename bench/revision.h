/* Any commit as built programs: its tree is taken out of git and built by meson into a cache that
 * is keyed by tree and toolchain, so that equal sources are built once and a rebase costs nothing.
 *
 *   $XDG_CACHE_HOME/codeq-lab/builds/<tree16>-<toolchain8>/{source,build}
 *
 * All paths are equally long, whatever the revision. A build that is cut off leaves nothing that
 * looks finished. Main thread only; needs git, meson, ninja and a compiler in PATH. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define REVISION_PATH_BYTES 1024

struct revision {
    char name[128]; /* as it was asked for */
    char commit[64]; /* full hash; "" for a working tree that differs from HEAD */
    char tree[64]; /* full hash */
    char subject[200]; /* first line of the commit's message; "" for a working tree */
    char program[REVISION_PATH_BYTES]; /* a driver that was given by its path; else "" */
    char build_dir[REVISION_PATH_BYTES]; /* of the built revision; "" before revision_build */
};

/* Resolve what git can name; "." is the working tree with everything that git does not ignore.
 * -ENOENT with text when git does not know it. repo: a folder inside the checkout. */
int revision_resolve(const char *repo, const char *name, struct revision *out, struct err *err);

/* name is the path of a program (it has a slash): nothing is to be resolved or built. False when it
 * is none. */
bool revision_take_program(const char *name, struct revision *out);

/* Called with a line of progress ("compiling 3f2a...: 12/60"); NULL: silent. */
typedef void revision_progress_fn(void *arg, const char *line);

/* Build one program of the revision ("codeq-drive", "codeqd") and what it needs, or find it in the
 * cache; another program of the same revision is added to the same folder. -EOPNOTSUPP with text
 * when the revision has no driver; -EIO with the end of the compiler's words when it does not
 * build; -EINTR when interrupted. */
int revision_build(const char *repo, struct revision *revision, const char *program,
                   revision_progress_fn *progress, void *progress_arg, struct err *err);

/* Where Nix builds: "now" holds the toolchain still at this program's own nixpkgs (the default),
 * "own" takes the one that each revision's flake.lock names. To be called before revision_build.
 * -EINVAL for another word, -ENOTSUP for "own" where nothing is built through Nix. */
int revision_toolchain(const char *word, struct err *err);

/* The path of a program of a built revision. */
void revision_program(const struct revision *revision, const char *program,
                      char out[REVISION_PATH_BYTES]);

/* Whether the two hold the same bytes of the program, so that a difference is noise by definition.
 */
bool revision_same_program(const struct revision *a, const struct revision *b, const char *program);

/* The commits of "A..B", oldest first: those that B's line of first parents has and A has not, so
 * that a merge counts as one commit. */
#define REVISION_LIST_MAX 100000
struct revision_list {
    char (*hashes)[64];
    size_t count;
};
/* -EINVAL: not of the form A..B; -ENOENT: git knows no such commit, or nothing lies between the
 * two; -E2BIG above REVISION_LIST_MAX. revision_list_free frees. */
int revision_list_read(const char *repo, const char *range, struct revision_list *out,
                       struct err *err);
void revision_list_free(struct revision_list *list);
