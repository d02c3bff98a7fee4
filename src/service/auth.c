#include "service/auth.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/args.h"
#include "base/json.h"
#include "service/jwt.h"

#define KEYS_MAX (2 * AUTH_PROVIDERS_MAX)
#define STATIC_TOKEN_BYTES_MAX 4096
#define FETCH_TIMEOUT_DEFAULT_NS (5 * NS_PER_SEC)

/* What one provider says of one token. Owns its texts. */
struct principal {
    char tenant[AUTH_TENANT_BYTES_MAX + 1];
    char subject[AUTH_SUBJECT_BYTES_MAX + 1];
    char token_hash[AUTH_TOKEN_HASH_BYTES];
    const char *tenant_error; /* NULL: tenant is good */
    bool has_role;
    bool role_admin;
    bool has_scopes; /* any, known or not */
    unsigned scopes;
    bool every_event_type;
    char **event_types;
    size_t event_type_count;
};

/* A JSON Web Key Set and when it was looked at. Two providers never share one. */
struct key_source {
    char *url; /* NULL: none */
    char *file; /* NULL: none */
    int64_t timeout_ns;
    struct jwt_keys *keys;
    int64_t loaded_ns; /* monotonic; of keys */
    int64_t tried_ns;
    bool tried;
    bool fetching;
    bool wanted; /* a token named a key that is not in the set */
};

enum provider_type { PROVIDER_STATIC, PROVIDER_JWKS };

struct provider {
    enum provider_type type;
    char *token; /* static */
    size_t token_bytes;
    struct principal principal; /* static */
    char *issuer; /* jwks */
    char *audience;
    int64_t skew_ns;
    struct key_source *source;
};

struct validator {
    size_t count; /* 0: not configured */
    struct provider providers[AUTH_PROVIDERS_MAX];
};

struct cache_entry {
    bool used;
    const struct provider *provider;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    int64_t expires_wall_ns; /* exp and skew, as jwt_verify would judge */
    struct principal principal;
};

struct auth {
    struct clock *clock;
    bool development;
    bool allow_producer_as_worker;
    int64_t skew_default_ns;
    struct validator producer;
    struct validator worker;
    size_t source_count;
    struct key_source sources[KEYS_MAX];
    EVP_MD *sha256;
    struct cache_entry cache[AUTH_CACHE_ENTRIES];
};

static const struct {
    const char *name;
    enum auth_scope scope;
} SCOPES[] = {
    {"codeq:claim", AUTH_SCOPE_CLAIM},     {"codeq:heartbeat", AUTH_SCOPE_HEARTBEAT},
    {"codeq:abandon", AUTH_SCOPE_ABANDON}, {"codeq:nack", AUTH_SCOPE_NACK},
    {"codeq:result", AUTH_SCOPE_RESULT},   {"codeq:subscribe", AUTH_SCOPE_SUBSCRIBE},
    {"codeq:admin", AUTH_SCOPE_ADMIN},
};

#define WORKER_SCOPES \
    (AUTH_SCOPE_CLAIM | AUTH_SCOPE_HEARTBEAT | AUTH_SCOPE_ABANDON | AUTH_SCOPE_NACK | \
     AUTH_SCOPE_RESULT | AUTH_SCOPE_SUBSCRIBE)

static char *copy(const char *text)
{
    char *out = strdup(text);
    if (out == NULL) {
        abort();
    }
    return out;
}

static void digest_token(const struct auth *auth, const char *token, size_t bytes,
                         unsigned char out[SHA256_DIGEST_LENGTH])
{
    if (EVP_Digest(token, bytes, out, NULL, auth->sha256, NULL) != 1) {
        abort();
    }
}

