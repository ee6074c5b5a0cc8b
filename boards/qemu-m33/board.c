/* An emulated board starts with its clock running and its pins wired. */
#include "drivers.h"

void board_init(void)
{
    counter_init();
    board_note(uart_init(BOARD_UART_HZ, BOARD_BAUD));
}
