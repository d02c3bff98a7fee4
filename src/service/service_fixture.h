/* Tests only: the built codeqd on a private Redis, spoken to over real sockets.
 *
 * Every function fails the running test where the machinery itself fails; what codeqd answers is
 * the test's to judge. CODEQD names the program. */
#pragma once

#include "base/test.h"

#include <stdbool.h>

#include "base/child.h"
#include "base/json.h"
#include "base/redis_server.h"

#define SERVICE_ARGS_MAX 40
#define SERVICE_DEADLINE_NS (20 * NS_PER_SEC) /* for anything that must happen */

struct service_fixture {
    struct redis_server redis;
    struct redis_server_options redis_options;
    struct child codeqd;
    char redis_url[160];
    char address[32];
    unsigned port; /* 0: codeqd_start chooses one */
    int log_fd; /* codeqd's stderr */
    const char *token; /* sent by default; NULL: none */
};

/* A Redis, and codeqd with these further arguments (NULL-terminated; NULL: none). */
void service_start(struct service_fixture *f, const char *const *arguments);
void service_stop(struct service_fixture *f);

/* codeqd alone, on the Redis that runs; a second one may share it. */
void codeqd_start(struct service_fixture *f, const char *const *arguments);
/* SIGTERM; its exit code. */
int codeqd_stop(struct service_fixture *f);

/* What codeqd has logged so far; the caller frees it. */
char *codeqd_log(struct service_fixture *f);

/* One inline command for the Redis, and its reply's text, which the caller frees. */
char *redis_say(struct service_fixture *f, const char *command);

/* ---- HTTP ---- */

struct answer {
    int status; /* 0: the connection ended without one */
    char *head; /* status line and headers */
    char *body; /* NUL-terminated */
    size_t body_bytes;
    struct json *json; /* NULL when the body is no JSON */
};
void answer_free(struct answer *answer);
/* A header's value in the caller's buffer; false: absent. */
bool answer_header(const struct answer *answer, const char *name, char *out, size_t bytes);

int http_connect(struct service_fixture *f);
void http_send(int fd, const char *data, size_t bytes);
/* Read one whole answer. One that has no body (HEAD): no_body. */
struct answer http_read(int fd, bool no_body);

/* One request on a connection of its own; body NULL: none. extra: header lines, each with CRLF. */
struct answer http_do(struct service_fixture *f, const char *method, const char *path,
                      const char *extra, const char *body);
struct answer http_post(struct service_fixture *f, const char *path, const char *body);
struct answer http_get(struct service_fixture *f, const char *path);
/* The same request begun without reading its answer; the socket. */
int http_begin(struct service_fixture *f, const char *method, const char *path, const char *extra,
               const char *body);

/* Fails unless the status is that, and for errors that {"error"} is text (NULL: any). */
void expect(struct answer *answer, int status, const char *error);

/* ---- tasks ---- */

struct claimed_task {
    char id[40];
    char token[64];
    char payload[256];
    int64_t attempts;
    int64_t priority;
};
/* "" in id: nothing was there. */
struct claimed_task claim(struct service_fixture *f, const char *command, int lease_seconds,
                          int wait_seconds);
void create(struct service_fixture *f, const char *command, const char *members, char id[40]);
/* Counts by the admin route: ready, delayed, inProgress, dlq. */
int64_t count(struct service_fixture *f, const char *command, const char *which);
/* Wait until count is n. */
void await_count(struct service_fixture *f, const char *command, const char *which, int64_t n);
