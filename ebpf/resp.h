/* The RESP reader: finds commands in what clients send and replies in what servers send, element by
 * element, from buffers cut anywhere. The same code runs in the kernel and, for tests and fuzzing,
 * in user space.
 *
 * Requests and replies are both RESP values. `todo` counts the elements still expected: an array of
 * n adds n, each finished scalar takes one, zero is the end of a message; so no stack is needed and
 * any nesting works. Bodies of bulks are skipped, never read, but for the first bytes of those that
 * a caller asks for. A header that a buffer's end cuts in two waits in `carry` for the next buffer.
 *
 * For the verifier: one call of resp_step is one element, with branch-free arithmetic on eight
 * bytes at a time; every scalar that changes from step to step lives in struct resp_window (a map
 * value, which the verifier does not track), never on the stack.
 *
 * Source: RESP2 and RESP3, redis.io/docs/latest/develop/reference/protocol-spec. */
#pragma once

#ifdef __bpf__
#include <linux/types.h>
#define RESP_INLINE static __always_inline
#else
#include <linux/types.h>
#define RESP_INLINE static inline
#endif

#include "resp_limits.h"

enum resp_phase {
    RESP_HEADER,
    RESP_LINE, /* to the end of a line: an inline command, a long error */
};

/* One direction of one connection. */
struct resp_dir {
    __u64 skip; /* bytes of a bulk's body still to come, its \r\n included */
    __u32 todo; /* elements of this message still to come */
    __u32 element; /* elements finished in it: argument or flat reply number */
    __s32 first_number; /* of a reply: its number or length; -1 nil */
    __u8 phase; /* enum resp_phase */
    __u8 carry_len;
    __u8 bad; /* lost the thread; waits for a buffer that begins a request */
    __u8 type; /* of the reply: its first byte */
    __u8 carry[RESP_CARRY_BYTES];
};

/* Scratch of one feed. */
struct resp_window {
    __u64 base; /* address of the buffer */
    __u64 pos; /* position in carry + buffer */
    __u64 start; /* position of bytes[0] */
    __u64 len; /* valid bytes in bytes[] */
    __u64 total; /* carry + buffer */
    __u64 carried; /* bytes that came from the carry */
    __u64 number; /* of the header just read */
    __u64 header; /* its length */
    __u64 offset; /* of the element in bytes[] */
    __u64 kept; /* bytes of the body that are in bytes[] behind the header */
    __u8 bytes[RESP_WINDOW_BYTES + RESP_PAD_BYTES];
};

enum resp_event {
    RESP_MORE, /* go on */
    RESP_NEED_READ, /* refill the window, then go on */
    RESP_END, /* the buffer is used up */
    RESP_BAD, /* not RESP: dir->bad is set */
};

#define RESP_CRLF 0x0a0d /* as two bytes are read */
#define RESP_ONES 0x0101010101010101ULL
#ifdef __bpf__ /* one load; clang would make eight of a memcpy */
#define RESP_LOAD8(bytes, offset) (*(const __u64 *)((bytes) + (offset)))
#else
static inline __u64 resp_load8(const __u8 *bytes)
{
    __u64 word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}
#define RESP_LOAD8(bytes, offset) resp_load8((bytes) + (offset))
#endif

/* A mark in the top bit of every zero byte (of the lowest one surely). */
RESP_INLINE __u64 resp_zero_bytes(__u64 x)
{
    return (x - RESP_ONES) & ~x & (RESP_ONES << 7);
}

/* Number of the lowest marked byte; marks must not be 0. */
RESP_INLINE __u32 resp_lowest(__u64 marks)
{
    return (__u32)(((((marks & -marks) - 1) & RESP_ONES) * RESP_ONES >> 56) - 1);
}

