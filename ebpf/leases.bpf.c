/* Kernel side of the view `leases`: the commands view, and of the scripts that a rule names the
 * arguments and reply elements that it asks for, in a ring buffer. All of it is in wire.bpf.h. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define WIRE_RING_BYTES (4 << 20)
#include "wire.bpf.h"

char LICENSE[] SEC("license") = "GPL";
