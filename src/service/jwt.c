#include "service/jwt.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "base/clock.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define ES256_SIGNATURE_BYTES 64
#define P256_COORDINATE_BYTES 32

enum key_algorithm { KEY_RS256, KEY_ES256 };

struct key {
    char *kid;
    enum key_algorithm algorithm;
    EVP_PKEY *pkey;
};

struct jwt_keys {
    size_t count;
    struct key keys[JWT_KEYS_MAX];
};

static int base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int64_t jwt_base64url_decode(const char *text, size_t bytes, unsigned char *out)
{
    if (bytes % 4 == 1) {
        return -EINVAL;
    }
    size_t n = 0;
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < bytes; i++) {
        int digit = base64url_digit(text[i]);
        if (digit < 0) {
            return -EINVAL;
        }
        bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (unsigned char)(bits >> held & 0xff);
        }
    }
    /* Two texts for one value would be two tokens with one signature. */
    if ((bits & ((UINT32_C(1) << held) - 1)) != 0) {
        return -EINVAL;
    }
    return (int64_t)n;
}

/* The base64url member `name` of a JWK as a big number; NULL when absent or malformed. */
static BIGNUM *jwk_number(const struct json *jwk, const char *name, size_t bytes_exact)
{
    const char *text = json_string(json_get(jwk, name), NULL);
    unsigned char raw[RSA_BITS_MAX / 8 + 1];
    if (text == NULL || strlen(text) > sizeof raw * 4 / 3) {
        return NULL;
    }
    int64_t n = jwt_base64url_decode(text, strlen(text), raw);
    if (n <= 0 || (bytes_exact != 0 && (size_t)n != bytes_exact)) {
        return NULL;
    }
    return BN_bin2bn(raw, (int)n, NULL);
}

static EVP_PKEY *pkey_from(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (context == NULL || EVP_PKEY_fromdata_init(context) <= 0 ||
        EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, params) <= 0) {
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return pkey;
}

static EVP_PKEY *rsa_from_jwk(const struct json *jwk)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *n = jwk_number(jwk, "n", 0);
    BIGNUM *e = jwk_number(jwk, "e", 0);
    if (build == NULL || n == NULL || e == NULL) {
        goto out;
    }
    /* A modulus far above what anybody uses makes each check slow; a tiny exponent is a forgery. */
    if (BN_num_bits(n) < RSA_BITS_MIN || BN_num_bits(n) > RSA_BITS_MAX || !BN_is_odd(n) ||
        !BN_is_odd(e) || BN_num_bits(e) < 2 || BN_num_bits(e) > 32) {
        goto out;
    }
    if (!OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) ||
        !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) ||
        (params = OSSL_PARAM_BLD_to_param(build)) == NULL) {
        goto out;
    }
    pkey = pkey_from("RSA", params);
out:
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return pkey;
}

static EVP_PKEY *p256_from_jwk(const struct json *jwk)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *x = jwk_number(jwk, "x", P256_COORDINATE_BYTES);
    BIGNUM *y = jwk_number(jwk, "y", P256_COORDINATE_BYTES);
    unsigned char point[1 + 2 * P256_COORDINATE_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    if (build == NULL || x == NULL || y == NULL) {
        goto out;
    }
    if (BN_bn2binpad(x, point + 1, P256_COORDINATE_BYTES) < 0 ||
        BN_bn2binpad(y, point + 1 + P256_COORDINATE_BYTES, P256_COORDINATE_BYTES) < 0 ||
        !OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) ||
        !OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) ||
        (params = OSSL_PARAM_BLD_to_param(build)) == NULL) {
        goto out;
    }
    pkey = pkey_from("EC", params); /* refuses a point that is not on the curve */
out:
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(x);
    BN_free(y);
    return pkey;
}

static bool is(const struct json *object, const char *name, const char *value)
{
    return strcmp(json_string(json_get(object, name), ""), value) == 0;
}

static bool is_or_absent(const struct json *object, const char *name, const char *value)
{
    return json_get(object, name) == NULL || is(object, name, value);
}

