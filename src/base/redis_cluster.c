#include "base/redis_cluster.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

#define SLOTS 16384
#define FORM_TIMEOUT_NS (30 * NS_PER_SEC)
#define POLL_NS (20 * NS_PER_MS)
#define BUS_OFFSET 10000 /* of a node's bus port from its port */
#define PORT_TRIES 100

static int listen_once(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &bytes) == 0) {
        port = ntohs(address.sin_port);
    } else {
        port = -1;
    }
    close(fd);
    return port;
}

int redis_cluster_free_port(void)
{
    for (int i = 0; i < PORT_TRIES; i++) {
        int port = listen_once(0);
        if (port > 0 && port + BUS_OFFSET <= UINT16_MAX && listen_once(port + BUS_OFFSET) > 0) {
            return port;
        }
    }
    return -EADDRNOTAVAIL;
}

static int tell(struct redis_cluster *cluster, unsigned node, const char *command, struct err *err)
{
    char *text = NULL;
    int code = redis_server_ask(cluster->nodes[node].socket_path, command, &text, err);
    free(text);
    return code;
}

/* Run a node on its port, for the first time or again. */
static int run_node(struct redis_cluster *cluster, unsigned node,
                    const struct redis_cluster_options *options, bool again, struct err *err)
{
    const char *config[REDIS_SERVER_ARGS_MAX];
    char port[8], timeout[16];
    size_t n = 0;
    snprintf(port, sizeof port, "%d", cluster->ports[node]);
    snprintf(timeout, sizeof timeout, "%d", options->node_timeout_ms);
    const char *own[] = {"--port",
                         port,
                         "--bind",
                         "127.0.0.1",
                         "--cluster-enabled",
                         "yes",
                         "--cluster-node-timeout",
                         timeout,
                         "--cluster-require-full-coverage",
                         "no",
                         "--cluster-replica-validity-factor",
                         "0",
                         "--repl-diskless-sync-delay",
                         "0"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        config[n++] = own[i];
    }
    for (size_t i = 0; options->config != NULL && options->config[i] != NULL; i++) {
        if (n == REDIS_SERVER_ARGS_MAX - 1) {
            return err_set(err, -E2BIG, "too many redis options");
        }
        config[n++] = options->config[i];
    }
    config[n] = NULL;
    struct redis_server_options server = {.config = config, .cpu = options->cpu};
    return again ? redis_server_restart(&cluster->nodes[node], &server, err)
                 : redis_server_start(&cluster->nodes[node], &server, err);
}

static int start_node(struct redis_cluster *cluster, unsigned node,
                      const struct redis_cluster_options *options, struct err *err)
{
    cluster->ports[node] = redis_cluster_free_port();
    if (cluster->ports[node] < 0) {
        return err_set(err, cluster->ports[node], "no free port for a redis node");
    }
    int code = run_node(cluster, node, options, false, err);
    cluster->count = code == 0 ? node + 1 : cluster->count;
    char *id = NULL;
    if (code == 0) {
        code = redis_server_ask(cluster->nodes[node].socket_path, "CLUSTER MYID", &id, err);
    }
    snprintf(cluster->ids[node], sizeof cluster->ids[node], "%s", code == 0 ? id : "");
    free(id);
    return code;
}

/* Give a master its share of the slots. */
static int add_slots(struct redis_cluster *cluster, unsigned master, struct err *err)
{
    struct buf command = BUF_INIT;
    buf_puts(&command, "CLUSTER ADDSLOTS");
    for (unsigned slot = master * SLOTS / cluster->masters;
         slot < (master + 1) * SLOTS / cluster->masters; slot++) {
        buf_printf(&command, " %u", slot);
    }
    int code = tell(cluster, master, command.data, err);
    buf_fini(&command);
    return code;
}

/* Whether node sees all others and all slots, and has its master's data. */
static bool is_whole(struct redis_cluster *cluster, unsigned node)
{
    char *info = NULL;
    char *replication = NULL;
    struct err ignored;
    const char *socket_path = cluster->nodes[node].socket_path;
    bool whole = redis_server_ask(socket_path, "CLUSTER INFO", &info, &ignored) == 0 &&
                 redis_server_info(socket_path, "replication", &replication, &ignored) == 0 &&
                 strstr(info, "cluster_state:ok") != NULL &&
                 (unsigned)redis_info_number(info, "cluster_known_nodes") == cluster->count &&
                 (unsigned)redis_info_number(info, "cluster_slots_ok") == SLOTS &&
                 (node < cluster->masters ? strstr(replication, "role:master") != NULL
                                          : strstr(replication, "master_link_status:up") != NULL);
    free(info);
    free(replication);
    return whole;
}