static void hash_text(const unsigned char *digest, char out[AUTH_TOKEN_HASH_BYTES])
{
    for (size_t i = 0; i < (AUTH_TOKEN_HASH_BYTES - 1) / 2; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
}

/* ---- claims ---- */

static bool space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Text without the white space around it; false when what is left does not fit. */
static bool trim_into(char *out, size_t bytes_max, const char *text)
{
    while (space(*text)) {
        text++;
    }
    size_t n = strlen(text);
    while (n > 0 && space(text[n - 1])) {
        n--;
    }
    if (n > bytes_max) {
        return false;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

static bool tenant_is_label(const char *text)
{
    size_t n = strlen(text);
    if (n < 2 || n > AUTH_TENANT_BYTES_MAX || text[0] < 'a' || text[0] > 'z') {
        return false;
    }
    for (size_t i = 1; i < n; i++) {
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
              text[i] == '-')) {
            return false;
        }
    }
    return true;
}

/* All claims that name a tenant must agree; with none the subject is the tenant. The reason, or
 * NULL when out holds it. */
static const char *resolve_tenant(const struct json *claims, const char *subject,
                                  char out[AUTH_TENANT_BYTES_MAX + 1])
{
    static const char *const names[] = {"tid", "tenantId", "tenant_id", "organizationId",
                                        "organization_id"};
    char first[AUTH_TENANT_BYTES_MAX + 1] = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct json *claim = json_get(claims, names[i]);
        char text[AUTH_TENANT_BYTES_MAX + 1];
        if (claim == NULL) {
            continue;
        }
        if (json_type(claim) != JSON_STRING ||
            !trim_into(text, AUTH_TENANT_BYTES_MAX, json_string(claim, "")) ||
            !tenant_is_label(text)) {
            return "malformed";
        }
        if (first[0] != '\0' && strcmp(first, text) != 0) {
            return "conflicting";
        }
        strcpy(first, text);
    }
    if (first[0] == '\0') {
        if (!trim_into(first, AUTH_TENANT_BYTES_MAX, subject) || !tenant_is_label(first)) {
            return subject[0] == '\0' ? "missing" : "malformed";
        }
    }
    strcpy(out, first);
    return NULL;
}

static unsigned scope_of(const char *name, size_t bytes)
{
    for (size_t i = 0; i < sizeof SCOPES / sizeof *SCOPES; i++) {
        if (strlen(SCOPES[i].name) == bytes && memcmp(SCOPES[i].name, name, bytes) == 0) {
            return SCOPES[i].scope;
        }
    }
    return AUTH_SCOPE_NONE;
}

static void add_scope(struct principal *principal, const char *name, size_t bytes)
{
    if (bytes > 0) {
        principal->has_scopes = true;
        principal->scopes |= scope_of(name, bytes);
    }
}

static void add_scope_words(struct principal *principal, const char *text)
{
    while (*text != '\0') {
        size_t n = 0;
        while (text[n] != '\0' && !space(text[n])) {
            n++;
        }
        add_scope(principal, text, n);
        text += n + (text[n] != '\0');
    }
}

static int set_event_types(struct principal *principal, const struct json *list, struct err *err)
{
    size_t count = json_count(list);
    if (count > AUTH_EVENT_TYPES_MAX) {
        return err_set(err, -E2BIG, "more than %d event types", AUTH_EVENT_TYPES_MAX);
    }
    if (count == 0) {
        return 0;
    }
    principal->event_types = calloc(count, sizeof *principal->event_types);
    if (principal->event_types == NULL) {
        abort();
    }
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        const char *name = json_string(c, NULL);
        if (name == NULL || strlen(name) > AUTH_EVENT_TYPE_BYTES_MAX) {
            return err_set(err, -EINVAL, "an event type is no string, or too long");
        }
        principal->event_types[principal->event_type_count++] = copy(name);
        principal->every_event_type = principal->every_event_type || strcmp(name, "*") == 0;
    }
    return 0;
}

static void principal_fini(struct principal *principal)
{
    for (size_t i = 0; i < principal->event_type_count; i++) {
        free(principal->event_types[i]);
    }
    free(principal->event_types);
    memset(principal, 0, sizeof *principal);
}

/* claims is a token's payload, or the "raw" of a static provider, where subject, scopes and event
 * types stand beside it. */
static int principal_init(struct principal *out, const struct json *claims, const char *subject,
                          struct err *err)
{
    memset(out, 0, sizeof *out);
    if (!trim_into(out->subject, AUTH_SUBJECT_BYTES_MAX, subject)) {
        return err_set(err, -EINVAL, "subject longer than %d bytes", AUTH_SUBJECT_BYTES_MAX);
    }
    char role[16] = "";
    const char *role_text = json_string(json_get(claims, "role"), "");
    out->has_role = role_text[strspn(role_text, " \t\r\n\v\f")] != '\0';
    out->role_admin = trim_into(role, sizeof role - 1, role_text) && strcasecmp(role, "ADMIN") == 0;
    out->tenant_error = resolve_tenant(claims, out->subject, out->tenant);
    return 0;
}

