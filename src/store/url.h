/* Where a Redis is and how to log in. Pure functions; plain value; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define URL_TEXT_BYTES_MAX 256
#define URL_PLACES_MAX 16

enum url_kind {
    URL_ONE, /* one Redis */
    URL_SEVERAL, /* a master and its replicas, or nodes of a Cluster: they say which */
    URL_CLUSTER, /* a Redis Cluster; the places are some of its nodes */
    URL_SENTINEL, /* the places are Sentinels, which know the master's */
};

struct url_place {
    char host[URL_TEXT_BYTES_MAX]; /* or the path of a socket */
    uint16_t port; /* 0: a path */
};

struct url {
    enum url_kind kind;
    struct url_place places[URL_PLACES_MAX];
    unsigned place_count; /* at least 1 */
    char sentinel[URL_TEXT_BYTES_MAX]; /* URL_SENTINEL: the name of what is watched */
    char user[URL_TEXT_BYTES_MAX]; /* "": the default user */
    char password[URL_TEXT_BYTES_MAX]; /* "": do not log in; never said to a Sentinel */
    uint32_t db;
    bool tls;
};

/* "redis://[[user]:password@]host[:port][,host[:port]...][/db][?cluster=yes|sentinel=NAME]" with
 * percent escapes and IPv6 hosts in brackets, or "unix:/path[?db=N&user=U&password=P]". With
 * rediss:// every connection speaks TLS, Sentinels' too. A Sentinel's port is 26379 where none is
 * given. 0, or -EINVAL with text that never holds the password. */
int url_parse(const char *text, struct url *out, struct err *err);
