/* What each operation does with its arguments. */
#ifndef LINK_OPERATIONS_H
#define LINK_OPERATIONS_H

#include "message.h"
#include "tinymbn_model.h"

/* Executes one request and writes its answer; gives its status. */
uint8_t operations_execute(const tinymbn_model *model, uint8_t operation, message_reader *arguments,
                           message_writer *reply);

#endif
