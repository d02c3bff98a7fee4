/* libFuzzer target: bytes on a socket through the whole service to the store's door, which is
 * replaced here by one that judges what it is given.
 *
 * Input: the first byte is a route of the list below (the rest is its body) or, past the list, says
 * that the rest goes to the socket as it is. Judged: every text handed to the store is within its
 * bounds, every body and result is members of a strict JSON object, and every answer is whole HTTP
 * with a JSON body. With -DPLANT_OVERFLOW a task's body is copied without looking at its length, to
 * show that the target reaches that far. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json_tokens.h"
#include "base/log.h"
#include "service/server.h"
#include "service/waiters.h"
#include "store/conn.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define PENDING_MAX 4096
#define TURNS_MAX 64

static void check(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "http_fuzz: %s\n", what);
        abort();
    }
}

static void check_json(const char *open, struct store_bytes members, const char *close,
                       const char *what)
{
    static struct json_tokens tokens;
    size_t room = strlen(open) + members.bytes + strlen(close);
    char *text = malloc(room + 1);
    check(text != NULL, "out of memory");
    int n = sprintf(text, "%s", open);
    memcpy(text + n, members.data, members.bytes);
    strcpy(text + n + members.bytes, close);
    check(json_tokens_parse(&tokens, text, room, NULL) == 0, what);
    free(text);
}

static void check_queue(const struct store_queue *queue)
{
    size_t bytes = strlen(queue->tenant);
    check(bytes >= 2 && bytes <= 63, "tenant's length");
}

/* ---- a store that answers at the next flush ---- */

struct pending {
    enum {
        CREATE,
        CLAIM,
        RETURN,
        GET,
        INTERN,
        STATS,
        SWEEP,
        DEAD_LIST,
        DEAD_TAKE,
        DELETE,
        QUEUES,
        CLEANUP
    } kind;
    void (*done)(void);
    void *arg;
    struct store_queue queue;
    size_t count;
    struct task_id ids[STORE_TASKS_MAX];
};
static struct pending *pending;
static size_t pending_count;
static uint64_t chance = 1;
static char kept_body[4096] = "\"command\":\"X\",\"payload\":\"1\",\"tenantId\":\"t\"";
static char kept_result[4096] = "\"status\":\"FAILED\",\"error\":\"e\"";

static unsigned roll(unsigned bound)
{
    chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(chance >> 33) % bound;
}

static int begin(int kind, void (*done)(void), void *arg, const struct store_queue *queue,
                 size_t count, struct pending **out)
{
    if (pending_count == PENDING_MAX || roll(50) == 0) {
        return -EAGAIN;
    }
    check(count <= STORE_TASKS_MAX, "too many items in one call");
    if (queue != NULL) {
        check_queue(queue);
    }
    struct pending *p = &pending[pending_count++];
    p->kind = kind;
    p->done = done;
    p->arg = arg;
    p->queue = queue == NULL ? (struct store_queue){"tt", 1, 0} : *queue;
    p->count = count;
    *out = p;
    return 0;
}

static struct task_id some_id(void)
{
    static struct task_id_maker maker = {.maker = 1};
    return task_id_next(&maker, 1700000000000, (uint16_t)roll(4), 0);
}

static struct store_bytes bytes_of(const char *text)
{
    return (struct store_bytes){text, strlen(text)};
}

static void keep(char *kept, size_t room, struct store_bytes from)
{
    if (from.bytes < room) {
        memcpy(kept, from.data, from.bytes);
        kept[from.bytes] = '\0';
    }
}

static struct store_task some_task(const struct task_id *id)
{
    struct store_task task = {.state = (enum task_state)roll(TASK_DEAD + 1)};
    task.member = task_member_first(id, (uint8_t)roll(10), 5);
    task.updated_ms = 1700000000000;
    task.due_ms = 1700000000000;
    task.worker = bytes_of("w\"\\");
    task.reason = bytes_of(roll(2) ? "" : "r\n");
    task.body = bytes_of(kept_body);
    task.result =
        bytes_of(task.state == TASK_COMPLETED || task.state == TASK_FAILED ? kept_result : "");
    return task;
}

