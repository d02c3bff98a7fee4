/* Tests only: the built codeq-trace, started and stopped, and its JSON report.
 *
 * Every function fails the running test where the machinery fails. CODEQ_TRACE names the program.
 */
#pragma once

#include "base/test.h"

#include <stdbool.h>

#include "base/child.h"
#include "base/json.h"

/* Exact: all of these are whole numbers below 2^53. */
#define assert_count(got, wanted) \
    do { \
        double got_ = (got); \
        double wanted_ = (wanted); \
        if (got_ != wanted_) { \
            fail_msg("%s is %g, not %g", #got, got_, wanted_); \
        } \
    } while (0)

struct tracer {
    struct child child;
    char dir[64];
};

/* 0; 77 with the reason printed where BPF with those rights (loader_check's needs) may not be
 * loaded here. */
int tracer_check(unsigned needs);

/* Start codeq-trace ARGS... --json and wait until it says that it traces. */
void tracer_start(struct tracer *tracer, const char *const *args);

/* Interrupt it, or let it end by itself, and read its report, the caller's. */
struct json *tracer_stop(struct tracer *tracer);
struct json *tracer_end(struct tracer *tracer);
/* The same of one that prints lines before its report: the lines, too, the caller's. */
struct json *tracer_end_lines(struct tracer *tracer, char **out_lines);

/* A file of dir whole, "" when absent; the caller's. */
char *tracer_slurp(const char *dir, const char *name);

/* The row of a table whose `key` is `value`; NULL: none. */
const struct json *tracer_row(const struct json *report, const char *table, const char *key,
                              const char *value);
/* A number of such a row; 0 when there is no row or no such number. */
double tracer_number(const struct json *report, const char *table, const char *key,
                     const char *value, const char *number);
double tracer_loss(const struct json *report, const char *key); /* -1: not reported */

/* ---- a client of Redis that writes bytes as the test wants them ---- */

int wire_connect(const char *socket_path);
void wire_put(int fd, const char *text);
/* Read until this has come. */
void wire_until(int fd, const char *text);
/* A request of these words, and read until that has come. */
void wire_call(int fd, const char *until, const char *const *words);
#define WIRE_CALL(fd, until, ...) wire_call(fd, until, (const char *[]){__VA_ARGS__, NULL})
