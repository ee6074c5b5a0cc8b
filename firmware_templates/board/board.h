/* What a firmware may ask of its board; board_config.h has the numbers of this one. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "board_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which step of the bring-up failed. Board and UART then run on the clock they had after reset. */
enum board_status_code {
    BOARD_OK = 0,
    BOARD_FAILED_SUPPLY = 1,      /* the core voltage did not become ready */
    BOARD_FAILED_OSCILLATOR = 2,  /* the crystal, external or internal oscillator did not start */
    BOARD_FAILED_PLL = 3,         /* the PLL did not lock */
    BOARD_FAILED_OVER_DRIVE = 4,  /* the regulator's over-drive did not become ready */
    BOARD_FAILED_WAIT_STATES = 5, /* the flash did not take the wait states */
    BOARD_FAILED_SWITCH = 6,      /* the system clock did not switch over */
    BOARD_FAILED_PERIPHERAL = 7,  /* a peripheral did not leave its reset */
    BOARD_FAILED_BAUD = 8         /* BOARD_BAUD is 1 % or more off what the UART can do */
};

/* What a fault left behind; mmfar and bfar are valid where cfsr says so. Cores without CFSR leave 0. */
typedef struct {
    uint32_t count; /* faults since board_fault_clear() or power-up */
    uint32_t pc;    /* of the instruction; 0 where the stack had overflowed and nothing was saved */
    uint32_t lr;
    uint32_t psr;
    uint32_t sp;
    uint32_t cfsr; /* SCB->CFSR, HFSR, MMFAR, BFAR */
    uint32_t hfsr;
    uint32_t mmfar;
    uint32_t bfar;
} board_fault;

/* Clock, pins, UART at BOARD_BAUD, cycle counter. Every wait in it is bounded. */
void board_init(void);

/* BOARD_OK or the step of board_init() that failed. */
uint32_t board_status(void);

/* The next received byte, 0..255, or -1 when none waits. Never blocks; clears an overrun. */
int board_read(void);

/* Sleeps until a byte may wait, at most about a second. May return early. */
void board_wait(void);

/* Returns when all bytes are handed to the UART. Bytes of a line that is stuck for seconds are dropped. */
void board_write(const uint8_t *data, uint32_t bytes);

/* Returns when the last bit is on the line. */
void board_flush(void);

/* Changes the baud rate after the last bit is out. False, and no change, where it is off by 1 % or more. */
bool board_set_baud(uint32_t baud);

/* A counter that runs upwards at BOARD_COUNTER_HZ and wraps after BOARD_COUNTER_BITS bits. */
uint32_t board_cycles(void);

/* Milliseconds since board_init(), never backwards; some are missed when nobody asks for a counter's wrap. */
uint32_t board_milliseconds(void);

/* Receiver overruns seen: bytes that came while nobody read. */
uint32_t board_overruns(void);

/* Stack reserved, and the most that was ever used of it: paint that is gone. */
uint32_t board_stack_bytes(void);
uint32_t board_stack_used(void);

/* The last fault's record, which survives a reset but not a loss of power; NULL when there is none. */
const board_fault *board_fault_read(void);
void board_fault_clear(void);

#ifdef __cplusplus
[[noreturn]] void board_reset(void);
#else
_Noreturn void board_reset(void);
#endif

#ifdef __cplusplus
}
#endif

#endif
