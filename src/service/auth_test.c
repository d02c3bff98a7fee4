#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "service/auth.h"
#include "service/jwt_fixture.h"

#define NOW_SEC INT64_C(1800000000)
#define ADMIN_RAW "\"raw\":{\"role\":\"ADMIN\",\"tenantId\":\"acme\"}"
#define WORKER_STATIC \
    "{\"token\":\"W\",\"subject\":\"w1\",\"scopes\":[\"codeq:claim\",\"codeq:nack\",\"x\"]," \
    "\"eventTypes\":[\"RENDER\",\"MAIL\"],\"raw\":{\"tenantId\":\"acme\"}}"

static struct clock_fake fake;

static struct config config_of(const char *producer_type, const char *producer,
                               const char *worker_type, const char *worker)
{
    return (struct config){
        .env = (char *)(uintptr_t) "prod",
        .producer_auth_provider = (char *)(uintptr_t)producer_type,
        .producer_auth_config = (char *)(uintptr_t)producer,
        .worker_auth_provider = (char *)(uintptr_t)worker_type,
        .worker_auth_config = (char *)(uintptr_t)worker,
        .clock_skew_ns = 60 * NS_PER_SEC,
    };
}

static struct auth *must_new(const struct config *config)
{
    struct err err = {""};
    struct auth *auth = auth_new(config, &fake.clock, &err);
    if (auth == NULL) {
        fail_msg("%s", err.text);
    }
    return auth;
}

static struct auth *static_auth(const char *producer, const char *worker)
{
    struct config config = config_of(producer != NULL ? "static" : NULL, producer,
                                     worker != NULL ? "static" : NULL, worker);
    return must_new(&config);
}

static struct auth_verdict ask_role(struct auth *auth, enum auth_class class, unsigned scopes,
                                    const char *header, const char *role)
{
    struct auth_verdict out;
    auth_check(auth, class, scopes, header, header != NULL ? strlen(header) : 0, role, &out);
    return out;
}

static struct auth_verdict ask(struct auth *auth, enum auth_class class, unsigned scopes,
                               const char *header)
{
    return ask_role(auth, class, scopes, header, NULL);
}

#define ASSERT_REFUSED(verdict, code, text) \
    do { \
        struct auth_verdict refused = (verdict); \
        assert_int_equal(refused.status, code); \
        assert_string_equal(refused.error, text); \
    } while (0)

static void development_tokens_are_one_tenant_and_may_do_everything(void **state)
{
    (void)state;
    struct config config = config_of(NULL, NULL, NULL, NULL);
    config.development_tokens = true;
    config.env = (char *)(uintptr_t) "dev";
    struct auth *auth = must_new(&config);
    static const enum auth_class classes[] = {AUTH_PRODUCER, AUTH_WORKER, AUTH_ANY, AUTH_ADMIN};
    for (size_t i = 0; i < 4; i++) {
        struct auth_verdict v = ask(auth, classes[i], 63, "Bearer dev-token");
        assert_int_equal(v.status, 200);
        assert_string_equal(v.identity.tenant, "dev-tenant");
        assert_string_equal(v.identity.subject, i == 1 || i == 2 ? "worker-dev" : "producer-dev");
    }
    assert_true(ask(auth, AUTH_WORKER, 0, "Bearer dev-token").identity.every_event_type);
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, "Bearer dev-tokem"), 401, "invalid token");
    auth_free(auth);
}

static void the_header_is_read_as_codeq_reads_it(void **state)
{
    (void)state;
    struct auth *auth = static_auth("{\"token\":\" P \",\"raw\":{\"tid\":\"acme\"}}", NULL);
    static const char *const good[] = {"Bearer P", "bearer P", "BEARER P", "Bearer  P",
                                       "Bearer P "};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ask(auth, AUTH_PRODUCER, 0, good[i]).status, 200);
    }
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, NULL), 401, "missing Authorization header");
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, ""), 401, "missing Authorization header");
    static const char *const bad[] = {"P",       "Bearer",    "BearerP",
                                      "Basic P", "Bearer\tP", " Bearer P"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, bad[i]), 401, "invalid Authorization format");
    }
    static const char *const wrong[] = {"Bearer ", "Bearer p", "Bearer PP", "Bearer P P"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, wrong[i]), 401, "invalid token");
    }
    struct auth_verdict v;
    auth_check(auth, AUTH_PRODUCER, 0, "Bearer P\0", 9, NULL, &v); /* NUL is no white space */
    assert_int_equal(v.status, 401);
    char *large = malloc(20000);
    memset(large, 'x', 19999);
    memcpy(large, "Bearer ", 7);
    large[19999] = '\0';
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, large).status, 401);
    free(large);
    assert_int_equal(ask(auth, AUTH_PUBLIC, 0, NULL).status, 200);
    auth_free(auth);
}

