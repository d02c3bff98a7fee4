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
    assert_string_equal(u.place, "h");
    assert_int_equal(u.port, 6379);
    assert_false(u.is_unix);
    assert_string_equal(u.password, "");
    assert_int_equal(url_parse("redis://ann:p%40%3A%2F@h.example:7000/12", &u, NULL), 0);
    assert_string_equal(u.user, "ann");
    assert_string_equal(u.password, "p@:/");
    assert_string_equal(u.place, "h.example");
    assert_int_equal(u.port, 7000);
    assert_int_equal(u.db, 12);
    assert_int_equal(url_parse("redis://:pw@[::1]:1/", &u, NULL), 0);
    assert_string_equal(u.user, "");
    assert_string_equal(u.password, "pw");
    assert_string_equal(u.place, "::1");
    assert_int_equal(u.port, 1);
    assert_int_equal(url_parse("unix:/a/b.sock", &u, NULL), 0);
    assert_true(u.is_unix);
    assert_string_equal(u.place, "/a/b.sock");
    assert_int_equal(url_parse("unix:///a?db=2&password=x&user=y", &u, NULL), 0);
    assert_string_equal(u.place, "/a");
    assert_int_equal(u.db, 2);
    assert_string_equal(u.password, "x");
    assert_string_equal(u.user, "y");
}

static void several_addresses_share_login_and_database(void **state)
{
    (void)state;
    struct url u;
    assert_int_equal(url_parse("redis://:a%2Cb@h:1,[::1]:2,j/3", &u, NULL), 0);
    assert_int_equal(u.place_count, 3);
    assert_string_equal(u.place, "h");
    assert_int_equal(u.port, 1);
    assert_string_equal(u.places[1].host, "::1");
    assert_int_equal(u.places[1].port, 2);
    assert_string_equal(u.places[2].host, "j");
    assert_int_equal(u.places[2].port, 6379);
    assert_string_equal(u.password, "a,b");
    assert_int_equal(u.db, 3);
    struct err err;
    assert_int_equal(url_parse("redis://:secret@a,b,c,d,e,f,g,h,i", &u, &err), -EINVAL);
    assert_null(strstr(err.text, "secret"));
    assert_int_equal(url_parse("redis://:secret@a,,b", &u, &err), -EINVAL);
    assert_null(strstr(err.text, "secret"));
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
        "rediss://:secret@h",
        "http://h",
        "redis://h:",
        "redis://h:1:2",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct url u = {.port = 42};
        struct err err = {""};
        if (url_parse(bad[i], &u, &err) != -EINVAL) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(u.port, 42);
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
        cmocka_unit_test(several_addresses_share_login_and_database),
        cmocka_unit_test(an_address_that_is_none_is_refused_without_its_password),
        cmocka_unit_test(tags_hold_one_cluster_slot_and_the_largest_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
