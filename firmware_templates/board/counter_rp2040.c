/* The microsecond timer of RP2040, which has no cycle counter: 1 MHz, 32 of its 64 bits.
 * Datasheet 4.6, 4.7.2. */
#include "drivers.h"

#define RESETS 0x4000C000u
#define RESETS_DONE (RESETS + 8u)
#define RESETS_TIMER BIT(21)
#define WATCHDOG_TICK 0x4005802Cu
#define WATCHDOG_TICK_ENABLE BIT(9)
#define TIMERAWL (BOARD_COUNTER_BASE + 0x28u)

void counter_init(void)
{
    REGISTER(WATCHDOG_TICK) = BOARD_SOURCE_HZ / 1000000u | WATCHDOG_TICK_ENABLE; /* clk_ref is the crystal */
    REGISTER(RESETS) &= ~RESETS_TIMER;
    if (!wait_for(RESETS_DONE, RESETS_TIMER, RESETS_TIMER)) {
        board_note(BOARD_FAILED_PERIPHERAL);
    }
}

uint32_t board_cycles(void)
{
    return REGISTER(TIMERAWL);
}
