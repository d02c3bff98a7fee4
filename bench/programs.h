/* Where the programs and files beside codeq-bench are: in the build tree or where they were
 * installed. Pure but for the file system. */
#pragma once

#include <stddef.h>

/* The folder of the running program. 0 or negative errno. */
int programs_dir(char *out, size_t bytes);

/* codeq-drive, codeqd, codeq-trace, and the library that counts allocations: "" when there is
 * none. */
void programs_drive(char *out, size_t bytes);
void programs_codeqd(char *out, size_t bytes);
void programs_trace(char *out, size_t bytes);
void programs_alloc_count(char *out, size_t bytes);

/* The folder of the scenario files: scenarios/ below root, else the program's own. "" when none. */
void programs_scenarios(const char *root, char *out, size_t bytes);
