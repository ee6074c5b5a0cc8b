/* Little-endian numbers at any address. */
#ifndef LINK_BYTES_H
#define LINK_BYTES_H

#include <stdint.h>

static inline uint32_t bytes_u16(const uint8_t *at)
{
    return (uint32_t)at[0] | ((uint32_t)at[1] << 8);
}

static inline uint32_t bytes_u32(const uint8_t *at)
{
    return bytes_u16(at) | (bytes_u16(at + 2) << 16);
}

static inline void bytes_put_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void bytes_put_u32(uint8_t *at, uint32_t value)
{
    bytes_put_u16(at, value);
    bytes_put_u16(at + 2, value >> 16);
}

#endif
