/* The board's end of the link: see server.h and docs/link.md. */
#include "server.h"

#include <stddef.h>

#include "../board/board.h"
#include "message.h"
#include "operations.h"
#include "protocol.h"
#include "text.h"

enum {
    SILENCE_MS = 50, /* drops a half frame */
    BAUD_TRIAL_MS = 2000, /* a new baud rate is kept if a good frame comes within */
    KEPT_ANSWER_BYTES = 16, /* longer answers are those of requests that may be executed again */
};

static struct {
    const tinymbn_model *model;
    uint32_t epoch;
    uint32_t bad_frames;

    uint8_t received[LINK_RX_MAX]; /* of a frame, stuffed; or of a text command */
    uint32_t received_bytes;
    uint32_t received_ms;
    bool in_frame;
    bool too_long;

    uint8_t sent[SERVER_PLAIN_BYTES]; /* header | name of the request | answer | CRC */
    frame request;

    bool kept; /* the answer to the last request, should it be repeated */
    uint32_t kept_crc;
    uint8_t kept_sequence;
    uint8_t kept_status;
    uint8_t kept_bytes;
    uint8_t kept_answer[KEPT_ANSWER_BYTES];

    uint32_t baud;
    uint32_t next_baud; /* 0: no change is asked for */
    uint32_t last_baud; /* 0: the present one is not on trial */
    uint32_t trial_ms;
    bool reset;
} server;

static uint8_t *answer(void)
{
    return server.sent + FRAME_HEADER_BYTES + SERVER_NAME_BYTES;
}

/* Sends what lies in answer(), `bytes` long. */
static void send(uint8_t type, uint8_t status, uint32_t bytes)
{
    const uint32_t payload_bytes = SERVER_NAME_BYTES + bytes;
    frame_write_header(server.sent, type, server.request.sequence, server.request.operation, status,
                       payload_bytes);
    bytes_put_u32(server.sent + FRAME_HEADER_BYTES, server.request.crc);
    frame_send(server.sent, FRAME_HEADER_BYTES + payload_bytes, board_write);
}

void server_event(uint8_t kind, const uint8_t *head, uint32_t head_bytes, const uint8_t *data, uint32_t bytes)
{
    message_writer event = {answer(), SERVER_ANSWER_BYTES, 0u, false};
    message_put(&event, &kind, 1u);
    message_put(&event, head, head_bytes);
    message_put(&event, data, bytes);
    send(FRAME_EVENT, STATUS_OK, event.bytes);
}

/* Tells the host at once, where it need not wait for its time-out, that a request of it came damaged. */
static void refuse_damaged(void)
{
    server.request.sequence = 0u;
    server.request.operation = OPERATION_NONE;
    server.request.crc = 0u;
    send(FRAME_EVENT, STATUS_BAD_FRAME, 0u);
}

static void after_reply(void)
{
    if (server.reset) {
        board_flush();
        board_reset();
    }
    if (server.next_baud != 0u) {
        board_flush();
        if (board_set_baud(server.next_baud)) {
            server.last_baud = server.baud;
            server.baud = server.next_baud;
            server.trial_ms = board_milliseconds();
        }
        server.next_baud = 0u;
    }
}

static void execute(void)
{
    uint8_t status = STATUS_OK;
    uint32_t bytes = 0;
    if (server.request.version != FRAME_VERSION) {
        status = STATUS_VERSION;
    } else if (server.kept && server.kept_crc == server.request.crc &&
               server.kept_sequence == server.request.sequence) {
        status = server.kept_status; /* nothing runs twice */
        bytes = server.kept_bytes;
        memcpy(answer(), server.kept_answer, bytes);
    } else {
        message_reader arguments = {server.request.payload, server.request.payload_bytes, false};
        message_writer reply = {answer(), SERVER_ANSWER_BYTES, 0u, false};
        status = operations_execute(server.model, server.request.operation, &arguments, &reply);
        bytes = status == STATUS_OK ? reply.bytes : 0u;
        server.kept = bytes <= KEPT_ANSWER_BYTES;
        if (server.kept) {
            server.kept_crc = server.request.crc;
            server.kept_sequence = server.request.sequence;
            server.kept_status = status;
            server.kept_bytes = (uint8_t)bytes;
            memcpy(server.kept_answer, answer(), bytes);
        }
    }
    send(FRAME_REPLY, status, bytes);
    after_reply();
}

/* A delimiter came: executes what lies between it and the last one. False where that is no request. */
static bool close_frame(void)
{
    /* Our own requests are told from noise by their first header byte, which COBS never moves. */
    const bool ours = server.received_bytes > FRAME_HEADER_BYTES &&
                      server.received[1] == (uint8_t)((FRAME_VERSION << 4) | FRAME_REQUEST);
    const uint32_t plain = server.too_long ? 0u : frame_unstuff(server.received, server.received_bytes);
    if (!frame_read(server.received, plain, &server.request)) {
        server.bad_frames++;
        if (ours && server.epoch != 0u) {
            refuse_damaged();
        }
        return false;
    }
    if (server.request.type != FRAME_REQUEST) {
        return false; /* an echo of our own words */
    }
    server.last_baud = 0u; /* the host hears and speaks at this baud rate */
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
    server.baud = BOARD_BAUD;
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
    text_poll();
    if (server.last_baud != 0u && board_milliseconds() - server.trial_ms > BAUD_TRIAL_MS) {
        if (board_set_baud(server.last_baud)) {
            server.baud = server.last_baud;
        }
        server.last_baud = 0u;
    }
}

uint32_t server_epoch(void)
{
    return server.epoch;
}

void server_set_epoch(uint32_t nonce)
{
    server.epoch = nonce;
    server.kept = false;
}

uint32_t server_bad_frames(void)
{
    return server.bad_frames;
}

bool server_change_baud(uint32_t baud)
{
    /* Whether it can be made is known by making it; nothing moves on the line in between. */
    if (!board_set_baud(baud)) {
        return false;
    }
    if (!board_set_baud(server.baud)) {
        return false;
    }
    server.next_baud = baud;
    return true;
}

void server_reset_later(void)
{
    server.reset = true;
}
