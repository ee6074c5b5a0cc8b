/* The text commands of MLPerf Tiny, on the same UART as the frames. */
#ifndef LINK_TEXT_H
#define LINK_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "tinymbn_model.h"

enum {
    TEXT_END = '%', /* executes what was collected */
    TEXT_COMMAND_BYTES = 80, /* of the longest command */
};

/* Says the lines of a fresh boot. */
void text_start(void);

/* Executes one command, without its '%', and answers; `too_long` where bytes of it had to be dropped. */
void text_execute(const tinymbn_model *model, const uint8_t *command, uint32_t bytes, bool too_long);

#endif
