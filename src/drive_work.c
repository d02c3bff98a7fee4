#include "drive_work.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json_text.h"
#include "base/json_tokens.h"

#define LEASE_MS 300000
#define MAX_ATTEMPTS 5
#define PRIORITY 5
#define TENANT "bench"
#define COMMAND "bench"
#define WORKER "bench-worker"

static const struct store_bytes raw_result = {"done", 4};

struct drive_work {
    struct store *store;
    struct drive_work_options options;
    struct store_queue queue;
    char *payload; /* payload_bytes letters and a NUL */
    struct store_create_item creates[DRIVE_BATCH_MAX];
    struct store_complete_item completes[DRIVE_BATCH_MAX];
    char *encoded; /* JSON texts of the call under way, each in room_bytes */
    size_t room_bytes;
    struct json_tokens tokens; /* of the task that is read */
    struct task_member leases[DRIVE_BATCH_MAX]; /* of the last claim */
    size_t leased;
    size_t done; /* items that ended well in the last reply */
    bool answered;
    struct err reply_err; /* why it did not */
};

const char *drive_operation_name(enum drive_operation operation)
{
    switch (operation) {
    case DRIVE_CYCLE:
        return "cycle";
    case DRIVE_CREATE:
        return "create";
    case DRIVE_CLAIM:
        return "claim";
    case DRIVE_OPERATION_COUNT:
        break;
    }
    return "?";
}

int drive_operation_parse(const char *name, enum drive_operation *out)
{
    for (int i = 0; i < DRIVE_OPERATION_COUNT; i++) {
        if (strcmp(name, drive_operation_name((enum drive_operation)i)) == 0) {
            *out = (enum drive_operation)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *drive_call_name(enum drive_call call)
{
    switch (call) {
    case DRIVE_CALL_CREATE:
        return "create";
    case DRIVE_CALL_CLAIM:
        return "claim";
    case DRIVE_CALL_COMPLETE:
        return "complete";
    case DRIVE_CALL_COUNT:
        break;
    }
    return "?";
}

/* ---- one call ---- */

static bool reply_ok(struct drive_work *work, const struct store_call_result *call,
                     const char *what)
{
    work->answered = true;
    work->done = 0;
    if (call->status != STORE_OK) {
        err_set(&work->reply_err, -EIO, "%s: %s", what, call->err.text);
        return false;
    }
    return true;
}

static void on_intern(void *arg, const struct store_call_result *call,
                      const struct store_queue *queue, uint8_t shard_count)
{
    struct drive_work *work = arg;
    (void)shard_count;
    if (reply_ok(work, call, "naming the queue")) {
        work->queue = (struct store_queue){TENANT, queue->number, 0};
        work->done = 1;
    }
}

static void on_created(void *arg, const struct store_call_result *call,
                       const struct store_create_verdict *items, size_t count)
{
    struct drive_work *work = arg;
    if (!reply_ok(work, call, "create")) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        work->done += items[i].verdict == STORE_DONE;
    }
}

/* The member's value; NULL when the object has none. */
static const struct json_token *member(const struct json_tokens *tokens, const char *text,
                                       const char *key)
{
    size_t bytes = strlen(key);
    uint32_t t = 1;
    for (uint32_t left = tokens->tokens[0].count; left > 0; left--) {
        const struct json_token *token = &tokens->tokens[t];
        if (token->bytes == bytes + 2 && memcmp(text + token->at + 1, key, bytes) == 0) {
            return &token[1];
        }
        t = token[1].next;
    }
    return NULL;
}

/* As a worker that uses the service: find the fields that it acts on. */
static bool decode_task(struct drive_work *work, const struct store_bytes *body)
{
    if (json_tokens_parse(&work->tokens, body->data, body->bytes, NULL) != 0 ||
        work->tokens.tokens[0].type != JSON_OBJECT) {
        return false;
    }
    const struct json_token *payload = member(&work->tokens, body->data, "payload");
    const struct json_token *command = member(&work->tokens, body->data, "command");
    return payload != NULL && payload->type == JSON_STRING && command != NULL &&
           command->bytes == sizeof COMMAND - 1 + 2 &&
           memcmp(body->data + command->at + 1, COMMAND, sizeof COMMAND - 1) == 0 &&
           json_token_decode(payload, body->data, work->encoded) ==
               (size_t)work->options.payload_bytes;
}

static void on_claimed(void *arg, const struct store_call_result *call,
                       const struct store_claimed *tasks, size_t count)
{
    struct drive_work *work = arg;
    work->leased = 0;
    if (!reply_ok(work, call, "claim")) {
        return;
    }
    for (size_t i = 0; i < count && i < DRIVE_BATCH_MAX; i++) {
        work->leases[work->leased++] = tasks[i].member;
        if (work->options.json ? decode_task(work, &tasks[i].body)
                               : tasks[i].body.bytes == (size_t)work->options.payload_bytes) {
            work->done++;
        }
    }
}

static void on_completed(void *arg, const struct store_call_result *call,
                         const struct store_return_verdict *items, size_t count)
{
    struct drive_work *work = arg;
    if (!reply_ok(work, call, "complete")) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        work->done += items[i].verdict == STORE_DONE;
    }
}

#ifdef PLANT_ROUND_TRIP /* see base/plant.h */
static void on_planted(void *arg, const struct store_call_result *call,
                       const struct store_stats *stats)
{
    (void)stats;
    reply_ok(arg, call, "stats");
}
#endif

/* Send what was queued and see that all of it ended well. */
static int finish_call(struct drive_work *work, int queued, size_t expected, const char *what,
                       struct err *err)
{
    if (queued != 0) {
        return err_set(err, queued, "%s: %s", what, strerror(-queued));
    }
    int code = store_wait(work->store, INT64_MAX);
    if (code != 0 || !work->answered) {
        return err_set(err, code != 0 ? code : -EIO, "%s: no answer", what);
    }
    if (work->reply_err.text[0] != '\0') {
        return err_set(err, -EIO, "%s", work->reply_err.text);
    }
    if (work->done != expected) {
        return err_set(err, -EPROTO, "%s: %zu of %zu tasks", what, work->done, expected);
    }
    return 0;
}

#define TASK_HEAD "{\"command\":\"" COMMAND "\",\"payload\":\""
#define RESULT \
    "{\"workerId\":\"" WORKER "\",\"status\":\"COMPLETED\",\"result\":{\"ok\":true,\"items\":3}}"
#define NUMBERS_BYTES_MAX 64 /* of a task's text behind the payload */

static struct store_bytes encode_task(const struct drive_work *work, char *room)
{
    char *at = TEXT_PUT(room, TASK_HEAD);
    at = json_escape(at, work->payload, (size_t)work->options.payload_bytes);
    at = TEXT_PUT(at, "\",\"priority\":");
    at = text_int(at, PRIORITY);
    at = TEXT_PUT(at, ",\"maxAttempts\":");
    at = text_int(at, MAX_ATTEMPTS);
    at = TEXT_PUT(at, "}");
    return (struct store_bytes){room, (size_t)(at - room)};
}

static struct store_bytes encode_result(char *room)
{
    return (struct store_bytes){room, (size_t)(TEXT_PUT(room, RESULT) - room)};
}

static __attribute__((noinline)) int call_create(struct drive_work *work, size_t count,
                                                 struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct store_bytes body = {work->payload, (size_t)work->options.payload_bytes};
        if (work->options.json) {
            body = encode_task(work, work->encoded + i * work->room_bytes);
        }
        work->creates[i].body = body;
    }
    work->answered = false;
    int queued = store_create(work->store, &work->queue, work->creates, count, on_created, work);
    return finish_call(work, queued, count, "create", err);
}

