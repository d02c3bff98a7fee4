#include "service/load_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <netinet/in.h>

#include "base/clock.h"

#define TASKS_MAX 200000
#define ANSWER_BYTES_MAX 4096
#define CLOCKS_DIFFER_NS (20 * NS_PER_MS) /* Redis's wall clock in whole ms against ours */

struct entry { /* one create, by its number */
    char id[40]; /* "" until acknowledged */
    _Atomic int64_t acknowledged_ns;
    _Atomic int64_t delivered_ns; /* first answer of a claim that held it */
    _Atomic int64_t leased_from_ns; /* when the request of its last delivery was sent */
    atomic_uint deliveries; /* seen by a worker */
    atomic_ullong completed; /* value of the acknowledged result; 0: none */
};

struct load {
    struct load_options options;
    struct entry *entries;
    pthread_t threads[LOAD_THREADS_MAX];
    atomic_uint next_task;
    atomic_uint next_port;
    atomic_ullong next_value;
    atomic_uint completed;
    atomic_uint twice; /* deliveries within a lease */
    atomic_uint two_results;
    atomic_bool producing;
    atomic_bool working;
};

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* Status, 0 when no whole answer came. */
static int call(struct load *load, const char *method, const char *path, const char *body,
                char out[ANSWER_BYTES_MAX])
{
    char text[2048];
    unsigned turn = atomic_fetch_add(&load->next_port, 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)load->options.ports[turn % load->options.port_count]),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 5 + load->options.wait_seconds};
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
    struct load *load = arg;
    char answer[ANSWER_BYTES_MAX];
    while (load->producing) {
        unsigned n = atomic_fetch_add(&load->next_task, 1);
        if (n >= TASKS_MAX) {
            break;
        }
        char body[256];
        snprintf(body, sizeof(body),
                 "{\"command\":\"%s\",\"payload\":%u,\"maxAttempts\":60000,"
                 "\"idempotencyKey\":\"n%u\"}",
                 load->options.command, n, n);
        int status;
        while ((status = call(load, "POST", "/v1/codeq/tasks", body, answer)) != 202 &&
               load->producing) {
            breathe();
        }
        char id[40];
        if (status == 202 && field(answer, "id", id, sizeof(id))) {
            load->entries[n].acknowledged_ns = now_ns();
            strcpy(load->entries[n].id, id);
        }
        if (load->options.producer_pause_ms > 0) {
            poll(NULL, 0, load->options.producer_pause_ms);
        }
    }
    return NULL;
}

static void *work(void *arg)
{
    struct load *load = arg;
    char answer[ANSWER_BYTES_MAX];
    char ask[160];
    snprintf(ask, sizeof(ask), "{\"commands\":[\"%s\"],\"leaseSeconds\":%d,\"waitSeconds\":%d}",
             load->options.command, load->options.lease_seconds, load->options.wait_seconds);
    while (load->working) {
        int64_t asked_ns = now_ns();
        int status = call(load, "POST", "/v1/codeq/tasks/claim", ask, answer);
        int64_t answered_ns = now_ns();
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
        struct entry *entry = &load->entries[strtoul(payload, NULL, 10)];
        if (atomic_fetch_add(&entry->deliveries, 1) == 0) {
            entry->delivered_ns = answered_ns;
        } else if (answered_ns + CLOCKS_DIFFER_NS <
                   entry->leased_from_ns + load->options.lease_seconds * NS_PER_SEC) {
            /* The lease before began after its request was sent, and cannot have ended yet. */
            fprintf(stderr, "task %s was delivered again %lld ms after its claim\n", id,
                    (long long)((answered_ns - entry->leased_from_ns) / NS_PER_MS));
            atomic_fetch_add(&load->twice, 1);
        }
        entry->leased_from_ns = asked_ns;
        unsigned long long value = atomic_fetch_add(&load->next_value, 1);
        char path[128];
        char body[256];
        snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/result", id);
        snprintf(body, sizeof(body),
                 "{\"status\":\"COMPLETED\",\"result\":{\"v\":%llu},\"deliveryToken\":\"%s\"}",
                 value, token);
        do {
            status = call(load, "POST", path, body, answer);
            if (status == 0 || status == 503) {
                breathe();
            }
        } while ((status == 0 || status == 503) && load->working);
        if (status == 200) {
            unsigned long long none = 0;
            if (!atomic_compare_exchange_strong(&entry->completed, &none, value)) {
                fprintf(stderr, "task %s: two completions were acknowledged\n", id);
                atomic_fetch_add(&load->two_results, 1);
            }
            atomic_fetch_add(&load->completed, 1);
        }
    }
    return NULL;
}

struct load *load_start(const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));
    assert_non_null(load);
    load->options = *options;
    load->entries = calloc(TASKS_MAX, sizeof(*load->entries));
    assert_non_null(load->entries);
    load->producing = true;
    load->working = true;
    load->next_value = 1;
    unsigned threads = options->producers + options->workers;
    assert_true(threads <= LOAD_THREADS_MAX);
    for (unsigned i = 0; i < threads; i++) {
        assert_int_equal(
            pthread_create(&load->threads[i], NULL, i < options->producers ? produce : work, load),
            0);
    }
    return load;
}

unsigned load_completed(const struct load *load)
{
    return load->completed;
}

static void check(struct load *load, const struct entry *entry, struct load_counts *counts)
{
    char answer[ANSWER_BYTES_MAX];
    char path[128];
    snprintf(path, sizeof(path), "/v1/codeq/tasks/%s/result", entry->id);
    int status = call(load, "GET", path, "", answer);
    if (status != 200) {
        fail_msg("acknowledged task %s is missing: %d %s", entry->id, status, answer);
    }
    unsigned long long value = entry->completed;
    if (value != 0) {
        char stored[64];
        snprintf(stored, sizeof(stored), "\"result\":{\"v\":%llu}", value);
        counts->completed++;
        if (strstr(answer, stored) == NULL) {
            fail_msg("task %s was acknowledged with %s but holds %s", entry->id, stored, answer);
        }
    }
    int64_t waited_ns = entry->delivered_ns - entry->acknowledged_ns;
    if (waited_ns > counts->ns_to_first_delivery_max) {
        counts->ns_to_first_delivery_max = waited_ns;
    }
}

struct load_counts load_stop(struct load *load, struct service_fixture *f)
{
    struct load_counts counts = {0};
    load->producing = false;
    for (unsigned i = 0; i < load->options.producers; i++) {
        pthread_join(load->threads[i], NULL);
    }
    /* Twice, since a task may pass from the last to the first in between. */
    static const char *const places[] = {"ready", "inProgress", "delayed"};
    for (int i = 0; i < 6; i++) {
        await_count(f, load->options.command, places[i % 3], 0);
    }
    load->working = false;
    for (unsigned i = 0; i < load->options.workers; i++) {
        pthread_join(load->threads[load->options.producers + i], NULL);
    }
    load->options.ports[0] = f->port; /* of those that were killed not all need be there */
    load->options.port_count = 1;
    unsigned made = load->next_task < TASKS_MAX ? load->next_task : TASKS_MAX;
    for (unsigned n = 0; n < made; n++) {
        const struct entry *entry = &load->entries[n];
        unsigned deliveries = entry->deliveries;
        counts.redelivered += deliveries > 1 ? deliveries - 1 : 0;
        if (entry->id[0] != '\0') { /* else it was never acknowledged: it may be there or not */
            counts.created++;
            check(load, entry, &counts);
        }
    }
    assert_int_equal(load->two_results, 0);
    assert_int_equal(load->twice, 0);
    free(load->entries);
    free(load);
    return counts;
}
