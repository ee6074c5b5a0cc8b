/* Replies and events: see answer.h. */
#include "answer.h"

#include <string.h>

#include "../board/board.h"
#include "bytes.h"
#include "protocol.h"

enum {
    PROGRESS_MS = 1000,
    PROGRESS_BYTES = 3, /* kind and layer */
};

uint8_t answer_plain[ANSWER_PLAIN_BYTES];

static struct {
    uint32_t name;
    uint32_t reported_ms;
    uint8_t sequence;
    uint8_t operation;
} answer;

void answer_begin(const frame *request)
{
    answer.name = request->crc;
    answer.sequence = request->sequence;
    answer.operation = request->operation;
    answer.reported_ms = board_milliseconds();
}

void answer_send(uint8_t type, uint8_t status, uint32_t bytes)
{
    const uint32_t payload_bytes = ANSWER_NAME_BYTES + bytes;
    frame_write_header(answer_plain, type, answer.sequence, answer.operation, status, payload_bytes);
    bytes_put_u32(answer_plain + FRAME_HEADER_BYTES, answer.name);
    frame_send(answer_plain, FRAME_HEADER_BYTES + payload_bytes, board_write);
}

void answer_accepted(void)
{
    answer.reported_ms = board_milliseconds();
    *answer_body() = EVENT_ACCEPTED;
    answer_send(FRAME_EVENT, STATUS_OK, 1u);
}

void answer_progress(uint32_t layer)
{
    const uint32_t now = board_milliseconds();
    if (now - answer.reported_ms >= PROGRESS_MS) {
        uint8_t *const body = answer_body();
        uint8_t written[PROGRESS_BYTES + FRAME_CRC_BYTES]; /* of the reply, maybe */
        answer.reported_ms = now;
        memcpy(written, body, sizeof written);
        body[0] = EVENT_PROGRESS;
        bytes_put_u16(body + 1, layer);
        answer_send(FRAME_EVENT, STATUS_OK, PROGRESS_BYTES);
        memcpy(body, written, sizeof written);
    }
}

void answer_data(uint32_t offset, const uint8_t *data, uint32_t bytes)
{
    uint8_t *const body = answer_body();
    body[0] = EVENT_DATA;
    bytes_put_u32(body + 1, offset);
    memcpy(body + 1 + ANSWER_OFFSET_BYTES, data, bytes);
    answer_send(FRAME_EVENT, STATUS_OK, 1u + ANSWER_OFFSET_BYTES + bytes);
}
