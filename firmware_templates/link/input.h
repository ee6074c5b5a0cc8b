/* The model's input as text commands load it: how much of it is there, and whether a run used it up. */
#ifndef LINK_INPUT_H
#define LINK_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "tinymbn_model.h"

typedef struct {
    uint32_t expected; /* pixels; 0 where nothing is to be loaded, or frames wrote to the input or ran it */
    uint32_t loaded; /* of them */
    bool used_up; /* a run overwrote what was there, and nothing was loaded since */
} input_state;

extern input_state input;

/* So many pixels are to come, from the first on. */
static inline void input_expect(uint32_t pixels)
{
    input.expected = pixels;
    input.loaded = 0u;
}

/* Nothing is loaded any more: frames write to it, or run it. */
static inline void input_forget(void)
{
    input = (input_state){.expected = 0u};
}

/* A run is about to overwrite it. */
static inline void input_use_up(void)
{
    input = (input_state){.used_up = true};
}

/* All that was expected lies there. */
static inline bool input_ready(void)
{
    return input.loaded > 0u && input.loaded == input.expected;
}

/* The next pixel; only where one is missing. */
static inline void input_add(const tinymbn_model *model, uint8_t pixel)
{
    model->input()[input.loaded] = model->pixel(pixel, input.loaded);
    input.loaded++;
    if (input.loaded == input.expected) {
        input.used_up = false;
    }
}

#endif
