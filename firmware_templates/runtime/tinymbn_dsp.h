/* The instructions of the DSP extension (Armv7E-M, Armv8-M with DSP), each with a model in plain C for every other machine,
 * so that the kernels that use them run, and are checked, on a PC as well. */
#ifndef TINYMBN_DSP_H
#define TINYMBN_DSP_H

#include <stdint.h>

#include "tinymbn_fixed_point.h"
#include "tinymbn_layers.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#define TINYMBN_HAS_DSP 1
#include <arm_acle.h>
#else
#define TINYMBN_HAS_DSP 0
#endif

/* Whether a block of assembler may take all fourteen registers: gcc, and not at -O0, where it keeps a frame pointer.
 * -DTINYMBN_ASSEMBLER=0 for flags that take registers away, such as -fno-omit-frame-pointer: the same, slower. */
#ifndef TINYMBN_ASSEMBLER
#if TINYMBN_HAS_DSP && defined(__OPTIMIZE__) && !defined(__clang__)
#define TINYMBN_ASSEMBLER 1
#else
#define TINYMBN_ASSEMBLER 0
#endif
#endif

/* Words in an arena of bytes. */
typedef uint32_t __attribute__((may_alias)) tinymbn_word;

/* Two halfwords, or four bytes, at any address: every core with the DSP extension loads them with one instruction. */
typedef struct {
    uint32_t value;
} __attribute__((packed, may_alias)) tinymbn_packed_word;

static inline uint32_t tinymbn_load(const int8_t *bytes)
{
    return ((const tinymbn_packed_word *)(const void *)bytes)->value;
}

static inline int32_t tinymbn_low(uint32_t pair)
{
    return (int16_t)(pair & 0xFFFFu);
}

static inline int32_t tinymbn_high(uint32_t pair)
{
    return (int16_t)(pair >> 16);
}

static inline int32_t tinymbn_wrapping_add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

static inline int32_t tinymbn_wrapping_subtract(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}

static inline int32_t tinymbn_shift_left(int32_t x, int32_t bits)
{
    return (int32_t)((uint32_t)x << bits);
}

/* Two products of halfwords, added; modulo 2^32 as all sums here. */
static inline int32_t tinymbn_smlad(uint32_t a, uint32_t b, int32_t sum)
{
#if TINYMBN_HAS_DSP
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
#else
    sum = tinymbn_wrapping_add(sum, tinymbn_low(a) * tinymbn_low(b));
    return tinymbn_wrapping_add(sum, tinymbn_high(a) * tinymbn_high(b));
#endif
}

/* One product of halfwords, B the bottom one and T the top one of each. */
static inline int32_t tinymbn_smlabb(uint32_t a, uint32_t b, int32_t sum)
{
#if TINYMBN_HAS_DSP
    return __smlabb((int32_t)a, (int32_t)b, sum);
#else
    return tinymbn_wrapping_add(sum, tinymbn_low(a) * tinymbn_low(b));
#endif
}

static inline int32_t tinymbn_smlabt(uint32_t a, uint32_t b, int32_t sum)
{
#if TINYMBN_HAS_DSP
    return __smlabt((int32_t)a, (int32_t)b, sum);
#else
    return tinymbn_wrapping_add(sum, tinymbn_low(a) * tinymbn_high(b));
#endif
}

static inline int32_t tinymbn_smlatb(uint32_t a, uint32_t b, int32_t sum)
{
#if TINYMBN_HAS_DSP
    return __smlatb((int32_t)a, (int32_t)b, sum);
#else
    return tinymbn_wrapping_add(sum, tinymbn_high(a) * tinymbn_low(b));
#endif
}

