/* What codeqd was told: one JSON file, flags and the environment, read into one plain struct.
 *
 * The order of strength is fixed: defaults < file < flags < environment, so that a container's
 * environment has the last word, as with codeQ. One table (config.c) holds each setting's key in
 * the file, its flag, its variables (ours and codeQ's), its range and its help; the file's schema,
 * --help and --print-config are computed from it. A value has the same form everywhere: durations
 * and sizes carry a unit ("250ms", "64KiB"), except in codeQ's variables, which count seconds.
 *
 * The struct owns its texts; config_fini frees them. Filled once in main, read by every thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CONFIG_FILE_BYTES_MAX (1024 * 1024)
#define CONFIG_THREADS_MAX 64
#define CONFIG_SHARDS_MAX 256

struct config_bucket { /* a token bucket; off unless both are above 0 */
    int64_t requests_per_minute;
    int64_t burst;
};

struct config {
    /* what to do */
    bool print_config;
    bool help;
    bool version;
    char *config_file; /* NULL: none */

    /* listening */
    char *listen; /* "127.0.0.1:8080", "[::1]:8080" */
    char *debug_listen; /* NULL: no debug listener */
    int64_t threads;
    int64_t connections_max; /* of the whole process */
    int64_t waiters_max; /* long polls of the whole process */
    int64_t creates_max; /* tasks to be created that are on their way, of the whole process */
    int64_t header_timeout_ns;
    int64_t idle_timeout_ns;
    int64_t drain_timeout_ns;

    /* request limits */
    int64_t body_bytes_max;
    int64_t header_bytes_max;
    int64_t url_bytes_max;

    /* Redis */
    char *redis_url; /* NULL: a private redis-server in data_dir */
    char *redis_password; /* for a url without one; from REDIS_PASSWORD */
    char *redis_tls_ca_file; /* of rediss://; NULL: the system's authorities */
    char *redis_tls_cert_file; /* NULL: none */
    char *redis_tls_key_file;
    char *redis_tls_verify; /* full, chain, none */
    char *data_dir; /* NULL: under the user's state folder */
    int64_t redis_connect_timeout_ns;
    int64_t redis_command_timeout_ns;

    /* tasks */
    int64_t shards_per_queue;
    int64_t lease_default_ns;
    int64_t max_attempts_default;
    char *backoff_policy; /* fixed, linear, exponential, exp_equal_jitter, exp_full_jitter */
    int64_t backoff_base_ns;
    int64_t backoff_max_ns;
    int64_t retention_ns; /* of finished tasks and idempotency keys */

    /* who may do what */
    char *env; /* "dev" lets a token without a role send X-Role */
    char *producer_auth_provider; /* static, jwks, multi; NULL: development tokens */
    char *producer_auth_config; /* JSON text */
    char *worker_auth_provider;
    char *worker_auth_config;
    bool allow_producer_as_worker;
    bool development_tokens; /* computed: no provider was given for either side */
    /* codeQ's older variables; config_load turns them into the jwks providers above */
    char *identity_jwks_url;
    char *identity_issuer;
    char *identity_audience;
    char *worker_jwks_url;
    char *worker_issuer;
    char *worker_audience;
    int64_t clock_skew_ns;

    struct config_bucket rate_producer;
    struct config_bucket rate_worker;
    struct config_bucket rate_admin;
    struct config_bucket rate_webhook;

    /* webhooks and subscriptions */
    char *webhook_hmac_secret; /* NULL: unsigned */
    bool webhook_allow_private; /* targets in private, loopback and link-local networks */
    int64_t webhook_attempts_max;
    int64_t webhook_backoff_base_ns;
    int64_t webhook_backoff_max_ns;
    int64_t webhook_timeout_ns;
    int64_t webhook_connections_max;
    int64_t subscription_interval_min_ns;
    int64_t subscription_cleanup_interval_ns;

    /* logs */
    char *log_level; /* debug, info, warn, error */
    char *log_format; /* text, json */
};

/* Read argv, the file it (or CODEQ_CONFIG_PATH) names, and the environment (NULL-terminated
 * "NAME=value" list) into *out. 0, or -EINVAL (-ENOENT and so on for the file) with
 * "setting: what: what to do". With --help, --version or --print-config set the caller does that;
 * --help and --version are noticed even when the rest is wrong. out is initialised in every case:
 * call config_fini. */
int config_load(struct config *out, int argc, char *const *argv, char *const *environment,
                struct err *err);
void config_fini(struct config *config);

/* Everything as one JSON object that is itself a valid file, secrets as "***". The caller frees. */
char *config_print(const struct config *config);

/* The options' part of --help, one setting after another with default, unit and variables. The
 * caller frees. */
char *config_help(void);

/* Split listen into host (without brackets) and port. 0 or -EINVAL. host_bytes >= 256. */
int config_listen_split(const char *listen, char *host, unsigned *out_port);

/* Whether the host of listen is 127.0.0.0/8, ::1 or "localhost". */
bool config_listen_is_loopback(const char *listen);