static int principal_from_claims(struct principal *out, const struct json *claims)
{
    struct principal principal;
    if (principal_init(&principal, claims, json_string(json_get(claims, "sub"), ""), NULL) != 0) {
        return -EINVAL;
    }
    add_scope_words(&principal, json_string(json_get(claims, "scope"), ""));
    const struct json *types = json_get(claims, "eventTypes");
    if (types != NULL &&
        (json_type(types) != JSON_ARRAY || set_event_types(&principal, types, NULL) != 0)) {
        principal_fini(&principal);
        return -EINVAL;
    }
    *out = principal;
    return 0;
}

/* ---- set-up ---- */

static int check_keys(const struct json *object, const char *const *known, struct err *err)
{
    for (const struct json *c = json_first(object); c != NULL; c = json_next(c)) {
        const char *const *k = known;
        while (*k != NULL && strcmp(*k, json_key(c)) != 0) {
            k++;
        }
        if (*k == NULL) {
            return err_set(err, -EINVAL, "unknown member '%.40s'", json_key(c));
        }
    }
    return 0;
}

static int member_type(const struct json *object, const char *name, enum json_type type,
                       struct err *err)
{
    const struct json *member = json_get(object, name);
    if (member != NULL && json_type(member) != type) {
        return err_set(err, -EINVAL, "%s: is a JSON %s: give %s", name,
                       json_type_name(json_type(member)), json_type_name(type));
    }
    return 0;
}

static int static_init(struct auth *auth, struct provider *provider, const struct json *json,
                       struct err *err)
{
    static const char *const known[] = {"token",      "subject", "email", "scopes",
                                        "eventTypes", "raw",     NULL};
    bool bare = json_type(json) == JSON_STRING;
    if (!bare &&
        (check_keys(json, known, err) != 0 || member_type(json, "token", JSON_STRING, err) != 0 ||
         member_type(json, "subject", JSON_STRING, err) != 0 ||
         member_type(json, "email", JSON_STRING, err) != 0 ||
         member_type(json, "scopes", JSON_ARRAY, err) != 0 ||
         member_type(json, "eventTypes", JSON_ARRAY, err) != 0 ||
         member_type(json, "raw", JSON_OBJECT, err) != 0)) {
        return -EINVAL;
    }
    const char *text = bare ? json_string(json, "") : json_string(json_get(json, "token"), "");
    char token[STATIC_TOKEN_BYTES_MAX + 1];
    if (!trim_into(token, STATIC_TOKEN_BYTES_MAX, text) || token[0] == '\0' ||
        strcmp(token, "***") == 0) {
        return err_set(err, -EINVAL, "token: is missing, empty, masked or too long: give one");
    }
    const char *subject = json_string(json_get(json, "subject"), "");
    if (subject[strspn(subject, " \t\r\n\v\f")] == '\0') {
        subject = "static";
    }
    provider->type = PROVIDER_STATIC;
    provider->token = copy(token);
    provider->token_bytes = strlen(token);
    struct principal *principal = &provider->principal;
    if (principal_init(principal, json_get(json, "raw"), subject, err) != 0) {
        return -EINVAL;
    }
    if (principal->tenant_error != NULL) {
        return err_set(err, -EINVAL,
                       "tenant: %s: give raw.tenantId, 2 to 63 of a-z, 0-9 and -, a letter first",
                       principal->tenant_error);
    }
    const struct json *scopes = json_get(json, "scopes");
    for (const struct json *c = scopes != NULL ? json_first(scopes) : NULL; c != NULL;
         c = json_next(c)) {
        if (json_type(c) != JSON_STRING) {
            return err_set(err, -EINVAL, "scopes: holds a JSON %s: give strings",
                           json_type_name(json_type(c)));
        }
        add_scope(principal, json_string(c, ""), strlen(json_string(c, "")));
    }
    const struct json *types = json_get(json, "eventTypes");
    if (types != NULL && set_event_types(principal, types, err) != 0) {
        return err_prefix(err, -EINVAL, "eventTypes");
    }
    unsigned char digest[SHA256_DIGEST_LENGTH];
    digest_token(auth, token, provider->token_bytes, digest);
    hash_text(digest, principal->token_hash);
    return 0;
}

