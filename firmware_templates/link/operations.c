/* What each operation does with its arguments: see docs/link.md. */
#include "operations.h"

#include <stddef.h>

#include "../board/board.h"
#include "frame.h"
#include "protocol.h"
#include "run.h"
#include "server.h"
#include "text.h"

enum {
    CREDITS = 1, /* WRITEs that may be under way unanswered */
    DOUBLE_ROUNDING = 1, /* the one arithmetic of tinymbn: TFLite's reference kernels */
    FEATURE_DSP = 1,
    FEATURE_MVE = 2,
    FEATURE_HARD_FLOAT = 4,
    SHA256_BYTES = 32,
    CRC_STEP_BYTES = 4096, /* between two looks at the clock */
    PROGRESS_MS = 1000,
};

typedef struct {
    uint8_t *data;
    uint32_t bytes;
    bool writable;
} region;

/* A text longer than a frame, sent in pieces: what falls outside the piece asked for is counted alone. */
typedef struct {
    uint32_t skip;
    uint32_t total;
    message_writer *reply;
} pieces;

static void piece_put(pieces *text, const void *data, uint32_t bytes)
{
    const uint8_t *const from = data;
    for (uint32_t i = 0; i < bytes; i++) {
        if (text->total >= text->skip) {
            message_put(text->reply, from + i, 1u);
        }
        text->total++;
    }
}

static void piece_put_u32(pieces *text, uint32_t value)
{
    uint8_t field[4];
    bytes_put_u32(field, value);
    piece_put(text, field, sizeof field);
}

/* A string with its terminating zero. */
static void piece_put_string(pieces *text, const char *string)
{
    for (; *string != '\0'; string++) {
        piece_put(text, string, 1u);
    }
    piece_put(text, string, 1u);
}

static uint32_t features(void)
{
    uint32_t found = 0;
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
    found |= FEATURE_DSP;
#endif
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE
    found |= FEATURE_MVE;
#endif
#if defined(__ARM_PCS_VFP)
    found |= FEATURE_HARD_FLOAT;
#endif
    return found;
}

static void describe_firmware(const tinymbn_model *model, pieces *text)
{
    static const uint8_t magic[4] = {'t', 'm', 'b', 'n'};
    const uint8_t small[5] = {FRAME_VERSION, FRAME_VERSION, CREDITS, DOUBLE_ROUNDING, BOARD_COUNTER_BITS};
    piece_put(text, magic, sizeof magic);
    piece_put(text, small, sizeof small);
    piece_put_u32(text, LINK_RX_MAX);
    piece_put_u32(text, BOARD_CLOCK_HZ);
    piece_put_u32(text, BOARD_COUNTER_HZ);
    piece_put_u32(text, board_status());
    piece_put_u32(text, features());
    piece_put_string(text, model->version);
    piece_put_string(text, BOARD_NAME);
    piece_put_string(text, BOARD_CORE);
    piece_put_string(text, BOARD_COUNTER_NAME);
}

static void describe_model(const tinymbn_model *model, pieces *text)
{
    piece_put(text, model->sha256, SHA256_BYTES);
    piece_put_u32(text, model->input_bytes);
    piece_put_u32(text, model->output_bytes);
    piece_put_u32(text, model->arena_bytes);
    piece_put_u32(text, (uint32_t)model->layers);
    piece_put_string(text, model->name);
    piece_put_string(text, model->options);
}

static uint8_t describe(const tinymbn_model *model, uint8_t operation, message_reader *arguments,
                        message_writer *reply)
{
    pieces text = {message_take_u16(arguments), 0u, reply};
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    message_put_u16(reply, 0u);
    if (operation == OPERATION_HELLO) {
        describe_firmware(model, &text);
    } else {
        describe_model(model, &text);
    }
    bytes_put_u16(reply->data, text.total);
    return STATUS_OK;
}

static uint8_t sync(message_reader *arguments, message_writer *reply)
{
    const uint32_t nonce = message_take_u32(arguments);
    if (!message_complete(arguments) || nonce == 0u) {
        return STATUS_BAD_ARGUMENT;
    }
    server_set_epoch(nonce);
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
        found = (region){(uint8_t *)run_output(), model->output_bytes, false};
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
    text_forget_input();
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

/* CRC in steps, with an event each second so that the host knows the board works. */
static uint32_t patient_crc(uint32_t crc, const uint8_t *data, uint32_t bytes, uint32_t *reported_ms)
{
    static const uint8_t nowhere[2] = {0u, 0u};
    while (bytes > 0u) {
        const uint32_t step = bytes < CRC_STEP_BYTES ? bytes : (uint32_t)CRC_STEP_BYTES;
        crc = frame_crc(crc, data, step);
        data += step;
        bytes -= step;
        const uint32_t now = board_milliseconds();
        if (now - *reported_ms >= PROGRESS_MS) {
            *reported_ms = now;
            server_event(EVENT_PROGRESS, nowhere, sizeof nowhere, NULL, 0u);
        }
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
    uint32_t reported_ms = board_milliseconds();
    const uint32_t crc = bytes == 0u ? 0u : patient_crc(0u, source.data + offset, bytes, &reported_ms);
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
    uint32_t reported_ms = board_milliseconds();
    for (uint32_t layer = first; layer < first + count; layer++) {
        uint32_t crc = 0;
        for (uint32_t i = model->first_constant[layer]; i < model->first_constant[layer + 1u]; i++) {
            crc = patient_crc(crc, model->constants[i].data, model->constants[i].bytes, &reported_ms);
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
    return server_change_baud(wanted) ? STATUS_OK : STATUS_BAUD_IMPOSSIBLE;
}

static uint8_t reset(message_reader *arguments)
{
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    server_reset_later();
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
    message_put_u32(reply, server_bad_frames());
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
        return describe(model, operation, arguments, reply);
    case OPERATION_RESET:
        return reset(arguments);
    default:
        break;
    }
    if (server_epoch() == 0u) {
        return STATUS_NOT_SYNCED; /* what the host believes of this board's state was true before a reset */
    }
    switch (operation) {
    case OPERATION_MODEL:
        return describe(model, operation, arguments, reply);
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
