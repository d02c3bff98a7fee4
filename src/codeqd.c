/* codeqd: the scheduler as an HTTP service. Reads its configuration, finds or starts Redis, runs
 * one server a thread, drains on SIGTERM and SIGINT. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/redis_server.h"
#include "service/body.h"
#include "service/config.h"
#include "service/debug.h"
#include "service/server.h"
#include "service/waiters.h"
#include "store/tls.h"

extern char **environ;

struct thread {
    pthread_t id;
    struct server *server;
};

static const char usage[] = "codeqd serves codeQ's task API over HTTP, with Redis behind it.\n"
                            "\n"
                            "usage: codeqd [OPTION...]\n"
                            "\n";

static const char examples[] =
    "\n"
    "examples:\n"
    "  codeqd                                  a private Redis, development tokens, port 8080\n"
    "  codeqd --listen 127.0.0.1:9000 --data /tmp/codeq\n"
    "  codeqd --redis redis://10.0.0.5:6379/0 --threads 4 --config codeqd.json\n"
    "  codeqd --print-config                   what it would run with\n";

static int fail(const char *text)
{
    fprintf(stderr, "codeqd: %s\n", text);
    return 2;
}

/* One datagram to the manager that started us. Source: sd_notify(3). */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path)) {
        return;
    }
    size_t bytes = strlen(path);
    memcpy(to.sun_path, path, bytes);
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
    close(fd);
}

static int make_folders(const char *path, struct err *err)
{
    char part[512];
    if (strlen(path) >= sizeof(part)) {
        return err_set(err, -ENAMETOOLONG, "data_dir: longer than %zu bytes", sizeof(part) - 1);
    }
    strcpy(part, path);
    for (char *p = part + 1;; p++) {
        if (*p == '/' || *p == '\0') {
            char end = *p;
            *p = '\0';
            if (mkdir(part, 0700) != 0 && errno != EEXIST) {
                return err_set(err, -errno, "data: %s: %s: give another --data", part,
                               strerror(errno));
            }
            *p = end;
            if (end == '\0') {
                return 0;
            }
        }
    }
}

/* Where a private Redis keeps its files when nobody says. Source: XDG base directories. */
static void default_data_dir(char *out, size_t bytes)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (state != NULL && state[0] == '/') {
        snprintf(out, bytes, "%s/codeqd", state);
    } else if (home != NULL && home[0] == '/') {
        snprintf(out, bytes, "%s/.local/state/codeqd", home);
    } else {
        snprintf(out, bytes, "/var/tmp/codeqd-%u", (unsigned)getuid());
    }
}

static int start_redis(const struct config *config, struct redis_server *redis, char *url,
                       size_t url_bytes, struct err *err)
{
    /* Sorted sets of fewer than 128 leases would be kept as lists that are searched from one end.
     */
    static const char *const settings[] = {
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--maxmemory-policy",
        "noeviction",
        "--zset-max-listpack-entries",
        "0",
        NULL,
    };
    char dir[512];
    if (config->data_dir != NULL) {
        snprintf(dir, sizeof(dir), "%s", config->data_dir);
    } else {
        default_data_dir(dir, sizeof(dir));
    }
    int code = make_folders(dir, err);
    if (code != 0) {
        return code;
    }
    struct redis_server_options options = {.dir = dir, .config = settings, .cpu = -1};
    code = redis_server_start(redis, &options, err);
    if (code != 0) {
        return code;
    }
    snprintf(url, url_bytes, "unix:%s", redis->socket_path);
    log_event(LOG_LEVEL_INFO, "redis_started", "dir", dir, NULL);
    return 0;
}

static const struct conn_tls *start_tls(const struct config *config, struct err *err)
{
    const struct tls_options options = {
        .ca_file = config->redis_tls_ca_file,
        .cert_file = config->redis_tls_cert_file,
        .key_file = config->redis_tls_key_file,
        .verify = strcmp(config->redis_tls_verify, "full") == 0    ? TLS_VERIFY_FULL
                  : strcmp(config->redis_tls_verify, "chain") == 0 ? TLS_VERIFY_CHAIN
                                                                   : TLS_VERIFY_NONE,
    };
    return tls_new(&options, err);
}