static void finish(struct pending *p)
{
    static struct store_create_verdict created[STORE_TASKS_MAX];
    static struct store_claimed claimed[STORE_TASKS_MAX];
    static struct store_return_verdict returned[STORE_TASKS_MAX];
    static struct store_task tasks[STORE_TASKS_MAX];
    static enum store_deleted deleted[STORE_TASKS_MAX];
    struct store_call_result call = {.status = STORE_OK};
    if (roll(20) == 0) {
        call.status = (enum store_status)(1 + roll(3));
        strcpy(call.err.text, "a fault");
    }
    size_t n = call.status == STORE_OK ? p->count : 0;
    switch (p->kind) {
    case CREATE:
        for (size_t i = 0; i < n; i++) {
            created[i] = (struct store_create_verdict){roll(4) == 0 ? STORE_DUPLICATE : STORE_DONE,
                                                       some_id(), 1700000000000, roll(2)};
        }
        ((store_create_fn *)p->done)(p->arg, &call, created, n);
        break;
    case CLAIM: {
        size_t k = 0;
        for (size_t i = 0; i < n && k < STORE_TASKS_MAX && roll(3) != 0; i++) {
            struct task_id id = some_id();
            claimed[k] = (struct store_claimed){.claimer = i,
                                                .member = task_member_first(&id, 1, 5),
                                                .lease_until_ms = 1700000060000,
                                                .body = bytes_of(kept_body)};
            k++;
        }
        ((store_claim_fn *)p->done)(p->arg, &call, claimed, k);
        break;
    }
    case RETURN:
        for (size_t i = 0; i < n; i++) {
            returned[i] = (struct store_return_verdict){
                .verdict = (enum store_verdict)roll(STORE_NOT_FOUND + 1),
                .dead = roll(2),
                .delay_ms = roll(3),
                .lease_until_ms = 1700000060000,
                .ended_ms = 1700000060000};
        }
        ((store_return_fn *)p->done)(p->arg, &call, returned, n);
        break;
    case GET:
        for (size_t i = 0; i < n; i++) {
            tasks[i] = some_task(&p->ids[i]);
        }
        ((store_get_fn *)p->done)(p->arg, &call, tasks, n);
        break;
    case INTERN: {
        struct store_queue queue = {"tt", (uint16_t)roll(4), 0};
        ((store_intern_fn *)p->done)(p->arg, &call, &queue, (uint8_t)(1 + roll(2)));
        break;
    }
    case STATS: {
        struct store_stats stats = {.ready = roll(9), .dead_now = 2};
        ((store_stats_fn *)p->done)(p->arg, &call, &stats);
        break;
    }
    case SWEEP: {
        struct store_sweep_result swept = {.now_ms = 1700000000000};
        ((store_sweep_fn *)p->done)(p->arg, &call, &swept);
        break;
    }
    case DEAD_LIST: {
        size_t k = n > 3 ? 3 : n;
        for (size_t i = 0; i < k; i++) {
            struct task_id id = some_id();
            tasks[i] = some_task(&id);
            tasks[i].state = TASK_DEAD;
        }
        ((store_dead_list_fn *)p->done)(p->arg, &call, 3, tasks, k);
        break;
    }
    case DEAD_TAKE:
        ((store_dead_take_fn *)p->done)(p->arg, &call, roll(3), 1);
        break;
    case DELETE:
        deleted[0] = (enum store_deleted)roll(3);
        ((store_delete_fn *)p->done)(p->arg, &call, deleted, n);
        break;
    case QUEUES: {
        static const char text[] = "0 1 5\nfirst3 2 6\nsecond";
        bool good = call.status == STORE_OK;
        struct store_queue_list list = {text, good ? text + sizeof(text) - 1 : text};
        ((store_queues_fn *)p->done)(p->arg, &call, good ? roll(3) : 0, list);
        break;
    }
    case CLEANUP:
        ((store_cleanup_fn *)p->done)(p->arg, &call,
                                      call.status == STORE_OK ? (uint32_t)roll(p->count + 1) : 0,
                                      roll(3) == 0 ? "1 7" : "");
        break;
    }
}

