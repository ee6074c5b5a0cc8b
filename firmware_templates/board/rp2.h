/* Where RP2040 and RP2350 keep the same blocks. RP2040 datasheet 2.2, 2.14; RP2350 datasheet 2.2, 7.5. */
#ifndef BOARD_RP2_H
#define BOARD_RP2_H

#include "drivers.h"

#if BOARD_CLOCK_RP2350
#define RP2_CLOCKS 0x40010000u
#define RP2_RESETS 0x40020000u
#define RP2_RESETS_PADS_BANK0 BIT(9)
#define RP2_RESETS_PLL_SYS BIT(14)
#define RP2_PADS_BANK0 0x40038000u
#define RP2_XOSC 0x40048000u
#define RP2_PLL_SYS 0x40050000u
#else
#define RP2_CLOCKS 0x40008000u
#define RP2_RESETS 0x4000C000u
#define RP2_RESETS_PADS_BANK0 BIT(8)
#define RP2_RESETS_PLL_SYS BIT(12)
#define RP2_PADS_BANK0 0x4001C000u
#define RP2_XOSC 0x40024000u
#define RP2_PLL_SYS 0x40028000u
#endif

/* Lets blocks out of reset. False if they do not come out. */
static inline bool rp2_unreset(uint32_t blocks)
{
    REGISTER(RP2_RESETS) &= ~blocks;
    return wait_for(RP2_RESETS + 8u, blocks, blocks);
}

#endif
