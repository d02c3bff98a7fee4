#include "service/config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#define CODEQ_VARIABLES_MAX 2
#define MASK "***"
#define TEXT_BYTES_MAX 65536

enum type { TEXT, NUMBER, DURATION, SIZE, SWITCH, CHOICE, JSON_TEXT };

struct setting {
    const char *key; /* in the file; the flag has dashes; our variable is CODEQD_ + upper case */
    enum type type;
    size_t offset;
    int64_t min; /* NUMBER as it is, DURATION in ns, SIZE in bytes */
    int64_t max;
    const char *fallback; /* NULL: none */
    const char *variables[CODEQ_VARIABLES_MAX]; /* codeQ's names; their durations are in seconds */
    const char *choices; /* CHOICE: words with a space between */
    bool secret;
    const char *help;
};

#define AT(field) offsetof(struct config, field)
#define MS NS_PER_MS
#define SEC NS_PER_SEC
#define DAY (86400 * NS_PER_SEC)
#define MIB (INT64_C(1) << 20)

#define POLICIES "fixed linear exponential exp_equal_jitter exp_full_jitter"
#define PROVIDERS "static jwks multi"

/* clang-format off */
static const struct setting SETTINGS[] = {
    {"listen", TEXT, AT(listen), 0, 0, "127.0.0.1:8080", {0}, NULL, false,
     "address and port to serve HTTP on"},
    {"debug_listen", TEXT, AT(debug_listen), 0, 0, NULL, {0}, NULL, false,
     "loopback address and port for GET /debug/profile?seconds=30: where codeqd spends its CPU "
     "time, as a gzipped pprof profile; without one there is none"},
    {"threads", NUMBER, AT(threads), 1, CONFIG_THREADS_MAX, "1", {0}, NULL, false,
     "event loops, one a thread"},
    {"connections_max", NUMBER, AT(connections_max), 1, 1000000, "10000", {0}, NULL, false,
     "open client connections; more are refused"},
    {"waiters_max", NUMBER, AT(waiters_max), 0, 1000000, "10000", {0}, NULL, false,
     "claims and result reads that wait; more get 503"},
    {"creates_max", NUMBER, AT(creates_max), 1, 1000000, "8192", {0}, NULL, false,
     "tasks of creates that wait for Redis; more get 503"},
    {"header_timeout", DURATION, AT(header_timeout_ns), 10 * MS, 600 * SEC, "5s", {0}, NULL, false,
     "a request's head must arrive within this"},
    {"idle_timeout", DURATION, AT(idle_timeout_ns), 100 * MS, DAY, "120s", {0}, NULL, false,
     "a connection without a request is closed after this"},
    {"drain_timeout", DURATION, AT(drain_timeout_ns), 0, 3600 * SEC, "10s", {0}, NULL, false,
     "how long SIGTERM lets requests in flight finish"},
    {"body_max", SIZE, AT(body_bytes_max), 1024, 1024 * MIB, "1MiB", {0}, NULL, false,
     "largest request body; above: 413"},
    {"header_max", SIZE, AT(header_bytes_max), 1024, MIB, "16KiB", {0}, NULL, false,
     "largest request head; above: 431"},
    {"url_max", SIZE, AT(url_bytes_max), 256, 65536, "4KiB", {0}, NULL, false,
     "longest request target; above: 414"},

    {"redis", TEXT, AT(redis_url), 0, 0, NULL, {"REDIS_ADDR"}, NULL, false,
     "redis://[user:password@]host[:port][,host[:port]...][/db] or unix:/path; several hosts are a "
     "Redis Cluster's, or a master and its replicas; ?cluster=yes and ?sentinel=NAME after a host "
     "say what it is; rediss:// speaks TLS; without one a private redis-server"},
    {"redis_tls_ca_file", TEXT, AT(redis_tls_ca_file), 0, 0, NULL, {0}, NULL, false,
     "authorities that a rediss:// server's certificate may be from, PEM (default the system's)"},
    {"redis_tls_cert_file", TEXT, AT(redis_tls_cert_file), 0, 0, NULL, {0}, NULL, false,
     "codeqd's own certificate and chain for Redis, PEM"},
    {"redis_tls_key_file", TEXT, AT(redis_tls_key_file), 0, 0, NULL, {0}, NULL, false,
     "the key of that certificate, PEM"},
    {"redis_tls_verify", CHOICE, AT(redis_tls_verify), 0, 0, "full", {0}, "full chain none", false,
     "of Redis' certificate: \"full\" its authority and host, \"chain\" the authority alone, "
     "\"none\" nothing"},
    {"redis_password", TEXT, AT(redis_password), 0, 0, NULL, {"REDIS_PASSWORD", "KVROCKS_PASSWORD"},
     NULL, true, "password for an address that carries none"},
    {"data", TEXT, AT(data_dir), 0, 0, NULL, {0}, NULL, false,
     "folder of the private redis-server (default under the user's state folder)"},
    {"redis_connect_timeout", DURATION, AT(redis_connect_timeout_ns), 1 * MS, 600 * SEC, "5s", {0},
     NULL, false, "give up connecting to Redis after this"},
    {"redis_command_timeout", DURATION, AT(redis_command_timeout_ns), 1 * MS, 600 * SEC, "10s", {0},
     NULL, false, "give up waiting for an answer of Redis after this"},

    {"shards_per_queue", NUMBER, AT(shards_per_queue), 1, CONFIG_SHARDS_MAX, "1", {0}, NULL, false,
     "shards of a queue that is made new"},
    {"lease_default", DURATION, AT(lease_default_ns), 1 * SEC, 365 * DAY, "300s",
     {"DEFAULT_LEASE_SECONDS"}, NULL, false, "lease of a claim that names none"},
    {"max_attempts_default", NUMBER, AT(max_attempts_default), 1, 65535, "5",
     {"MAX_ATTEMPTS_DEFAULT"}, NULL, false, "deliveries before the dead letters"},
    {"backoff_policy", CHOICE, AT(backoff_policy), 0, 0, "exp_full_jitter", {"BACKOFF_POLICY"},
     POLICIES, false, "delay after a nack or an expired lease"},
    {"backoff_base", DURATION, AT(backoff_base_ns), 1 * MS, 365 * DAY, "5s",
     {"BACKOFF_BASE_SECONDS"}, NULL, false, "unit of that delay"},
    {"backoff_max", DURATION, AT(backoff_max_ns), 1 * MS, 365 * DAY, "900s",
     {"BACKOFF_MAX_SECONDS"}, NULL, false, "longest such delay, and longest delaySeconds of a nack"},
    {"retention", DURATION, AT(retention_ns), 1 * SEC, 365 * DAY, "24h", {0}, NULL, false,
     "how long finished tasks and idempotency keys are kept, at least"},

    {"env", TEXT, AT(env), 0, 0, "dev", {"ENV"}, NULL, false,
     "with \"dev\" a producer token without a role may send X-Role"},
    {"producer_auth_provider", CHOICE, AT(producer_auth_provider), 0, 0, NULL,
     {"PRODUCER_AUTH_PROVIDER"}, PROVIDERS, false, "who checks producer tokens"},
    {"producer_auth_config", JSON_TEXT, AT(producer_auth_config), 0, 0, NULL,
     {"PRODUCER_AUTH_CONFIG"}, NULL, true, "that provider's JSON, or @FILE"},
    {"worker_auth_provider", CHOICE, AT(worker_auth_provider), 0, 0, NULL, {"WORKER_AUTH_PROVIDER"},
     PROVIDERS, false, "who checks worker tokens"},
    {"worker_auth_config", JSON_TEXT, AT(worker_auth_config), 0, 0, NULL, {"WORKER_AUTH_CONFIG"},
     NULL, true, "that provider's JSON, or @FILE"},
    {"allow_producer_as_worker", SWITCH, AT(allow_producer_as_worker), 0, 0, "false",
     {"ALLOW_PRODUCER_AS_WORKER"}, NULL, false, "a producer token may also claim and complete"},
    {"identity_jwks_url", TEXT, AT(identity_jwks_url), 0, 0, NULL, {"IDENTITY_JWKS_URL"}, NULL,
     false, "key set for producer tokens, where no provider is named"},
    {"identity_issuer", TEXT, AT(identity_issuer), 0, 0, NULL, {"IDENTITY_ISSUER"}, NULL, false,
     "claim iss of those tokens"},
    {"identity_audience", TEXT, AT(identity_audience), 0, 0, NULL, {"IDENTITY_AUDIENCE"}, NULL,
     false, "claim aud of those tokens"},
    {"worker_jwks_url", TEXT, AT(worker_jwks_url), 0, 0, NULL, {"WORKER_JWKS_URL"}, NULL, false,
     "key set for worker tokens, where no provider is named"},
    {"worker_issuer", TEXT, AT(worker_issuer), 0, 0, NULL, {"WORKER_ISSUER"}, NULL, false,
     "claim iss of those tokens"},
    {"worker_audience", TEXT, AT(worker_audience), 0, 0, "codeq-worker", {"WORKER_AUDIENCE"}, NULL,
     false, "claim aud of those tokens"},
    {"clock_skew", DURATION, AT(clock_skew_ns), 0, 3600 * SEC, "60s",
     {"ALLOWED_CLOCK_SKEW_SECONDS"}, NULL, false, "how far a token issuer's clock may be off"},

    {"rate_producer_per_minute", NUMBER, AT(rate_producer.requests_per_minute), 0, 1000000000, "0",
     {0}, NULL, false, "creates a token may send a minute; 0: no limit"},
    {"rate_producer_burst", NUMBER, AT(rate_producer.burst), 0, 1000000000, "0", {0}, NULL, false,
     "creates a token may send at once"},
    {"rate_worker_per_minute", NUMBER, AT(rate_worker.requests_per_minute), 0, 1000000000, "0", {0},
     NULL, false, "claims a token may send a minute; 0: no limit"},
    {"rate_worker_burst", NUMBER, AT(rate_worker.burst), 0, 1000000000, "0", {0}, NULL, false,
     "claims a token may send at once"},
    {"rate_admin_per_minute", NUMBER, AT(rate_admin.requests_per_minute), 0, 1000000000, "0", {0},
     NULL, false, "cleanups a token may send a minute; 0: no limit"},
    {"rate_admin_burst", NUMBER, AT(rate_admin.burst), 0, 1000000000, "0", {0}, NULL, false,
     "cleanups a token may send at once"},
    {"rate_webhook_per_minute", NUMBER, AT(rate_webhook.requests_per_minute), 0, 1000000000, "0",
     {0}, NULL, false, "webhooks sent to one host a minute; 0: no limit"},
    {"rate_webhook_burst", NUMBER, AT(rate_webhook.burst), 0, 1000000000, "0", {0}, NULL, false,
     "webhooks sent to one host at once"},

    {"webhook_hmac_secret", TEXT, AT(webhook_hmac_secret), 0, 0, NULL, {"WEBHOOK_HMAC_SECRET"},
     NULL, true, "key of X-CodeQ-Signature; without one webhooks are unsigned"},
    {"webhook_allow_private", SWITCH, AT(webhook_allow_private), 0, 0, "false", {0}, NULL, false,
     "let webhooks go to private, loopback and link-local addresses"},
    {"webhook_attempts_max", NUMBER, AT(webhook_attempts_max), 1, 100, "5",
     {"RESULT_WEBHOOK_MAX_ATTEMPTS"}, NULL, false, "tries before a delivery is given up"},
    {"webhook_backoff_base", DURATION, AT(webhook_backoff_base_ns), 1 * MS, DAY, "2s",
     {"RESULT_WEBHOOK_BASE_BACKOFF_SECONDS"}, NULL, false, "wait before the second try; doubles"},
    {"webhook_backoff_max", DURATION, AT(webhook_backoff_max_ns), 1 * MS, DAY, "60s",
     {"RESULT_WEBHOOK_MAX_BACKOFF_SECONDS"}, NULL, false, "longest wait between tries"},
    {"webhook_timeout", DURATION, AT(webhook_timeout_ns), 10 * MS, 600 * SEC, "15s", {0}, NULL,
     false, "a receiver must have answered within this"},
    {"webhook_connections_max", NUMBER, AT(webhook_connections_max), 1, 10000, "64", {0}, NULL,
     false, "webhooks on their way at once"},
    {"subscription_interval_min", DURATION, AT(subscription_interval_min_ns), 1 * MS, DAY, "5s",
     {"SUBSCRIPTION_MIN_INTERVAL_SECONDS"}, NULL, false,
     "least time between two queue-ready notices, where the subscriber names none"},
    {"subscription_cleanup_interval", DURATION, AT(subscription_cleanup_interval_ns), 100 * MS, DAY,
     "60s", {"SUBSCRIPTION_CLEANUP_INTERVAL_SECONDS"}, NULL, false,
     "how often ended subscriptions are taken out"},

    {"log_level", CHOICE, AT(log_level), 0, 0, "info", {"LOG_LEVEL"}, "debug info warn error",
     false, "least severity that is logged"},
    {"log_format", CHOICE, AT(log_format), 0, 0, "text", {"LOG_FORMAT"}, "text json", false,
     "key=value or JSON, one line an event"},
};
/* clang-format on */

