/* Tests only: signing keys and the tokens they sign, good ones and every kind of bad one.
 *
 * Texts are malloc'ed and the caller's. Out of memory or OpenSSL refusing aborts. */
#pragma once

#include <openssl/evp.h>

EVP_PKEY *fixture_rsa(unsigned which); /* 0 or 1: the same 2048 bits each time */
EVP_PKEY *fixture_rsa_weak(void); /* too short to be taken */
EVP_PKEY *fixture_p256(void);

/* One JWK of the public half: {"kty":...,"kid":...,...}. */
char *fixture_jwk(EVP_PKEY *pkey, const char *kid);

/* {"keys":[first, second]}; second may be NULL. */
char *fixture_jwks(const char *first_jwk, const char *second_jwk);

char *fixture_base64url(const void *data, size_t bytes);

/* header and claims are JSON texts, used as they are; signed by pkey as RS256 or ES256 by its
 * type. */
char *fixture_token(EVP_PKEY *pkey, const char *header, const char *claims);

/* The same with HMAC-SHA256 under secret: the classic confusion. */
char *fixture_token_hs256(const void *secret, size_t secret_bytes, const char *header,
                          const char *claims);

/* The public key as PEM, for that confusion. */
char *fixture_pem(EVP_PKEY *pkey);
