/* The heart of the kernels for cores without DSP instructions: sums of products that stay in registers, and their
 * way to bytes. All is inlined into a layer, whose constants decide what remains of it.
 *
 * Sums are modulo 2^32, so that whatever is constant is part of the bias already: it is
 *     bias - INPUT_ZERO * sum (weight - WEIGHT_ZERO)
 * and an input counts as it is, padding as INPUT_ZERO. */
#ifndef TINYMBN_SCALAR_H
#define TINYMBN_SCALAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tinymbn_fixed_point.h"

/* Without optimisation nothing that is constant goes away: then they stay functions. */
#ifdef __OPTIMIZE__
#define TINYMBN_INLINE static inline __attribute__((always_inline))
#else
#define TINYMBN_INLINE static inline
#endif

/* Whether a product of 64 bits is made of four smaller ones: Armv6-M has no instruction for it. */
#ifndef TINYMBN_HALVES
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1
#define TINYMBN_HALVES 1
#else
#define TINYMBN_HALVES 0
#endif
#endif

/* A sum as far as it has come. Otherwise gcc adds up several products first, and has no registers left for them. */
#define TINYMBN_KEEP(sum) __asm__ volatile("" : "+r"(sum))

/* a * b and a + b modulo 2^32. */
TINYMBN_INLINE int32_t tinymbn_times(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}

