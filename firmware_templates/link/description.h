/* What HELLO and MODEL tell of firmware and model, longer than a frame and so in pieces. */
#ifndef LINK_DESCRIPTION_H
#define LINK_DESCRIPTION_H

#include "message.h"
#include "tinymbn_model.h"

typedef enum { DESCRIPTION_OF_FIRMWARE, DESCRIPTION_OF_MODEL } description_subject;

/* The operations HELLO and MODEL: the length of the whole, and as much of it from an offset on as fits. */
uint8_t description_piece(const tinymbn_model *model, description_subject subject, message_reader *arguments,
                          message_writer *reply);

#endif
