/* Runs of the network: plain, traced with a record a layer, or traced with the rows of one layer sent. */
#ifndef LINK_RUN_H
#define LINK_RUN_H

#include "link_config.h"
#include "message.h"
#include "tinymbn_model.h"

enum {
    RUN_RECORD_BYTES = 12, /* u32 each: bytes reported, ticks, crc32 */
};

/* The output of the last run of the whole network. */
extern int8_t run_output[LINK_OUTPUT_BYTES];

/* The records of the last traced run, (layers, 3) u32 little-endian. */
uint8_t *run_records(void);

/* Runs once, for a text command. */
void run_once(const tinymbn_model *model);

/* The operations RUN and DUMP. */
uint8_t run_execute(const tinymbn_model *model, message_reader *arguments, message_writer *reply);
uint8_t run_dump(const tinymbn_model *model, message_reader *arguments, message_writer *reply);

/* Link and model were generated together. */
static inline bool run_fits(const tinymbn_model *model)
{
    return model->layers > 0 && model->layers <= LINK_LAYERS && model->output_bytes <= LINK_OUTPUT_BYTES;
}

#endif