/* Go's time.Duration in JSON is a number of ns; ours is a text with a unit. */
static int duration_member(const struct json *object, const char *name, int64_t fallback_ns,
                           int64_t *out_ns, struct err *err)
{
    const struct json *member = json_get(object, name);
    int64_t ns = fallback_ns;
    if (member != NULL && json_type(member) == JSON_STRING) {
        if (args_duration_ns(json_string(member, ""), &ns, err) != 0) {
            return err_prefix(err, -EINVAL, "%s", name);
        }
    } else if (member != NULL) {
        ns = json_int(member, -1);
    }
    if (ns < 0 || ns > 3600 * NS_PER_SEC) {
        return err_set(err, -EINVAL, "%s: give 0s to 3600s, or that in ns", name);
    }
    *out_ns = ns;
    return 0;
}

static int load_keys_file(struct auth *auth, struct key_source *source, struct err *err)
{
    struct json *json = json_parse_file(source->file, JWT_KEYS_TEXT_BYTES_MAX, err);
    if (json == NULL) {
        return -EINVAL;
    }
    char *text = json_print(json);
    json_free(json);
    struct jwt_keys *keys = jwt_keys_parse(text, strlen(text), err);
    free(text);
    if (keys == NULL) {
        return err_prefix(err, -EINVAL, "%s", source->file);
    }
    jwt_keys_free(source->keys);
    source->keys = keys;
    source->loaded_ns = clock_monotonic_ns(auth->clock);
    return 0;
}

static int jwks_init(struct auth *auth, struct provider *provider, const struct json *json,
                     struct err *err)
{
    static const char *const known[] = {"jwksUrl",   "jwksFile",    "issuer", "audience",
                                        "clockSkew", "httpTimeout", NULL};
    if (json_type(json) != JSON_OBJECT) {
        return err_set(err, -EINVAL, "is a JSON %s: give an object",
                       json_type_name(json_type(json)));
    }
    if (check_keys(json, known, err) != 0 || member_type(json, "jwksUrl", JSON_STRING, err) != 0 ||
        member_type(json, "jwksFile", JSON_STRING, err) != 0 ||
        member_type(json, "issuer", JSON_STRING, err) != 0 ||
        member_type(json, "audience", JSON_STRING, err) != 0) {
        return -EINVAL;
    }
    const char *url = json_string(json_get(json, "jwksUrl"), "");
    const char *file = json_string(json_get(json, "jwksFile"), "");
    const char *issuer = json_string(json_get(json, "issuer"), "");
    const char *audience = json_string(json_get(json, "audience"), "");
    if ((url[0] == '\0') == (file[0] == '\0')) {
        return err_set(err, -EINVAL, "give either jwksUrl or jwksFile");
    }
    if (url[0] != '\0' && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        return err_set(err, -EINVAL, "jwksUrl: is not http:// or https://");
    }
    if (issuer[0] == '\0' || audience[0] == '\0') {
        return err_set(err, -EINVAL, "%s: is missing: a token for somebody else would pass",
                       issuer[0] == '\0' ? "issuer" : "audience");
    }
    assert(auth->source_count < KEYS_MAX);
    struct key_source *source = &auth->sources[auth->source_count++];
    provider->type = PROVIDER_JWKS;
    provider->issuer = copy(issuer);
    provider->audience = copy(audience);
    provider->source = source;
    source->url = url[0] != '\0' ? copy(url) : NULL;
    source->file = file[0] != '\0' ? copy(file) : NULL;
    if (duration_member(json, "clockSkew", auth->skew_default_ns, &provider->skew_ns, err) != 0 ||
        duration_member(json, "httpTimeout", FETCH_TIMEOUT_DEFAULT_NS, &source->timeout_ns, err) !=
            0) {
        return -EINVAL;
    }
    return source->file != NULL ? load_keys_file(auth, source, err) : 0;
}