#define SETTINGS_COUNT (sizeof SETTINGS / sizeof *SETTINGS)

enum { OPTION_HELP = 1000, OPTION_VERSION, OPTION_PRINT, OPTION_FILE };

static void *field(const struct config *config, const struct setting *setting)
{
    return (char *)(uintptr_t)config + setting->offset;
}

static char *copy(const char *text)
{
    char *out = strdup(text);
    if (out == NULL) {
        abort();
    }
    return out;
}

static bool is_text(const struct setting *setting)
{
    return setting->type == TEXT || setting->type == CHOICE || setting->type == JSON_TEXT;
}

static void set_string(struct config *config, const struct setting *setting, const char *text)
{
    char **at = field(config, setting);
    free(*at);
    *at = copy(text);
}

static int set_text(struct config *config, const struct setting *setting, const char *text,
                    struct err *err)
{
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return err_set(err, -EINVAL, "holds a control character");
        }
    }
    if (strlen(text) > TEXT_BYTES_MAX) {
        return err_set(err, -EINVAL, "longer than %d bytes", TEXT_BYTES_MAX);
    }
    if (setting->secret && strcmp(text, MASK) == 0) {
        return err_set(err, -EINVAL, "is the mask that --print-config shows: give the real value");
    }
    set_string(config, setting, text);
    return 0;
}