static void workers_need_an_event_type_a_scope_and_the_routes_scope(void **state)
{
    (void)state;
    struct auth *auth = static_auth(NULL, WORKER_STATIC);
    struct auth_verdict v = ask(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM, "Bearer W");
    assert_int_equal(v.status, 200);
    assert_string_equal(v.identity.subject, "w1");
    assert_true(identity_allows(&v.identity, "RENDER"));
    assert_true(identity_allows(&v.identity, "MAIL"));
    assert_false(identity_allows(&v.identity, "render"));
    assert_false(identity_allows(&v.identity, "*"));
    assert_false(identity_allows(&v.identity, ""));
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, AUTH_SCOPE_RESULT, "Bearer W"), 403, "missing scope");
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, "Bearer W"), 500,
                   "producer validator not configured");
    auth_free(auth);
    auth = static_auth(NULL, "{\"token\":\"W\",\"scopes\":[\"codeq:claim\"]}");
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, 0, "Bearer W"), 401, "missing eventTypes");
    ASSERT_REFUSED(ask(auth, AUTH_ANY, 0, "Bearer W"), 401, "invalid token");
    auth_free(auth);
    auth = static_auth(NULL, "{\"token\":\"W\",\"eventTypes\":[\"*\"]}");
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, 0, "Bearer W"), 401, "missing scope");
    assert_int_equal(ask(auth, AUTH_ANY, 0, "Bearer W").status, 200); /* reading needs none */
    auth_free(auth);
    auth = static_auth("\"P1\"", NULL);
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, 0, "Bearer P1"), 500, "worker validator not configured");
    auth_free(auth);
}

static void a_producer_may_work_only_where_that_is_allowed(void **state)
{
    (void)state;
    struct config config =
        config_of("static", "{\"token\":\"P\"," ADMIN_RAW "}", "static", WORKER_STATIC);
    struct auth *auth = must_new(&config);
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM, "Bearer P"), 401, "invalid token");
    auth_free(auth);
    config.allow_producer_as_worker = true;
    auth = must_new(&config);
    struct auth_verdict v = ask(auth, AUTH_WORKER, AUTH_SCOPE_RESULT, "Bearer P");
    assert_int_equal(v.status, 200);
    assert_true(identity_allows(&v.identity, "ANYTHING"));
    assert_int_equal(v.identity.scopes & AUTH_SCOPE_ADMIN, 0);
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, AUTH_SCOPE_RESULT, "Bearer W"), 403, "missing scope");
    ASSERT_REFUSED(ask(auth, AUTH_WORKER, AUTH_SCOPE_RESULT, "Bearer X"), 401, "invalid token");
    auth_free(auth);
}

