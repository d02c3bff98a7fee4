#include "service/reaper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "service/metrics.h"
#include "service/queues.h"
#include "service/waiters.h"
#include "service/webhook.h"
#include "store/conn.h"

#define SLOTS 4096
#define RETRY_MS 200 /* after a sweep that Redis did not do */
#define SCAN_COUNT "256"
#define NOT_IN_HEAP SIZE_MAX

struct shard {
    struct reaper *reaper;
    struct shard *chain;
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    uint16_t number;
    uint8_t shard;
    int64_t due_ms;
    size_t at; /* in the heap */
    unsigned in_flight;
    int64_t swept_due_ms; /* what the last sweep was for */
};

struct reaper {
    struct service *service;
    struct shard *slots[SLOTS];
    struct shard **heap; /* earliest due first */
    size_t count;
    size_t capacity;
    ev_timer timer;
    int64_t timer_due_ms; /* INT64_MAX: not started */
    int64_t ahead_ms; /* Redis's clock minus ours */
    ev_timer discovery;
    char cursor[24];
    bool scanning;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

int64_t reaper_now_ms(const struct reaper *reaper)
{
    return clock_wall_ns(reaper->service->clock) / NS_PER_MS + reaper->ahead_ms;
}

/* ---- the heap ---- */

static void heap_put(struct reaper *reaper, size_t at, struct shard *shard)
{
    reaper->heap[at] = shard;
    shard->at = at;
}

static void heap_up(struct reaper *reaper, size_t at)
{
    struct shard *shard = reaper->heap[at];
    while (at > 0 && reaper->heap[(at - 1) / 2]->due_ms > shard->due_ms) {
        heap_put(reaper, at, reaper->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(reaper, at, shard);
}

static void heap_down(struct reaper *reaper, size_t at)
{
    struct shard *shard = reaper->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= reaper->count) {
            break;
        }
        if (child + 1 < reaper->count &&
            reaper->heap[child + 1]->due_ms < reaper->heap[child]->due_ms) {
            child++;
        }
        if (reaper->heap[child]->due_ms >= shard->due_ms) {
            break;
        }
        heap_put(reaper, at, reaper->heap[child]);
        at = child;
    }
    heap_put(reaper, at, shard);
}

static void heap_remove(struct reaper *reaper, struct shard *shard)
{
    size_t at = shard->at;
    shard->at = NOT_IN_HEAP;
    struct shard *last = reaper->heap[--reaper->count];
    if (last != shard) {
        heap_put(reaper, at, last);
        heap_up(reaper, at);
        heap_down(reaper, last->at);
    }
}

/* ---- shards ---- */

static struct shard *shard_get(struct reaper *reaper, const struct store_queue *queue)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *p = queue->tenant; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    }
    h = (h ^ queue->number) * UINT64_C(0x100000001b3);
    h = (h ^ queue->shard) * UINT64_C(0x100000001b3);
    struct shard **slot = &reaper->slots[(h ^ (h >> 32)) % SLOTS];
    for (struct shard *s = *slot; s != NULL; s = s->chain) {
        if (s->number == queue->number && s->shard == queue->shard &&
            strcmp(s->tenant, queue->tenant) == 0) {
            return s;
        }
    }
    struct shard *shard = must(calloc(1, sizeof(*shard)));
    shard->reaper = reaper;
    strncpy(shard->tenant, queue->tenant, AUTH_TENANT_BYTES_MAX);
    shard->number = queue->number;
    shard->shard = queue->shard;
    shard->at = NOT_IN_HEAP;
    shard->chain = *slot;
    *slot = shard;
    return shard;
}

static void timer_arm(struct reaper *reaper)
{
    if (reaper->count == 0 || reaper->heap[0]->due_ms >= reaper->timer_due_ms) {
        return;
    }
    struct ev_loop *loop = reaper->service->loop;
    reaper->timer_due_ms = reaper->heap[0]->due_ms;
    int64_t after_ms = reaper->timer_due_ms - reaper_now_ms(reaper);
    ev_timer_stop(loop, &reaper->timer);
    /* Half a ms more: a timer that fires before the due ms has begun is a sweep for nothing. */
    ev_timer_set(&reaper->timer, after_ms <= 0 ? 0. : (double)after_ms / 1e3 + 0.0005, 0.);
    ev_timer_start(loop, &reaper->timer);
}

