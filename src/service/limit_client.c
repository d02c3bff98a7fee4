#include "service/limit_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/clock.h"
#include "base/json_text.h"

#define ANSWER_BYTES_MAX (256 * 1024)
#define REQUEST_BYTES_MAX (64 * 1024)
#define HEAD_BYTES_MAX 512
#define CLAIM_TASKS_MAX 10 /* codeQ's limit of one claim */
#define BODY_BYTES 200
#define ID_BYTES 36
#define TOKEN_BYTES_MAX 64
#define SILENCE_MS 30000
#define OPEN_HEAD_START 64 /* tasks made before the schedule begins, so that claims find some */

enum step { STEP_CREATE, STEP_CLAIM, STEP_COMPLETE };

struct lease {
    char id[ID_BYTES + 1];
    char token[TOKEN_BYTES_MAX];
};

struct connection {
    int fd;
    bool busy;
    enum step step;
    unsigned asked; /* tasks of the request that is under way */
    unsigned leased; /* of leases */
    unsigned wanted; /* created by this connection and not claimed yet */
    int64_t intended_ns;
    size_t used;
    char *in;
    struct lease *leases;
};

struct client {
    const struct limit_client_options *options;
    struct connection *connections;
    int epoll;
    struct err *err;
    struct limit_client_result result;
    uint64_t created;
    uint64_t started; /* cycles begun, closed loop */
    uint64_t completing;
    unsigned busy;
    int64_t end_ns;
    bool ending;
    /* open loop */
    struct lease *ready; /* claimed and not completed yet, a ring */
    size_t ready_first;
    size_t ready_count;
    uint64_t tick;
    int64_t begin_ns;
};

#define READY_MAX 65536

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static int send_request(struct client *client, struct connection *c, const char *path,
                        const char *body, size_t bytes)
{
    char request[REQUEST_BYTES_MAX];
    if (bytes > sizeof(request) - HEAD_BYTES_MAX) {
        return err_set(client->err, -EMSGSIZE, "a request of %zu bytes", bytes);
    }
    /* No printf: what the client costs is part of what a core can do. */
    char *end = TEXT_PUT(request, "POST /v1/codeq/tasks");
    end = text_put(end, path, strlen(path));
    end = TEXT_PUT(end, " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer dev-token\r\n"
                        "Content-Type: application/json\r\nContent-Length: ");
    end = text_int(end, (int64_t)bytes);
    end = TEXT_PUT(end, "\r\n\r\n");
    end = text_put(end, body, bytes);
    size_t all = (size_t)(end - request);
    ssize_t sent = send(c->fd, request, all, MSG_NOSIGNAL);
    if (sent != (ssize_t)all) {
        /* The socket's buffer is empty before each request, so that all of it fits. */
        return err_set(client->err, -EIO, "a request was not taken: %s", strerror(errno));
    }
    c->busy = true;
    c->used = 0;
    client->busy++;
    client->result.requests++;
    return 0;
}

