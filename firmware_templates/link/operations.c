/* What each operation does with its arguments: see docs/link.md. */
#include "operations.h"

#include <stddef.h>
#include <string.h>

#include "../board/board.h"
#include "answer.h"
#include "description.h"
#include "frame.h"
#include "input.h"
#include "protocol.h"
#include "run.h"
#include "session.h"

enum {
    CRC_STEP_BYTES = 4096, /* between two looks at the clock */
};

typedef struct {
    uint8_t *data;
    uint32_t bytes;
    bool writable;
} region;

static uint8_t sync(message_reader *arguments, message_writer *reply)
{
    const uint32_t nonce = message_take_u32(arguments);
    if (!message_complete(arguments) || nonce == 0u) {
        return STATUS_BAD_ARGUMENT;
    }
    session.epoch = nonce;
    message_put_u32(reply, nonce);
    return STATUS_OK;
}

static region find_region(const tinymbn_model *model, uint8_t number)
{
    region found = {NULL, 0u, false};
    if (!run_fits(model)) {
        return found;
    }
    switch (number) {
    case REGION_INPUT:
        found = (region){(uint8_t *)model->input(), model->input_bytes, true};
        break;
    case REGION_ARENA:
        found = (region){(uint8_t *)model->arena, model->arena_bytes, true};
        break;
    case REGION_OUTPUT:
        found = (region){(uint8_t *)run_output, model->output_bytes, false};
        break;
    case REGION_RECORDS:
        found = (region){run_records(), (uint32_t)model->layers * RUN_RECORD_BYTES, false};
        break;
    default:
        break;
    }
    return found;
}

static bool lies_within(const region *whole, uint32_t offset, uint32_t bytes)
{
    return whole->data != NULL && offset <= whole->bytes && bytes <= whole->bytes - offset;
}

static uint8_t write(const tinymbn_model *model, message_reader *arguments)
{
    const region target = find_region(model, message_take_u8(arguments));
    const uint32_t offset = message_take_u32(arguments);
    if (arguments->missing || !target.writable || !lies_within(&target, offset, arguments->bytes)) {
        return STATUS_BAD_ARGUMENT;
    }
    if (arguments->bytes > 0u) {
        memcpy(target.data + offset, arguments->data, arguments->bytes);
    }
    input_forget();
    return STATUS_OK;
}

static uint8_t read(const tinymbn_model *model, message_reader *arguments, message_writer *reply)
{
    const region source = find_region(model, message_take_u8(arguments));
    const uint32_t offset = message_take_u32(arguments);
    const uint32_t bytes = message_take_u16(arguments);
    if (!message_complete(arguments) || !lies_within(&source, offset, bytes) || bytes > reply->capacity) {
        return STATUS_BAD_ARGUMENT;
    }
    message_put(reply, source.data + offset, bytes);
    return STATUS_OK;
}

/* CRC in steps, so that the host hears in time that the board works. */
static uint32_t patient_crc(uint32_t crc, const uint8_t *data, uint32_t bytes)
{
    while (bytes > 0u) {
        const uint32_t step = bytes < CRC_STEP_BYTES ? bytes : (uint32_t)CRC_STEP_BYTES;
        crc = frame_crc(crc, data, step);
        data += step;
        bytes -= step;
        answer_progress(0u);
    }
    return crc;
}

static uint8_t region_crc(const tinymbn_model *model, message_reader *arguments, message_writer *reply)
{
    const region source = find_region(model, message_take_u8(arguments));
    const uint32_t offset = message_take_u32(arguments);
    const uint32_t bytes = message_take_u32(arguments);
    if (!message_complete(arguments) || !lies_within(&source, offset, bytes)) {
        return STATUS_BAD_ARGUMENT;
    }
    const uint32_t crc = bytes == 0u ? 0u : patient_crc(0u, source.data + offset, bytes);
    message_put_u32(reply, crc);
    return STATUS_OK;
}

