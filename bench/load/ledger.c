#include "load/ledger.h"

#include <errno.h>
#include <stdlib.h>

enum {
    FLAG_CREATED = 1,
    FLAG_DELAYED = 2,
    FLAG_DELIVERED = 4,
    FLAG_FINISHED = 8,
    FLAG_MAY_RETURN = 16,
    FLAG_CRASHED = 32,
};

static struct ledger_entry *entry_of(const struct ledger *ledger, uint64_t seq)
{
    return &ledger->chunks[seq / LEDGER_CHUNK][seq % LEDGER_CHUNK];
}

static bool add_chunk(struct ledger *ledger, uint64_t index)
{
    if (ledger->chunks[index] == NULL) {
        ledger->chunks[index] = calloc(LEDGER_CHUNK, sizeof(struct ledger_entry));
    }
    return ledger->chunks[index] != NULL;
}

int ledger_init(struct ledger *ledger, uint32_t queue_count, uint64_t tasks_expected,
                struct err *err)
{
    *ledger = (struct ledger){.queue_count = queue_count};
    if (tasks_expected > LEDGER_TASKS_MAX) {
        return err_set(err, -ENOSPC, "%llu tasks: one run counts at most %d",
                       (unsigned long long)tasks_expected, LEDGER_TASKS_MAX);
    }
    ledger->waiting = calloc((size_t)queue_count * LEDGER_PRIORITIES, sizeof *ledger->waiting);
    bool ok = ledger->waiting != NULL;
    for (uint64_t i = 0; ok && i <= tasks_expected / LEDGER_CHUNK; i++) {
        ok = add_chunk(ledger, i);
    }
    if (!ok) {
        ledger_fini(ledger);
        return err_set(err, -ENOMEM, "out of memory for %llu tasks",
                       (unsigned long long)tasks_expected);
    }
    return 0;
}

void ledger_fini(struct ledger *ledger)
{
    for (size_t i = 0; i < sizeof ledger->chunks / sizeof *ledger->chunks; i++) {
        free(ledger->chunks[i]);
        ledger->chunks[i] = NULL;
    }
    free(ledger->waiting);
    ledger->waiting = NULL;
}

int64_t ledger_issue(struct ledger *ledger, uint32_t queue, uint8_t priority, bool delayed)
{
    uint64_t seq = ledger->issued;
    if (seq >= LEDGER_TASKS_MAX || !add_chunk(ledger, seq / LEDGER_CHUNK)) {
        return -ENOSPC;
    }
    *entry_of(ledger, seq) = (struct ledger_entry){
        .queue = (uint16_t)queue, .priority = priority, .flags = delayed ? FLAG_DELAYED : 0};
    ledger->issued++;
    return (int64_t)seq;
}

static uint64_t *waiting_of(const struct ledger *ledger, const struct ledger_entry *entry)
{
    return &ledger->waiting[entry->queue * LEDGER_PRIORITIES + entry->priority];
}

void ledger_created(struct ledger *ledger, uint64_t seq, int64_t due_ns)
{
    struct ledger_entry *entry = entry_of(ledger, seq);
    entry->flags |= FLAG_CREATED;
    ledger->created++;
    if ((entry->flags & FLAG_DELIVERED) == 0) {
        entry->ready_ns = due_ns;
        if ((entry->flags & FLAG_DELAYED) == 0) {
            (*waiting_of(ledger, entry))++;
        }
    }
}

struct ledger_arrival ledger_delivered(struct ledger *ledger, uint64_t seq, uint32_t queue,
                                       int64_t now_ns, int64_t lease_end_ns, int64_t early_slack_ns)
{
    struct ledger_arrival arrival = {.what = LEDGER_FOREIGN, .wait_ns = INT64_MIN};
    if (seq >= ledger->issued || entry_of(ledger, seq)->queue != queue) {
        return arrival;
    }
    struct ledger_entry *entry = entry_of(ledger, seq);
    bool before = (entry->flags & FLAG_DELIVERED) != 0;
    bool too_soon = entry->ready_ns != 0 && now_ns < entry->ready_ns - early_slack_ns;
    if (entry->ready_ns != 0) {
        arrival.wait_ns = now_ns - entry->ready_ns;
    }
    if (!before) {
        arrival.what = LEDGER_FIRST;
        arrival.delayed = (entry->flags & FLAG_DELAYED) != 0;
        ledger->early += arrival.delayed && too_soon;
        if (!arrival.delayed && (entry->flags & FLAG_CREATED) != 0) {
            (*waiting_of(ledger, entry))--;
        }
    } else if ((entry->flags & FLAG_FINISHED) != 0) {
        arrival.what = LEDGER_DUPLICATE;
        ledger->duplicated++;
    } else if ((entry->flags & FLAG_MAY_RETURN) != 0 || !too_soon) {
        arrival.what = LEDGER_AGAIN;
        arrival.crashed = (entry->flags & FLAG_CRASHED) != 0;
    } else if ((entry->flags & FLAG_CRASHED) != 0) {
        arrival.what = LEDGER_AGAIN;
        arrival.crashed = true;
        ledger->early++;
    } else {
        arrival.what = LEDGER_DUPLICATE;
        ledger->duplicated++;
    }
    entry->flags |= FLAG_DELIVERED;
    entry->flags &= (uint8_t) ~(FLAG_MAY_RETURN | FLAG_CRASHED);
    entry->ready_ns = lease_end_ns;
    return arrival;
}

void ledger_extended(struct ledger *ledger, uint64_t seq, int64_t lease_end_ns)
{
    if (seq < ledger->issued) {
        entry_of(ledger, seq)->ready_ns = lease_end_ns;
    }
}

void ledger_crashed(struct ledger *ledger, uint64_t seq)
{
    if (seq < ledger->issued) {
        entry_of(ledger, seq)->flags |= FLAG_CRASHED;
    }
}

void ledger_may_return(struct ledger *ledger, uint64_t seq)
{
    if (seq < ledger->issued) {
        struct ledger_entry *entry = entry_of(ledger, seq);
        entry->flags |= FLAG_MAY_RETURN;
        entry->ready_ns = 0;
    }
}

void ledger_finished(struct ledger *ledger, uint64_t seq)
{
    if (seq >= ledger->issued) {
        return;
    }
    struct ledger_entry *entry = entry_of(ledger, seq);
    if ((entry->flags & FLAG_FINISHED) != 0) {
        ledger->duplicated++;
        return;
    }
    entry->flags |= FLAG_FINISHED;
    ledger->finished++;
}

uint8_t ledger_priority(const struct ledger *ledger, uint64_t seq)
{
    return seq < ledger->issued ? entry_of(ledger, seq)->priority : 0;
}

uint64_t ledger_waiting(const struct ledger *ledger, uint32_t queue, uint8_t priority)
{
    return ledger->waiting[queue * LEDGER_PRIORITIES + priority];
}

uint64_t ledger_open(const struct ledger *ledger)
{
    uint64_t open = 0;
    for (uint64_t seq = 0; seq < ledger->issued; seq++) {
        uint8_t flags = entry_of(ledger, seq)->flags;
        open += (flags & FLAG_CREATED) != 0 && (flags & FLAG_FINISHED) == 0;
    }
    return open;
}
