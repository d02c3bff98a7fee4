/* store-limit: what Redis pays for a cycle of create, claim and complete, once through the store
 * and once through a bare hiredis driver that runs the same scripts with the same batch, in
 * interleaved rounds on a private Redis. Both keep the same number of tasks in flight on one
 * connection; client and Redis are pinned to one core. Redis's CPU is its main thread's. */
#include <errno.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/redis_server.h"
#include "store/keys.h"
#include "store/script.h"
#include "store/store.h"

#define IN_FLIGHT_DEFAULT 64
#define IN_FLIGHT_MAX 4096
#define BODY_BYTES 200
#define RESULT_BYTES 16
#define BACKLOG 1000
#define ROUNDS_MAX 64
#define BATCHES_MAX 8

enum phase { PHASE_CREATE, PHASE_CLAIM, PHASE_COMPLETE, PHASES };
enum driver { DRIVER_STORE, DRIVER_BARE, DRIVERS };

static const char *const phase_names[PHASES] = {"create", "claim", "complete"};
static const char *const driver_names[DRIVERS] = {"store", "bare"};

struct limit {
    struct redis_server redis;
    char url[160];
    int in_flight;
    int batch;
    size_t cycles; /* end a round after so many; 0: by time */
    struct store *store;
    struct store_queue queue;
    char tag[KEYS_BYTES_MAX];
    redisContext *bare;
    uint64_t made; /* ids of the bare driver */
    struct task_member leases[IN_FLIGHT_MAX];
    size_t leased;
    size_t done;
    char body[BODY_BYTES + 1];
    char result[RESULT_BYTES];
};

struct cost {
    double redis_ns[PHASES];
    double client_ns;
    double wall_ns;
    double calls; /* that Redis executed, inner ones included */
    size_t tasks;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "store-limit: %s: %s\n", what, why);
    exit(2);
}

static double cpu_ns(pid_t pid)
{
    int64_t ns = process_main_cpu_ns(pid);
    if (ns < 0) {
        die("/proc", "Redis' CPU cannot be read: is CONFIG_SCHED_INFO there?");
    }
    return (double)ns;
}

static double own_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double calls_so_far(struct limit *l)
{
    char *text = NULL;
    struct err err;
    if (redis_server_info(l->redis.socket_path, "commandstats", &text, &err) != 0) {
        die("INFO", err.text);
    }
    double sum = 0;
    for (const char *at = text; (at = strstr(at, ":calls=")) != NULL;) {
        at += 7;
        sum += strtod(at, NULL);
    }
    free(text);
    return sum;
}

/* ---- through the store ---- */

static void on_intern(void *arg, const struct store_call_result *call,
                      const struct store_queue *queue, uint8_t shards)
{
    (void)shards;
    if (call->status != STORE_OK) {
        die("intern", call->err.text);
    }
    ((struct limit *)arg)->queue = (struct store_queue){"limit", queue->number, 0};
}

static void on_created(void *arg, const struct store_call_result *call,
                       const struct store_create_verdict *items, size_t count)
{
    (void)items;
    if (call->status != STORE_OK) {
        die("create", call->err.text);
    }
    ((struct limit *)arg)->done += count;
}

static void on_claimed(void *arg, const struct store_call_result *call,
                       const struct store_claimed *tasks, size_t count)
{
    struct limit *l = arg;
    if (call->status != STORE_OK) {
        die("claim", call->err.text);
    }
    for (size_t i = 0; i < count; i++) {
        l->leases[l->leased++] = tasks[i].member;
    }
    l->done += count;
}

static void on_completed(void *arg, const struct store_call_result *call,
                         const struct store_return_verdict *items, size_t count)
{
    if (call->status != STORE_OK) {
        die("complete", call->err.text);
    }
    for (size_t i = 0; i < count; i++) {
        ((struct limit *)arg)->done += items[i].verdict == STORE_DONE;
    }
}

