/* A report as text: a table refreshed in place on a terminal, plain lines elsewhere. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "report.h"

struct screen_options {
    int rows_max; /* of each table */
    int columns; /* width; 0: no limit */
    bool colour;
    bool utf8; /* bars of blocks, else of ASCII */
};

void screen_print(const struct report *report, const struct screen_options *options,
                  struct buf *out);

/* "1.2ms" into out. */
void screen_duration(double ns, char out[16]);
