/* The masters of a Redis Cluster behind one struct conn: which node a key lives on, a connection to
 * each, and what to do when they say that it has moved. For conn.c alone.
 *
 * The slot map comes from CLUSTER NODES and is read again when a node redirects, is lost or has no
 * quorum. MOVED is followed, at most CLUSTER_HOPS_MAX times a request. ASK is not: while a slot is
 * on its way its keys are on two nodes, and a script needs all of them on one; such requests end
 * with CONN_UNAVAILABLE until the slot has arrived. What waits for a node that is away goes to
 * whoever serves its slot next; what had been sent is treated as for any lost connection. A SCAN
 * visits the nodes one after the other; its cursor, "CURSOR-NODE", says where. Owner: the struct
 * conn. One thread. Source: Redis Cluster specification, "Redirection and resharding", "Hash tags".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/conn.h"
#include "store/url.h"

#define CLUSTER_NODES_MAX 512
#define CLUSTER_HOPS_MAX 16

struct cluster;

/* Reads the map from the first of the url's places that answers and connects to each master. NULL
 * with text at deadline_ns, or when that one is no node of a cluster: *out_is_cluster is then
 * false.
 */
struct cluster *cluster_open(const struct conn_options *options, const struct url *url,
                             int64_t deadline_ns, bool *out_is_cluster, struct err *err);
void cluster_close(struct cluster *cluster); /* NULL is fine */

/* Put a request that call->conn has built in line at the node where its key lives. 0, or -EAGAIN:
 * no room. */
int cluster_send(struct cluster *cluster, const struct conn_call *call);

/* The same at every node that serves and answers; its done comes once for each. How many, or
 * -EAGAIN.
 */
int cluster_send_everywhere(struct cluster *cluster, const struct conn_call *call);

/* A request's connection; any node's when it has no key. */
struct conn *cluster_route(struct cluster *cluster, const struct conn_call *call);

/* An error reply to a request, which call->conn still has in line. True when another node has it
 * now.
 */
bool cluster_redirected(struct cluster *cluster, const struct conn_call *call, const char *text,
                        size_t bytes);

int cluster_fd(const struct cluster *cluster);
int64_t cluster_deadline_ns(const struct cluster *cluster);
void cluster_flush(struct cluster *cluster);
void cluster_on_ready(struct cluster *cluster);
size_t cluster_pending(const struct cluster *cluster);
void cluster_add_counters(const struct cluster *cluster, struct conn_counters *to);
