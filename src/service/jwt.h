/* JSON Web Tokens signed with RS256 or ES256, checked against a JSON Web Key Set by OpenSSL.
 *
 * Only what a resource server needs: parse a key set, verify a token, hand out its claims. Nothing
 * here decides what a claim means (auth does) or fetches anything (the caller does). A token is
 * hostile until the last check has passed: sizes are bounded, base64url is canonical, JSON is
 * strict (no duplicate keys), the algorithm comes from a list of two and must fit the key's type,
 * so neither "none" nor an HMAC over the public key can pass.
 *
 * A key set is immutable once parsed and may be read by many threads. Pure but for the heap.
 * Source: RFC 7515, 7517, 7518, 7519; BCP 225 (RFC 8725). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

#define JWT_TOKEN_BYTES_MAX 8192
#define JWT_KEYS_MAX 64
#define JWT_KID_BYTES_MAX 256
#define JWT_KEYS_TEXT_BYTES_MAX (256 * 1024)

struct jwt_keys;

/* Parse {"keys":[...]}. Keys that no token of ours can use (other types, curves, "use": "enc")
 * are skipped; a set with two usable keys of one kid, with more than JWT_KEYS_MAX keys or with no
 * usable key is refused: NULL with text. The caller frees it with jwt_keys_free. */
struct jwt_keys *jwt_keys_parse(const char *text, size_t bytes, struct err *err);
void jwt_keys_free(struct jwt_keys *keys);
size_t jwt_keys_count(const struct jwt_keys *keys);

struct jwt_rules {
    const char *issuer; /* the claim iss must be this */
    const char *audience; /* the claim aud must be or contain this */
    int64_t skew_ns; /* how far clocks may differ, for exp and nbf */
};

enum jwt_verdict {
    JWT_OK = 0,
    JWT_MALFORMED, /* not three canonical base64url parts of strict JSON, or a claim of wrong type
                    */
    JWT_ALGORITHM, /* anything but RS256 and ES256, or one that does not fit the key */
    JWT_UNKNOWN_KEY, /* kid is not in the set: the caller may fetch the set again */
    JWT_SIGNATURE,
    JWT_EXPIRED,
    JWT_NOT_YET_VALID,
    JWT_ISSUER,
    JWT_AUDIENCE,
};

/* Lower-case words for people, without any part of the token. */
const char *jwt_verdict_text(enum jwt_verdict verdict);

/* Verify token (not NUL-terminated) at wall_ns. On JWT_OK *out_claims is the claims object, the
 * caller's to free; otherwise it stays untouched. keys may be NULL (JWT_UNKNOWN_KEY). The claim
 * exp is required: a token for ever is no token. */
enum jwt_verdict jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules,
                            const char *token, size_t bytes, int64_t wall_ns,
                            struct json **out_claims);

/* Decode canonical base64url without padding into out (capacity (bytes * 3) / 4). The number of
 * bytes written, or -EINVAL. Source: RFC 4648 section 5; trailing bits must be zero. */
int64_t jwt_base64url_decode(const char *text, size_t bytes, unsigned char *out);