/* The first `digits` bytes (0..8) as a decimal number; rubbish for other bytes. */
RESP_INLINE __u64 resp_decimal(__u64 x, __u32 digits)
{
    if (digits == 0) {
        return 0;
    }
    x <<= (64 - 8 * digits) & 63;
    x = ((x & 0x0F0F0F0F0F0F0F0FULL) * 2561) >> 8;
    x = ((x & 0x00FF00FF00FF00FFULL) * 6553601) >> 16;
    return ((x & 0x0000FFFF0000FFFFULL) * 42949672960001ULL) >> 32;
}

/* A mark for each byte that is no digit. */
RESP_INLINE __u64 resp_not_digits(__u64 x)
{
    __u64 high = x & (RESP_ONES << 7);
    __u64 low = x & ~(RESP_ONES << 7);
    __u64 above = low + (0x80 - '9' - 1) * RESP_ONES;
    __u64 below = ~(low + (0x80 - '0') * RESP_ONES);
    return (above | below | high) & (RESP_ONES << 7);
}

RESP_INLINE __u64 resp_upper(__u64 x)
{
    __u64 low = x & ~(RESP_ONES << 7);
    __u64 from = low + (0x80 - 'a') * RESP_ONES;
    __u64 past = low + (0x80 - 'z' - 1) * RESP_ONES;
    return x - ((from & ~past & ~x & (RESP_ONES << 7)) >> 2);
}

RESP_INLINE __u64 resp_first_bytes(__u64 x, __u32 n)
{
    return n >= 8 ? x : (x & ((1ULL << ((8 * n) & 63)) - 1));
}

/* What resp_step asks of its caller; `context` is whatever the caller passes. */
#ifndef RESP_HOOKS
#error "define RESP_HOOKS before including resp.h: see resp_hooks below"
#endif
/* resp_want(context, is_request): may this element's first bytes be needed? Then resp_element finds
 *     window->kept bytes of the body at window->bytes + offset + header.
 * resp_element(context, dir, window, is_request, type): one element has been read (its header and
 *     what is kept of its body); dir->element is its number.
 * resp_message(context, dir, is_request): one message is complete. */

RESP_INLINE void resp_finish_element(RESP_HOOKS *context, struct resp_dir *dir, const int request)
{
    dir->phase = RESP_HEADER;
    dir->element++;
    if (dir->todo > 0) {
        dir->todo--;
    }
    if (dir->todo == 0) {
        resp_message(context, dir, request);
    }
}

RESP_INLINE int resp_bad(struct resp_dir *dir)
{
    dir->bad = 1;
    return RESP_BAD;
}

/* Keep what is left (it is short: a cut header) for the next buffer. */
RESP_INLINE int resp_carry(struct resp_dir *dir, struct resp_window *window, __u64 left)
{
    if (left >= RESP_CARRY_BYTES || left == 0) {
        return resp_bad(dir);
    }
    const __u8 *from = window->bytes + (window->offset & (RESP_WINDOW_BYTES - 1));
    for (int i = 0; i < RESP_CARRY_BYTES / 8; i++) {
        __u64 word = RESP_LOAD8(from, 8 * i);
        __builtin_memcpy(dir->carry + 8 * i, &word, sizeof word);
    }
    dir->carry_len = (__u8)left;
    window->pos = window->total;
    return RESP_END;
}

RESP_INLINE int resp_body(RESP_HOOKS *context, struct resp_dir *dir, struct resp_window *window,
                          const int request)
{
    window->pos += window->header;
    dir->skip = window->number + 2;
    __u64 left = window->total - window->pos;
    if (dir->skip <= left) {
        window->pos += dir->skip;
        dir->skip = 0;
        resp_finish_element(context, dir, request);
    }
    return RESP_MORE;
}

