/* Where a Redis is and how to log in. Pure functions; plain value; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define URL_TEXT_BYTES_MAX 256
#define URL_PLACES_MAX 8

struct url_place {
    char host[URL_TEXT_BYTES_MAX];
    uint16_t port;
};

struct url {
    bool is_unix;
    char place[URL_TEXT_BYTES_MAX]; /* path of the socket, or host */
    uint16_t port;
    char user[URL_TEXT_BYTES_MAX]; /* "": the default user */
    char password[URL_TEXT_BYTES_MAX]; /* "": do not log in */
    uint32_t db;
    struct url_place places[URL_PLACES_MAX]; /* all hosts, place and port being the first */
    unsigned place_count; /* 0 with is_unix */
};

/* "redis://[[user]:password@]host[:port][,host[:port]...][/db]" with percent escapes, an IPv6 host
 * in brackets, or "unix:/path[?db=N&user=U&password=P]". 0, or -EINVAL with text that never holds
 * the password. */
int url_parse(const char *text, struct url *out, struct err *err);
