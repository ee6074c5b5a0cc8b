/* NUCLEO-N657X0-Q: USART1 goes to the ST-LINK. The boot ROM has run before, and left things as it needed them. */
#include "drivers.h"

#define SAU_REGION_NUMBER 0xE000EDD8u
#define SAU_REGION_LIMIT 0xE000EDE0u
#define RCC_CCIPR13 0x56028174u
#define RCC_CCIPR13_USART1SEL UINT32_C(7)
#define RCC_CCIPR13_USART1SEL_HSI UINT32_C(6)
#define RCC_MEMENR 0x5602824Cu
#define RCC_MEMENR_AXISRAM1EN BIT(7)

enum { SAU_REGIONS = 8 };

/* Where a region of the attribution unit is on, its addresses are not secure; all here are the secure ones. */
static void everything_is_secure(void)
{
    for (uint32_t region = 0; region < SAU_REGIONS; region++) {
        REGISTER(SAU_REGION_NUMBER) = region;
        REGISTER(SAU_REGION_LIMIT) = 0;
    }
}

void board_init(void)
{
    everything_is_secure();
    REGISTER(RCC_MEMENR) |= RCC_MEMENR_AXISRAM1EN; /* where the arena lies */
    (void)REGISTER(RCC_MEMENR);
    const uint32_t clock = clock_init();
    board_note(clock);
    counter_init();
    board_note(pins_init());
    change(RCC_CCIPR13, RCC_CCIPR13_USART1SEL, RCC_CCIPR13_USART1SEL_HSI);
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
