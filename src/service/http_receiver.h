/* Tests only: a real HTTP server on loopback, in a thread of its own, that records every request
 * and answers what it was told. One request a connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECEIVER_REQUESTS_MAX 512

struct received {
    char *head; /* request line and headers */
    char *body;
    int64_t at_ns; /* monotonic */
};

struct receiver;

struct receiver *receiver_start(void);
void receiver_stop(struct receiver *receiver); /* frees what was recorded */
unsigned receiver_port(const struct receiver *receiver);

/* Answers for requests to come: the next `count` get `status` (and `header`, a whole line with
 * CRLF, or ""), all later ones 204. status 0: the connection is closed without an answer. */
void receiver_answer(struct receiver *receiver, int status, int count, const char *header);
void receiver_hold(struct receiver *receiver, bool hold); /* answer nobody until released */
void receiver_body(struct receiver *receiver, const char *body); /* of status 200; copied */

size_t receiver_count(struct receiver *receiver);
/* The n-th request; texts live until receiver_stop. */
struct received receiver_get(struct receiver *receiver, size_t n);
/* Value of a header of the n-th request, "" when absent; into out. */
void receiver_header(struct receiver *receiver, size_t n, const char *name, char *out,
                     size_t bytes);
