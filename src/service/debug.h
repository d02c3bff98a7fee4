/* The debug listener: a second address, of this machine only, on which a running codeqd tells where
 * it spends its CPU time. A thread and a loop of its own; the servers' threads know nothing of it.
 *
 *   GET /debug/profile?seconds=N   N in 1..DEBUG_SECONDS_MAX, 30 without it; after them 200 with a
 *                                  gzipped pprof profile (`go tool pprof`, speedscope), in ns of
 *                                  CPU. 400: N is wrong; 403: asked by a name that is not this
 *                                  machine's; 409: another profile is under way.
 *
 * debug_start and debug_stop from the main thread; debug_stop when the servers' threads have ended.
 */
#pragma once

#include "base/err.h"

#define DEBUG_SECONDS_MAX 300
#define DEBUG_SECONDS_DEFAULT 30

struct debug;

/* NULL with text: listen_on is no loopback address, is taken, or there is no thread. */
struct debug *debug_start(const char *listen_on, struct err *err);
void debug_stop(struct debug *debug); /* a profile under way ends without an answer */

/* Where it listens, with the port the system chose. */
const char *debug_address(const struct debug *debug);