static void store_phase(struct limit *l, enum phase phase)
{
    struct store_create_item creates[STORE_TASKS_MAX];
    struct store_complete_item ends[STORE_TASKS_MAX];
    size_t n = (size_t)l->batch;
    l->done = 0;
    if (phase == PHASE_CLAIM) {
        l->leased = 0;
    }
    for (int at = 0; at < l->in_flight; at += l->batch) {
        int rc = 0;
        switch (phase) {
        case PHASE_CREATE:
            for (size_t i = 0; i < n; i++) {
                creates[i] = (struct store_create_item){
                    .priority = 5, .max_attempts = 5, .body = {l->body, BODY_BYTES}};
            }
            rc = store_create(l->store, &l->queue, creates, n, on_created, l);
            break;
        case PHASE_CLAIM: {
            struct store_claim_item item = {
                .count = (uint16_t)n, .lease_ms = 300000, .worker = {"worker-1", 8}};
            rc = store_claim(l->store, &l->queue, &item, 1, on_claimed, l);
            break;
        }
        case PHASE_COMPLETE:
            for (size_t i = 0; i < n; i++) {
                ends[i] = (struct store_complete_item){
                    .lease = {.has_token = true, .token = l->leases[(size_t)at + i]},
                    .result = {l->result, RESULT_BYTES}};
            }
            rc = store_complete(l->store, &l->queue, ends, n, on_completed, l);
            break;
        case PHASES:
            break;
        }
        if (rc != 0) {
            die(phase_names[phase], strerror(-rc));
        }
    }
    store_wait(l->store, INT64_MAX);
}

/* ---- bare ---- */

static void bare_append(struct limit *l, enum script_id id, int argc, const char **argv,
                        size_t *bytes)
{
    argv[0] = "EVALSHA";
    argv[1] = store_scripts[id].sha;
    argv[2] = "1";
    argv[3] = l->tag;
    for (int i = 0; i < 4; i++) {
        bytes[i] = strlen(argv[i]);
    }
    redisAppendCommandArgv(l->bare, argc, argv, bytes);
}

static void bare_phase(struct limit *l, enum phase phase)
{
    static const char *argv[8 + 2 * STORE_TASKS_MAX];
    static size_t bytes[8 + 2 * STORE_TASKS_MAX];
    static char texts[STORE_TASKS_MAX][64];
    static const char retention[] = "000000000000000186400000"; /* name and ms */
    int n = l->batch;
    int calls = 0;
    l->done = 0;
    for (int at = 0; at < l->in_flight; at += n, calls++) {
        int argc = 4;
        char count[8];
        snprintf(count, sizeof count, "%d", n);
        switch (phase) {
        case PHASE_CREATE:
            argv[argc] = "";
            bytes[argc++] = 0;
            argv[argc] = retention;
            bytes[argc++] = sizeof retention - 1;
            for (int i = 0; i < n; i++) {
                /* An id as task_id makes it: time in front, then what differs. */
                uint64_t time = (uint64_t)(clock_wall_ns(clock_system()) / NS_PER_MS);
                for (int k = 0; k < 6; k++) {
                    texts[i][k] = (char)(time >> (40 - 8 * k));
                }
                memset(texts[i] + 6, 0x80, 2);
                l->made++;
                memcpy(texts[i] + 8, &l->made, 8);
                memcpy(texts[i] + 16, "50000000500000000", TASK_MEMBER_TAIL_BYTES);
                argv[argc] = texts[i];
                bytes[argc++] = TASK_MEMBER_BYTES;
                argv[argc] = l->body;
                bytes[argc++] = BODY_BYTES + 1;
            }
            bare_append(l, SCRIPT_CREATE, argc, argv, bytes);
            break;
        case PHASE_CLAIM: {
            static const char policy[] = "3 1000 60000 12345 0000000000000001";
            const char *rest[] = {policy, count, "300000", "worker-1"};
            for (int i = 0; i < 4; i++) {
                argv[argc] = rest[i];
                bytes[argc++] = strlen(rest[i]);
            }
            bare_append(l, SCRIPT_CLAIM, argc, argv, bytes);
            break;
        }
        case PHASE_COMPLETE:
            argv[argc] = retention + KEYS_INSTANCE_BYTES;
            bytes[argc++] = sizeof retention - 1 - KEYS_INSTANCE_BYTES;
            for (int i = 0; i < n; i++) {
                texts[i][0] = 'c';
                memcpy(texts[i] + 1, l->leases[at + i].bytes, TASK_MEMBER_BYTES);
                argv[argc] = texts[i];
                bytes[argc++] = 1 + TASK_MEMBER_BYTES;
                argv[argc] = l->result;
                bytes[argc++] = RESULT_BYTES;
            }
            bare_append(l, SCRIPT_COMPLETE, argc, argv, bytes);
            break;
        case PHASES:
            break;
        }
    }
    if (phase == PHASE_CLAIM) {
        l->leased = 0;
    }
    for (int i = 0; i < calls; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(l->bare, (void **)&reply) != REDIS_OK || reply == NULL ||
            reply->type == REDIS_REPLY_ERROR) {
            die(phase_names[phase], reply == NULL ? l->bare->errstr : reply->str);
        }
        if (phase == PHASE_CLAIM) {
            for (size_t k = 1; k + 1 < reply->elements; k += 2, l->done++) {
                memcpy(l->leases[l->leased++].bytes, reply->element[k]->str, TASK_MEMBER_BYTES);
            }
        } else {
            size_t from = phase == PHASE_COMPLETE ? 13 : 0; /* behind the time */
            for (size_t k = from; k < reply->len; k++) {
                l->done += reply->str[k] == 'R' || reply->str[k] == 'D';
            }
        }
        freeReplyObject(reply);
    }
}

