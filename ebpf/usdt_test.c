/* The probe points of the built programs, and the reader of foreign ELF files. */
#include "base/test.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/probe.h"
#include "usdt.h"

#define LINUX(major, minor) ((unsigned)(major) << 8 | (unsigned)(minor))

static struct usdt_point points[USDT_POINTS_MAX];

static void every_point_of(const char *variable, const char *const *names)
{
    const char *path = getenv(variable);
    assert_non_null(path);
    struct err err = {""};
    uint16_t machine = 0;
    int len = usdt_read(path, points, &machine, &err);
    if (len <= 0) {
        fail_msg("%s: %d %s", path, len, err.text);
    }
#if defined(__x86_64__)
    static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    assert_int_equal(machine, EM_X86_64);
    const char *in_register = "8@%";
#else
    static const uint8_t nop[] = {0x1f, 0x20, 0x03, 0xd5};
    assert_int_equal(machine, EM_AARCH64);
    const char *in_register = "8@x";
#endif
    assert_int_equal(sizeof nop, PROBE_NOP_BYTES);
    for (int i = 0; i < len; i++) {
        assert_string_equal(points[i].provider, "codeq");
        if (memcmp(points[i].code, nop, sizeof nop) != 0) {
            fail_msg("%s: %s is no nop: %02x %02x %02x %02x %02x", path, points[i].name,
                     points[i].code[0], points[i].code[1], points[i].code[2], points[i].code[3],
                     points[i].code[4]);
        }
        /* What libbpf reads: a register or a number, never an address with an index. */
        assert_true(strncmp(points[i].arguments, in_register, strlen(in_register)) == 0);
        assert_null(strchr(points[i].arguments, '('));
    }
    for (; *names != NULL; names++) {
        int found = 0;
        for (int i = 0; i < len; i++) {
            found += strcmp(points[i].name, *names) == 0;
        }
        if (found == 0) {
            fail_msg("%s: has no point %s", path, *names);
        }
    }
}

static void every_point_of_codeqd_is_a_nop_of_full_length(void **state)
{
    (void)state;
    every_point_of("CODEQD",
                   (const char *const[]){"http_parse_begin", "http_parse_end", "claim_begin",
                                         "claim_end", "redis_send", "redis_reply", "lease_granted",
                                         "response_written", NULL});
}

static void every_point_of_the_library_is_a_nop_of_full_length(void **state)
{
    (void)state;
    every_point_of("CODEQ_DRIVE",
                   (const char *const[]){"redis_send", "redis_reply", "lease_granted", NULL});
}

static void cost_is_told_from_the_first_bytes(void **state)
{
    (void)state;
    static const struct {
        uint16_t machine;
        uint8_t code[USDT_CODE_BYTES];
        unsigned kernel;
        enum usdt_cost cost;
    } cases[] = {
        {EM_X86_64, {0x0f, 0x1f, 0x44, 0x00, 0x00}, LINUX(6, 18), USDT_COST_CALL},
        {EM_X86_64, {0x0f, 0x1f, 0x44, 0x00, 0x08}, LINUX(7, 0), USDT_COST_CALL},
        {EM_X86_64, {0x0f, 0x1f, 0x44, 0x00, 0x00}, LINUX(6, 12), USDT_COST_STEP},
        {EM_X86_64, {0x55, 0x48, 0x89, 0xe5}, LINUX(6, 18), USDT_COST_TRAP}, /* push rbp */
        {EM_X86_64, {0x41, 0x57}, LINUX(6, 18), USDT_COST_TRAP}, /* push r15 */
        {EM_X86_64, {0x90}, LINUX(5, 17), USDT_COST_TRAP},
        {EM_X86_64, {0x66, 0x90}, LINUX(5, 17), USDT_COST_TRAP},
        {EM_X86_64, {0xe9, 0, 0, 0, 0}, LINUX(6, 18), USDT_COST_TRAP}, /* jmp */
        {EM_X86_64, {0x0f, 0x84, 0, 0}, LINUX(6, 18), USDT_COST_TRAP}, /* je */
        {EM_X86_64, {0xf3, 0x0f, 0x1e, 0xfa}, LINUX(6, 18), USDT_COST_STEP}, /* endbr64 */
        {EM_X86_64, {0x48, 0x8d, 0x05}, LINUX(6, 18), USDT_COST_STEP}, /* lea */
        {EM_X86_64, {0x0f, 0xb6, 0x16}, LINUX(6, 18), USDT_COST_STEP}, /* movzbl */
        {EM_X86_64, {0x8a, 0x0e}, LINUX(6, 18), USDT_COST_STEP}, /* mov */
        {EM_X86_64, {0x41, 0x89, 0xf8}, LINUX(6, 18), USDT_COST_STEP},
        {EM_AARCH64, {0x1f, 0x20, 0x03, 0xd5}, LINUX(6, 1), USDT_COST_TRAP}, /* nop */
        {EM_AARCH64, {0x3f, 0x23, 0x03, 0xd5}, LINUX(6, 1), USDT_COST_TRAP}, /* paciasp */
        {EM_AARCH64, {0xfd, 0x7b, 0xbf, 0xa9}, LINUX(6, 1), USDT_COST_STEP}, /* stp */
        {EM_AARCH64, {0x00, 0x00, 0x00, 0x14}, LINUX(6, 1), USDT_COST_TRAP}, /* b */
        {EM_PPC64, {0x60, 0, 0, 0}, LINUX(6, 1), USDT_COST_STEP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256] = "";
        enum usdt_cost cost = usdt_cost(cases[i].machine, cases[i].code, cases[i].kernel);
        if (cost != cases[i].cost) {
            fail_msg("case %zu: %d", i, (int)cost);
        }
        bool warned = usdt_warning("lease_claim", cases[i].machine, cases[i].code, cases[i].kernel,
                                   text, sizeof text);
        assert_int_equal(warned, cost == USDT_COST_STEP);
        assert_int_equal(strstr(text, "17 us a hit") != NULL, warned);
    }
}

