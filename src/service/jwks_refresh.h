/* Fetches the signing keys that a thread's auth asks for, on its loop. One thread. */
#pragma once

#include "base/err.h"
#include "service/auth.h"
#include "service/metrics.h"

struct ev_loop;
struct jwks_refresh;

/* NULL with text. Starts the first fetches at once; auth and metrics are borrowed. */
struct jwks_refresh *jwks_refresh_new(struct ev_loop *loop, struct auth *auth, struct clock *clock,
                                      struct metrics *metrics, struct err *err);
void jwks_refresh_free(struct jwks_refresh *refresh); /* before auth_free; NULL is fine */
