/* QEMU has no RCC here: the clock is there from reset. */
#include "drivers.h"

void board_init(void)
{
    counter_init();
    board_note(pins_init());
    board_note(uart_init(BOARD_UART_HZ, BOARD_BAUD));
}
