/* resp.h compiled for user space, with hooks that note down what was found: for its test and its
 * fuzzer. Mirrors feed() of wire.bpf.h. Plain data; one thread. */
#pragma once

#include <linux/types.h>
#include <string.h>

struct resp_host;
struct resp_dir;
struct resp_window;
#define RESP_HOOKS struct resp_host
static inline int resp_want(struct resp_host *host, struct resp_dir *dir, const int request);
static inline void resp_element(struct resp_host *host, struct resp_dir *dir,
                                struct resp_window *window, const int request, __u8 type);
static inline void resp_inline(struct resp_host *host, struct resp_dir *dir,
                               struct resp_window *window);
static inline void resp_message(struct resp_host *host, struct resp_dir *dir, const int request);
#include "resp.h"

struct resp_host {
    struct resp_dir dir[2];
    long messages[2];
    char names[256]; /* of requests, each followed by a space */
    char types[64]; /* of replies */
    struct resp_window window;
};

static inline int resp_want(struct resp_host *host, struct resp_dir *dir, const int request)
{
    (void)host;
    return request && dir->element < 2;
}

static inline void resp_host_name(struct resp_host *host, const __u8 *from, size_t n)
{
    size_t have = strlen(host->names);
    for (size_t i = 0; i < n && i < RESP_NAME_BYTES && have + 2 < sizeof host->names; i++) {
        __u64 upper = resp_upper(from[i]);
        host->names[have++] = (char)upper;
    }
    if (have + 1 < sizeof host->names) {
        host->names[have] = ' ';
    }
}

static inline void resp_element(struct resp_host *host, struct resp_dir *dir,
                                struct resp_window *window, const int request, __u8 type)
{
    (void)type;
    if (request && dir->element == 0) {
        resp_host_name(host, window->bytes + window->offset + window->header, window->kept);
    }
}

static inline void resp_inline(struct resp_host *host, struct resp_dir *dir,
                               struct resp_window *window)
{
    (void)dir;
    const __u8 *from = window->bytes + window->offset;
    size_t n = 0;
    while (n < RESP_NAME_BYTES && from[n] != ' ' && from[n] != '\r' && from[n] != '\n') {
        n++;
    }
    resp_host_name(host, from, n);
}

static inline void resp_message(struct resp_host *host, struct resp_dir *dir, const int request)
{
    host->messages[request]++;
    size_t n = strlen(host->types);
    if (!request && n + 1 < sizeof host->types) {
        host->types[n] = (char)dir->type;
    }
}

static inline void resp_host_feed(struct resp_host *host, const char *data, size_t len,
                                  const int request)
{
    struct resp_dir *dir = &host->dir[request];
    struct resp_window *window = &host->window;
    if (len == 0 || dir->bad) {
        return;
    }
    size_t carried = dir->carry_len;
    dir->carry_len = 0;
    memcpy(window->bytes, dir->carry, RESP_CARRY_BYTES);
    size_t n =
        len < RESP_WINDOW_BYTES - RESP_CARRY_BYTES ? len : RESP_WINDOW_BYTES - RESP_CARRY_BYTES;
    memcpy(window->bytes + carried, data, n);
    memset(window->bytes + carried + n, 0, 24);
    window->pos = 0;
    window->start = 0;
    window->len = carried + n;
    window->total = carried + len;
    window->carried = carried;
    for (;;) {
        int what = resp_step(host, dir, window, request);
        if (what == RESP_NEED_READ) {
            n = window->total - window->pos;
            n = n < RESP_WINDOW_BYTES ? n : RESP_WINDOW_BYTES;
            memcpy(window->bytes, data + (window->pos - window->carried), n);
            window->start = window->pos;
            window->len = n;
        } else if (what != RESP_MORE) {
            return;
        }
    }
}