static void shard_due(struct reaper *reaper, struct shard *shard, int64_t due_ms)
{
    if (shard->at != NOT_IN_HEAP) {
        if (due_ms >= shard->due_ms) {
            return;
        }
        shard->due_ms = due_ms;
        heap_up(reaper, shard->at);
    } else {
        if (reaper->count == reaper->capacity) {
            reaper->capacity = reaper->capacity == 0 ? 64 : reaper->capacity * 2;
            reaper->heap = must(realloc(reaper->heap, reaper->capacity * sizeof(*reaper->heap)));
        }
        shard->due_ms = due_ms;
        heap_put(reaper, reaper->count++, shard);
        heap_up(reaper, shard->at);
    }
    timer_arm(reaper);
}

void reaper_due(struct reaper *reaper, const struct store_queue *queue, int64_t due_ms)
{
    shard_due(reaper, shard_get(reaper, queue), due_ms);
}

void reaper_clock(struct reaper *reaper, int64_t now_ms)
{
    reaper->ahead_ms = now_ms - clock_wall_ns(reaper->service->clock) / NS_PER_MS;
}

/* ---- sweeping ---- */

static void on_swept(void *arg, const struct store_call_result *call,
                     const struct store_sweep_result *result);

static void sweep(struct shard *shard)
{
    struct reaper *reaper = shard->reaper;
    struct store_queue queue = {shard->tenant, shard->number, shard->shard};
    if (store_sweep(reaper->service->store, &queue, REAPER_SWEEP_TASKS, on_swept, shard) != 0) {
        if (shard->in_flight == 0) {
            shard_due(reaper, shard, reaper_now_ms(reaper) + RETRY_MS);
        }
        return;
    }
    shard->in_flight++;
    metrics_count(reaper->service->metrics, METRICS_SWEEPS, 1);
}