/* ---- rounds ---- */

static void run(struct limit *l, enum driver driver, int64_t duration_ns, struct cost *out)
{
    void (*const step)(struct limit *, enum phase) =
        driver == DRIVER_STORE ? store_phase : bare_phase;
    int pid = (int)l->redis.child.pid;
    struct cost cost = {.calls = -calls_so_far(l), .client_ns = -own_ns()};
    int64_t begin_ns = clock_monotonic_ns(clock_system());
    int64_t now_ns = begin_ns;
    double before = cpu_ns(pid);
    while (l->cycles > 0 ? cost.tasks < l->cycles : now_ns - begin_ns < duration_ns) {
        for (enum phase phase = PHASE_CREATE; phase < PHASES; phase++) {
            step(l, phase);
            if (l->done != (size_t)l->in_flight) {
                die(phase_names[phase], "not every task was done");
            }
            double after = cpu_ns(pid);
            cost.redis_ns[phase] += after - before;
            before = after;
        }
        cost.tasks += (size_t)l->in_flight;
        now_ns = clock_monotonic_ns(clock_system());
    }
    cost.wall_ns = (double)(now_ns - begin_ns);
    cost.client_ns += own_ns();
    cost.calls += calls_so_far(l);
    *out = cost;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double cycle_us(const struct cost *c)
{
    return (c->redis_ns[0] + c->redis_ns[1] + c->redis_ns[2]) / (double)c->tasks / 1e3;
}

static void report(int batch, struct cost (*costs)[ROUNDS_MAX], int rounds)
{
    double values[ROUNDS_MAX];
    double cycle[DRIVERS];
    for (enum driver d = 0; d < DRIVERS; d++) {
        printf("batch %-3d %-5s", batch, driver_names[d]);
        for (enum phase p = PHASE_CREATE; p < PHASES; p++) {
            for (int r = 0; r < rounds; r++) {
                values[r] = costs[d][r].redis_ns[p] / (double)costs[d][r].tasks / 1e3;
            }
            printf("  %s %5.2f", phase_names[p], median(values, rounds));
        }
        for (int r = 0; r < rounds; r++) {
            values[r] = cycle_us(&costs[d][r]);
        }
        cycle[d] = median(values, rounds);
        printf("  cycle %5.2f us [%.2f..%.2f]", cycle[d], values[0], values[rounds - 1]);
        for (int r = 0; r < rounds; r++) {
            values[r] = costs[d][r].client_ns / (double)costs[d][r].tasks / 1e3;
        }
        printf("  client %.2f us  %.2f calls\n", median(values, rounds),
               costs[d][0].calls / (double)costs[d][0].tasks);
    }
    for (int r = 0; r < rounds; r++) {
        values[r] = cycle_us(&costs[DRIVER_STORE][r]) / cycle_us(&costs[DRIVER_BARE][r]);
    }
    printf("batch %-3d store/bare %.3f\n", batch, median(values, rounds));
}

static const char help[] =
    "store-limit measures what Redis pays for a cycle of create, claim and complete.\n"
    "\n"
    "Usage: store-limit [options]\n"
    "\n"
    "  --batch LIST      tasks a call (1,8,16)\n"
    "  --in-flight N     tasks in flight on the one connection (64)\n"
    "  --seconds N       of each round (1)\n"
    "  --cycles N        end each round after so many tasks instead: for counting instructions\n"
    "  --rounds N        of each driver, interleaved (5)\n"
    "  --cpu N           core for client and Redis, -1: none (0)\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  store-limit\n"
    "  store-limit --batch 8 --in-flight 48 --rounds 9\n";

static int number(const char *option, const char *text, int min, int max)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "store-limit: %s is '%s': give %d to %d\n", option, text, min, max);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"batch", required_argument, NULL, 'b'},   {"in-flight", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 's'}, {"cycles", required_argument, NULL, 'y'},
        {"rounds", required_argument, NULL, 'r'},  {"cpu", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    char default_batches[] = "1,8,16";
    char *batches = default_batches;
    int seconds = 1;
    int rounds = 5;
    int cpu = 0;
    static struct limit l = {.in_flight = IN_FLIGHT_DEFAULT};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'b':
            batches = optarg;
            break;
        case 'f':
            l.in_flight = number("--in-flight", optarg, 1, IN_FLIGHT_MAX);
            break;
        case 's':
            seconds = number("--seconds", optarg, 1, 3600);
            break;
        case 'y':
            l.cycles = (size_t)number("--cycles", optarg, 1, 100000000);
            break;
        case 'r':
            rounds = number("--rounds", optarg, 1, ROUNDS_MAX);
            break;
        case 'c':
            cpu = number("--cpu", optarg, -1, 1023);
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return 2;
        }
    }
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) != 0) {
            die("--cpu", strerror(errno));
        }
    }
    struct err err;
    /* As codeqd starts its own. */
    static const char *const settings[] = {"--zset-max-listpack-entries", "0", NULL};
    struct redis_server_options redis_options = {.cpu = cpu, .config = settings};
    if (redis_server_start(&l.redis, &redis_options, &err) != 0) {
        die("redis-server", err.text);
    }
    snprintf(l.url, sizeof l.url, "unix:%s", l.redis.socket_path);
    struct store_options store_options = {
        .url = l.url, .seed = 1, .backoff = BACKOFF_POLICY_DEFAULT};
    l.store = store_open(&store_options, &err);
    l.bare = redisConnectUnix(l.redis.socket_path);
    if (l.store == NULL || l.bare == NULL || l.bare->err != 0) {
        die("redis", l.store == NULL ? err.text : "cannot connect");
    }
    memset(l.body, 'x', BODY_BYTES);
    l.body[0] = '-'; /* no outbox; the store puts its own in front */
    l.body[BODY_BYTES] = 'x';
    memset(l.result, 'r', RESULT_BYTES);
    store_intern(l.store, "limit", (struct store_bytes){"work", 4}, on_intern, &l);
    store_wait(l.store, INT64_MAX);
    keys_tag("limit", (uint16_t)(l.queue.number + 1), 0, l.tag); /* a queue of its own */
    static struct cost costs[DRIVERS][ROUNDS_MAX];
    char *rest = NULL;
    for (char *b = strtok_r(batches, ",", &rest); b != NULL; b = strtok_r(NULL, ",", &rest)) {
        l.batch = number("--batch", b, 1, STORE_TASKS_MAX);
        if (l.in_flight % l.batch != 0) {
            die("--in-flight", "is no multiple of the batch");
        }
        redis_server_tell(l.redis.socket_path, "CONFIG RESETSTAT");
        for (int i = 0; i < BACKLOG; i += l.in_flight) {
            store_phase(&l, PHASE_CREATE);
            bare_phase(&l, PHASE_CREATE);
        }
        struct cost warm;
        run(&l, DRIVER_STORE, NS_PER_SEC / 5, &warm);
        run(&l, DRIVER_BARE, NS_PER_SEC / 5, &warm);
        for (int r = 0; r < rounds; r++) {
            for (enum driver d = 0; d < DRIVERS; d++) {
                run(&l, d, seconds * NS_PER_SEC, &costs[d][r]);
            }
        }
        report(l.batch, costs, rounds);
        fflush(stdout);
    }
    redisFree(l.bare);
    store_close(l.store);
    redis_server_stop(&l.redis);
    return 0;
}