static int set_choice(struct config *config, const struct setting *setting, const char *text,
                      struct err *err)
{
    size_t n = strlen(text);
    for (const char *p = strchr(text, ' ') == NULL && n > 0 ? setting->choices : NULL; p != NULL;
         p = strchr(p, ' ')) {
        p += *p == ' ';
        if (strncmp(p, text, n) == 0 && (p[n] == ' ' || p[n] == '\0')) {
            set_string(config, setting, text);
            return 0;
        }
    }
    return err_set(err, -EINVAL, "'%.40s' is none of: %s", text, setting->choices);
}

static int set_switch(struct config *config, const struct setting *setting, const char *text,
                      struct err *err)
{
    bool yes =
        strcasecmp(text, "true") == 0 || strcasecmp(text, "yes") == 0 || strcmp(text, "1") == 0;
    bool no =
        strcasecmp(text, "false") == 0 || strcasecmp(text, "no") == 0 || strcmp(text, "0") == 0;
    if (!yes && !no) {
        return err_set(err, -EINVAL, "'%.40s' is neither true nor false", text);
    }
    *(bool *)field(config, setting) = yes;
    return 0;
}

/* JSON as text, kept compact. "@FILE" is read. */
static int set_json(struct config *config, const struct setting *setting, const char *text,
                    struct err *err)
{
    struct json *json = text[0] == '@' ? json_parse_file(text + 1, CONFIG_FILE_BYTES_MAX, err)
                                       : json_parse(text, strlen(text), err);
    if (json == NULL) {
        return -EINVAL;
    }
    if (json_type(json) != JSON_OBJECT && json_type(json) != JSON_STRING) {
        err_set(err, -EINVAL, "is a JSON %s: give an object, or a string with the token",
                json_type_name(json_type(json)));
        json_free(json);
        return -EINVAL;
    }
    char *compact = json_print(json);
    set_string(config, setting, compact);
    free(compact);
    json_free(json);
    return 0;
}