struct jwt_keys *jwt_keys_parse(const char *text, size_t bytes, struct err *err)
{
    if (bytes > JWT_KEYS_TEXT_BYTES_MAX) {
        err_set(err, -EFBIG, "key set larger than %d bytes", JWT_KEYS_TEXT_BYTES_MAX);
        return NULL;
    }
    struct json *json = json_parse(text, bytes, err);
    if (json == NULL) {
        return NULL;
    }
    struct jwt_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL) {
        abort();
    }
    const struct json *list = json_get(json, "keys");
    if (list == NULL || json_type(list) != JSON_ARRAY) {
        err_set(err, -EINVAL, "no array 'keys': give a JSON Web Key Set");
        goto refuse;
    }
    if (json_count(list) > JWT_KEYS_MAX) {
        err_set(err, -E2BIG, "more than %d keys", JWT_KEYS_MAX);
        goto refuse;
    }
    for (const struct json *jwk = json_first(list); jwk != NULL; jwk = json_next(jwk)) {
        const char *kid = json_string(json_get(jwk, "kid"), "");
        bool rsa = is(jwk, "kty", "RSA") && is_or_absent(jwk, "alg", "RS256");
        bool p256 =
            is(jwk, "kty", "EC") && is(jwk, "crv", "P-256") && is_or_absent(jwk, "alg", "ES256");
        if ((!rsa && !p256) || !is_or_absent(jwk, "use", "sig") || kid[0] == '\0' ||
            strlen(kid) > JWT_KID_BYTES_MAX) {
            continue;
        }
        EVP_PKEY *pkey = rsa ? rsa_from_jwk(jwk) : p256_from_jwk(jwk);
        if (pkey == NULL) {
            ERR_clear_error();
            err_set(err, -EINVAL, "key '%.64s' is not a sound %s key", kid,
                    rsa ? "RSA (2048 to 8192 bits)" : "P-256");
            goto refuse;
        }
        for (size_t i = 0; i < keys->count; i++) {
            if (strcmp(keys->keys[i].kid, kid) == 0) {
                err_set(err, -EINVAL, "kid '%.64s' stands twice", kid);
                EVP_PKEY_free(pkey);
                goto refuse;
            }
        }
        struct key *key = &keys->keys[keys->count++];
        *key = (struct key){strdup(kid), rsa ? KEY_RS256 : KEY_ES256, pkey};
        if (key->kid == NULL) {
            abort();
        }
    }
    if (keys->count == 0) {
        err_set(err, -EINVAL, "no RSA or P-256 signing key with a kid in the key set");
        goto refuse;
    }
    json_free(json);
    return keys;
refuse:
    jwt_keys_free(keys);
    json_free(json);
    return NULL;
}

void jwt_keys_free(struct jwt_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        free(keys->keys[i].kid);
        EVP_PKEY_free(keys->keys[i].pkey);
    }
    free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys)
{
    return keys != NULL ? keys->count : 0;
}

const char *jwt_verdict_text(enum jwt_verdict verdict)
{
    switch (verdict) {
    case JWT_OK:
        return "valid";
    case JWT_MALFORMED:
        return "malformed token";
    case JWT_ALGORITHM:
        return "unexpected signing method";
    case JWT_UNKNOWN_KEY:
        return "unknown signing key";
    case JWT_SIGNATURE:
        return "invalid signature";
    case JWT_EXPIRED:
        return "token expired";
    case JWT_NOT_YET_VALID:
        return "token not yet valid";
    case JWT_ISSUER:
        return "invalid issuer";
    case JWT_AUDIENCE:
        return "invalid audience";
    }
    return "?";
}

/* One base64url part as a JSON object; NULL when it is anything else. */
static struct json *part_object(const char *text, size_t bytes)
{
    unsigned char raw[JWT_TOKEN_BYTES_MAX];
    int64_t n = jwt_base64url_decode(text, bytes, raw);
    if (n < 0) {
        return NULL;
    }
    struct json *json = json_parse((const char *)raw, (size_t)n, NULL);
    if (json != NULL && json_type(json) != JSON_OBJECT) {
        json_free(json);
        return NULL;
    }
    return json;
}

/* r and s side by side (JOSE) to the DER that OpenSSL reads; the caller frees it with
 * OPENSSL_free. -1 when it is not 64 bytes. Source: RFC 7518 section 3.4. */
static int der_signature(const unsigned char *raw, size_t bytes, unsigned char **out)
{
    if (bytes != ES256_SIGNATURE_BYTES) {
        return -1;
    }
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, ES256_SIGNATURE_BYTES / 2, NULL);
    BIGNUM *s = BN_bin2bn(raw + ES256_SIGNATURE_BYTES / 2, ES256_SIGNATURE_BYTES / 2, NULL);
    if (sig == NULL || r == NULL || s == NULL || !ECDSA_SIG_set0(sig, r, s)) {
        abort();
    }
    *out = NULL;
    int n = i2d_ECDSA_SIG(sig, out);
    ECDSA_SIG_free(sig);
    return n;
}

static bool signature_holds(const struct key *key, const char *signed_text, size_t signed_bytes,
                            const unsigned char *signature, size_t signature_bytes)
{
    unsigned char *der = NULL;
    if (key->algorithm == KEY_ES256) {
        int n = der_signature(signature, signature_bytes, &der);
        if (n <= 0) {
            return false;
        }
        signature = der;
        signature_bytes = (size_t)n;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL) {
        abort();
    }
    /* RS256 is PKCS #1 v1.5, which is OpenSSL's default padding for an RSA key here. */
    bool ok = EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
              EVP_DigestVerify(context, signature, signature_bytes,
                               (const unsigned char *)signed_text, signed_bytes) == 1;
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    ERR_clear_error(); /* the queue is the thread's: libcurl reads it too */
    return ok;
}