static void admin_is_a_scope_or_a_role_and_x_role_only_in_development(void **state)
{
    (void)state;
    static const struct {
        const char *producer;
        const char *env;
        const char *header;
        int status;
    } cases[] = {
        {"{\"token\":\"P\"," ADMIN_RAW "}", "prod", NULL, 200},
        {"{\"token\":\"P\",\"raw\":{\"role\":\" admin \",\"tid\":\"acme\"}}", "prod", NULL, 200},
        {"{\"token\":\"P\",\"scopes\":[\"codeq:admin\"],\"raw\":{\"tid\":\"acme\"}}", "prod", NULL,
         200},
        {"{\"token\":\"P\",\"raw\":{\"role\":\"USER\",\"tid\":\"acme\"}}", "prod", NULL, 401},
        {"{\"token\":\"P\",\"raw\":{\"role\":[\"ADMIN\"],\"tid\":\"acme\"}}", "prod", NULL, 401},
        {"{\"token\":\"P\",\"raw\":{\"tid\":\"acme\"}}", "prod", "ADMIN", 401},
        {"{\"token\":\"P\",\"raw\":{\"tid\":\"acme\"}}", "dev", "ADMIN", 200},
        {"{\"token\":\"P\",\"raw\":{\"tid\":\"acme\"}}", "dev", "admin", 200},
        {"{\"token\":\"P\",\"raw\":{\"tid\":\"acme\"}}", "dev", "ADMINS", 401},
        {"{\"token\":\"P\",\"raw\":{\"tid\":\"acme\"}}", "dev", NULL, 401},
        {"{\"token\":\"P\",\"raw\":{\"role\":\"USER\",\"tid\":\"acme\"}}", "dev", "ADMIN", 401},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config config = config_of("static", cases[i].producer, "static", WORKER_STATIC);
        config.env = (char *)(uintptr_t)cases[i].env;
        struct auth *auth = must_new(&config);
        struct auth_verdict v = ask_role(auth, AUTH_ADMIN, 0, "Bearer P", cases[i].header);
        if (v.status != cases[i].status) {
            fail_msg("case %zu: %d", i, v.status);
        }
        if (v.status == 401) {
            assert_string_equal(v.error, "unauthorized. Admin only");
        }
        ASSERT_REFUSED(ask_role(auth, AUTH_ADMIN, 0, "Bearer W", "ADMIN"), 401, "invalid token");
        auth_free(auth);
    }
}

struct world {
    EVP_PKEY *first;
    EVP_PKEY *second;
    char *first_set;
    char *both_set;
    char *second_set;
};

static struct world world;

static char *token_of(EVP_PKEY *pkey, const char *kid, const char *more_claims, int64_t expires)
{
    char header[80];
    snprintf(header, sizeof header, "{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
    struct buf claims = BUF_INIT;
    buf_printf(&claims, "{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":%lld%s%s}",
               (long long)expires, more_claims[0] != '\0' ? "," : "", more_claims);
    char *token = fixture_token(pkey, header, claims.data);
    buf_fini(&claims);
    struct buf bearer = BUF_INIT;
    buf_printf(&bearer, "Bearer %s", token);
    free(token);
    return buf_take(&bearer);
}

#define JWKS_URL \
    "{\"jwksUrl\":\"https://id/jwks\",\"issuer\":\"https://id\",\"audience\":\"codeq\"}"

/* With the first key's set already fetched. */
static struct auth *jwks_auth(const char *type, const char *config_text)
{
    struct config config = config_of(type, config_text, type, config_text);
    struct auth *auth = must_new(&config);
    struct auth_fetch fetch;
    for (int i = 0; i < 2 && auth_fetch_next(auth, &fetch); i++) {
        assert_string_equal(fetch.url, "https://id/jwks");
        assert_int_equal(
            auth_fetch_done(auth, fetch.number, world.first_set, strlen(world.first_set), NULL), 0);
    }
    return auth;
}

static struct auth_verdict ask_claims(struct auth *auth, enum auth_class class, unsigned scopes,
                                      const char *claims)
{
    char *header = token_of(world.first, "k1", claims, NOW_SEC + 600);
    struct auth_verdict v = ask(auth, class, scopes, header);
    free(header);
    return v;
}

