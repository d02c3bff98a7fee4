/* A private Redis Cluster on loopback: masters that share the slots, and replicas of them. For
 * tests and for scenarios that ask for one. Each node is a redis_server with a TCP port of its own.
 */
#pragma once

#include "base/redis_server.h"

#define REDIS_CLUSTER_NODES_MAX 16

struct redis_cluster_options {
    unsigned masters; /* at least 3: fewer cannot vote */
    unsigned replicas; /* of each master */
    int node_timeout_ms; /* until a silent node is called failed */
    const char *const *config; /* more arguments for each node; may be NULL */
    int cpu; /* pin all to this core; -1: leave free */
};

struct redis_cluster {
    struct redis_server nodes[REDIS_CLUSTER_NODES_MAX]; /* masters first */
    char ids[REDIS_CLUSTER_NODES_MAX][48]; /* as CLUSTER MYID says */
    int ports[REDIS_CLUSTER_NODES_MAX];
    unsigned masters;
    unsigned count;
    char url[48 + REDIS_CLUSTER_NODES_MAX * 16]; /* redis://127.0.0.1:p1,127.0.0.1:p2,... */
};

/* Start and wait until every node sees a whole cluster and every replica has its master's data. 0,
 * or negative errno with text. */
int redis_cluster_start(struct redis_cluster *cluster, const struct redis_cluster_options *options,
                        struct err *err);
/* A node that was killed (redis_server_kill), with the same options: its port, and what its folder
 * kept. Returns when no node takes another for dead: all of them must run. */
int redis_cluster_restart(struct redis_cluster *cluster,
                          const struct redis_cluster_options *options, unsigned node,
                          struct err *err);
void redis_cluster_stop(struct redis_cluster *cluster); /* a zeroed one is fine */

/* A TCP port of 127.0.0.1 that nobody listens on now, as is the one 10,000 above it. */
int redis_cluster_free_port(void);
