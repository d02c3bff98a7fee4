/* A program to be profiled: profile_fixture OPS. Allocates, recurses, calls libc's qsort back, and
 * runs its region between the client requests, as codeq-drive does. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

int measured_region(int ops);

static __attribute__((noinline)) char *make(int i)
{
    char *text = malloc(64);
    if (text != NULL) {
        snprintf(text, 64, "%06d", i % 1000);
    }
    return text;
}

static __attribute__((noinline)) int descend(int depth, int i)
{
    if (depth == 0) {
        char *text = make(i);
        int length = text != NULL ? (int)strlen(text) : 0;
        free(text);
        return length;
    }
    int below = descend(depth - 1, i);
    __asm__ volatile("" : "+r"(below));
    return below + 1;
}

static int order(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) int measured_region(int ops)
{
    int sum = 0;
    for (int i = 0; i < ops; i++) {
        int values[6] = {5, 3, i % 7, 9, 1, 2};
        qsort(values, 6, sizeof *values, order);
        sum += descend(i % 3, i) + values[2];
    }
    return sum;
}

/* The length of the environment moves the stack, and string functions cost by alignment: the
 * driver runs its region from an aligned stack, and so does this. */
static __attribute__((noinline)) int profile(int ops)
{
    CALLGRIND_START_INSTRUMENTATION;
    int sum = measured_region(ops);
    CALLGRIND_STOP_INSTRUMENTATION;
    return sum;
}

static __attribute__((noinline)) int warm_up(void)
{
    return measured_region(6);
}

int main(int argc, char **argv)
{
    int ops = argc > 1 ? atoi(argv[1]) : 30;
    int sum = warm_up();
    char *here = __builtin_frame_address(0);
    volatile char *aligned = __builtin_alloca(((uintptr_t)here & 0xffff) + 64);
    aligned[0] = 0;
    sum += profile(ops);
    printf("%d\n", sum);
    return 0;
}
