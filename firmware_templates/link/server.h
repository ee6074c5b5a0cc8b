/* The board's end of the link: takes bytes one by one, executes requests and text commands, answers. */
#ifndef LINK_SERVER_H
#define LINK_SERVER_H

#include <stdint.h>

#include "tinymbn_model.h"

/* Forgets all that was received and says the boot lines of MLPerf Tiny's text protocol. */
void server_start(const tinymbn_model *model);

/* Takes one received byte; a request or command that it completes is executed before this returns. */
void server_receive(uint8_t byte);

/* What has to happen while nothing is received; call it at least every few seconds. */
void server_poll(void);

#endif
