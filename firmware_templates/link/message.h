/* Payloads: read field by field, written field by field, never beyond their end. */
#ifndef LINK_MESSAGE_H
#define LINK_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"

/* What is left to read; a field that is not there reads as zero and sets `missing`. */
typedef struct {
    const uint8_t *data;
    uint32_t bytes;
    bool missing;
} message_reader;

/* What is written; a field that does not fit is left out and sets `full`. */
typedef struct {
    uint8_t *data;
    uint32_t capacity;
    uint32_t bytes;
    bool full;
} message_writer;

/* The next field. */
const uint8_t *message_take(message_reader *reader, uint32_t bytes);

static inline uint8_t message_take_u8(message_reader *reader)
{
    return *message_take(reader, 1u);
}

static inline uint32_t message_take_u16(message_reader *reader)
{
    return bytes_u16(message_take(reader, 2u));
}

static inline uint32_t message_take_u32(message_reader *reader)
{
    return bytes_u32(message_take(reader, 4u));
}

/* Every field was there and nothing is left over. */
static inline bool message_complete(const message_reader *reader)
{
    return !reader->missing && reader->bytes == 0u;
}

/* Behind what is written already. */
void message_put(message_writer *writer, const void *data, uint32_t bytes);

static inline void message_put_u16(message_writer *writer, uint32_t value)
{
    uint8_t field[2];
    bytes_put_u16(field, value);
    message_put(writer, field, sizeof field);
}

static inline void message_put_u32(message_writer *writer, uint32_t value)
{
    uint8_t field[4];
    bytes_put_u32(field, value);
    message_put(writer, field, sizeof field);
}

#endif
