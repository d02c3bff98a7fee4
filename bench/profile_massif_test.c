#include "base/test.h"

#include <errno.h>
#include <string.h>

#include "profile_massif.h"

static const char file[] =
    "desc: --time-unit=B --massif-out-file=/home/me/massif.raw\ncmd: /home/me/build/drive 7\n"
    "time_unit: B\n#-----------\nsnapshot=0\n#-----------\ntime=0\nmem_heap_B=0\n"
    "mem_heap_extra_B=0\nmem_stacks_B=0\nheap_tree=empty\n#-----------\nsnapshot=1\n#-----------\n"
    "time=900\nmem_heap_B=700\nmem_heap_extra_B=16\nmem_stacks_B=0\nheap_tree=peak\n"
    "n2: 700 (heap allocation functions) malloc/new/new[], --alloc-fns, etc.\n"
    " n1: 400 0x1092E9: leaf (/home/me/src/x.c:5)\n"
    "  n0: 400 0x1093B5: main (main.c:8)\n"
    " n0: 300 0x48D28CB: ??? (in /usr/lib/x86_64-linux-gnu/libcjson.so.1.7.15)\n";

static void file_is_kept_without_folders_and_addresses(void **state)
{
    (void)state;
    static const char *const local[] = {"/home/me", NULL};
    struct buf out = BUF_INIT;
    struct err err = {""};
    int64_t peak = 0;
    assert_int_equal(massif_canonical(&out, file, sizeof file - 1, local, &peak, &err), 0);
    assert_int_equal(peak, 700);
    assert_non_null(strstr(out.data, "\n n1: 400 0x0: leaf (src/x.c:5)\n"));
    assert_non_null(strstr(out.data, "\n  n0: 400 0x0: main (main.c:8)\n"));
    assert_non_null(strstr(out.data, "\n n0: 300 0x0: ??? (in libcjson.so.1.7.15)\n"));
    assert_null(strstr(out.data, "/home"));
    /* What is canonical stays as it is. */
    struct buf again = BUF_INIT;
    assert_int_equal(massif_canonical(&again, out.data, out.bytes, NULL, &peak, &err), 0);
    assert_string_equal(again.data, out.data);
    buf_fini(&out);
    buf_fini(&again);
}

static void broken_files_are_refused_with_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"snapshot=1", "snapshot=4", "line 13: not the next snapshot"},
        {"mem_heap_B=700", "mem_heap_B=x", "line 16: not mem_heap_B=NUMBER"},
        {"mem_heap_B=700", "mem_heap_B=600", "more bytes than the node above"},
        {"n2: 700", "n3: 700", "the file ends inside a heap tree"},
        {" n1: 400", "  n1: 400", "line 21: not a node of the heap tree at its depth"},
        {"heap_tree=peak", "heap_tree=pear", "none of empty, detailed, peak"},
        {"time_unit:", "time_knit:", "not a massif file"},
        {"mem_heap_B=0\n", "mem_heap_B=900\n", "larger than the peak"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text = BUF_INIT;
        struct buf out = BUF_INIT;
        struct err err = {""};
        int64_t peak = -1;
        const char *at = strstr(file, cases[i].from);
        assert_non_null(at);
        buf_append(&text, file, (size_t)(at - file));
        buf_puts(&text, cases[i].to);
        buf_puts(&text, at + strlen(cases[i].from));
        assert_int_equal(massif_canonical(&out, text.data, text.bytes, NULL, &peak, &err),
                         -EBADMSG);
        if (strstr(err.text, cases[i].says) == NULL) {
            print_error("case %zu says: %s\n", i, err.text);
        }
        assert_non_null(strstr(err.text, cases[i].says));
        assert_int_equal(peak, -1);
        assert_int_equal(out.bytes, 0);
        buf_fini(&text);
        buf_fini(&out);
    }
}

static void endless_depth_is_refused(void **state)
{
    (void)state;
    struct buf text = BUF_INIT;
    struct buf out = BUF_INIT;
    int64_t peak;
    const char *tree = strstr(file, "n2: 700");
    buf_append(&text, file, (size_t)(tree - file));
    for (int depth = 0; depth < 5000; depth++) {
        buf_printf(&text, "%*sn1: 700 x\n", depth, "");
    }
    assert_int_equal(massif_canonical(&out, text.data, text.bytes, NULL, &peak, NULL), -ERANGE);
    buf_fini(&text);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_is_kept_without_folders_and_addresses),
        cmocka_unit_test(broken_files_are_refused_with_the_line),
        cmocka_unit_test(endless_depth_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
