#!/bin/sh
# SYSCALL_NAME(0, "read") lines from the kernel headers of the compiler given: syscall_names.sh CC...
echo '#include <asm/unistd.h>' | "$@" -E -dM - |
    sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9][0-9]*\)$/SYSCALL_NAME(\2, "\1")/p' | sort