static __attribute__((noinline)) int call_claim(struct drive_work *work, size_t count,
                                                struct err *err)
{
    struct store_claim_item item = {
        .count = (uint16_t)count,
        .lease_ms = LEASE_MS,
        .worker = {WORKER, sizeof WORKER - 1},
    };
    work->answered = false;
    int queued = store_claim(work->store, &work->queue, &item, 1, on_claimed, work);
#ifdef PLANT_ROUND_TRIP
    int code = finish_call(work, queued, count, "claim", err);
    if (code != 0) {
        return code;
    }
    count = 0;
    queued = store_stats(work->store, &work->queue, on_planted, work);
#endif
    return finish_call(work, queued, count, "claim", err);
}

static __attribute__((noinline)) int call_complete(struct drive_work *work, size_t count,
                                                   struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct store_bytes result = raw_result;
        if (work->options.json) {
            result = encode_result(work->encoded + i * work->room_bytes);
        }
        work->completes[i] = (struct store_complete_item){
            .lease = {.has_token = true,
                      .token = work->leases[i],
                      .worker = {WORKER, sizeof WORKER - 1}},
            .result = result,
        };
    }
    work->answered = false;
    int queued =
        store_complete(work->store, &work->queue, work->completes, count, on_completed, work);
    return finish_call(work, queued, count, "complete", err);
}

