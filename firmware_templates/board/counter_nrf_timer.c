/* TIMER0 of nRF51 and nRF52: 32 bits at 16 MHz. nRF51 RM, chapter 18. */
#include "drivers.h"

#define TASKS_START (BOARD_COUNTER_BASE + 0x000u)
#define TASKS_CAPTURE (BOARD_COUNTER_BASE + 0x040u)
#define MODE (BOARD_COUNTER_BASE + 0x504u)
#define BITMODE (BOARD_COUNTER_BASE + 0x508u)
#define BITMODE_32 3u
#define PRESCALER (BOARD_COUNTER_BASE + 0x510u)
#define CC (BOARD_COUNTER_BASE + 0x540u)

void counter_init(void)
{
    REGISTER(MODE) = 0; /* counts the clock */
    REGISTER(BITMODE) = BITMODE_32;
    REGISTER(PRESCALER) = 0;
    REGISTER(TASKS_START) = 1;
}

uint32_t board_cycles(void)
{
    REGISTER(TASKS_CAPTURE) = 1;
    return REGISTER(CC);
}
