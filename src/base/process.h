/* What a process has used, as /proc tells it. Reads files of processes that may end at any moment:
 * -1 says that a figure could not be read. Any thread. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* CPU so far, all its living threads, in ns.
 * Source: /proc/PID/task/.../schedstat, first field, ns on a core. */
int64_t process_cpu_ns(pid_t pid);

/* Of its main thread alone: one read instead of one a thread, for loops that ask often. */
int64_t process_main_cpu_ns(pid_t pid);

/* Involuntary context switches of all its threads so far, and its major page faults.
 * Source: /proc/PID/task/.../status, /proc/PID/stat field 12. */
void process_pauses(pid_t pid, int64_t out[2]);

/* Resident set in KiB, now and at most so far. */
int64_t process_rss_kb(pid_t pid);
int64_t process_peak_kb(pid_t pid);
