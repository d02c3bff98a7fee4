/* Producers and workers while codeqd and Redis (append-only, always) are killed at random. What was
 * acknowledged is written down here, outside both, and in the end compared with what the API says:
 * no acknowledged create is missing, every acknowledged completion is the stored one, and tasks are
 * delivered again at most as often as leases were open at a kill.
 *
 * CRASH_SECONDS (10 by default) and CRASH_SEED choose a longer or another run. */
#include "service/service_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <netinet/in.h>

#include "base/clock.h"
#include "base/rng.h"

#define TASKS_MAX 200000
#define PRODUCERS 2
#define WORKERS 4
#define ANSWER_BYTES_MAX 4096

struct entry { /* one create, by its number */
    char id[40]; /* "" until acknowledged */
    atomic_uint deliveries; /* seen by a worker */
    atomic_ullong completed; /* value of the acknowledged result; 0: none */
};

static struct service_fixture f;
static struct entry *entries;
static atomic_uint next_task;
static atomic_bool producing = true;
static atomic_bool working = true;
static atomic_ullong next_value = 1;
static unsigned port;

/* Status, 0 when no whole answer came. */
static int call(const char *method, const char *path, const char *body, char out[ANSWER_BYTES_MAX])
{
    char text[2048];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    int status = 0;
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0) {
        int n = snprintf(text, sizeof(text),
                         "%s %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dev-token\r\n"
                         "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                         method, path, strlen(body), body);
        http_send(fd, text, (size_t)n);
        size_t have = 0;
        ssize_t got;
        while (have < ANSWER_BYTES_MAX - 1 &&
               (got = recv(fd, out + have, ANSWER_BYTES_MAX - 1 - have, 0)) > 0) {
            have += (size_t)got;
        }
        out[have] = '\0';
        char *end = strstr(out, "\r\n\r\n");
        char *length = strstr(out, "Content-Length:");
        if (end != NULL && sscanf(out, "HTTP/1.1 %d", &status) == 1) {
            size_t bytes = length == NULL ? 0 : strtoul(length + 15, NULL, 10);
            if (strlen(end + 4) != bytes) {
                status = 0;
            }
            memmove(out, end + 4, strlen(end + 4) + 1);
        }
    }
    close(fd);
    return status;
}

