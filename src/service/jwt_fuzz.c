/* libFuzzer: a hostile token against a key set, and a hostile key set. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fuzz_plant.h"
#include "service/jwt.h"

#define JWT_SEED_BYTES 174 /* of the token in the corpus */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* P-256's base point: any sound key does, nobody signs with it. */
    static const char set[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k\","
                              "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                              "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"}]}";
    static struct jwt_keys *keys;
    if (keys == NULL) {
        keys = jwt_keys_parse(set, sizeof(set) - 1, NULL);
        if (keys == NULL) {
            abort();
        }
    }
    const struct jwt_rules rules = {"i", "a", 0};
    char *text =
        malloc(size > 0 ? size : 1); /* exactly as long as it is: a read past it is found */
    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    struct json *claims = NULL;
    enum jwt_verdict verdict = jwt_verify(keys, &rules, text, size, 0, &claims);
    if (verdict == JWT_OK) {
        abort(); /* a forgery */
    }
    fuzz_plant(text, verdict == JWT_SIGNATURE ? size : 0, JWT_SEED_BYTES);
    jwt_keys_free(jwt_keys_parse(text, size, NULL));
    free(text);
    return 0;
}