static int provider_init(struct auth *auth, struct provider *provider, const char *type,
                         const struct json *json, struct err *err)
{
    if (strcmp(type, "static") == 0) {
        return static_init(auth, provider, json, err);
    }
    if (strcmp(type, "jwks") == 0) {
        return jwks_init(auth, provider, json, err);
    }
    return err_set(err, -EINVAL, "provider '%.40s' is none of: static jwks", type);
}

static int multi_init(struct auth *auth, struct validator *validator, const struct json *json,
                      struct err *err)
{
    static const char *const known[] = {"type", "config", NULL};
    const struct json *list = json_get(json, "providers");
    if (list == NULL || json_type(list) != JSON_ARRAY || json_count(list) < 2 ||
        json_count(list) > AUTH_PROVIDERS_MAX) {
        return err_set(err, -EINVAL, "providers: give an array of 2 to %d", AUTH_PROVIDERS_MAX);
    }
    for (const struct json *c = json_first(list); c != NULL; c = json_next(c)) {
        const struct json *inner = json_get(c, "config");
        int code = check_keys(c, known, err);
        if (code == 0 && inner == NULL) {
            code = err_set(err, -EINVAL, "config: is missing");
        }
        if (code == 0) {
            struct provider *provider = &validator->providers[validator->count++];
            code = provider_init(auth, provider, json_string(json_get(c, "type"), ""), inner, err);
        }
        if (code != 0) {
            return err_prefix(err, code, "providers");
        }
    }
    return 0;
}

static int validator_init(struct auth *auth, struct validator *validator, const char *type,
                          const char *text, const char *name, struct err *err)
{
    if (type == NULL) {
        return 0;
    }
    struct json *json = json_parse(text, strlen(text), err);
    int code = json == NULL ? -EINVAL : 0;
    if (code == 0 && strcmp(type, "multi") == 0) {
        code = multi_init(auth, validator, json, err);
    } else if (code == 0) {
        validator->count = 1;
        code = provider_init(auth, &validator->providers[0], type, json, err);
    }
    json_free(json);
    return code == 0 ? 0 : err_prefix(err, code, "%s_auth_config", name);
}

struct auth *auth_new(const struct config *config, struct clock *clock, struct err *err)
{
    static const char development_producer[] =
        "{\"token\":\"" AUTH_DEVELOPMENT_TOKEN "\",\"subject\":\"producer-dev\","
        "\"raw\":{\"role\":\"ADMIN\",\"tenantId\":\"" AUTH_DEVELOPMENT_TENANT "\"}}";
    static const char development_worker[] =
        "{\"token\":\"" AUTH_DEVELOPMENT_TOKEN "\",\"subject\":\"worker-dev\","
        "\"scopes\":[\"codeq:claim\",\"codeq:heartbeat\",\"codeq:abandon\",\"codeq:nack\","
        "\"codeq:result\",\"codeq:subscribe\"],\"eventTypes\":[\"*\"],"
        "\"raw\":{\"tenantId\":\"" AUTH_DEVELOPMENT_TENANT "\"}}";
    struct auth *auth = calloc(1, sizeof *auth);
    if (auth == NULL) {
        abort();
    }
    auth->clock = clock;
    auth->development = strcmp(config->env, "dev") == 0;
    auth->allow_producer_as_worker = config->allow_producer_as_worker;
    auth->skew_default_ns = config->clock_skew_ns;
    auth->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (auth->sha256 == NULL) {
        abort();
    }
    bool dev = config->development_tokens;
    if (validator_init(auth, &auth->producer, dev ? "static" : config->producer_auth_provider,
                       dev ? development_producer : config->producer_auth_config, "producer",
                       err) != 0 ||
        validator_init(auth, &auth->worker, dev ? "static" : config->worker_auth_provider,
                       dev ? development_worker : config->worker_auth_config, "worker", err) != 0) {
        auth_free(auth);
        return NULL;
    }
    return auth;
}

static void validator_fini(struct validator *validator)
{
    for (size_t i = 0; i < validator->count; i++) {
        struct provider *provider = &validator->providers[i];
        if (provider->token != NULL) {
            OPENSSL_cleanse(provider->token, provider->token_bytes);
        }
        free(provider->token);
        free(provider->issuer);
        free(provider->audience);
        principal_fini(&provider->principal);
    }
}

