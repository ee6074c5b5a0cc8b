/* Rows of any layout, told in the order of the tensor's bytes: pixel by pixel, all channels of one before the next. */
#ifndef TINYMBN_TRACE_H
#define TINYMBN_TRACE_H

#include <stdint.h>

#include "tinymbn_dsp.h"

typedef void (*tinymbn_on_rows_function)(int32_t layer, int32_t row, const int8_t *data, int32_t bytes);

/* What is told next; nothing that grows with the model. */
typedef struct {
    tinymbn_on_rows_function on_rows;
    int32_t layer;
    int32_t row;
    int32_t bytes;
    int8_t data[64];
} tinymbn_trace;

static inline void tinymbn_trace_end(tinymbn_trace *trace)
{
    if (trace->bytes > 0) {
        trace->on_rows(trace->layer, trace->row, trace->data, trace->bytes);
        trace->bytes = 0;
    }
}

static inline void tinymbn_trace_put(tinymbn_trace *trace, uint32_t stored)
{
    trace->data[trace->bytes++] = (int8_t)((int32_t)(stored & 0xFFu) - 128);
    if (trace->bytes == (int32_t)sizeof trace->data) {
        tinymbn_trace_end(trace);
    }
}

/* Planes of bytes. */
static inline void tinymbn_trace_planes(tinymbn_on_rows_function on_rows, int32_t layer, int32_t row,
                                        const int8_t *data, int32_t width, int32_t channels)
{
    tinymbn_trace trace = {on_rows, layer, row, 0, {0}};
    for (int32_t x = 0; x < width; x++) {
        for (int32_t c = 0; c < channels; c++) {
            tinymbn_trace_put(&trace, (uint32_t)(data[c * width + x] + 128));
        }
    }
    tinymbn_trace_end(&trace);
}

/* Planes of bytes, value + 128; four neighbours lie as x0, x2, x1, x3. */
static inline void tinymbn_trace_planar(tinymbn_on_rows_function on_rows, int32_t layer, int32_t row,
                                        const int8_t *data, int32_t width, int32_t channels)
{
    tinymbn_trace trace = {on_rows, layer, row, 0, {0}};
    const int32_t plane = (width + 3) / 4 * 4;
    for (int32_t x = 0; x < width; x++) {
        const int32_t lane = tinymbn_lane(x);
        for (int32_t c = 0; c < channels; c++) {
            tinymbn_trace_put(&trace, (uint8_t)data[c * plane + lane]);
        }
    }
    tinymbn_trace_end(&trace);
}

/* Words of two channels, value + 128; groups of four pixels up to pixel fours, then of rest. */
static inline void tinymbn_trace_pairs(tinymbn_on_rows_function on_rows, int32_t layer, int32_t row,
                                       const int8_t *data, int32_t width, int32_t channels, int32_t fours,
                                       int32_t rest)
{
    tinymbn_trace trace = {on_rows, layer, row, 0, {0}};
    const tinymbn_half *const halves = (const tinymbn_half *)(const void *)data;
    const int32_t pairs = (channels + 1) / 2;
    for (int32_t x = 0; x < width; x++) {
        const int32_t group = x < fours ? 4 : rest;
        const int32_t begin = x < fours ? x & ~3 : fours + (x - fours) / rest * rest;
        for (int32_t c = 0; c < channels; c++) {
            const int32_t pair = c < pairs ? c : c - pairs;
            const int32_t word = pairs * begin + group * pair + (x - begin);
            tinymbn_trace_put(&trace, halves[2 * word + (c < pairs ? 0 : 1)]);
        }
    }
    tinymbn_trace_end(&trace);
}

#endif
