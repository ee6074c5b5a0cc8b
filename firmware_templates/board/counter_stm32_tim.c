/* A 32-bit STM32 timer, TIM2 or TIM5, upwards. RM0090 chapter 18. */
#include "drivers.h"

#define CR1 (BOARD_COUNTER_BASE + 0x00u)
#define CR1_CEN BIT(0)
#define EGR (BOARD_COUNTER_BASE + 0x14u)
#define EGR_UG BIT(0)
#define CNT (BOARD_COUNTER_BASE + 0x24u)
#define PSC (BOARD_COUNTER_BASE + 0x28u)
#define ARR (BOARD_COUNTER_BASE + 0x2Cu)

void counter_init(void)
{
    REGISTER(BOARD_COUNTER_ENABLE_REGISTER) |= BIT(BOARD_COUNTER_ENABLE_BIT);
    (void)REGISTER(BOARD_COUNTER_ENABLE_REGISTER);
    REGISTER(PSC) = BOARD_COUNTER_DIVIDER - 1u;
    REGISTER(ARR) = 0xFFFFFFFFu;
    REGISTER(EGR) = EGR_UG; /* takes the prescaler */
    REGISTER(CR1) = CR1_CEN;
}

uint32_t board_cycles(void)
{
    return REGISTER(CNT);
}
