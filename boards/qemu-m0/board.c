/* An emulated nRF51: its clock runs, its UART wants to know its pins. */
#include "drivers.h"

void board_init(void)
{
    counter_init();
    board_note(pins_init());
    board_note(uart_init(BOARD_UART_HZ, BOARD_BAUD));
}