struct store *store_open(const struct store_options *options, struct err *err)
{
    (void)options;
    (void)err;
    pending = calloc(PENDING_MAX, sizeof(*pending));
    return (struct store *)pending;
}

void store_close(struct store *store)
{
    (void)store;
}

int store_fd(const struct store *store)
{
    (void)store;
    return -1;
}

size_t store_pending(const struct store *store)
{
    (void)store;
    return 0;
}

bool store_wants_write(const struct store *store)
{
    (void)store;
    return false;
}

int64_t store_deadline_ns(const struct store *store)
{
    (void)store;
    return INT64_MAX;
}

void store_on_ready(struct store *store, bool readable, bool writable)
{
    (void)store;
    (void)readable;
    (void)writable;
}

void store_counters(const struct store *store, struct store_counters *out)
{
    (void)store;
    *out = (struct store_counters){0};
}

void store_flush(struct store *store)
{
    (void)store;
    static struct pending now[PENDING_MAX];
    size_t count = pending_count;
    memcpy(now, pending, count * sizeof(*now));
    pending_count = 0;
    for (size_t i = 0; i < count; i++) {
        finish(&now[i]);
    }
}

int store_intern(struct store *store, const char *tenant, struct store_bytes command,
                 store_intern_fn *done, void *arg)
{
    (void)store;
    (void)tenant;
    struct pending *p;
    check(command.bytes >= 1 && command.bytes <= STORE_NAME_BYTES_MAX, "command's length");
    return begin(INTERN, (void (*)(void))done, arg, NULL, 0, &p);
}

int store_queues(struct store *store, const char *tenant, uint64_t cursor, store_queues_fn *done,
                 void *arg)
{
    (void)store;
    (void)tenant;
    (void)cursor;
    struct pending *p;
    return begin(QUEUES, (void (*)(void))done, arg, NULL, 0, &p);
}

/* Of the one list that is given here. */
int store_queue_list_next(struct store_queue_list *list, struct store_bytes *out_command,
                          uint16_t *out_number, uint8_t *out_shard_count)
{
    unsigned number;
    unsigned shards;
    unsigned bytes;
    int head = 0;
    if (list->next == list->end ||
        sscanf(list->next, "%u %u %u%n", &number, &shards, &bytes, &head) != 3) {
        return 0;
    }
    *out_command = (struct store_bytes){list->next + head + 1, bytes};
    *out_number = (uint16_t)number;
    *out_shard_count = (uint8_t)shards;
    list->next += (size_t)head + 1 + bytes;
    return 1;
}

int store_cleanup(struct store *store, const struct store_queue *queue, int64_t ended_by_ms,
                  uint16_t limit, const char *cursor, store_cleanup_fn *done, void *arg)
{
    (void)store;
    (void)ended_by_ms;
    struct pending *p;
    check(strlen(cursor) < STORE_CURSOR_BYTES_MAX, "cursor's length");
    return begin(CLEANUP, (void (*)(void))done, arg, queue, limit, &p);
}

int store_create(struct store *store, const struct store_queue *queue,
                 const struct store_create_item *items, size_t count, store_create_fn *done,
                 void *arg)
{
    (void)store;
    for (size_t i = 0; i < count; i++) {
        check(items[i].priority <= 9, "priority");
        check(items[i].max_attempts >= 1, "max_attempts");
        check(items[i].delay_ms >= 0 && items[i].run_at_ms >= 0, "delay");
        check(items[i].key.bytes <= STORE_NAME_BYTES_MAX, "key's length");
        check_json("{", items[i].body, "}", "a body is no JSON");
        keep(kept_body, sizeof(kept_body), items[i].body);
#ifdef PLANT_OVERFLOW
        static char *volatile body; /* volatile: else the compiler sees that nobody reads it */
        body = malloc(100); /* the corpus has up to 99: one step of its own away */
        memcpy(body, items[i].body.data, items[i].body.bytes);
        free(body);
#endif
    }
    struct pending *p;
    return begin(CREATE, (void (*)(void))done, arg, queue, count, &p);
}

