/* Words of a text command, and the numbers they stand for. */
#ifndef LINK_WORD_H
#define LINK_WORD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at;
    uint32_t bytes;
} word;

/* Cuts the first word off what is left of a command; an empty one where none is left. */
static inline word word_next(word *rest)
{
    while (rest->bytes > 0u && *rest->at == ' ') {
        rest->at++;
        rest->bytes--;
    }
    word found = {rest->at, 0u};
    while (rest->bytes > 0u && *rest->at != ' ') {
        rest->at++;
        rest->bytes--;
        found.bytes++;
    }
    return found;
}

static inline bool word_is(word found, const char *string)
{
    for (uint32_t i = 0; i < found.bytes; i++) {
        if (string[i] == '\0' || (uint8_t)string[i] != found.at[i]) {
            return false;
        }
    }
    return string[found.bytes] == '\0';
}

/* A decimal number of at most nine digits; false for anything else. */
static inline bool word_number(word digits, uint32_t *number)
{
    *number = 0;
    if (digits.bytes == 0u || digits.bytes > 9u) {
        return false;
    }
    for (uint32_t i = 0; i < digits.bytes; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9') {
            return false;
        }
        *number = *number * 10u + (uint32_t)(digits.at[i] - '0');
    }
    return true;
}

/* 0..15, or 16 for what is no hexadecimal digit. */
static inline uint32_t word_hex_digit(uint8_t letter)
{
    if (letter >= '0' && letter <= '9') {
        return (uint32_t)(letter - '0');
    }
    const uint8_t lower = letter | 0x20u;
    return lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a') + 10u : 16u;
}

#endif