/* A NumericDate claim in ns. 0: there; 1: absent; -1: not a number that a clock can show. */
static int date_claim(const struct json *claims, const char *name, int64_t *out_ns)
{
    const struct json *value = json_get(claims, name);
    if (value == NULL) {
        return 1;
    }
    double seconds = json_number(value, NAN);
    if (!(seconds >= 0 && seconds <= 9e9)) {
        return -1;
    }
    *out_ns = (int64_t)(seconds * (double)NS_PER_SEC);
    return 0;
}

static enum jwt_verdict check_times(const struct json *claims, const struct jwt_rules *rules,
                                    int64_t wall_ns)
{
    int64_t expires_ns = 0;
    int64_t not_before_ns = 0;
    int64_t issued_ns = 0;
    int has_not_before = date_claim(claims, "nbf", &not_before_ns);
    if (date_claim(claims, "exp", &expires_ns) != 0 || has_not_before < 0 ||
        date_claim(claims, "iat", &issued_ns) < 0) {
        return JWT_MALFORMED;
    }
    if (wall_ns >= expires_ns + rules->skew_ns) {
        return JWT_EXPIRED;
    }
    if (has_not_before == 0 && wall_ns < not_before_ns - rules->skew_ns) {
        return JWT_NOT_YET_VALID;
    }
    return JWT_OK;
}

static enum jwt_verdict check_audience(const struct json *claims, const char *audience)
{
    const struct json *aud = json_get(claims, "aud");
    if (aud == NULL) {
        return JWT_AUDIENCE;
    }
    if (json_type(aud) == JSON_STRING) {
        return strcmp(json_string(aud, ""), audience) == 0 ? JWT_OK : JWT_AUDIENCE;
    }
    if (json_type(aud) != JSON_ARRAY) {
        return JWT_MALFORMED;
    }
    enum jwt_verdict verdict = JWT_AUDIENCE;
    for (const struct json *one = json_first(aud); one != NULL; one = json_next(one)) {
        if (json_type(one) != JSON_STRING) {
            return JWT_MALFORMED;
        }
        if (strcmp(json_string(one, ""), audience) == 0) {
            verdict = JWT_OK;
        }
    }
    return verdict;
}

static enum jwt_verdict check_header(const struct jwt_keys *keys, const struct json *header,
                                     const struct key **out_key)
{
    const struct json *kid = json_get(header, "kid");
    const char *kid_text = json_string(kid, "");
    bool rs256 = is(header, "alg", "RS256");
    if (!rs256 && !is(header, "alg", "ES256")) {
        return JWT_ALGORITHM;
    }
    /* Nothing critical is understood here, b64=false included. */
    if (json_get(header, "crit") != NULL || kid_text[0] == '\0') {
        return JWT_MALFORMED;
    }
    for (size_t i = 0; i < jwt_keys_count(keys); i++) {
        const struct key *key = &keys->keys[i];
        if (strcmp(key->kid, kid_text) == 0) {
            if (key->algorithm != (rs256 ? KEY_RS256 : KEY_ES256)) {
                return JWT_ALGORITHM;
            }
            *out_key = key;
            return JWT_OK;
        }
    }
    return JWT_UNKNOWN_KEY;
}

enum jwt_verdict jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules,
                            const char *token, size_t bytes, int64_t wall_ns,
                            struct json **out_claims)
{
    assert(rules->issuer != NULL);
    assert(rules->audience != NULL);
    if (bytes > JWT_TOKEN_BYTES_MAX) {
        return JWT_MALFORMED;
    }
    const char *end = token + bytes;
    const char *dot = memchr(token, '.', bytes);
    const char *dot2 = dot != NULL ? memchr(dot + 1, '.', (size_t)(end - dot - 1)) : NULL;
    if (dot2 == NULL || memchr(dot2 + 1, '.', (size_t)(end - dot2 - 1)) != NULL) {
        return JWT_MALFORMED;
    }
    struct json *header = part_object(token, (size_t)(dot - token));
    if (header == NULL) {
        return JWT_MALFORMED;
    }
    const struct key *key = NULL;
    enum jwt_verdict verdict = check_header(keys, header, &key);
    json_free(header);
    if (verdict != JWT_OK) {
        return verdict;
    }
    unsigned char signature[JWT_TOKEN_BYTES_MAX];
    int64_t n = jwt_base64url_decode(dot2 + 1, (size_t)(end - dot2 - 1), signature);
    if (n <= 0) {
        return JWT_MALFORMED;
    }
    if (!signature_holds(key, token, (size_t)(dot2 - token), signature, (size_t)n)) {
        return JWT_SIGNATURE;
    }
    /* Only now is the middle part worth a parser's work. */
    struct json *claims = part_object(dot + 1, (size_t)(dot2 - dot - 1));
    if (claims == NULL) {
        return JWT_MALFORMED;
    }
    verdict = check_times(claims, rules, wall_ns);
    if (verdict == JWT_OK && !is(claims, "iss", rules->issuer)) {
        verdict = JWT_ISSUER;
    }
    if (verdict == JWT_OK) {
        verdict = check_audience(claims, rules->audience);
    }
    if (verdict != JWT_OK) {
        json_free(claims);
        return verdict;
    }
    *out_claims = claims;
    return JWT_OK;
}
