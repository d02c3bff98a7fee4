#include "base/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/temp_dir.h"

#define START_TIMEOUT_NS (10 * NS_PER_SEC)
#define STOP_GRACE_NS (5 * NS_PER_SEC)
#define REPLY_TIMEOUT_MS 5000
#define REPLY_BYTES_MAX (4 * 1024 * 1024)

static int unix_connect(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int code = -errno;
        close(fd);
        return code;
    }
    return fd;
}

#define URL_SCHEME "redis://"

/* Where a place is, without its password: for texts. */
static const char *place_shown(const char *place)
{
    const char *at =
        strncmp(place, URL_SCHEME, strlen(URL_SCHEME)) == 0 ? strrchr(place, '@') : NULL;
    return at != NULL ? at + 1 : place;
}

static int wait_for(int fd, short events)
{
    struct pollfd p = {fd, events, 0};
    int n;
    do {
        n = poll(&p, 1, REPLY_TIMEOUT_MS);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int tcp_connect(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(host, port, &hints, &list) != 0) {
        return -EHOSTUNREACH;
    }
    int code = -EHOSTUNREACH;
    int fd = -1;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        int flags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
        fd = socket(a->ai_family, flags, 0);
        code = fd < 0 ? -errno : connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : -errno;
        if (code == -EINPROGRESS) {
            code = wait_for(fd, POLLOUT);
            int error = 0;
            socklen_t bytes = sizeof error;
            if (code == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0) {
                code = -error;
            }
        }
        if (code != 0 && fd >= 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd >= 0 ? fd : code;
}

static int log_in(int fd, const char *user, const char *password)
{
    struct buf line = BUF_INIT;
    if (user[0] != '\0') {
        buf_printf(&line, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(user), user);
    } else {
        buf_puts(&line, "*2\r\n$4\r\nAUTH\r\n");
    }
    buf_printf(&line, "$%zu\r\n%s\r\n", strlen(password), password);
    int code = send(fd, line.data, line.bytes, MSG_NOSIGNAL) == (ssize_t)line.bytes ? 0 : -EIO;
    buf_fini(&line);
    char reply[512];
    size_t bytes = 0;
    while (code == 0 && (bytes == 0 || reply[bytes - 1] != '\n')) {
        code = bytes < sizeof reply ? wait_for(fd, POLLIN) : -EPROTO;
        ssize_t got = code == 0 ? read(fd, reply + bytes, sizeof reply - bytes) : 0;
        if (code == 0 && got <= 0) {
            code = -EIO;
        }
        bytes += got > 0 ? (size_t)got : 0;
    }
    return code != 0 ? code : reply[0] == '+' ? 0 : -EACCES;
}

/* redis://[[user]:password@]host[:port]; a password stands as it is, without percent signs. */
static int url_connect(const char *url)
{
    char text[512];
    if (strlen(url) >= sizeof text) {
        return -ENAMETOOLONG;
    }
    strcpy(text, url + strlen(URL_SCHEME));
    char *host = text;
    char *password = NULL;
    const char *user = "";
    char *at = strrchr(text, '@');
    if (at != NULL) {
        *at = '\0';
        host = at + 1;
        password = strchr(text, ':');
        if (password == NULL) {
            return -EINVAL;
        }
        *password++ = '\0';
        user = text;
    }
    host[strcspn(host, "/?")] = '\0';
    const char *port = "6379";
    char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
    char *colon = strrchr(bracket != NULL ? bracket : host, ':');
    if (colon != NULL) {
        *colon = '\0';
        port = colon + 1;
    }
    if (bracket != NULL) {
        host++;
        *bracket = '\0';
    }
    if (host[0] == '\0' || port[0] == '\0' || port[strspn(port, "0123456789")] != '\0') {
        return -EINVAL;
    }
    int fd = tcp_connect(host, port);
    int code = fd >= 0 && password != NULL ? log_in(fd, user, password) : 0;
    if (code != 0) {
        close(fd);
        return code;
    }
    return fd;
}

/* Send one inline command and read until `done` says that the reply is whole. */
static int ask(const char *socket_path, const char *command, bool (*done)(const struct buf *),
               struct buf *reply)
{
    bool is_url = strncmp(socket_path, URL_SCHEME, strlen(URL_SCHEME)) == 0;
    int fd = is_url ? url_connect(socket_path) : unix_connect(socket_path);
    if (fd < 0) {
        return fd;
    }
    int code = 0;
    size_t bytes = strlen(command);
    if (send(fd, command, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) {
        code = -EIO;
    }
    while (code == 0 && !(reply->bytes > 0 && done(reply))) {
        struct pollfd p = {fd, POLLIN, 0};
        int n = poll(&p, 1, REPLY_TIMEOUT_MS);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        char chunk[16384];
        ssize_t got = n > 0 ? read(fd, chunk, sizeof chunk) : 0;
        if (got <= 0) {
            code = n == 0 ? -ETIMEDOUT : -EIO;
        } else if (reply->bytes + (size_t)got > REPLY_BYTES_MAX) {
            code = -EFBIG;
        } else {
            buf_append(reply, chunk, (size_t)got);
        }
    }
    close(fd);
    return code;
}

static bool line_done(const struct buf *reply)
{
    return strstr(reply->data, "\r\n") != NULL;
}

static bool bulk_done(const struct buf *reply)
{
    const char *line_end = strstr(reply->data, "\r\n");
    if (line_end == NULL) {
        return false;
    }
    if (reply->data[0] != '$') {
        return true; /* an error line */
    }
    long long bytes = atoll(reply->data + 1);
    return (long long)(reply->data + reply->bytes - (line_end + 2)) >= bytes + 2;
}

int redis_server_ask(const char *socket_path, const char *command, char **out_text, struct err *err)
{
    char *line = NULL;
    if (asprintf(&line, "%s\r\n", command) < 0) {
        abort();
    }
    struct buf reply = BUF_INIT;
    int code = ask(socket_path, line, bulk_done, &reply);
    free(line);
    int shown = (int)strcspn(command, " ");
    if (code != 0) {
        buf_fini(&reply);
        return err_set(err, code, "%.*s: redis at %s: %s", shown, command, place_shown(socket_path),
                       strerror(-code));
    }
    struct buf text = BUF_INIT;
    if (reply.data[0] == '$' && reply.data[1] != '-') {
        buf_append(&text, strstr(reply.data, "\r\n") + 2, (size_t)atoll(reply.data + 1));
    } else {
        buf_append(&text, reply.data + 1, strcspn(reply.data, "\r\n") - 1);
    }
    if (reply.data[0] == '-') {
        code = err_set(err, -EIO, "%.*s: redis at %s: %s", shown, command, place_shown(socket_path),
                       text.data);
        buf_fini(&text);
    } else {
        *out_text = buf_take(&text);
    }
    buf_fini(&reply);
    return code;
}

int redis_server_info(const char *socket_path, const char *section, char **out_text,
                      struct err *err)
{
    char command[64];
    snprintf(command, sizeof command, "INFO %s", section);
    return redis_server_ask(socket_path, command, out_text, err);
}

double redis_info_number(const char *info, const char *field)
{
    size_t n = strlen(field);
    for (const char *p = info; p != NULL && *p != '\0';) {
        if (strncmp(p, field, n) == 0 && p[n] == ':') {
            return strtod(p + n + 1, NULL);
        }
        p = strchr(p, '\n');
        p = p != NULL ? p + 1 : NULL;
    }
    return (double)NAN;
}

/* The last lines of the server's log, for an error text. */
static void read_log_tail(const char *dir, char *out, size_t bytes)
{
    char path[REDIS_SERVER_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/redis.log", dir);
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct stat st;
    if (fstat(fd, &st) == 0) {
        off_t from = st.st_size > (off_t)bytes - 1 ? st.st_size - (off_t)(bytes - 1) : 0;
        ssize_t got = pread(fd, out, bytes - 1, from);
        out[got > 0 ? got : 0] = '\0';
        for (char *p = out; *p != '\0'; p++) {
            if (*p == '\n') {
                *p = ' ';
            }
        }
    }
    close(fd);
}

static int wait_ready(struct redis_server *server, struct err *err)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + START_TIMEOUT_NS;
    for (;;) {
        struct buf reply = BUF_INIT;
        int code = ask(server->socket_path, "PING\r\n", line_done, &reply);
        bool ready = code == 0 && strncmp(reply.data, "+PONG", 5) == 0;
        buf_fini(&reply);
        if (ready) {
            return 0;
        }
        /* Waiting on the process itself: returns at once when redis-server gives up. */
        int64_t now_ns = clock_monotonic_ns(clock_system());
        int ended = child_wait(&server->child, now_ns + 2 * NS_PER_MS);
        if (ended == 0 || now_ns > deadline_ns) {
            char tail[300];
            read_log_tail(server->dir, tail, sizeof tail);
            return err_set(err, -EIO, "redis-server %s: %s",
                           ended == 0 ? "ended at start" : "gave no answer in 10 s", tail);
        }
        if (ended == -EINTR) {
            return err_set(err, -EINTR, "interrupted while redis-server started");
        }
    }
}

static int launch(struct redis_server *server, const struct redis_server_options *options,
                  struct err *err)
{
    const char *argv[16 + REDIS_SERVER_ARGS_MAX];
    int n = 0;
    const char *program = options->program;
    if (program == NULL) {
        program =
            access("/usr/sbin/redis-server", X_OK) == 0 ? "/usr/sbin/redis-server" : "redis-server";
    }
    argv[n++] = program;
    const char *base[] = {"--port",       "0",  "--unixsocket", "redis.sock", "--save",      "",
                          "--appendonly", "no", "--dir",        ".",          "--daemonize", "no",
                          "--logfile",    ""};
    for (size_t i = 0; i < sizeof base / sizeof *base; i++) {
        argv[n++] = base[i];
    }
    for (int i = 0; options->config != NULL && options->config[i] != NULL; i++) {
        if (i >= REDIS_SERVER_ARGS_MAX) {
            return err_set(err, -E2BIG, "more than %d redis options", REDIS_SERVER_ARGS_MAX);
        }
        argv[n++] = options->config[i];
    }
    argv[n] = NULL;
    char log_path[REDIS_SERVER_PATH_MAX + 16];
    snprintf(log_path, sizeof log_path, "%s/redis.log", server->dir);
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) {
        return err_set(err, -errno, "%s: %s", log_path, strerror(errno));
    }
    struct child_options child = {
        .argv = argv,
        .dir = server->dir,
        .stdin_fd = -1,
        .stdout_fd = log_fd,
        .stderr_fd = log_fd,
        .cpu = options->cpu,
        .own_group = true,
    };
    int code = child_start(&server->child, &child, err);
    close(log_fd);
    return code;
}

int redis_server_start(struct redis_server *server, const struct redis_server_options *options,
                       struct err *err)
{
    *server = (struct redis_server){0};
    if (options->dir != NULL) {
        if (strlen(options->dir) >= sizeof server->dir) {
            return err_set(err, -ENAMETOOLONG, "%s: too long for a socket path", options->dir);
        }
        strcpy(server->dir, options->dir);
        if (mkdir(server->dir, 0700) != 0 && errno != EEXIST) {
            return err_set(err, -errno, "%s: %s", server->dir, strerror(errno));
        }
    } else {
        int code = temp_dir_make(server->dir, sizeof server->dir, "redis", err);
        if (code != 0) {
            return code;
        }
        server->dir_is_ours = true;
    }
    snprintf(server->socket_path, sizeof server->socket_path, "%s/redis.sock", server->dir);
    int code = launch(server, options, err);
    if (code == 0) {
        code = wait_ready(server, err);
    }
    if (code != 0) {
        redis_server_stop(server);
    }
    return code;
}

void redis_server_stop(struct redis_server *server)
{
    child_stop(&server->child, STOP_GRACE_NS);
    if (server->dir_is_ours) {
        remove_tree(server->dir);
        server->dir_is_ours = false;
    }
}

void redis_server_kill(struct redis_server *server)
{
    if (server->child.pid != 0) {
        kill(server->child.pid, SIGKILL);
        child_stop(&server->child, STOP_GRACE_NS);
    }
}

int redis_server_relaunch(struct redis_server *server, const struct redis_server_options *options,
                          struct err *err)
{
    child_stop(&server->child, STOP_GRACE_NS);
    unlink(server->socket_path);
    return launch(server, options, err);
}

int redis_server_restart(struct redis_server *server, const struct redis_server_options *options,
                         struct err *err)
{
    int code = redis_server_relaunch(server, options, err);
    return code != 0 ? code : wait_ready(server, err);
}

int redis_server_tell(const char *socket_path, const char *command)
{
    char line[256];
    int bytes = snprintf(line, sizeof line, "%s\r\n", command);
    if (bytes < 0 || bytes >= (int)sizeof line) {
        return -EINVAL;
    }
    int fd = unix_connect(socket_path);
    if (fd < 0) {
        return fd;
    }
    int code = send(fd, line, (size_t)bytes, MSG_NOSIGNAL) == bytes ? 0 : -EIO;
    close(fd);
    return code;
}
