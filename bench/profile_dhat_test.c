#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "profile_dhat.h"

#define POINT(tb, eb, fs) \
    "{\"tb\":" tb ",\"tbk\":2,\"tl\":99,\"mb\":40,\"mbk\":1,\"gb\":8,\"gbk\":1,\"eb\":" eb \
    ",\"ebk\":1,\"rb\":6,\"wb\":8,\"acc\":[1,2],\"fs\":" fs "}"
#define FILE_OF(points) \
    "{\"dhatFileVersion\":2,\"mode\":\"heap\",\"verb\":\"Allocated\",\"bklt\":true," \
    "\"bkacc\":true,\"tu\":\"instrs\",\"Mtu\":\"Minstr\",\"tuth\":500,\"cmd\":\"/home/me/x\"," \
    "\"pid\":77,\"te\":411557,\"tg\":406383,\"pps\":[" points "],\"ftbl\":[\"[root]\"," \
    "\"0x4: malloc (in /usr/libexec/valgrind/vgpreload_dhat-amd64-linux.so)\"," \
    "\"0x5: leaf.part.0 (x.c:5)\",\"0x6: main (/home/me/src/m.c:9)\"," \
    "\"0x7: leaf.part.0 (x.c:5)\",\"0x8: ??? (in /usr/lib/libcjson.so.1)\"," \
    "\"0x9: main (/home/me/src/m.c:10)\"]}"

static struct dhat parsed(const char *text)
{
    static const char *const local[] = {"/home/me", NULL};
    struct dhat profile;
    struct err err = {""};
    int code = dhat_parse(&profile, text, strlen(text), local, &err);
    if (code != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    return profile;
}

static void sites_that_read_the_same_are_joined(void **state)
{
    (void)state;
    struct dhat profile = parsed(FILE_OF(POINT("100", "10", "[1,2,3]") "," POINT(
        "50", "5", "[1,4,3]") "," POINT("70", "0", "[1,5,6]") "," POINT("30", "0", "[1,2,6]")));
    struct profile_table sites;
    assert_int_equal(profile.count, 3);
    dhat_sites(&sites, &profile);
    assert_int_equal(sites.count, 2);
    assert_string_equal(sites.rows[0].text[0], "main;leaf");
    assert_int_equal(sites.rows[0].value[HEAP_BYTES], 180);
    assert_int_equal(sites.rows[0].value[HEAP_BLOCKS], 6);
    assert_int_equal(sites.rows[0].value[HEAP_LIVE_BYTES], 15);
    assert_int_equal(sites.rows[0].value[HEAP_PEAK_BYTES], 24);
    assert_string_equal(sites.rows[1].text[0], "main;libcjson:[stripped]");
    profile_table_fini(&sites);
    dhat_fini(&profile);
}

static void order_and_addresses_do_not_change_the_file(void **state)
{
    (void)state;
    struct dhat a = parsed(FILE_OF(POINT("100", "10", "[1,2,3]") "," POINT("70", "0", "[1,5,6]")));
    struct dhat b = parsed(FILE_OF(POINT("70", "0", "[1,5,6]") "," POINT("100", "10", "[1,4,3]")));
    struct buf x = BUF_INIT;
    struct buf y = BUF_INIT;
    dhat_write(&x, &a);
    dhat_write(&y, &b);
    assert_string_equal(x.data, y.data);
    assert_null(strstr(x.data, "/home"));
    assert_null(strstr(x.data, "77"));
    assert_non_null(strstr(x.data, "\"0x0: main (src/m.c:9)\""));
    struct dhat again = parsed(x.data);
    buf_clear(&y);
    dhat_write(&y, &again);
    assert_string_equal(x.data, y.data);
    dhat_fini(&again);
    dhat_fini(&a);
    dhat_fini(&b);
    buf_fini(&x);
    buf_fini(&y);
}

/* What Valgrind's dh_view.js asks for, or it refuses the file. */
static void every_field_the_viewer_checks_is_there(void **state)
{
    (void)state;
    static const char *const top[] = {"dhatFileVersion",
                                      "mode",
                                      "verb",
                                      "bklt",
                                      "bkacc",
                                      "tu",
                                      "Mtu",
                                      "cmd",
                                      "pid",
                                      "te",
                                      "pps",
                                      "ftbl",
                                      "tg",
                                      "tuth"};
    static const char *const point[] = {"tb",  "tbk", "fs",  "mb", "mbk", "gb",
                                        "gbk", "eb",  "ebk", "rb", "wb"};
    struct dhat profile = parsed(FILE_OF(POINT("100", "10", "[1,2,3]")));
    struct buf text = BUF_INIT;
    dhat_write(&text, &profile);
    struct json *json = json_parse(text.data, text.bytes, NULL);
    assert_non_null(json);
    for (size_t i = 0; i < sizeof top / sizeof *top; i++) {
        assert_non_null(json_get(json, top[i]));
    }
    assert_int_equal(json_int(json_get(json, "dhatFileVersion"), 0), 2);
    for (size_t i = 0; i < sizeof point / sizeof *point; i++) {
        assert_non_null(json_get(json_first(json_get(json, "pps")), point[i]));
    }
    json_free(json);
    buf_fini(&text);
    dhat_fini(&profile);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{", "line 1"},
        {"[]", "dhatFileVersion"},
        {"{\"dhatFileVersion\":3}", "dhatFileVersion is not 2"},
        {FILE_OF(POINT("100", "10", "[1,99]")), "outside ftbl"},
        {FILE_OF(POINT("-1", "0", "[1]")), "pps[0].tb"},
        {FILE_OF(POINT("1.5", "0", "[1]")), "pps[0].tb"},
        {FILE_OF(POINT("10", "11", "[1]")), "more than it ever allocated"},
        {FILE_OF(POINT("10", "1", "7")), "pps[0].fs is no array"},
        {FILE_OF("7"), "pps[0].tb"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dhat profile;
        struct err err = {""};
        assert_int_equal(dhat_parse(&profile, cases[i].text, strlen(cases[i].text), NULL, &err),
                         -EBADMSG);
        if (strstr(err.text, cases[i].says) == NULL) {
            print_error("case %zu says: %s\n", i, err.text);
        }
        assert_non_null(strstr(err.text, cases[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sites_that_read_the_same_are_joined),
        cmocka_unit_test(order_and_addresses_do_not_change_the_file),
        cmocka_unit_test(every_field_the_viewer_checks_is_there),
        cmocka_unit_test(broken_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
