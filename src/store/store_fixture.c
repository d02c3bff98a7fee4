#include "store/store_fixture.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "store/keys.h"
#include "store/store_internal.h"

struct store_bytes bytes_of(const char *text)
{
    return (struct store_bytes){text, strlen(text)};
}

struct store *fixture_open(struct fixture *fixture, uint64_t seed)
{
    struct store_options options = fixture->options;
    options.seed = seed;
    struct store *store = store_open(&options, &fixture->err);
    if (store == NULL) {
        fail_msg("%s", fixture->err.text);
    }
    return store;
}

void fixture_start(struct fixture *fixture)
{
    struct redis_server_options server_options = fixture->server_options;
    memset(fixture, 0, sizeof *fixture);
    fixture->server_options = server_options;
    fixture->server_options.cpu = -1;
    if (redis_server_start(&fixture->server, &fixture->server_options, &fixture->err) != 0) {
        fail_msg("%s", fixture->err.text);
    }
    snprintf(fixture->url, sizeof fixture->url, "unix:%s", fixture->server.socket_path);
    fixture->options = (struct store_options){
        .url = fixture->url,
        .clock = clock_system(),
        .seed = 1,
        .connect_timeout_ns = 10 * NS_PER_SEC,
        .command_timeout_ns = 30 * NS_PER_SEC,
        .backoff = {BACKOFF_EXPONENTIAL, 5000, 900000},
    };
    fixture->store = fixture_open(fixture, 1);
    fixture->queue = intern(fixture, fixture->store, "acme", bytes_of("work"));
}

void fixture_stop(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture_unshare(fixture);
    for (size_t i = 0; i < fixture->script_set_count; i++) {
        for (int j = 0; j < SCRIPT_COUNT; j++) {
            free((void *)(uintptr_t)fixture->script_sets[i][j].text);
        }
        free(fixture->script_sets[i]);
    }
    redis_server_stop(&fixture->server);
}

void fixture_new_queue(struct fixture *fixture)
{
    char command[32];
    snprintf(command, sizeof command, "queue %u", fixture->queues++);
    fixture->queue = intern(fixture, fixture->store, "acme", bytes_of(command));
}

void fixture_share(const struct fixture *fixture, struct fixture *out_copy)
{
    *out_copy = *fixture;
    out_copy->raw = NULL;
}

void fixture_unshare(struct fixture *copy)
{
    if (copy->raw != NULL) {
        redisFree(copy->raw);
        copy->raw = NULL;
    }
}

/* text with its one `from` replaced; NULL when it is not there exactly once. The caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (at == NULL || strstr(at + 1, from) != NULL) {
        return NULL;
    }
    struct buf buf = BUF_INIT;
    buf_append(&buf, text, (size_t)(at - text));
    buf_puts(&buf, to);
    buf_puts(&buf, at + strlen(from));
    return buf_take(&buf);
}

struct store *fixture_open_patched(struct fixture *fixture, const struct store_options *options,
                                   const struct patch *patch)
{
    struct script *set = calloc(SCRIPT_COUNT, sizeof *set);
    assert_non_null(set);
    assert_true(fixture->script_set_count < FIXTURE_SCRIPT_SETS_MAX);
    fixture->script_sets[fixture->script_set_count++] = set;
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        set[i] = store_scripts[i];
        char *text = replaced(set[i].text, "redis.call('TIME')",
                              "redis.call('LRANGE', '{fake}:time', 0, 1)");
        if (text == NULL) {
            text = strdup(set[i].text);
        }
        if (patch != NULL && (int)patch->script == i) {
            char *patched = replaced(text, patch->from, patch->to);
            if (patched == NULL) {
                fail_msg("script %s does not hold '%s' exactly once", set[i].name, patch->from);
            }
            free(text);
            text = patched;
        }
        set[i].text = text;
        set[i].bytes = strlen(text);
        const char *argv[] = {"SCRIPT", "LOAD", text};
        char *sha = redis_do(fixture, 3, argv, NULL);
        if (strlen(sha) != SCRIPT_SHA_BYTES) {
            fail_msg("script %s: %s", set[i].name, sha);
        }
        memcpy(set[i].sha, sha, SCRIPT_SHA_BYTES + 1);
        free(sha);
    }
    struct store *store =
        store_open_scripts(options != NULL ? options : &fixture->options, set, &fixture->err);
    if (store == NULL) {
        fail_msg("%s", fixture->err.text);
    }
    return store;
}

void fixture_set_time(struct fixture *fixture, int64_t unix_us)
{
    char sec[24];
    char us[24];
    snprintf(sec, sizeof sec, "%lld", (long long)(unix_us / 1000000));
    snprintf(us, sizeof us, "%lld", (long long)(unix_us % 1000000));
    const char *argv[] = {"EVAL",
                          "redis.call('DEL', KEYS[1])"
                          " return redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])",
                          "1",
                          "{fake}:time",
                          sec,
                          us};
    char *text = redis_do(fixture, 6, argv, NULL);
    assert_string_equal(text, "2");
    free(text);
}

/* ---- raw Redis ---- */

