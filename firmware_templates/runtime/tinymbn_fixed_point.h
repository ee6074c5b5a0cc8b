/* Fixed-point arithmetic of the layers, bit for bit that of tinymbn/fixedpoint.py, whose functions have the same
 * names: there are the sources and the reasons. Signed right shifts are arithmetic, as with every compiler for Arm. */
#ifndef TINYMBN_FIXED_POINT_H
#define TINYMBN_FIXED_POINT_H

#include <stdint.h>

/* accumulator + value * weight modulo 2^32, as the reference's int32 has it. */
static inline int32_t tinymbn_accumulate(int32_t accumulator, int32_t value, int32_t weight)
{
    return (int32_t)((uint32_t)accumulator + (uint32_t)(value * weight));
}

/* a * b / 2^31 rounded to nearest, ties up; not both may be -2^31. */
static inline int32_t tinymbn_high_multiply(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^bits rounded to nearest, ties away from zero; bits in [0, 62]. */
static inline int32_t tinymbn_shift_right(int32_t x, int32_t bits)
{
    if (bits == 0) {
        return x;
    }
    return (int32_t)(((int64_t)x + ((int64_t)1 << (bits - 1)) - (x < 0)) >> bits);
}

/* accumulator * multiplier / 2^31 * 2^shift, rounded twice; a left shift wraps. multiplier >= 0, shift in [-31, 30]. */
static inline int32_t tinymbn_requantize(int32_t accumulator, int32_t multiplier, int32_t shift)
{
    if (shift > 0) {
        return tinymbn_high_multiply((int32_t)((uint32_t)accumulator << shift), multiplier);
    }
    return tinymbn_shift_right(tinymbn_high_multiply(accumulator, multiplier), -shift);
}

/* The same rounded once, ties away from zero: what dense layers do. */
static inline int64_t tinymbn_requantize_once(int32_t accumulator, int32_t multiplier, int32_t shift)
{
    const int64_t half = (int64_t)1 << (30 - shift);
    if (accumulator < 0) {
        return -((-(int64_t)accumulator * multiplier + half) >> (31 - shift));
    }
    return ((int64_t)accumulator * multiplier + half) >> (31 - shift);
}

/* How many of the ascending steps the accumulator's magnitude reaches, with its sign. */
static inline int32_t tinymbn_step_count(int32_t accumulator, const int32_t *steps, int32_t count)
{
    const int64_t magnitude = accumulator < 0 ? -(int64_t)accumulator : accumulator;
    int32_t low = 0;
    int32_t high = count;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if (steps[middle] <= magnitude) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return accumulator < 0 ? -low : low;
}

/* x clamped to [low, high]. */
static inline int8_t tinymbn_clamp(int64_t x, int32_t low, int32_t high)
{
    return (int8_t)(x < low ? low : x > high ? high : x);
}

/* A requantised value as a byte of the output: its zero point added as an int32, which wraps, then clamped. */
static inline int8_t tinymbn_to_output(int32_t rescaled, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t q = (int32_t)((uint32_t)rescaled + (uint32_t)zero_point);
    return (int8_t)(q < low ? low : q > high ? high : q);
}

/* total / count rounded to nearest, ties away from zero; count > 0. */
static inline int32_t tinymbn_rounding_average(int32_t total, int32_t count)
{
    return total > 0 ? (total + count / 2) / count : -((-total + count / 2) / count);
}

/* exp(a) for a in [-1/4, 0) in Q0.31: a Taylor polynomial of degree 4 around -1/8. */
static inline int32_t tinymbn_exp_on_interval(int32_t a)
{
    enum { EXP_MINUS_EIGHTH = 1895147668, THIRD = 715827883 };
    const int32_t x = a + (1 << 28);
    const int32_t x2 = tinymbn_high_multiply(x, x);
    const int32_t x3 = tinymbn_high_multiply(x2, x);
    const int32_t x4_over_4 = tinymbn_shift_right(tinymbn_high_multiply(x2, x2), 2);
    const int32_t higher = tinymbn_shift_right(tinymbn_high_multiply(x4_over_4 + x3, THIRD) + x2, 1);
    return EXP_MINUS_EIGHTH + tinymbn_high_multiply(EXP_MINUS_EIGHTH, x + higher);
}

/* exp(x) for x <= 0 in Q5.26; the result is Q0.31. */
static inline int32_t tinymbn_exp_on_negative(int32_t x)
{
    enum { QUARTER = 1 << 24 };
    if (x == 0) {
        return INT32_MAX;
    }
    const int32_t in_quarter = (x & (QUARTER - 1)) - QUARTER; /* in [-1/4, 0) */
    const uint32_t steps = (uint32_t)in_quarter - (uint32_t)x; /* a multiple of 1/4 */
    int32_t result = tinymbn_exp_on_interval(in_quarter * 32);
    /* exp(-1/4), exp(-1/2), exp(-1), ..., exp(-16) in Q0.31, one a bit. */
    if ((steps & (1U << 24)) != 0) {
        result = tinymbn_high_multiply(result, 1672461947);
    }
    if ((steps & (1U << 25)) != 0) {
        result = tinymbn_high_multiply(result, 1302514674);
    }
    if ((steps & (1U << 26)) != 0) {
        result = tinymbn_high_multiply(result, 790015084);
    }
    if ((steps & (1U << 27)) != 0) {
        result = tinymbn_high_multiply(result, 290630308);
    }
    if ((steps & (1U << 28)) != 0) {
        result = tinymbn_high_multiply(result, 39332535);
    }
    if ((steps & (1U << 29)) != 0) {
        result = tinymbn_high_multiply(result, 720401);
    }
    if ((steps & (1U << 30)) != 0) {
        result = tinymbn_high_multiply(result, 242);
    }
    return result;
}

static inline int32_t tinymbn_saturate(int64_t x)
{
    return (int32_t)(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x);
}

/* 1 / (1 + x) for x in [0, 1), Q0.31, by three Newton steps. */
static inline int32_t tinymbn_reciprocal(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    /* 48/17 - 32/17 * half, Q2.29 */
    int32_t estimate = 1515870810 + tinymbn_high_multiply(half, -1010580540);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t error = (1 << 29) - tinymbn_high_multiply(half, estimate);
        estimate += tinymbn_saturate((int64_t)tinymbn_high_multiply(estimate, error) * 4);
    }
    return tinymbn_saturate((int64_t)estimate * 2);
}

#endif
