#include "store/url.h"

#include <errno.h>
#include <string.h>

#include "base/args.h"

#define PORT_DEFAULT 6379
#define PORT_SENTINEL 26379

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* text[0..bytes) with %XX undone into out. False when too long or broken, or with a NUL. */
static bool decode(const char *text, size_t bytes, char out[URL_TEXT_BYTES_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < bytes ? hex(text[i + 1]) : -1;
            int low = i + 2 < bytes ? hex(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || n == URL_TEXT_BYTES_MAX - 1) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static int number(const char *what, const char *text, size_t bytes, int64_t max, int64_t *out,
                  struct err *err)
{
    char copy[24];
    if (bytes == 0 || bytes >= sizeof copy) {
        return err_set(err, -EINVAL, "redis url: the %s is not a number in 0..%lld", what,
                       (long long)max);
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    int rc = args_int(copy, 0, max, out, err);
    return rc == 0 ? 0 : err_prefix(err, rc, "redis url: %s", what);
}

static int parse_unix(const char *text, struct url *url, struct err *err)
{
    const char *query = strchr(text, '?');
    size_t path_bytes = query != NULL ? (size_t)(query - text) : strlen(text);
    bool rooted = text[0] == '/' || (text[0] == '.' && path_bytes > 1 && text[1] == '/');
    if (path_bytes == 0 || !rooted || path_bytes >= 108 ||
        !decode(text, path_bytes, url->places[0].host)) {
        return err_set(err, -EINVAL,
                       "redis url: give a path below 108 bytes that begins with / or ./, as in "
                       "unix:/run/redis/redis.sock");
    }
    url->place_count = 1;
    while (query != NULL) {
        const char *name = query + 1;
        query = strchr(name, '&');
        size_t bytes = query != NULL ? (size_t)(query - name) : strlen(name);
        bool good = false;
        if (bytes > 3 && memcmp(name, "db=", 3) == 0) {
            int64_t db = 0;
            int rc = number("database", name + 3, bytes - 3, 65535, &db, err);
            if (rc != 0) {
                return rc;
            }
            url->db = (uint32_t)db;
            good = true;
        } else if (bytes > 5 && memcmp(name, "user=", 5) == 0) {
            good = decode(name + 5, bytes - 5, url->user);
        } else if (bytes > 9 && memcmp(name, "password=", 9) == 0) {
            good = decode(name + 9, bytes - 9, url->password);
        }
        if (!good) {
            return err_set(err, -EINVAL,
                           "redis url: after '?' only db=, user= and password= are known");
        }
    }
    return 0;
}

/* host[:port] */
static int parse_place(const char *text, size_t bytes, struct url_place *place, struct err *err)
{
    const char *host = text;
    size_t host_bytes = bytes;
    const char *port = NULL;
    if (bytes > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', bytes);
        if (close == NULL) {
            return err_set(err, -EINVAL, "redis url: the bracket of the IPv6 address is open");
        }
        host = text + 1;
        host_bytes = (size_t)(close - host);
        if (close + 1 < text + bytes) {
            if (close[1] != ':') {
                return err_set(err, -EINVAL, "redis url: after ']' only :port may follow");
            }
            port = close + 2;
        }
    } else {
        const char *colon = memchr(text, ':', bytes);
        if (colon != NULL) {
            host_bytes = (size_t)(colon - text);
            port = colon + 1;
        }
    }
    if (host_bytes == 0 || !decode(host, host_bytes, place->host)) {
        return err_set(err, -EINVAL, "redis url: the host is missing");
    }
    if (port != NULL) {
        int64_t value = 0;
        int rc = number("port", port, (size_t)(text + bytes - port), 65535, &value, err);
        if (rc != 0) {
            return rc;
        }
        if (value == 0) {
            return err_set(err, -EINVAL, "redis url: port 0 is none");
        }
        place->port = (uint16_t)value;
    }
    return 0;
}

/* "cluster=yes&sentinel=NAME" */
static int parse_query(const char *text, struct url *url, struct err *err)
{
    while (text != NULL) {
        const char *next = strchr(text, '&');
        size_t bytes = next != NULL ? (size_t)(next - text) : strlen(text);
        if (bytes == 11 && memcmp(text, "cluster=yes", 11) == 0) {
            url->kind = URL_CLUSTER;
        } else if (bytes > 9 && memcmp(text, "sentinel=", 9) == 0 &&
                   decode(text + 9, bytes - 9, url->sentinel)) {
            url->kind = URL_SENTINEL;
        } else {
            return err_set(err, -EINVAL,
                           "redis url: after '?' only cluster=yes and sentinel=NAME are known");
        }
        text = next != NULL ? next + 1 : NULL;
    }
    return 0;
}

static int parse_tcp(const char *text, struct url *url, struct err *err)
{
    const char *query = strchr(text, '?');
    size_t bytes = query != NULL ? (size_t)(query - text) : strlen(text);
    const char *slash = memchr(text, '/', bytes);
    size_t authority = slash != NULL ? (size_t)(slash - text) : bytes;
    const char *at = memrchr(text, '@', authority);
    if (at != NULL) {
        const char *colon = memchr(text, ':', (size_t)(at - text));
        if (colon == NULL || !decode(text, (size_t)(colon - text), url->user) ||
            !decode(colon + 1, (size_t)(at - colon - 1), url->password)) {
            return err_set(err, -EINVAL,
                           "redis url: before '@' give user:password, or :password, with %%XX for "
                           "signs such as '@'");
        }
        authority -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    const char *end = text + authority;
    for (const char *next = text; next != NULL;) {
        if (url->place_count == URL_PLACES_MAX) {
            return err_set(err, -EINVAL, "redis url: at most %d hosts", URL_PLACES_MAX);
        }
        const char *comma = memchr(next, ',', (size_t)(end - next));
        const char *stop = comma != NULL ? comma : end;
        int rc = parse_place(next, (size_t)(stop - next), &url->places[url->place_count], err);
        if (rc != 0) {
            return rc;
        }
        url->place_count++;
        next = comma != NULL ? comma + 1 : NULL;
    }
    if (url->place_count > 1) {
        url->kind = URL_SEVERAL;
    }
    if (slash != NULL) {
        const char *db_end = query != NULL ? query : slash + strlen(slash);
        if (db_end > slash + 1) {
            int64_t db = 0;
            int rc = number("database", slash + 1, (size_t)(db_end - slash - 1), 65535, &db, err);
            if (rc != 0) {
                return rc;
            }
            url->db = (uint32_t)db;
        }
    }
    int rc = query != NULL ? parse_query(query + 1, url, err) : 0;
    if (rc == 0 && url->kind == URL_CLUSTER && url->db != 0) {
        return err_set(err, -EINVAL, "redis url: a Redis Cluster has only database 0");
    }
    for (unsigned i = 0; i < url->place_count && rc == 0; i++) {
        if (url->places[i].port == 0) {
            url->places[i].port = url->kind == URL_SENTINEL ? PORT_SENTINEL : PORT_DEFAULT;
        }
    }
    return rc;
}

int url_parse(const char *text, struct url *out, struct err *err)
{
    struct url url = {.kind = URL_ONE};
    int rc;
    if (strncmp(text, "unix:", 5) == 0) {
        rc = parse_unix(strncmp(text + 5, "//", 2) == 0 ? text + 7 : text + 5, &url, err);
    } else if (strncmp(text, "redis://", 8) == 0) {
        rc = parse_tcp(text + 8, &url, err);
    } else if (strncmp(text, "rediss://", 9) == 0) {
        url.tls = true;
        rc = parse_tcp(text + 9, &url, err);
    } else {
        rc = err_set(
            err, -EINVAL,
            "redis url: it starts with none of unix:, redis:// and rediss://: give for example "
            "unix:/run/redis/redis.sock or redis://127.0.0.1:6379");
    }
    if (rc == 0) {
        *out = url;
    }
    return rc;
}
