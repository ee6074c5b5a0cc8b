/* The system counter of Arm's SSE-300, read through its first timer. 101773, sections 4.6 and 5.4. */
#include "drivers.h"

#define CNTCR BOARD_COUNTER_CONTROL /* of the counter all timers share */
#define CNTCR_ENABLE BIT(0)
#define CNTPCT_LOW (BOARD_COUNTER_BASE + 0x0u)

void counter_init(void)
{
    REGISTER(CNTCR) |= CNTCR_ENABLE;
}

uint32_t board_cycles(void)
{
    return REGISTER(CNTPCT_LOW);
}