static int in_range(const struct setting *setting, int64_t value, struct err *err)
{
    if (value < setting->min || value > setting->max) {
        double unit = setting->type == DURATION ? 1e9 : 1;
        return err_set(err, -EINVAL, "is out of range: give %.10g%s to %.10g%s",
                       (double)setting->min / unit, setting->type == DURATION ? "s" : "",
                       (double)setting->max / unit, setting->type == DURATION ? "s" : "");
    }
    return 0;
}

/* The text form that file (strings), flags and our own variables share. */
static int set(struct config *config, const struct setting *setting, const char *text,
               struct err *err)
{
    int64_t value = 0;
    int code = 0;
    switch (setting->type) {
    case TEXT:
        return set_text(config, setting, text, err);
    case CHOICE:
        return set_choice(config, setting, text, err);
    case SWITCH:
        return set_switch(config, setting, text, err);
    case JSON_TEXT:
        return set_json(config, setting, text, err);
    case NUMBER:
        code = args_int(text, setting->min, setting->max, &value, err);
        break;
    case DURATION:
        code = args_duration_ns(text, &value, err);
        break;
    case SIZE:
        code = args_bytes(text, &value, err);
        break;
    }
    if (code == 0) {
        code = in_range(setting, value, err);
    }
    if (code == 0) {
        *(int64_t *)field(config, setting) = value;
    }
    return code;
}

static int set_from_file(struct config *config, const struct setting *setting,
                         const struct json *value, struct err *err)
{
    enum json_type type = json_type(value);
    const char *expected = "a string";
    switch (setting->type) {
    case TEXT:
    case CHOICE:
        break;
    case DURATION:
        expected = "a string with a unit, like \"250ms\"";
        break;
    case SIZE:
        expected = "a string with a unit, like \"64KiB\"";
        break;
    case NUMBER:
        if (type == JSON_NUMBER && json_int(value, INT64_MIN) != INT64_MIN) {
            int code = in_range(setting, json_int(value, 0), err);
            if (code == 0) {
                *(int64_t *)field(config, setting) = json_int(value, 0);
            }
            return code;
        }
        return err_set(err, -EINVAL, "is a JSON %s: give a whole number", json_type_name(type));
    case SWITCH:
        if (type == JSON_BOOL) {
            *(bool *)field(config, setting) = json_bool(value, false);
            return 0;
        }
        return err_set(err, -EINVAL, "is a JSON %s: give true or false", json_type_name(type));
    case JSON_TEXT:
        if (type == JSON_OBJECT || type == JSON_STRING) {
            char *text = json_print(value);
            set_string(config, setting, text);
            free(text);
            return 0;
        }
        expected = "an object, or a string with the token";
        break;
    }
    if (type != JSON_STRING) {
        return err_set(err, -EINVAL, "is a JSON %s: give %s", json_type_name(type), expected);
    }
    return set(config, setting, json_string(value, ""), err);
}