int store_claim(struct store *store, const struct store_queue *queue,
                const struct store_claim_item *items, size_t count, store_claim_fn *done, void *arg)
{
    (void)store;
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        check(items[i].count >= 1 && lease_ms_valid(items[i].lease_ms), "a claim's numbers");
        check(items[i].worker.bytes <= STORE_NAME_BYTES_MAX, "worker's length");
        sum += items[i].count;
    }
    check(sum <= STORE_TASKS_MAX, "tasks in one claim");
    struct pending *p;
    return begin(CLAIM, (void (*)(void))done, arg, queue, count, &p);
}

int store_heartbeat(struct store *store, const struct store_queue *queue,
                    const struct store_heartbeat_item *items, size_t count, store_return_fn *done,
                    void *arg)
{
    (void)store;
    for (size_t i = 0; i < count; i++) {
        check(lease_ms_valid(items[i].extend_ms), "extend_ms");
    }
    struct pending *p;
    return begin(RETURN, (void (*)(void))done, arg, queue, count, &p);
}

int store_complete(struct store *store, const struct store_queue *queue,
                   const struct store_complete_item *items, size_t count, store_return_fn *done,
                   void *arg)
{
    (void)store;
    for (size_t i = 0; i < count; i++) {
        check_json("{", items[i].result, "}", "a result is no JSON");
        keep(kept_result, sizeof(kept_result), items[i].result);
    }
    struct pending *p;
    return begin(RETURN, (void (*)(void))done, arg, queue, count, &p);
}

int store_nack(struct store *store, const struct store_queue *queue,
               const struct store_nack_item *items, size_t count, store_return_fn *done, void *arg)
{
    (void)store;
    for (size_t i = 0; i < count; i++) {
        check(items[i].reason.bytes <= STORE_NAME_BYTES_MAX, "reason's length");
    }
    struct pending *p;
    return begin(RETURN, (void (*)(void))done, arg, queue, count, &p);
}

int store_abandon(struct store *store, const struct store_queue *queue,
                  const struct store_abandon_item *items, size_t count, store_return_fn *done,
                  void *arg)
{
    (void)store;
    (void)items;
    struct pending *p;
    return begin(RETURN, (void (*)(void))done, arg, queue, count, &p);
}

int store_sweep(struct store *store, const struct store_queue *queue, uint16_t limit,
                store_sweep_fn *done, void *arg)
{
    (void)store;
    (void)limit;
    struct pending *p;
    return begin(SWEEP, (void (*)(void))done, arg, queue, 1, &p);
}

int store_get(struct store *store, const struct store_queue *queue, const struct task_id *ids,
              size_t count, store_get_fn *done, void *arg)
{
    (void)store;
    struct pending *p;
    int code = begin(GET, (void (*)(void))done, arg, queue, count, &p);
    if (code == 0) {
        memcpy(p->ids, ids, count * sizeof(*ids));
    }
    return code;
}

int store_stats(struct store *store, const struct store_queue *queue, store_stats_fn *done,
                void *arg)
{
    (void)store;
    struct pending *p;
    return begin(STATS, (void (*)(void))done, arg, queue, 1, &p);
}

int store_dead_list(struct store *store, const struct store_queue *queue, uint32_t skip,
                    uint16_t limit, store_dead_list_fn *done, void *arg)
{
    (void)store;
    (void)skip;
    check(limit >= 1 && limit <= STORE_DEAD_PAGE_MAX, "page size");
    struct pending *p;
    return begin(DEAD_LIST, (void (*)(void))done, arg, queue, limit, &p);
}

