/* Where this process spends its CPU time: a timer on each thread's own CPU clock interrupts it, and
 * the handler notes the stack and the time that went by.
 *
 * Needs no rights. A thread that does not run is not interrupted; without a profile under way there
 * is no timer and no cost. Threads that begin later are not watched. Start, drain and stop from one
 * thread; one struct for the process, freed when the watched threads are gone (its handler's memory
 * must outlive a signal under way). */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/stacks.h"

#define CPU_PROFILE_PERIOD_NS (10 * INT64_C(1000000)) /* of CPU time, or the kernel's tick */
#define CPU_PROFILE_THREADS_MAX 256
#define CPU_PROFILE_DEPTH_MAX 96

struct cpu_profile;

struct cpu_profile *cpu_profile_new(void);
void cpu_profile_free(struct cpu_profile *profile);

/* 0, or negative errno with text. */
int cpu_profile_start(struct cpu_profile *profile, struct err *err);

/* Take over what was sampled: call it at least every 500 ms, or samples find no room; their time
 * then goes to the thread's next sample. */
void cpu_profile_drain(struct cpu_profile *profile);

/* The stacks, in ns of CPU time, the caller's; NULL when none is under way. out_lost may be NULL.
 */
struct stacks *cpu_profile_stop(struct cpu_profile *profile, uint64_t *out_lost);