static void tenants_follow_the_claims_or_the_subject(void **state)
{
    (void)state;
    static const struct {
        const char *claims;
        const char *tenant; /* NULL: 403 */
    } cases[] = {
        {"\"tid\":\"acme\"", "acme"},
        {"\"tenantId\":\"acme\"", "acme"},
        {"\"tenant_id\":\"acme\"", "acme"},
        {"\"organizationId\":\"acme\"", "acme"},
        {"\"organization_id\":\"acme\"", "acme"},
        {"\"tid\":\"acme\",\"tenantId\":\"acme\",\"organization_id\":\"acme\"", "acme"},
        {"\"tid\":\" acme \"", "acme"},
        {"\"tid\":\"a1\"", "a1"},
        {"\"tid\":\"a-\"", "a-"},
        {"\"tid\":\"a23456789-123456789-123456789-123456789-123456789-123456789-12\"",
         "a23456789-123456789-123456789-123456789-123456789-123456789-12"},
        {"\"sub\":\"acme\"", "acme"},
        {"\"sub\":\"Acme\",\"tid\":\"acme\"", "acme"},
        {"\"tid\":\"a23456789-123456789-123456789-123456789-123456789-123456789-1234\"", NULL},
        {"\"tid\":\"a\"", NULL},
        {"\"tid\":\"Acme\"", NULL},
        {"\"tid\":\"1acme\"", NULL},
        {"\"tid\":\"-acme\"", NULL},
        {"\"tid\":\"ac_me\"", NULL},
        {"\"tid\":\"ac me\"", NULL},
        {"\"tid\":\"ac}me\"", NULL},
        {"\"tid\":\"ac:me\"", NULL},
        {"\"tid\":\"acm\xc3\xa9\"", NULL},
        {"\"tid\":\"\"", NULL},
        {"\"tid\":\"  \",\"sub\":\"acme\"", NULL}, /* a bad claim is not passed over */
        {"\"tid\":7", NULL},
        {"\"tid\":null,\"sub\":\"acme\"", NULL},
        {"\"tid\":[\"acme\"]", NULL},
        {"\"tid\":\"acme\",\"tenantId\":\"other\"", NULL},
        {"\"tid\":\"acme\",\"organization_id\":5", NULL},
        {"\"sub\":\"Acme Inc\"", NULL},
        {"\"sub\":5", NULL},
        {"", NULL},
    };
    struct auth *auth = jwks_auth("jwks", JWKS_URL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct auth_verdict v = ask_claims(auth, AUTH_PRODUCER, 0, cases[i].claims);
        if (v.status != (cases[i].tenant != NULL ? 200 : 403) ||
            (v.status == 200 && strcmp(v.identity.tenant, cases[i].tenant) != 0)) {
            fail_msg("%s: %d %s", cases[i].claims, v.status,
                     v.status == 200 ? v.identity.tenant : v.error);
        }
        if (v.status == 403) {
            assert_string_equal(v.error, "invalid tenant claims");
        }
    }
    auth_free(auth);
}

static void scopes_and_event_types_of_a_token_are_read_strictly(void **state)
{
    (void)state;
    struct auth *auth = jwks_auth("jwks", JWKS_URL);
#define SUB "\"sub\":\"w-1\""
    struct auth_verdict v =
        ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM | AUTH_SCOPE_RESULT,
                   SUB ",\"scope\":\"openid  codeq:claim codeq:result\",\"eventTypes\":[\"A\"]");
    assert_int_equal(v.status, 200);
    assert_true(identity_allows(&v.identity, "A"));
    assert_false(identity_allows(&v.identity, "B"));
    v = ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM,
                   SUB
                   ",\"scope\":\"codeq:claims xcodeq:claim codeq:clai\",\"eventTypes\":[\"A\"]");
    ASSERT_REFUSED(v, 403, "missing scope");
    v = ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM,
                   SUB ",\"scope\":[\"codeq:claim\"],\"eventTypes\":[\"A\"]");
    ASSERT_REFUSED(v, 401, "missing scope");
    v = ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM,
                   SUB ",\"scope\":\"codeq:claim\",\"eventTypes\":\"A\"");
    ASSERT_REFUSED(v, 401, "malformed token");
    v = ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM,
                   SUB ",\"scope\":\"codeq:claim\",\"eventTypes\":[\"A\",5]");
    ASSERT_REFUSED(v, 401, "malformed token");
    v = ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM,
                   SUB ",\"scope\":\"codeq:claim\",\"eventTypes\":[]");
    ASSERT_REFUSED(v, 401, "missing eventTypes");
    struct buf many = BUF_INIT;
    buf_puts(&many, SUB ",\"scope\":\"codeq:claim\",\"eventTypes\":[\"A\"");
    for (int i = 0; i < AUTH_EVENT_TYPES_MAX; i++) {
        buf_puts(&many, ",\"A\"");
    }
    buf_puts(&many, "]");
    ASSERT_REFUSED(ask_claims(auth, AUTH_WORKER, AUTH_SCOPE_CLAIM, many.data), 401,
                   "malformed token");
    buf_clear(&many);
    buf_puts(&many, "\"tid\":\"acme\",\"sub\":\"");
    for (int i = 0; i <= AUTH_SUBJECT_BYTES_MAX; i++) {
        buf_puts(&many, "s");
    }
    buf_puts(&many, "\"");
    ASSERT_REFUSED(ask_claims(auth, AUTH_PRODUCER, 0, many.data), 401, "malformed token");
    buf_fini(&many);
    auth_free(auth);
}