static const struct setting *setting_of_key(const char *key)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (strcmp(SETTINGS[i].key, key) == 0) {
            return &SETTINGS[i];
        }
    }
    return NULL;
}

static int load_file(struct config *config, const char *path, struct err *err)
{
    struct json *json = json_parse_file(path, CONFIG_FILE_BYTES_MAX, err);
    if (json == NULL) {
        return err_prefix(err, -EINVAL, "config file");
    }
    int code = 0;
    if (json_type(json) != JSON_OBJECT) {
        code = err_set(err, -EINVAL, "config file: %s: is a JSON %s: give an object", path,
                       json_type_name(json_type(json)));
    }
    for (const struct json *c = code == 0 ? json_first(json) : NULL; c != NULL && code == 0;
         c = json_next(c)) {
        const struct setting *setting = setting_of_key(json_key(c));
        if (setting == NULL) {
            code = err_set(err, -EINVAL, "config file: %s: unknown key '%.64s': see --help", path,
                           json_key(c));
            break;
        }
        code = set_from_file(config, setting, c, err);
        if (code != 0) {
            err_prefix(err, code, "config file: %s: %s", path, setting->key);
        }
    }
    json_free(json);
    return code;
}

static void flag_name(const struct setting *setting, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s", setting->key);
    for (char *p = out; *p != '\0'; p++) {
        *p = *p == '_' ? '-' : *p;
    }
}

static void variable_name(const struct setting *setting, char *out, size_t bytes)
{
    snprintf(out, bytes, "CODEQD_%s", setting->key);
    for (char *p = out; *p != '\0'; p++) {
        *p = (char)toupper((unsigned char)*p);
    }
}

/* Runs over argv; sets values when apply, else only notes file, help, version and print. */
static int load_flags(struct config *config, int argc, char *const *argv, bool apply,
                      struct err *err)
{
    char names[SETTINGS_COUNT][48];
    struct option options[SETTINGS_COUNT + 5];
    memset(options, 0, sizeof options);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        flag_name(&SETTINGS[i], names[i], sizeof names[i]);
        options[i].name = names[i];
        options[i].has_arg = SETTINGS[i].type == SWITCH ? optional_argument : required_argument;
        options[i].val = (int)i + 1;
    }
    struct option *more = options + SETTINGS_COUNT;
    more[0] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    more[1] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    more[2] = (struct option){"print-config", no_argument, NULL, OPTION_PRINT};
    more[3] = (struct option){"config", required_argument, NULL, OPTION_FILE};
    optind = 0; /* getopt keeps its place in globals: start over */
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":", options, NULL);
        if (option == -1) {
            break;
        }
        if (option == OPTION_HELP) {
            config->help = true;
        } else if (option == OPTION_VERSION) {
            config->version = true;
        } else if (option == OPTION_PRINT) {
            config->print_config = true;
        } else if (option == OPTION_FILE) {
            free(config->config_file);
            config->config_file = copy(optarg);
        } else if (option == ':') {
            return err_set(err, -EINVAL, "%s: has no value: give one", argv[optind - 1]);
        } else if (option == '?') {
            return err_set(err, -EINVAL, "%s: unknown or ambiguous option: see --help",
                           argv[optind - 1]);
        } else if (apply) {
            const struct setting *setting = &SETTINGS[option - 1];
            int code = set(config, setting, optarg != NULL ? optarg : "true", err);
            if (code != 0) {
                return err_prefix(err, code, "--%s", names[option - 1]);
            }
        }
    }
    if (optind < argc) {
        return err_set(err, -EINVAL, "'%.64s': not an option: see --help", argv[optind]);
    }
    return 0;
}

static const char *variable(char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=') {
            const char *value = *environment + n + 1;
            return value[0] != '\0' ? value : NULL; /* empty is unset, as in codeQ */
        }
    }
    return NULL;
}

/* codeQ's PORT moves the port and leaves the address. */
static int set_port(struct config *config, const char *text, struct err *err)
{
    int64_t port = 0;
    if (args_int(text, 1, 65535, &port, err) != 0) {
        return -EINVAL;
    }
    const char *colon = strrchr(config->listen, ':');
    struct buf listen = BUF_INIT;
    buf_append(&listen, config->listen,
               colon != NULL ? (size_t)(colon - config->listen) : strlen(config->listen));
    buf_printf(&listen, ":%lld", (long long)port);
    free(config->listen);
    config->listen = buf_take(&listen);
    return 0;
}

