/* How the layers of a model are declared and fed. */
#ifndef TINYMBN_LAYERS_H
#define TINYMBN_LAYERS_H

#include <stddef.h>
#include <stdint.h>

/* Raised when generated code and these headers stop fitting each other. */
#define TINYMBN_RUNTIME 2

/* What gcc 12 vectorises for Helium by itself may be wrong: it takes masks that it knows for others. The Makefile's
 * -fno-tree-vectorize says so to everything, this to the model's own files in any project. */
#if defined(__ARM_FEATURE_MVE) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize")
#endif

/* A function of its own, whatever the compiler thinks: breakpoints, symbol tables and profiles show every layer. */
#define TINYMBN_LAYER __attribute__((noinline)) void

/* Halfwords in an arena of bytes. */
typedef uint16_t __attribute__((may_alias)) tinymbn_half;

static inline int32_t tinymbn_least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t tinymbn_between(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static inline void tinymbn_clear(tinymbn_half *made, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        made[i] = 0;
    }
}

/* The rows that a window covers: rows[k] is input row first + k * dilation, NULL where that lies in the padding. */
static inline void tinymbn_rows(const int8_t **rows, int32_t kernel, const int8_t *input, int32_t height,
                                int32_t row_bytes, int32_t first, int32_t dilation)
{
    for (int32_t k = 0; k < kernel; k++) {
        const int32_t y = first + k * dilation;
        rows[k] = y >= 0 && y < height ? input + y * row_bytes : NULL;
    }
}

/* The same where the map is a ring: row y lies in slot y modulo slots. */
static inline void tinymbn_ring_rows(const int8_t **rows, int32_t kernel, const int8_t *input, int32_t height,
                                     int32_t slots, int32_t row_bytes, int32_t first, int32_t dilation)
{
    for (int32_t k = 0; k < kernel; k++) {
        const int32_t y = first + k * dilation;
        rows[k] = y >= 0 && y < height ? input + y % slots * row_bytes : NULL;
    }
}

#endif