static void forget_tokens(struct auth *auth)
{
    for (size_t i = 0; i < AUTH_CACHE_ENTRIES; i++) {
        if (auth->cache[i].used) {
            principal_fini(&auth->cache[i].principal);
            auth->cache[i].used = false;
        }
    }
}

void auth_free(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    validator_fini(&auth->producer);
    validator_fini(&auth->worker);
    for (size_t i = 0; i < auth->source_count; i++) {
        free(auth->sources[i].url);
        free(auth->sources[i].file);
        jwt_keys_free(auth->sources[i].keys);
    }
    forget_tokens(auth);
    EVP_MD_free(auth->sha256);
    free(auth);
}

/* ---- keys ---- */

static bool may_try(const struct auth *auth, const struct key_source *source)
{
    return !source->tried ||
           clock_monotonic_ns(auth->clock) - source->tried_ns >= AUTH_KEYS_RETRY_NS;
}

/* Keys that are too old are no keys: a withdrawn one must not live for ever on a dead line. */
static struct jwt_keys *usable_keys(const struct auth *auth, const struct key_source *source)
{
    if (source->url != NULL &&
        clock_monotonic_ns(auth->clock) - source->loaded_ns > AUTH_KEYS_STALE_MAX_NS) {
        return NULL;
    }
    return source->keys;
}

bool auth_fetch_next(struct auth *auth, struct auth_fetch *out)
{
    int64_t now_ns = clock_monotonic_ns(auth->clock);
    for (size_t i = 0; i < auth->source_count; i++) {
        struct key_source *source = &auth->sources[i];
        bool stale = source->keys == NULL || now_ns - source->loaded_ns >= AUTH_KEYS_REFRESH_NS;
        if (source->fetching || !(stale || source->wanted) || !may_try(auth, source)) {
            continue;
        }
        source->tried = true;
        source->tried_ns = now_ns;
        source->wanted = false;
        if (source->file != NULL) {
            if (load_keys_file(auth, source, NULL) == 0) {
                forget_tokens(auth);
            }
            continue;
        }
        source->fetching = true;
        *out = (struct auth_fetch){i, source->url, source->timeout_ns};
        return true;
    }
    return false;
}

int auth_fetch_done(struct auth *auth, size_t number, const char *text, size_t bytes,
                    struct err *err)
{
    assert(number < auth->source_count);
    struct key_source *source = &auth->sources[number];
    source->fetching = false;
    if (text == NULL) {
        return 0;
    }
    struct jwt_keys *keys = jwt_keys_parse(text, bytes, err);
    if (keys == NULL) {
        return err_prefix(err, -EINVAL, "%s", source->url);
    }
    jwt_keys_free(source->keys);
    source->keys = keys;
    source->loaded_ns = clock_monotonic_ns(auth->clock);
    forget_tokens(auth); /* a key may have been withdrawn */
    return 0;
}

int64_t auth_fetch_due_ns(const struct auth *auth)
{
    int64_t due_ns = INT64_MAX;
    for (size_t i = 0; i < auth->source_count; i++) {
        const struct key_source *source = &auth->sources[i];
        if (source->fetching) {
            continue;
        }
        int64_t one_ns = source->keys == NULL || source->wanted
                             ? INT64_MIN
                             : source->loaded_ns + AUTH_KEYS_REFRESH_NS;
        if (source->tried && one_ns < source->tried_ns + AUTH_KEYS_RETRY_NS) {
            one_ns = source->tried_ns + AUTH_KEYS_RETRY_NS;
        }
        due_ns = one_ns < due_ns ? one_ns : due_ns;
    }
    return due_ns;
}

/* ---- judging ---- */

struct judged {
    const struct principal *principal; /* NULL: refused */
    const char *error;
    bool keys_missing; /* another try may pass once keys have come */
};

static struct cache_entry *cache_slot(struct auth *auth, const struct provider *provider,
                                      const unsigned char *digest)
{
    size_t n = 0;
    memcpy(&n, digest, sizeof n);
    return &auth->cache[(n ^ (uintptr_t)provider >> 6) % AUTH_CACHE_ENTRIES];
}

