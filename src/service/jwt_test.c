#include "base/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/rng.h"
#include "service/jwt.h"
#include "service/jwt_fixture.h"

#define NOW_SEC INT64_C(1800000000)
#define NOW_NS (NOW_SEC * NS_PER_SEC)

#define RS_HEADER "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"rsa-1\"}"
#define ES_HEADER "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"ec-1\"}"
#define CLAIMS "{\"iss\":\"https://id\",\"aud\":\"codeq\",\"sub\":\"w1\",\"exp\":1800000060}"

static const struct jwt_rules RULES = {"https://id", "codeq", 5 * NS_PER_SEC};

struct world {
    EVP_PKEY *rsa;
    EVP_PKEY *ec;
    char *rsa_jwk;
    char *ec_jwk;
    struct jwt_keys *keys;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rsa = fixture_rsa(0);
    w->ec = fixture_p256();
    w->rsa_jwk = fixture_jwk(w->rsa, "rsa-1");
    w->ec_jwk = fixture_jwk(w->ec, "ec-1");
    char *set = fixture_jwks(w->rsa_jwk, w->ec_jwk);
    struct err err = {""};
    w->keys = jwt_keys_parse(set, strlen(set), &err);
    if (w->keys == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    free(set);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    jwt_keys_free(w->keys);
    EVP_PKEY_free(w->rsa);
    EVP_PKEY_free(w->ec);
    free(w->rsa_jwk);
    free(w->ec_jwk);
    free(w);
    return 0;
}

static enum jwt_verdict verdict_of(const struct world *w, const char *token)
{
    struct json *claims = NULL;
    enum jwt_verdict verdict = jwt_verify(w->keys, &RULES, token, strlen(token), NOW_NS, &claims);
    assert_int_equal(claims != NULL, verdict == JWT_OK);
    json_free(claims);
    return verdict;
}

static enum jwt_verdict verdict_of_claims(const struct world *w, const char *claims)
{
    char *token = fixture_token(w->rsa, RS_HEADER, claims);
    enum jwt_verdict verdict = verdict_of(w, token);
    free(token);
    return verdict;
}

static enum jwt_verdict verdict_of_header(const struct world *w, EVP_PKEY *pkey, const char *header)
{
    char *token = fixture_token(pkey, header, CLAIMS);
    enum jwt_verdict verdict = verdict_of(w, token);
    free(token);
    return verdict;
}

static void good_tokens_of_both_algorithms_pass(void **state)
{
    struct world *w = *state;
    assert_int_equal(jwt_keys_count(w->keys), 2);
    char *token = fixture_token(w->rsa, RS_HEADER, CLAIMS);
    struct json *claims = NULL;
    assert_int_equal(jwt_verify(w->keys, &RULES, token, strlen(token), NOW_NS, &claims), JWT_OK);
    assert_string_equal(json_string(json_get(claims, "sub"), ""), "w1");
    json_free(claims);
    free(token);
    assert_int_equal(verdict_of_header(w, w->ec, ES_HEADER), JWT_OK);
}

static void a_verifier_is_not_fooled_by_the_algorithm_field(void **state)
{
    struct world *w = *state;
    char *none = fixture_token(w->rsa, "{\"alg\":\"none\",\"kid\":\"rsa-1\"}", CLAIMS);
    assert_int_equal(verdict_of(w, none), JWT_ALGORITHM);
    strrchr(none, '.')[1] = '\0'; /* with the empty signature that "none" has */
    assert_int_equal(verdict_of(w, none), JWT_ALGORITHM);
    free(none);
    static const char *const spellings[] = {"None",  "NONE",  "nOnE",  "rs256", "RS384", "RS512",
                                            "PS256", "ES384", "EdDSA", "",      "RS256 "};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        char header[96];
        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"rsa-1\"}", spellings[i]);
        assert_int_equal(verdict_of_header(w, w->rsa, header), JWT_ALGORITHM);
        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"kid\":\"ec-1\"}", spellings[i]);
        assert_int_equal(verdict_of_header(w, w->ec, header), JWT_ALGORITHM);
    }
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"kid\":\"rsa-1\"}"), JWT_ALGORITHM);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":7,\"kid\":\"rsa-1\"}"), JWT_ALGORITHM);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":[\"RS256\"],\"kid\":\"rsa-1\"}"),
                     JWT_ALGORITHM);
}

static void an_hmac_keyed_with_the_public_key_is_refused(void **state)
{
    struct world *w = *state;
    char *pem = fixture_pem(w->rsa);
    const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"rsa-1\"}", RS_HEADER};
    const enum jwt_verdict expected[] = {JWT_ALGORITHM, JWT_SIGNATURE};
    for (size_t i = 0; i < 2; i++) {
        char *token = fixture_token_hs256(pem, strlen(pem), headers[i], CLAIMS);
        assert_int_equal(verdict_of(w, token), expected[i]);
        free(token);
        token = fixture_token_hs256(w->rsa_jwk, strlen(w->rsa_jwk), headers[i], CLAIMS);
        assert_int_equal(verdict_of(w, token), expected[i]);
        free(token);
    }
    free(pem);
}

