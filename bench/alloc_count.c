/* libcodeq-alloccount.so: counts what a program asks of malloc and its relatives (LD_PRELOAD).
 *
 * Every block gets a header of 16 bytes or more in front, which keeps the size that was asked for:
 * so live bytes are exact, where malloc_usable_size would depend on which blocks were reused.
 * A block without our mark (from before we were loaded, or from another allocator) is handed on.
 * Counters are atomic; everything is done before the first constructor runs, nothing allocates.
 * Source: glibc manual, "Replacing malloc"; __libc_malloc and its relatives are glibc's own. */
#include "base/alloc_count.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

#define EXPORT __attribute__((visibility("default")))
#define MARK UINT64_C(0x5aC0DE0A110CA7ED)

struct header {
    uint64_t mark; /* MARK ^ bytes ^ offset */
    uint64_t bytes : 48; /* asked for */
    uint64_t offset_log2 : 16; /* the real block begins 1 << offset_log2 bytes before */
};
_Static_assert(sizeof(struct header) == 16, "keeps malloc's alignment");

static struct {
    _Atomic uint64_t allocs, frees, bytes, live_blocks, live_bytes, peak_bytes;
} counts;

static uint64_t mark_of(uint64_t bytes, uint64_t offset_log2)
{
    return MARK ^ (bytes << 8) ^ offset_log2;
}

static struct header *header_of(void *block)
{
    return (struct header *)((char *)block - sizeof(struct header));
}

static int is_ours(const struct header *header)
{
    return header->mark == mark_of(header->bytes, header->offset_log2) &&
           header->offset_log2 >= 4 && header->offset_log2 < 48;
}

static void *give(char *real, size_t bytes, unsigned offset_log2)
{
    if (real == NULL) {
        return NULL;
    }
    char *block = real + ((size_t)1 << offset_log2);
    struct header *header = header_of(block);
    header->bytes = bytes & (((uint64_t)1 << 48) - 1);
    header->offset_log2 = (uint16_t)offset_log2;
    header->mark = mark_of(header->bytes, offset_log2);
    atomic_fetch_add_explicit(&counts.allocs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts.bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts.live_blocks, 1, memory_order_relaxed);
    uint64_t live =
        atomic_fetch_add_explicit(&counts.live_bytes, bytes, memory_order_relaxed) + bytes;
    uint64_t peak = atomic_load_explicit(&counts.peak_bytes, memory_order_relaxed);
    while (live > peak &&
           !atomic_compare_exchange_weak_explicit(&counts.peak_bytes, &peak, live,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return block;
}

/* Undo give; returns the real block. */
static void *take(struct header *header)
{
    void *real = (char *)(header + 1) - ((size_t)1 << header->offset_log2);
    atomic_fetch_add_explicit(&counts.frees, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&counts.live_blocks, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&counts.live_bytes, header->bytes, memory_order_relaxed);
    header->mark = 0;
    return real;
}

static int too_large(size_t bytes, size_t more)
{
    if (bytes > PTRDIFF_MAX - more || bytes >= (uint64_t)1 << 47) {
        errno = ENOMEM;
        return 1;
    }
    return 0;
}

EXPORT void *malloc(size_t bytes)
{
    return too_large(bytes, 16) ? NULL : give(__libc_malloc(bytes + 16), bytes, 4);
}

EXPORT void *calloc(size_t count, size_t each)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes) || too_large(bytes, 16)) {
        errno = ENOMEM;
        return NULL;
    }
    return give(__libc_calloc(1, bytes + 16), bytes, 4);
}

EXPORT void free(void *block)
{
    if (block == NULL) {
        return;
    }
    int kept = errno;
    struct header *header = header_of(block);
    __libc_free(is_ours(header) ? take(header) : block);
    errno = kept;
}

static void *aligned(size_t alignment, size_t bytes)
{
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    unsigned offset_log2 = alignment <= 16 ? 4 : (unsigned)__builtin_ctzll(alignment);
    size_t offset = (size_t)1 << offset_log2;
    if (offset > PTRDIFF_MAX / 2 || too_large(bytes, offset)) {
        errno = ENOMEM;
        return NULL;
    }
    return give(__libc_memalign(offset, bytes + offset), bytes, offset_log2);
}

EXPORT void *realloc(void *block, size_t bytes)
{
    if (block == NULL) {
        return malloc(bytes);
    }
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    struct header *header = header_of(block);
    if (!is_ours(header)) {
        return __libc_realloc(block, bytes);
    }
    if (too_large(bytes, 16)) {
        return NULL;
    }
    if (header->offset_log2 != 4) {
        /* An aligned block: as glibc, the new one has malloc's alignment. */
        size_t keep = header->bytes < bytes ? (size_t)header->bytes : bytes;
        void *moved = malloc(bytes);
        if (moved != NULL) {
            memcpy(moved, block, keep);
            free(block);
        }
        return moved;
    }
    uint64_t old = header->bytes;
    void *real = take(header);
    void *moved = __libc_realloc(real, bytes + 16);
    if (moved == NULL) {
        /* The old block stands: give it back its mark and its place in the sums. */
        give(real, (size_t)old, 4);
        atomic_fetch_sub_explicit(&counts.allocs, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&counts.frees, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&counts.bytes, old, memory_order_relaxed);
        return NULL;
    }
    return give(moved, bytes, 4);
}

EXPORT void *reallocarray(void *block, size_t count, size_t each)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

EXPORT void *memalign(size_t alignment, size_t bytes)
{
    return aligned(alignment, bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return aligned(alignment, bytes);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) {
        return EINVAL;
    }
    int kept = errno;
    void *block = aligned(alignment, bytes);
    errno = kept;
    if (block == NULL) {
        return ENOMEM;
    }
    *out = block;
    return 0;
}

EXPORT void *valloc(size_t bytes)
{
    return aligned((size_t)sysconf(_SC_PAGESIZE), bytes);
}

EXPORT void *pvalloc(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return aligned(page, (bytes + page - 1) / page * page);
}

EXPORT size_t malloc_usable_size(void *block)
{
    /* What was asked for: a program that uses the slack would make the counts lie. */
    return block == NULL ? 0 : (size_t)header_of(block)->bytes;
}

EXPORT void alloc_count_read(struct alloc_count *out)
{
    *out = (struct alloc_count){
        .version = ALLOC_COUNT_VERSION,
        .allocs = atomic_load_explicit(&counts.allocs, memory_order_relaxed),
        .frees = atomic_load_explicit(&counts.frees, memory_order_relaxed),
        .bytes = atomic_load_explicit(&counts.bytes, memory_order_relaxed),
        .live_blocks = atomic_load_explicit(&counts.live_blocks, memory_order_relaxed),
        .live_bytes = atomic_load_explicit(&counts.live_bytes, memory_order_relaxed),
        .peak_bytes = atomic_load_explicit(&counts.peak_bytes, memory_order_relaxed),
    };
}

EXPORT void alloc_count_reset_peak(void)
{
    atomic_store_explicit(&counts.peak_bytes,
                          atomic_load_explicit(&counts.live_bytes, memory_order_relaxed),
                          memory_order_relaxed);
}
