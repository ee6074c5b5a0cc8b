/* BRR of an STM32 USART with 16 samples a bit: clock / baud. RM0385 31.5.4, RM0090 30.3.4. */
#include "drivers.h"
#include "uart_stm32.h"

enum { SMALLEST = 16, LARGEST = 0xFFFF };

uint32_t uart_divider(uint32_t clock_hz, uint32_t baud)
{
    if (baud == 0) {
        return 0;
    }
    const uint32_t divider = (clock_hz + baud / 2) / baud;
    const bool fits = divider >= SMALLEST && divider <= LARGEST;
    return fits && baud_is_near(clock_hz / divider, baud) ? divider : 0;
}
