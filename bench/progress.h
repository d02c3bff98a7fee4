/* One line on stderr that says what runs and how long it will take; only on a terminal, erased at
 * the end. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown; /* stderr is a terminal */
    int64_t started_ns;
    double done, total; /* seconds as guessed beforehand */
};

void progress_start(struct progress *progress, double total_guess_sec);
void progress_step(struct progress *progress, const char *what, double guess_sec);
void progress_end(struct progress *progress); /* accepts a zeroed one */