static int set_codeq(struct config *config, const struct setting *setting, const char *text,
                     struct err *err)
{
    if (setting->type == DURATION) {
        int64_t seconds = 0;
        int code = args_int(text, 0, INT32_MAX, &seconds, err);
        /* codeQ reads 0 as "the default". */
        if (code == 0 && seconds != 0) {
            code = in_range(setting, seconds * NS_PER_SEC, err);
            if (code == 0) {
                *(int64_t *)field(config, setting) = seconds * NS_PER_SEC;
            }
        }
        return code;
    }
    if (strcmp(setting->key, "redis") == 0 && strstr(text, "://") == NULL &&
        strncmp(text, "unix:", 5) != 0) {
        struct buf url = BUF_INIT;
        buf_printf(&url, "redis://%s", text); /* codeQ's REDIS_ADDR is host:port */
        int code = set(config, setting, url.data, err);
        buf_fini(&url);
        return code;
    }
    return set(config, setting, text, err);
}

static int load_environment(struct config *config, char *const *environment, struct err *err)
{
    const char *port = variable(environment, "PORT");
    if (port != NULL && set_port(config, port, err) != 0) {
        return err_prefix(err, -EINVAL, "PORT");
    }
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *setting = &SETTINGS[i];
        /* The first name listed is the stronger one, so it comes last; ours beats codeQ's. */
        for (size_t k = CODEQ_VARIABLES_MAX; k-- > 0;) {
            const char *name = setting->variables[k];
            const char *value = name != NULL ? variable(environment, name) : NULL;
            int code = value != NULL ? set_codeq(config, setting, value, err) : 0;
            if (code != 0) {
                return err_prefix(err, code, "%s", name);
            }
        }
        char name[64];
        variable_name(setting, name, sizeof name);
        const char *value = variable(environment, name);
        int code = value != NULL ? set(config, setting, value, err) : 0;
        if (code != 0) {
            return err_prefix(err, code, "%s", name);
        }
    }
    return 0;
}

static void jwks_provider(char **provider, char **provider_config, const char *url,
                          const char *issuer, const char *audience, int64_t skew_ns)
{
    if (*provider != NULL || url == NULL) {
        return;
    }
    *provider = copy("jwks");
    if (*provider_config != NULL) {
        return;
    }
    struct json *json = json_new_object();
    json_add_string(json, "jwksUrl", url);
    json_add_string(json, "issuer", issuer != NULL ? issuer : "");
    json_add_string(json, "audience", audience != NULL ? audience : "");
    json_add_int(json, "clockSkew", skew_ns);
    *provider_config = json_print(json);
    json_free(json);
}

static int check_provider(const char *side, const char *provider, const char *provider_config,
                          struct err *err)
{
    if ((provider == NULL) != (provider_config == NULL)) {
        return err_set(err, -EINVAL, "%s_auth_%s: is missing beside %s_auth_%s: give both", side,
                       provider == NULL ? "provider" : "config", side,
                       provider == NULL ? "config" : "provider");
    }
    return 0;
}

static void put_escaped(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (isalnum((unsigned char)*text)) {
            buf_append(out, text, 1);
        } else {
            buf_printf(out, "%%%02X", (unsigned char)*text);
        }
    }
}

/* A password given apart goes into an address that carries none. */
static void join_password(struct config *config)
{
    const char *url = config->redis_url;
    if (config->redis_password == NULL || url == NULL) {
        return;
    }
    struct buf joined = BUF_INIT;
    const char *host = strstr(url, "://");
    if (strncmp(url, "unix:", 5) == 0 && strstr(url, "password=") == NULL) {
        buf_printf(&joined, "%s%cpassword=", url, strchr(url, '?') == NULL ? '?' : '&');
        put_escaped(&joined, config->redis_password);
    } else if (host != NULL && strchr(url, '@') == NULL) {
        buf_append(&joined, url, (size_t)(host + 3 - url));
        buf_puts(&joined, ":");
        put_escaped(&joined, config->redis_password);
        buf_printf(&joined, "@%s", host + 3);
    }
    if (joined.bytes > 0) {
        free(config->redis_url);
        config->redis_url = buf_take(&joined);
    }
    buf_fini(&joined);
}

