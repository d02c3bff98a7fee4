/* Probe points of a program, read from its ELF file (`.note.stapsdt`), and what a hit will cost,
 * told from the first bytes of the instruction that is probed.
 *
 * The file is foreign: everything in it is checked. Plain data; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define USDT_POINTS_MAX 256
#define USDT_CODE_BYTES 8

struct usdt_point {
    char provider[32];
    char name[48];
    char arguments[128];
    uint64_t address; /* of the instruction, in the file's own address space */
    uint64_t offset; /* of it in the file */
    uint8_t code[USDT_CODE_BYTES];
};

/* Read all points of the file at path, at most USDT_POINTS_MAX. Their number (0: it has none);
 * -EBADMSG with text when the file is not an ELF file of 64 bits that makes sense. out_machine
 * (may be NULL) is e_machine. */
int usdt_read(const char *path, struct usdt_point points[USDT_POINTS_MAX], uint16_t *out_machine,
              struct err *err);

/* The code of a function by its symbol (.symtab or .dynsym): USDT_CODE_BYTES of it. -ENOENT: no
 * such function in the file. */
int usdt_symbol_code(const char *path, const char *symbol, uint8_t code[USDT_CODE_BYTES],
                     uint16_t *out_machine, struct err *err);

enum usdt_cost {
    USDT_COST_CALL, /* the kernel makes it a call: 0.2 to 0.3 us a hit */
    USDT_COST_TRAP, /* a trap, and the instruction is done by the kernel: 0.5 us */
    USDT_COST_STEP, /* a trap and one step of the program: 17 us on a virtual machine */
};

/* kernel: (major << 8 | minor) of the running one. Source: linux/arch/x86/kernel/uprobes.c
 * (push_setup_xol_ops, branch_setup_xol_ops, can_optimize), linux/arch/arm64/kernel/probes. */
enum usdt_cost usdt_cost(uint16_t machine, const uint8_t code[USDT_CODE_BYTES], unsigned kernel);

/* As above. 0 where uname is not understood. */
unsigned usdt_kernel(void);

/* The warning before a probe is attached to what: false and nothing when a hit is cheap. */
bool usdt_warning(const char *what, uint16_t machine, const uint8_t code[USDT_CODE_BYTES],
                  unsigned kernel, char *out, size_t bytes);
