/* Raspberry Pi Pico 2: UART0 on GPIO0 and GPIO1, for a Debug Probe or a USB adapter. */
#include "drivers.h"

void board_init(void)
{
    const uint32_t clock = clock_init();
    board_note(clock);
    counter_init();
    board_note(pins_init());
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
