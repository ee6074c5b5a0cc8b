/* The instructions of the DSP extension (Armv7E-M, Armv8-M with DSP), each with a model in plain C for every other machine,
 * so that the kernels that use them run, and are checked, on a PC as well. */
#ifndef TINYMBN_DSP_H
#define TINYMBN_DSP_H

#include <stdint.h>

#include "tinymbn_layers.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#define TINYMBN_HAS_DSP 1
#include <arm_acle.h>
#else
#define TINYMBN_HAS_DSP 0
#endif

/* Whether a block of assembler may take all fourteen registers: gcc, and not at -O0, where it keeps a frame pointer. */
#if TINYMBN_HAS_DSP && defined(__OPTIMIZE__) && !defined(__clang__)
#define TINYMBN_ASSEMBLER 1
#else
#define TINYMBN_ASSEMBLER 0
#endif

/* Words in an arena of bytes. */
typedef uint32_t __attribute__((may_alias)) tinymbn_word;

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

static inline uint32_t tinymbn_rotate_right(uint32_t x, uint32_t bits)
{
    return (x >> bits) | (x << (32u - bits));
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

/* Bytes 0 and 2, zero-extended to halfwords. */
static inline uint32_t tinymbn_uxtb16(uint32_t x)
{
#if TINYMBN_HAS_DSP
    uint32_t result; /* the intrinsic is of other types with gcc than with clang */
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
    uint32_t result; /* gcc 12 has no intrinsic with a rotation */
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
#define tinymbn_usat8(x, SHIFT) tinymbn_limit((x) >> (SHIFT), 0, 255)
#define tinymbn_ssat8(x, SHIFT) tinymbn_limit((x) >> (SHIFT), -128, 127)
#endif

static inline int32_t tinymbn_limit(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

#endif