static void put_reply(struct buf *buf, const redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_NIL:
        buf_puts(buf, "nil");
        break;
    case REDIS_REPLY_INTEGER:
        buf_printf(buf, "%lld", reply->integer);
        break;
    case REDIS_REPLY_ERROR:
        buf_puts(buf, "-");
        buf_append(buf, reply->str, (size_t)reply->len);
        break;
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < (size_t)reply->elements; i++) {
            if (i != 0) {
                buf_puts(buf, " ");
            }
            put_reply(buf, reply->element[i]);
        }
        break;
    default:
        buf_append(buf, reply->str, (size_t)reply->len);
        break;
    }
}

char *redis_do(struct fixture *fixture, int argc, const char *const *argv, const size_t *bytes)
{
    redisContext *context = fixture->raw;
    if (context == NULL || context->err != 0) {
        fixture_unshare(fixture);
        context = redisConnectUnix(fixture->server.socket_path);
        assert_non_null(context);
        assert_int_equal(context->err, 0);
        fixture->raw = context;
    }
    redisReply *reply = redisCommandArgv(context, argc, (const char **)(uintptr_t)argv, bytes);
    assert_non_null(reply);
    struct buf buf = BUF_INIT;
    put_reply(&buf, reply);
    freeReplyObject(reply);
    return buf_take(&buf);
}

char *redis_text(struct fixture *fixture, const char *command)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", command);
    const char *argv[16];
    int argc = 0;
    char *save = NULL;
    for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        assert_true(argc < 16);
        argv[argc++] = word;
    }
    return redis_do(fixture, argc, argv, NULL);
}

int64_t redis_number(struct fixture *fixture, const char *command)
{
    char *text = redis_text(fixture, command);
    int64_t value = strtoll(text, NULL, 10);
    free(text);
    return value;
}

int64_t redis_now_ms(struct fixture *f)
{
    char *text = redis_text(f, "TIME");
    char *us = NULL;
    int64_t now_ms = strtoll(text, &us, 10) * 1000;
    now_ms += strtoll(us, NULL, 10) / 1000;
    free(text);
    return now_ms;
}

void wait_for_redis_time(struct fixture *f, int64_t unix_ms)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 10 * NS_PER_SEC;
    while (redis_now_ms(f) < unix_ms) {
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        struct timespec pause = {0, NS_PER_MS / 2};
        nanosleep(&pause, NULL);
    }
}

/* ---- lock step ---- */

struct answer {
    bool came;
    enum store_status status;
    struct err err;
    void *out;
};

static enum store_status run(struct fixture *f, struct store *store, int rc, struct answer *answer)
{
    if (rc != 0) {
        fail_msg("the operation was refused: %s", strerror(-rc));
    }
    assert_int_equal(store_wait(store, clock_monotonic_ns(clock_system()) + 60 * NS_PER_SEC), 0);
    assert_true(answer->came);
    f->err = answer->err;
    return answer->status;
}

static struct answer *arrived(void *arg, const struct store_call_result *call)
{
    struct answer *answer = arg;
    assert_false(answer->came); /* exactly one callback */
    answer->came = true;
    answer->status = call->status;
    answer->err = call->err;
    return answer;
}

