/* The one door to the HTTP/1 parser: llhttp, which is kept up, or its parent http-parser, which is
 * all that Debian 12 has as a library. Both call back with slices of the caller's bytes and
 * allocate nothing; meson chooses (option http_parser) and defines HTTP1_LLHTTP.
 *
 * The caller owns parser and settings; a parser belongs to one thread and is not copied while fed.
 * Callbacks are the library's own: int f(http1_parser *) and int f(http1_parser *, const char *,
 * size_t); they return 0 to go on, -1 to refuse, or http1_pause(). `parser->data` is the caller's;
 * http_major, http_minor, status_code and method have the same names in both. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef HTTP1_LLHTTP
#include <llhttp.h>
typedef llhttp_t http1_parser; /* a library's type, not a struct of ours */
typedef llhttp_settings_t http1_settings;
#else
#include <http_parser.h>
typedef http_parser http1_parser;
typedef http_parser_settings http1_settings;
#endif

enum http1_kind { HTTP1_REQUEST, HTTP1_RESPONSE };

enum http1_end {
    HTTP1_MORE, /* all bytes are taken; feed more */
    HTTP1_PAUSED, /* a callback paused; what follows `taken` is to be fed again */
    HTTP1_REFUSED, /* malformed, or a callback refused */
    HTTP1_VERSION, /* not HTTP/1.0 or HTTP/1.1 */
};

/* Once, before the first parser, by a program that limits heads itself: http-parser's own limit
 * (80 KiB) is one for the whole process, llhttp has none. */
static inline void http1_limit_heads(uint32_t bytes)
{
#ifdef HTTP1_LLHTTP
    (void)bytes;
#else
    http_parser_set_max_header_size(bytes);
#endif
}

/* settings must outlive the parser. Keeps nothing of what was fed before. */
static inline void http1_init(http1_parser *parser, enum http1_kind kind,
                              const http1_settings *settings, void *data)
{
#ifdef HTTP1_LLHTTP
    llhttp_init(parser, kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, settings);
#else
    (void)settings;
    http_parser_init(parser, kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE);
#endif
    parser->data = data;
}

/* What a callback returns to stop after it: on_message_complete ends a turn so. */
static inline int http1_pause(http1_parser *parser)
{
#ifdef HTTP1_LLHTTP
    (void)parser;
    return HPE_PAUSED;
#else
    http_parser_pause(parser, 1);
    return 0;
#endif
}

/* bytes = 0 says that the peer has closed. *taken is meaningful for HTTP1_MORE and HTTP1_PAUSED;
 * after HTTP1_REFUSED the parser is of no more use. */
static inline enum http1_end http1_feed(http1_parser *parser, const http1_settings *settings,
                                        const char *at, size_t bytes, size_t *taken)
{
    *taken = bytes;
#ifdef HTTP1_LLHTTP
    (void)settings;
    llhttp_errno_t code = bytes == 0 ? llhttp_finish(parser) : llhttp_execute(parser, at, bytes);
    switch ((int)code) {
    case HPE_OK:
        return HTTP1_MORE;
    case HPE_PAUSED:
        if (bytes != 0) {
            *taken = (size_t)(llhttp_get_error_pos(parser) - at);
        }
        llhttp_resume(parser);
        return HTTP1_PAUSED;
    case HPE_INVALID_VERSION:
        return HTTP1_VERSION;
    default:
        return HTTP1_REFUSED;
    }
#else
    *taken = http_parser_execute(parser, settings, at, bytes);
    switch ((int)HTTP_PARSER_ERRNO(parser)) {
    case HPE_OK:
        return HTTP1_MORE;
    case HPE_PAUSED:
        http_parser_pause(parser, 0);
        return HTTP1_PAUSED;
    case HPE_INVALID_VERSION:
        return HTTP1_VERSION;
    default:
        return HTTP1_REFUSED;
    }
#endif
}

/* From on_headers_complete on. */
static inline bool http1_keep_alive(const http1_parser *parser)
{
#ifdef HTTP1_LLHTTP
    return llhttp_should_keep_alive(parser) != 0;
#else
    return http_should_keep_alive(parser) != 0;
#endif
}

static inline bool http1_chunked(const http1_parser *parser)
{
    return (parser->flags & F_CHUNKED) != 0;
}

/* The Content-Length, in on_headers_complete; 0 where there is none. */
static inline uint64_t http1_content_bytes(const http1_parser *parser)
{
#ifdef HTTP1_LLHTTP
    return parser->content_length;
#else
    return parser->content_length == ULLONG_MAX ? 0 : parser->content_length;
#endif
}
