/* EK-RA8D1: SCI9 goes to the J-Link on the board. */
#include "drivers.h"

void board_init(void)
{
    const uint32_t clock = clock_init();
    board_note(clock);
    counter_init();
    board_note(pins_init());
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
