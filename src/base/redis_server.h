/* A private redis-server: own folder, unix socket, no TCP port, nothing read from the machine's
 * configuration. For the lab's runs, for tests, and for `codeqd` without a Redis of its own.
 *
 * redis_server_stop ends the process and, when the folder was made here, removes it. A parent that
 * dies takes the server with it. Needs no client library: it speaks only PING and INFO. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/child.h"
#include "base/err.h"

#define REDIS_SERVER_PATH_MAX 96 /* below sockaddr_un's 108 */
#define REDIS_SERVER_ARGS_MAX 32

struct redis_server_options {
    const char *program; /* NULL: "redis-server" from PATH, or /usr/sbin/redis-server */
    const char *dir; /* NULL: a new folder under TMPDIR, removed on stop */
    const char *const *config; /* more arguments, "--appendonly", "yes", ..., NULL; may be NULL */
    int cpu; /* pin to this core; -1: leave free */
};

struct redis_server {
    struct child child;
    char dir[REDIS_SERVER_PATH_MAX];
    char socket_path[REDIS_SERVER_PATH_MAX + 12]; /* dir/redis.sock */
    bool dir_is_ours;
};

/* Start and wait until it answers PING (at most 10 s). 0, or negative errno with text that carries
 * the end of the server's own log. Persistence is off unless config says otherwise. */
int redis_server_start(struct redis_server *server, const struct redis_server_options *options,
                       struct err *err);

/* SIGTERM, then SIGKILL; reap; remove the folder when it is ours. Accepts a zeroed struct. */
void redis_server_stop(struct redis_server *server);

/* SIGKILL without ceremony, keeping the folder; for crash tests. Start again with restart. */
void redis_server_kill(struct redis_server *server);
int redis_server_restart(struct redis_server *server, const struct redis_server_options *options,
                         struct err *err);

/* The same without waiting for an answer: returns once the program runs. */
int redis_server_relaunch(struct redis_server *server, const struct redis_server_options *options,
                          struct err *err);

/* Send one inline command without waiting for its reply ("CLIENT PAUSE 1000 ALL"). 0 or negative
 * errno. */
int redis_server_tell(const char *socket_path, const char *command);

/* Send one inline command and read its reply: an integer's or status's text, or a string. The
 * caller frees it. Instead of a socket's path also redis://[[user]:password@]host[:port]; -EACCES:
 * the password is wrong. -EIO with Redis's words when it refuses; -ETIMEDOUT, -ECONNREFUSED and the
 * like.
 */
int redis_server_ask(const char *socket_path, const char *command, char **out_text,
                     struct err *err);

/* The text of INFO SECTION ("everything" for all) of the server at a unix socket. The caller frees
 * it. 0 or negative errno with text. */
int redis_server_info(const char *socket_path, const char *section, char **out_text,
                      struct err *err);

/* One field of an INFO text: "used_cpu_user" -> its value as a number; NAN when absent. */
double redis_info_number(const char *info, const char *field);
