/* Reports as files: of one set or two, of the history, and the site of everything below results/.
 *
 * Comparing is left to `codeq-bench compare`, and series to `codeq-bench history`, each in a
 * process of its own: a page shows what they print, word for word. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"

struct report_request {
    const char *a; /* set folders */
    const char *b; /* NULL: one set */
    const char *scenario; /* NULL: all */
    const struct json *comparison; /* of the two; NULL: it is made */
};

/* Write the page; *out_bytes may be NULL. 0, or with text: -EBADMSG a set is broken, -ENOENT, or
 * what else failed. */
int report_write(const struct report_request *request, const char *path, size_t *out_bytes,
                 struct err *err);

/* The page beside what a run or a comparison has just written, and a line on out that says where:
 * SET/report.html, or results/.reports/A-B.html. A failure is a line on stderr and nothing else:
 * the result itself is there. */
void report_beside_set(const char *set_dir, FILE *out);
void report_beside_comparison(const char *results_dir, const char *a_dir, const char *b_dir,
                              const struct json *comparison, FILE *out);

/* The history of all sets below results_dir as one page. */
int report_write_history(const char *results_dir, const char *path, size_t *out_bytes,
                         struct err *err);

/* index.html, a page for each set and one for each pair of neighbours between which a metric has
 * changed, in dir, which is made. *out_pages counts them. */
int report_write_site(const char *results_dir, const char *dir, size_t *out_pages, struct err *err);
