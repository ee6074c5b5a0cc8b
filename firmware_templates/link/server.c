/* The board's end of the link: see server.h and docs/link.md. */
#include "server.h"

#include <string.h>

#include "../board/board.h"
#include "answer.h"
#include "frame.h"
#include "link_config.h"
#include "message.h"
#include "operations.h"
#include "protocol.h"
#include "session.h"
#include "stopwatch.h"
#include "text.h"

enum {
    SILENCE_MS = 50, /* drops a half frame */
    KEPT_ANSWER_BYTES = 16, /* longer answers are those of requests that may be executed again */
};

static struct {
    const tinymbn_model *model;

    uint8_t received[LINK_RX_MAX]; /* of a frame, stuffed; or of a text command */
    uint32_t received_bytes;
    uint32_t received_ms;
    bool in_frame;
    bool too_long;

    frame request;

    bool kept; /* the answer to the last request, should it be repeated */
    uint32_t kept_crc;
    uint8_t kept_sequence;
    uint8_t kept_status;
    uint8_t kept_bytes;
    uint8_t kept_answer[KEPT_ANSWER_BYTES];
} server;

/* Tells the host at once, where it need not wait for its time-out, that a request of it came damaged. */
static void refuse_damaged(void)
{
    server.request.sequence = 0u;
    server.request.operation = OPERATION_NONE;
    server.request.crc = 0u;
    answer_begin(&server.request);
    answer_send(FRAME_EVENT, STATUS_BAD_FRAME, 0u);
}

static void execute(void)
{
    answer_begin(&server.request);
    uint8_t status = STATUS_OK;
    uint32_t bytes = 0;
    if (server.request.version != FRAME_VERSION) {
        status = STATUS_VERSION;
    } else if (server.kept && server.kept_crc == server.request.crc &&
               server.kept_sequence == server.request.sequence) {
        status = server.kept_status; /* nothing runs twice */
        bytes = server.kept_bytes;
        memcpy(answer_body(), server.kept_answer, bytes);
    } else {
        message_reader arguments = {server.request.payload, server.request.payload_bytes, false};
        message_writer reply = {answer_body(), ANSWER_BODY_BYTES, 0u, false};
        status = operations_execute(server.model, server.request.operation, &arguments, &reply);
        bytes = status == STATUS_OK ? reply.bytes : 0u;
        server.kept = bytes <= KEPT_ANSWER_BYTES;
        if (server.kept) {
            server.kept_crc = server.request.crc;
            server.kept_sequence = server.request.sequence;
            server.kept_status = status;
            server.kept_bytes = (uint8_t)bytes;
            memcpy(server.kept_answer, answer_body(), bytes);
        }
    }
    answer_send(FRAME_REPLY, status, bytes);
    session_after_reply();
}

/* A delimiter came: executes what lies between it and the last one. False where that is no request. */
static bool close_frame(void)
{
    /* Our own requests are told from noise by their first header byte, which COBS never moves. */
    const bool ours = server.received_bytes > FRAME_HEADER_BYTES &&
                      server.received[1] == (uint8_t)((FRAME_VERSION << 4) | FRAME_REQUEST);
    const uint32_t plain = server.too_long ? 0u : frame_unstuff(server.received, server.received_bytes);
    if (!frame_read(server.received, plain, &server.request)) {
        session.bad_frames++;
        if (ours && session.epoch != 0u) {
            refuse_damaged();
        }
        return false;
    }
    if (server.request.type != FRAME_REQUEST) {
        return false; /* an echo of our own words */
    }
    session.last_baud = 0u; /* the host hears and speaks at this baud rate */
    execute();
    return true;
}

static void receive_in_frame(uint8_t byte)
{
    if (byte != 0u) {
        if (server.received_bytes < LINK_RX_MAX) {
            server.received[server.received_bytes++] = byte;
        } else {
            server.too_long = true;
        }
        return;
    }
    if (server.received_bytes > 0u) {
        /* Behind a bad frame this delimiter may as well open the next: stay until silence or a good one. */
        server.in_frame = !close_frame();
    }
    server.received_bytes = 0u;
    server.too_long = false;
}

static void receive_text(uint8_t byte)
{
    if (byte == TEXT_END) {
        text_execute(server.model, server.received, server.received_bytes, server.too_long);
    } else if (byte == '\r' || byte == '\n') {
        /* Commands have no lines; a line is another program's, such as a modem manager's "AT". */
    } else {
        if (byte >= ' ' && byte <= '~') {
            if (server.received_bytes < TEXT_COMMAND_BYTES) {
                server.received[server.received_bytes++] = byte;
            } else {
                server.too_long = true;
            }
        }
        return;
    }
    server.received_bytes = 0u;
    server.too_long = false;
}

void server_start(const tinymbn_model *model)
{
    memset(&server, 0, sizeof server);
    server.model = model;
    session = (session_state){.baud = BOARD_BAUD};
    text_start();
}

void server_receive(uint8_t byte)
{
    const uint32_t now = board_milliseconds();
    if (server.in_frame && now - server.received_ms > SILENCE_MS) {
        server.in_frame = false;
        server.received_bytes = 0u;
        server.too_long = false;
    }
    if (server.in_frame) {
        receive_in_frame(byte);
    } else if (byte == 0u) {
        server.in_frame = true;
        server.received_bytes = 0u;
        server.too_long = false;
    } else {
        receive_text(byte);
    }
    server.received_ms = board_milliseconds(); /* executing took time that was no silence */
}

void server_poll(void)
{
    stopwatch_poll();
    session_poll();
}