static int take(const struct store_queue *queue, size_t count, store_dead_take_fn *done, void *arg)
{
    struct pending *p;
    return begin(DEAD_TAKE, (void (*)(void))done, arg, queue, count, &p);
}

int store_dead_replay(struct store *store, const struct store_queue *queue,
                      const struct task_id *ids, size_t count, int64_t died_by_ms,
                      store_dead_take_fn *done, void *arg)
{
    (void)store;
    (void)ids;
    (void)died_by_ms;
    return take(queue, count, done, arg);
}

int store_dead_purge(struct store *store, const struct store_queue *queue,
                     const struct task_id *ids, size_t count, int64_t died_by_ms,
                     store_dead_take_fn *done, void *arg)
{
    (void)store;
    (void)ids;
    (void)died_by_ms;
    return take(queue, count, done, arg);
}

int store_delete(struct store *store, const struct store_queue *queue, const struct task_id *ids,
                 size_t count, bool force, store_delete_fn *done, void *arg)
{
    (void)store;
    (void)ids;
    (void)force;
    struct pending *p;
    return begin(DELETE, (void (*)(void))done, arg, queue, count, &p);
}

/* ---- a second connection that never has room ---- */

size_t conn_pending(const struct conn *conn)
{
    (void)conn;
    return 0;
}

struct conn *conn_open(const struct conn_options *options, struct err *err)
{
    (void)options;
    (void)err;
    static int any;
    return (struct conn *)&any;
}

void conn_close(struct conn *conn)
{
    (void)conn;
}

int conn_wait(struct conn *conn, int64_t deadline_ns)
{
    (void)conn;
    (void)deadline_ns;
    return 0;
}

void conn_counters(const struct conn *conn, struct conn_counters *out)
{
    (void)conn;
    *out = (struct conn_counters){0};
}

int conn_fd(const struct conn *conn)
{
    (void)conn;
    return -1;
}

bool conn_wants_write(const struct conn *conn)
{
    (void)conn;
    return false;
}

int64_t conn_deadline_ns(const struct conn *conn)
{
    (void)conn;
    return INT64_MAX;
}

void conn_flush(struct conn *conn)
{
    (void)conn;
}

void conn_on_ready(struct conn *conn, bool readable, bool writable)
{
    (void)conn;
    (void)readable;
    (void)writable;
}

void conn_begin(struct conn *conn, size_t argc)
{
    (void)conn;
    (void)argc;
}

void conn_arg(struct conn *conn, const void *data, size_t bytes)
{
    (void)conn;
    static volatile unsigned char sum;
    for (size_t i = 0; i < bytes; i++) {
        sum = (unsigned char)(sum + ((const unsigned char *)data)[i]); /* for the sanitizer */
    }
}

void conn_arg_int(struct conn *conn, int64_t value)
{
    (void)conn;
    (void)value;
}

int conn_end(struct conn *conn, const struct conn_call *call)
{
    (void)conn;
    (void)call;
    return -EAGAIN;
}

int conn_end_everywhere(struct conn *conn, const struct conn_call *call)
{
    return conn_end(conn, call);
}

/* ---- the socket side ---- */

#define ID "00000000-0000-8000-8000-000000000001"
static const char *const routes[] = {
    "POST /v1/codeq/tasks",
    "POST /v1/codeq/tasks/batch",
    "POST /v1/codeq/tasks/claim",
    "POST /v1/codeq/tasks/claim/batch",
    "POST /v1/codeq/tasks/" ID "/heartbeat",
    "POST /v1/codeq/tasks/" ID "/abandon",
    "POST /v1/codeq/tasks/" ID "/nack",
    "POST /v1/codeq/tasks/" ID "/result",
    "POST /v1/codeq/tasks/batch/results",
    "POST /v1/codeq/tasks/heartbeat/batch",
    "POST /v1/codeq/admin/queues/X/dlq/replay",
    "POST /v1/codeq/admin/queues/X/dlq/purge",
    "POST /v1/codeq/admin/tasks/cleanup",
    "POST /v1/codeq/workers/subscriptions",
    "PUT /v1/codeq/admin/topics/abc",
    "GET /v1/codeq/tasks/" ID,
    "GET /v1/codeq/tasks/" ID "/result",
    "GET /v1/codeq/admin/queues",
    "GET /v1/codeq/admin/queues/X/dlq",
    "DELETE /v1/codeq/tasks/" ID,
};
#define ROUTES (sizeof(routes) / sizeof(routes[0]))

