/* What kernels for Helium, the M-profile vector extension, compute, in plain C for every other machine: with the same
 * constants, from the same bytes, in the same steps, so that they run, and are checked, on a PC as well. */
#ifndef TINYMBN_MVE_H
#define TINYMBN_MVE_H

#include <stdint.h>

#include "tinymbn_fixed_point.h"

/* Whether kernels may be assembler: where there is Helium, with gcc, and not at -O0, where r7 is taken.
 * -DTINYMBN_HELIUM=0 for flags that take registers away, such as -fno-omit-frame-pointer: the same, far slower. */
#ifndef TINYMBN_HELIUM
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1) && defined(__OPTIMIZE__) && !defined(__clang__)
#define TINYMBN_HELIUM 1
#else
#define TINYMBN_HELIUM 0
#endif
#endif

/* How sums become bytes: ties below zero matter nowhere, everywhere, or where the channel says so. */
enum { TINYMBN_PLAIN, TINYMBN_TIES, TINYMBN_GENERAL };

/* Byte i of words in memory, low byte first. */
static inline int32_t tinymbn_byte(const int32_t *words, int32_t i)
{
    return (int8_t)((uint32_t)words[i / 4] >> (i % 4 * 8) & 0xFFu);
}

/* A byte of a sum. parameters: bias, multiplier, shift to the right (as a negative number), in the general form also to
 * the left, and 1 where ties below zero go away from zero. */
static inline int8_t tinymbn_scaled(int32_t sum, const int32_t *parameters, int32_t form, int32_t zero_point,
                                    int32_t low, int32_t high)
{
    const int32_t left = form == TINYMBN_GENERAL ? parameters[3] : 0;
    const int32_t ties = form == TINYMBN_GENERAL ? parameters[4] : form == TINYMBN_TIES;
    const int32_t right = -parameters[2];
    sum = (int32_t)((uint32_t)sum + (uint32_t)parameters[0]);
    sum = tinymbn_high_multiply((int32_t)((uint32_t)sum << left), parameters[1]);
    const int64_t half = ((int64_t)1 << right) >> 1;
    return tinymbn_clamp((((int64_t)sum - (sum < 0 ? ties : 0) + half) >> right) + zero_point, low, high);
}

/* Where windows lie in rows as TensorFlow Lite has them, in bytes. */
typedef struct {
    int32_t rows;
    int32_t piece; /* of a row, in each window */
    int32_t step; /* from a window to the next */
    int32_t left; /* padding before the rows */
    int32_t row_bytes;
    int32_t zero; /* what the padding holds */
    int32_t window_bytes;
} tinymbn_sources;

/* Copies windows, all their rows in one piece, also from rows that are not there, and beyond their ends. */
static inline void tinymbn_put_windows(const tinymbn_sources *shape, const int8_t *const *rows, int32_t first,
                                       int32_t end, int8_t *to)
{
    for (int32_t x = first; x < end; x++, to += shape->window_bytes) {
        int8_t *byte = to;
        for (int32_t k = 0; k < shape->rows; k++) {
            const int32_t begin = x * shape->step - shape->left;
            for (int32_t i = begin; i < begin + shape->piece; i++) {
                const int outside = rows[k] == 0 || i < 0 || i >= shape->row_bytes;
                *byte++ = (int8_t)(outside ? shape->zero : rows[k][i]);
            }
        }
    }
}

/* Pixels of any number of inputs times two channels of weights after the other; see tile.py for the constants. */
typedef struct {
    int32_t pixels;
    int32_t pixel_bytes;
    int32_t chunks; /* of 16 inputs */
    int32_t terms; /* bytes that each weight is the sum of */
    int32_t channels;
    int32_t next_pixel;
    int32_t next_channel;
    int32_t form;
    int32_t zero_point;
    int32_t low;
    int32_t high;
} tinymbn_pairs;

static inline void tinymbn_all_pairs(const tinymbn_pairs *shape, const int8_t *pixels, const int32_t *stream,
                                     int8_t *output)
{
    const int32_t parameters = shape->form == TINYMBN_GENERAL ? 5 : 3;
    for (int32_t c = 0; c < shape->channels; c += 2) {
        /* A last channel that is alone comes with the one before it. */
        const int32_t first = c + 1 < shape->channels || c == 0 ? c : c - 1;
        for (int32_t channel = 0; channel < 2 && first + channel < shape->channels; channel++) {
            const int32_t *const own = stream + shape->chunks * shape->terms * 8 + channel * parameters;
            for (int32_t p = 0; p < shape->pixels; p++) {
                int32_t sum = 0;
                for (int32_t i = 0; i < shape->chunks * 16; i++) {
                    for (int32_t term = 0; term < shape->terms; term++) {
                        const int32_t at = (i / 16 * shape->terms + term) * 32 + channel * 16 + i % 16;
                        const int32_t weight = tinymbn_byte(stream, at);
                        sum = tinymbn_accumulate(sum, pixels[p * shape->pixel_bytes + i], weight);
                    }
                }
                output[p * shape->next_pixel + (first + channel) * shape->next_channel] =
                    tinymbn_scaled(sum, own, shape->form, shape->zero_point, shape->low, shape->high);
            }
        }
        stream += shape->chunks * shape->terms * 8 + 2 * parameters;
    }
}

/* A row of outputs of a depthwise convolution, from planes; see depthwise_text.py for the constants. */
typedef struct {
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride;
    int32_t pad_left;
    int32_t width;
    int32_t outputs;
    int32_t channels;
    int32_t column;
    int32_t before;
    int32_t terms;
    int32_t term_bytes;
    int32_t words;
    int32_t next_pixel;
    int32_t next_channel;
    int32_t input_zero;
    int32_t form;
    int32_t zero_point;
    int32_t low;
    int32_t high;
} tinymbn_windows;

static inline void tinymbn_all_windows(const tinymbn_windows *shape, const int8_t *const *rows,
                                       const int32_t *stream, int8_t *output)
{
    for (int32_t c = 0; c < shape->channels; c++, stream += shape->words) {
        for (int32_t i = 0; i < shape->outputs; i++) {
            int32_t sum = 0;
            for (int32_t kx = 0; kx < shape->kernel_w; kx++) {
                const int32_t x = i * shape->stride - shape->pad_left + kx;
                for (int32_t ky = 0; ky < shape->kernel_h; ky++) {
                    const int outside = rows[ky] == 0 || x < 0 || x >= shape->width;
                    const int32_t value = outside ? shape->input_zero : rows[ky][c * shape->width + x];
                    const int32_t at = shape->before + kx * shape->column + ky;
                    for (int32_t term = 0; term < shape->terms; term++) {
                        const int32_t weight = tinymbn_byte(stream, at + term * shape->term_bytes);
                        sum = tinymbn_accumulate(sum, value, weight);
                    }
                }
            }
            output[i * shape->next_pixel + c * shape->next_channel] =
                tinymbn_scaled(sum, stream, shape->form, shape->zero_point, shape->low, shape->high);
        }
    }
}

#endif