/* sum + (a * b >> 32), all 64 bits of the product counted. */
static inline int32_t tinymbn_smmla(int32_t a, int32_t b, int32_t sum)
{
#if TINYMBN_HAS_DSP
    int32_t result;
    __asm__("smmla %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
#else
    return tinymbn_wrapping_add(sum, (int32_t)(((int64_t)a * b) >> 32));
#endif
}

/* a * b / 2^32 rounded to nearest, ties up: tinymbn_high_multiply of half of a. */
static inline int32_t tinymbn_smmulr(int32_t a, int32_t b)
{
#if TINYMBN_HAS_DSP
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* The differences of four bytes, without their signs, added to a sum; of b = 0 the bytes of a. */
static inline uint32_t tinymbn_usada8(uint32_t a, uint32_t b, uint32_t sum)
{
#if TINYMBN_HAS_DSP
    return __usada8(a, b, sum);
#else
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        const uint32_t p = a >> shift & 0xFFu, q = b >> shift & 0xFFu;
        sum += p > q ? p - q : q - p;
    }
    return sum;
#endif
}

/* The low halfwords of a and b, and the high ones, as the low and the high one of a word. */
static inline uint32_t tinymbn_low_halves(uint32_t a, uint32_t b)
{
#if TINYMBN_HAS_DSP
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (a & 0xFFFFu) | (b << 16);
#endif
}

static inline uint32_t tinymbn_high_halves(uint32_t a, uint32_t b)
{
#if TINYMBN_HAS_DSP
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(b), "r"(a));
    return result;
#else
    return (a >> 16) | (b & 0xFFFF0000u);
#endif
}

