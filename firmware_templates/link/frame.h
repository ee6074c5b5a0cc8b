/* Frames of the link: 00 | COBS(header | payload | crc32) | 00. Bytes in, bytes out; no input or output. */
#ifndef LINK_FRAME_H
#define LINK_FRAME_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FRAME_VERSION = 1,
    FRAME_REQUEST = 1,
    FRAME_REPLY = 2,
    FRAME_EVENT = 3,
    FRAME_HEADER_BYTES = 6,
    FRAME_CRC_BYTES = 4,
    FRAME_BLOCK_BYTES = 254, /* most data bytes behind one COBS code */
};

/* Most bytes of header, payload and CRC that never take more than `stuffed` bytes once stuffed: COBS adds one
   byte for every 254 begun. */
#define FRAME_PLAIN_BYTES(stuffed) ((stuffed) - ((stuffed) + FRAME_BLOCK_BYTES) / (FRAME_BLOCK_BYTES + 1))

typedef struct {
    uint8_t version;
    uint8_t type; /* FRAME_REQUEST, FRAME_REPLY or FRAME_EVENT */
    uint8_t sequence;
    uint8_t operation;
    uint8_t status; /* of a reply; in a request the high byte of its sequence */
    uint32_t payload_bytes;
    const uint8_t *payload;
    uint32_t crc; /* as received; it names the request */
} frame;

typedef void (*frame_sink)(const uint8_t *data, uint32_t bytes);

/* zlib's crc32(data, crc): start with 0, pass the last result to continue. */
uint32_t frame_crc(uint32_t crc, const uint8_t *data, uint32_t bytes);

/* Undoes COBS in place and gives the number of plain bytes; 0 where the bytes are no COBS. */
uint32_t frame_unstuff(uint8_t *data, uint32_t bytes);

/* Reads a plain message with its CRC into `read`; false where its length or its CRC is wrong. */
bool frame_read(const uint8_t *plain, uint32_t bytes, frame *read);

/* Writes the header of a message of this version. */
void frame_write_header(uint8_t *plain, uint8_t type, uint8_t sequence, uint8_t operation, uint8_t status,
                        uint32_t payload_bytes);

/* Hands a plain message (header and payload, `bytes` in all) to the sink as a whole frame with its
   delimiters. Four bytes behind the message are overwritten by its CRC. */
void frame_send(uint8_t *plain, uint32_t bytes, frame_sink sink);

#endif