static void an_algorithm_must_fit_the_type_of_its_key(void **state)
{
    struct world *w = *state;
    assert_int_equal(verdict_of_header(w, w->ec, "{\"alg\":\"RS256\",\"kid\":\"ec-1\"}"),
                     JWT_ALGORITHM);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":\"ES256\",\"kid\":\"rsa-1\"}"),
                     JWT_ALGORITHM);
    assert_int_equal(verdict_of_header(w, w->ec, RS_HEADER), JWT_SIGNATURE);
    assert_int_equal(verdict_of_header(w, w->rsa, ES_HEADER), JWT_SIGNATURE);
}

static void the_key_is_chosen_by_kid_and_never_guessed(void **state)
{
    struct world *w = *state;
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa-2\"}"),
                     JWT_UNKNOWN_KEY);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":\"RS256\"}"), JWT_MALFORMED);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":\"RS256\",\"kid\":\"\"}"),
                     JWT_MALFORMED);
    assert_int_equal(verdict_of_header(w, w->rsa, "{\"alg\":\"RS256\",\"kid\":1}"), JWT_MALFORMED);
    /* Keys that the token brings along are not looked at. */
    EVP_PKEY *other = fixture_rsa(1);
    char *jwk = fixture_jwk(other, "rsa-1");
    struct buf header = BUF_INIT;
    buf_printf(&header, "{\"alg\":\"RS256\",\"kid\":\"rsa-1\",\"jwk\":%s,\"jku\":\"http://x/\"}",
               jwk);
    assert_int_equal(verdict_of_header(w, other, header.data), JWT_SIGNATURE);
    buf_fini(&header);
    free(jwk);
    EVP_PKEY_free(other);
}

static void critical_extensions_are_not_ignored(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        verdict_of_header(w, w->rsa,
                          "{\"alg\":\"RS256\",\"kid\":\"rsa-1\",\"crit\":[\"b64\"],\"b64\":false}"),
        JWT_MALFORMED);
}

static void a_changed_byte_anywhere_is_noticed(void **state)
{
    struct world *w = *state;
    char *token = fixture_token(w->ec, ES_HEADER, CLAIMS);
    size_t bytes = strlen(token);
    for (size_t i = 0; i < bytes; i++) {
        char old = token[i];
        token[i] = old == 'A' ? 'B' : 'A';
        assert_int_not_equal(verdict_of(w, token), JWT_OK);
        token[i] = '=';
        assert_int_not_equal(verdict_of(w, token), JWT_OK);
        token[i] = old;
    }
    assert_int_equal(verdict_of(w, token), JWT_OK);
    free(token);
}

static void a_truncated_or_lengthened_token_is_refused(void **state)
{
    struct world *w = *state;
    char *token = fixture_token(w->rsa, RS_HEADER, CLAIMS);
    for (size_t n = strlen(token); n-- > 0;) {
        struct json *claims = NULL;
        assert_int_not_equal(jwt_verify(w->keys, &RULES, token, n, NOW_NS, &claims), JWT_OK);
        assert_null(claims);
    }
    static const char *const tails[] = {".", ".e30", "=", "AA", " ", "\n"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        struct buf longer = BUF_INIT;
        buf_printf(&longer, "%s%s", token, tails[i]);
        assert_int_not_equal(verdict_of(w, longer.data), JWT_OK);
        buf_fini(&longer);
    }
    free(token);
    static const char *const shapes[] = {
        "", ".", "..", "...", "a", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30", "\xff.\xff.\xff"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        assert_int_not_equal(verdict_of(w, shapes[i]), JWT_OK);
    }
}

static void an_oversized_token_is_refused_before_it_is_read(void **state)
{
    struct world *w = *state;
    struct buf claims = BUF_INIT;
    buf_puts(&claims, "{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1800000060,\"pad\":\"");
    while (claims.bytes < 5500) {
        buf_puts(&claims, "x");
    }
    size_t fits = claims.bytes;
    buf_puts(&claims, "\"}");
    assert_int_equal(verdict_of_claims(w, claims.data), JWT_OK);
    claims.bytes = fits;
    while (claims.bytes < 6500) {
        buf_puts(&claims, "x");
    }
    buf_puts(&claims, "\"}");
    assert_int_equal(verdict_of_claims(w, claims.data), JWT_MALFORMED);
    buf_fini(&claims);
}