/* One task of 200 bytes as the store keeps it, near enough. */
static size_t put_task(struct client *client, char *out)
{
    static const char filler[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                 "xxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                 "xxxxxxxxxxxxxxxxxxxxxxxxxxx";
    char key[64] = "";
    if (client->options->keyed) {
        snprintf(key, sizeof(key), ",\"idempotencyKey\":\"%016llx-%08llx\"",
                 (unsigned long long)client->begin_ns, (unsigned long long)client->created);
    }
    client->created++;
    const char *members = client->options->members != NULL ? client->options->members : "";
    char *end = TEXT_PUT(out, "{\"command\":\"LIMIT\",\"priority\":5,\"payload\":{\"n\":\"");
    end = text_put(end, filler, BODY_BYTES - 30);
    end = TEXT_PUT(end, "\"}");
    end = text_put(end, key, strlen(key));
    end = text_put(end, members, strlen(members));
    *end++ = '}';
    return (size_t)(end - out);
}

static int send_create(struct client *client, struct connection *c, unsigned tasks)
{
    char body[REQUEST_BYTES_MAX];
    size_t n = 0;
    bool single = client->options->batch == 1;
    if (!single) {
        n += (size_t)sprintf(body, "{\"tasks\":[");
    }
    for (unsigned i = 0; i < tasks; i++) {
        if (i > 0) {
            body[n++] = ',';
        }
        n += put_task(client, body + n);
    }
    if (!single) {
        n += (size_t)sprintf(body + n, "]}");
    }
    c->step = STEP_CREATE;
    c->asked = tasks;
    return send_request(client, c, single ? "" : "/batch", body, n);
}

static int send_claim(struct client *client, struct connection *c, unsigned tasks)
{
    char body[128];
    bool single = client->options->batch == 1;
    char *end = TEXT_PUT(body, "{\"commands\":[\"LIMIT\"],\"leaseSeconds\":60");
    if (!single) {
        tasks = tasks < CLAIM_TASKS_MAX ? tasks : CLAIM_TASKS_MAX;
        end = TEXT_PUT(end, ",\"count\":");
        end = text_int(end, tasks);
    }
    *end++ = '}';
    c->step = STEP_CLAIM;
    c->asked = tasks;
    return send_request(client, c, single ? "/claim" : "/claim/batch", body, (size_t)(end - body));
}

static int send_complete(struct client *client, struct connection *c, const struct lease *leases,
                         unsigned tasks)
{
    char body[REQUEST_BYTES_MAX];
    static const char head[] =
        "\"status\":\"COMPLETED\",\"result\":{\"ok\":true},\"deliveryToken\":\"";
    char path[64] = "/batch/results";
    char *end = body;
    if (client->options->batch == 1) {
        char *path_end = text_put(TEXT_PUT(path, "/"), leases[0].id, strlen(leases[0].id));
        *TEXT_PUT(path_end, "/result") = '\0';
        end = text_put(TEXT_PUT(end, "{"), head, sizeof(head) - 1);
        end = text_put(end, leases[0].token, strlen(leases[0].token));
        end = TEXT_PUT(end, "\"}");
    } else {
        end = TEXT_PUT(end, "{\"results\":[");
        for (unsigned i = 0; i < tasks; i++) {
            if (i > 0) {
                *end++ = ',';
            }
            end = TEXT_PUT(end, "{\"taskId\":\"");
            end = text_put(end, leases[i].id, strlen(leases[i].id));
            end = text_put(TEXT_PUT(end, "\","), head, sizeof(head) - 1);
            end = text_put(end, leases[i].token, strlen(leases[i].token));
            end = TEXT_PUT(end, "\"}");
        }
        end = TEXT_PUT(end, "]}");
    }
    c->step = STEP_COMPLETE;
    c->asked = tasks;
    return send_request(client, c, path, body, (size_t)(end - body));
}

/* ---- answers ---- */

static bool copy_field(const char **at, const char *name, char *out, size_t size)
{
    const char *found = strstr(*at, name);
    if (found == NULL) {
        return false;
    }
    found += strlen(name);
    const char *end = strchr(found, '"');
    if (end == NULL || (size_t)(end - found) >= size) {
        return false;
    }
    memcpy(out, found, (size_t)(end - found));
    out[end - found] = '\0';
    *at = end;
    return true;
}

static unsigned occurrences(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        n++;
    }
    return n;
}

/* The tasks of a claim's answer, in either order of id and token: an id opens each task. */
static unsigned read_claimed(struct connection *c, const char *body, struct lease *out)
{
    unsigned n = 0;
    const char *at = body;
    while (n < c->asked) {
        if (!copy_field(&at, "\"id\":\"", out[n].id, sizeof(out[n].id)) ||
            !copy_field(&at, "\"deliveryToken\":\"", out[n].token, sizeof(out[n].token))) {
            break;
        }
        n++;
    }
    return n;
}

static int wrong(struct client *client, const struct connection *c)
{
    static const char *const names[] = {"create", "claim", "complete"};
    return err_set(client->err, -EPROTO, "the answer to a %s is: %.300s", names[c->step], c->in);
}

