/* Runs of the network: see run.h. */
#include "run.h"

#include <stddef.h>
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

static layer_record records[LINK_LAYERS];

/* What RUN and DUMP have in common. */
typedef struct {
    uint32_t layer; /* to run alone, or to dump */
    uint32_t first; /* row to run alone */
    uint32_t rows;
    uint8_t flags;
    uint32_t input_crc;
} run_request;

static struct {
    uint32_t computing_since; /* ticks */
    bool dumps;
    uint32_t layer; /* the rest: what DUMP asked for */
    uint32_t from;
    uint32_t to;
    uint32_t piece;
    uint32_t passed; /* bytes of it reported so far */
} trace;

uint8_t *run_records(void)
{
    return (uint8_t *)records;
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

static void on_rows(int32_t layer, int32_t row, const int8_t *data, int32_t bytes)
{
    (void)row; /* rows come in order */
    const uint32_t ticks = (board_cycles() - trace.computing_since) & counter_mask;
    if (layer < 0 || layer >= LINK_LAYERS) {
        return;
    }
    if (bytes == 0) {
        /* Between here and the row's last piece its layout is undone: no part of the layer's time. */
        records[layer].ticks += trace.dumps ? 0u : ticks;
        answer_progress((uint32_t)layer);
    } else if (!trace.dumps) {
        layer_record *const record = &records[layer];
        record->bytes += (uint32_t)bytes;
        record->crc = frame_crc(record->crc, (const uint8_t *)data, (uint32_t)bytes);
    } else if ((uint32_t)layer == trace.layer) {
        send_rows((const uint8_t *)data, (uint32_t)bytes);
    }
    trace.computing_since = board_cycles(); /* what this function did is no part of the next row's time */
}

/* The frame where a run wants it, so that copying it there is no part of the time that a run takes. */
static const int8_t *frame_in_place(const tinymbn_model *model)
{
    if (!model->input_stays || model->place == NULL) {
        return model->input();
    }
    return memcpy(model->place(), model->input(), model->input_bytes);
}

void run_once(const tinymbn_model *model)
{
    model->run(model->input(), run_output);
}

static void run_plain(const tinymbn_model *model)
{
    const int8_t *const from = frame_in_place(model);
    const uint32_t begin = board_cycles();
    model->run(from, run_output);
    trace.computing_since = (board_cycles() - begin) & counter_mask;
}

static void run_traced(const tinymbn_model *model, const run_request *request)
{
    const bool alone = (request->flags & RUN_ALONE) != 0u;
    const int8_t *const from = alone ? NULL : frame_in_place(model);
    trace.computing_since = board_cycles();
    if (!alone) {
        model->run_traced(from, run_output, on_rows);
    } else {
        model->run_rows((int32_t)request->layer, (int32_t)request->first, (int32_t)request->rows, on_rows);
    }
}

static uint32_t ticks_of_records(const tinymbn_model *model)
{
    uint32_t sum = 0;
    for (int32_t layer = 0; layer < model->layers; layer++) {
        sum += records[layer].ticks;
    }
    return sum;
}

static run_request take_request(message_reader *arguments)
{
    run_request request;
    request.layer = message_take_u16(arguments);
    request.first = message_take_u16(arguments);
    request.rows = message_take_u16(arguments);
    request.flags = message_take_u8(arguments);
    request.input_crc = message_take_u32(arguments);
    return request;
}

/* Rows that the layer has, where it runs alone; else none. */
static bool has_rows(const tinymbn_model *model, const run_request *request)
{
    if ((request->flags & RUN_ALONE) == 0u) {
        return request->first == 0u && request->rows == 0u;
    }
    const uint32_t rows = model->rows[request->layer];
    return request->rows > 0u && request->first < rows && request->rows <= rows - request->first;
}

/* What forbids a run, if anything. */
static uint8_t permission(const tinymbn_model *model, const run_request *request)
{
    const uint8_t flags = request->flags;
    if (!run_fits(model)) {
        return STATUS_INCONSISTENT;
    }
    if ((flags & ~(RUN_TRACED | RUN_GUARDED | RUN_ALONE)) != 0 || request->layer >= (uint32_t)model->layers ||
        ((flags & RUN_ALONE) != 0u && (flags & RUN_TRACED) == 0u) || !has_rows(model, request)) {
        return STATUS_BAD_ARGUMENT;
    }
    /* A byte lost on the way or a frame already run must never become a verdict. */
    if ((flags & RUN_GUARDED) != 0u &&
        frame_crc(0u, (const uint8_t *)model->input(), model->input_bytes) != request->input_crc) {
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
    const run_request request = take_request(arguments);
    if (!message_complete(arguments) || ((request.flags & RUN_ALONE) == 0u && request.layer != 0u)) {
        return STATUS_BAD_ARGUMENT;
    }
    const uint8_t status = permission(model, &request);
    if (status != STATUS_OK) {
        return status;
    }
    trace.dumps = false;
    memset(records, 0, sizeof records);
    memset(run_output, 0, sizeof run_output); /* yesterday's output is never today's */
    begin();
    uint32_t ticks;
    if ((request.flags & RUN_TRACED) != 0u) {
        run_traced(model, &request);
        ticks = ticks_of_records(model);
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
    const run_request request = take_request(arguments);
    const uint32_t offset = message_take_u32(arguments);
    const uint32_t length = message_take_u32(arguments);
    const uint32_t piece = message_take_u16(arguments);
    if (!message_complete(arguments) || (request.flags & RUN_TRACED) == 0u || piece == 0u ||
        length > UINT32_MAX - offset) {
        return STATUS_BAD_ARGUMENT;
    }
    const uint8_t status = permission(model, &request);
    if (status != STATUS_OK) {
        return status;
    }
    trace.dumps = true;
    trace.layer = request.layer;
    trace.from = offset;
    trace.to = offset + length;
    trace.piece = piece < ANSWER_DATA_BYTES ? piece : (uint32_t)ANSWER_DATA_BYTES;
    trace.passed = 0;
    begin();
    run_traced(model, &request);
    message_put_u32(reply, trace.passed);
    return STATUS_OK;
}
