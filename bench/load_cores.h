/* Who runs on which cores during a load.
 *
 * A generator that shares its cores with what it measures takes them away from it just when an
 * arrival is due, and is kept from its schedule by it: on two cores at 20,000 creates a second p99
 * is 8 to 40 ms so, and 0.3 ms with a core of its own. Main thread only. */
#pragma once

#include <sched.h>
#include <stdbool.h>

enum load_placement {
    LOAD_APART, /* the first core is the generator's, the others codeqd's and Redis' */
    LOAD_TWO_CORES, /* the same, but codeqd and Redis share the last core */
    LOAD_FREE, /* the kernel moves all three; the only one where just one core may be used */
};

/* As result sets say it. */
const char *load_placement_name(enum load_placement placement);

struct load_cores {
    enum load_placement placement; /* the one that was possible */
    cpu_set_t all, generator, service;
};

/* Divide the cores that this thread may use. */
void load_cores_choose(struct load_cores *cores, enum load_placement wanted);

/* This thread goes to the generator's cores, and back to all; nothing where they are free. */
void load_cores_enter(const struct load_cores *cores);
void load_cores_leave(const struct load_cores *cores);
