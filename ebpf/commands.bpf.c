/* Kernel side of the view `commands`: counts and histograms per command; nothing but those leaves
 * the kernel. All of it is in wire.bpf.h. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define WIRE_RING_BYTES 4096 /* not used by this view */
#include "wire.bpf.h"

char LICENSE[] SEC("license") = "GPL";
