/* NUCLEO-F746ZG and NUCLEO-F767ZI: HSI, so that no solder bridge matters; USART3 goes to the ST-LINK. */
#include "drivers.h"

void board_init(void)
{
    const uint32_t clock = clock_init();
    board_note(clock);
    counter_init();
    board_note(pins_init());
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
