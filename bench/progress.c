#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

void progress_start(struct progress *progress, double total_guess_sec)
{
    *progress = (struct progress){
        .shown = isatty(STDERR_FILENO) == 1,
        .started_ns = clock_monotonic_ns(clock_system()),
        .total = total_guess_sec,
    };
}

/* The machine's speed is learnt from what is done: the guess is scaled by it. */
void progress_step(struct progress *progress, const char *what, double guess_sec)
{
    if (progress->shown) {
        double spent = (double)(clock_monotonic_ns(clock_system()) - progress->started_ns) / 1e9;
        double pace = progress->done > 1 ? spent / progress->done : 1;
        double left = (progress->total - progress->done) * pace;
        fprintf(stderr, "\r\033[Kcodeq-bench: %s, about %.0f s left", what, left < 1 ? 1 : left);
        fflush(stderr);
    }
    progress->done += guess_sec;
}

void progress_end(struct progress *progress)
{
    if (progress->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress->shown = false;
    }
}
