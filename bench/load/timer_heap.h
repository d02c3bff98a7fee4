/* Timers in order of time: a binary heap of nodes that live inside their owners.
 *
 * The heap holds pointers only; its memory is fixed by timer_heap_init. A node is in at most one
 * heap. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct timer {
    int64_t at_ns;
    size_t index; /* in the heap; TIMER_NOT_SET when not there */
};

#define TIMER_NOT_SET SIZE_MAX

struct timer_heap {
    struct timer **timers;
    size_t count;
    size_t capacity;
};

/* Room for capacity timers. 0 or -ENOMEM. */
int timer_heap_init(struct timer_heap *heap, size_t capacity);
void timer_heap_fini(struct timer_heap *heap);

/* Set to at_ns, also when it is set already. The heap must have room. */
void timer_set(struct timer_heap *heap, struct timer *timer, int64_t at_ns);

/* Take out; nothing happens when it is not set. */
void timer_clear(struct timer_heap *heap, struct timer *timer);

/* The earliest; NULL when none is set. */
static inline struct timer *timer_first(const struct timer_heap *heap)
{
    return heap->count > 0 ? heap->timers[0] : NULL;
}
