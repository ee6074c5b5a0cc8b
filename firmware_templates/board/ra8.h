/* Registers of Renesas RA8D1 that have 8 or 16 bits; wider accesses are not made. User's Manual: Hardware, CGC. */
#ifndef BOARD_RA8_H
#define BOARD_RA8_H

#include "drivers.h"

#define SYSTEM_OSCSF 0x4001E03Cu

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

/* The regulator is given 150 us after a large step of the load: of the clock, or a module's start. One cycle a turn
 * at the very least. */
static inline void ra8_settle(void)
{
    for (uint32_t turn = 0; turn < 150u * (BOARD_CLOCK_HZ / 1000000u); turn++) {
        (void)REGISTER8(SYSTEM_OSCSF);
    }
}

#endif