static bool field(const char *text, const char *name, char *out, size_t bytes)
{
    char key[64];
    snprintf(key, sizeof(key), "\"%s\":\"", name);
    const char *p = strstr(text, key);
    if (p == NULL) {
        return false;
    }
    p += strlen(key);
    size_t n = strcspn(p, "\"");
    if (n >= bytes) {
        return false;
    }
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

static void breathe(void)
{
    poll(NULL, 0, 10); /* between two tries at a server that is down */
}

static void *produce(void *arg)
{
    (void)arg;
    char answer[ANSWER_BYTES_MAX];
    while (producing) {
        unsigned n = atomic_fetch_add(&next_task, 1);
        if (n >= TASKS_MAX) {
            break;
        }
        char body[256];
        snprintf(body, sizeof(body),
                 "{\"command\":\"CRASH\",\"payload\":%u,\"maxAttempts\":60000,"
                 "\"idempotencyKey\":\"n%u\"}",
                 n, n);
        int status;
        while ((status = call("POST", "/v1/codeq/tasks", body, answer)) != 202 && producing) {
            breathe();
        }
        if (status == 202) {
            char id[40];
            if (field(answer, "id", id, sizeof(id))) {
                strcpy(entries[n].id, id);
            }
        }
    }
    return NULL;
}

static void *work(void *arg)
{
    (void)arg;
    char answer[ANSWER_BYTES_MAX];
    while (working) {
        int status =
            call("POST", "/v1/codeq/tasks/claim",
                 "{\"commands\":[\"CRASH\"],\"leaseSeconds\":2,\"waitSeconds\":1}", answer);
        if (status != 200) {
            if (status != 204) {
                breathe();
            }
            continue;
        }
        char id[40];
        char token[64];
        char payload[32];
        if (!field(answer, "id", id, sizeof(id)) ||
            !field(answer, "deliveryToken", token, sizeof(token)) ||
            !field(answer, "payload", payload, sizeof(payload))) {
            continue;
        }
        struct entry *entry = &entries[strtoul(payload, NULL, 10)];
        atomic_fetch_add(&entry->deliveries, 1);
        unsigned long long value = atomic_fetch_add(&next_value, 1);
        char path[128];
        char body[256];
        snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/result", id);
        snprintf(body, sizeof(body),
                 "{\"status\":\"COMPLETED\",\"result\":{\"v\":%llu},\"deliveryToken\":\"%s\"}",
                 value, token);
        do {
            status = call("POST", path, body, answer);
            if (status == 0 || status == 503) {
                breathe();
            }
        } while ((status == 0 || status == 503) && working);
        if (status == 200) {
            unsigned long long none = 0;
            if (!atomic_compare_exchange_strong(&entry->completed, &none, value)) {
                fprintf(stderr, "task %s: two completions were acknowledged\n", id);
                abort();
            }
        }
    }
    return NULL;
}

static void acknowledged_work_survives_kills(void **state)
{
    (void)state;
    static const char *const settings[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    static const char *const arguments[] = {"--backoff-policy",
                                            "fixed",
                                            "--backoff-base",
                                            "1ms",
                                            "--redis-command-timeout",
                                            "2s",
                                            NULL};
    const char *seconds_text = getenv("CRASH_SECONDS");
    const char *seed_text = getenv("CRASH_SEED");
    int64_t seconds = seconds_text == NULL ? 10 : strtol(seconds_text, NULL, 10);
    uint64_t seed = seed_text == NULL ? rng_seed_system() : strtoull(seed_text, NULL, 10);
    struct rng rng;
    struct err err;
    rng_init(&rng, seed);
    entries = calloc(TASKS_MAX, sizeof(*entries));
    assert_non_null(entries);
    f.redis_options = (struct redis_server_options){.cpu = -1, .config = settings};
    assert_int_equal(redis_server_start(&f.redis, &f.redis_options, &err), 0);
    codeqd_start(&f, arguments);
    port = f.port;
    pthread_t threads[PRODUCERS + WORKERS];
    for (int i = 0; i < PRODUCERS + WORKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : work, NULL),
                         0);
    }
    int64_t end = clock_monotonic_ns(clock_system()) + seconds * NS_PER_SEC;
    unsigned kills = 0;
    while (clock_monotonic_ns(clock_system()) < end) {
        /* Somewhere in the middle of things: 20 kills a minute and more. */
        poll(NULL, 0, (int)(500 + rng_below(&rng, 1500)));
        if (rng_below(&rng, 2) == 0) {
            kill(f.codeqd.pid, SIGKILL);
            codeqd_stop(&f);
            codeqd_start(&f, arguments);
        } else {
            redis_server_kill(&f.redis);
            if (redis_server_restart(&f.redis, &f.redis_options, &err) != 0) {
                fail_msg("%s", err.text);
            }
        }
        kills++;
    }
    producing = false;
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
    }
    await_count(&f, "CRASH", "ready", 0);
    await_count(&f, "CRASH", "inProgress", 0);
    await_count(&f, "CRASH", "delayed", 0);
    await_count(&f, "CRASH", "ready", 0);
    working = false;
    for (int i = PRODUCERS; i < PRODUCERS + WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }

    unsigned created = 0;
    unsigned completed = 0;
    unsigned redelivered = 0;
    unsigned made = atomic_load(&next_task) < TASKS_MAX ? atomic_load(&next_task) : TASKS_MAX;
    for (unsigned n = 0; n < made; n++) {
        struct entry *entry = &entries[n];
        char answer[ANSWER_BYTES_MAX];
        char path[128];
        unsigned deliveries = atomic_load(&entry->deliveries);
        redelivered += deliveries > 1 ? deliveries - 1 : 0;
        if (entry->id[0] == '\0') {
            continue; /* never acknowledged: it may be there or not */
        }
        created++;
        snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/result", entry->id);
        int status = call("GET", path, "", answer);
        if (status != 200) {
            fail_msg("seed %llu: acknowledged task %s is missing: %d %s", (unsigned long long)seed,
                     entry->id, status, answer);
        }
        unsigned long long value = atomic_load(&entry->completed);
        if (value != 0) {
            char stored[64];
            snprintf(stored, sizeof(stored), "\"result\":{\"v\":%llu}", value);
            completed++;
            if (strstr(answer, stored) == NULL) {
                fail_msg("seed %llu: task %s was acknowledged with %s but holds %s",
                         (unsigned long long)seed, entry->id, stored, answer);
            }
        }
    }
    print_message("seed %llu: %u kills, %u creates and %u completions acknowledged, %u "
                  "redeliveries\n",
                  (unsigned long long)seed, kills, created, completed, redelivered);
    assert_true(kills >= (unsigned)seconds / 3);
    assert_true(created > 100 && completed > 100);
    assert_true(redelivered <= kills * WORKERS);
    service_stop(&f);
    free(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_work_survives_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
