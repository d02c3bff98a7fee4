#include "service/http_head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "base/rng.h"
#include "base/test.h"

#define ROUNDS 200000
#define PLAIN \
    "POST /v1/codeq/tasks?a=b HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer dev-token\r\n" \
    "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"

/* What the parser reads of the same bytes. */
struct parsed {
    const char *in;
    struct http_head head;
    struct http_piece body;
    size_t body_bytes;
    bool in_value;
    bool keep_alive;
    bool complete;
};

static void extend(struct parsed *p, struct http_piece *piece, const char *at, size_t bytes)
{
    if (piece->bytes == 0) {
        piece->at = (uint32_t)(at - p->in);
    }
    piece->bytes += (uint32_t)bytes;
}

static int on_url(http1_parser *parser, const char *at, size_t bytes)
{
    struct parsed *p = parser->data;
    extend(p, &p->head.url, at, bytes);
    return 0;
}

static int on_name(http1_parser *parser, const char *at, size_t bytes)
{
    struct parsed *p = parser->data;
    if (p->in_value || p->head.header_count == 0) {
        assert_true(p->head.header_count < HTTP_HEADERS_MAX);
        p->head.header_count++;
        p->in_value = false;
    }
    extend(p, &p->head.names[p->head.header_count - 1], at, bytes);
    return 0;
}

static int on_value(http1_parser *parser, const char *at, size_t bytes)
{
    struct parsed *p = parser->data;
    p->in_value = true;
    extend(p, &p->head.values[p->head.header_count - 1], at, bytes);
    return 0;
}

static int on_head(http1_parser *parser)
{
    struct parsed *p = parser->data;
    p->head.method = parser->method;
    p->keep_alive = http1_keep_alive(parser);
    assert_int_equal(parser->http_major, 1);
    assert_int_equal(parser->http_minor, 1);
    assert_false(http1_chunked(parser));
    p->body_bytes = http1_content_bytes(parser);
    return 0;
}

static int on_body(http1_parser *parser, const char *at, size_t bytes)
{
    struct parsed *p = parser->data;
    extend(p, &p->body, at, bytes);
    return 0;
}

static int on_complete(http1_parser *parser)
{
    struct parsed *p = parser->data;
    p->complete = true;
    return http1_pause(parser);
}

static void same(struct http_piece a, struct http_piece b)
{
    assert_int_equal(a.at, b.at);
    assert_int_equal(a.bytes, b.bytes);
}

/* Is it plain? Then the parser reads the same of it, and its body where that has arrived. */
static bool reads_as_the_parser(const char *text, size_t bytes)
{
    static const http1_settings settings = {
        .on_url = on_url,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    static struct http_head head;
    size_t head_bytes = 0;
    size_t body_bytes = 0;
    char *in = malloc(bytes); /* of its own size, for the sanitizer */
    assert_non_null(in);
    memcpy(in, text, bytes);
    bool plain = http_head_read(in, bytes, &head, &head_bytes, &body_bytes);
    if (plain) {
        static struct parsed p;
        memset(&p, 0, sizeof(p));
        p.in = in;
        http1_parser parser;
        http1_init(&parser, HTTP1_REQUEST, &settings, &p);
        size_t taken = 0;
        size_t whole = head_bytes + body_bytes;
        enum http1_end end = http1_feed(&parser, &settings, in, bytes, &taken);
        if (end != (bytes >= whole ? HTTP1_PAUSED : HTTP1_MORE)) {
            fail_msg("the parser says %d to: %.*s", (int)end, (int)bytes, in);
        }
        assert_int_equal(p.complete, bytes >= whole);
        assert_true(p.keep_alive);
        assert_int_equal(p.head.method, head.method);
        same(p.head.url, head.url);
        assert_int_equal(p.head.header_count, head.header_count);
        for (size_t i = 0; i < head.header_count; i++) {
            same(p.head.names[i], head.names[i]);
            same(p.head.values[i], head.values[i]);
        }
        assert_int_equal(p.body_bytes, body_bytes);
        if (p.complete && body_bytes > 0) {
            same(p.body, (struct http_piece){(uint32_t)head_bytes, (uint32_t)body_bytes});
        }
    }
    free(in);
    return plain;
}

static void plain_heads_are_read(void **state)
{
    (void)state;
    static const char *const heads[] = {
        PLAIN,
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "PUT /v1/codeq/admin/topics/a-b_c HTTP/1.1\r\nHOST:x:8080\r\n\r\n",
        "DELETE /v1/codeq/tasks/1?force=true&x=%20 HTTP/1.1\r\nHost: a\r\nContent-Length: "
        "0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nX-Y: \"a b\",c\r\n\r\nGET / HT",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 000012\r\n\r\nnot all",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (!reads_as_the_parser(heads[i], strlen(heads[i]))) {
            fail_msg("left to the parser: %s", heads[i]);
        }
    }
}