/* What no single setting can show to be wrong. */
static int finish(struct config *config, struct err *err)
{
    char host[256];
    unsigned port = 0;
    if (config_listen_split(config->listen, host, &port) != 0) {
        return err_set(err, -EINVAL,
                       "listen: '%.64s' is not HOST:PORT: give one like 127.0.0.1:8080",
                       config->listen);
    }
    jwks_provider(&config->producer_auth_provider, &config->producer_auth_config,
                  config->identity_jwks_url, config->identity_issuer, config->identity_audience,
                  config->clock_skew_ns);
    jwks_provider(&config->worker_auth_provider, &config->worker_auth_config,
                  config->worker_jwks_url, config->worker_issuer, config->worker_audience,
                  config->clock_skew_ns);
    if (check_provider("producer", config->producer_auth_provider, config->producer_auth_config,
                       err) != 0 ||
        check_provider("worker", config->worker_auth_provider, config->worker_auth_config, err) !=
            0) {
        return -EINVAL;
    }
    const char *file = config->redis_tls_ca_file != NULL     ? "redis_tls_ca_file"
                       : config->redis_tls_cert_file != NULL ? "redis_tls_cert_file"
                       : config->redis_tls_key_file != NULL  ? "redis_tls_key_file"
                                                             : NULL;
    if (file != NULL &&
        (config->redis_url == NULL || strncmp(config->redis_url, "rediss://", 9) != 0)) {
        return err_set(err, -EINVAL,
                       "%s: is for rediss://, and redis is another: nothing would be encrypted",
                       file);
    }
    join_password(config);
    config->development_tokens =
        config->producer_auth_provider == NULL && config->worker_auth_provider == NULL;
    if (config->development_tokens && !config_listen_is_loopback(config->listen)) {
        return err_set(err, -EINVAL,
                       "listen: '%.64s' is not loopback, and the development tokens are known to "
                       "everybody: set producer_auth_provider and worker_auth_provider",
                       config->listen);
    }
    if (config->backoff_base_ns > config->backoff_max_ns) {
        return err_set(err, -EINVAL, "backoff_base: is above backoff_max: lower it");
    }
    if (config->webhook_backoff_base_ns > config->webhook_backoff_max_ns) {
        return err_set(err, -EINVAL,
                       "webhook_backoff_base: is above webhook_backoff_max: lower it");
    }
    return 0;
}

int config_load(struct config *out, int argc, char *const *argv, char *const *environment,
                struct err *err)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        int code =
            SETTINGS[i].fallback != NULL ? set(out, &SETTINGS[i], SETTINGS[i].fallback, err) : 0;
        if (code != 0) {
            return err_prefix(err, code, "default of %s", SETTINGS[i].key);
        }
    }
    int code = load_flags(out, argc, argv, false, err);
    if (code != 0 || out->help || out->version) {
        return out->help || out->version ? 0 : code;
    }
    const char *file = out->config_file;
    if (file == NULL) {
        file = variable(environment, "CODEQ_CONFIG_PATH");
    }
    if (file != NULL) {
        code = load_file(out, file, err);
    }
    if (code == 0) {
        code = load_flags(out, argc, argv, true, err);
    }
    if (code == 0) {
        code = load_environment(out, environment, err);
    }
    return code == 0 ? finish(out, err) : code;
}

void config_fini(struct config *config)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (is_text(&SETTINGS[i])) {
            char **at = field(config, &SETTINGS[i]);
            free(*at);
        }
    }
    free(config->config_file);
    memset(config, 0, sizeof *config);
}

/* A copy in which every string that is a token, or stands for one, is the mask. */
static struct json *masked(const struct json *json, bool secret)
{
    switch (json_type(json)) {
    case JSON_OBJECT: {
        struct json *object = json_new_object();
        for (const struct json *c = json_first(json); c != NULL; c = json_next(c)) {
            const char *key = json_key(c);
            bool hide = strcasecmp(key, "token") == 0 ||
                        (strcmp(key, "config") == 0 && json_type(c) == JSON_STRING);
            json_put(object, key, masked(c, hide));
        }
        return object;
    }
    case JSON_ARRAY: {
        struct json *array = json_new_array();
        for (const struct json *c = json_first(json); c != NULL; c = json_next(c)) {
            json_append(array, masked(c, secret));
        }
        return array;
    }
    case JSON_STRING:
        return json_new_string(secret ? MASK : json_string(json, ""));
    case JSON_NUMBER:
        return json_new_number(json_number(json, 0));
    case JSON_BOOL:
    case JSON_NULL: {
        char *text = json_print(json);
        struct json *same = json_parse(text, strlen(text), NULL);
        free(text);
        return same;
    }
    }
    abort();
}

static void print_duration(struct json *object, const char *key, int64_t ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"h", 3600 * SEC}, {"m", 60 * SEC}, {"s", SEC}, {"ms", MS}, {"us", NS_PER_US}};
    char text[40];
    snprintf(text, sizeof text, "%lldns", (long long)ns);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (ns != 0 && ns % units[i].ns == 0) {
            snprintf(text, sizeof text, "%lld%s", (long long)(ns / units[i].ns), units[i].name);
            break;
        }
    }
    json_add_string(object, key, text);
}

static void print_size(struct json *object, const char *key, int64_t bytes)
{
    char text[40];
    if (bytes % MIB == 0) {
        snprintf(text, sizeof text, "%lldMiB", (long long)(bytes / MIB));
    } else if (bytes % 1024 == 0) {
        snprintf(text, sizeof text, "%lldKiB", (long long)(bytes / 1024));
    } else {
        snprintf(text, sizeof text, "%lldB", (long long)bytes);
    }
    json_add_string(object, key, text);
}

