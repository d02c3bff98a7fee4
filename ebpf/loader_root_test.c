/* What is said of a program that the kernel refuses. Exits 77 with the reason where BPF may not be
 * loaded. */
#include "trace_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broken.skel.h"
#include "loader.h"

static void refused_program_is_told_with_the_verifiers_log(void **state)
{
    (void)state;
    size_t bytes;
    const void *data = broken__elf_bytes(&bytes);
    struct loader *loader = NULL;
    struct err err = {""};
    assert_int_equal(loader_open_bytes(&loader, data, bytes, &err), 0);
    assert_true(loader_load(loader, &err) < 0);
    assert_non_null(strstr(err.text, "the kernel refused a BPF program"));
    assert_non_null(strstr(err.text, "its verifier's log follows"));
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    loader_print_log(loader, out);
    fclose(out);
    if (strstr(text, "invalid mem access") == NULL) {
        fail_msg("not the verifier's reason: %s", text);
    }
    assert_true(size <= 4000);
    free(text);
    loader_free(loader);
}

int main(void)
{
    int code = tracer_check(0);
    if (code != 0) {
        return code;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_program_is_told_with_the_verifiers_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
