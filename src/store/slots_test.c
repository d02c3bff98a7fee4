#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "store/slots.h"

struct seen {
    char text[1024];
    size_t ranges;
};

static void note(void *arg, const struct url_place *master, uint16_t from, uint16_t to)
{
    struct seen *seen = arg;
    assert_true(from <= to && to < SLOTS_COUNT);
    assert_true(master->port != 0 && strlen(master->host) < sizeof master->host);
    seen->ranges++;
    size_t at = strlen(seen->text);
    if (at < sizeof seen->text - 64) {
        snprintf(seen->text + at, sizeof seen->text - at, "%.20s:%u %u-%u;", master->host,
                 master->port, from, to);
    }
}

static struct seen read_nodes(const char *text)
{
    struct seen seen = {0};
    /* On the heap and without a NUL, so that a read past the end is found. */
    size_t bytes = strlen(text);
    char *copy = malloc(bytes == 0 ? 1 : bytes);
    memcpy(copy, text, bytes);
    slots_read_nodes(copy, bytes, "asked", note, &seen);
    free(copy);
    return seen;
}

/* Source: Redis documentation, CLUSTER NODES; the lines are of the documented form, made up here.
 */
static const char nodes[] =
    "0a 127.0.0.1:30004@31004,hostname4 slave 0b 0 1426238317239 4 connected\n"
    "0b 127.0.0.1:30002@31002,hostname2 master - 0 1426238316232 2 connected 5461-10922 7\n"
    "0c 127.0.0.1:30003@31003 master,fail - 0 1426238318243 3 connected 10923-16383\n"
    "0d 127.0.0.1:30006@31006 master,fail? - 0 1 3 connected 12 [93-<-0b] 14-15\n"
    "0e :30001@31001 myself,master - 0 0 1 connected 0-5460 [7->-0d]\n"
    "0f :0@0 master,noaddr - 0 0 1 disconnected 16000\n";

static void the_masters_and_their_slots_are_read(void **state)
{
    (void)state;
    struct seen seen = read_nodes(nodes);
    assert_string_equal(seen.text, "127.0.0.1:30002 5461-10922;127.0.0.1:30002 7-7;"
                                   "127.0.0.1:30006 12-12;127.0.0.1:30006 14-15;"
                                   "asked:30001 0-5460;");
    seen = read_nodes("0b ::1:7000@17000 master - 0 0 1 connected 3\n");
    assert_string_equal(seen.text, "::1:7000 3-3;");
}

static void what_is_no_node_or_range_is_passed_over(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n\n",
        "id",
        "id addr master - 0 0 1 connected 1",
        "id h:0 master - 0 0 1 connected 1",
        "id h:65536 master - 0 0 1 connected 1",
        "id h:-1 master - 0 0 1 connected 1",
        "id h:7000 masters - 0 0 1 connected 1",
        "id h:7000 master - 0 0 1 connected 16384",
        "id h:7000 master - 0 0 1 connected 5-4",
        "id h:7000 master - 0 0 1 connected 5-16384",
        "id h:7000 master - 0 0 1 connected -5",
        "id h:7000 master - 0 0 1 connected 5-",
        "id h:7000 master - 0 0 1 connected +5 0x5 5x 99999999999999999999",
        "id h:7000 master - 0 0 1 connected",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (read_nodes(bad[i]).ranges != 0) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    char longer[600];
    memset(longer, 'h', sizeof longer);
    snprintf(longer + 500, 100, ":1 master - 0 0 1 connected 1");
    memcpy(longer, "id ", 3);
    assert_int_equal(read_nodes(longer).ranges, 0);
}

static void no_change_of_a_map_is_read_past_its_end_or_its_slots(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        char text[sizeof nodes];
        memcpy(text, nodes, sizeof nodes);
        for (int k = 0; k < 3; k++) {
            text[rng_next(&rng) % (sizeof nodes - 1)] = (char)(1 + rng_next(&rng) % 255);
        }
        text[rng_next(&rng) % sizeof nodes] = '\0';
        read_nodes(text); /* note() judges what it is given */
    }
}

static void a_redirection_names_slot_and_place(void **state)
{
    (void)state;
    uint16_t slot = 0;
    struct url_place place;
    static const char moved[] = "MOVED 3999 127.0.0.1:6381";
    assert_true(slots_read_moved(moved, strlen(moved), "asked", &slot, &place));
    assert_int_equal(slot, 3999);
    assert_string_equal(place.host, "127.0.0.1");
    assert_int_equal(place.port, 6381);
    assert_true(slots_read_moved("MOVED 1 :6381", 13, "asked", &slot, &place));
    assert_string_equal(place.host, "asked");
    static const char *const bad[] = {"",           "MOVED",           "MOVED ",
                                      "MOVED 1",    "MOVED 1 ",        "MOVED 16384 h:1",
                                      "MOVED h:1",  "MOVED  1 h:1",    "MOVED 1 h",
                                      "MOVED 1 h:", "MOVED 1 h:70000", "ASK 1 h:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (slots_read_moved(bad[i], strlen(bad[i]), "asked", &slot, &place)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_masters_and_their_slots_are_read),
        cmocka_unit_test(what_is_no_node_or_range_is_passed_over),
        cmocka_unit_test(no_change_of_a_map_is_read_past_its_end_or_its_slots),
        cmocka_unit_test(a_redirection_names_slot_and_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