static void keys_that_are_not_there_yet_are_asked_for_and_the_client_may_try_again(void **state)
{
    (void)state;
    struct config config = config_of("jwks", JWKS_URL, NULL, NULL);
    struct auth *auth = must_new(&config);
    char *header = token_of(world.first, "k1", "\"sub\":\"acme\"", NOW_SEC + 600);
    assert_true(auth_fetch_due_ns(auth) <= clock_monotonic_ns(&fake.clock));
    struct auth_verdict v = ask(auth, AUTH_PRODUCER, 0, header);
    ASSERT_REFUSED(v, 503, "signing keys are being fetched");
    assert_int_equal(v.retry_after_seconds, 1);
    struct auth_fetch fetch;
    assert_true(auth_fetch_next(auth, &fetch));
    clock_fake_advance(&fake, 2 * AUTH_KEYS_RETRY_NS);
    assert_false(auth_fetch_next(auth, &fetch)); /* one at a time, however slow */
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 503);
    assert_int_equal(auth_fetch_done(auth, fetch.number, NULL, 0, NULL), 0);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 503);
    assert_true(auth_fetch_next(auth, &fetch));
    assert_int_equal(auth_fetch_done(auth, fetch.number, NULL, 0, NULL), 0);
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, header), 401, "unknown signing key");
    assert_false(auth_fetch_next(auth, &fetch)); /* it failed just now */
    clock_fake_advance(&fake, AUTH_KEYS_RETRY_NS);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 503);
    assert_true(auth_fetch_next(auth, &fetch));
    assert_int_equal(
        auth_fetch_done(auth, fetch.number, world.first_set, strlen(world.first_set), NULL), 0);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 200);
    free(header);
    auth_free(auth);
}

static void rotated_keys_are_fetched_when_first_seen_and_old_ones_end(void **state)
{
    (void)state;
    struct config config = config_of("jwks", JWKS_URL, NULL, NULL);
    struct auth *auth = must_new(&config);
    struct auth_fetch fetch;
    assert_true(auth_fetch_next(auth, &fetch));
    auth_fetch_done(auth, fetch.number, world.first_set, strlen(world.first_set), NULL);
    char *old = token_of(world.first, "k1", "\"sub\":\"acme\"", NOW_SEC + 86400);
    char *new = token_of(world.second, "k2", "\"sub\":\"acme\"", NOW_SEC + 86400);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200);
    clock_fake_advance(&fake, AUTH_KEYS_RETRY_NS);
    assert_false(auth_fetch_next(auth, &fetch)); /* nobody asked for another key */
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 503);
    assert_true(auth_fetch_due_ns(auth) <= clock_monotonic_ns(&fake.clock));
    assert_true(auth_fetch_next(auth, &fetch));
    struct err err = {""};
    assert_int_equal(auth_fetch_done(auth, fetch.number, "{}", 2, &err), -EINVAL);
    assert_non_null(strstr(err.text, "https://id/jwks"));
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200); /* the old set stays */
    clock_fake_advance(&fake, AUTH_KEYS_RETRY_NS);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 503);
    assert_true(auth_fetch_next(auth, &fetch));
    auth_fetch_done(auth, fetch.number, world.both_set, strlen(world.both_set), NULL);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 200);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200);
    clock_fake_advance(&fake, AUTH_KEYS_REFRESH_NS);
    assert_true(auth_fetch_next(auth, &fetch)); /* by the clock alone */
    auth_fetch_done(auth, fetch.number, world.second_set, strlen(world.second_set), NULL);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 200);
    /* Withdrawn: the remembered verdict goes with its key. */
    assert_int_not_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200);
    free(old);
    free(new);
    auth_free(auth);
}