TINYMBN_INLINE int32_t tinymbn_plus(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* ------------------------------------------------------------------------------------------- from sums to bytes */

/* How the sums of a layer become bytes.
 * right: 1 or 2: no channel is shifted right by less, and shifts are to the right and count from there; 0: any shift.
 * relu: low is not below zero, so that what is negative ends up at low, however it is rounded. */
typedef struct {
    int32_t right;
    bool relu;
    int32_t zero;
    int32_t low;
    int32_t high;
} tinymbn_rescaling;

/* (x * multiplier + nudge) / 2^bits rounded down; multiplier >= 0, nudge is 2^30 or -2^30, bits 31 or 32. */
#if TINYMBN_HALVES
/* A function of its own: it is longer than what surrounds it. */
static __attribute__((noinline, unused)) int32_t tinymbn_upper(int32_t x, int32_t multiplier, int32_t nudge,
                                                               int32_t bits)
{
    const uint32_t x_low = (uint16_t)x;
    const uint32_t low = (uint16_t)multiplier;
    const int32_t x_high = x >> 16;
    const int32_t high = multiplier >> 16;
    /* Within 32 bits: |x_high * low| <= 2^31 - 2^15, where it is positive 2^31 - 2^16 - 2^15, as x_low * high. */
    const int32_t first = x_high * (int32_t)low + (int32_t)((x_low * low) >> 16) + (nudge >> 16);
    const int32_t second = (int32_t)x_low * high + (int32_t)(uint16_t)first;
    const int32_t upper = x_high * high + (first >> 16);
    return bits == 32 ? upper + (second >> 16) : 2 * upper + (second >> 15);
}
#else
TINYMBN_INLINE int32_t tinymbn_upper(int32_t x, int32_t multiplier, int32_t nudge, int32_t bits)
{
    return (int32_t)(((int64_t)x * multiplier + nudge) >> bits);
}
#endif

/* x / 2 rounded down, then clamped to constants. */
TINYMBN_INLINE int8_t tinymbn_halve_and_clamp(int32_t x, int32_t low, int32_t high)
{
#if defined(__ARM_FEATURE_SAT)
    if (low == INT8_MIN && high == INT8_MAX) {
        int32_t saturated; /* compilers do not find this instruction by themselves */
        __asm__("ssat %0, #8, %1, asr #1" : "=r"(saturated) : "r"(x));
        return (int8_t)saturated;
    }
#endif
    const int32_t half = x >> 1;
    return (int8_t)(half < low ? low : half > high ? high : half);
}

/* The general rescaling: rarely needed and long, hence not inlined. */
static __attribute__((noinline, unused)) int32_t tinymbn_requantize_any(int32_t x, int32_t multiplier,
                                                                        int32_t shift)
{
    return tinymbn_requantize(x, multiplier, shift);
}

/* A sum as a byte of the output. With n = -shift > 0 both roundings of tinymbn_requantize are one,
 *     (x * multiplier + 2^30 - [x < 0] * 2^31 + 2^(30 + n)) >> (31 + n)
 * of which the last addition, and that of the zero point, are left for the end, where one bit is still to go. */
TINYMBN_INLINE int8_t tinymbn_rescale(int32_t x, int32_t multiplier, int32_t shift, tinymbn_rescaling to)
{
    if (to.right == 0) {
        return tinymbn_to_output(tinymbn_requantize_any(x, multiplier, shift), to.zero, to.low, to.high);
    }
    const int32_t nudge = !to.relu && x < 0 ? -(1 << 30) : 1 << 30;
    const int32_t twice = tinymbn_upper(x, multiplier, nudge, 30 + to.right) >> shift;
    return tinymbn_halve_and_clamp(twice + (2 * to.zero + 1), to.low, to.high);
}

/* --------------------------------------------------------------------------------- pixels times weights of channels */

/* Sums of four channels of two pixels, a and b; of one pixel, b is idle. */
typedef struct {
    int32_t a0, a1, a2, a3;
    int32_t b0, b1, b2, b3;
} tinymbn_sums;

/* A weight as it lies in flash, or 128 more as a byte without a sign, which is what Armv6-M loads by one instruction;
 * the 128 are taken off with the sum of the pixels. */
TINYMBN_INLINE int32_t tinymbn_weight(const int8_t *weight, bool biased)
{
    return biased ? (uint8_t)*weight : *weight;
}

/* The sum of COUNT bytes. */
TINYMBN_INLINE int32_t tinymbn_total(const int8_t *pixel, int32_t count)
{
    const int8_t *const end = pixel + count / 4 * 4;
    int32_t total = 0;
    for (; pixel != end; pixel += 4) {
        total += pixel[0] + pixel[1] + pixel[2] + pixel[3];
    }
    total += count % 4 > 0 ? pixel[0] : 0;
    total += count % 4 > 1 ? pixel[1] : 0;
    total += count % 4 > 2 ? pixel[2] : 0;
    return total;
}

/* What the zero point of the weights, which is part of the weights here, adds to every sum over COUNT bytes. */
TINYMBN_INLINE int32_t tinymbn_offset(const int8_t *pixel, int32_t count, int32_t weight_zero)
{
    return weight_zero == 0 ? 0 : tinymbn_times(tinymbn_total(pixel, count), -weight_zero);
}

TINYMBN_INLINE void tinymbn_begin_2x4(tinymbn_sums *sums, const int32_t *bias, int32_t offset_a,
                                      int32_t offset_b)
{
    const int32_t bias_0 = bias[0], bias_1 = bias[1], bias_2 = bias[2], bias_3 = bias[3];
    sums->a0 = tinymbn_plus(bias_0, offset_a), sums->b0 = tinymbn_plus(bias_0, offset_b);
    sums->a1 = tinymbn_plus(bias_1, offset_a), sums->b1 = tinymbn_plus(bias_1, offset_b);
    sums->a2 = tinymbn_plus(bias_2, offset_a), sums->b2 = tinymbn_plus(bias_2, offset_b);
    sums->a3 = tinymbn_plus(bias_3, offset_a), sums->b3 = tinymbn_plus(bias_3, offset_b);
}

TINYMBN_INLINE void tinymbn_begin_1x4(tinymbn_sums *sums, const int32_t *bias, int32_t offset)
{
    sums->a0 = tinymbn_plus(bias[0], offset);
    sums->a1 = tinymbn_plus(bias[1], offset);
    sums->a2 = tinymbn_plus(bias[2], offset);
    sums->a3 = tinymbn_plus(bias[3], offset);
}

/* One input of two pixels times four weights. */
TINYMBN_INLINE void tinymbn_tap_2x4(tinymbn_sums *sums, int32_t a, int32_t b, const int8_t *weight,
                                    bool biased)
{
    const int32_t weight_0 = tinymbn_weight(weight, biased);
    sums->a0 = tinymbn_accumulate(sums->a0, a, weight_0);
    sums->b0 = tinymbn_accumulate(sums->b0, b, weight_0);
    TINYMBN_KEEP(sums->a0);
    TINYMBN_KEEP(sums->b0);
    const int32_t weight_1 = tinymbn_weight(weight + 1, biased);
    sums->a1 = tinymbn_accumulate(sums->a1, a, weight_1);
    sums->b1 = tinymbn_accumulate(sums->b1, b, weight_1);
    TINYMBN_KEEP(sums->a1);
    TINYMBN_KEEP(sums->b1);
    const int32_t weight_2 = tinymbn_weight(weight + 2, biased);
    sums->a2 = tinymbn_accumulate(sums->a2, a, weight_2);
    sums->b2 = tinymbn_accumulate(sums->b2, b, weight_2);
    TINYMBN_KEEP(sums->a2);
    TINYMBN_KEEP(sums->b2);
    const int32_t weight_3 = tinymbn_weight(weight + 3, biased);
    sums->a3 = tinymbn_accumulate(sums->a3, a, weight_3);
    sums->b3 = tinymbn_accumulate(sums->b3, b, weight_3);
    TINYMBN_KEEP(sums->a3);
    TINYMBN_KEEP(sums->b3);
}

TINYMBN_INLINE void tinymbn_tap_1x4(tinymbn_sums *sums, int32_t a, const int8_t *weight, bool biased)
{
    sums->a0 = tinymbn_accumulate(sums->a0, a, tinymbn_weight(weight, biased));
    TINYMBN_KEEP(sums->a0);
    sums->a1 = tinymbn_accumulate(sums->a1, a, tinymbn_weight(weight + 1, biased));
    TINYMBN_KEEP(sums->a1);
    sums->a2 = tinymbn_accumulate(sums->a2, a, tinymbn_weight(weight + 2, biased));
    TINYMBN_KEEP(sums->a2);
    sums->a3 = tinymbn_accumulate(sums->a3, a, tinymbn_weight(weight + 3, biased));
    TINYMBN_KEEP(sums->a3);
}

/* COUNT inputs of two pixels that are NEXT bytes apart, times weights (COUNT, 4); the place behind those. */
TINYMBN_INLINE const int8_t *tinymbn_dot_2x4(tinymbn_sums *sums, const int8_t *pixel, int32_t next,
                                             int32_t count, const int8_t *weight, bool biased)
{
    const int8_t *const end = pixel + count / 4 * 4;
    for (; pixel != end; pixel += 4, weight += 16) {
        tinymbn_tap_2x4(sums, pixel[0], pixel[next], weight, biased);
        tinymbn_tap_2x4(sums, pixel[1], pixel[next + 1], weight + 4, biased);
        tinymbn_tap_2x4(sums, pixel[2], pixel[next + 2], weight + 8, biased);
        tinymbn_tap_2x4(sums, pixel[3], pixel[next + 3], weight + 12, biased);
    }
    if (count % 4 > 0) {
        tinymbn_tap_2x4(sums, pixel[0], pixel[next], weight, biased);
    }
    if (count % 4 > 1) {
        tinymbn_tap_2x4(sums, pixel[1], pixel[next + 1], weight + 4, biased);
    }
    if (count % 4 > 2) {
        tinymbn_tap_2x4(sums, pixel[2], pixel[next + 2], weight + 8, biased);
    }
    return weight + count % 4 * 4;
}

TINYMBN_INLINE const int8_t *tinymbn_dot_1x4(tinymbn_sums *sums, const int8_t *pixel, int32_t count,
                                             const int8_t *weight, bool biased)
{
    const int8_t *const end = pixel + count / 4 * 4;
    for (; pixel != end; pixel += 4, weight += 16) {
        tinymbn_tap_1x4(sums, pixel[0], weight, biased);
        tinymbn_tap_1x4(sums, pixel[1], weight + 4, biased);
        tinymbn_tap_1x4(sums, pixel[2], weight + 8, biased);
        tinymbn_tap_1x4(sums, pixel[3], weight + 12, biased);
    }
    if (count % 4 > 0) {
        tinymbn_tap_1x4(sums, pixel[0], weight, biased);
    }
    if (count % 4 > 1) {
        tinymbn_tap_1x4(sums, pixel[1], weight + 4, biased);
    }
    if (count % 4 > 2) {
        tinymbn_tap_1x4(sums, pixel[2], weight + 8, biased);
    }
    return weight + count % 4 * 4;
}

/* sum + COUNT inputs times weights (COUNT). */
TINYMBN_INLINE int32_t tinymbn_dot(int32_t sum, const int8_t *pixel, int32_t count, const int8_t *weight,
                                   bool biased)
{
    for (int32_t i = 0; i < count; i++) {
        sum = tinymbn_accumulate(sum, pixel[i], tinymbn_weight(weight + i, biased));
    }
    return sum;
}

/* Four channels of pixel a, and of pixel b NEXT bytes behind it. */
TINYMBN_INLINE void tinymbn_end_2x4(const tinymbn_sums *sums, const int32_t *multiplier, const int8_t *shift,
                                    tinymbn_rescaling to, int8_t *output, int32_t next)
{
    const int8_t a0 = tinymbn_rescale(sums->a0, multiplier[0], shift[0], to);
    const int8_t b0 = tinymbn_rescale(sums->b0, multiplier[0], shift[0], to);
    output[0] = a0, output[next] = b0;
    const int8_t a1 = tinymbn_rescale(sums->a1, multiplier[1], shift[1], to);
    const int8_t b1 = tinymbn_rescale(sums->b1, multiplier[1], shift[1], to);
    output[1] = a1, output[next + 1] = b1;
    const int8_t a2 = tinymbn_rescale(sums->a2, multiplier[2], shift[2], to);
    const int8_t b2 = tinymbn_rescale(sums->b2, multiplier[2], shift[2], to);
    output[2] = a2, output[next + 2] = b2;
    const int8_t a3 = tinymbn_rescale(sums->a3, multiplier[3], shift[3], to);
    const int8_t b3 = tinymbn_rescale(sums->b3, multiplier[3], shift[3], to);
    output[3] = a3, output[next + 3] = b3;
}

TINYMBN_INLINE void tinymbn_end_1x4(const tinymbn_sums *sums, const int32_t *multiplier, const int8_t *shift,
                                    tinymbn_rescaling to, int8_t *output)
{
    output[0] = tinymbn_rescale(sums->a0, multiplier[0], shift[0], to);
    output[1] = tinymbn_rescale(sums->a1, multiplier[1], shift[1], to);
    output[2] = tinymbn_rescale(sums->a2, multiplier[2], shift[2], to);
    output[3] = tinymbn_rescale(sums->a3, multiplier[3], shift[3], to);
}

/* ------------------------------------------------------------------------------------ windows of one channel each */

/* What does not change within a depthwise layer. */
typedef struct {
    int32_t kernel_h;
    int32_t kernel_w; /* 7 at most */
    int32_t stride;
    int32_t dilation;
    int32_t c_in;
    int32_t per_input;
    uint32_t padded; /* bit k: row k may be NULL */
    int32_t input_zero;
    int32_t weight_zero;
} tinymbn_depthwise;

/* Two pixels, or one; columns count from the left edge of the first one's window. */
typedef struct {
    int32_t pixels;
    int32_t first; /* column in the map */
    int32_t end; /* first column beyond */
} tinymbn_block;

/* An input; the first column in the map is at ROW. */
TINYMBN_INLINE int32_t tinymbn_column(const int8_t *row, int32_t column, tinymbn_depthwise layer,
                                      tinymbn_block block)
{
    const bool inside = column >= block.first && column < block.end;
    return inside ? row[(column - block.first) * layer.c_in] : layer.input_zero;
}

/* The inputs that meet one weight. */
TINYMBN_INLINE void tinymbn_depthwise_tap(int32_t *a, int32_t *b, const int8_t *row, const int8_t *weights,
                                          int32_t k_x, tinymbn_depthwise layer, tinymbn_block block)
{
    if (k_x < layer.kernel_w) {
        const int32_t weight = weights[k_x] - layer.weight_zero;
        const int32_t column = k_x * layer.dilation;
        *a = tinymbn_accumulate(*a, tinymbn_column(row, column, layer, block), weight);
        TINYMBN_KEEP(*a);
        if (block.pixels == 2) {
            *b = tinymbn_accumulate(*b, tinymbn_column(row, layer.stride + column, layer, block), weight);
            TINYMBN_KEEP(*b);
        }
    }
}

/* Row k of the window, FROM bytes behind the beginning of ROW. */
TINYMBN_INLINE void tinymbn_depthwise_row(int32_t *a, int32_t *b, const int8_t *row, int32_t from, int32_t k,
                                          const int8_t *weights, tinymbn_depthwise layer, tinymbn_block block)
{
    if ((layer.padded >> k & 1) != 0 && row == NULL) {
        int32_t total = 0;
        for (int32_t k_x = 0; k_x < layer.kernel_w; k_x++) {
            total += weights[k_x] - layer.weight_zero;
        }
        *a = tinymbn_accumulate(*a, total, layer.input_zero);
        *b = tinymbn_accumulate(*b, total, layer.input_zero);
    } else {
        tinymbn_depthwise_tap(a, b, row + from, weights, 0, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 1, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 2, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 3, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 4, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 5, layer, block);
        tinymbn_depthwise_tap(a, b, row + from, weights, 6, layer, block);
    }
}

/* All channels of a block. Its first column in the map is FROM bytes behind each row's beginning; weights are
 * (C_OUT, KERNEL_H, KERNEL_W). */
TINYMBN_INLINE void tinymbn_depthwise_block(const int8_t *const *rows, int32_t from, const int8_t *weights,
                                            const int32_t *bias, const int32_t *multiplier,
                                            const int8_t *shift, tinymbn_depthwise layer, tinymbn_block block,
                                            tinymbn_rescaling to, int8_t *output)
{
    const int32_t c_out = layer.c_in * layer.per_input;
    const int8_t *const row_0 = rows[0];
    const int8_t *const row_1 = layer.kernel_h > 1 ? rows[1] : NULL;
    const int8_t *const row_2 = layer.kernel_h > 2 ? rows[2] : NULL;
    for (const int32_t end = from + layer.c_in; from < end; from++) {
        for (int32_t i = 0; i < layer.per_input; i++) {
            int32_t a = *bias++;
            int32_t b = a;
            if (layer.kernel_h <= 3) {
                tinymbn_depthwise_row(&a, &b, row_0, from, 0, weights, layer, block);
                weights += layer.kernel_w;
                if (layer.kernel_h > 1) {
                    tinymbn_depthwise_row(&a, &b, row_1, from, 1, weights, layer, block);
                    weights += layer.kernel_w;
                }
                if (layer.kernel_h > 2) {
                    tinymbn_depthwise_row(&a, &b, row_2, from, 2, weights, layer, block);
                    weights += layer.kernel_w;
                }
            } else {
                for (int32_t k_y = 0; k_y < layer.kernel_h; k_y++, weights += layer.kernel_w) {
                    tinymbn_depthwise_row(&a, &b, rows[k_y], from, k_y, weights, layer, block);
                }
            }
            const int32_t own_multiplier = *multiplier++;
            const int32_t own_shift = *shift++;
            const int8_t byte_a = tinymbn_rescale(a, own_multiplier, own_shift, to);
            if (block.pixels == 2) {
                output[c_out] = tinymbn_rescale(b, own_multiplier, own_shift, to);
            }
            *output++ = byte_a;
        }
    }
}

#endif
