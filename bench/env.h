/* The machine and the toolchain: what must be equal for two result sets to be compared.
 *
 * Identity fields are hashed to env8; context is recorded for people and never hashed: clock rates
 * and bogomips change with every boot. Plain data, no memory of its own. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

#define ENV_SCHEMA "codeq-lab.env/1"
#define ENV_FIELDS_MAX 32
#define ENV_NAME_BYTES 32
#define ENV_VALUE_BYTES 320
#define ENV_ID_BYTES 9 /* 8 hex digits and the NUL */

struct env_field {
    char name[ENV_NAME_BYTES];
    char value[ENV_VALUE_BYTES];
};

struct env {
    struct env_field identity[ENV_FIELDS_MAX]; /* sorted by name */
    size_t identity_count;
    struct env_field context[ENV_FIELDS_MAX];
    size_t context_count;
};

/* root: "" for the machine; a folder that holds proc/ and sys/ for tests. build is the object
 * "build" of a driver's hello; NULL leaves its fields out. */
void env_collect(struct env *env, const char *root, const struct json *build);

/* Add or replace an identity field; keeps the order. */
void env_set(struct env *env, const char *name, const char *value);
const char *env_get(const struct env *env, const char *name); /* "" when absent */

void env_id(const struct env *env, char out[ENV_ID_BYTES]);

/* The text of env.json; the caller frees it. */
char *env_print(const struct env *env);

/* Back from env.json. 0, or -EINVAL with text (not an env, newer schema, fields too long), or
 * -EBADMSG when its env8 is not the hash of its identity. */
int env_parse(struct env *env, const char *text, size_t bytes, struct err *err);

/* First line of a program's output, e.g. {"valgrind", "--version", NULL}; "" when it does not run.
 */
void env_program_line(const char *const *argv, char *out, size_t bytes);
