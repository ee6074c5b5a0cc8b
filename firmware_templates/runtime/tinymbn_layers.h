/* How the layers of a model are declared and fed. */
#ifndef TINYMBN_LAYERS_H
#define TINYMBN_LAYERS_H

#include <stddef.h>
#include <stdint.h>

/* Raised when generated code and these headers stop fitting each other. */
#define TINYMBN_RUNTIME 1

/* A function of its own, whatever the compiler thinks: breakpoints, symbol tables and profiles show every layer. */
#define TINYMBN_LAYER __attribute__((noinline)) void

/* The rows that a window covers: rows[k] is input row first + k * dilation, NULL where that lies in the padding. */
static inline void tinymbn_rows(const int8_t **rows, int32_t kernel, const int8_t *input, int32_t height,
                                int32_t row_bytes, int32_t first, int32_t dilation)
{
    for (int32_t k = 0; k < kernel; k++) {
        const int32_t y = first + k * dilation;
        rows[k] = y >= 0 && y < height ? input + y * row_bytes : NULL;
    }
}

#endif
