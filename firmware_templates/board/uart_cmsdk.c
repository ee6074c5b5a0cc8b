/* The UART of Arm's Cortex-M System Design Kit, on the MPS boards. DDI 0479, section 4.3. */
#include "drivers.h"

#define DATA (BOARD_UART_BASE + 0x00u)
#define STATE (BOARD_UART_BASE + 0x04u)
#define STATE_TX_FULL BIT(0)
#define STATE_RX_FULL BIT(1)
#define STATE_RX_OVERRUN BIT(3)
#define CTRL (BOARD_UART_BASE + 0x08u)
#define CTRL_TX_ENABLE BIT(0)
#define CTRL_RX_ENABLE BIT(1)
#define CTRL_RX_INTERRUPT BIT(3)
#define INTCLEAR (BOARD_UART_BASE + 0x0Cu)
#define INTCLEAR_RX BIT(1)
#define BAUDDIV (BOARD_UART_BASE + 0x10u)

enum { SMALLEST_DIVIDER = 16 };
enum { WRITE_TURNS = 4000000 };

static uint32_t clock_hz;
static uint32_t overruns;

bool board_set_baud(uint32_t baud)
{
    if (baud == 0) {
        return false;
    }
    const uint32_t divider = (clock_hz + baud / 2) / baud;
    if (divider < SMALLEST_DIVIDER || !baud_is_near(clock_hz / divider, baud)) {
        return false;
    }
    board_flush();
    REGISTER(BAUDDIV) = divider;
    return true;
}

uint32_t uart_init(uint32_t hz, uint32_t baud)
{
    clock_hz = hz;
    const bool near = board_set_baud(baud);
    REGISTER(CTRL) = CTRL_TX_ENABLE | CTRL_RX_ENABLE | CTRL_RX_INTERRUPT;
    return near ? BOARD_OK : BOARD_FAILED_BAUD;
}

bool uart_is_waiting(void)
{
    return (REGISTER(STATE) & STATE_RX_FULL) != 0;
}

void uart_clear_interrupt(void)
{
    REGISTER(INTCLEAR) = INTCLEAR_RX;
}

int board_read(void)
{
    const uint32_t state = REGISTER(STATE);
    if (state & STATE_RX_OVERRUN) {
        REGISTER(STATE) = STATE_RX_OVERRUN; /* write 1 to clear */
        overruns++;
    }
    return state & STATE_RX_FULL ? (int)(REGISTER(DATA) & 0xFFu) : -1;
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        for (uint32_t turn = 0; turn < WRITE_TURNS && (REGISTER(STATE) & STATE_TX_FULL); turn++) {
        }
        REGISTER(DATA) = data[i];
    }
}

/* The block does not say when its shift register is empty, so the last frame gets its time: 10 bits. */
void board_flush(void)
{
    for (uint32_t turn = 0; turn < WRITE_TURNS && (REGISTER(STATE) & STATE_TX_FULL); turn++) {
    }
    const uint32_t start = board_cycles();
    const uint32_t frame_ticks = BOARD_COUNTER_HZ / (clock_hz / (REGISTER(BAUDDIV) | 1u)) * 10;
    for (uint32_t turn = 0; turn < WRITE_TURNS; turn++) {
        if (((board_cycles() - start) & BOARD_COUNTER_MASK) >= frame_ticks) {
            break;
        }
    }
}

uint32_t board_overruns(void)
{
    return overruns;
}
