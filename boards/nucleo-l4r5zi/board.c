/* NUCLEO-L4R5ZI: LPUART1 on port G goes to the ST-LINK. */
#include "drivers.h"

#define PWR_CR2 0x40007004u
#define PWR_CR2_IOSV BIT(9)

void board_init(void)
{
    const uint32_t clock = clock_init(); /* which also clocks PWR */
    board_note(clock);
    counter_init();
    REGISTER(PWR_CR2) |= PWR_CR2_IOSV; /* VDDIO2 is there: PG2 to PG15 are dead without. RM0432 5.1.2 */
    board_note(pins_init());
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