static void random_key_names_cause_no_more_than_one_fetch_a_while(void **state)
{
    (void)state;
    struct config config = config_of("jwks", JWKS_URL, NULL, NULL);
    struct auth *auth = must_new(&config);
    struct auth_fetch fetch;
    int fetches = 0;
    for (int second = 0; second < 100; second++) {
        char kid[16];
        snprintf(kid, sizeof kid, "evil-%d", second);
        char *header = token_of(world.second, kid, "\"sub\":\"acme\"", NOW_SEC + 6000);
        assert_int_not_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 200);
        free(header);
        while (fetches < 100 && auth_fetch_next(auth, &fetch)) {
            fetches++;
            auth_fetch_done(auth, fetch.number, world.first_set, strlen(world.first_set), NULL);
        }
        clock_fake_advance(&fake, NS_PER_SEC);
    }
    assert_in_range(fetches, 9, 10);
    auth_free(auth);
}

static void keys_nobody_could_refresh_for_an_hour_are_no_longer_trusted(void **state)
{
    (void)state;
    struct auth *auth = jwks_auth("jwks", JWKS_URL);
    char *header = token_of(world.first, "k1", "\"sub\":\"acme\"", NOW_SEC + 86400 * 30);
    struct auth_fetch fetch;
    for (int minute = 0; minute <= 60; minute++) {
        assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 200);
        if (auth_fetch_next(auth, &fetch)) {
            auth_fetch_done(auth, fetch.number, NULL, 0, NULL);
        }
        clock_fake_advance(&fake, 60 * NS_PER_SEC);
    }
    assert_int_not_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 200);
    free(header);
    auth_free(auth);
}

static void a_remembered_token_still_ends_when_it_expires(void **state)
{
    (void)state;
    struct auth *auth = jwks_auth("jwks", JWKS_URL);
    int64_t now_sec = clock_wall_ns(&fake.clock) / NS_PER_SEC;
    char *header = token_of(world.first, "k1", "\"sub\":\"acme\"", now_sec + 10);
    for (int i = 0; i < 69; i++) { /* 60 s of skew */
        assert_int_equal(ask(auth, AUTH_PRODUCER, 0, header).status, 200);
        clock_fake_advance(&fake, NS_PER_SEC);
    }
    clock_fake_advance(&fake, 2 * NS_PER_SEC);
    ASSERT_REFUSED(ask(auth, AUTH_PRODUCER, 0, header), 401, "token expired");
    free(header);
    auth_free(auth);
}

static void more_tokens_than_the_cache_holds_are_all_judged_right(void **state)
{
    (void)state;
    struct auth *auth = jwks_auth("jwks", JWKS_URL);
    enum { TOKENS = AUTH_CACHE_ENTRIES + 76, AGAIN = 300 };
    char *headers[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        char claims[40];
        snprintf(claims, sizeof claims, "\"sub\":\"tenant-%d\"", i);
        headers[i] = token_of(world.first, "k1", claims, NOW_SEC + 600000);
    }
    /* The first of them again: some are still held, others gave way. */
    for (int n = 0; n < TOKENS + AGAIN; n++) {
        int i = n % TOKENS;
        char tenant[24];
        snprintf(tenant, sizeof tenant, "tenant-%d", i);
        struct auth_verdict v = ask(auth, AUTH_PRODUCER, 0, headers[i]);
        assert_int_equal(v.status, 200);
        assert_string_equal(v.identity.tenant, tenant);
    }
    for (int i = 0; i < TOKENS; i++) {
        free(headers[i]);
    }
    auth_free(auth);
}