static void on_swept(void *arg, const struct store_call_result *call,
                     const struct store_sweep_result *result)
{
    struct shard *shard = arg;
    struct reaper *reaper = shard->reaper;
    struct service *service = reaper->service;
    shard->in_flight--;
    if (call->status != STORE_OK) {
        if (!service->draining) {
            shard_due(reaper, shard, reaper_now_ms(reaper) + RETRY_MS);
        }
        return;
    }
    reaper_clock(reaper, result->now_ms);
    struct queue *queue = queues_by_number(service->queues, shard->tenant, shard->number);
    if (queue != NULL) {
        if (result->reaped > 0) {
            metrics_count_command(service->metrics, METRICS_LEASE_EXPIRED, queue->metrics_slot,
                                  result->reaped);
            metrics_count_command(service->metrics, METRICS_FAILED, queue->metrics_slot,
                                  result->dead);
        }
        if (result->promoted > 0 && shard->swept_due_ms > 0) {
            metrics_observe_command(service->metrics, METRICS_DELAYED_LATENESS, queue->metrics_slot,
                                    (result->now_ms - shard->swept_due_ms) * NS_PER_MS);
            shard->swept_due_ms = 0;
        }
        if (result->dead > 0) {
            webhook_poke(service->webhook, shard->tenant, shard->number, shard->shard);
        }
    }
    uint32_t ready = result->promoted + result->reaped - result->dead;
    if (ready > 0) {
        waiters_work(service, shard->tenant, shard->number, ready, false);
    }
    bool full = result->reaped == REAPER_SWEEP_TASKS || result->promoted == REAPER_SWEEP_TASKS;
    if (full) {
        while (shard->in_flight < REAPER_SWEEPS_AT_ONCE) {
            unsigned before = shard->in_flight;
            sweep(shard);
            if (shard->in_flight == before) {
                break;
            }
        }
    } else if (shard->in_flight == 0 && result->next_due_ms > 0) {
        shard_due(reaper, shard, result->next_due_ms);
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct reaper *reaper = timer->data;
    int64_t now_ms = reaper_now_ms(reaper);
    reaper->timer_due_ms = INT64_MAX;
    while (reaper->count > 0 && reaper->heap[0]->due_ms <= now_ms) {
        struct shard *shard = reaper->heap[0];
        heap_remove(reaper, shard);
        if (shard->in_flight == 0) {
            shard->swept_due_ms = shard->due_ms;
            sweep(shard);
        }
    }
    timer_arm(reaper);
}

/* ---- what others left ---- */

static void scan(struct reaper *reaper);

/* "{tenant/number/shard}:l" or ":d". */
static bool key_parse(const char *key, size_t bytes, char tenant[AUTH_TENANT_BYTES_MAX + 1],
                      struct store_queue *out)
{
    char text[128];
    unsigned number = 0;
    unsigned shard = 0;
    char kind = '\0';
    int end = 0;
    if (bytes >= sizeof(text)) {
        return false;
    }
    memcpy(text, key, bytes);
    text[bytes] = '\0';
    if (sscanf(text, "{%63[a-z0-9-]/%5u/%3u}:%c%n", tenant, &number, &shard, &kind, &end) != 4 ||
        (size_t)end != bytes || (kind != 'l' && kind != 'd') || number > UINT16_MAX ||
        shard > UINT8_MAX) {
        return false;
    }
    *out = (struct store_queue){tenant, (uint16_t)number, (uint8_t)shard};
    return true;
}

static void on_scanned(void *owner, struct conn_call *call, enum conn_status status,
                       const struct conn_reply *reply, const struct err *err)
{
    (void)call;
    (void)err;
    struct reaper *reaper = owner;
    reaper->scanning = false;
    if (status != CONN_OK || reply->count < 3 || reply->nodes[1].type != CONN_STRING ||
        reply->nodes[1].bytes >= sizeof(reaper->cursor)) {
        strcpy(reaper->cursor, "0");
        return;
    }
    for (size_t i = 3; i < reply->count; i++) {
        char tenant[AUTH_TENANT_BYTES_MAX + 1];
        struct store_queue queue;
        if (reply->nodes[i].type == CONN_STRING &&
            key_parse(reply->nodes[i].data, reply->nodes[i].bytes, tenant, &queue)) {
            struct shard *shard = shard_get(reaper, &queue);
            /* What it is in line for may not be the earliest: another codeqd may have given out a
             * shorter lease, and died. */
            if (shard->in_flight == 0) {
                shard_due(reaper, shard, reaper_now_ms(reaper));
            }
        }
    }
    memcpy(reaper->cursor, reply->nodes[1].data, reply->nodes[1].bytes);
    reaper->cursor[reply->nodes[1].bytes] = '\0';
    if (strcmp(reaper->cursor, "0") != 0) {
        scan(reaper);
    }
}

static void scan(struct reaper *reaper)
{
    struct conn *conn = service_conn(reaper->service);
    if (conn == NULL || reaper->scanning || reaper->service->draining) {
        return;
    }
    conn_begin(conn, 6);
    conn_arg(conn, "SCAN", 4);
    conn_arg(conn, reaper->cursor, strlen(reaper->cursor));
    conn_arg(conn, "MATCH", 5);
    conn_arg(conn, "{*}:[ld]", 8);
    conn_arg(conn, "COUNT", 5);
    conn_arg(conn, SCAN_COUNT, sizeof(SCAN_COUNT) - 1);
    struct conn_call call = {.done = on_scanned, .owner = reaper, .repeatable = true};
    reaper->scanning = conn_end(conn, &call) == 0;
}

static void on_discovery(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    scan(timer->data);
}

/* ---- life ---- */

struct reaper *reaper_new(struct service *service)
{
    struct reaper *reaper = must(calloc(1, sizeof(*reaper)));
    reaper->service = service;
    reaper->timer_due_ms = INT64_MAX;
    ev_init(&reaper->timer, on_timer);
    reaper->timer.data = reaper;
    strcpy(reaper->cursor, "0");
    if (service->thread == 0) {
        ev_timer_init(&reaper->discovery, on_discovery, 0.,
                      (double)REAPER_DISCOVERY_NS / (double)NS_PER_SEC);
        reaper->discovery.data = reaper;
        ev_timer_start(service->loop, &reaper->discovery);
    }
    return reaper;
}

void reaper_free(struct reaper *reaper)
{
    if (reaper == NULL) {
        return;
    }
    ev_timer_stop(reaper->service->loop, &reaper->timer);
    if (reaper->service->thread == 0) {
        ev_timer_stop(reaper->service->loop, &reaper->discovery);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        while (reaper->slots[i] != NULL) {
            struct shard *next = reaper->slots[i]->chain;
            free(reaper->slots[i]);
            reaper->slots[i] = next;
        }
    }
    free(reaper->heap);
    free(reaper);
}
