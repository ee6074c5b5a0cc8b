/* Payloads: see message.h. */
#include "message.h"

#include <string.h>

const uint8_t *message_take(message_reader *reader, uint32_t bytes)
{
    static const uint8_t nothing[4] = {0u, 0u, 0u, 0u};
    if (reader->missing || reader->bytes < bytes) {
        reader->missing = true;
        return nothing;
    }
    const uint8_t *const field = reader->data;
    reader->data += bytes;
    reader->bytes -= bytes;
    return field;
}

void message_put(message_writer *writer, const void *data, uint32_t bytes)
{
    if (bytes > writer->capacity - writer->bytes) {
        writer->full = true;
    } else if (bytes > 0u) {
        memcpy(writer->data + writer->bytes, data, bytes);
        writer->bytes += bytes;
    }
}
