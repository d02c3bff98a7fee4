/* Is this Redis one that keeps what it is given? Asked once at start. */
#pragma once

#include "base/err.h"

struct conn;

/* 0; -EPERM with text where maxmemory-policy lets Redis throw keys away: a scheduler whose tasks
 * may be evicted loses them. Of a Redis Cluster every master is asked. A user without the right to
 * INFO passes: nothing can be known. Waits for the answer. */
int redis_check(struct conn *conn, struct err *err);
