/* Runs of the network: plain, traced with a record a layer, or traced with the rows of one layer sent. */
#ifndef LINK_RUN_H
#define LINK_RUN_H

#include "message.h"
#include "tinymbn_model.h"

enum {
    RUN_RECORD_BYTES = 12, /* u32 each: bytes reported, ticks, crc32 */
};

/* Where the output of the last run of the whole network lies. */
int8_t *run_output(void);

/* Room for an output that nobody wants; the records lie there too. */
int8_t *run_spare_output(void);

/* The records of the last traced run, (layers, 3) u32 little-endian. */
uint8_t *run_records(void);

/* The operations RUN and DUMP. */
uint8_t run_execute(const tinymbn_model *model, message_reader *arguments, message_writer *reply);
uint8_t run_dump(const tinymbn_model *model, message_reader *arguments, message_writer *reply);

/* Link and model were generated together. */
bool run_fits(const tinymbn_model *model);

#endif