static struct judged judge_jwt(struct auth *auth, const struct provider *provider,
                               const char *token, size_t bytes)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    digest_token(auth, token, bytes, digest);
    struct cache_entry *entry = cache_slot(auth, provider, digest);
    int64_t wall_ns = clock_wall_ns(auth->clock);
    struct key_source *source = provider->source;
    const struct jwt_keys *keys = usable_keys(auth, source);
    if (keys != NULL && entry->used && entry->provider == provider &&
        memcmp(entry->digest, digest, sizeof digest) == 0 && wall_ns < entry->expires_wall_ns) {
        return (struct judged){&entry->principal, NULL, false};
    }
    struct jwt_rules rules = {provider->issuer, provider->audience, provider->skew_ns};
    struct json *claims = NULL;
    enum jwt_verdict verdict = jwt_verify(keys, &rules, token, bytes, wall_ns, &claims);
    if (verdict == JWT_UNKNOWN_KEY) {
        bool coming = source->fetching || may_try(auth, source);
        source->wanted = source->wanted || may_try(auth, source);
        return (struct judged){NULL, jwt_verdict_text(verdict), coming};
    }
    if (verdict != JWT_OK) {
        return (struct judged){NULL, jwt_verdict_text(verdict), false};
    }
    struct principal principal;
    double expires = json_number(json_get(claims, "exp"), 0);
    int code = principal_from_claims(&principal, claims);
    json_free(claims);
    if (code != 0) {
        return (struct judged){NULL, jwt_verdict_text(JWT_MALFORMED), false};
    }
    hash_text(digest, principal.token_hash);
    if (entry->used) {
        principal_fini(&entry->principal);
    }
    *entry = (struct cache_entry){.used = true,
                                  .provider = provider,
                                  .expires_wall_ns =
                                      (int64_t)(expires * (double)NS_PER_SEC) + provider->skew_ns,
                                  .principal = principal};
    memcpy(entry->digest, digest, sizeof digest);
    return (struct judged){&entry->principal, NULL, false};
}

static struct judged judge(struct auth *auth, const struct validator *validator, const char *token,
                           size_t bytes)
{
    struct judged last = {NULL, "invalid token", false};
    bool keys_missing = false;
    for (size_t i = 0; i < validator->count; i++) {
        const struct provider *provider = &validator->providers[i];
        if (provider->type == PROVIDER_JWKS) {
            struct judged judged = judge_jwt(auth, provider, token, bytes);
            if (judged.principal != NULL) {
                return judged;
            }
            keys_missing = keys_missing || judged.keys_missing;
            last.error = judged.error;
        } else if (bytes == provider->token_bytes &&
                   CRYPTO_memcmp(token, provider->token, bytes) == 0) {
            /* Only the length of the configured token can be learnt from the time this takes. */
            return (struct judged){&provider->principal, NULL, false};
        }
    }
    last.keys_missing = keys_missing;
    return last;
}

static void refuse(struct auth_verdict *out, int status, const char *error)
{
    out->status = status;
    out->error = error;
}

static void refuse_token(struct auth_verdict *out, const struct judged *judged)
{
    if (judged->keys_missing) {
        refuse(out, 503, "signing keys are being fetched");
        out->retry_after_seconds = 1;
    } else {
        refuse(out, 401, judged->error);
    }
}

static void accept(struct auth_verdict *out, const struct principal *principal, bool worker)
{
    if (principal->tenant_error != NULL) {
        refuse(out, 403, "invalid tenant claims");
        return;
    }
    out->status = 200;
    out->identity = (struct identity){
        .tenant = principal->tenant,
        .subject = principal->subject,
        .scopes = principal->scopes,
        .worker = worker,
        .every_event_type = principal->every_event_type,
        .event_types = (const char *const *)principal->event_types,
        .event_type_count = principal->event_type_count,
        .token_hash = principal->token_hash,
    };
}

static void check_producer(struct auth *auth, const char *token, size_t bytes, const char *role,
                           struct auth_verdict *out)
{
    struct judged judged = judge(auth, &auth->producer, token, bytes);
    const struct principal *principal = judged.principal;
    if (principal == NULL) {
        refuse_token(out, &judged);
        return;
    }
    accept(out, principal, false);
    out->identity.admin = (principal->scopes & AUTH_SCOPE_ADMIN) != 0 || principal->role_admin ||
                          (auth->development && !principal->has_role && role != NULL &&
                           strcasecmp(role, "ADMIN") == 0);
}

