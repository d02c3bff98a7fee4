/* What a Redis Cluster says of its slots, as text: CLUSTER NODES and MOVED. Pure functions; any
 * thread.
 *
 * The text comes from the network: what is no line, address or range of slots of the documented
 * form is passed over. Source: Redis documentation, CLUSTER NODES; Redis Cluster specification,
 * "Hash tags", "MOVED redirection". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/url.h"

#define SLOTS_COUNT 16384

/* The slot of a key: of what stands between its first '{' and the next '}' unless that is nothing.
 */
uint16_t slots_of_key(const char *key, size_t bytes);

/* Called for each range of slots, from <= to < SLOTS_COUNT, that a master serves which is not
 * called failed. */
typedef void slots_range_fn(void *arg, const struct url_place *master, uint16_t from, uint16_t to);

/* The text of CLUSTER NODES. A node that gives no host is at asked_host. */
void slots_read_nodes(const char *text, size_t bytes, const char *asked_host, slots_range_fn *range,
                      void *arg);

/* "MOVED 3999 127.0.0.1:6381". False: it is none. */
bool slots_read_moved(const char *text, size_t bytes, const char *asked_host, uint16_t *out_slot,
                      struct url_place *out);
