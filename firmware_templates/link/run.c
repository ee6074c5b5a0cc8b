/* Runs of the network: see run.h. */
#include "run.h"

#include <string.h>

#include "../board/board.h"
#include "answer.h"
#include "frame.h"
#include "input.h"
#include "link_config.h"
#include "protocol.h"

/* The counter may have fewer than 32 bits; differences are right as long as it wraps once at most. */
static const uint32_t counter_mask = 0xFFFFFFFFu >> (32 - BOARD_COUNTER_BITS);

typedef struct {
    uint32_t bytes;
    uint32_t ticks;
    uint32_t crc;
} layer_record;

_Static_assert(sizeof(layer_record) == RUN_RECORD_BYTES, "records are sent as they lie in memory");

int8_t run_output[LINK_OUTPUT_BYTES];

/* Whoever traces does not measure by text commands in between. */
static union {
    layer_record of_layer[LINK_LAYERS];
    int8_t spare_output[LINK_OUTPUT_BYTES];
} records;

static struct {
    uint32_t computing_since; /* ticks */
    bool dumps;
    uint32_t layer; /* the rest: what DUMP asked for */
    uint32_t from;
    uint32_t to;
    uint32_t piece;
    uint32_t passed; /* bytes of that layer reported so far */
} trace;

uint8_t *run_records(void)
{
    return (uint8_t *)records.of_layer;
}

/* Sends what was asked for of `bytes` that follow those that have passed. */
static void send_rows(const uint8_t *data, uint32_t bytes)
{
    const uint32_t begin = trace.passed;
    const uint32_t end = begin + bytes;
    uint32_t at = begin < trace.from ? trace.from : begin;
    const uint32_t stop = end < trace.to ? end : trace.to;
    trace.passed = end;
    while (at < stop) {
        const uint32_t piece = stop - at < trace.piece ? stop - at : trace.piece;
        answer_data(at, data + (at - begin), piece);
        at += piece;
    }
}

static void on_rows(int32_t layer, int32_t row, int32_t rows, const int8_t *data, int32_t row_bytes)
{
    (void)row; /* rows come in order */
    const uint32_t ticks = (board_cycles() - trace.computing_since) & counter_mask;
    const uint32_t bytes = (uint32_t)rows * (uint32_t)row_bytes;
    if (layer < 0 || layer >= LINK_LAYERS) {
        return;
    }
    if (!trace.dumps) {
        layer_record *const record = &records.of_layer[layer];
        record->bytes += bytes;
        record->ticks += ticks;
        record->crc = frame_crc(record->crc, (const uint8_t *)data, bytes);
    } else if ((uint32_t)layer == trace.layer) {
        send_rows((const uint8_t *)data, bytes);
    }
    answer_progress((uint32_t)layer);
    trace.computing_since = board_cycles(); /* what this function did is no part of the next layer's time */
}

void run_once(const tinymbn_model *model)
{
    model->run(model->input(), input_use_up() ? run_output : records.spare_output);
}

static void run_plain(const tinymbn_model *model)
{
    const uint32_t begin = board_cycles();
    model->run(model->input(), run_output);
    trace.computing_since = (board_cycles() - begin) & counter_mask;
}

static void run_traced(const tinymbn_model *model, uint32_t first, uint32_t last, bool alone)
{
    trace.computing_since = board_cycles();
    if (!alone) {
        model->run_traced(model->input(), run_output, on_rows);
        return;
    }
    for (uint32_t layer = first; layer <= last; layer++) {
        model->run_layer((int32_t)layer, on_rows);
    }
}

static uint32_t ticks_of_records(uint32_t first, uint32_t last)
{
    uint32_t sum = 0;
    for (uint32_t layer = first; layer <= last; layer++) {
        sum += records.of_layer[layer].ticks;
    }
    return sum;
}

/* What forbids a run of layers first..last, if anything. */
static uint8_t permission(const tinymbn_model *model, uint32_t first, uint32_t last, uint8_t flags,
                          uint32_t input_crc)
{
    const uint32_t layers = (uint32_t)model->layers;
    const bool alone = (flags & RUN_ALONE) != 0u;
    if (!run_fits(model)) {
        return STATUS_INCONSISTENT;
    }
    if ((flags & ~(RUN_TRACED | RUN_GUARDED | RUN_ALONE)) != 0 || first > last || last >= layers ||
        (!alone && (first != 0u || last != layers - 1u)) || (alone && (flags & RUN_TRACED) == 0u)) {
        return STATUS_BAD_ARGUMENT;
    }
    /* A byte lost on the way or a frame already run must never become a verdict. */
    if ((flags & RUN_GUARDED) != 0u &&
        frame_crc(0u, (const uint8_t *)model->input(), model->input_bytes) != input_crc) {
        return STATUS_INPUT_DIFFERS;
    }
    return STATUS_OK;
}

static void begin(void)
{
    input_forget();
    answer_accepted();
}

uint8_t run_execute(const tinymbn_model *model, message_reader *arguments, message_writer *reply)
{
    const uint32_t first = message_take_u16(arguments);
    const uint32_t last = message_take_u16(arguments);
    const uint8_t flags = message_take_u8(arguments);
    const uint32_t input_crc = message_take_u32(arguments);
    if (!message_complete(arguments)) {
        return STATUS_BAD_ARGUMENT;
    }
    const uint8_t status = permission(model, first, last, flags, input_crc);
    if (status != STATUS_OK) {
        return status;
    }
    trace.dumps = false;
    memset(&records, 0, sizeof records);
    memset(run_output, 0, sizeof run_output); /* yesterday's output is never today's */
    begin();
    uint32_t ticks;
    if ((flags & RUN_TRACED) != 0u) {
        run_traced(model, first, last, (flags & RUN_ALONE) != 0u);
        ticks = ticks_of_records(first, last);
    } else {
        run_plain(model);
        ticks = trace.computing_since;
    }
    message_put_u32(reply, ticks);
    message_put_u32(reply, frame_crc(0u, (const uint8_t *)run_output, model->output_bytes));
    return STATUS_OK;
}

uint8_t run_dump(const tinymbn_model *model, message_reader *arguments, message_writer *reply)
{
    const uint32_t layer = message_take_u16(arguments);
    const uint8_t flags = message_take_u8(arguments);
    const uint32_t input_crc = message_take_u32(arguments);
    const uint32_t offset = message_take_u32(arguments);
    const uint32_t length = message_take_u32(arguments);
    const uint32_t piece = message_take_u16(arguments);
    const bool alone = (flags & RUN_ALONE) != 0u;
    if (!message_complete(arguments) || (flags & RUN_TRACED) == 0u || layer >= (uint32_t)model->layers ||
        piece == 0u || length > UINT32_MAX - offset) {
        return STATUS_BAD_ARGUMENT;
    }
    const uint32_t first = alone ? layer : 0u;
    const uint32_t last = alone ? layer : (uint32_t)model->layers - 1u;
    const uint8_t status = permission(model, first, last, flags, input_crc);
    if (status != STATUS_OK) {
        return status;
    }
    trace.dumps = true;
    trace.layer = layer;
    trace.from = offset;
    trace.to = offset + length;
    trace.piece = piece < ANSWER_DATA_BYTES ? piece : (uint32_t)ANSWER_DATA_BYTES;
    trace.passed = 0;
    begin();
    run_traced(model, first, last, alone);
    message_put_u32(reply, trace.passed);
    return STATUS_OK;
}
