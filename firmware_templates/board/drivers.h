/* Between board.c and the drivers it is composed of; firmware uses board.h. */
#ifndef BOARD_DRIVERS_H
#define BOARD_DRIVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BIT(n) (UINT32_C(1) << (n))

/* At 16 MHz and some ten cycles a turn this is 0.1 s; oscillators and PLLs need at most a few ms. */
enum { WAIT_TURNS = 200000 };

/* Waits until the masked bits have a value. False if they do not get it in time. */
static inline bool wait_for(uint32_t address, uint32_t mask, uint32_t value)
{
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        if ((REGISTER(address) & mask) == value) {
            return true;
        }
    }
    return false;
}

static inline void change(uint32_t address, uint32_t mask, uint32_t value)
{
    REGISTER(address) = (REGISTER(address) & ~mask) | value;
}

/* True where a baud rate is less than 1 % off the one wanted; 2 % together is what a line forgives. */
static inline bool baud_is_near(uint32_t actual, uint32_t wanted)
{
    const uint32_t off = actual > wanted ? actual - wanted : wanted - actual;
    return off < wanted / 100;
}

/* Brings the clock to BOARD_CLOCK_HZ: BOARD_OK, or the step that failed and the clock as after reset. */
uint32_t clock_init(void);

/* Clocks and routes the two pins of the UART. BOARD_OK or BOARD_FAILED_PERIPHERAL. */
uint32_t pins_init(void);

/* Starts the UART, which is clocked with clock_hz. BOARD_OK, BOARD_FAILED_PERIPHERAL or BOARD_FAILED_BAUD. */
uint32_t uart_init(uint32_t clock_hz, uint32_t baud);

/* True when board_read() would have a byte or an overrun to clear. */
bool uart_is_waiting(void);

/* Forgets an interrupt request that the UART itself has latched; that of a byte that waits may stay. */
void uart_clear_interrupt(void);

/* Starts the counter behind board_cycles(). */
void counter_init(void);

/* Keeps the first failure for board_status(). */
void board_note(uint32_t status);

#endif
