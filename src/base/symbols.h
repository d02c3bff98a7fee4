/* Addresses of other processes and of the kernel to names.
 *
 * What is read (maps, ELF files) is hostile and bounded. The owner calls symbols_free. One thread.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#define SYMBOLS_UNKNOWN "[unknown]" /* in no mapped file */

struct symbols;

struct symbols *symbols_new(void);
void symbols_free(struct symbols *symbols);

/* Read a process's map again: after its start, and before it ends. */
void symbols_refresh(struct symbols *symbols, pid_t pid);

/* "function", "[library]" or SYMBOLS_UNKNOWN; valid as long as symbols. */
const char *symbols_user(struct symbols *symbols, pid_t pid, uint64_t address);
const char *symbols_kernel(struct symbols *symbols, uint64_t address);
