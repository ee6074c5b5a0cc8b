/* BRR of an STM32 LPUART: 256 * clock / baud. RM0432 51.4.7. */
#include "drivers.h"
#include "uart_stm32.h"

enum { SMALLEST = 0x300, LARGEST = 0xFFFFF };

uint32_t uart_divider(uint32_t clock_hz, uint32_t baud)
{
    if (baud == 0 || clock_hz / 3 < baud || clock_hz / 4096 > baud) {
        return 0;
    }
    const uint64_t numerator = (uint64_t)clock_hz * 256u;
    const uint64_t divider = (numerator + baud / 2) / baud;
    const bool fits = divider >= SMALLEST && divider <= LARGEST;
    return fits && baud_is_near((uint32_t)(numerator / divider), baud) ? (uint32_t)divider : 0;
}
