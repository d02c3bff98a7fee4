#include "service/jwt_fixture.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/buf.h"

static void must(int ok)
{
    if (ok <= 0) {
        fprintf(stderr, "fixture: openssl refused\n");
        abort();
    }
}

EVP_PKEY *fixture_rsa(int bits)
{
    EVP_PKEY *pkey = EVP_RSA_gen((unsigned)bits);
    must(pkey != NULL);
    return pkey;
}

EVP_PKEY *fixture_p256(void)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    must(pkey != NULL);
    return pkey;
}

char *fixture_base64url(const void *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *p = data;
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t n = bytes - i < 3 ? bytes - i : 3;
        unsigned v = (unsigned)p[i] << 16 | (n > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                     (n > 2 ? (unsigned)p[i + 2] : 0);
        for (size_t k = 0; k <= n; k++) {
            buf_append(&out, &digits[v >> (18 - 6 * k) & 63], 1);
        }
    }
    return buf_take(&out);
}

static char *number_base64url(EVP_PKEY *pkey, const char *name, int bytes)
{
    BIGNUM *n = NULL;
    must(EVP_PKEY_get_bn_param(pkey, name, &n));
    unsigned char raw[2048];
    int used = bytes != 0 ? BN_bn2binpad(n, raw, bytes) : BN_bn2bin(n, raw);
    must(used);
    BN_free(n);
    return fixture_base64url(raw, (size_t)used);
}

char *fixture_jwk(EVP_PKEY *pkey, const char *kid)
{
    bool rsa = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA;
    char *a = rsa ? number_base64url(pkey, OSSL_PKEY_PARAM_RSA_N, 0)
                  : number_base64url(pkey, OSSL_PKEY_PARAM_EC_PUB_X, 32);
    char *b = rsa ? number_base64url(pkey, OSSL_PKEY_PARAM_RSA_E, 0)
                  : number_base64url(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, 32);
    struct buf out = BUF_INIT;
    if (rsa) {
        buf_printf(&out, "{\"kty\":\"RSA\",\"use\":\"sig\",\"alg\":\"RS256\",\"kid\":\"%s\",", kid);
        buf_printf(&out, "\"n\":\"%s\",\"e\":\"%s\"}", a, b);
    } else {
        buf_printf(&out, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"%s\",", kid);
        buf_printf(&out, "\"x\":\"%s\",\"y\":\"%s\"}", a, b);
    }
    free(a);
    free(b);
    return buf_take(&out);
}

char *fixture_jwks(const char *first_jwk, const char *second_jwk)
{
    struct buf out = BUF_INIT;
    buf_printf(&out, "{\"keys\":[%s", first_jwk);
    if (second_jwk != NULL) {
        buf_printf(&out, ",%s", second_jwk);
    }
    buf_puts(&out, "]}");
    return buf_take(&out);
}

static char *signing_input(const char *header, const char *claims)
{
    char *h = fixture_base64url(header, strlen(header));
    char *c = fixture_base64url(claims, strlen(claims));
    struct buf out = BUF_INIT;
    buf_printf(&out, "%s.%s", h, c);
    free(h);
    free(c);
    return buf_take(&out);
}

static char *with_signature(char *take_input, const unsigned char *signature, size_t bytes)
{
    char *s = fixture_base64url(signature, bytes);
    struct buf out = BUF_INIT;
    buf_printf(&out, "%s.%s", take_input, s);
    free(s);
    free(take_input);
    return buf_take(&out);
}

char *fixture_token(EVP_PKEY *pkey, const char *header, const char *claims)
{
    char *input = signing_input(header, claims);
    unsigned char signature[2048];
    size_t bytes = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    must(context != NULL);
    must(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, pkey));
    must(EVP_DigestSign(context, signature, &bytes, (const unsigned char *)input, strlen(input)));
    EVP_MD_CTX_free(context);
    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC) {
        const unsigned char *p = signature;
        ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)bytes);
        must(sig != NULL);
        must(BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, 32));
        must(BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + 32, 32));
        ECDSA_SIG_free(sig);
        bytes = 64;
    }
    return with_signature(input, signature, bytes);
}

char *fixture_token_hs256(const void *secret, size_t secret_bytes, const char *header,
                          const char *claims)
{
    char *input = signing_input(header, claims);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    must(HMAC(EVP_sha256(), secret, (int)secret_bytes, (const unsigned char *)input, strlen(input),
              mac, &bytes) != NULL);
    return with_signature(input, mac, bytes);
}

char *fixture_pem(EVP_PKEY *pkey)
{
    BIO *bio = BIO_new(BIO_s_mem());
    must(bio != NULL);
    must(PEM_write_bio_PUBKEY(bio, pkey));
    char *data = NULL;
    long bytes = BIO_get_mem_data(bio, &data);
    char *text = malloc((size_t)bytes + 1); /* the memory BIO ends without a NUL */
    must(text != NULL);
    memcpy(text, data, (size_t)bytes);
    text[bytes] = '\0';
    BIO_free(bio);
    return text;
}
