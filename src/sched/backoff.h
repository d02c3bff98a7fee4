/* How long a returned task waits before it is ready again, and when it is given up.
 *
 * Pure functions; any thread. store/lua/give_back.lua computes the same from the same seed, and a
 * test holds the two together. Source: codeQ's backoff policies (base 5 s, max 900 s). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum backoff_kind {
    BACKOFF_FIXED = 0, /* base */
    BACKOFF_LINEAR, /* base * attempts */
    BACKOFF_EXPONENTIAL, /* base * 2^attempts */
    BACKOFF_EXP_EQUAL_JITTER, /* half of that, and a uniform share of the other half */
    BACKOFF_EXP_FULL_JITTER, /* uniform in 0..that */
};

struct backoff_policy {
    enum backoff_kind kind;
    int64_t base_ms; /* 0..BACKOFF_MS_MAX */
    int64_t max_ms; /* 0..BACKOFF_MS_MAX; caps every kind, and a delay asked for by nack */
};

#define BACKOFF_MS_MAX (INT64_C(7) * 24 * 3600 * 1000)
#define BACKOFF_POLICY_DEFAULT \
    ((struct backoff_policy){BACKOFF_EXP_FULL_JITTER, INT64_C(5000), INT64_C(900000)})

/* "fixed", "linear", "exponential", "exp_equal_jitter", "exp_full_jitter" (codeQ's names). */
const char *backoff_kind_name(enum backoff_kind kind);
int backoff_kind_parse(const char *text, enum backoff_kind *out, struct err *err);

bool backoff_policy_valid(const struct backoff_policy *policy);

/* The delay after `attempts` deliveries (1 after the first), 0..max_ms. seed is the jitter's
 * chance: any value in 0..2^31-1; kinds without jitter ignore it. */
int64_t backoff_delay_ms(const struct backoff_policy *policy, uint16_t attempts, uint32_t seed);

/* Attempts spent: the task goes to the dead letters instead of waiting. */
static inline bool backoff_exhausted(uint16_t attempts, uint16_t max_attempts)
{
    return attempts >= max_attempts;
}
