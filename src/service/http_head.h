/* Heads of requests as nearly every client writes them, read in one pass over whole words instead
 * of the parser's state machine over bytes. Whatever is not of that form (other methods, HTTP/1.0,
 * Transfer-Encoding, Expect, folded lines, bytes above 126, anything broken) is not judged here:
 * the parser behind base/http1.h reads it from its first byte. What is read here, the parser would
 * read the same: http_head_test holds the two against each other.
 *
 * Pure: pieces are offsets into the caller's bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEADERS_MAX 64 /* lines; past it 431 */

struct http_piece {
    uint32_t at;
    uint32_t bytes;
};

struct http_head {
    unsigned method; /* the parser's number */
    struct http_piece url;
    size_t header_count;
    struct http_piece names[HTTP_HEADERS_MAX];
    struct http_piece values[HTTP_HEADERS_MAX];
};

/* Does a plain head of HTTP/1.1 that keeps its connection stand at `at`, whole, with exactly one
 * Host? Then *out_head_bytes is where its body begins, *out_body_bytes how long that is. False: let
 * the parser say; *out is undefined. bytes: up to 4 GiB - 1. */
bool http_head_read(const char *at, size_t bytes, struct http_head *out, size_t *out_head_bytes,
                    size_t *out_body_bytes);
