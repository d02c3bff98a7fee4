#include "load/timer_heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int timer_heap_init(struct timer_heap *heap, size_t capacity)
{
    *heap = (struct timer_heap){.capacity = capacity};
    heap->timers = calloc(capacity > 0 ? capacity : 1, sizeof(struct timer *));
    return heap->timers != NULL ? 0 : -ENOMEM;
}

void timer_heap_fini(struct timer_heap *heap)
{
    free(heap->timers);
    *heap = (struct timer_heap){0};
}

static void place(struct timer_heap *heap, size_t index, struct timer *timer)
{
    heap->timers[index] = timer;
    timer->index = index;
}

static void up(struct timer_heap *heap, size_t index)
{
    struct timer *timer = heap->timers[index];
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (heap->timers[parent]->at_ns <= timer->at_ns) {
            break;
        }
        place(heap, index, heap->timers[parent]);
        index = parent;
    }
    place(heap, index, timer);
}

static void down(struct timer_heap *heap, size_t index)
{
    struct timer *timer = heap->timers[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count &&
            heap->timers[child + 1]->at_ns < heap->timers[child]->at_ns) {
            child++;
        }
        if (timer->at_ns <= heap->timers[child]->at_ns) {
            break;
        }
        place(heap, index, heap->timers[child]);
        index = child;
    }
    place(heap, index, timer);
}

void timer_set(struct timer_heap *heap, struct timer *timer, int64_t at_ns)
{
    timer_clear(heap, timer);
    assert(heap->count < heap->capacity);
    timer->at_ns = at_ns;
    heap->timers[heap->count] = timer;
    up(heap, heap->count++);
}

void timer_clear(struct timer_heap *heap, struct timer *timer)
{
    size_t index = timer->index;
    if (index == TIMER_NOT_SET) {
        return;
    }
    timer->index = TIMER_NOT_SET;
    struct timer *last = heap->timers[--heap->count];
    if (last != timer) {
        place(heap, index, last);
        down(heap, index);
        up(heap, last->index);
    }
}
