#include "programs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int programs_dir(char *out, size_t bytes)
{
    ssize_t n = readlink("/proc/self/exe", out, bytes - 1);
    if (n <= 0) {
        return n < 0 ? -errno : -ENOENT;
    }
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return 0;
}

static void first_there(const char *const *candidates, int mode, char *out, size_t bytes)
{
    char dir[2048];
    out[0] = '\0';
    if (programs_dir(dir, sizeof dir) != 0) {
        return;
    }
    for (int i = 0; candidates[i] != NULL; i++) {
        snprintf(out, bytes, "%s/%s", dir, candidates[i]);
        if (access(out, mode) == 0) {
            return;
        }
    }
    out[0] = '\0';
}

void programs_drive(char *out, size_t bytes)
{
    static const char *const candidates[] = {"codeq-drive", "../src/codeq-drive", NULL};
    first_there(candidates, X_OK, out, bytes);
}

void programs_codeqd(char *out, size_t bytes)
{
    static const char *const candidates[] = {"codeqd", "../src/codeqd", NULL};
    first_there(candidates, X_OK, out, bytes);
}

void programs_trace(char *out, size_t bytes)
{
    static const char *const candidates[] = {"codeq-trace", "../ebpf/codeq-trace", NULL};
    first_there(candidates, X_OK, out, bytes);
}

void programs_alloc_count(char *out, size_t bytes)
{
    static const char *const candidates[] = {
        "libcodeq-alloccount.so", "../src/base/libcodeq-alloccount.so",
        "../lib/libcodeq-alloccount.so", "../lib/codeq-lab/libcodeq-alloccount.so", NULL};
    first_there(candidates, R_OK, out, bytes);
}

void programs_scenarios(const char *root, char *out, size_t bytes)
{
    static const char *const candidates[] = {"../share/codeq-lab/scenarios", "../../scenarios",
                                             NULL};
    snprintf(out, bytes, "%s/scenarios", root);
    if (access(out, R_OK) != 0) {
        first_there(candidates, R_OK, out, bytes);
    }
}
