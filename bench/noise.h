/* What disturbed a run: two looks at the machine's counters, and their difference in words.
 *
 * Reads /proc only; a counter that cannot be read is -1 and is left out of the words. One thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct noise_sample {
    int64_t at_ns; /* monotonic */
    int64_t cpu_ticks; /* of all cores, all states */
    int64_t steal_ticks; /* the hypervisor ran somebody else */
    int64_t idle_ticks;
    int64_t context_switches; /* of the whole machine */
    int64_t major_faults;
    double load_1min;
    double mhz_min, mhz_max; /* over the cores; -1: not readable */
    int cores;
};

void noise_take(struct noise_sample *out);

struct noise {
    double steal_ratio; /* of the cores' time; -1: unknown */
    double busy_ratio; /* all cores, all processes */
    double context_switches_per_sec;
    double major_faults_per_sec;
    double load_1min;
    double mhz_min, mhz_max;
};

void noise_between(const struct noise_sample *before, const struct noise_sample *after,
                   struct noise *out);

/* own_busy_ratio: what the run itself used of all cores (0..1), so that others can be told apart.
 * One line, "quiet: ..." or "disturbed: 3.1 % steal; others used 40 % of the cores". Returns
 * how many disturbances it names. */
int noise_words(const struct noise *noise, double own_busy_ratio, char *out, size_t bytes);
