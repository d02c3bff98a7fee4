/* Tests only: what the tests that speak to codeqd have asked and seen, so that openapi_traffic_test
 * can name what openapi.json promises and no test has met.
 *
 * The environment's CODEQ_TRAFFIC names the file, which is begun anew by each program; without it
 * nothing is recorded. One fact a line, each once:
 *
 *     POST /v1/codeq/tasks/-/nack 200              this status was answered (ids are a "-")
 *     POST /v1/codeq/tasks/-/nack 200 < status     its body has this member
 *     POST /v1/codeq/tasks/-/nack 200 > reason     the request's body had this member
 *     POST /v1/codeq/tasks/-/nack 200 ? force      ... this member of the query
 *     POST /v1/codeq/tasks/-/nack 200 h:retry-after     the answer had this header
 *     POST /v1/codeq/tasks/-/nack 200 q:x-delivery-token     the request had this header
 *
 * Members of members are joined by dots, those of an array's items begin with "[]". Any thread may
 * call. */
#pragma once

#include <stddef.h>

#include "base/json.h"

void traffic_start(void);
/* A connection begins; what was asked on this number before is forgotten. */
void traffic_connected(int fd);
/* Bytes that are sent. They are a request when a whole one begins with them. */
void traffic_sent(int fd, const char *data, size_t bytes);
/* The answer to what was sent; json may be NULL. */
void traffic_answered(int fd, int status, const char *head, const struct json *json);
