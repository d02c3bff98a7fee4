/* The first screen: what was compared, where, the verdict with its cause, and the metrics that
 * matter most. Inside the report only. */
#pragma once

#include "base/buf.h"
#include "base/json.h"
#include "report/report.h"
#include "report/section.h"

struct overview_scenario {
    char id[128];
    struct section_side a;
    struct section_side b; /* summary NULL: none */
};

struct overview {
    const struct report_input *input;
    const struct json *manifest[2]; /* [1] NULL: one set */
    const struct json *env[2];
    const struct json *selftest; /* the newest; NULL: none */
    const struct overview_scenario *scenarios;
    size_t count;
};

void overview_print(struct buf *out, const struct overview *overview);

/* Environment, commit, toolchain, what disturbed the runs, the laboratory's last test of itself. */
void provenance_print(struct buf *out, const struct overview *overview);
