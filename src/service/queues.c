#include "service/queues.h"

#include <stdlib.h>
#include <string.h>

#include "service/metrics.h"

#define SLOTS 4096

/* What is known of a tenant's queues as a whole. */
struct tenant {
    struct queues *queues;
    struct tenant *next;
    char name[AUTH_TENANT_BYTES_MAX + 1];
    int64_t read_ns; /* when the last reading began; INT64_MIN: never, or news came since */
    int64_t reading_since_ns;
    bool reading;
    bool stale; /* news came while it was being read */
    struct queue_wait *first_wait;
};

struct queues {
    struct tenant *tenants;
    struct store *store;
    struct metrics *metrics;
    struct queue *by_name[SLOTS];
    struct queue *by_number[SLOTS];
    struct queue **all;
    size_t count;
    size_t capacity;
};

struct intern {
    struct queues *queues;
    struct queue *queue;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

struct queues *queues_new(struct store *store, struct metrics *metrics)
{
    struct queues *queues = must(calloc(1, sizeof(*queues)));
    queues->store = store;
    queues->metrics = metrics;
    return queues;
}

void queues_free(struct queues *queues)
{
    if (queues == NULL) {
        return;
    }
    for (size_t i = 0; i < queues->count; i++) {
        free(queues->all[i]->command);
        free(queues->all[i]);
    }
    free(queues->all);
    while (queues->tenants != NULL) {
        struct tenant *next = queues->tenants->next;
        free(queues->tenants);
        queues->tenants = next;
    }
    free(queues);
}

static uint64_t hash(const char *tenant, const char *text, size_t bytes)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *p = tenant; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 'A' && c <= 'Z') {
            c = (unsigned char)(c + 32);
        }
        h = (h ^ c) * UINT64_C(0x100000001b3);
    }
    return h ^ (h >> 32);
}

/* strncasecmp follows the locale; this does not. */
static bool same(const char *a, const char *b, size_t bytes)
{
    if (memcmp(a, b, bytes) == 0) {
        return true; /* nearly always */
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char x = (unsigned char)a[i];
        unsigned char y = (unsigned char)b[i];
        if (x >= 'A' && x <= 'Z') {
            x = (unsigned char)(x + 32);
        }
        if (y >= 'A' && y <= 'Z') {
            y = (unsigned char)(y + 32);
        }
        if (x != y) {
            return false;
        }
    }
    return true;
}

struct queue *queues_get(struct queues *queues, const char *tenant, const char *command,
                         size_t command_bytes)
{
    if (command_bytes == 0 || command_bytes > QUEUE_COMMAND_BYTES_MAX) {
        return NULL;
    }
    struct queue **slot = &queues->by_name[hash(tenant, command, command_bytes) % SLOTS];
    for (struct queue *q = *slot; q != NULL; q = q->next_by_name) {
        if (q->command_bytes == command_bytes && same(q->command, command, command_bytes) &&
            strcmp(q->tenant, tenant) == 0) {
            return q;
        }
    }
    if (queues->count == QUEUES_MAX) {
        return NULL;
    }
    if (queues->count == queues->capacity) {
        queues->capacity = queues->capacity == 0 ? 64 : queues->capacity * 2;
        queues->all = must(realloc(queues->all, queues->capacity * sizeof(struct queue *)));
    }
    struct queue *queue = must(calloc(1, sizeof(*queue)));
    strncpy(queue->tenant, tenant, sizeof(queue->tenant) - 1);
    queue->command = must(malloc(command_bytes + 1));
    memcpy(queue->command, command, command_bytes);
    queue->command[command_bytes] = '\0';
    queue->command_bytes = command_bytes;
    queue->metrics_slot = metrics_command(queues->metrics, command, command_bytes);
    queue->next_by_name = *slot;
    *slot = queue;
    queues->all[queues->count++] = queue;
    return queue;
}

static size_t number_slot(const char *tenant, uint16_t number)
{
    char text[2] = {(char)(number >> 8), (char)(number & 0xff)};
    return hash(tenant, text, 2) % SLOTS;
}

struct queue *queues_by_number(struct queues *queues, const char *tenant, uint16_t number)
{
    struct queue *q = queues->by_number[number_slot(tenant, number)];
    while (q != NULL && (q->number != number || strcmp(q->tenant, tenant) != 0)) {
        q = q->next_by_number;
    }
    return q;
}

static void set_known(struct queues *queues, struct queue *queue, uint16_t number,
                      uint8_t shard_count)
{
    if (!queue->known) {
        queue->known = true;
        queue->number = number;
        queue->shard_count = shard_count == 0 ? 1 : shard_count;
        struct queue **slot = &queues->by_number[number_slot(queue->tenant, number)];
        queue->next_by_number = *slot;
        *slot = queue;
    }
}

static void on_interned(void *arg, const struct store_call_result *call,
                        const struct store_queue *found, uint8_t shard_count)
{
    struct intern *intern = arg;
    struct queue *queue = intern->queue;
    if (call->status == STORE_OK) {
        set_known(intern->queues, queue, found->number, shard_count);
    }
    free(intern);
    struct queue_wait *wait = queue->first_wait;
    queue->first_wait = NULL;
    while (wait != NULL) {
        struct queue_wait *next = wait->next;
        wait->resume(wait->arg, queue, call);
        wait = next;
    }
}