static struct server *server;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_bytes;

static void start(void)
{
    static struct config config;
    static char *arguments[] = {(char *)"codeqd", NULL};
    struct err err;
    check(config_load(&config, 1, arguments, NULL, &err) == 0, err.text);
    log_setup(LOG_LEVEL_ERROR, false);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "codeqd-fuzz-%d",
                     (int)getpid());
    address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    check(bind(fd, (struct sockaddr *)&address, address_bytes) == 0 && listen(fd, 16) == 0,
          "cannot listen");
    struct server_options options = {.config = &config,
                                     .redis_url = "unix:/nowhere",
                                     .shared = service_shared_new(1),
                                     .listen_fd = fd};
    server = server_new(&options, &err);
    check(server != NULL, err.text);
}

/* One whole answer at p, or abort. Where the next begins. */
static const char *check_answer(const char *p, const char *end)
{
    static struct json_tokens tokens;
    const char *body = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
    int status = 0;
    check(body != NULL && sscanf(p, "HTTP/1.1 %d", &status) == 1, "a head without end");
    body += 4;
    const char *field = memmem(p, (size_t)(body - p), "Content-Length:", 15);
    const char *type = memmem(p, (size_t)(body - p), "application/json", 16);
    check((status == 204 || status == 100) == (field == NULL), "Content-Length");
    size_t bytes = field == NULL ? 0 : strtoul(field + 15, NULL, 10);
    check(bytes <= (size_t)(end - body), "an answer broke off");
    if (bytes > 0 && type != NULL) {
        check(json_tokens_parse(&tokens, body, bytes, NULL) == 0, "an answer is no JSON");
    }
    return body + bytes;
}

static void put(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            return;
        }
        if (n > 0) {
            data += n;
            bytes -= (size_t)n;
        } else {
            server_turn(server);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char out[4 * 1024 * 1024];
    if (server == NULL) {
        start();
    }
    if (bytes < 2) {
        return 0;
    }
    chance = data[1];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(connect(fd, (struct sockaddr *)&address, address_bytes) == 0, "cannot connect");
    const char *body = (const char *)data + 2;
    bytes -= 2;
    bool raw = data[0] >= ROUTES;
    if (!raw) {
        char head[512];
        int n = snprintf(head, sizeof(head),
                         "%s%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dev-token\r\n"
                         "Content-Length: %zu\r\n\r\n",
                         routes[data[0]], data[0] == 16 ? "?waitSeconds=1" : "", bytes);
        put(fd, head, (size_t)n);
    }
    put(fd, body, bytes);
    shutdown(fd, SHUT_WR);
    size_t have = 0;
    bool ended = false;
    for (int i = 0; i < TURNS_MAX && !ended; i++) {
        server_turn(server);
        ssize_t n;
        while ((n = recv(fd, out + have, sizeof(out) - have, MSG_DONTWAIT)) > 0) {
            have += (size_t)n;
        }
        ended = n == 0 || (n < 0 && errno != EAGAIN);
    }
    check(ended, "a connection whose client sends no more stays open");
    const char *p = out;
    /* The length in an answer to HEAD counts a body that is not sent. */
    bool has_head = raw && memmem(body, bytes, "HEAD", 4) != NULL;
    while (p < out + have && !has_head) {
        p = check_answer(p, out + have);
    }
    check(raw || have > 0, "a whole request was not answered");
    close(fd);
    server_turn(server);
    return 0;
}