static int on_answer(struct client *client, struct connection *c, int status, const char *body)
{
    bool single = client->options->batch == 1;
    c->busy = false;
    client->busy--;
    switch (c->step) {
    case STEP_CREATE:
        if (status != (single ? 202 : 200) && !(client->options->create_only && status == 200)) {
            return wrong(client, c);
        }
        if (!single && occurrences(body, "\"task\":{") != c->asked) {
            return wrong(client, c);
        }
        c->wanted += c->asked;
        if (client->options->create_only) {
            client->result.cycles += c->asked;
        }
        return 0;
    case STEP_CLAIM: {
        if (status == 204) {
            client->result.empty++;
            return 0;
        }
        struct lease leases[CLAIM_TASKS_MAX];
        unsigned n = status == 200 ? read_claimed(c, body, leases) : 0;
        if (n == 0) {
            return wrong(client, c);
        }
        hist_record(&client->result.claim, now_ns() - c->intended_ns);
        if (client->options->rate_per_sec > 0) {
            for (unsigned i = 0; i < n; i++) {
                if (client->ready_count == READY_MAX) {
                    return err_set(client->err, -ENOBUFS, "completions fall behind claims");
                }
                client->ready[(client->ready_first + client->ready_count++) % READY_MAX] =
                    leases[i];
            }
            return 0;
        }
        memcpy(c->leases + c->leased, leases, n * sizeof(leases[0]));
        c->leased += n;
        c->wanted -= n < c->wanted ? n : c->wanted;
        return 0;
    }
    case STEP_COMPLETE:
        if (status != 200 || (!single && occurrences(body, "\"completedAt\":") != c->asked)) {
            return wrong(client, c);
        }
        client->result.cycles += c->asked;
        return 0;
    }
    return 0;
}

/* ---- what to send next ---- */

static bool enough(const struct client *client)
{
    const struct limit_client_options *o = client->options;
    return client->ending || (o->cycles > 0 && client->started >= o->cycles);
}

static int next_closed(struct client *client, struct connection *c)
{
    const struct limit_client_options *o = client->options;
    c->intended_ns = now_ns();
    if (c->wanted > 0 && !o->create_only) {
        return send_claim(client, c, c->wanted);
    }
    if (c->leased > 0) {
        unsigned n = c->leased;
        c->leased = 0;
        return send_complete(client, c, c->leases, n);
    }
    if (enough(client)) {
        return 0;
    }
    unsigned n = o->batch;
    if (o->cycles > 0 && o->cycles - client->started < n) {
        n = (unsigned)(o->cycles - client->started);
    }
    client->started += n;
    c->wanted = 0;
    return send_create(client, c, n);
}

static int64_t due_ns(const struct client *client)
{
    const struct limit_client_options *o = client->options;
    return client->begin_ns +
           (int64_t)((double)client->tick * 1e9 * o->batch / (3 * o->rate_per_sec));
}

