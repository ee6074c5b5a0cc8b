/* What the link knows of a model: filled in by the generated model_link.c. */
#ifndef TINYMBN_MODEL_H
#define TINYMBN_MODEL_H

#include <stdbool.h>
#include <stdint.h>

/* Row `row` of a layer's output is made: first with no bytes, at once, so that time can be taken; then with its
   bytes in tensor order, in one or several pieces. Rows of one layer come in order; rows of several layers
   alternate. */
typedef void (*tinymbn_on_rows)(int32_t layer, int32_t row, const int8_t *data, int32_t bytes);

typedef struct {
    const void *data;
    uint32_t bytes;
} tinymbn_constant;

typedef struct {
    const char *name; /* for MLPerf Tiny's m-model-[..] */
    const char *options; /* what the generator was asked for, one line of at most 200 characters */
    const char *version; /* of the tinymbn that generated it */
    const uint8_t *sha256; /* 32 bytes, of the model */
    uint32_t input_bytes;
    uint32_t output_bytes;
    uint32_t arena_bytes;
    int32_t layers;
    int8_t *arena;
    int8_t *(*input)(void); /* where the link puts the frame */
    bool input_stays; /* it is no place in the arena: a run leaves the frame as it is */
    int8_t *(*place)(void); /* of the frame in the arena; NULL where it comes row by row */
    void (*run)(const int8_t *input, int8_t *output);
    void (*run_traced)(const int8_t *input, int8_t *output, tinymbn_on_rows on_rows);
    /* Rows of one layer alone, on what lies in the arena. */
    void (*run_rows)(int32_t layer, int32_t first, int32_t rows, tinymbn_on_rows on_rows);
    const uint16_t *rows; /* (layers): in how many each layer is made */
    const tinymbn_constant *constants; /* of all layers, in order */
    const uint16_t *first_constant; /* (layers + 1): layer i has those from [i] up to, not with, [i + 1] */
    int8_t (*pixel)(uint8_t value, uint32_t index); /* a pixel as the int8 of the input's byte `index` */
    int64_t output_scale_q20; /* 1000 * output scale * 2^20 */
    int32_t output_zero;
} tinymbn_model;

extern const tinymbn_model tinymbn_the_model;

#endif