static int call(struct drive_work *work, enum drive_call kind, size_t count, struct err *err)
{
    switch (kind) {
    case DRIVE_CALL_CREATE:
        return call_create(work, count, err);
    case DRIVE_CALL_CLAIM:
        return call_claim(work, count, err);
    case DRIVE_CALL_COMPLETE:
        return call_complete(work, count, err);
    case DRIVE_CALL_COUNT:
        break;
    }
    return err_set(err, -EINVAL, "no such call");
}

/* ---- the work ---- */

struct drive_work *drive_work_new(struct store *store, const struct drive_work_options *options,
                                  struct err *err)
{
    if (options->batch < 1 || options->batch > DRIVE_BATCH_MAX) {
        err_set(err, -EINVAL, "batch is %d: give 1..%d", options->batch, DRIVE_BATCH_MAX);
        return NULL;
    }
    if (options->payload_bytes < 0 || options->payload_bytes > DRIVE_PAYLOAD_BYTES_MAX) {
        err_set(err, -EINVAL, "payload_bytes is %lld: give 0..%d",
                (long long)options->payload_bytes, DRIVE_PAYLOAD_BYTES_MAX);
        return NULL;
    }
    /* The payload is letters: escaped, it is as long. */
    size_t room_bytes =
        sizeof TASK_HEAD + (size_t)options->payload_bytes + NUMBERS_BYTES_MAX + sizeof RESULT;
    struct drive_work *work = calloc(1, sizeof *work);
    char *payload = malloc((size_t)options->payload_bytes + 1);
    char *encoded = malloc(options->json ? (size_t)options->batch * room_bytes : 1);
    if (work == NULL || payload == NULL || encoded == NULL) {
        free(work);
        free(payload);
        free(encoded);
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    work->store = store;
    work->options = *options;
    work->payload = payload;
    work->encoded = encoded;
    work->room_bytes = room_bytes;
    for (int64_t i = 0; i < options->payload_bytes; i++) {
        payload[i] = (char)('a' + i % 26);
    }
    payload[options->payload_bytes] = '\0';
    for (size_t i = 0; i < DRIVE_BATCH_MAX; i++) {
        work->creates[i] =
            (struct store_create_item){.priority = PRIORITY, .max_attempts = MAX_ATTEMPTS};
    }
    struct store_bytes command = {COMMAND, sizeof COMMAND - 1};
    int queued = store_intern(store, TENANT, command, on_intern, work);
    if (finish_call(work, queued, 1, "naming the queue", err) != 0) {
        drive_work_free(work);
        return NULL;
    }
    return work;
}

void drive_work_free(struct drive_work *work)
{
    if (work != NULL) {
        json_tokens_fini(&work->tokens);
        free(work->encoded);
        free(work->payload);
        free(work);
    }
}

int drive_work_preload(struct drive_work *work, int64_t tasks, struct err *err)
{
    int64_t most = work->options.json ? work->options.batch : DRIVE_BATCH_MAX; /* has room for it */
    while (tasks > 0) {
        size_t count = (size_t)(tasks < most ? tasks : most);
        int code = call_create(work, count, err);
        if (code != 0) {
            return code;
        }
        tasks -= (int64_t)count;
    }
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

int64_t drive_work_run(struct drive_work *work, int64_t ops, int64_t duration_ns,
                       struct hist *hists, struct err *err)
{
    static const struct {
        int count;
        enum drive_call calls[DRIVE_CALL_COUNT];
    } plans[DRIVE_OPERATION_COUNT] = {
        [DRIVE_CYCLE] = {3, {DRIVE_CALL_CREATE, DRIVE_CALL_CLAIM, DRIVE_CALL_COMPLETE}},
        [DRIVE_CREATE] = {1, {DRIVE_CALL_CREATE}},
        [DRIVE_CLAIM] = {1, {DRIVE_CALL_CLAIM}},
    };
    size_t batch = (size_t)work->options.batch;
    bool timed = hists != NULL || duration_ns > 0;
    int64_t start_ns = timed ? now_ns() : 0;
    int64_t before_ns = start_ns;
    int64_t done = 0;
    while (done < ops && !(duration_ns > 0 && before_ns - start_ns >= duration_ns)) {
        for (int i = 0; i < plans[work->options.operation].count; i++) {
            enum drive_call kind = plans[work->options.operation].calls[i];
            int code = call(work, kind, batch, err);
            if (code != 0) {
                return code;
            }
            if (timed) {
                int64_t after_ns = now_ns();
                if (hists != NULL) {
                    hist_record(&hists[kind], after_ns - before_ns);
                }
                before_ns = after_ns;
            }
        }
        done += (int64_t)batch;
    }
    return done;
}
