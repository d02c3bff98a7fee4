#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "store/keys.h"
#include "store/url.h"

static void each_part_of_an_address_is_found(void **state)
{
    (void)state;
    struct url u;
    assert_int_equal(url_parse("redis://h", &u, NULL), 0);
    assert_string_equal(u.places[0].host, "h");
    assert_int_equal(u.places[0].port, 6379);
    assert_int_equal(u.place_count, 1);
    assert_int_equal(u.kind, URL_ONE);
    assert_string_equal(u.password, "");
    assert_int_equal(url_parse("redis://ann:p%40%3A%2F@h.example:7000/12", &u, NULL), 0);
    assert_string_equal(u.user, "ann");
    assert_string_equal(u.password, "p@:/");
    assert_string_equal(u.places[0].host, "h.example");
    assert_int_equal(u.places[0].port, 7000);
    assert_int_equal(u.db, 12);
    assert_int_equal(url_parse("redis://:pw@[::1]:1/", &u, NULL), 0);
    assert_string_equal(u.user, "");
    assert_string_equal(u.password, "pw");
    assert_string_equal(u.places[0].host, "::1");
    assert_int_equal(u.places[0].port, 1);
    assert_int_equal(url_parse("unix:/a/b.sock", &u, NULL), 0);
    assert_int_equal(u.places[0].port, 0);
    assert_string_equal(u.places[0].host, "/a/b.sock");
    assert_int_equal(url_parse("unix:///a?db=2&password=x&user=y", &u, NULL), 0);
    assert_string_equal(u.places[0].host, "/a");
    assert_int_equal(u.db, 2);
    assert_string_equal(u.password, "x");
    assert_string_equal(u.user, "y");
}

static void address_says_whether_to_speak_tls(void **state)
{
    (void)state;
    struct url url;
    assert_int_equal(url_parse("rediss://u:p@a:1,b?sentinel=m", &url, NULL), 0);
    assert_true(url.tls);
    assert_int_equal(url.kind, URL_SENTINEL);
    assert_string_equal(url.password, "p");
    assert_int_equal(url_parse("redis://a", &url, NULL), 0);
    assert_false(url.tls);
    assert_int_equal(url_parse("unix:/a", &url, NULL), 0);
    assert_false(url.tls);
}

static void several_hosts_are_told_apart(void **state)
{
    (void)state;
    struct url u;
    assert_int_equal(url_parse("redis://u:p@a:7000,b,[::1]:7002", &u, NULL), 0);
    assert_int_equal(u.kind, URL_SEVERAL);
    assert_int_equal(u.place_count, 3);
    assert_string_equal(u.places[0].host, "a");
    assert_int_equal(u.places[0].port, 7000);
    assert_int_equal(u.places[1].port, 6379);
    assert_string_equal(u.places[2].host, "::1");
    assert_int_equal(u.places[2].port, 7002);
    assert_int_equal(url_parse("redis://a/0?cluster=yes", &u, NULL), 0);
    assert_int_equal(u.kind, URL_CLUSTER);
    assert_int_equal(url_parse("redis://a,b:1/3?sentinel=my%20master", &u, NULL), 0);
    assert_int_equal(u.kind, URL_SENTINEL);
    assert_string_equal(u.sentinel, "my master");
    assert_int_equal(u.places[0].port, 26379);
    assert_int_equal(u.places[1].port, 1);
    assert_int_equal(u.db, 3);
}

static void an_address_that_is_none_is_refused_without_its_password(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "redis",
        "redis://",
        "redis://:secret@",
        "redis://secret@h",
        "redis://h:port",
        "redis://h:65536",
        "redis://h/db",
        "redis://h/-1",
        "redis://[::1",
        "redis://[::1]x",
        "redis://a:secret%4@h",
        "redis://a:secret%00@h",
        "unix:",
        "unix:relative",
        "unix:/a?secret",
        "unix:/a?db=",
        "unix:/a?db=secret",
        "http://h",
        "redis://h:",
        "redis://h:1:2",
        "redis://h:0",
        "redis://a,,b",
        "redis://a,b/1?cluster=yes",
        "redis://a,b?cluster=no",
        "redis://a?cluster=maybe",
        "redis://:secret@a?sentinel=",
        "redis://h1,h2,h3,h4,h5,h6,h7,h8,h9,h10,h11,h12,h13,h14,h15,h16,h17",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct url u = {.db = 42};
        struct err err = {""};
        if (url_parse(bad[i], &u, &err) != -EINVAL) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(u.db, 42);
        assert_true(err.text[0] != '\0');
        if (strcmp(bad[i], "unix:/a?db=secret") != 0) {
            assert_null(strstr(err.text, "secret"));
        }
    }
    char longer[600] = "redis://";
    memset(longer + 8, 'h', 500);
    struct url u;
    assert_int_equal(url_parse(longer, &u, NULL), -EINVAL);
}

static void tags_hold_one_cluster_slot_and_the_largest_fits(void **state)
{
    (void)state;
    char out[KEYS_BYTES_MAX];
    assert_int_equal(keys_tag("acme", 0, 0, out), 10);
    assert_string_equal(out, "{acme/0/0}");
    assert_int_equal(keys_tag("a12345678901234567890123456789012345678901234567890123456789012",
                              65535, 255, out),
                     63 + 12);
    assert_string_equal(out + 64, "/65535/255}");
    assert_int_equal(keys_queues("acme", out), 13);
    assert_string_equal(out, "{acme}:queues");
    assert_int_equal(keys_tag("ac}me", 1, 1, out), 0);
    assert_int_equal(keys_queues("a", out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_of_an_address_is_found),
        cmocka_unit_test(address_says_whether_to_speak_tls),
        cmocka_unit_test(several_hosts_are_told_apart),
        cmocka_unit_test(an_address_that_is_none_is_refused_without_its_password),
        cmocka_unit_test(tags_hold_one_cluster_slot_and_the_largest_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
