/* What a machine can and cannot measure, each with what to do. Plain data, no memory of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define DOCTOR_CHECKS_MAX 32

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_LIMITED, /* works, with less certainty or less detail */
    DOCTOR_MISSING, /* that part cannot be measured here */
};

struct doctor_check {
    const char *name; /* "valgrind" */
    enum doctor_verdict verdict;
    char found[200]; /* what is there */
    char advice[240]; /* what to do; "" when all is well */
};

struct doctor_report {
    struct doctor_check checks[DOCTOR_CHECKS_MAX];
    size_t count;
};

/* `codeq-bench run` cannot work without it. */
bool doctor_blocks_run(const struct doctor_check *check);

const char *doctor_verdict_name(enum doctor_verdict verdict); /* "ok", "limited", "missing" */

/* root: "" for the machine; a folder that holds proc/ and sys/ for tests. Programs are looked up in
 * PATH in any case. */
void doctor_examine(struct doctor_report *report, const char *root);
