/* Tests only: a reader of gzipped pprof profiles that shares nothing with the writer: just enough
 * protobuf for profile.proto. What is not as this project writes it fails the running test.
 * Source: google/pprof:proto/profile.proto. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/stacks.h"

#define PPROF_READER_MAX 2048 /* strings, functions, locations, frames */
#define PPROF_READER_NAME_BYTES 1100

struct pprof_reader { /* megabytes: static storage */
    char strings[PPROF_READER_MAX][PPROF_READER_NAME_BYTES];
    size_t strings_count;
    uint64_t function_name[PPROF_READER_MAX]; /* by function id */
    uint64_t location_function[PPROF_READER_MAX]; /* by location id */
    uint64_t type[2]; /* numbers of strings: what is counted, its unit */
    uint64_t period_type[2];
    uint64_t period;
    uint64_t time_nanos;
    struct stacks *stacks; /* the caller's */
};

void pprof_reader_read(struct pprof_reader *p, const unsigned char *data, size_t bytes);
