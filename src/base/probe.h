/* Probe points: places that a tracer may watch in a running program (USDT, provider `codeq`).
 *
 * A point is one 5-byte nop (4 bytes on arm64) and a note in the ELF file that says where it is and
 * in which registers its arguments are; the kernel turns that nop into a call when somebody
 * attaches. `inline` keeps the compiler from counting the lines of the note as code when it decides
 * what to inline. sys/sdt.h is not used: its 1-byte nop traps, at twice the cost of a hit. Where no
 * form is known for the machine, a point is nothing. Up to 5 arguments, integers or pointers, each
 * passed as 64 bits. Safe from any thread; never a function call.
 * Source: systemtap, "UserSpaceProbeImplementation" (layout of the note, version 3). */
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#define PROBE_NOP ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
#define PROBE_NOP_BYTES 5
#elif defined(__aarch64__)
#define PROBE_NOP "nop"
#define PROBE_NOP_BYTES 4
#endif

#ifdef PROBE_NOP
#define PROBE_EMIT(name, places, ...) \
    __asm__ __inline__ volatile( \
        "990: " PROBE_NOP "\n" \
        ".pushsection .note.stapsdt, \"?\", \"note\"\n" \
        ".balign 4\n" \
        ".4byte 992f-991f, 994f-993f, 3\n" \
        "991: .asciz \"stapsdt\"\n" \
        "992: .balign 4\n" \
        "993: .8byte 990b, _.stapsdt.base, 0\n" \
        ".asciz \"codeq\"\n" \
        ".asciz \"" #name "\"\n" \
        ".asciz \"" places "\"\n" \
        "994: .balign 4\n" \
        ".popsection\n" \
        ".ifndef _.stapsdt.base\n" \
        ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n" \
        ".weak _.stapsdt.base\n" \
        ".hidden _.stapsdt.base\n" \
        "_.stapsdt.base: .space 1\n" \
        ".size _.stapsdt.base, 1\n" \
        ".popsection\n" \
        ".endif\n" \
        : \
        : __VA_ARGS__)
#define PROBE_ARG(x) "nr"((uint64_t)(x))
#else
#define PROBE_EMIT(name, places, ...) ((void)0)
#define PROBE_ARG(x) (x)
#endif

#define PROBE1(name, a) PROBE_EMIT(name, "8@%0", PROBE_ARG(a))
#define PROBE2(name, a, b) PROBE_EMIT(name, "8@%0 8@%1", PROBE_ARG(a), PROBE_ARG(b))
#define PROBE3(name, a, b, c) \
    PROBE_EMIT(name, "8@%0 8@%1 8@%2", PROBE_ARG(a), PROBE_ARG(b), PROBE_ARG(c))
#define PROBE4(name, a, b, c, d) \
    PROBE_EMIT(name, "8@%0 8@%1 8@%2 8@%3", PROBE_ARG(a), PROBE_ARG(b), PROBE_ARG(c), PROBE_ARG(d))
#define PROBE5(name, a, b, c, d, e) \
    PROBE_EMIT(name, "8@%0 8@%1 8@%2 8@%3 8@%4", PROBE_ARG(a), PROBE_ARG(b), PROBE_ARG(c), \
               PROBE_ARG(d), PROBE_ARG(e))