static void several_providers_accept_what_any_of_them_accepts(void **state)
{
    (void)state;
    struct auth *auth = jwks_auth(
        "multi",
        "{\"providers\":[{\"type\":\"jwks\",\"config\":" JWKS_URL "},"
        "{\"type\":\"static\",\"config\":{\"token\":\"P\",\"raw\":{\"tid\":\"local\"}}}]}");
    struct auth_verdict v = ask(auth, AUTH_PRODUCER, 0, "Bearer P");
    assert_int_equal(v.status, 200);
    assert_string_equal(v.identity.tenant, "local");
    v = ask_claims(auth, AUTH_PRODUCER, 0, "\"tid\":\"acme\"");
    assert_int_equal(v.status, 200);
    assert_string_equal(v.identity.tenant, "acme");
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, "Bearer Q").status, 401);
    auth_free(auth);
}

static void a_key_set_can_be_a_file_that_changes(void **state)
{
    (void)state;
    char path[] = "/tmp/codeqd-jwks-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, world.first_set, strlen(world.first_set)) > 0);
    close(fd);
    char text[200];
    snprintf(text, sizeof text,
             "{\"jwksFile\":\"%s\",\"issuer\":\"https://id\",\"audience\":\"codeq\","
             "\"clockSkew\":\"1s\"}",
             path);
    struct config config = config_of("jwks", text, NULL, NULL);
    struct auth *auth = must_new(&config);
    char *old = token_of(world.first, "k1", "\"sub\":\"acme\"", NOW_SEC + 864000);
    char *new = token_of(world.second, "k2", "\"sub\":\"acme\"", NOW_SEC + 864000);
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200);
    assert_int_not_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 200);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(world.second_set, f) >= 0);
    fclose(f);
    struct auth_fetch fetch;
    assert_false(auth_fetch_next(auth, &fetch)); /* nothing for the network; the file is read */
    assert_int_equal(ask(auth, AUTH_PRODUCER, 0, new).status, 200);
    assert_int_not_equal(ask(auth, AUTH_PRODUCER, 0, old).status, 200);
    unlink(path);
    free(old);
    free(new);
    auth_free(auth);
}

static void broken_providers_are_refused_by_name_and_reason(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"static", "{", "producer_auth_config"},
        {"static", "\"\"", "token: is missing"},
        {"static", "\"  \"", "token: is missing"},
        {"static", "\"***\"", "token: is missing, empty, masked"},
        {"static", "{}", "token: is missing"},
        {"static", "{\"token\":7}", "token: is a JSON number"},
        {"static", "{\"token\":\"P\",\"scope\":[]}", "unknown member 'scope'"},
        {"static", "{\"token\":\"P\",\"scopes\":\"codeq:admin\"}", "scopes: is a JSON string"},
        {"static", "{\"token\":\"P\",\"scopes\":[1]}", "scopes: holds a JSON number"},
        {"static", "{\"token\":\"P\",\"eventTypes\":[1]}", "eventTypes"},
        {"static", "{\"token\":\"P\",\"raw\":[]}", "raw: is a JSON array"},
        {"static", "{\"token\":\"P\",\"raw\":{\"tenantId\":\"Dev\"}}", "tenant: malformed"},
        {"static", "{\"token\":\"P\",\"raw\":{\"tid\":\"aa\",\"tenantId\":\"bb\"}}",
         "tenant: conflicting"},
        {"static", "{\"token\":\"P\",\"subject\":\"Producer Dev\"}", "tenant: malformed"},
        {"jwks", "\"x\"", "is a JSON string"},
        {"jwks", "{}", "either jwksUrl or jwksFile"},
        {"jwks", "{\"jwksUrl\":\"http://a\",\"jwksFile\":\"b\"}", "either jwksUrl or jwksFile"},
        {"jwks", "{\"jwksUrl\":\"ftp://a\",\"issuer\":\"i\",\"audience\":\"a\"}", "http://"},
        {"jwks", "{\"jwksUrl\":\"http://a\",\"audience\":\"a\"}", "issuer: is missing"},
        {"jwks", "{\"jwksUrl\":\"http://a\",\"issuer\":\"i\"}", "audience: is missing"},
        {"jwks", "{\"jwksUrl\":\"http://a\",\"issuer\":\"i\",\"audience\":\"a\",\"clockSkew\":-1}",
         "clockSkew"},
        {"jwks",
         "{\"jwksUrl\":\"http://a\",\"issuer\":\"i\",\"audience\":\"a\",\"clockSkew\":\"1\"}",
         "clockSkew"},
        {"jwks", "{\"jwksFile\":\"/nonexistent\",\"issuer\":\"i\",\"audience\":\"a\"}",
         "No such file"},
        {"jwks", "{\"jwksFile\":\"/dev/null\",\"issuer\":\"i\",\"audience\":\"a\"}", "/dev/null"},
        {"multi", "{\"providers\":[]}", "2 to 16"},
        {"multi", "{\"providers\":[{\"type\":\"static\",\"config\":\"P\"}]}", "2 to 16"},
        {"multi", "{\"providers\":[1,2]}", "config: is missing"},
        {"multi", "{\"providers\":[{\"type\":\"multi\",\"config\":{}},{}]}",
         "none of: static jwks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config config = config_of(cases[i][0], cases[i][1], NULL, NULL);
        struct err err = {""};
        struct auth *auth = auth_new(&config, &fake.clock, &err);
        if (auth != NULL || strstr(err.text, cases[i][2]) == NULL) {
            fail_msg("%s: '%s' does not say '%s'", cases[i][1], err.text, cases[i][2]);
        }
    }
}