static void running_kernel_and_own_symbols_are_read(void **state)
{
    (void)state;
    assert_true(usdt_kernel() >= LINUX(3, 0));
    uint8_t code[USDT_CODE_BYTES];
    struct err err = {""};
    assert_int_equal(usdt_symbol_code("/proc/self/exe", "main", code, NULL, &err), 0);
    assert_int_equal(usdt_symbol_code("/proc/self/exe", "usdt_cost", code, NULL, &err), 0);
    assert_memory_equal(code, (const void *)(uintptr_t)&usdt_cost, USDT_CODE_BYTES);
    assert_int_equal(usdt_symbol_code("/proc/self/exe", "no_such_function", code, NULL, &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "no_such_function"));
}

/* Every byte of the notes and of the headers spoiled in turn: an answer, never a crash. */
static void broken_files_are_refused_or_read_within_bounds(void **state)
{
    (void)state;
    const char *path = getenv("CODEQ_DRIVE");
    assert_non_null(path);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, bytes, file), bytes);
    fclose(file);
    char name[] = "/tmp/codeq-usdt-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    struct err err = {""};
    static const size_t cuts[] = {0, 1, 63, 64, 4096};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, data, cuts[i], 0), cuts[i]);
        assert_int_equal(usdt_read(name, points, NULL, &err), -EBADMSG);
    }
    assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
    int whole = usdt_read(name, points, NULL, &err);
    assert_true(whole > 0);
    const Elf64_Ehdr *head = (const void *)data;
    const Elf64_Shdr *sections = (const void *)(data + head->e_shoff);
    int differing = 0;
    for (size_t s = 0; s < head->e_shnum; s++) {
        bool notes = sections[s].sh_type == SHT_NOTE && sections[s].sh_flags == 0;
        size_t from = notes ? sections[s].sh_offset : head->e_shoff + s * sizeof *sections;
        size_t n = notes ? sections[s].sh_size : sizeof *sections;
        for (size_t at = from; at < from + n; at++) {
            uint8_t bad = (uint8_t)~data[at];
            assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
            int len = usdt_read(name, points, NULL, &err);
            assert_true(len >= 0 || len == -EBADMSG);
            differing += len != whole;
            assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
        }
    }
    assert_true(differing > 0);
    for (size_t at = 0; at < sizeof *head; at++) {
        uint8_t bad = (uint8_t)~data[at];
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
        int len = usdt_read(name, points, NULL, &err);
        assert_true(len >= 0 || len == -EBADMSG);
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
    }
    close(fd);
    unlink(name);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_of_codeqd_is_a_nop_of_full_length),
        cmocka_unit_test(every_point_of_the_library_is_a_nop_of_full_length),
        cmocka_unit_test(cost_is_told_from_the_first_bytes),
        cmocka_unit_test(running_kernel_and_own_symbols_are_read),
        cmocka_unit_test(broken_files_are_refused_or_read_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
