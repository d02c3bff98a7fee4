#include "base/test.h"

#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "service/address.h"

static bool public(const char *text)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&storage;
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        storage.ss_family = AF_INET;
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        storage.ss_family = AF_INET6;
    } else {
        fail_msg("%s is no address", text);
    }
    return address_is_public((const struct sockaddr *)&storage);
}

static void addresses_out_there_are_public(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "1.1.1.1",         "8.8.8.8",          "9.255.255.255",        "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",      "126.255.255.255",      "128.0.0.0",
        "169.253.255.255", "169.255.0.0",      "172.15.255.255",       "172.32.0.0",
        "192.167.255.255", "192.169.0.0",      "198.17.255.255",       "198.20.0.0",
        "223.255.255.255", "2606:4700::1111",  "2001:4860:4860::8888", "2a00:1450::1",
        "::ffff:8.8.8.8",  "64:ff9b::808:808", "2002:808:808::1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!public(texts[i])) {
            fail_msg("%s", texts[i]);
        }
    }
}

static void addresses_in_here_are_not_however_they_are_written(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (public(texts[i])) {
            fail_msg("%s", texts[i]);
        }
    }
}

static void other_families_are_not(void **state)
{
    (void)state;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    assert_false(address_is_public((const struct sockaddr *)&un));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_out_there_are_public),
        cmocka_unit_test(addresses_in_here_are_not_however_they_are_written),
        cmocka_unit_test(other_families_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