static uint8_t constants(const tinymbn_model *model, message_reader *arguments, message_writer *reply)
{
    const uint32_t first = message_take_u16(arguments);
    const uint32_t count = message_take_u16(arguments);
    const uint32_t layers = (uint32_t)model->layers;
    if (!message_complete(arguments) || first > layers || count > layers - first ||
        count > reply->capacity / 4u) {
        return STATUS_BAD_ARGUMENT;
    }
    for (uint32_t layer = first; layer < first + count; layer++) {
        uint32_t crc = 0;
        for (uint32_t i = model->first_constant[layer]; i < model->first_constant[layer + 1u]; i++) {
            crc = patient_crc(crc, model->constants[i].data, model->constants[i].bytes);
        }
        message_put_u32(reply, crc);
    }
    return STATUS_OK;
}

static uint8_t stack(message_reader *arguments, message_writer *reply)
{
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    message_put_u32(reply, board_stack_bytes());
    message_put_u32(reply, board_stack_used());
    return STATUS_OK;
}

static uint8_t fault(message_reader *arguments, message_writer *reply)
{
    const uint8_t clear = message_take_u8(arguments);
    if (!message_complete(arguments) || clear > 1u) {
        return STATUS_BAD_ARGUMENT;
    }
    const board_fault *const found = board_fault_read();
    if (found != NULL) {
        message_put_u32(reply, found->count);
        message_put_u32(reply, found->pc);
        message_put_u32(reply, found->lr);
        message_put_u32(reply, found->psr);
        message_put_u32(reply, found->sp);
        message_put_u32(reply, found->cfsr);
        message_put_u32(reply, found->hfsr);
        message_put_u32(reply, found->mmfar);
        message_put_u32(reply, found->bfar);
    }
    if (clear == 1u) {
        reply->bytes = 0u;
        board_fault_clear();
    }
    return STATUS_OK;
}

static uint8_t baud(message_reader *arguments)
{
    const uint32_t wanted = message_take_u32(arguments);
    if (!message_complete(arguments) || wanted == 0u) {
        return STATUS_BAD_ARGUMENT;
    }
    return session_change_baud(wanted) ? STATUS_OK : STATUS_BAUD_IMPOSSIBLE;
}

static uint8_t reset(message_reader *arguments)
{
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    session.reset = true;
    return STATUS_OK;
}

static uint8_t echo(message_reader *arguments, message_writer *reply)
{
    message_put(reply, arguments->data, arguments->bytes);
    return reply->full ? STATUS_BAD_ARGUMENT : STATUS_OK;
}

static uint8_t counters(message_reader *arguments, message_writer *reply)
{
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    message_put_u32(reply, board_overruns());
    message_put_u32(reply, session.bad_frames);
    message_put_u32(reply, board_cycles());
    message_put_u32(reply, board_milliseconds());
    return STATUS_OK;
}

uint8_t operations_execute(const tinymbn_model *model, uint8_t operation, message_reader *arguments,
                           message_writer *reply)
{
    switch (operation) {
    case OPERATION_SYNC:
        return sync(arguments, reply);
    case OPERATION_HELLO:
        return description_piece(model, DESCRIPTION_OF_FIRMWARE, arguments, reply);
    case OPERATION_RESET:
        return reset(arguments);
    default:
        break;
    }
    if (session.epoch == 0u) {
        return STATUS_NOT_SYNCED; /* what the host believes of this board's state was true before a reset */
    }
    switch (operation) {
    case OPERATION_MODEL:
        return description_piece(model, DESCRIPTION_OF_MODEL, arguments, reply);
    case OPERATION_CONSTANTS:
        return constants(model, arguments, reply);
    case OPERATION_WRITE:
        return write(model, arguments);
    case OPERATION_READ:
        return read(model, arguments, reply);
    case OPERATION_CRC:
        return region_crc(model, arguments, reply);
    case OPERATION_RUN:
        return run_execute(model, arguments, reply);
    case OPERATION_DUMP:
        return run_dump(model, arguments, reply);
    case OPERATION_STACK:
        return stack(arguments, reply);
    case OPERATION_FAULT:
        return fault(arguments, reply);
    case OPERATION_BAUD:
        return baud(arguments);
    case OPERATION_ECHO:
        return echo(arguments, reply);
    case OPERATION_COUNTERS:
        return counters(arguments, reply);
    default:
        return STATUS_UNKNOWN_OPERATION;
    }
}
