/* Service-level objectives: "claim.p99_ms <= 5", "errors == 0", "lost == 0".
 *
 * One comparison of a figure of the run with a number. Names and values come from the caller's
 * table, so a new figure is one row there. Plain structs, nothing allocated. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define SLO_NAME_BYTES 48

enum slo_compare { SLO_LESS, SLO_LESS_EQUAL, SLO_EQUAL, SLO_GREATER_EQUAL, SLO_GREATER };

struct slo {
    char name[SLO_NAME_BYTES];
    enum slo_compare compare;
    double limit;
};

struct slo_figure {
    const char *name;
    double value; /* NAN: not measured in this run */
};

enum slo_verdict { SLO_PASS, SLO_FAIL, SLO_UNKNOWN /* the figure was not measured */ };

/* -EINVAL with text that says what is wrong and shows a right one. */
int slo_parse(const char *text, struct slo *out, struct err *err);

/* -ENOENT with text that lists the names there are, when no figure has slo's name. */
int slo_find(const struct slo *slo, const struct slo_figure *figures, size_t count,
             const struct slo_figure **out_figure, struct err *err);

enum slo_verdict slo_check(const struct slo *slo, const struct slo_figure *figure);

const char *slo_compare_text(enum slo_compare compare);