/* Try until `true_of` holds for every node from `first` on. */
static int until_all(struct redis_cluster *cluster, unsigned first,
                     bool (*true_of)(struct redis_cluster *, unsigned), int64_t deadline_ns,
                     struct err *err)
{
    for (unsigned node = first; node < cluster->count; node++) {
        while (!true_of(cluster, node)) {
            int64_t now_ns = clock_monotonic_ns(clock_system());
            if (now_ns > deadline_ns) {
                return err_set(err, -ETIMEDOUT, "the redis nodes did not become a cluster in 30 s");
            }
            int ended = child_wait(&cluster->nodes[node].child, now_ns + POLL_NS);
            if (ended != -ETIMEDOUT) {
                return err_set(err, ended == 0 ? -EIO : ended, "a redis node ended");
            }
        }
    }
    return 0;
}

/* Whether node takes no other for dead. */
static bool misses_none(struct redis_cluster *cluster, unsigned node)
{
    char *nodes = NULL;
    char *info = NULL;
    struct err ignored;
    const char *socket_path = cluster->nodes[node].socket_path;
    bool none = redis_server_ask(socket_path, "CLUSTER NODES", &nodes, &ignored) == 0 &&
                redis_server_ask(socket_path, "CLUSTER INFO", &info, &ignored) == 0 &&
                strstr(nodes, "fail") == NULL && strstr(info, "cluster_state:ok") != NULL;
    free(nodes);
    free(info);
    return none;
}

int redis_cluster_restart(struct redis_cluster *cluster,
                          const struct redis_cluster_options *options, unsigned node,
                          struct err *err)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + FORM_TIMEOUT_NS;
    int code = run_node(cluster, node, options, true, err);
    return code == 0 ? until_all(cluster, 0, misses_none, deadline_ns, err) : code;
}

static bool knows_all(struct redis_cluster *cluster, unsigned node)
{
    char *info = NULL;
    struct err ignored;
    bool all =
        redis_server_ask(cluster->nodes[node].socket_path, "CLUSTER INFO", &info, &ignored) == 0 &&
        (unsigned)redis_info_number(info, "cluster_known_nodes") == cluster->count;
    free(info);
    return all;
}

static int form(struct redis_cluster *cluster, struct err *err)
{
    char command[96];
    int code = 0;
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + FORM_TIMEOUT_NS;
    for (unsigned i = 0; i < cluster->count && code == 0; i++) {
        /* Epochs of their own, so that no two masters have to settle theirs first. */
        snprintf(command, sizeof command, "CLUSTER SET-CONFIG-EPOCH %u", i + 1);
        code = tell(cluster, i, command, err);
        code = code == 0 && i < cluster->masters ? add_slots(cluster, i, err) : code;
    }
    for (unsigned i = 1; i < cluster->count && code == 0; i++) {
        snprintf(command, sizeof command, "CLUSTER MEET 127.0.0.1 %d", cluster->ports[i]);
        code = tell(cluster, 0, command, err);
    }
    code = code == 0 ? until_all(cluster, 0, knows_all, deadline_ns, err) : code;
    for (unsigned i = cluster->masters; i < cluster->count && code == 0; i++) {
        snprintf(command, sizeof command, "CLUSTER REPLICATE %s",
                 cluster->ids[i % cluster->masters]);
        code = tell(cluster, i, command, err);
    }
    return code == 0 ? until_all(cluster, 0, is_whole, deadline_ns, err) : code;
}

int redis_cluster_start(struct redis_cluster *cluster, const struct redis_cluster_options *options,
                        struct err *err)
{
    *cluster = (struct redis_cluster){.masters = options->masters};
    unsigned nodes = options->masters * (1 + options->replicas);
    if (options->masters < 3 || nodes > REDIS_CLUSTER_NODES_MAX) {
        return err_set(err, -EINVAL, "a redis cluster has 3 masters or more, and %d nodes at most",
                       REDIS_CLUSTER_NODES_MAX);
    }
    int code = 0;
    for (unsigned i = 0; i < nodes && code == 0; i++) {
        code = start_node(cluster, i, options, err);
    }
    code = code == 0 ? form(cluster, err) : code;
    size_t at = (size_t)snprintf(cluster->url, sizeof cluster->url, "redis://");
    for (unsigned i = 0; i < cluster->count; i++) {
        at += (size_t)snprintf(cluster->url + at, sizeof cluster->url - at, "%s127.0.0.1:%d",
                               i > 0 ? "," : "", cluster->ports[i]);
    }
    if (code != 0) {
        redis_cluster_stop(cluster);
    }
    return code;
}

void redis_cluster_stop(struct redis_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        redis_server_kill(&cluster->nodes[i]); /* nothing of it is kept */
    }
    for (unsigned i = 0; i < cluster->count; i++) {
        redis_server_stop(&cluster->nodes[i]);
    }
    cluster->count = 0;
}
