#include "sched/backoff.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Park and Miller's generator: exact in the doubles of Lua as well as here.
 * Source: Park, Miller, "Random number generators: good ones are hard to find" (1988), with the
 * multiplier 48271 of their 1993 remark. */
#define JITTER_MULTIPLIER INT64_C(48271)
#define JITTER_MODULUS INT64_C(2147483647)

static const char *const kind_names[] = {
    [BACKOFF_FIXED] = "fixed",
    [BACKOFF_LINEAR] = "linear",
    [BACKOFF_EXPONENTIAL] = "exponential",
    [BACKOFF_EXP_EQUAL_JITTER] = "exp_equal_jitter",
    [BACKOFF_EXP_FULL_JITTER] = "exp_full_jitter",
};
#define KINDS (sizeof kind_names / sizeof kind_names[0])

const char *backoff_kind_name(enum backoff_kind kind)
{
    return (size_t)kind < KINDS ? kind_names[kind] : "?";
}

int backoff_kind_parse(const char *text, enum backoff_kind *out, struct err *err)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(text, kind_names[i]) == 0) {
            *out = (enum backoff_kind)i;
            return 0;
        }
    }
    return err_set(err, -EINVAL,
                   "backoff '%s' is unknown: one of fixed, linear, exponential, exp_equal_jitter, "
                   "exp_full_jitter",
                   text);
}

bool backoff_policy_valid(const struct backoff_policy *policy)
{
    return (size_t)policy->kind < KINDS && policy->base_ms >= 0 &&
           policy->base_ms <= BACKOFF_MS_MAX && policy->max_ms >= 0 &&
           policy->max_ms <= BACKOFF_MS_MAX;
}

static int64_t capped(int64_t ms, int64_t max_ms)
{
    return ms < max_ms ? ms : max_ms;
}

/* base * 2^attempts, capped: never past max_ms, so never near overflow. */
static int64_t exponential(const struct backoff_policy *policy, uint16_t attempts)
{
    int64_t ms = capped(policy->base_ms, policy->max_ms);
    for (uint16_t i = 0; i < attempts && ms != 0 && ms < policy->max_ms; i++) {
        ms = capped(ms * 2, policy->max_ms);
    }
    return ms;
}

/* Uniform in 0..span. In doubles, operation by operation as the script does it, so that both round
 * alike. */
static int64_t jitter(int64_t span, uint32_t seed)
{
    int64_t x = seed % (JITTER_MODULUS - 1) + 1;
    x = x * JITTER_MULTIPLIER % JITTER_MODULUS;
    x = x * JITTER_MULTIPLIER % JITTER_MODULUS;
    return (int64_t)((double)x / (double)JITTER_MODULUS * (double)(span + 1));
}

int64_t backoff_delay_ms(const struct backoff_policy *policy, uint16_t attempts, uint32_t seed)
{
    int64_t ms = 0;
    switch (policy->kind) {
    case BACKOFF_FIXED:
        return capped(policy->base_ms, policy->max_ms);
    case BACKOFF_LINEAR:
        return capped(policy->base_ms * attempts, policy->max_ms);
    case BACKOFF_EXPONENTIAL:
        return exponential(policy, attempts);
    case BACKOFF_EXP_EQUAL_JITTER:
        ms = exponential(policy, attempts);
        return ms / 2 + jitter(ms - ms / 2, seed);
    case BACKOFF_EXP_FULL_JITTER:
        return jitter(exponential(policy, attempts), seed);
    }
    return ms;
}