bool queues_ensure(struct queues *queues, struct queue *queue, struct queue_wait *wait)
{
    if (queue->known) {
        return true;
    }
    struct queue_wait **end = &queue->first_wait;
    bool asked = *end != NULL;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    wait->next = NULL;
    *end = wait;
    if (asked) {
        return false;
    }
    char name[QUEUE_COMMAND_BYTES_MAX];
    for (size_t i = 0; i < queue->command_bytes; i++) {
        char c = queue->command[i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    struct intern *intern = must(malloc(sizeof(*intern)));
    *intern = (struct intern){queues, queue};
    struct store_bytes command = {name, queue->command_bytes};
    int code = store_intern(queues->store, queue->tenant, command, on_interned, intern);
    if (code != 0) {
        /* Only when too much is in flight: those that wait learn it now. */
        free(intern);
        struct store_call_result result = {.status = STORE_UNAVAILABLE};
        err_set(&result.err, code, "too many operations wait for Redis");
        queue->first_wait = NULL;
        wait->resume(wait->arg, queue, &result);
    }
    return false;
}

/* ---- all queues of a tenant ---- */

static void read_on(struct tenant *tenant, uint64_t cursor);

static void read_done(struct tenant *tenant, const struct store_call_result *call)
{
    if (call->status == STORE_OK && tenant->stale) {
        tenant->stale = false; /* who waits may have come for what is new */
        read_on(tenant, 0);
        return;
    }
    tenant->reading = false;
    if (call->status == STORE_OK) {
        tenant->read_ns = tenant->reading_since_ns;
    }
    struct queue_wait *wait = tenant->first_wait;
    tenant->first_wait = NULL;
    while (wait != NULL) {
        struct queue_wait *next = wait->next;
        wait->resume(wait->arg, NULL, call);
        wait = next;
    }
}

static void on_part(void *arg, const struct store_call_result *call, uint64_t cursor,
                    struct store_queue_list list)
{
    struct tenant *tenant = arg;
    if (call->status != STORE_OK) {
        read_done(tenant, call);
        return;
    }
    struct store_bytes command;
    uint16_t number = 0;
    uint8_t shard_count = 0;
    while (store_queue_list_next(&list, &command, &number, &shard_count) == 1) {
        struct queue *queue = queues_get(tenant->queues, tenant->name, command.data, command.bytes);
        if (queue != NULL) {
            set_known(tenant->queues, queue, number, shard_count);
        }
    }
    if (cursor != 0) {
        read_on(tenant, cursor);
    } else {
        read_done(tenant, call);
    }
}

static void read_on(struct tenant *tenant, uint64_t cursor)
{
    int code = store_queues(tenant->queues->store, tenant->name, cursor, on_part, tenant);
    if (code != 0) {
        struct store_call_result result = {.status = STORE_UNAVAILABLE};
        err_set(&result.err, code, "too many operations wait for Redis");
        read_done(tenant, &result);
    }
}

static struct tenant *tenant_get(struct queues *queues, const char *name)
{
    struct tenant *tenant = queues->tenants;
    while (tenant != NULL && strcmp(tenant->name, name) != 0) {
        tenant = tenant->next;
    }
    if (tenant == NULL) {
        tenant = must(calloc(1, sizeof(*tenant)));
        tenant->queues = queues;
        tenant->next = queues->tenants;
        strncpy(tenant->name, name, sizeof(tenant->name) - 1);
        tenant->read_ns = INT64_MIN;
        queues->tenants = tenant;
    }
    return tenant;
}

bool queues_know(struct queues *queues, const char *tenant_name, int64_t now_ns, int64_t max_age_ns,
                 struct queue_wait *wait)
{
    struct tenant *tenant = tenant_get(queues, tenant_name);
    if (tenant->read_ns != INT64_MIN && now_ns - tenant->read_ns < max_age_ns) {
        return true;
    }
    wait->next = tenant->first_wait;
    tenant->first_wait = wait;
    if (!tenant->reading) {
        tenant->reading = true;
        tenant->stale = false;
        tenant->reading_since_ns = now_ns;
        read_on(tenant, 0);
    }
    return false;
}

void queues_forget_age(struct queues *queues, const char *tenant_name)
{
    for (struct tenant *tenant = queues->tenants; tenant != NULL; tenant = tenant->next) {
        if (tenant_name == NULL || strcmp(tenant->name, tenant_name) == 0) {
            tenant->read_ns = INT64_MIN;
            tenant->stale = true;
        }
    }
}

struct queue *queues_next(struct queues *queues, const char *tenant, size_t *at)
{
    while (*at < queues->count) {
        struct queue *queue = queues->all[(*at)++];
        if (tenant == NULL || strcmp(queue->tenant, tenant) == 0) {
            return queue;
        }
    }
    return NULL;
}

struct store_queue queue_shard(const struct queue *queue, uint8_t shard)
{
    return (struct store_queue){queue->tenant, queue->number, shard};
}
