/* Fuzz targets only: with -DPLANT_OVERFLOW a mistake on purpose, to show that a target gets to
 * where it is planted. What was accepted is copied into room bytes without a look at its length;
 * seeds are at most that long, so a fuzzer has to get one step further by itself. */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static inline void fuzz_plant(const void *data, size_t bytes, size_t room)
{
#ifdef PLANT_OVERFLOW
    static char *volatile copy; /* volatile: else the compiler sees that nobody reads it */
    copy = malloc(room);
    memcpy(copy, data, bytes);
    free(copy);
#else
    (void)data, (void)bytes, (void)room;
#endif
}