static void duplicate_members_are_refused(void **state)
{
    struct world *w = *state;
    assert_int_equal(verdict_of_claims(w, "{\"iss\":\"https://id\",\"aud\":\"codeq\",\"sub\":\"a\","
                                          "\"sub\":\"b\",\"exp\":1800000060}"),
                     JWT_MALFORMED);
    assert_int_equal(
        verdict_of_header(w, w->rsa, "{\"alg\":\"none\",\"alg\":\"RS256\",\"kid\":\"rsa-1\"}"),
        JWT_MALFORMED);
}

static void claims_of_a_wrong_type_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *claims;
        enum jwt_verdict expected;
    } cases[] = {
        {"[]", JWT_MALFORMED},
        {"\"text\"", JWT_MALFORMED},
        {"null", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\"}", JWT_MALFORMED}, /* no exp */
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":\"1800000060\"}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":true}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":null}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":-1}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1e300}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1800000060,\"nbf\":\"0\"}",
         JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1800000060,\"iat\":[]}", JWT_MALFORMED},
        {"{\"iss\":[\"https://id\"],\"aud\":\"codeq\",\"exp\":1800000060}", JWT_ISSUER},
        {"{\"aud\":\"codeq\",\"exp\":1800000060}", JWT_ISSUER},
        {"{\"iss\":\"https://id/\",\"aud\":\"codeq\",\"exp\":1800000060}", JWT_ISSUER},
        {"{\"iss\":\"https://id\",\"exp\":1800000060}", JWT_AUDIENCE},
        {"{\"iss\":\"https://id\",\"aud\":\"other\",\"exp\":1800000060}", JWT_AUDIENCE},
        {"{\"iss\":\"https://id\",\"aud\":[],\"exp\":1800000060}", JWT_AUDIENCE},
        {"{\"iss\":\"https://id\",\"aud\":[\"other\"],\"exp\":1800000060}", JWT_AUDIENCE},
        {"{\"iss\":\"https://id\",\"aud\":[\"codeq\",7],\"exp\":1800000060}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":{\"codeq\":1},\"exp\":1800000060}", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":[\"other\",\"codeq\"],\"exp\":1800000060}", JWT_OK},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1800000060} ", JWT_OK},
        {"{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":1800000060} x", JWT_MALFORMED},
        {"{\"iss\":\"https://id\",\"aud\":\"co\\u0000deq\",\"exp\":1800000060}", JWT_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum jwt_verdict got = verdict_of_claims(w, cases[i].claims);
        if (got != cases[i].expected) {
            fail_msg("%s: %s, expected %s", cases[i].claims, jwt_verdict_text(got),
                     jwt_verdict_text(cases[i].expected));
        }
    }
}

