/* The few kernel types that the programs read, in place of a dumped vmlinux.h.
 *
 * Only names matter: order, size and missing fields are put right at load time against the running
 * kernel's BTF (CO-RE). BPF side only. */
#pragma once

#define __VMLINUX_H__ /* makes bpf_tracing.h use the kernel's own names of registers */
#include <linux/types.h>

#include <linux/bpf.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
    unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#define REGS_ARG1(regs) ((regs)->di)
#define REGS_ARG2(regs) ((regs)->si)
#define REGS_ARG3(regs) ((regs)->dx)
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
    unsigned long regs[31];
    unsigned long sp, pc, pstate;
};
struct pt_regs {
    unsigned long regs[31];
    unsigned long sp, pc, pstate;
    unsigned long orig_x0;
};
#define REGS_ARG1(regs) ((regs)->orig_x0)
#define REGS_ARG2(regs) ((regs)->regs[1])
#define REGS_ARG3(regs) ((regs)->regs[2])
#else
#error "no register names for this machine: add them here"
#endif

struct inode {
    unsigned short i_mode;
    unsigned long i_ino;
};
struct file {
    struct inode *f_inode;
    void *private_data;
};
struct fdtable {
    unsigned int max_fds;
    struct file **fd;
};
struct files_struct {
    struct fdtable *fdt;
};
struct task_struct {
    int pid;
    int tgid;
    unsigned int __state;
    unsigned int flags;
    char comm[16];
    struct files_struct *files;
    struct task_struct *group_leader;
};
/* Of a socket's address; skc_daddr and the ports lie in unnamed unions of the real one. */
struct in6_addr_words {
    unsigned int word[4];
};
struct sock_common {
    unsigned short skc_family;
    unsigned short skc_dport; /* network order */
    unsigned short skc_num;
    unsigned int skc_daddr;
    struct in6_addr_words skc_v6_daddr;
};
struct sock {
    struct sock_common __sk_common;
};
struct socket {
    struct sock *sk;
};
struct bpf_iter__task_file {
    struct task_struct *task;
    struct file *file;
};

#pragma clang attribute pop