/* redis://user:password@host keeps all but the password. */
static void print_url(struct json *object, const char *key, const char *url)
{
    const char *start = strstr(url, "://");
    const char *query = strstr(url, "password=");
    if (strncmp(url, "unix:", 5) == 0 && query != NULL) {
        struct buf hidden = BUF_INIT;
        buf_append(&hidden, url, (size_t)(query + 9 - url));
        buf_puts(&hidden, MASK);
        const char *more = strchr(query, '&');
        buf_puts(&hidden, more != NULL ? more : "");
        json_add_string(object, key, hidden.data);
        buf_fini(&hidden);
        return;
    }
    const char *at = strrchr(url, '@');
    const char *colon = start != NULL ? strchr(start + 3, ':') : NULL;
    if (at == NULL || colon == NULL || colon > at) {
        json_add_string(object, key, url);
        return;
    }
    struct buf text = BUF_INIT;
    buf_append(&text, url, (size_t)(colon + 1 - url));
    buf_puts(&text, MASK);
    buf_puts(&text, at);
    json_add_string(object, key, text.data);
    buf_fini(&text);
}

char *config_print(const struct config *config)
{
    struct json *object = json_new_object();
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *setting = &SETTINGS[i];
        const void *at = field(config, setting);
        const char *text = is_text(setting) ? *(char *const *)at : NULL;
        if (is_text(setting) && text == NULL) {
            continue;
        }
        switch (setting->type) {
        case TEXT:
        case CHOICE:
            if (setting->secret) {
                json_add_string(object, setting->key, MASK);
            } else {
                print_url(object, setting->key, text);
            }
            break;
        case JSON_TEXT: {
            struct json *json = json_parse(text, strlen(text), NULL);
            if (json != NULL) {
                json_put(object, setting->key, masked(json, json_type(json) == JSON_STRING));
            }
            json_free(json);
            break;
        }
        case NUMBER:
            json_add_int(object, setting->key, *(const int64_t *)at);
            break;
        case DURATION:
            print_duration(object, setting->key, *(const int64_t *)at);
            break;
        case SIZE:
            print_size(object, setting->key, *(const int64_t *)at);
            break;
        case SWITCH:
            json_add_bool(object, setting->key, *(const bool *)at);
            break;
        }
    }
    char *out = json_print_pretty(object);
    json_free(object);
    return out;
}

char *config_help(void)
{
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting *setting = &SETTINGS[i];
        static const char *const forms[] = {
            [TEXT] = "TEXT",      [NUMBER] = "N",    [DURATION] = "TIME", [SIZE] = "BYTES",
            [SWITCH] = "[=BOOL]", [CHOICE] = "WORD", [JSON_TEXT] = "JSON"};
        char name[64];
        flag_name(setting, name, sizeof name);
        buf_printf(&out, "  --%s%s%s\n      %s", name, setting->type == SWITCH ? "" : " ",
                   forms[setting->type], setting->help);
        if (setting->choices != NULL) {
            buf_printf(&out, ": %s", setting->choices);
        }
        if (setting->fallback != NULL) {
            buf_printf(&out, " (default %s)", setting->fallback);
        }
        variable_name(setting, name, sizeof name);
        buf_printf(&out, "\n      %s", name);
        for (size_t k = 0; k < CODEQ_VARIABLES_MAX && setting->variables[k] != NULL; k++) {
            buf_printf(&out, ", %s%s", setting->variables[k],
                       setting->type == DURATION ? " (seconds)" : "");
        }
        buf_puts(&out, "\n");
    }
    return buf_take(&out);
}

int config_listen_split(const char *listen, char *host, unsigned *out_port)
{
    const char *colon = strrchr(listen, ':');
    int64_t port = 0;
    if (colon == NULL || args_int(colon + 1, 0, 65535, &port, NULL) != 0) {
        return -EINVAL;
    }
    const char *start = listen;
    const char *end = colon;
    bool brackets = *start == '[';
    if (brackets) {
        if (end - start < 3 || end[-1] != ']') {
            return -EINVAL;
        }
        start++;
        end--;
    }
    size_t n = (size_t)(end - start);
    if (n == 0 || n > 255 || (!brackets && memchr(start, ':', n) != NULL)) {
        return -EINVAL;
    }
    memcpy(host, start, n);
    host[n] = '\0';
    *out_port = (unsigned)port;
    return 0;
}

bool config_listen_is_loopback(const char *listen)
{
    char host[256];
    unsigned port = 0;
    if (config_listen_split(listen, host, &port) != 0) {
        return false;
    }
    if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0) {
        return true;
    }
    /* The whole text must be an address: "127.0.0.1.example.org" is a name like any other. */
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    char rest = 0;
    return sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4 && a == 127 && b < 256 &&
           c < 256 && d < 256;
}
