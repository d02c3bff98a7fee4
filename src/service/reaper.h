/* The background sweep: expired leases are taken back and delayed tasks made ready when they are
 * due, in order of deadline, by a timer to the nearest one of each queue shard.
 *
 * There is no leader. Every thread sweeps for the deadlines it has itself seen (the leases it gave
 * out, the delays it wrote, what a sweep's answer names next); sweeps are atomic and bounded, so
 * two at once only share the work. What a codeqd that died has left is found by thread 0: a look
 * every REAPER_DISCOVERY_NS for keys of leased or delayed tasks, which exist only while there are
 * any. An idle queue therefore costs nothing. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "service/service.h"

#define REAPER_DISCOVERY_NS (15 * NS_PER_SEC)
#define REAPER_SWEEP_TASKS 256 /* of each kind in one call */
#define REAPER_SWEEPS_AT_ONCE 4 /* of one shard, when more is due than one takes */

struct reaper;

struct reaper *reaper_new(struct service *service);
void reaper_free(struct reaper *reaper); /* after store_close and conn_close */

/* A lease or delay of this shard ends at due_ms, Unix ms by Redis's clock. */
void reaper_due(struct reaper *reaper, const struct store_queue *queue, int64_t due_ms);

/* Redis's clock read now_ms just now; and what it should read by our clock. */
void reaper_clock(struct reaper *reaper, int64_t now_ms);
int64_t reaper_now_ms(const struct reaper *reaper);
