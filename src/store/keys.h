/* Every key name. Pure functions; any thread.
 *
 * All keys of one queue shard begin with its tag "{tenant/number/shard}", so that they live in one
 * Cluster slot; the scripts get the tag as their one KEYS entry and append the rest: what that is
 * stands in src/README.md. A command or any other text from outside never reaches a key. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_TENANT_BYTES_MAX 63
#define KEYS_BYTES_MAX 96 /* of the names made here */

#define KEYS_META "{codeq}:meta" /* hash: format, makers */
#define KEYS_INSTANCE_BYTES 16 /* of a codeqd's own name, hex digits */
#define KEYS_CHANNEL "codeq:" /* and the name of the codeqd that listens there */
#define KEYS_NEWS "codeq:queues" /* channel: key of a tenant's queues that has a new one */
#define KEYS_FORMAT "2" /* layout of all that is kept; another one is refused by name */

/* ^[a-z][a-z0-9-]{1,62}$ */
bool keys_tenant_valid(const char *tenant);

/* "{tenant/number/shard}" or "{tenant}:queues" into out, with a NUL. Its length, or 0 when the
 * tenant is not valid. */
size_t keys_tag(const char *tenant, uint16_t number, uint8_t shard, char out[KEYS_BYTES_MAX]);
size_t keys_queues(const char *tenant, char out[KEYS_BYTES_MAX]);

/* The tag at the start of text. Its length, or 0 when none stands there. */
size_t keys_tag_parse(const char *text, size_t bytes, char tenant[KEYS_TENANT_BYTES_MAX + 1],
                      uint16_t *number, uint8_t *shard);
