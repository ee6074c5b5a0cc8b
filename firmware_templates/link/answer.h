/* What the board says of the request being executed: events while it works, then its reply. */
#ifndef LINK_ANSWER_H
#define LINK_ANSWER_H

#include <stdint.h>

#include "frame.h"
#include "link_config.h"

enum {
    ANSWER_PLAIN_BYTES = FRAME_PLAIN_BYTES(LINK_RX_MAX),
    ANSWER_NAME_BYTES = 4, /* each reply and event begins with the CRC of the request it belongs to */
    ANSWER_BODY_BYTES = ANSWER_PLAIN_BYTES - FRAME_HEADER_BYTES - FRAME_CRC_BYTES - ANSWER_NAME_BYTES,
    ANSWER_OFFSET_BYTES = 4, /* data say where they lie in the layer's output */
    ANSWER_DATA_BYTES = ANSWER_BODY_BYTES - 1 - ANSWER_OFFSET_BYTES, /* most of one event */
};

/* What is sent from here on belongs to this request. */
void answer_begin(const frame *request);

/* What is sent: header | name of the request | body | CRC. */
extern uint8_t answer_plain[ANSWER_PLAIN_BYTES];

/* ANSWER_BODY_BYTES to write the reply to. Events take it too, but for that of progress. */
static inline uint8_t *answer_body(void)
{
    return answer_plain + FRAME_HEADER_BYTES + ANSWER_NAME_BYTES;
}

/* Event: the work begins. */
void answer_accepted(void);

/* Event, once a second at most: the work has come to this layer. What is written of the reply stays. */
void answer_progress(uint32_t layer);

/* Event: at most ANSWER_DATA_BYTES of a layer's output. */
void answer_data(uint32_t offset, const uint8_t *data, uint32_t bytes);

/* Sends the first bytes of answer_body(): a reply, or an event. */
void answer_send(uint8_t type, uint8_t status, uint32_t bytes);

#endif
