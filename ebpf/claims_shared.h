/* What claims.c and claims.bpf.c agree on: one event a hit of a probe point. */
#pragma once

#include <linux/types.h>

/* In the order of claims_points (claims.c). */
enum claims_point {
    CLAIMS_PARSE_BEGIN, /* connection */
    CLAIMS_PARSE_END, /* connection, method, path, bytes of path */
    CLAIMS_CLAIM_BEGIN, /* connection, queue, tasks wanted, lease in ms */
    CLAIMS_CLAIM_END, /* connection, status, tasks got */
    CLAIMS_REDIS_SEND, /* redis connection, position in its stream, position behind */
    CLAIMS_REDIS_REPLY, /* redis connection, position of the request, script, items, status */
    CLAIMS_LEASE_GRANTED, /* member (id and token), lease in ms, its end in Unix ms */
    CLAIMS_RESPONSE_WRITTEN, /* connection, bytes, is a later request still in work? */
    CLAIMS_POINTS,
};

#define CLAIMS_ARGS 5
#define CLAIMS_TEXT_BYTES 48

struct claims_event {
    __u64 ns;
    __u64 arg[CLAIMS_ARGS];
    __u32 tgid;
    __u32 tid;
    __u32 point; /* enum claims_point */
    __u32 text_bytes; /* of a path: kept */
    char text[CLAIMS_TEXT_BYTES]; /* path, script's name or member */
};