static void print_curls(const char *at)
{
    printf("codeqd serves http://%s with the development token \"%s\"\n\n", at,
           AUTH_DEVELOPMENT_TOKEN);
    printf("  curl -s http://%s/v1/codeq/tasks -H 'Authorization: Bearer %s' \\\n"
           "    -d '{\"command\":\"GENERATE_MASTER\",\"payload\":{\"jobId\":\"j-123\"}}'\n",
           at, AUTH_DEVELOPMENT_TOKEN);
    printf(
        "  curl -s http://%s/v1/codeq/tasks/claim -H 'Authorization: Bearer %s' \\\n"
        "    -d '{\"commands\":[\"GENERATE_MASTER\"],\"leaseSeconds\":120,\"waitSeconds\":10}'\n",
        at, AUTH_DEVELOPMENT_TOKEN);
    printf("  curl -s http://%s/v1/codeq/tasks/ID/result -H 'Authorization: Bearer %s' \\\n"
           "    -d '{\"status\":\"COMPLETED\",\"result\":{\"ok\":true}}'\n\n",
           at, AUTH_DEVELOPMENT_TOKEN);
    fflush(stdout);
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    server_run(thread->server);
    body_thread_end();
    return NULL;
}

static int run(const struct config *config)
{
    struct err err;
    struct redis_server redis = {0};
    char private_url[256];
    char address[300] = "";
    const char *url = config->redis_url;
    struct thread threads[CONFIG_THREADS_MAX] = {0};
    int exit_code = 2;
    int64_t started = 0;
    struct debug *debug = NULL;
    const struct conn_tls *tls = NULL;
    struct service_shared *shared = service_shared_new((unsigned)config->threads);

    if (config->development_tokens && !config_listen_is_loopback(config->listen)) {
        service_shared_free(shared);
        return fail("listen: development tokens are only for a loopback address: give "
                    "--producer-auth-provider and --worker-auth-provider, or listen on 127.0.0.1");
    }
    /* The signals are taken by this thread alone, in sigwait. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    if (config->debug_listen != NULL) {
        debug = debug_start(config->debug_listen, &err);
        if (debug == NULL) {
            fail(err.text);
            goto out;
        }
        log_event(LOG_LEVEL_INFO, "debug_open", "address", debug_address(debug), NULL);
    }
    if (url == NULL) {
        if (start_redis(config, &redis, private_url, sizeof(private_url), &err) != 0) {
            fail(err.text);
            goto out;
        }
        url = private_url;
    }
    if (strncmp(url, "rediss://", 9) == 0) {
        tls = start_tls(config, &err);
        if (tls == NULL) {
            fail(err.text);
            goto out;
        }
    }
    for (int64_t i = 0; i < config->threads; i++) {
        int fd = server_listen(i == 0 ? config->listen : address, config->threads > 1, &err);
        if (fd < 0) {
            fail(err.text);
            goto out;
        }
        if (i == 0) {
            server_address(config->listen, fd, address, sizeof(address));
        }
        struct server_options options = {.config = config,
                                         .redis_url = url,
                                         .tls = tls,
                                         .shared = shared,
                                         .first = i > 0 ? threads[0].server : NULL,
                                         .listen_fd = fd,
                                         .thread = (unsigned)i};
        threads[i].server = server_new(&options, &err);
        if (threads[i].server == NULL) {
            close(fd);
            fail(err.text);
            goto out;
        }
    }
    log_event(LOG_LEVEL_INFO, "listening", "address", address, NULL);
    for (; started < config->threads; started++) {
        if (pthread_create(&threads[started].id, NULL, thread_main, &threads[started]) != 0) {
            fail("threads: cannot start one more: give fewer --threads");
            goto out;
        }
    }
    if (config->development_tokens) {
        print_curls(address);
    }
    notify("READY=1");
    int signal_number = 0;
    sigwait(&signals, &signal_number);
    notify("STOPPING=1");
    log_event(LOG_LEVEL_INFO, "draining", "signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT",
              NULL);
    exit_code = 0;
out:
    for (int64_t i = 0; i < started; i++) {
        server_stop(threads[i].server);
    }
    for (int64_t i = 0; i < started; i++) {
        pthread_join(threads[i].id, NULL);
    }
    debug_stop(debug);
    for (int64_t i = config->threads - 1; i >= 0; i--) { /* the first is used by the others */
        server_free(threads[i].server);
    }
    tls_free(tls);
    service_shared_free(shared);
    redis_server_stop(&redis);
    if (exit_code == 0) {
        log_event(LOG_LEVEL_INFO, "stopped", NULL);
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    struct config config;
    struct err err;
    int code = config_load(&config, argc, argv, environ, &err);
    int exit_code = 0;
    if (config.help) {
        char *options = config_help();
        printf("%s%s%s", usage, options, examples);
        free(options);
    } else if (config.version) {
        printf("codeqd %s\n", CODEQ_VERSION);
    } else if (code != 0) {
        exit_code = fail(err.text);
    } else if (config.print_config) {
        char *text = config_print(&config);
        fputs(text, stdout);
        free(text);
    } else {
        enum log_level level = LOG_LEVEL_INFO;
        log_level_parse(config.log_level, &level);
        log_setup(level, strcmp(config.log_format, "json") == 0);
        exit_code = run(&config);
    }
    config_fini(&config);
    return exit_code;
}
