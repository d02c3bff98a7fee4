/* codeqd and a Redis that speaks TLS: who is believed, what is said to those that are not, and the
 * whole life of a task. Certificates are made when the test runs. */
#include "service/service_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redis_cluster.h"
#include "base/temp_dir.h"

static struct service_fixture f;
static char folder[256];
static char url[64]; /* rediss://127.0.0.1:port */
static char
    wrong_host[64]; /* rediss://localhost:port: the same, by a name that no certificate has */

/* ---- certificates ---- */

static const char *path_of(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

struct identity {
    X509 *cert;
    EVP_PKEY *key;
};

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* NAME.pem and NAME.key in the folder. issuer NULL: an authority that signs itself. */
static struct identity make(const char *name, const struct identity *issuer, const char *host)
{
    static long serial = 1;
    struct identity made = {X509_new(), EVP_EC_gen("P-256")};
    assert_true(made.cert != NULL && made.key != NULL);
    const struct identity *by = issuer != NULL ? issuer : &made;
    X509_set_version(made.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made.cert), 3600);
    X509_set_pubkey(made.cert, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made.cert, X509_get_subject_name(by->cert));
    extend(made.cert, by->cert, NID_basic_constraints,
           issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (host != NULL) {
        extend(made.cert, by->cert, NID_subject_alt_name, host);
    }
    assert_true(X509_sign(made.cert, by->key, EVP_sha256()) > 0);
    char file[64];
    snprintf(file, sizeof file, "%s.pem", name);
    FILE *out = fopen(path_of(file), "we");
    assert_int_equal(PEM_write_X509(out, made.cert), 1);
    fclose(out);
    snprintf(file, sizeof file, "%s.key", name);
    out = fopen(path_of(file), "we");
    assert_int_equal(PEM_write_PrivateKey(out, made.key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(out);
    return made;
}

static void drop(struct identity *identity)
{
    X509_free(identity->cert);
    EVP_PKEY_free(identity->key);
}

/* ---- a Redis with TLS ---- */

static int free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static char tls_port[8];
static char plain_port[8];
static const char *config[] = {"--tls-port",
                               tls_port,
                               "--port",
                               plain_port,
                               "--tls-cert-file",
                               NULL,
                               "--tls-key-file",
                               NULL,
                               "--tls-ca-cert-file",
                               NULL,
                               "--tls-auth-clients",
                               NULL,
                               NULL};

static int begin(void **state)
{
    (void)state;
    struct err err = {""};
    memset(&f, 0, sizeof f);
    if (temp_dir_make(folder, sizeof folder, "tls", &err) != 0) {
        fail_msg("%s", err.text);
    }
    struct identity authority = make("authority", NULL, NULL);
    struct identity other = make("other", NULL, NULL);
    struct identity server = make("server", &authority, "IP:127.0.0.1");
    struct identity client = make("client", &authority, NULL);
    drop(&client);
    drop(&server);
    drop(&other);
    drop(&authority);
    snprintf(tls_port, sizeof tls_port, "%d", free_port());
    snprintf(plain_port, sizeof plain_port, "%d", free_port());
    snprintf(url, sizeof url, "rediss://127.0.0.1:%s", tls_port);
    snprintf(wrong_host, sizeof wrong_host, "rediss://localhost:%s", tls_port);
    config[5] = strdup(path_of("server.pem"));
    config[7] = strdup(path_of("server.key"));
    config[9] = strdup(path_of("authority.pem"));
    config[11] = "no";
    f.redis_options = (struct redis_server_options){.cpu = -1, .config = config};
    if (redis_server_start(&f.redis, &f.redis_options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    service_stop(&f);
    remove_tree(folder);
    for (int i = 5; i <= 9; i += 2) {
        free((void *)(uintptr_t)config[i]);
    }
    return 0;
}

/* Start a codeqd that cannot; what it says. */
static char *refused(const char *redis, const char *const *more)
{
    const char *argv[24] = {getenv("CODEQD"), "--listen", "127.0.0.1:0", "--redis-connect-timeout",
                            "300ms",          "--redis",  redis};
    int n = 7;
    for (; more != NULL && *more != NULL; more++) {
        argv[n++] = *more;
    }
    const struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *text = NULL;
    struct err err = {""};
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS, &out,
                         &text, &err);
    free(out);
    assert_int_equal(code, 2);
    return text;
}

static void says(char *text, const char *what)
{
    if (strstr(text, what) == NULL) {
        fail_msg("codeqd said \"%s\", not \"%s\"", text, what);
    }
    free(text);
}

static void cycle_at(struct service_fixture *at, const char *command)
{
    char id[40];
    char path[128];
    create(at, command, "\"payload\":{\"n\":1}", id);
    struct claimed_task task = claim(at, command, 60, 0);
    assert_string_equal(task.id, id);
    snprintf(path, sizeof path, "/v1/codeq/tasks/%s/result", id);
    struct answer a = http_post(at, path, "{\"status\":\"COMPLETED\",\"result\":{\"ok\":true}}");
    expect(&a, 200, NULL);
    answer_free(&a);
}

static void cycle(const char *command)
{
    cycle_at(&f, command);
}

/* How many connections the Redis has taken so far, those that it then refused included. */
static long connections(void)
{
    char *info = redis_say(&f, "INFO stats");
    double n = redis_info_number(info, "total_connections_received");
    free(info);
    return (long)n;
}

static int after_each(void **state)
{
    (void)state;
    if (f.codeqd.pid != 0) {
        codeqd_stop(&f);
    }
    free(redis_say(&f, "CONFIG SET tls-auth-clients no"));
    return 0;
}

/* ---- tests ---- */

static void task_lives_its_life_over_tls(void **state)
{
    (void)state;
    const char *const arguments[] = {"--redis", url, "--redis-tls-ca-file", config[9], "--threads",
                                     "2",       NULL};
    codeqd_start(&f, arguments);
    cycle("TLS");

    /* Larger than TLS' records of 16 KB, both ways. */
    size_t bytes = 900 * 1024;
    char *body = malloc(bytes + 64);
    int n = sprintf(body, "{\"command\":\"LARGE\",\"payload\":\"");
    memset(body + n, 'x', bytes);
    strcpy(body + (size_t)n + bytes, "\"}");
    struct answer a = http_post(&f, "/v1/codeq/tasks", body);
    expect(&a, 202, NULL);
    answer_free(&a);
    free(body);
    a = http_post(&f, "/v1/codeq/tasks/claim", "{\"commands\":[\"LARGE\"]}");
    expect(&a, 200, NULL);
    assert_true(a.body_bytes > bytes);
    answer_free(&a);

    /* Redis goes and comes back at the same port. */
    struct err err = {""};
    redis_server_kill(&f.redis);
    if (redis_server_restart(&f.redis, &f.redis_options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    for (;;) {
        a = http_get(&f, "/readyz");
        int status = a.status;
        answer_free(&a);
        if (status == 200) {
            break;
        }
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
        poll(NULL, 0, 5);
    }
    cycle("AGAIN");
    assert_int_equal(codeqd_stop(&f), 0);
}

static void server_that_cannot_prove_who_it_is_gets_nothing(void **state)
{
    (void)state;
    const char *const other[] = {"--redis-tls-ca-file", path_of("other.pem"), NULL};
    says(refused(url, other), "the server's certificate: ");
    says(refused(url, NULL), "the server's certificate: "); /* the system's authorities */
    const char *const ours[] = {"--redis-tls-ca-file", config[9], NULL};
    says(refused(wrong_host, ours), "hostname mismatch");
}

static void less_is_checked_when_it_is_asked_for(void **state)
{
    (void)state;
    const char *const chain[] = {"--redis", wrong_host,           "--redis-tls-ca-file",
                                 config[9], "--redis-tls-verify", "chain",
                                 NULL};
    codeqd_start(&f, chain);
    cycle("CHAIN");
    codeqd_stop(&f);
    const char *const other[] = {"--redis-tls-ca-file", path_of("other.pem"), "--redis-tls-verify",
                                 "chain", NULL};
    says(refused(url, other), "the server's certificate: ");
    const char *const none[] = {"--redis", wrong_host, "--redis-tls-verify", "none", NULL};
    codeqd_start(&f, none);
    cycle("NONE");
}

static void client_shows_its_certificate_where_redis_asks_for_one(void **state)
{
    (void)state;
    free(redis_say(&f, "CONFIG SET tls-auth-clients yes"));
    const char *const without[] = {"--redis-tls-ca-file", config[9], NULL};
    long before = connections();
    says(refused(url, without), "TLS: tlsv13 alert certificate required");
    assert_in_range(connections() - before, 1, 100); /* it waits between its attempts */
    const char *const with[] = {"--redis",
                                url,
                                "--redis-tls-ca-file",
                                config[9],
                                "--redis-tls-cert-file",
                                path_of("client.pem"),
                                "--redis-tls-key-file",
                                path_of("client.key"),
                                NULL};
    codeqd_start(&f, with);
    cycle("CLIENT");
}

static void nodes_of_a_cluster_are_spoken_to_over_tls(void **state)
{
    (void)state;
    char port[8];
    char at[80];
    snprintf(port, sizeof port, "%d", redis_cluster_free_port());
    snprintf(at, sizeof at, "rediss://127.0.0.1:%s?cluster=yes", port);
    const char *const node[] = {"--tls-port",
                                port,
                                "--tls-cert-file",
                                config[5],
                                "--tls-key-file",
                                config[7],
                                "--tls-ca-cert-file",
                                config[9],
                                "--tls-auth-clients",
                                "no",
                                "--cluster-enabled",
                                "yes",
                                "--tls-cluster",
                                "yes",
                                NULL};
    struct service_fixture c = {.redis_options = {.cpu = -1, .config = node}};
    struct err err = {""};
    if (redis_server_start(&c.redis, &c.redis_options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    free(redis_say(&c, "CLUSTER ADDSLOTSRANGE 0 16383"));
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + SERVICE_DEADLINE_NS;
    for (bool whole = false; !whole; poll(NULL, 0, 5)) {
        char *info = redis_say(&c, "CLUSTER INFO");
        whole = strstr(info, "cluster_state:ok") != NULL;
        free(info);
        assert_true(clock_monotonic_ns(clock_system()) < deadline_ns);
    }
    const char *const arguments[] = {"--redis", at, "--redis-tls-ca-file", config[9], NULL};
    codeqd_start(&c, arguments);
    cycle_at(&c, "A");
    cycle_at(&c, "B");
    service_stop(&c);
}

static void sentinel_and_the_master_that_it_names_are_spoken_to_over_tls(void **state)
{
    (void)state;
    int port = redis_cluster_free_port();
    const char *path = path_of("sentinel.conf");
    FILE *out = fopen(path, "we");
    fprintf(out,
            "port 0\ntls-port %d\nbind 127.0.0.1\ndir %s\ntls-replication yes\n"
            "tls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients no\n"
            "sentinel monitor the-master 127.0.0.1 %s 1\n",
            port, folder, config[5], config[7], config[9], tls_port);
    fclose(out);
    const char *const argv[] = {"redis-server", path, "--sentinel", NULL};
    const struct child_options child = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct child sentinel = {0};
    struct err err = {""};
    assert_int_equal(child_start(&sentinel, &child, &err), 0);
    char at[96];
    snprintf(at, sizeof at, "rediss://127.0.0.1:%d?sentinel=the-master", port);
    const char *const arguments[] = {"--redis", at, "--redis-tls-ca-file", config[9], NULL};
    codeqd_start(&f, arguments);
    cycle("SENTINEL");
    /* Neither may be somebody else. */
    const char *const other[] = {"--redis-tls-ca-file", path_of("other.pem"), NULL};
    says(refused(at, other), "the server's certificate: ");
    child_stop(&sentinel, NS_PER_SEC);
}

static void wrong_settings_are_named(void **state)
{
    (void)state;
    char plain[64];
    snprintf(plain, sizeof plain, "rediss://127.0.0.1:%s", plain_port);
    const char *const ours[] = {"--redis-tls-ca-file", config[9], NULL};
    says(refused(plain, ours), "does this port speak TLS");
    char at_tls[64];
    snprintf(at_tls, sizeof at_tls, "redis://127.0.0.1:%s", tls_port);
    const char *const hasty[] = {"--redis-command-timeout", "1s", NULL};
    long before = connections();
    says(refused(at_tls, hasty), "does this port speak TLS? Give rediss:// then");
    assert_in_range(connections() - before, 1, 200);
    says(refused(at_tls, ours), "redis_tls_ca_file: is for rediss://");
    const char *const missing[] = {"--redis-tls-ca-file", "/nowhere.pem", NULL};
    says(refused(url, missing), "redis_tls_ca_file: /nowhere.pem: ");
    const char *const half[] = {"--redis-tls-cert-file", path_of("client.pem"), NULL};
    says(refused(url, half), "give both or none");
    const char *const foreign[] = {"--redis-tls-cert-file", path_of("client.pem"),
                                   "--redis-tls-key-file", path_of("server.key"), NULL};
    says(refused(url, foreign), "redis_tls_key_file: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(task_lives_its_life_over_tls, after_each),
        cmocka_unit_test_teardown(server_that_cannot_prove_who_it_is_gets_nothing, after_each),
        cmocka_unit_test_teardown(less_is_checked_when_it_is_asked_for, after_each),
        cmocka_unit_test_teardown(client_shows_its_certificate_where_redis_asks_for_one,
                                  after_each),
        cmocka_unit_test_teardown(nodes_of_a_cluster_are_spoken_to_over_tls, after_each),
        cmocka_unit_test_teardown(sentinel_and_the_master_that_it_names_are_spoken_to_over_tls,
                                  after_each),
        cmocka_unit_test_teardown(wrong_settings_are_named, after_each),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
