#include "base/temp_dir.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int temp_dir_make(char *out, size_t bytes, const char *stem, struct err *err)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] != '/' ||
        strlen(parent) + strlen("/codeq--XXXXXX") + strlen(stem) >= bytes) {
        parent = "/tmp";
    }
    snprintf(out, bytes, "%s/codeq-%s-XXXXXX", parent, stem);
    if (mkdtemp(out) == NULL) {
        int code = err_set(err, -errno, "%s: %s", out, strerror(errno));
        out[0] = '\0';
        return code;
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

int remove_tree(const char *path)
{
    if (path[0] != '/' || path[1] == '\0') {
        return -EINVAL;
    }
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -errno;
}
