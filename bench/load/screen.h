/* The load run on the screen: a live picture while it goes, a table when it is over.
 *
 * On a terminal the picture is redrawn in place and erased at the end; elsewhere a plain line a
 * second. Both go to the stream given (stderr); the table goes to stdout's stream. One thread. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "load/load.h"
#include "load/slo.h"

#define SCREEN_SPARK_COLUMNS 48

struct load_screen {
    FILE *out;
    bool terminal;
    bool colour;
    const char *title;
    int lines; /* drawn and to be erased */
    int64_t last_line_ns;
    double spark[SCREEN_SPARK_COLUMNS]; /* claim p99 in ms, newest last */
    int spark_count;
    double codeqd_cpu_ratio,
        redis_cpu_ratio; /* of a core, since the last picture; NAN: not known */
};

/* title is borrowed. terminal: draw in place. */
void load_screen_init(struct load_screen *screen, FILE *out, bool terminal, bool colour,
                      const char *title);
void load_screen_draw(struct load_screen *screen, const struct load_progress *progress);
void load_screen_erase(struct load_screen *screen);

/* The figures that objectives may name. Names are static. Returns how many, at most max. */
#define LOAD_FIGURES_MAX 64
size_t load_figures(const struct load_result *result, struct slo_figure *out, size_t max);

/* Per endpoint: count, p50 p90 p99 p99.9 max from the intended start, failures; then the account of
 * tasks, waits, lag. Quantiles with fewer than 20 samples beyond them are shown as "-". */
void load_print_table(FILE *out, const struct load_result *result);

/* "45.2 us", "3.10 ms", "1.25 s": three digits and a unit. */
const char *load_format_ns(int64_t ns, char *text, size_t bytes);
