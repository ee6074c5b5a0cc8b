/* The board's end of the link: takes bytes one by one, executes requests and text commands, answers. */
#ifndef LINK_SERVER_H
#define LINK_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "link_config.h"
#include "tinymbn_model.h"

enum {
    SERVER_PLAIN_BYTES = FRAME_PLAIN_BYTES(LINK_RX_MAX),
    SERVER_NAME_BYTES = 4, /* each reply and event begins with the CRC of the request it belongs to */
    SERVER_ANSWER_BYTES = SERVER_PLAIN_BYTES - FRAME_HEADER_BYTES - FRAME_CRC_BYTES - SERVER_NAME_BYTES,
};

/* Forgets all that was received and says the boot lines of MLPerf Tiny's text protocol. */
void server_start(const tinymbn_model *model);

/* Takes one received byte; a request or command that it completes is executed before this returns. */
void server_receive(uint8_t byte);

/* What has to happen while nothing is received; call it at least every few seconds. */
void server_poll(void);

/* Sends an event of the request being executed: its kind, a few bytes of head, and data. */
void server_event(uint8_t kind, const uint8_t *head, uint32_t head_bytes, const uint8_t *data,
                  uint32_t bytes);

/* The epoch: the nonce of the host's SYNC, 0 after a reset. */
uint32_t server_epoch(void);
void server_set_epoch(uint32_t nonce);

/* Frames received that were not whole. */
uint32_t server_bad_frames(void);

/* Changes the baud rate behind the reply, and back if no good frame follows; false where it cannot be. */
bool server_change_baud(uint32_t baud);

/* Resets the board behind the reply. */
void server_reset_later(void);

#endif
