#include "load_cores.h"

const char *load_placement_name(enum load_placement placement)
{
    static const char *const names[] = {"apart", "two-cores", "free"};
    return names[placement];
}

void load_cores_choose(struct load_cores *cores, enum load_placement wanted)
{
    *cores = (struct load_cores){.placement = LOAD_FREE};
    if (wanted == LOAD_FREE || sched_getaffinity(0, sizeof cores->all, &cores->all) != 0 ||
        CPU_COUNT(&cores->all) < 2) {
        return;
    }
    int first = 0;
    while (!CPU_ISSET(first, &cores->all)) {
        first++;
    }
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &cores->all)) {
        last--;
    }
    cores->placement = wanted;
    CPU_SET(first, &cores->generator);
    if (wanted == LOAD_TWO_CORES) {
        CPU_SET(last, &cores->service);
    } else {
        cores->service = cores->all;
        CPU_CLR(first, &cores->service);
    }
}

void load_cores_enter(const struct load_cores *cores)
{
    if (cores->placement != LOAD_FREE) {
        sched_setaffinity(0, sizeof cores->generator, &cores->generator);
    }
}

void load_cores_leave(const struct load_cores *cores)
{
    if (cores->placement != LOAD_FREE) {
        sched_setaffinity(0, sizeof cores->all, &cores->all);
    }
}
