#include "digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

static void hex(const unsigned char *hash, char out[DIGEST_BYTES])
{
    for (size_t i = 0; i < 32; i++) {
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    }
}

void digest_bytes(const void *data, size_t bytes, char out[DIGEST_BYTES])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    if (EVP_Digest(data, bytes, hash, NULL, EVP_sha256(), NULL) != 1) {
        abort(); /* out of memory */
    }
    hex(hash, out);
}

int digest_file(const char *path, char out[DIGEST_BYTES], struct err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        abort();
    }
    char chunk[16384];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0) {
        EVP_DigestUpdate(context, chunk, got);
    }
    int code = ferror(file) ? err_set(err, -EIO, "%s: cannot be read", path) : 0;
    unsigned char hash[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(context, hash, NULL);
    EVP_MD_CTX_free(context);
    fclose(file);
    if (code == 0) {
        hex(hash, out);
    }
    return code;
}