struct interned {
    struct store_queue queue;
    uint8_t shards;
};

static void on_intern(void *arg, const struct store_call_result *call,
                      const struct store_queue *queue, uint8_t shards)
{
    struct answer *answer = arrived(arg, call);
    if (call->status == STORE_OK) {
        struct interned *out = answer->out;
        out->queue = *queue;
        out->shards = shards;
    }
}

struct store_queue intern(struct fixture *f, struct store *store, const char *tenant,
                          struct store_bytes command)
{
    struct interned out = {0};
    struct answer answer = {.out = &out};
    if (run(f, store, store_intern(store, tenant, command, on_intern, &answer), &answer) !=
        STORE_OK) {
        fail_msg("%s", f->err.text);
    }
    out.queue.tenant = tenant;
    return out.queue;
}

static void on_create(void *arg, const struct store_call_result *call,
                      const struct store_create_verdict *items, size_t count)
{
    struct answer *answer = arrived(arg, call);
    if (call->status == STORE_OK) {
        memcpy(answer->out, items, count * sizeof *items);
    }
}

enum store_status create_call(struct fixture *f, struct store *store,
                              const struct store_create_item *items, size_t count,
                              struct store_create_verdict *out)
{
    struct answer answer = {.out = out};
    int rc = store_create(store, &f->queue, items, count, on_create, &answer);
    return run(f, store, rc, &answer);
}

static char *copy_bytes(struct store_bytes bytes)
{
    char *copy = malloc(bytes.bytes + 1);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.bytes);
    copy[bytes.bytes] = '\0';
    return copy;
}

static void on_claim(void *arg, const struct store_call_result *call,
                     const struct store_claimed *tasks, size_t count)
{
    struct answer *answer = arrived(arg, call);
    struct claims *out = answer->out;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        out->tasks[i] = (struct claimed){tasks[i].claimer, tasks[i].member, tasks[i].lease_until_ms,
                                         copy_bytes(tasks[i].body), tasks[i].body.bytes};
    }
}

enum store_status claim_call(struct fixture *f, struct store *store,
                             const struct store_claim_item *items, size_t count, struct claims *out)
{
    struct answer answer = {.out = out};
    out->count = 0;
    int rc = store_claim(store, &f->queue, items, count, on_claim, &answer);
    return run(f, store, rc, &answer);
}

void claims_free(struct claims *claims)
{
    for (size_t i = 0; i < claims->count; i++) {
        free(claims->tasks[i].body);
    }
    claims->count = 0;
}

static void on_return(void *arg, const struct store_call_result *call,
                      const struct store_return_verdict *items, size_t count)
{
    struct answer *answer = arrived(arg, call);
    if (call->status == STORE_OK) {
        memcpy(answer->out, items, count * sizeof *items);
    }
}

enum store_status heartbeat_call(struct fixture *f, struct store *store,
                                 const struct store_heartbeat_item *items, size_t count,
                                 struct store_return_verdict *out)
{
    struct answer answer = {.out = out};
    int rc = store_heartbeat(store, &f->queue, items, count, on_return, &answer);
    return run(f, store, rc, &answer);
}

enum store_status complete_call(struct fixture *f, struct store *store,
                                const struct store_complete_item *items, size_t count,
                                struct store_return_verdict *out)
{
    struct answer answer = {.out = out};
    int rc = store_complete(store, &f->queue, items, count, on_return, &answer);
    return run(f, store, rc, &answer);
}

enum store_status nack_call(struct fixture *f, struct store *store,
                            const struct store_nack_item *items, size_t count,
                            struct store_return_verdict *out)
{
    struct answer answer = {.out = out};
    int rc = store_nack(store, &f->queue, items, count, on_return, &answer);
    return run(f, store, rc, &answer);
}

enum store_status abandon_call(struct fixture *f, struct store *store,
                               const struct store_abandon_item *items, size_t count,
                               struct store_return_verdict *out)
{
    struct answer answer = {.out = out};
    int rc = store_abandon(store, &f->queue, items, count, on_return, &answer);
    return run(f, store, rc, &answer);
}

