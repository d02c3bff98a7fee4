/* Tests only: a small git repository made of this tree's own driver sources, and running built
 * programs in it. Main thread only; assertions fail the running test. */
#pragma once

#include "base/test.h"

#include "base/clock.h"

#define REPO_TIMEOUT_NS (240 * NS_PER_SEC)

struct repo_fixture {
    const char *sources; /* the checkout; set by the test before repo_make */
    char root[64]; /* repo, cache (XDG_CACHE_HOME), tmp (TMPDIR) and tiny.json are in it */
    char repo[96];
    char tmp[96];
    char tiny[96]; /* a scenario of few operations */
};
extern struct repo_fixture fixture;

/* Tags: old (no driver), plain. */
void repo_make(void);
void repo_drop(void);

/* sh -eu in the repository; "$1" is the checkout. */
void repo_shell(const char *script);

struct answer {
    int code;
    char *out, *errors;
};
struct answer run_in(const char *dir, const char *const *argv);
void answer_free(struct answer *answer);

/* The exit code, and texts that stand in stdout and stderr. */
void expect(const struct answer *answer, int code, const char *out, const char *errors);
