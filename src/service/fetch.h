/* HTTP requests to others, on the event loop: the one door to libcurl.
 *
 * A struct fetch has one policy about targets: with allow_private unset it connects only to public
 * addresses. That is decided for the very address that is about to be connected to, after name
 * resolution and for each of a name's addresses, so a name that answers differently the second time
 * gains nothing; connections are never shared between two struct fetch. Redirects are not followed,
 * proxies and .netrc are not looked at, nothing but http and https is spoken.
 *
 * One thread and one loop; results come from the loop, never from inside fetch_start. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FETCH_URL_BYTES_MAX 2048
#define FETCH_HEADERS_MAX 8

struct ev_loop;
struct fetch;

struct fetch_options {
    struct ev_loop *loop;
    bool allow_private;
    size_t in_flight_max;
    size_t body_bytes_max; /* of an answer; what is longer is cut and the transfer ended */
};

struct fetch_request {
    const char *url;
    const char *body; /* NULL: GET, else POST; copied */
    size_t body_bytes;
    const char *headers[FETCH_HEADERS_MAX]; /* "Name: value", NULL-terminated unless full */
    int64_t timeout_ns; /* of the whole exchange */
};

enum fetch_outcome {
    FETCH_ANSWERED, /* status and body are there */
    FETCH_FAILED, /* no answer; text says why */
    FETCH_REFUSED, /* every address of the target is private */
    FETCH_CANCELLED, /* fetch_free */
};

struct fetch_result {
    enum fetch_outcome outcome;
    int status;
    const char *body; /* of body_bytes; valid during the call */
    size_t body_bytes;
    bool truncated;
    int64_t retry_after_ns; /* of the header Retry-After; 0: none */
    const char *text;
};
typedef void fetch_fn(void *arg, const struct fetch_result *result);

/* NULL with text. Call it in the main thread once before others start (libcurl's global state). */
struct fetch *fetch_new(const struct fetch_options *options, struct err *err);

/* Ends what is in flight with FETCH_CANCELLED. NULL is fine. */
void fetch_free(struct fetch *fetch);

size_t fetch_in_flight(const struct fetch *fetch);

/* 0: done will be called once. -EAGAIN: in_flight_max reached. -EINVAL with text: not a plain
 * http(s) URL with a host and without user or password. */
int fetch_start(struct fetch *fetch, const struct fetch_request *request, fetch_fn *done, void *arg,
                struct err *err);

/* The same judgement of a URL alone, for when it is first told. 0 or -EINVAL with text. */
int fetch_check_url(const char *url, struct err *err);

/* The host of a URL in lower case into out. false: not a URL, or too long. */
bool fetch_host(const char *url, char *out, size_t bytes);