static void on_sweep(void *arg, const struct store_call_result *call,
                     const struct store_sweep_result *result)
{
    struct answer *answer = arrived(arg, call);
    memcpy(answer->out, result, sizeof *result);
}

enum store_status sweep_call(struct fixture *f, struct store *store, uint16_t limit,
                             struct store_sweep_result *out)
{
    struct answer answer = {.out = out};
    int rc = store_sweep(store, &f->queue, limit, on_sweep, &answer);
    return run(f, store, rc, &answer);
}

static void copy_name(char *out, size_t out_bytes, struct store_bytes bytes)
{
    snprintf(out, out_bytes, "%.*s", (int)bytes.bytes, bytes.bytes != 0 ? bytes.data : "");
}

static void on_get(void *arg, const struct store_call_result *call, const struct store_task *tasks,
                   size_t count)
{
    struct answer *answer = arrived(arg, call);
    struct got *out = answer->out;
    memset(out, 0, sizeof *out);
    if (call->status != STORE_OK) {
        return;
    }
    assert_int_equal(count, 1);
    out->state = tasks->state;
    out->member = tasks->member;
    out->updated_ms = tasks->updated_ms;
    out->due_ms = tasks->due_ms;
    copy_name(out->worker, sizeof out->worker, tasks->worker);
    copy_name(out->reason, sizeof out->reason, tasks->reason);
    if (tasks->state != TASK_NONE) {
        out->body = copy_bytes(tasks->body);
        out->body_bytes = tasks->body.bytes;
    }
    if (tasks->result.data != NULL) {
        out->result = copy_bytes(tasks->result);
        out->result_bytes = tasks->result.bytes;
    }
}

enum store_status get_call(struct fixture *f, struct store *store, const struct task_id *id,
                           struct got *out)
{
    struct answer answer = {.out = out};
    int rc = store_get(store, &f->queue, id, 1, on_get, &answer);
    return run(f, store, rc, &answer);
}

void got_free(struct got *got)
{
    free(got->body);
    free(got->result);
    got->body = NULL;
    got->result = NULL;
}

static void on_stats(void *arg, const struct store_call_result *call,
                     const struct store_stats *stats)
{
    struct answer *answer = arrived(arg, call);
    memcpy(answer->out, stats, sizeof *stats);
}

enum store_status stats_call(struct fixture *f, struct store *store, struct store_stats *out)
{
    struct answer answer = {.out = out};
    return run(f, store, store_stats(store, &f->queue, on_stats, &answer), &answer);
}

/* ---- one item by token ---- */

static void assert_ok(struct fixture *f, enum store_status status)
{
    if (status != STORE_OK) {
        fail_msg("status %d: %s", (int)status, f->err.text);
    }
}

struct task_id create_one(struct fixture *f, uint8_t priority, const char *body)
{
    struct store_create_item item = {
        .priority = priority, .max_attempts = 5, .body = bytes_of(body)};
    struct store_create_verdict verdict;
    assert_ok(f, create_call(f, f->store, &item, 1, &verdict));
    assert_int_equal(verdict.verdict, STORE_DONE);
    return verdict.id;
}

bool claim_one(struct fixture *f, int64_t lease_ms, struct task_member *out)
{
    struct store_claim_item item = {.count = 1, .lease_ms = lease_ms, .worker = bytes_of("w")};
    struct claims *claims = calloc(1, sizeof *claims);
    assert_ok(f, claim_call(f, f->store, &item, 1, claims));
    bool got = claims->count == 1;
    if (got) {
        *out = claims->tasks[0].member;
    }
    claims_free(claims);
    free(claims);
    return got;
}

enum store_verdict complete_one(struct fixture *f, const struct task_member *token)
{
    struct store_complete_item item = {.lease = {.has_token = true, .token = *token},
                                       .result = bytes_of("done")};
    struct store_return_verdict verdict;
    assert_ok(f, complete_call(f, f->store, &item, 1, &verdict));
    return verdict.verdict;
}

