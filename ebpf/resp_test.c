/* The RESP reader in user space: the same code as in the kernel, on buffers cut anywhere. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resp_host.h"

static const char requests[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nline\r\n*1\r\n$4\r\n"
                               "PING\r\n"
                               "*2\r\n$3\r\nget\r\n$0\r\n\r\n"
                               "*1\r\n$21\r\nGEORADIUSBYMEMBER_RO1\r\n"
                               "  inline with words\r\n"
                               "*0\r\n"
                               "*2\r\n$4\r\nECHO\r\n$4\r\nlast\r\n";

static const char replies[] =
    "+OK\r\n-ERR a longer line than eight bytes\r\n:1234567890123\r\n"
    "$-1\r\n*-1\r\n$5\r\nhe\r\nx\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n"
    "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n_\r\n#t\r\n,3.25\r\n(123456789\r\n"
    "~1\r\n+x\r\n=15\r\ntxt:Some string\r\n>2\r\n+message\r\n+c\r\n*0\r\n";

static void check_requests(const struct resp_host *host)
{
    assert_int_equal(host->messages[1], 6);
    assert_string_equal(host->names, "SET PING GET GEORADIUSBYMEMBER_RO1 INLINE ECHO ");
    assert_false(host->dir[1].bad);
}

static void requests_cut_at_every_byte_are_the_same(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof requests; cut++) {
        struct resp_host host = {0};
        resp_host_feed(&host, requests, cut, 1);
        resp_host_feed(&host, requests + cut, sizeof requests - 1 - cut, 1);
        check_requests(&host);
    }
}

static void requests_byte_by_byte_are_the_same(void **state)
{
    (void)state;
    struct resp_host host = {0};
    for (size_t i = 0; i < sizeof requests - 1; i++) {
        resp_host_feed(&host, requests + i, 1, 1);
    }
    check_requests(&host);
}

static void replies_cut_at_every_byte_are_the_same(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof replies; cut++) {
        struct resp_host host = {0};
        resp_host_feed(&host, replies, cut, 0);
        resp_host_feed(&host, replies + cut, sizeof replies - 1 - cut, 0);
        assert_int_equal(host.messages[0], 16);
        assert_string_equal(host.types, "+-:$*$*%_#,(~=>*");
        assert_false(host.dir[0].bad);
    }
}

static void large_bulk_is_skipped_whatever_its_bytes(void **state)
{
    (void)state;
    size_t bytes = 100000;
    char *text = malloc(bytes + 64);
    assert_non_null(text);
    int n = sprintf(text, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", bytes);
    memset(text + n, '*', bytes);
    memcpy(text + n + bytes, "\r\n", 2);
    struct resp_host host = {0};
    for (size_t at = 0; at < (size_t)n + bytes + 2; at += 7919) {
        size_t left = (size_t)n + bytes + 2 - at;
        resp_host_feed(&host, text + at, left < 7919 ? left : 7919, 1);
    }
    free(text);
    assert_int_equal(host.messages[1], 1);
    assert_int_equal(host.dir[1].todo, 0);
}

static void bulk_lengths_of_nine_digits_are_read(void **state)
{
    (void)state;
    static const char head[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$123456789\r\n";
    struct resp_host host = {0};
    resp_host_feed(&host, head, sizeof head - 1, 1);
    assert_false(host.dir[1].bad);
    assert_int_equal(host.dir[1].skip, 123456791);
}

static void what_is_not_resp_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"*x\r\n",       "*1\r\n+OK\r\n",      "*1\r\n$x\r\n",
                                      "\x16\x03\x01", "*1\r\n$1a\r\nx\r\n", "*99999999999999\r\n",
                                      "*1\r\n$-5\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct resp_host host = {0};
        resp_host_feed(&host, bad[i], strlen(bad[i]), 1);
        if (!host.dir[1].bad) {
            fail_msg("taken for RESP: %s", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_cut_at_every_byte_are_the_same),
        cmocka_unit_test(requests_byte_by_byte_are_the_same),
        cmocka_unit_test(replies_cut_at_every_byte_are_the_same),
        cmocka_unit_test(large_bulk_is_skipped_whatever_its_bytes),
        cmocka_unit_test(bulk_lengths_of_nine_digits_are_read),
        cmocka_unit_test(what_is_not_resp_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
