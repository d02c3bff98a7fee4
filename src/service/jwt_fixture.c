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

/* Made for this table, as DER: to make one costs half a minute under Valgrind. */
static const char *const RSA_2048[] = {
    "MIIEogIBAAKCAQEAs1olw6HTx7c4rwbk8u8crvRFg6QF8P/2l8dDmHL7Hdx7vvETwMCKnBbM8gTHn0Ax1VOfRBnp5BQm"
    "yoQ5Mr3yssSLp4WOmG9FG0qvxyiA18444feTc9Tm0WowFfP8Q6MJ2RA1B5REAp1xavHPM9o5SbXvMN9LmeqImEqYXZ+M"
    "r4z8Ip2UUtrS4cGDmp3yvvRmgRqPYS+AAWyhA7/xMuieOgh+hjinaoRNfzC0FENfBM6+LbXaFYY0IyCUKo4rPy1e4h0L"
    "Wtyy2bhkDdYLqbTfWCt1HzUhAUSKGNGoOCWRbol5hudlifFMDVNwk2qW58DoEEbUmmzCCH0ZdDK8qkGXAwIDAQABAoIB"
    "ABeyHrCCKPYyAY3eXfwFa3ISA+fTO+sOEQkXN+8PAe59ZZFh+IzMONlL3zf6jwU9+Kzep3mFPZ73VUixv3zcwRFYC7t5"
    "AdCnTXzARAkOvjcaSpmlmW2sVfKaZ6VUNE1wtP8LYnY7OIu/5sQ3vnsd/IOomI7fHEtG7qpwRevYsJW2KXwZ7A66v2zP"
    "bmxj9ARKFYab2UWprp/Ahhz0bznThOxCcozuU9rXNs72nMBn4ChmDlc9FVcI5UYrtd/BoqhF7JOJBbJrqkgZOXbknGjZ"
    "wbGxW5BxdcVDfwn2dQ9DM+c8QpqlFKqphzzjrH7ha3z3en9yeHl6HeWYJiQI6Q1RgAECgYEA+tOhYTAl0ZWJP25lWqym"
    "r0qLtgwFXTlhhEjEDQsq5h3rXBMlt56xXY3DEAINBv6hJsHY5F7WKuDhxqrMB/vEIs5pPwSV8KAF7kdWQebWT5CBe2xb"
    "KR4mmXr8FKyUsc2RgmywcrSMmc1u3JC4GBt+fWd5LDyE8GTW01we3z0rfwMCgYEAtw0hVGM8MeCiXvHi9aZYnvz2c2yS"
    "eYtICpeqj3OVtFT6PiQ0vJfa7i8AVbsxC3XfBfV/tkgf3UrjirI7U0zvCzsJYlm0hoJxhuFw8nCcz55rD8zMsmLh5IzM"
    "sjQLJIsf4j3cTPUkJbiXvr8ImX6DKWjzvZ3FEW5UzGVe7gkKCAECgYBhuZ7AvP+fHsHwotR+dZIj7cltTlWwsrCZ17f6"
    "1QULz1Bp+VPSrNOx/Y+oZwQoW4DyFsiogYK0BhYxT05bNe5/GSjMUr8Ql2h4I/cpigSpz0WDjv4dkQ+88LvSWkM82zj8"
    "NdixeELnkbDF4uS3D89CkNQXNiUdfExu4Q9uLukJfQKBgAtK4RJ+qLj+/aVT0MeMwozUWDPYr9SVthUJNDlzTPn6ABIT"
    "U7mKuLPW7HNdf/IQDHkmowFQw754Hz9wLV6/MUQFGVga5pshsvU6NSiPr+zS/hHUdZBPr1XVJc+cjE9t0cK4RD3vJZK6"
    "J4pZ6KLnfhnw4pCBCiZAIzUUz91pa1gBAoGAbZWzLQZz/VRwzQZ5vH9IHcfaO8Q2hkah4hCoJ+Jq9dXUd20vtMePQZpy"
    "XXlzyKi/zQURSi9XmiKgPU5XamTaB+uoa+hVVlrI9Uiq0qW0x3fpfdPP5cLJIqkPXY/6lIg21N7qfmbeL174392jdot0"
    "Dv/IvZmu926gGJ4Kfv4xziI=",
    "MIIEowIBAAKCAQEAtMaKjC4xfacj0ZpUWbfxKJBYsLDHQJDQLDijus9E5UIWw1aw2h7ck4COlTE+TTQiwxaO9/51/A39"
    "PM0C9hIji8+UZ8pHGVuzBPzJbE6Ib5S75jp5wAQxB/dhSjZSqUetgUYl2Fo0FhHYOqX4WpuTZEtoqEPAvrYkXST8VfVf"
    "90n1T60Trxisq4XlbYqDiyeXKXDtS1kXqLieQB8G0dRDKVmpHItJ/u/K6U5TBQDEshRCJDq4Kb2yMBQAGnH8ObzBfvwN"
    "6Ct27t4cqkySTOBOxr0hglWRx4hnjChf66XHpOQjs+mhf9fGc7ekilyCwzA2sNjpFcyJambSGxKx402v2wIDAQABAoIB"
    "AFBkNKvXRRIMeJzXRWiqqNexrYdR7iIT5EeuHn3Oe+R6KfZPgJFXhR8hXgcR4ZNiuozIZOb7JcvkCrh1sTnt4hnkQ6qO"
    "ZWTtByUSJ57/I6R/X7ooSglus8FHrV/b3ZHDOvEQ2Xan0p7365FVSqc8pWTGNjISA06sYGp9rqupVbZ50GfdJct31SRA"
    "OBsv1JN5omcgd8QbDtpAepyNm4ekclHCmxWEfJDFRjDoQPtZlf5HsFaUT483b/xUmALm88h0267UvwocOdu62nnZ2I3y"
    "t1upi0Vji+LwhlBwvfLN3qIVwfzG+qk77x3rwwGPHQGTv+rUhcw2WPGm18f1DUl4GwECgYEA75d+jZ+lgWLFeU7io/gw"
    "ejfy6sd1szGMe8O1BKtoHNpt1/vdHUhmb6p1v3Hq9qeANrmmHe5AuDrIIqD5fdQTzXQk1fDpcxeL65klMeiPIeEq1j1t"
    "CmQys0LkTfjY3Sw9HpxeVziVhR+fEXyIuzak9k3fok4mU5ekUxatNQte1wECgYEAwSfilO9KjB7joi9atsZjZ8rXFUSb"
    "VbJ7cwvnleVno7VqciAMHMtkB6lWTNwIwOOD2t/lVnTI+gNPa2mJgsEzBUCo5xXxGmcY3d1o73XKRVNcfCSXAPpokLUo"
    "NFURDpK8p19p4aXlE+d9UjIkle1y/ZtgCqlPBUwNkDIYgQ89wtsCgYABNNgUSnuA3Uh1RepqPPOxidqVSA/VqSg171RY"
    "A6zwiEEJV2FTpmutoEQbhK1UNJ+2ptSpTevRgapEUl8vPQQkgrM0yJPEWpf/xbOkPrGJ0CJxFboY1UxUDsArjFc7Nd/Q"
    "6aSn98b49qHMar4dgzbtbpLztEUJIrhXGsQggkAmAQKBgQCXC4qbLtjb5BfcLy2/+jmn4634GrNh+3WgDLInvMIj+ezo"
    "m/j812w8tYYgCnzp4cCteyKLTj4PjGEhvODkmBI+zEaIltb476A5dzfk8faf6cVL6w0OncMBTjjHW7I/9C2EsQ9KfoE5"
    "5G9SxJVpjMq8WTFshOOfX87HcPVKj1GbuwKBgBk5B9I2N1GpTffnUOd+DYdrHd6UQGyzzlea/V2AVhm+n4hmy10w6scf"
    "oBp71hsKNoGcqIV+dchbhCwJ84Fd1Zjp+0zCmqHSfihoyt39NEV66RjDsWkCTlzmULYNPNrzINfztJdOG82XyIjwbZrt"
    "acoFHzyILHw//f6R2P8mRiTO",
};

EVP_PKEY *fixture_rsa(unsigned which)
{
    must(which < sizeof RSA_2048 / sizeof *RSA_2048);
    unsigned char der[2048];
    const unsigned char *p = der;
    size_t chars = strlen(RSA_2048[which]);
    must(chars / 4 * 3 <= sizeof der);
    int bytes = EVP_DecodeBlock(der, (const unsigned char *)RSA_2048[which], (int)chars);
    must(bytes);
    EVP_PKEY *pkey = d2i_PrivateKey(EVP_PKEY_RSA, NULL, &p, bytes);
    must(pkey != NULL);
    return pkey;
}

EVP_PKEY *fixture_rsa_weak(void)
{
    EVP_PKEY *pkey = EVP_RSA_gen(1024);
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
