/* The description of the API, embedded from openapi.json at build time. Constant; any thread. */
#pragma once

#include <stddef.h>

extern const size_t openapi_bytes;
extern const char openapi_text[]; /* with a NUL behind */
