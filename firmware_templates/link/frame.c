/* Frames of the link: see frame.h. The Python twin is tinymbn/link/frame.py. */
#include "frame.h"

#include "bytes.h"

uint32_t frame_crc(uint32_t crc, const uint8_t *data, uint32_t bytes)
{
    /* Reflected polynomial 0xEDB88320, four bits a step: 64 bytes of table instead of 1,024. */
    static const uint32_t step[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc = ~crc;
    for (uint32_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ step[crc & 15u];
        crc = (crc >> 4) ^ step[crc & 15u];
    }
    return ~crc;
}

uint32_t frame_unstuff(uint8_t *data, uint32_t bytes)
{
    uint32_t in = 0;
    uint32_t out = 0;
    while (in < bytes) {
        const uint32_t code = data[in++];
        if (code == 0u || code - 1u > bytes - in) {
            return 0u;
        }
        for (uint32_t i = 1; i < code; i++) {
            data[out++] = data[in++]; /* out stays behind in: each block drops its code */
        }
        if (code <= FRAME_BLOCK_BYTES && in < bytes) {
            data[out++] = 0u;
        }
    }
    return out;
}

bool frame_read(const uint8_t *plain, uint32_t bytes, frame *read)
{
    if (bytes < FRAME_HEADER_BYTES + FRAME_CRC_BYTES) {
        return false;
    }
    const uint32_t covered = bytes - FRAME_CRC_BYTES;
    read->version = (uint8_t)(plain[0] >> 4);
    read->type = plain[0] & 15u;
    read->sequence = plain[1];
    read->operation = plain[2];
    read->status = plain[3];
    read->payload_bytes = bytes_u16(plain + 4);
    read->payload = plain + FRAME_HEADER_BYTES;
    read->crc = bytes_u32(plain + covered);
    return read->payload_bytes == covered - FRAME_HEADER_BYTES && read->crc == frame_crc(0u, plain, covered);
}

void frame_write_header(uint8_t *plain, uint8_t type, uint8_t sequence, uint8_t operation, uint8_t status,
                        uint32_t payload_bytes)
{
    plain[0] = (uint8_t)((FRAME_VERSION << 4) | type);
    plain[1] = sequence;
    plain[2] = operation;
    plain[3] = status;
    bytes_put_u16(plain + 4, payload_bytes);
}

void frame_send(uint8_t *plain, uint32_t bytes, frame_sink sink)
{
    static const uint8_t delimiter = 0u;
    bytes_put_u32(plain + bytes, frame_crc(0u, plain, bytes));
    const uint32_t end = bytes + FRAME_CRC_BYTES;
    uint32_t at = 0;
    bool open = true; /* another block follows, be it an empty one */
    sink(&delimiter, 1u);
    while (open) {
        uint32_t run = 0;
        while (run < FRAME_BLOCK_BYTES && at + run < end && plain[at + run] != 0u) {
            run++;
        }
        const uint8_t code = (uint8_t)(run + 1u);
        sink(&code, 1u);
        sink(plain + at, run);
        at += run;
        open = at < end;
        if (open && run < FRAME_BLOCK_BYTES) {
            at++; /* the zero that the code stands for; one at the very end leaves an empty block to send */
        }
    }
    sink(&delimiter, 1u);
}
