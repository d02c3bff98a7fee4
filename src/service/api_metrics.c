/* GET /metrics: what every thread counted, and what Redis holds now. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "service/metrics.h"
#include "service/queues.h"
#include "service/service.h"
#include "service/waiters.h"
#include "store/conn.h"

#define SCRAPE_SHARDS_MAX 2048 /* asked for in one scrape; the others' depths are left out */
#define INFO_FIELD_BYTES_MAX 256

struct scraping {
    struct request *request;
    size_t left;
    size_t count;
    struct metrics_queue *queues; /* one a shard: the exposition adds them up */
    size_t capacity;
    int64_t script_calls;
    double script_seconds;
    bool redis_up;
};

struct shard_line {
    struct scraping *scraping;
    const char *command;
};

static void scraping_done(struct scraping *scraping)
{
    if (--scraping->left > 0) {
        return;
    }
    struct request *request = scraping->request;
    const struct config *config = request->service->config;
    const struct metrics_scrape scrape = {
        .queues = scraping->queues,
        .queue_count = scraping->count,
        .redis_script_calls = scraping->script_calls,
        .redis_script_seconds = scraping->script_seconds,
        .redis_up = scraping->redis_up,
        .connections_max = config->connections_max,
        .waiters_max = config->waiters_max,
        .body_bytes_max = config->body_bytes_max,
        .uptime_seconds = (double)(request->service->now_ns - request->service->started_ns) / 1e9,
        .version = CODEQ_VERSION,
    };
    struct metrics *threads[CONFIG_THREADS_MAX];
    size_t count = service_shared_metrics(request->service->shared, threads, CONFIG_THREADS_MAX);
    struct buf text = BUF_INIT;
    metrics_write(threads, count, &scrape, &text);
    request_header(request, "Content-Type", METRICS_CONTENT_TYPE);
    request_answer(request, 200, text.data, text.bytes);
    buf_fini(&text);
}

static void on_stats(void *arg, const struct store_call_result *call,
                     const struct store_stats *stats)
{
    struct shard_line *line = arg;
    struct scraping *scraping = line->scraping;
    if (call->status == STORE_OK) {
        int64_t age_ms = stats->oldest_ready_ms > 0
                             ? clock_wall_ns(scraping->request->service->clock) / NS_PER_MS -
                                   stats->oldest_ready_ms
                             : 0;
        scraping->queues[scraping->count++] = (struct metrics_queue){
            .command = line->command,
            .ready = stats->ready,
            .delayed = stats->delayed,
            .leased = stats->leased,
            .dead = stats->dead_now,
            .oldest_ready_age_ns = age_ms > 0 ? age_ms * NS_PER_MS : 0,
        };
    }
    scraping_done(scraping);
}

/* cmdstat_evalsha:calls=21,usec=175,usec_per_call=8.33,... */
static void read_commandstats(struct scraping *scraping, const char *text, size_t bytes)
{
    static const char field[] = "cmdstat_evalsha:";
    const char *at = memmem(text, bytes, field, sizeof(field) - 1);
    char line[INFO_FIELD_BYTES_MAX] = "";
    scraping->script_calls = scraping->script_calls < 0 ? 0 : scraping->script_calls;
    if (at != NULL) {
        size_t n = (size_t)(text + bytes - at);
        memcpy(line, at, n < sizeof(line) - 1 ? n : sizeof(line) - 1);
        long long calls = 0;
        long long usec = 0;
        if (sscanf(line + sizeof(field) - 1, "calls=%lld,usec=%lld", &calls, &usec) == 2) {
            scraping->script_calls += calls; /* of each master of a cluster */
            scraping->script_seconds += (double)usec / 1e6;
        }
    }
}

static void on_info(void *owner, struct conn_call *call, enum conn_status status,
                    const struct conn_reply *reply, const struct err *err)
{
    (void)owner;
    (void)err;
    struct scraping *scraping = call->user_arg;
    scraping->redis_up = scraping->redis_up || status == CONN_OK;
    /* A user without the right to INFO still gets the rest. */
    if (status == CONN_OK && reply->nodes[0].type == CONN_STRING) {
        read_commandstats(scraping, reply->nodes[0].data, reply->nodes[0].bytes);
    } else if (status == CONN_ERROR) {
        scraping->redis_up = true;
    }
    scraping_done(scraping);
}

static void scrape(struct service *service, struct request *request)
{
    struct scraping *scraping = request_alloc(request, sizeof(*scraping));
    *scraping = (struct scraping){.request = request, .left = 1, .script_calls = -1};
    size_t shards = 0;
    size_t at = 0;
    struct queue *queue;
    while ((queue = queues_next(service->queues, NULL, &at)) != NULL) {
        shards += queue->known ? queue->shard_count : 0;
    }
    shards = shards < SCRAPE_SHARDS_MAX ? shards : SCRAPE_SHARDS_MAX;
    scraping->queues = request_alloc(request, (shards + 1) * sizeof(*scraping->queues));
    struct shard_line *lines = request_alloc(request, (shards + 1) * sizeof(*lines));
    size_t asked = 0;
    at = 0;
    while ((queue = queues_next(service->queues, NULL, &at)) != NULL) {
        for (unsigned s = 0; queue->known && s < queue->shard_count && asked < shards; s++) {
            struct store_queue shard = queue_shard(queue, (uint8_t)s);
            lines[asked] = (struct shard_line){scraping, queue->command};
            scraping->left++;
            if (store_stats(service->store, &shard, on_stats, &lines[asked++]) != 0) {
                scraping->left--;
            }
        }
    }
    struct conn *conn = service_conn(service);
    if (conn != NULL) {
        conn_begin(conn, 2);
        conn_arg(conn, "INFO", 4);
        conn_arg(conn, "commandstats", 12);
        struct conn_call call = {
            .done = on_info, .owner = service, .user_arg = scraping, .repeatable = true};
        int asked_nodes = conn_end_everywhere(conn, &call);
        scraping->left += asked_nodes > 0 ? (size_t)asked_nodes : 0;
    }
    scraping_done(scraping);
}

const struct route metrics_routes[] = {
    {HTTP_METHOD_GET, "/metrics", scrape, AUTH_PUBLIC, 0, RATE_NONE, "metrics"},
    {0},
};
