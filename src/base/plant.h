/* Planted regressions, for the laboratory's test of itself. Normal builds have none: PLANT_HERE is
 * empty unless `meson setup -Dplant=NAME -Dplant_at=FUNCTION` named one, and then it changes that
 * one function. `codeq-bench selftest` builds such programs and asks whether compare finds out.
 *
 * Any thread; figures are of the scenario scheduler-create-claim-complete. */
#pragma once

#if defined PLANT_INSTRUCTIONS || defined PLANT_BUSY_LOOP
/* Two instructions a turn, at -O1 and above; the cycle has 10,890. */
#define PLANT_SPIN(turns) \
    for (int plant_turn = 0; plant_turn < (turns); plant_turn++) { \
        __asm__ volatile(""); \
    }
#endif

#if defined PLANT_INSTRUCTIONS /* +1.5 % of the cycle's instructions */
#define PLANT PLANT_SPIN(82)
#elif defined PLANT_BUSY_LOOP /* +5 % */
#define PLANT PLANT_SPIN(272)
#elif defined PLANT_ALLOCATION /* one an operation */
#include <stdlib.h>
#define PLANT \
    void *plant_block = malloc(48); \
    __asm__ volatile("" : "+r"(plant_block) : : "memory"); \
    free(plant_block)
#elif defined PLANT_LEAK /* 64 B every tenth operation */
#include <stdlib.h>
#define PLANT \
    static unsigned plant_count; \
    if (++plant_count % 10 == 0) { \
        void *plant_block = malloc(64); \
        __asm__ volatile("" : : "r"(plant_block) : "memory"); \
    }
#elif defined PLANT_STALL /* 5 ms, one operation in 500 */
#include <time.h>
#define PLANT \
    static unsigned plant_count; \
    if (++plant_count % 500 == 0) { \
        nanosleep(&(struct timespec){0, 5000000}, NULL); \
    }
#else
#define PLANT
#endif

/* In a function that can be named: PLANT_HERE(CLAIM). Expands at most where PLANT_AT says. */
#define PLANT_AT_CREATE 1
#define PLANT_AT_CLAIM 2
#define PLANT_AT_COMPLETE 3
#ifdef PLANT_AT
#define PLANT_HERE(where) \
    if (PLANT_AT == PLANT_AT_##where) { \
        PLANT; \
    }
#else
#define PLANT_HERE(where)
#endif
