#include "service/traffic.h"

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define TRAFFIC_FDS_MAX 4096
#define TRAFFIC_FACTS_MAX 32768 /* power of two */
#define TRAFFIC_NAME_BYTES_MAX 160

struct asked {
    char *route; /* "POST /path"; NULL: nothing is open here */
    char *facts; /* " > member\n ? member\n" */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static struct asked open_requests[TRAFFIC_FDS_MAX];
static uint64_t known[TRAFFIC_FACTS_MAX];
static size_t known_count;

void traffic_start(void)
{
    const char *path = getenv("CODEQ_TRAFFIC");
    pthread_mutex_lock(&lock);
    if (path != NULL && out < 0) {
        out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
        if (out < 0) {
            perror(path);
            abort();
        }
    }
    pthread_mutex_unlock(&lock);
}

static void forget(struct asked *asked)
{
    free(asked->route);
    free(asked->facts);
    memset(asked, 0, sizeof(*asked));
}

static bool is_plain(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("_-.[]", *p) == NULL) {
            return false;
        }
    }
    return name[0] != '\0';
}

/* " MARK name\n" for each member, also the members' own. */
static void put_members(struct buf *facts, char mark, const char *prefix, const struct json *json,
                        int depth)
{
    bool array = json != NULL && json_type(json) == JSON_ARRAY;
    for (const struct json *c = depth == 8 ? NULL : json_first(json); c != NULL; c = json_next(c)) {
        char name[TRAFFIC_NAME_BYTES_MAX];
        bool dot = prefix[0] != '\0' && !array;
        int n = snprintf(name, sizeof(name), "%s%s%s", prefix, dot ? "." : "",
                         array ? "[]" : json_key(c));
        if (n >= (int)sizeof(name) || !is_plain(name)) {
            continue; /* a name that a test made up */
        }
        if (!array) {
            buf_printf(facts, " %c %s\n", mark, name);
        }
        put_members(facts, mark, name, c, depth + 1);
    }
}

/* " MARK:name\n" for each header of a head, in lower case. */
static void put_headers(struct buf *facts, char mark, const char *head)
{
    for (const char *p = strstr(head, "\r\n"); p != NULL && p[2] != '\r' && p[2] != '\0';
         p = strstr(p + 2, "\r\n")) {
        char name[64];
        size_t n = 0;
        for (const char *c = p + 2; n < sizeof(name) - 1 && *c != ':' && *c != '\0'; c++) {
            name[n++] = (char)tolower((unsigned char)*c);
        }
        name[n] = '\0';
        if (is_plain(name)) {
            buf_printf(facts, " %c:%s\n", mark, name);
        }
    }
}

/* "/a/018f...-.../b" as "/a/-/b"; what follows a '?' goes to facts. */
static void put_target(struct buf *route, struct buf *facts, const char *target)
{
    size_t path_bytes = strcspn(target, "?");
    for (size_t i = 0; i < path_bytes;) {
        size_t n = 1 + strcspn(target + i + 1, "/?");
        bool id = n == 37 && strspn(target + i + 1, "0123456789abcdef-") >= 36;
        buf_printf(route, "%.*s", (int)(id ? 2 : n), id ? "/-" : target + i);
        i += n;
    }
    const char *p = target + path_bytes;
    while (*p != '\0') {
        size_t n = strcspn(p + 1, "=&");
        buf_printf(facts, " ? %.*s\n", (int)n, p + 1);
        p += 1 + strcspn(p + 1, "&");
    }
}

void traffic_connected(int fd)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < TRAFFIC_FDS_MAX) {
        forget(&open_requests[fd]);
    }
    pthread_mutex_unlock(&lock);
}

void traffic_sent(int fd, const char *data, size_t bytes)
{
    char method[16];
    char target[1024];
    char *text = strndup(data, bytes);
    pthread_mutex_lock(&lock);
    if (out >= 0 && text != NULL && fd >= 0 && fd < TRAFFIC_FDS_MAX &&
        open_requests[fd].route == NULL &&
        sscanf(text, "%15[A-Z] %1023[!-~] HTTP/1.", method, target) == 2 && target[0] == '/') {
        struct buf route = BUF_INIT;
        struct buf facts = BUF_INIT;
        buf_printf(&route, "%s ", method);
        put_target(&route, &facts, target);
        char *body = strstr(text, "\r\n\r\n");
        if (body != NULL) {
            body[2] = '\0';
            put_headers(&facts, 'q', text);
            struct json *json = json_parse(body + 4, strlen(body + 4), NULL);
            put_members(&facts, '>', "", json, 0);
            json_free(json);
        }
        open_requests[fd] = (struct asked){buf_take(&route), buf_take(&facts)};
    }
    pthread_mutex_unlock(&lock);
    free(text);
}

/* Whether it is new. A table that is full takes everything for new. */
static bool remember(const char *line, size_t bytes)
{
    uint64_t hash = 14695981039346656037U; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ (unsigned char)line[i]) * 1099511628211U;
    }
    hash |= 1;
    size_t at = hash >> 40 & (TRAFFIC_FACTS_MAX - 1);
    while (known[at] != 0) {
        if (known[at] == hash) {
            return false;
        }
        at = (at + 1) & (TRAFFIC_FACTS_MAX - 1);
    }
    if (known_count < TRAFFIC_FACTS_MAX / 2) {
        known[at] = hash;
        known_count++;
    }
    return true;
}

static void put_fact(struct buf *lines, const char *route, int status, const char *fact, size_t n)
{
    struct buf line = BUF_INIT;
    buf_printf(&line, "%s %d%.*s\n", route, status, (int)n, fact);
    if (remember(line.data, line.bytes)) {
        buf_append(lines, line.data, line.bytes);
    }
    buf_fini(&line);
}

void traffic_answered(int fd, int status, const char *head, const struct json *json)
{
    pthread_mutex_lock(&lock);
    struct asked *asked = fd >= 0 && fd < TRAFFIC_FDS_MAX ? &open_requests[fd] : NULL;
    if (asked != NULL && asked->route != NULL && status != 100) {
        struct buf facts = BUF_INIT;
        struct buf lines = BUF_INIT;
        buf_puts(&facts, asked->facts);
        put_members(&facts, '<', "", json, 0);
        put_headers(&facts, 'h', head);
        put_fact(&lines, asked->route, status, "", 0);
        for (const char *p = facts.data; p != NULL && *p != '\0'; p += strcspn(p, "\n") + 1) {
            put_fact(&lines, asked->route, status, p, strcspn(p, "\n"));
        }
        /* In one call: a program that forked writes here too. */
        if (lines.bytes > 0 && write(out, lines.data, lines.bytes) != (ssize_t)lines.bytes) {
            perror("CODEQ_TRAFFIC");
            abort();
        }
        forget(asked);
        buf_fini(&facts);
        buf_fini(&lines);
    }
    pthread_mutex_unlock(&lock);
}