static void times_are_held_to_the_allowed_skew_and_no_further(void **state)
{
    struct world *w = *state;
    static const struct {
        int64_t expires;
        int64_t not_before;
        enum jwt_verdict expected;
    } cases[] = {
        {NOW_SEC + 1, NOW_SEC, JWT_OK},      {NOW_SEC - 4, NOW_SEC, JWT_OK},
        {NOW_SEC - 5, NOW_SEC, JWT_EXPIRED}, {NOW_SEC - 100, NOW_SEC, JWT_EXPIRED},
        {NOW_SEC + 60, NOW_SEC + 5, JWT_OK}, {NOW_SEC + 60, NOW_SEC + 6, JWT_NOT_YET_VALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char claims[160];
        snprintf(claims, sizeof claims,
                 "{\"iss\":\"https://id\",\"aud\":\"codeq\",\"exp\":%lld,\"nbf\":%lld}",
                 (long long)cases[i].expires, (long long)cases[i].not_before);
        assert_int_equal(verdict_of_claims(w, claims), cases[i].expected);
    }
}

static void random_bytes_never_pass_and_never_crash(void **state)
{
    struct world *w = *state;
    struct rng rng;
    rng_init(&rng, 7);
    char *good = fixture_token(w->rsa, RS_HEADER, CLAIMS);
    size_t bytes = strlen(good);
    for (int round = 0; round < 3000; round++) {
        char *token = strdup(good);
        for (uint64_t k = rng_below(&rng, 6) + 1; k > 0; k--) {
            token[rng_below(&rng, bytes)] = (char)(rng_next(&rng) & 0xff);
        }
        struct json *claims = NULL;
        enum jwt_verdict v = jwt_verify(w->keys, &RULES, token, bytes, NOW_NS, &claims);
        assert_true(v != JWT_OK || memcmp(token, good, bytes) == 0);
        json_free(claims);
        free(token);
    }
    free(good);
}

static void no_keys_at_all_means_an_unknown_key(void **state)
{
    struct world *w = *state;
    char *token = fixture_token(w->rsa, RS_HEADER, CLAIMS);
    struct json *claims = NULL;
    assert_int_equal(jwt_verify(NULL, &RULES, token, strlen(token), NOW_NS, &claims),
                     JWT_UNKNOWN_KEY);
    free(token);
}

static void assert_set_refused(const char *text, const char *reason)
{
    struct err err = {""};
    struct jwt_keys *keys = jwt_keys_parse(text, strlen(text), &err);
    if (keys != NULL || strstr(err.text, reason) == NULL) {
        fail_msg("%.60s: '%s' does not say '%s'", text, err.text, reason);
    }
}

static void broken_key_sets_are_refused_with_the_reason(void **state)
{
    struct world *w = *state;
    assert_set_refused("", "not valid JSON");
    assert_set_refused("{}", "no array 'keys'");
    assert_set_refused("{\"keys\":{}}", "no array 'keys'");
    assert_set_refused("{\"keys\":[]}", "no RSA or P-256");
    assert_set_refused("{\"keys\":[1,null,\"x\"]}", "no RSA or P-256");
    assert_set_refused("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"c2VjcmV0\"}]}",
                       "no RSA or P-256");
    assert_set_refused("{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"a\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
                       "not a sound RSA");
    assert_set_refused("{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"a\"}]}", "not a sound RSA");
    assert_set_refused("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"a\","
                       "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
                       "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
                       "not a sound P-256");
    char *twice = fixture_jwks(w->rsa_jwk, w->rsa_jwk);
    assert_set_refused(twice, "stands twice");
    free(twice);
    EVP_PKEY *small = fixture_rsa_weak();
    char *jwk = fixture_jwk(small, "small");
    char *set = fixture_jwks(jwk, NULL);
    assert_set_refused(set, "2048");
    free(set);
    free(jwk);
    EVP_PKEY_free(small);
    struct buf many = BUF_INIT;
    buf_puts(&many, "{\"keys\":[0");
    for (int i = 0; i < JWT_KEYS_MAX; i++) {
        buf_puts(&many, ",0");
    }
    buf_puts(&many, "]}");
    assert_set_refused(many.data, "more than");
    buf_fini(&many);
}

static void keys_for_other_purposes_are_passed_over(void **state)
{
    struct world *w = *state;
    char *set = fixture_jwks("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"o\",\"x\":\"AA\"},"
                             "{\"kty\":\"RSA\",\"use\":\"enc\",\"kid\":\"e\"},"
                             "{\"kty\":\"RSA\",\"alg\":\"RS512\",\"kid\":\"f\"}",
                             w->ec_jwk);
    struct jwt_keys *keys = jwt_keys_parse(set, strlen(set), NULL);
    assert_non_null(keys);
    assert_int_equal(jwt_keys_count(keys), 1);
    jwt_keys_free(keys);
    free(set);
}

static void base64url_is_canonical_or_nothing(void **state)
{
    (void)state;
    unsigned char out[16];
    assert_int_equal(jwt_base64url_decode("", 0, out), 0);
    assert_int_equal(jwt_base64url_decode("Zg", 2, out), 1);
    assert_int_equal(out[0], 'f');
    assert_int_equal(jwt_base64url_decode("Zm9v", 4, out), 3);
    assert_memory_equal(out, "foo", 3);
    assert_int_equal(jwt_base64url_decode("-_-_", 4, out), 3);
    assert_memory_equal(out, "\xfb\xff\xbf", 3);
    static const char *const wrong[] = {"Z", "Zh", "Zm8=", "Zm9", "Z m9", "+/+/", "Zg==", "AAAAA"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(jwt_base64url_decode(wrong[i], strlen(wrong[i]), out), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_tokens_of_both_algorithms_pass),
        cmocka_unit_test(a_verifier_is_not_fooled_by_the_algorithm_field),
        cmocka_unit_test(an_hmac_keyed_with_the_public_key_is_refused),
        cmocka_unit_test(an_algorithm_must_fit_the_type_of_its_key),
        cmocka_unit_test(the_key_is_chosen_by_kid_and_never_guessed),
        cmocka_unit_test(critical_extensions_are_not_ignored),
        cmocka_unit_test(a_changed_byte_anywhere_is_noticed),
        cmocka_unit_test(a_truncated_or_lengthened_token_is_refused),
        cmocka_unit_test(an_oversized_token_is_refused_before_it_is_read),
        cmocka_unit_test(duplicate_members_are_refused),
        cmocka_unit_test(claims_of_a_wrong_type_are_refused),
        cmocka_unit_test(times_are_held_to_the_allowed_skew_and_no_further),
        cmocka_unit_test(random_bytes_never_pass_and_never_crash),
        cmocka_unit_test(no_keys_at_all_means_an_unknown_key),
        cmocka_unit_test(broken_key_sets_are_refused_with_the_reason),
        cmocka_unit_test(keys_for_other_purposes_are_passed_over),
        cmocka_unit_test(base64url_is_canonical_or_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