struct store_return_verdict nack_one(struct fixture *f, const struct task_member *token,
                                     int64_t delay_ms)
{
    struct store_nack_item item = {.lease = {.has_token = true, .token = *token},
                                   .delay_ms = delay_ms,
                                   .reason = bytes_of("because")};
    struct store_return_verdict verdict;
    assert_ok(f, nack_call(f, f->store, &item, 1, &verdict));
    return verdict;
}

enum store_verdict abandon_one(struct fixture *f, const struct task_member *token)
{
    struct store_abandon_item item = {.lease = {.has_token = true, .token = *token}};
    struct store_return_verdict verdict;
    assert_ok(f, abandon_call(f, f->store, &item, 1, &verdict));
    return verdict.verdict;
}

enum store_verdict heartbeat_one(struct fixture *f, const struct task_member *token,
                                 int64_t extend_ms)
{
    struct store_heartbeat_item item = {.lease = {.has_token = true, .token = *token},
                                        .extend_ms = extend_ms};
    struct store_return_verdict verdict;
    assert_ok(f, heartbeat_call(f, f->store, &item, 1, &verdict));
    return verdict.verdict;
}

enum task_state state_of_task(struct fixture *f, const struct task_id *id)
{
    struct got got;
    assert_ok(f, get_call(f, f->store, id, &got));
    got_free(&got);
    return got.state;
}

struct store_stats stats_now(struct fixture *f)
{
    struct store_stats stats;
    assert_ok(f, stats_call(f, f->store, &stats));
    return stats;
}

/* ---- accounts ---- */

void assert_accounts(struct fixture *f)
{
    struct store_stats s = stats_now(f);
    assert_int_equal(s.created, s.delayed + s.ready + s.leased + s.completed + s.failed + s.dead +
                                    s.purged - s.replayed);
    assert_int_equal(s.dead, s.dead_now + s.replayed + s.dead_purged);
    char tag[KEYS_BYTES_MAX];
    keys_tag(f->queue.tenant, f->queue.number, f->queue.shard, tag);
    /* In Redis's own words, sharing nothing with the scripts: each member of each sorted set has a
     * body and a line in current that says exactly this (of ready, perhaps still delayed), and
     * there is nothing else. */
    static const char check[] =
        "local n, K = 0, KEYS[1]\n"
        "for set, letter in pairs({r='r', d='d', l='l', x='x'}) do\n"
        "  for _, m in ipairs(redis.call('ZRANGE', K..':'..set, 0, -1)) do\n"
        "    n = n + 1\n"
        "    local id = string.sub(m, 1, 16)\n"
        "    if redis.call('HEXISTS', K..':b', id) == 0 then return 'no body in '..set end\n"
        "    local is = redis.call('HGET', K..':c', id)\n"
        "    if not is then return 'no current in '..set end\n"
        "    local says = string.sub(is, 1, 18)\n"
        "    if says ~= letter..string.sub(m, 17) and not (set == 'r' and\n"
        "      says == 'd'..string.sub(m, 17)) then return 'current says "
        "'..is..' in '..set end\n"
        "  end\n"
        "end\n"
        "if redis.call('HLEN', K..':b') ~= n then return 'a body without a place' end\n"
        "if redis.call('HLEN', K..':c') ~= n then return 'a current without a place' end\n"
        "return 'good'";
    const char *argv[] = {"EVAL", check, "1", tag};
    char *text = redis_do(f, 4, argv, NULL);
    if (strcmp(text, "good") != 0) {
        fail_msg("%s", text);
    }
    free(text);
}

int fixture_group_start(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_start(f);
    *state = f;
    return 0;
}

int fixture_group_stop(void **state)
{
    fixture_stop(*state);
    free(*state);
    return 0;
}

int fixture_queue_start(void **state)
{
    fixture_new_queue(*state);
    return 0;
}

int fixture_still_start(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = fixture_open_patched(f, NULL, NULL);
    fixture_set_time(f, FIXTURE_T0_US);
    fixture_new_queue(f);
    return 0;
}

int fixture_still_stop(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = fixture_open(f, 1);
    return 0;
}
