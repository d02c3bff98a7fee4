/* Private folders for what is gone with a run. Any thread. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* Make out "PARENT/codeq-STEM-XXXXXX", only its owner's. PARENT is TMPDIR where that is absolute
 * and leaves the path below bytes, else /tmp. 0, or negative errno with text; out is "" then. The
 * caller removes it with remove_tree. */
int temp_dir_make(char *out, size_t bytes, const char *stem, struct err *err);

/* Remove a folder and all in it. Refuses a path that is not absolute. 0 or negative errno. */
int remove_tree(const char *path);