static void a_token_has_one_hash_for_the_keys_of_its_limits(void **state)
{
    (void)state;
    struct auth *auth = static_auth("{\"token\":\"P\"," ADMIN_RAW "}", WORKER_STATIC);
    char first[AUTH_TOKEN_HASH_BYTES];
    struct auth_verdict v = ask(auth, AUTH_PRODUCER, 0, "Bearer P");
    /* printf P | sha256sum */
    assert_string_equal(v.identity.token_hash, "5c62e091b8c0565f1bafad0dad593427");
    strcpy(first, v.identity.token_hash);
    v = ask(auth, AUTH_WORKER, 0, "Bearer W");
    assert_string_not_equal(v.identity.token_hash, first);
    assert_int_equal(strlen(first), AUTH_TOKEN_HASH_BYTES - 1);
    auth_free(auth);
}

static int set_up(void **state)
{
    (void)state;
    clock_fake_init(&fake, 1000 * NS_PER_SEC, NOW_SEC * NS_PER_SEC);
    return 0;
}

static int make_world(void **state)
{
    (void)state;
    world.first = fixture_p256();
    world.second = fixture_p256();
    char *a = fixture_jwk(world.first, "k1");
    char *b = fixture_jwk(world.second, "k2");
    world.first_set = fixture_jwks(a, NULL);
    world.both_set = fixture_jwks(a, b);
    world.second_set = fixture_jwks(b, NULL);
    free(a);
    free(b);
    return 0;
}

static int free_world(void **state)
{
    (void)state;
    EVP_PKEY_free(world.first);
    EVP_PKEY_free(world.second);
    free(world.first_set);
    free(world.both_set);
    free(world.second_set);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(development_tokens_are_one_tenant_and_may_do_everything),
        TEST(the_header_is_read_as_codeq_reads_it),
        TEST(workers_need_an_event_type_a_scope_and_the_routes_scope),
        TEST(a_producer_may_work_only_where_that_is_allowed),
        TEST(admin_is_a_scope_or_a_role_and_x_role_only_in_development),
        TEST(tenants_follow_the_claims_or_the_subject),
        TEST(scopes_and_event_types_of_a_token_are_read_strictly),
        TEST(keys_that_are_not_there_yet_are_asked_for_and_the_client_may_try_again),
        TEST(rotated_keys_are_fetched_when_first_seen_and_old_ones_end),
        TEST(random_key_names_cause_no_more_than_one_fetch_a_while),
        TEST(keys_nobody_could_refresh_for_an_hour_are_no_longer_trusted),
        TEST(a_remembered_token_still_ends_when_it_expires),
        TEST(more_tokens_than_the_cache_holds_are_all_judged_right),
        TEST(several_providers_accept_what_any_of_them_accepts),
        TEST(a_key_set_can_be_a_file_that_changes),
        TEST(broken_providers_are_refused_by_name_and_reason),
        TEST(a_token_has_one_hash_for_the_keys_of_its_limits),
    };
    return cmocka_run_group_tests(tests, make_world, free_world);
}