static void check_worker(struct auth *auth, unsigned scopes, const char *token, size_t bytes,
                         struct auth_verdict *out)
{
    if (auth->worker.count == 0) {
        refuse(out, 500, "worker validator not configured");
        return;
    }
    struct judged judged = judge(auth, &auth->worker, token, bytes);
    if (judged.principal != NULL && judged.principal->event_type_count == 0) {
        judged = (struct judged){NULL, "missing eventTypes", false};
    } else if (judged.principal != NULL && !judged.principal->has_scopes) {
        judged = (struct judged){NULL, "missing scope", false};
    }
    if (judged.principal != NULL) {
        accept(out, judged.principal, true);
    } else if (auth->allow_producer_as_worker && auth->producer.count > 0) {
        struct judged producer = judge(auth, &auth->producer, token, bytes);
        if (producer.principal == NULL) {
            judged.keys_missing = judged.keys_missing || producer.keys_missing;
            refuse_token(out, &judged);
            return;
        }
        accept(out, producer.principal, true);
        out->identity.scopes = WORKER_SCOPES;
        out->identity.every_event_type = true;
        out->identity.event_types = NULL;
        out->identity.event_type_count = 0;
    } else {
        refuse_token(out, &judged);
        return;
    }
    if (out->status == 200 && (out->identity.scopes & scopes) != scopes) {
        refuse(out, 403, "missing scope");
    }
}

static void check_any(struct auth *auth, const char *token, size_t bytes, struct auth_verdict *out)
{
    struct judged worker = judge(auth, &auth->worker, token, bytes);
    if (worker.principal != NULL && worker.principal->event_type_count > 0) {
        accept(out, worker.principal, true);
        return;
    }
    struct judged producer = judge(auth, &auth->producer, token, bytes);
    if (producer.principal != NULL) {
        accept(out, producer.principal, false);
        return;
    }
    producer.keys_missing = producer.keys_missing || worker.keys_missing;
    producer.error = "invalid token";
    refuse_token(out, &producer);
}

/* "Bearer TOKEN", the scheme in any case. False when it has another form. */
static bool bearer(const char *header, size_t bytes, const char **out_token, size_t *out_bytes)
{
    if (bytes < 7 || strncasecmp(header, "Bearer ", 7) != 0) {
        return false;
    }
    const char *token = header + 7;
    const char *end = header + bytes;
    while (token < end && space(*token)) {
        token++;
    }
    while (end > token && space(end[-1])) {
        end--;
    }
    *out_token = token;
    *out_bytes = (size_t)(end - token);
    return true;
}

void auth_check(struct auth *auth, enum auth_class class, unsigned scopes,
                const char *authorization, size_t authorization_bytes, const char *role,
                struct auth_verdict *out)
{
    const char *token = NULL;
    size_t bytes = 0;
    memset(out, 0, sizeof *out);
    if (class == AUTH_PUBLIC) {
        out->status = 200;
        return;
    }
    if (authorization == NULL || authorization_bytes == 0) {
        refuse(out, 401, class == AUTH_ANY ? "invalid token" : "missing Authorization header");
        return;
    }
    if (authorization_bytes > AUTH_HEADER_BYTES_MAX ||
        !bearer(authorization, authorization_bytes, &token, &bytes)) {
        refuse(out, 401, class == AUTH_ANY ? "invalid token" : "invalid Authorization format");
        return;
    }
    switch (class) {
    case AUTH_PUBLIC:
        break;
    case AUTH_PRODUCER:
    case AUTH_ADMIN:
        if (auth->producer.count == 0) {
            refuse(out, 500, "producer validator not configured");
            return;
        }
        check_producer(auth, token, bytes, role, out);
        if (class == AUTH_ADMIN && out->status == 200 && !out->identity.admin) {
            refuse(out, 401, "unauthorized. Admin only");
        }
        break;
    case AUTH_WORKER:
        check_worker(auth, scopes, token, bytes, out);
        break;
    case AUTH_ANY:
        check_any(auth, token, bytes, out);
        break;
    }
}

bool identity_allows(const struct identity *identity, const char *command)
{
    if (identity->every_event_type) {
        return true;
    }
    for (size_t i = 0; i < identity->event_type_count; i++) {
        if (strcmp(identity->event_types[i], command) == 0) {
            return true;
        }
    }
    return false;
}
