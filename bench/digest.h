/* SHA-256 as text, by OpenSSL: checksums of result sets, names of environments. Any thread. */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define DIGEST_BYTES 65 /* 64 hex digits and the NUL */

void digest_bytes(const void *data, size_t bytes, char out[DIGEST_BYTES]);

/* 0 or negative errno with text that names the file. */
int digest_file(const char *path, char out[DIGEST_BYTES], struct err *err);
