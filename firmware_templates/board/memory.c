/* The four functions that compilers call on their own accord; the firmware is linked without a C library. */
#include <stddef.h>
#include <stdint.h>

/* Some builds map the names to the compiler's built-ins; here they are defined. */
#undef memcpy
#undef memset
#undef memmove
#undef memcmp

#include "board_memory.h"

/* Words of memory of any type. Armv6-M faults where one is not aligned; the others load it from anywhere. */
typedef uint32_t __attribute__((may_alias)) word;
#if defined(__ARM_FEATURE_UNALIGNED)
#define LOADS_ANYWHERE 1
typedef struct {
    uint32_t value;
} __attribute__((packed, may_alias)) source_word;
#else
#define LOADS_ANYWHERE 0
typedef struct {
    uint32_t value;
} __attribute__((may_alias)) source_word;
#endif

/* Keeps the compiler from seeing a memcpy in a loop of memcpy, and calling it. */
#define NOT_A_CALL() __asm volatile("" ::: "memory")

static int is_aligned(const void *pointer)
{
    return ((uintptr_t)pointer & 3u) == 0;
}

static void copy_up(uint8_t *to, const uint8_t *from, size_t bytes)
{
    if (LOADS_ANYWHERE || is_aligned((const void *)((uintptr_t)to ^ (uintptr_t)from))) {
        for (; bytes > 0 && !is_aligned(to); bytes--) {
            *to++ = *from++;
            NOT_A_CALL();
        }
        for (; bytes >= 16; bytes -= 16, to += 16, from += 16) {
            const source_word *const source = (const source_word *)(const void *)from;
            word *const target = (word *)(void *)to;
            const uint32_t a = source[0].value, b = source[1].value, c = source[2].value, d = source[3].value;
            target[0] = a;
            target[1] = b;
            target[2] = c;
            target[3] = d;
            NOT_A_CALL();
        }
    }
    for (; bytes > 0; bytes--) {
        *to++ = *from++;
        NOT_A_CALL();
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    copy_up(to, from, bytes);
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    if ((uintptr_t)to - (uintptr_t)from >= bytes) { /* also where `to` lies before `from` */
        copy_up(to, from, bytes);
        return to;
    }
    uint8_t *target = (uint8_t *)to + bytes;
    const uint8_t *source = (const uint8_t *)from + bytes;
    for (; bytes > 0; bytes--) {
        *--target = *--source;
        NOT_A_CALL();
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *target = to;
    const uint32_t four = (uint8_t)value * UINT32_C(0x01010101);
    for (; bytes > 0 && !is_aligned(target); bytes--) {
        *target++ = (uint8_t)value;
        NOT_A_CALL();
    }
    for (; bytes >= 4; bytes -= 4, target += 4) {
        *(word *)(void *)target = four;
        NOT_A_CALL();
    }
    for (; bytes > 0; bytes--) {
        *target++ = (uint8_t)value;
        NOT_A_CALL();
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *left = a;
    const uint8_t *right = b;
    for (; bytes > 0; bytes--, left++, right++) {
        if (*left != *right) {
            return *left < *right ? -1 : 1;
        }
        NOT_A_CALL();
    }
    return 0;
}
