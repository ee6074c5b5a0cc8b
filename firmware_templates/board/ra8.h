/* Registers of Renesas RA8D1 that have 8 or 16 bits; wider accesses are not made. User's Manual: Hardware, CGC. */
#ifndef BOARD_RA8_H
#define BOARD_RA8_H

#include "drivers.h"

#define REGISTER8(address) (*(volatile uint8_t *)(uintptr_t)(address))
#define REGISTER16(address) (*(volatile uint16_t *)(uintptr_t)(address))

/* As wait_for(), of 8 bits. */
static inline bool wait_for8(uint32_t address, uint8_t mask, uint8_t value)
{
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        if ((REGISTER8(address) & mask) == value) {
            return true;
        }
    }
    return false;
}

#endif
