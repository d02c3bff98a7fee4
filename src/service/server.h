/* One thread's server: loop, listening socket, Redis, and the turn that ties them. For codeqd's
 * main; the routes see struct service only. server_stop may be called from any thread, and from a
 * signal handler. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "service/service.h"

struct server;

struct server_options {
    const struct config *config; /* must outlive the server */
    const char *redis_url;
    const struct conn_tls *tls; /* for rediss://, else NULL; must outlive the server */
    struct service_shared *shared; /* of all threads; must outlive them */
    struct server *first; /* thread 0's, for the others; freed after them; NULL for itself */
    int listen_fd; /* taken */
    unsigned thread;
};

/* NULL with text. Connects to Redis. */
struct server *server_new(const struct server_options *options, struct err *err);
void server_run(struct server *server); /* until it has drained */
void server_turn(struct server *server); /* what can be done now; for tests */
void server_stop(struct server *server); /* drain, then leave server_run */
void server_free(struct server *server);

/* listen_on, with the port that the system chose for fd where it asks for port 0. */
void server_address(const char *listen_on, int fd, char *out, size_t bytes);

/* A listening socket, or negative errno with text. shared_port: SO_REUSEPORT. */
int server_listen(const char *listen_on, bool shared_port, struct err *err);
