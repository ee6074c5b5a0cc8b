/* Arm's PrimeCell UART, as in RP2040 and RP2350. DDI 0183, chapter 3; RP2040 datasheet 4.2. */
#include "drivers.h"

#define DR (BOARD_UART_BASE + 0x00u)
#define DR_OVERRUN BIT(11)
#define FR (BOARD_UART_BASE + 0x18u)
#define FR_BUSY BIT(3)
#define FR_RX_EMPTY BIT(4)
#define FR_TX_FULL BIT(5)
#define IBRD (BOARD_UART_BASE + 0x24u)
#define FBRD (BOARD_UART_BASE + 0x28u)
#define LCR_H (BOARD_UART_BASE + 0x2Cu)
#define LCR_H_FIFOS BIT(4)
#define LCR_H_8_BITS (UINT32_C(3) << 5)
#define CR (BOARD_UART_BASE + 0x30u)
#define CR_ENABLE BIT(0)
#define CR_TX_ENABLE BIT(8)
#define CR_RX_ENABLE BIT(9)
#define IFLS (BOARD_UART_BASE + 0x34u)
#define IMSC (BOARD_UART_BASE + 0x38u)
#define INTERRUPT_RX BIT(4)
#define INTERRUPT_RX_TIMEOUT BIT(6) /* 32 bit times after the last byte, where fewer than the level wait */

enum { WRITE_TURNS = 4000000 };

static uint32_t clock_hz;
static uint32_t overruns;

bool board_set_baud(uint32_t baud)
{
    if (baud == 0) {
        return false;
    }
    /* In 64ths, of clock / (16 * baud): 4 * clock / baud. At least 1, at most 65535. */
    const uint32_t divider = (clock_hz * 4u + baud / 2) / baud;
    if (divider < 64 || divider > 65535u * 64u || !baud_is_near(clock_hz * 4u / divider, baud)) {
        return false;
    }
    board_flush();
    REGISTER(CR) = 0;
    REGISTER(IBRD) = divider / 64;
    REGISTER(FBRD) = divider % 64;
    REGISTER(LCR_H) = LCR_H_8_BITS | LCR_H_FIFOS; /* this write makes the UART take the divider */
    REGISTER(CR) = CR_ENABLE | CR_TX_ENABLE | CR_RX_ENABLE;
    return true;
}

uint32_t uart_init(uint32_t hz, uint32_t baud)
{
    clock_hz = hz;
    REGISTER(IFLS) = 0; /* interrupt at 1/8 full */
    REGISTER(IMSC) = INTERRUPT_RX | INTERRUPT_RX_TIMEOUT;
    return board_set_baud(baud) ? BOARD_OK : BOARD_FAILED_BAUD;
}

bool uart_is_waiting(void)
{
    return !(REGISTER(FR) & FR_RX_EMPTY);
}

void uart_clear_interrupt(void)
{
    /* Both requests end when the FIFO is read empty. */
}

int board_read(void)
{
    if (REGISTER(FR) & FR_RX_EMPTY) {
        return -1;
    }
    const uint32_t data = REGISTER(DR);
    if (data & DR_OVERRUN) {
        overruns++; /* the next byte that fits clears the flag */
    }
    return (int)(data & 0xFFu);
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        for (uint32_t turn = 0; turn < WRITE_TURNS && (REGISTER(FR) & FR_TX_FULL); turn++) {
        }
        REGISTER(DR) = data[i];
    }
}

void board_flush(void)
{
    for (uint32_t turn = 0; turn < WRITE_TURNS && (REGISTER(FR) & FR_BUSY); turn++) {
    }
}

uint32_t board_overruns(void)
{
    return overruns;
}
