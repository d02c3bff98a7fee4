/* Profiles of the service while the load runs: where codeqd and redis-server use the CPU, then
 * where they wait, each for so many seconds, by `codeq-trace profile` as a child process.
 *
 * Watching costs the watched: record in a run whose figures are not kept. Call live_profile_tick
 * from the load's progress; it starts and reaps the children and never blocks. live_profile_end
 * stops what still runs. What was not measured says why. Main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/child.h"
#include "base/err.h"
#include "base/json.h"

#define LIVE_PROFILE_SCHEMA "codeq-lab.live/1"
#define LIVE_PROFILE_FILE "live.json"
#define LIVE_PROFILE_SECONDS_MAX 300
#define LIVE_PROFILE_FREQUENCY_HZ 499 /* its cost falls on figures that nobody keeps */
#define LIVE_PROFILE_SETTLE_SECONDS 1 /* of load before the first sample */

enum live_kind { LIVE_ON_CPU, LIVE_OFF_CPU, LIVE_KINDS };

struct live_part {
    bool recorded;
    double seconds; /* that were watched */
    int64_t value; /* samples, or ns waited */
    int64_t dropped; /* samples that found no room */
    char *folded; /* as codeq-trace wrote it */
    char reason[256]; /* why it was not measured; "" while it is not over */
};

struct live_profile {
    const char *trace; /* path of codeq-trace */
    int64_t seconds;
    char pids[64];
    char dir[64]; /* of the children's output; "" before the first */
    int kind; /* that is being recorded; LIVE_KINDS: done */
    bool started;
    struct child child;
    struct live_part parts[LIVE_KINDS];
};

/* trace: path of codeq-trace, or "" where there is none, which is said as the reason. */
void live_profile_init(struct live_profile *live, const char *trace, int64_t seconds);

/* The processes to watch; redis 0: codeqd alone. */
void live_profile_watch(struct live_profile *live, pid_t codeqd, pid_t redis);

/* elapsed_ns: since the load began. True when both are over. */
bool live_profile_tick(struct live_profile *live, int64_t elapsed_ns);

/* The load is over: keep what was seen so far, end the child, remove its files. */
void live_profile_end(struct live_profile *live);
void live_profile_fini(struct live_profile *live);

/* "oncpu" or "offcpu": the stem of the files. */
const char *live_kind_name(enum live_kind kind);

/* Put NAME.folded, NAME.pb.gz and NAME.svg of each part that was recorded, and live.json, into dir,
 * a scenario's folder; those of an earlier measurement go. live NULL: they only go.
 * 0 or negative errno with text. */
int live_profile_write(const struct live_profile *live, const char *dir, struct err *err);

/* Of dir's live.json, where there is one: stacks add up to what it says. 0, -EBADMSG with text that
 * begins with the file's name, -EOPNOTSUPP for a newer schema. */
int live_profile_verify(const char *dir, struct err *err);