/* One element. */
RESP_INLINE int resp_step(RESP_HOOKS *context, struct resp_dir *dir, struct resp_window *window,
                          const int request)
{
    __u64 left = window->total - window->pos;
    if ((__s64)left <= 0) {
        return RESP_END;
    }
    if (dir->skip > 0) {
        __u64 n = dir->skip < left ? dir->skip : left;
        window->pos += n;
        dir->skip -= n;
        if (dir->skip == 0) {
            resp_finish_element(context, dir, request);
        }
        return RESP_MORE;
    }
    __u64 offset = window->pos - window->start;
    if (offset + RESP_NEED_BYTES > window->len && window->start + window->len < window->total) {
        return RESP_NEED_READ;
    }
    offset &= RESP_WINDOW_BYTES - 1;
    window->offset = offset;
    const __u8 *s = window->bytes + offset;
    __u8 type = s[0];
    if (dir->phase == RESP_LINE) {
        __u64 marks = resp_zero_bytes(RESP_LOAD8(s, 0) ^ ('\n' * RESP_ONES));
        __u64 n = marks != 0 ? resp_lowest(marks) + 1 : 8;
        if (n > left) {
            window->pos = window->total;
            return RESP_END;
        }
        window->pos += n;
        if (marks != 0) {
            resp_finish_element(context, dir, request);
        }
        return RESP_MORE;
    }
    __u64 text = RESP_LOAD8(s, 1);
    __u32 first = (__u32)(text & 0xff) - '0';
    __u32 second = (__u32)(text >> 8 & 0xff) - '0';
    __u32 digits;
    int whole = 1;
    int minus = 0;
    int number_ok = 1;
    window->kept = 0;
    /* Where the next element begins hangs on this number: most have one digit or two, which take a
     * few cycles where the arithmetic of eight takes forty. */
    if (first <= 9 && (text >> 8 & 0xffff) == RESP_CRLF && left >= 4) {
        digits = 1;
        window->number = first;
        window->header = 4;
    } else if (first <= 9 && second <= 9 && (text >> 16 & 0xffff) == RESP_CRLF && left >= 5) {
        digits = 2;
        window->number = first * 10 + second;
        window->header = 5;
    } else {
        __u64 marks = resp_zero_bytes(text ^ ('\r' * RESP_ONES));
        digits = marks != 0 ? resp_lowest(marks) : 8;
        /* The first eight bytes may be none but digits: a bulk of 100,000,000 bytes has nine. */
        if (marks == 0 && left > 10) {
            __u64 more = RESP_LOAD8(s, 9);
            __u64 more_marks = resp_zero_bytes(more ^ ('\r' * RESP_ONES));
            if (more_marks != 0 && resp_lowest(more_marks) < 4 && resp_not_digits(text) == 0) {
                __u32 extra = resp_lowest(more_marks);
                __u64 scale = extra == 0 ? 1 : extra == 1 ? 10 : extra == 2 ? 100 : 1000;
                window->number = resp_decimal(text, 8) * scale + resp_decimal(more, extra);
                digits = 8 + extra;
                marks = more_marks;
            } else {
                window->number = 0;
            }
        } else {
            window->number = resp_decimal(text, digits & 7);
            if (digits == 8) {
                window->number = resp_decimal(text, 8);
            }
        }
        window->header = digits + 3;
        whole = marks != 0 && window->header <= left;
        minus = (text & 0xff) == '-';
        /* Of the bytes before \r: all must be digits. */
        __u64 strange =
            digits < 8 ? resp_not_digits(text) & ((1ULL << ((8 * digits) & 63)) - 1) : 0;
        number_ok = strange == 0 && digits > 0;
        if (whole && type != 0 && s[(digits + 2) & 15] != '\n' &&
            (!request || type == '*' || type == '$')) {
            return resp_bad(dir);
        }
    }

    if (request) {
        if (dir->todo == 0) {
            if (type == '*') {
                if (!whole) {
                    return left < 12 ? resp_carry(dir, window, left) : resp_bad(dir);
                }
                dir->element = 0;
                window->pos += window->header;
                if (minus || (number_ok && window->number == 0)) {
                    return RESP_MORE; /* Redis takes it for no command */
                }
                if (!number_ok || window->number > RESP_TODO_MAX) {
                    return resp_bad(dir);
                }
                dir->todo = (__u32)window->number;
                return RESP_MORE;
            }
            if (type == '\r' || type == '\n' || type == ' ') {
                window->pos++;
                return RESP_MORE;
            }
            /* An inline command: words up to the end of the line; the first one is its name. */
            if ((__u8)((type | 0x20) - 'a') > 25) {
                return resp_bad(dir);
            }
            if (left < RESP_NAME_BYTES) {
                __u64 ends = resp_zero_bytes(RESP_LOAD8(s, 0) ^ ('\n' * RESP_ONES)) |
                             resp_zero_bytes(RESP_LOAD8(s, 8) ^ ('\n' * RESP_ONES)) |
                             resp_zero_bytes(RESP_LOAD8(s, 16) ^ ('\n' * RESP_ONES));
                if (ends == 0) {
                    return resp_carry(dir, window, left);
                }
            }
            window->header = 0;
            dir->todo = 1;
            dir->element = 0;
            dir->phase = RESP_LINE;
            resp_inline(context, dir, window);
            return RESP_MORE;
        }
        if (type != '$') {
            return resp_bad(dir);
        }
        if (!whole) {
            return left < 15 ? resp_carry(dir, window, left) : resp_bad(dir);
        }
        if (!number_ok) {
            return resp_bad(dir);
        }
        if (resp_want(context, dir, request)) {
            __u64 n = window->number < RESP_KEEP_BYTES ? window->number : RESP_KEEP_BYTES;
            if (window->header + n > left) {
                return resp_carry(dir, window, left);
            }
            window->kept = n;
            resp_element(context, dir, window, request, type);
        }
        return resp_body(context, dir, window, request);
    }

    int has_length = type == '$' || type == '=' || type == '!';
    int is_group = type == '*' || type == '%' || type == '~' || type == '>' || type == '|';
    int is_line = type == '+' || type == '-' || type == ':' || type == '_' || type == '#' ||
                  type == ',' || type == '(';
    if (!has_length && !is_group && !is_line) {
        return resp_bad(dir);
    }
    if (!whole && (has_length || is_group)) {
        return left < 15 ? resp_carry(dir, window, left) : resp_bad(dir);
    }
    if ((has_length || is_group) && !number_ok && !minus) {
        return resp_bad(dir);
    }
    if (dir->todo == 0) {
        dir->todo = 1;
        dir->element = 0;
        dir->type = type;
        dir->first_number = minus && (has_length || is_group) ? -1 : (__s32)window->number;
    }
    if (is_line) {
        if (resp_want(context, dir, request)) {
            window->kept = whole ? digits : 8;
            window->header = 1;
            resp_element(context, dir, window, request, type);
            window->header = digits + 3;
        }
        if (whole) {
            window->pos += window->header;
            resp_finish_element(context, dir, request);
        } else {
            dir->phase = RESP_LINE;
            /* What was cut off inside \r\n is found by the line's end alone. */
        }
        return RESP_MORE;
    }
    if (minus) {
        if (resp_want(context, dir, request)) {
            resp_element(context, dir, window, request, '_');
        }
        window->pos += window->header;
        resp_finish_element(context, dir, request);
        return RESP_MORE;
    }
    if (has_length) {
        if (resp_want(context, dir, request)) {
            __u64 n = window->number < RESP_KEEP_BYTES ? window->number : RESP_KEEP_BYTES;
            if (window->header + n > left) {
                return resp_carry(dir, window, left);
            }
            window->kept = n;
            resp_element(context, dir, window, request, type);
        }
        return resp_body(context, dir, window, request);
    }
    if (window->number > RESP_TODO_MAX) {
        return resp_bad(dir);
    }
    if (resp_want(context, dir, request)) {
        resp_element(context, dir, window, request, type);
    }
    window->pos += window->header;
    __u64 members = type == '%' || type == '|' ? window->number * 2 : window->number;
    /* An attribute comes before the value it describes, which is still to come. */
    dir->todo += (__u32)members + (type == '|' ? 1 : 0);
    if (dir->todo > RESP_TODO_MAX) {
        return resp_bad(dir);
    }
    resp_finish_element(context, dir, request);
    return RESP_MORE;
}