static void other_heads_are_left_to_the_parser(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "",
        "POST ",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a \r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01"
        "b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: abcdefghijk\x7flmnop\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encodings: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890\r\n\r\na",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (reads_as_the_parser(heads[i], strlen(heads[i]))) {
            fail_msg("taken as plain: %s", heads[i]);
        }
    }
}

static void a_head_with_too_many_lines_is_left_to_the_parser(void **state)
{
    (void)state;
    for (size_t lines = HTTP_HEADERS_MAX - 1; lines <= HTTP_HEADERS_MAX; lines++) {
        char text[2048] = "GET / HTTP/1.1\r\nHost: a\r\n";
        for (size_t i = 0; i < lines; i++) {
            strcat(text, "X: y\r\n");
        }
        strcat(text, "\r\n");
        assert_int_equal(reads_as_the_parser(text, strlen(text)), lines < HTTP_HEADERS_MAX);
    }
}

static void no_beginning_of_a_plain_head_is_plain(void **state)
{
    (void)state;
    size_t head_bytes = sizeof(PLAIN) - 1 - 7;
    for (size_t n = 0; n < sizeof(PLAIN); n++) {
        assert_int_equal(reads_as_the_parser(PLAIN, n), n >= head_bytes);
    }
}

/* Each change is a byte replaced, taken out, doubled, or a piece of another line put in. */
static void what_is_plain_after_any_change_the_parser_reads_the_same(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "\r\n",
        "\r",
        "\n",
        " ",
        ":",
        "\t",
        "HTTP/1.0",
        "GET ",
        "X: y\r\n",
        "Host: b\r\n",
        "Connection: close\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Upgrade: x\r\n",
        "Connection: keep-alive\r\n",
        "Expect: 100-continue\r\n",
        "#",
        "?",
    };
    struct rng rng;
    rng_init(&rng, 20250607);
    unsigned plain = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char text[1024] = PLAIN;
        size_t bytes = sizeof(PLAIN) - 1;
        for (uint64_t changes = 1 + rng_next(&rng) % 3; changes > 0; changes--) {
            size_t at = rng_next(&rng) % bytes;
            const char *piece = pieces[rng_next(&rng) % (sizeof(pieces) / sizeof(pieces[0]))];
            size_t room = 1;
            switch (rng_next(&rng) % 4) {
            case 0:
                text[at] = (char)rng_next(&rng);
                continue;
            case 1:
                memmove(text + at, text + at + 1, bytes - at - 1);
                bytes--;
                continue;
            case 2:
                memmove(text + at + 1, text + at, bytes - at);
                bytes++;
                continue;
            default:
                /* at the beginning of a line, half of the time */
                if (rng_next(&rng) % 2 == 0) {
                    const char *line = memchr(text + at, '\n', bytes - at);
                    at = line == NULL ? at : (size_t)(line + 1 - text);
                }
                room = strlen(piece);
                memmove(text + at + room, text + at, bytes - at);
                memcpy(text + at, piece, room);
                bytes += room;
            }
        }
        plain += reads_as_the_parser(text, bytes);
    }
    assert_in_range(plain, ROUNDS / 10, ROUNDS - ROUNDS / 10); /* both ways are taken */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_heads_are_read),
        cmocka_unit_test(other_heads_are_left_to_the_parser),
        cmocka_unit_test(a_head_with_too_many_lines_is_left_to_the_parser),
        cmocka_unit_test(no_beginning_of_a_plain_head_is_plain),
        cmocka_unit_test(what_is_plain_after_any_change_the_parser_reads_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