/* The requests whose time has come, while there is a free connection. */
static int next_open(struct client *client, int64_t now)
{
    const struct limit_client_options *o = client->options;
    for (unsigned i = 0; i < o->connections; i++) {
        struct connection *c = &client->connections[i];
        if (c->busy) {
            continue;
        }
        int64_t due = due_ns(client);
        if (due > now || due >= client->end_ns) {
            break;
        }
        int rc = 0;
        c->intended_ns = due;
        switch ((enum step)(client->tick++ % 3)) {
        case STEP_CREATE:
            rc = send_create(client, c, o->batch);
            break;
        case STEP_CLAIM:
            rc = send_claim(client, c, o->batch);
            break;
        case STEP_COMPLETE:
            if (client->ready_count > 0) {
                struct lease leases[LIMIT_BATCH_MAX];
                unsigned n = 0;
                while (n < o->batch && client->ready_count > 0) {
                    leases[n++] = client->ready[client->ready_first];
                    client->ready_first = (client->ready_first + 1) % READY_MAX;
                    client->ready_count--;
                }
                rc = send_complete(client, c, leases, n);
            }
            break;
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- the loop ---- */

static int read_answer(struct client *client, struct connection *c)
{
    ssize_t got = recv(c->fd, c->in + c->used, ANSWER_BYTES_MAX - c->used, 0);
    if (got < 0 && errno == EAGAIN) {
        return 0;
    }
    if (got <= 0) {
        return err_set(client->err, -ECONNRESET, "a connection was lost");
    }
    c->used += (size_t)got;
    c->in[c->used] = '\0';
    char *head_end = strstr(c->in, "\r\n\r\n");
    if (head_end == NULL) {
        return c->used == ANSWER_BYTES_MAX ? wrong(client, c) : 0;
    }
    size_t body_bytes = 0;
    const char *length = strstr(c->in, "Content-Length: ");
    if (length != NULL && length < head_end) {
        body_bytes = strtoul(length + 16, NULL, 10);
    }
    size_t all = (size_t)(head_end + 4 - c->in) + body_bytes;
    if (all > ANSWER_BYTES_MAX || c->used > all) {
        return wrong(client, c);
    }
    if (c->used < all) {
        return 0;
    }
    int rc = on_answer(client, c, atoi(c->in + 9), head_end + 4);
    if (rc == 0 && client->options->rate_per_sec == 0) {
        rc = next_closed(client, c);
    }
    return rc;
}

static int open_connection(struct client *client, struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)client->options->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->in = malloc(ANSWER_BYTES_MAX + 1);
    c->leases = calloc(LIMIT_BATCH_MAX + CLAIM_TASKS_MAX, sizeof(*c->leases));
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->in == NULL || c->leases == NULL || c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        return err_set(client->err, -errno, "no connection to port %u: %s", client->options->port,
                       strerror(errno));
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(client->epoll, EPOLL_CTL_ADD, c->fd, &event);
    return 0;
}

static int turn(struct client *client)
{
    const struct limit_client_options *o = client->options;
    struct epoll_event events[64];
    bool open = o->rate_per_sec > 0 && !client->ending;
    struct timespec wait = {.tv_sec = SILENCE_MS / 1000};
    if (open) {
        int64_t ns = client->busy < o->connections ? due_ns(client) - now_ns() : NS_PER_MS;
        wait = (struct timespec){.tv_nsec = ns > NS_PER_MS ? NS_PER_MS : ns > 0 ? ns : 0};
    }
    int n = epoll_pwait2(client->epoll, events, 64, &wait, NULL);
    if (n < 0 && errno != EINTR) {
        return err_set(client->err, -errno, "epoll: %s", strerror(errno));
    }
    if (n == 0 && !open) {
        return err_set(client->err, -ETIMEDOUT, "no answer for %d s", SILENCE_MS / 1000);
    }
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        rc = read_answer(client, events[i].data.ptr);
    }
    int64_t now = now_ns();
    if (rc == 0 && open) {
        rc = next_open(client, now);
    }
    if (o->duration_ns > 0 && now >= client->end_ns) {
        client->ending = true;
    }
    return rc;
}

int limit_client_run(const struct limit_client_options *options, struct limit_client_result *out,
                     struct err *err)
{
    struct client client = {.options = options, .err = err};
    int rc = hist_init(&client.result.claim, NULL, err);
    client.connections = calloc(options->connections, sizeof(*client.connections));
    client.ready = calloc(READY_MAX, sizeof(*client.ready));
    client.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (rc == 0 && (client.connections == NULL || client.ready == NULL || client.epoll < 0)) {
        rc = err_set(err, -ENOMEM, "no memory for the client");
    }
    for (unsigned i = 0; rc == 0 && i < options->connections; i++) {
        rc = open_connection(&client, &client.connections[i]);
    }
    client.begin_ns = now_ns();
    if (rc == 0 && options->rate_per_sec > 0) {
        for (unsigned i = 0; rc == 0 && i < OPEN_HEAD_START && i < options->connections; i++) {
            rc = send_create(&client, &client.connections[i], options->batch);
        }
        client.ending = true; /* for these only: nothing is on the schedule yet */
        while (rc == 0 && client.busy > 0) {
            rc = turn(&client);
        }
        client.ending = false;
        client.begin_ns = now_ns();
    }
    client.end_ns = options->duration_ns > 0 ? client.begin_ns + options->duration_ns : INT64_MAX;
    for (unsigned i = 0; rc == 0 && options->rate_per_sec == 0 && i < options->connections; i++) {
        rc = next_closed(&client, &client.connections[i]);
    }
    while (rc == 0 && (client.busy > 0 || (options->rate_per_sec > 0 && !client.ending))) {
        rc = turn(&client);
    }
    client.result.wall_ns = now_ns() - client.begin_ns;
    for (unsigned i = 0; client.connections != NULL && i < options->connections; i++) {
        if (client.connections[i].fd > 0) {
            close(client.connections[i].fd);
        }
        free(client.connections[i].in);
        free(client.connections[i].leases);
    }
    free(client.connections);
    free(client.ready);
    if (client.epoll >= 0) {
        close(client.epoll);
    }
    if (rc == 0) {
        *out = client.result;
    } else {
        hist_fini(&client.result.claim);
    }
    return rc;
}
