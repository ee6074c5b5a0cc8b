/* What the STM32 UART drivers share: how a divider is found. */
#ifndef BOARD_UART_STM32_H
#define BOARD_UART_STM32_H

#include <stdint.h>

/* The BRR for a baud rate, or 0 where it would be off by 1 % or more. */
uint32_t uart_divider(uint32_t clock_hz, uint32_t baud);

#endif
