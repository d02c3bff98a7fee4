/* A program to be counted: asks for known blocks and prints what the counter saw. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc_count.h"

static void *volatile keep; /* the compiler may not leave a pair of malloc and free out */

int main(int argc, char **argv)
{
    struct alloc_count a;
    struct alloc_count b;
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    void *aligned_block = NULL;
    if (alloc_count_read == NULL) {
        puts("not counted");
        return 3;
    }
    char warm[64];
    snprintf(warm, sizeof warm, "%d %s", rounds, "warm");
    alloc_count_read(&a);
    alloc_count_reset_peak();
    for (int i = 0; i < rounds; i++) {
        keep = malloc(100); /* 1: 100 */
        memset(keep, 1, 100);
        keep = realloc(keep, 1000); /* 2: 1000 */
        if (((char *)keep)[99] != 1) {
            return 4;
        }
        free(keep);
        keep = calloc(3, 7); /* 3: 21 */
        if (((char *)keep)[20] != 0) {
            return 5;
        }
        free(keep);
        if (posix_memalign(&aligned_block, 4096, 10) != 0 || /* 4: 10 */
            (uintptr_t)aligned_block % 4096 != 0) {
            return 6;
        }
        keep = realloc(aligned_block, 50); /* 5: 50 */
        free(keep);
        keep = aligned_alloc(64, 128); /* 6: 128 */
        if ((uintptr_t)keep % 64 != 0 || malloc_usable_size(keep) != 128) {
            return 7;
        }
        free(keep);
        keep = strdup("four"); /* 7: 5, asked by libc itself */
        free(keep);
        keep = malloc(16); /* 8: 16, leaks */
        keep = malloc((size_t)1 << 60); /* refused: not counted */
        if (keep != NULL) {
            return 8;
        }
        free(NULL);
    }
    alloc_count_read(&b);
    printf("allocs %llu frees %llu bytes %llu live_blocks %llu live_bytes %llu peak %llu\n",
           (unsigned long long)(b.allocs - a.allocs), (unsigned long long)(b.frees - a.frees),
           (unsigned long long)(b.bytes - a.bytes),
           (unsigned long long)(b.live_blocks - a.live_blocks),
           (unsigned long long)(b.live_bytes - a.live_bytes),
           (unsigned long long)(b.peak_bytes - a.live_bytes));
    return 0;
}
