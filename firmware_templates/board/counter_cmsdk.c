/* The APB timer of Arm's Cortex-M System Design Kit: 32 bits, downwards. DDI 0479, section 4.5. */
#include "drivers.h"

#define CTRL (BOARD_COUNTER_BASE + 0x0u)
#define CTRL_ENABLE BIT(0)
#define VALUE (BOARD_COUNTER_BASE + 0x4u)
#define RELOAD (BOARD_COUNTER_BASE + 0x8u)

void counter_init(void)
{
    REGISTER(CTRL) = 0;
    REGISTER(RELOAD) = 0xFFFFFFFFu;
    REGISTER(VALUE) = 0xFFFFFFFFu;
    REGISTER(CTRL) = CTRL_ENABLE;
}

uint32_t board_cycles(void)
{
    return ~REGISTER(VALUE);
}
