#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "service/config.h"

static char path[] = "/tmp/codeqd-config-XXXXXX";

static const char *file_with(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

static int load(struct config *out, const char *file, const char *const *flags,
                const char *const *environment, struct err *err)
{
    const char *argv[16] = {"codeqd"};
    int argc = 1;
    if (file != NULL) {
        argv[argc++] = "--config";
        argv[argc++] = file;
    }
    for (; flags != NULL && *flags != NULL; flags++) {
        argv[argc++] = *flags;
    }
    return config_load(out, argc, (char *const *)(uintptr_t)argv,
                       (char *const *)(uintptr_t)environment, err);
}

#define FLAGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void must_load(struct config *out, const char *file, const char *const *flags,
                      const char *const *environment)
{
    struct err err = {""};
    if (load(out, file, flags, environment, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void must_refuse(const char *file, const char *const *flags, const char *const *environment,
                        const char *reason)
{
    struct config config;
    struct err err = {""};
    int code = load(&config, file, flags, environment, &err);
    config_fini(&config);
    if (code >= 0 || strstr(err.text, reason) == NULL) {
        fail_msg("code %d, '%s' does not say '%s'", code, err.text, reason);
    }
}

static void without_anything_it_is_a_development_server_on_loopback(void **state)
{
    (void)state;
    struct config c;
    must_load(&c, NULL, NULL, NULL);
    assert_string_equal(c.listen, "127.0.0.1:8080");
    assert_true(c.development_tokens);
    assert_null(c.redis_url);
    assert_int_equal(c.lease_default_ns, 300 * NS_PER_SEC);
    assert_int_equal(c.max_attempts_default, 5);
    assert_string_equal(c.backoff_policy, "exp_full_jitter");
    assert_int_equal(c.body_bytes_max, 1 << 20);
    assert_int_equal(c.rate_producer.requests_per_minute, 0);
    assert_false(c.webhook_allow_private);
    config_fini(&c);
}

static void the_file_yields_to_flags_and_flags_to_the_environment(void **state)
{
    (void)state;
    struct config c;
    const char *file = file_with("{\"threads\":2,\"retention\":\"2h\",\"log_level\":\"warn\"}");
    must_load(&c, file, NULL, NULL);
    assert_int_equal(c.threads, 2);
    assert_int_equal(c.retention_ns, 7200 * NS_PER_SEC);
    config_fini(&c);
    must_load(&c, file, FLAGS("--threads", "3", "--retention=3h"), NULL);
    assert_int_equal(c.threads, 3);
    assert_int_equal(c.retention_ns, 3 * 3600 * NS_PER_SEC);
    assert_string_equal(c.log_level, "warn");
    config_fini(&c);
    must_load(&c, file, FLAGS("--threads", "3", "--retention=3h"),
              FLAGS("CODEQD_THREADS=4", "LOG_LEVEL=error"));
    assert_int_equal(c.threads, 4);
    assert_int_equal(c.retention_ns, 3 * 3600 * NS_PER_SEC);
    assert_string_equal(c.log_level, "error");
    config_fini(&c);
    /* codeQ names the file in a variable; --config is nearer. */
    char variable[128];
    snprintf(variable, sizeof variable, "CODEQ_CONFIG_PATH=%s", file);
    must_load(&c, NULL, NULL, FLAGS(variable));
    assert_int_equal(c.threads, 2);
    config_fini(&c);
}

static void the_variables_of_codeq_mean_what_they_mean_there(void **state)
{
    (void)state;
    struct config c;
    must_load(&c, NULL, NULL,
              FLAGS("PORT=9090", "REDIS_ADDR=redis.example:6380", "REDIS_PASSWORD=pw",
                    "DEFAULT_LEASE_SECONDS=120", "MAX_ATTEMPTS_DEFAULT=7", "BACKOFF_POLICY=fixed",
                    "BACKOFF_BASE_SECONDS=1", "BACKOFF_MAX_SECONDS=0", "ENV=prod",
                    "PRODUCER_AUTH_PROVIDER=static", "PRODUCER_AUTH_CONFIG={\"token\":\"P\"}",
                    "WORKER_AUTH_PROVIDER=static", "WORKER_AUTH_CONFIG=\"W\"",
                    "ALLOW_PRODUCER_AS_WORKER=YES", "WEBHOOK_HMAC_SECRET=s3",
                    "RESULT_WEBHOOK_MAX_ATTEMPTS=3"));
    assert_string_equal(c.listen, "127.0.0.1:9090");
    assert_string_equal(c.redis_url, "redis://:pw@redis.example:6380");
    assert_string_equal(c.redis_password, "pw");
    assert_int_equal(c.lease_default_ns, 120 * NS_PER_SEC);
    assert_int_equal(c.max_attempts_default, 7);
    assert_string_equal(c.backoff_policy, "fixed");
    assert_int_equal(c.backoff_max_ns, 900 * NS_PER_SEC); /* 0 is "the default" there */
    assert_string_equal(c.env, "prod");
    assert_false(c.development_tokens);
    assert_string_equal(c.producer_auth_config, "{\"token\":\"P\"}");
    assert_string_equal(c.worker_auth_config, "\"W\"");
    assert_true(c.allow_producer_as_worker);
    assert_string_equal(c.webhook_hmac_secret, "s3");
    assert_int_equal(c.webhook_attempts_max, 3);
    config_fini(&c);
    /* Ours beats theirs, an empty one is unset, the first spelling beats the older one. */
    must_load(&c, NULL, NULL,
              FLAGS("DEFAULT_LEASE_SECONDS=120", "CODEQD_LEASE_DEFAULT=5s",
                    "BACKOFF_POLICY=", "KVROCKS_PASSWORD=old", "REDIS_PASSWORD=new"));
    assert_int_equal(c.lease_default_ns, 5 * NS_PER_SEC);
    assert_string_equal(c.backoff_policy, "exp_full_jitter");
    assert_string_equal(c.redis_password, "new");
    config_fini(&c);
}

static void a_jwks_url_alone_makes_a_jwks_provider(void **state)
{
    (void)state;
    struct config c;
    must_load(&c, NULL, NULL,
              FLAGS("IDENTITY_JWKS_URL=https://id/jwks", "IDENTITY_ISSUER=https://id",
                    "IDENTITY_AUDIENCE=codeq", "WORKER_JWKS_URL=https://w/jwks",
                    "WORKER_ISSUER=https://w", "ALLOWED_CLOCK_SKEW_SECONDS=30"));
    assert_string_equal(c.producer_auth_provider, "jwks");
    assert_string_equal(c.producer_auth_config,
                        "{\"jwksUrl\":\"https://id/jwks\",\"issuer\":\"https://id\",\"audience\":"
                        "\"codeq\",\"clockSkew\":30000000000}");
    assert_string_equal(c.worker_auth_provider, "jwks");
    assert_non_null(strstr(c.worker_auth_config, "\"audience\":\"codeq-worker\""));
    assert_false(c.development_tokens);
    config_fini(&c);
}

static void a_broken_file_is_refused_by_name_and_reason(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "not valid JSON"},
        {"{", "not valid JSON"},
        {"[]", "is a JSON array: give an object"},
        {"null", "is a JSON null: give an object"},
        {"threads: 3\n", "not valid JSON"},
        {"{\"threds\":3}", "unknown key 'threds'"},
        {"{\"threads\":3,\"threads\":4}", "stands twice"},
        {"{\"threads\":\"3\"}", "threads: is a JSON string: give a whole number"},
        {"{\"threads\":1.5}", "give a whole number"},
        {"{\"threads\":1e99}", "give a whole number"},
        {"{\"threads\":0}", "threads: is out of range"},
        {"{\"threads\":-1}", "threads: is out of range"},
        {"{\"threads\":65}", "give 1 to 64"},
        {"{\"threads\":null}", "is a JSON null"},
        {"{\"retention\":3600}", "retention: is a JSON number: give a string with a unit"},
        {"{\"retention\":\"3600\"}", "retention"},
        {"{\"retention\":\"3600 s\"}", "retention"},
        {"{\"retention\":\"1ms\"}", "retention: is out of range"},
        {"{\"retention\":\"99999999h\"}", "retention"},
        {"{\"body_max\":1048576}", "body_max: is a JSON number"},
        {"{\"body_max\":\"1\"}", "body_max"},
        {"{\"body_max\":\"99GiB\"}", "body_max: is out of range"},
        {"{\"allow_producer_as_worker\":\"yes\"}", "give true or false"},
        {"{\"allow_producer_as_worker\":1}", "give true or false"},
        {"{\"backoff_policy\":\"random\"}", "'random' is none of: fixed linear"},
        {"{\"backoff_policy\":\"fix\"}", "is none of"},
        {"{\"backoff_policy\":\"fixed linear\"}", "is none of"},
        {"{\"backoff_policy\":\"\"}", "is none of"},
        {"{\"backoff_policy\":[]}", "is a JSON array"},
        {"{\"listen\":\"8080\"}", "listen: '8080' is not HOST:PORT"},
        {"{\"listen\":\":8080\"}", "is not HOST:PORT"},
        {"{\"listen\":\"::1:8080\"}", "is not HOST:PORT"},
        {"{\"listen\":\"[::1:8080\"}", "is not HOST:PORT"},
        {"{\"listen\":\"localhost:65536\"}", "is not HOST:PORT"},
        {"{\"listen\":\"localhost:-1\"}", "is not HOST:PORT"},
        {"{\"listen\":\"0.0.0.0:8080\"}", "is not loopback"},
        {"{\"listen\":\"127.0.0.1.example.org:80\"}", "is not loopback"},
        {"{\"env\":\"a\\nb\"}", "control character"},
        {"{\"webhook_hmac_secret\":\"***\"}", "is the mask"},
        {"{\"producer_auth_provider\":\"static\"}", "producer_auth_config: is missing"},
        {"{\"worker_auth_config\":{}}", "worker_auth_provider: is missing"},
        {"{\"worker_auth_config\":7}", "worker_auth_config: is a JSON number"},
        {"{\"backoff_base\":\"20m\"}", "backoff_base: is above backoff_max"},
        {"{\"env\":\"\xff\"}", "invalid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must_refuse(file_with(cases[i][0]), NULL, NULL, cases[i][1]);
    }
    must_refuse("/nonexistent/codeqd.json", NULL, NULL, "No such file");
    must_refuse("/tmp", NULL, NULL, "/tmp");
}

static void broken_flags_and_variables_are_refused_by_name(void **state)
{
    (void)state;
    must_refuse(NULL, FLAGS("--threads"), NULL, "--threads: has no value");
    must_refuse(NULL, FLAGS("--threads", "x"), NULL, "--threads");
    must_refuse(NULL, FLAGS("--thredas", "3"), NULL, "--thredas: unknown");
    must_refuse(NULL, FLAGS("--rate", "3"), NULL, "ambiguous");
    must_refuse(NULL, FLAGS("stray"), NULL, "'stray': not an option");
    must_refuse(NULL, FLAGS("--retention", "5"), NULL, "--retention");
    must_refuse(NULL, FLAGS("--webhook-allow-private=maybe"), NULL, "neither true nor false");
    must_refuse(NULL, FLAGS("--producer-auth-config", "@/nonexistent"), NULL, "No such file");
    must_refuse(NULL, NULL, FLAGS("PORT=0"), "PORT");
    must_refuse(NULL, NULL, FLAGS("PORT=http"), "PORT");
    must_refuse(NULL, NULL, FLAGS("DEFAULT_LEASE_SECONDS=5m"), "DEFAULT_LEASE_SECONDS");
    must_refuse(NULL, NULL, FLAGS("CODEQD_THREADS=many"), "CODEQD_THREADS");
    must_refuse(NULL, NULL, FLAGS("WORKER_AUTH_CONFIG={"), "WORKER_AUTH_CONFIG");
    must_refuse(NULL, NULL, FLAGS("PRODUCER_AUTH_PROVIDER=oauth"), "is none of: static jwks multi");
}

static void only_loopback_is_loopback(void **state)
{
    (void)state;
    static const char *const yes[] = {"127.0.0.1:1", "127.9.8.7:0", "[::1]:8080", "localhost:80"};
    static const char *const no[] = {
        "0.0.0.0:1", "[::]:80",   "127.0.0.256:1",    "127.0.0.1.nip.io:1", "10.0.0.1:80",
        "",          "localhost", "localhost.evil:1", "[::ffff:0]:80",      "128.0.0.1:1"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        assert_true(config_listen_is_loopback(yes[i]));
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        assert_false(config_listen_is_loopback(no[i]));
    }
}

static void help_is_given_even_when_the_rest_is_wrong(void **state)
{
    (void)state;
    struct config c;
    must_load(&c, "/nonexistent", FLAGS("--help", "--threads", "x"), FLAGS("PORT=x"));
    assert_true(c.help);
    config_fini(&c);
    char *help = config_help();
    assert_non_null(strstr(help, "--lease-default TIME"));
    assert_non_null(strstr(help, "CODEQD_LEASE_DEFAULT, DEFAULT_LEASE_SECONDS (seconds)"));
    assert_non_null(strstr(help, "(default 300s)"));
    free(help);
}

static void printed_configuration_hides_every_secret_and_reads_back(void **state)
{
    (void)state;
    struct config c;
    const char *file = file_with(
        "{\"producer_auth_provider\":\"multi\",\"producer_auth_config\":{\"providers\":["
        "{\"type\":\"static\",\"config\":{\"token\":\"HIDE-1\",\"raw\":{\"role\":\"ADMIN\"}}},"
        "{\"type\":\"static\",\"config\":\"HIDE-2\"}]},"
        "\"worker_auth_provider\":\"static\",\"worker_auth_config\":\"HIDE-3\","
        "\"redis\":\"redis://me:HIDE-4@host:1/2\",\"redis_password\":\"HIDE-5\","
        "\"webhook_hmac_secret\":\"HIDE-6\",\"retention\":\"90m\",\"body_max\":\"2000B\"}");
    must_load(&c, file, NULL, NULL);
    char *text = config_print(&c);
    assert_null(strstr(text, "HIDE"));
    assert_non_null(strstr(text, "redis://me:***@host:1/2"));
    assert_non_null(strstr(text, "ADMIN"));
    struct json *json = json_parse(text, strlen(text), NULL);
    assert_non_null(json);
    assert_string_equal(json_string(json_get(json, "retention"), ""), "90m");
    assert_string_equal(json_string(json_get(json, "body_max"), ""), "2000B");
    json_free(json);
    config_fini(&c);
    free(text);
    /* Without secrets the text is a file that says the same again. */
    must_load(&c, NULL, FLAGS("--threads", "5", "--retention", "1500ms", "--url-max", "5000B"),
              NULL);
    text = config_print(&c);
    config_fini(&c);
    must_load(&c, file_with(text), NULL, NULL);
    char *again = config_print(&c);
    assert_string_equal(text, again);
    assert_int_equal(c.threads, 5);
    assert_int_equal(c.retention_ns, 1500 * NS_PER_MS);
    assert_int_equal(c.url_bytes_max, 5000);
    free(text);
    free(again);
    config_fini(&c);
}

static void a_password_given_apart_joins_the_address_and_stays_hidden(void **state)
{
    (void)state;
    struct config c;
    must_load(&c, NULL, FLAGS("--redis", "unix:/run/r.sock?db=1"), FLAGS("REDIS_PASSWORD=a&b@c"));
    assert_string_equal(c.redis_url, "unix:/run/r.sock?db=1&password=a%26b%40c");
    char *text = config_print(&c);
    assert_null(strstr(text, "26b"));
    assert_non_null(strstr(text, "unix:/run/r.sock?db=1&password=***"));
    free(text);
    config_fini(&c);
    must_load(&c, NULL, FLAGS("--redis", "redis://me:own@h"), FLAGS("REDIS_PASSWORD=other"));
    assert_string_equal(c.redis_url, "redis://me:own@h");
    config_fini(&c);
}

static void a_provider_can_be_read_from_a_file_of_its_own(void **state)
{
    (void)state;
    file_with("{\"token\":\"from file\"}");
    char at[64];
    snprintf(at, sizeof at, "@%s", path);
    struct config c;
    must_load(&c, NULL, FLAGS("--producer-auth-provider", "static", "--producer-auth-config", at),
              NULL);
    assert_string_equal(c.producer_auth_config, "{\"token\":\"from file\"}");
    config_fini(&c);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_anything_it_is_a_development_server_on_loopback),
        cmocka_unit_test(the_file_yields_to_flags_and_flags_to_the_environment),
        cmocka_unit_test(the_variables_of_codeq_mean_what_they_mean_there),
        cmocka_unit_test(a_jwks_url_alone_makes_a_jwks_provider),
        cmocka_unit_test(a_broken_file_is_refused_by_name_and_reason),
        cmocka_unit_test(broken_flags_and_variables_are_refused_by_name),
        cmocka_unit_test(only_loopback_is_loopback),
        cmocka_unit_test(help_is_given_even_when_the_rest_is_wrong),
        cmocka_unit_test(printed_configuration_hides_every_secret_and_reads_back),
        cmocka_unit_test(a_password_given_apart_joins_the_address_and_stays_hidden),
        cmocka_unit_test(a_provider_can_be_read_from_a_file_of_its_own),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
