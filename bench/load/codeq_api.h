/* codeQ's HTTP API as the load generator speaks it: requests written into a connection's buffer,
 * answers read without building a tree. Formats only; no decisions, no I/O. One thread.
 * Source: codeQ's REST API (POST /v1/codeq/tasks and below). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load/http_client.h"

#define CODEQ_ID_BYTES 64
#define CODEQ_TOKEN_BYTES 192

/* A task as a claim brought it. */
struct codeq_task {
    char id[CODEQ_ID_BYTES];
    char token[CODEQ_TOKEN_BYTES]; /* "" when the server gives none */
    bool ours; /* the payload carries this run's mark */
    uint64_t seq;
    uint32_t tenant;
};

struct codeq_create {
    const char *command;
    uint64_t run;
    uint64_t seq;
    uint32_t tenant;
    uint32_t payload_bytes; /* of the payload's JSON text */
    const char *filler; /* at least payload_bytes bytes of JSON-safe text */
    int priority;
    int max_attempts; /* 0: the server's default */
    int64_t run_at_ms; /* Unix ms; 0: at once */
};

/* Each writes a whole request into conn->out and returns its size, or -EMSGSIZE. host and token
 * go into the head as they are. */
int64_t codeq_write_create(struct http_conn *conn, const char *host, const char *token,
                           const struct codeq_create *tasks, size_t count, bool batch);
int64_t codeq_write_claim(struct http_conn *conn, const char *host, const char *token,
                          const char *command, int lease_seconds, int wait_seconds, uint32_t batch);
int64_t codeq_write_result(struct http_conn *conn, const char *host, const char *token,
                           const struct codeq_task *tasks, size_t count, bool batch);
int64_t codeq_write_heartbeat(struct http_conn *conn, const char *host, const char *token,
                              const struct codeq_task *task, int extend_seconds);
int64_t codeq_write_nack(struct http_conn *conn, const char *host, const char *token,
                         const struct codeq_task *task);
int64_t codeq_write_get(struct http_conn *conn, const char *host, const char *token,
                        const char *path);

/* The tasks of a claim's answer (one Task, or {"tasks":[...]}). How many were found, at most max.
 */
size_t codeq_read_tasks(const char *body, size_t bytes, uint64_t run, struct codeq_task *out,
                        size_t max);

/* Which items of a batch answer were refused. out_refused[i] for i < count; returns how many.
 * An answer that cannot be read refuses all. */
size_t codeq_read_refused(const char *body, size_t bytes, bool *out_refused, size_t count);
