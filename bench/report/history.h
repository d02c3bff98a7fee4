/* The history page: small multiples of each metric over the commits, with where it changed.
 *
 * Everything that comes from files and from git is escaped. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"

/* Result sets beside the page: index.html of a site links to a page each. */
struct history_page_set {
    const char *commit; /* as in results/: may end in -dirty */
    const char *env8;
    const char *created;
    const char *page; /* file name; "" without one */
};

struct history_page {
    const struct json *const
        *answers; /* what history --json prints, one a scenario and environment */
    size_t answer_count;
    const struct history_page_set *sets; /* newest first */
    size_t set_count;
    bool site; /* comparisons have pages: history_compare_page */
    const char *(*subject)(void *context, const char *commit); /* never NULL */
    void *context;
};

/* File name of the page that compares two commits of an environment. */
void history_compare_page(const char *a, const char *b, const char *env8, char *out, size_t bytes);

void history_print(const struct history_page *page, struct buf *out);