/* Bytes 0 and 2, zero-extended to halfwords. */
static inline uint32_t tinymbn_uxtb16(uint32_t x)
{
#if TINYMBN_HAS_DSP
    uint32_t result; /* gcc and clang disagree on the types of the intrinsics */
    __asm__("uxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return x & 0x00FF00FFu;
#endif
}

/* Bytes 1 and 3. */
static inline uint32_t tinymbn_uxtb16_odd(uint32_t x)
{
#if TINYMBN_HAS_DSP
    uint32_t result;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
#else
    return (x >> 8) & 0x00FF00FFu;
#endif
}

/* Bytes 0 and 2, sign-extended to halfwords. */
static inline uint32_t tinymbn_sxtb16(uint32_t x)
{
#if TINYMBN_HAS_DSP
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return (uint32_t)(uint16_t)(int8_t)(x & 0xFFu) | ((uint32_t)(uint16_t)(int8_t)((x >> 16) & 0xFFu) << 16);
#endif
}

/* Bytes 1 and 3. */
static inline uint32_t tinymbn_sxtb16_odd(uint32_t x)
{
#if TINYMBN_HAS_DSP
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
#else
    return tinymbn_sxtb16(x >> 8);
#endif
}

/* x >> SHIFT clamped to 0..255, and to -128..127; SHIFT is a constant from 1 to 31. */
#if TINYMBN_HAS_DSP
#define tinymbn_usat8(x, SHIFT) \
    __extension__({ \
        int32_t saturated_; \
        __asm__("usat %0, #8, %1, asr %2" : "=r"(saturated_) : "r"(x), "I"(SHIFT)); \
        saturated_; \
    })
#define tinymbn_ssat8(x, SHIFT) \
    __extension__({ \
        int32_t saturated_; \
        __asm__("ssat %0, #8, %1, asr %2" : "=r"(saturated_) : "r"(x), "I"(SHIFT)); \
        saturated_; \
    })
#else
#define tinymbn_usat8(x, SHIFT) tinymbn_between((x) >> (SHIFT), 0, 255)
#define tinymbn_ssat8(x, SHIFT) tinymbn_between((x) >> (SHIFT), -128, 127)
#endif

/* The reference's two roundings, of a doubled sum, and a sum with what the addend has beside half a step. */
static inline int32_t tinymbn_round_twice(int32_t doubled, int32_t multiplier, int32_t addend, int32_t bits)
{
    const int32_t high = tinymbn_smmulr(doubled, multiplier);
    return (high + (high >> 31) + addend) >> bits;
}

/* The output of any sum, by the reference's functions; a call, so that a tile does not have eight copies. */
__attribute__((noinline, unused)) static int32_t tinymbn_general_output(int32_t sum, int32_t multiplier,
                                                                        int32_t shift, int32_t zero_point,
                                                                        int32_t low, int32_t high)
{
    return tinymbn_to_output(tinymbn_requantize(sum, multiplier, shift), zero_point, low, high);
}

/* The byte of pixel x in its plane: four neighbours lie as x0, x2, x1, x3. */
static inline int32_t tinymbn_lane(int32_t x)
{
    return (x & ~3) + ((x & 1) << 1) + ((x & 2) >> 1);
}

/* A pixel of a row as TensorFlow Lite has it, into pairs: words step apart. */
static inline void tinymbn_put_pairs(const int8_t *pixel, int32_t channels, tinymbn_word *to, int32_t step)
{
    const int32_t pairs = (channels + 1) / 2;
    const int8_t *const high = pixel + pairs;
    int32_t i = 0;
    for (; i + 4 <= channels - pairs; i += 4, to += 4 * step) {
        const uint32_t four_low = tinymbn_load(pixel + i) ^ 0x80808080u;
        const uint32_t four_high = tinymbn_load(high + i) ^ 0x80808080u;
        const uint32_t low_02 = tinymbn_uxtb16(four_low), low_13 = tinymbn_uxtb16_odd(four_low);
        const uint32_t high_02 = tinymbn_uxtb16(four_high), high_13 = tinymbn_uxtb16_odd(four_high);
        to[0] = tinymbn_low_halves(low_02, high_02);
        to[step] = tinymbn_low_halves(low_13, high_13);
        to[2 * step] = tinymbn_high_halves(low_02, high_02);
        to[3 * step] = tinymbn_high_halves(low_13, high_13);
    }
    for (; i < pairs; i++, to += step) {
        const uint32_t above = i < channels - pairs ? (uint8_t)high[i] ^ 0x80u : 0;
        *to = ((uint8_t)pixel[i] ^ 0x80u) | above << 16;
    }
}

/* Columns of halfwords, step apart: one value throughout. */
static inline void tinymbn_fill_columns(tinymbn_half *to, int32_t columns, int32_t channels, int32_t step,
                                        int32_t value)
{
    for (int32_t x = 0; x < columns; x++, to += step) {
        for (int32_t c = 0; c < channels; c++) {
            to[c] = (tinymbn_half)value;
        }
    }
}

/* Six bytes as halfwords: loads together, each but the first takes a cycle; three each to two places. */
static inline void tinymbn_widen_six(tinymbn_half *to, tinymbn_half *other, const int8_t *from)
{
    const int8_t a = from[0], b = from[1], c = from[2], d = from[3], e = from[4], f = from[5];
    to[0] = (tinymbn_half)a;
    to[1] = (tinymbn_half)b;
    to[2] = (tinymbn_half)c;
    other[0] = (tinymbn_half)d;
    other[1] = (tinymbn_half)e;
    other[2] = (tinymbn_half)f;
}

/* Four bytes as halfwords, step apart. */
static inline void tinymbn_widen_four(tinymbn_half *to, int32_t step, const int8_t *from)
{
    const int8_t a = from[0], b = from[1], c = from[2], d = from[3];
    to[0] = (tinymbn_half)a;
    to[step] = (tinymbn_half)b;
    to[2 * step] = (tinymbn_half)c;
    to[3 * step] = (tinymbn_half)d;
}

/* The pixels of a row, as TensorFlow Lite has it, into columns of halfwords. */
static inline void tinymbn_widen_columns(tinymbn_half *to, const int8_t *from, int32_t columns,
                                         int32_t channels, int32_t step)
{
    int32_t x = 0;
    if (channels % 4 == 0) {
        for (; x < columns; x++, to += step) {
            tinymbn_word *const words = (tinymbn_word *)(void *)to;
            for (int32_t i = 0; i < channels / 2; i += 2, from += 4) {
                const uint32_t four = tinymbn_load(from);
                const uint32_t even = tinymbn_sxtb16(four), odd = tinymbn_sxtb16_odd(four);
                words[i] = tinymbn_low_halves(even, odd);
                words[i + 1] = tinymbn_high_halves(even, odd);
            }
        }
    } else if (channels == 3) {
        for (; x + 8 <= columns; x += 8, from += 24, to += 8 * step) {
            tinymbn_widen_six(to, to + step, from);
            tinymbn_widen_six(to + 2 * step, to + 3 * step, from + 6);
            tinymbn_widen_six(to + 4 * step, to + 5 * step, from + 12);
            tinymbn_widen_six(to + 6 * step, to + 7 * step, from + 18);
        }
    } else if (channels == 1) {
        for (; x + 8 <= columns; x += 8, from += 8, to += 8 * step) {
            tinymbn_widen_four(to, step, from);
            tinymbn_widen_four(to + 4 * step, step, from + 4);
        }
    }
    for (; x < columns; x++, from += channels, to += step) {
        for (int32_t c = 0; c < channels; c++) {
            to[c] = (tinymbn_half)from[c];
        }
    }
}

#endif
