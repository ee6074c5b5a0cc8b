/* The UART of nRF51 and nRF52 without DMA, so that what is sent may lie in flash. nRF52840 PS, UART. */
#include "drivers.h"

#define TASKS_STARTRX (BOARD_UART_BASE + 0x000u)
#define TASKS_STARTTX (BOARD_UART_BASE + 0x008u)
#define EVENTS_RXDRDY (BOARD_UART_BASE + 0x108u)
#define EVENTS_TXDRDY (BOARD_UART_BASE + 0x11Cu)
#define EVENTS_ERROR (BOARD_UART_BASE + 0x124u)
#define INTENSET (BOARD_UART_BASE + 0x304u)
#define INTENSET_RXDRDY BIT(2)
#define ERRORSRC (BOARD_UART_BASE + 0x480u)
#define ERRORSRC_OVERRUN BIT(0)
#define ENABLE (BOARD_UART_BASE + 0x500u)
#define ENABLE_UART 4u
#define PSELRTS (BOARD_UART_BASE + 0x508u)
#define PSELTXD (BOARD_UART_BASE + 0x50Cu)
#define PSELCTS (BOARD_UART_BASE + 0x510u)
#define PSELRXD (BOARD_UART_BASE + 0x514u)
#define PSEL_NONE 0xFFFFFFFFu
#define RXD (BOARD_UART_BASE + 0x518u)
#define TXD (BOARD_UART_BASE + 0x51Cu)
#define BAUDRATE (BOARD_UART_BASE + 0x524u)
#define CONFIG (BOARD_UART_BASE + 0x56Cu)

#define GPIO_OUTSET 0x508u
#define GPIO_DIRSET 0x518u
#define GPIO_PIN_CNF 0x700u /* + 4 a pin; 0x0: input, connected, no pull */

enum { WRITE_TURNS = 4000000 };

static uint32_t overruns;
static bool is_sending;

/* Of the constants that exist, those within 1 %. 460800 really is 470588 baud, and 921600 is 941176. */
static uint32_t baud_constant(uint32_t baud)
{
    switch (baud) {
    case 230400:
        return 0x03AFB000u; /* 231884 baud */
    case 115200:
        return 0x01D7E000u; /* 115942 baud */
    default:
        return 0;
    }
}

bool board_set_baud(uint32_t baud)
{
    const uint32_t constant = baud_constant(baud);
    if (constant == 0) {
        return false;
    }
    board_flush();
    REGISTER(BAUDRATE) = constant;
    return true;
}

uint32_t pins_init(void)
{
    REGISTER(BOARD_TX_PORT + GPIO_OUTSET) = BIT(BOARD_TX_PIN); /* the line idles high */
    REGISTER(BOARD_TX_PORT + GPIO_DIRSET) = BIT(BOARD_TX_PIN);
    REGISTER(BOARD_RX_PORT + GPIO_PIN_CNF + 4u * BOARD_RX_PIN) = 0;
    REGISTER(PSELTXD) = BOARD_TX_PIN;
    REGISTER(PSELRXD) = BOARD_RX_PIN;
    REGISTER(PSELRTS) = PSEL_NONE;
    REGISTER(PSELCTS) = PSEL_NONE;
    return BOARD_OK;
}

uint32_t uart_init(uint32_t hz, uint32_t baud)
{
    (void)hz; /* always 16 MHz */
    const bool near = board_set_baud(baud);
    REGISTER(CONFIG) = 0; /* 8N1, no flow control */
    REGISTER(ENABLE) = ENABLE_UART;
    REGISTER(EVENTS_RXDRDY) = 0;
    REGISTER(EVENTS_TXDRDY) = 0;
    REGISTER(INTENSET) = INTENSET_RXDRDY;
    REGISTER(TASKS_STARTTX) = 1;
    REGISTER(TASKS_STARTRX) = 1;
    return near ? BOARD_OK : BOARD_FAILED_BAUD;
}

bool uart_is_waiting(void)
{
    return REGISTER(EVENTS_RXDRDY) != 0;
}

void uart_clear_interrupt(void)
{
    /* The request is the level of EVENTS_RXDRDY, which board_read() clears. */
}

int board_read(void)
{
    if (REGISTER(EVENTS_ERROR) != 0) {
        REGISTER(EVENTS_ERROR) = 0;
        const uint32_t source = REGISTER(ERRORSRC);
        REGISTER(ERRORSRC) = source; /* write 1 to clear */
        if (source & ERRORSRC_OVERRUN) {
            overruns++;
        }
    }
    if (REGISTER(EVENTS_RXDRDY) == 0) {
        return -1;
    }
    REGISTER(EVENTS_RXDRDY) = 0; /* before the read, which raises it again when more bytes wait */
    return (int)(REGISTER(RXD) & 0xFFu);
}

/* There is no "empty" flag, only an event a sent byte. */
void board_flush(void)
{
    if (is_sending) {
        for (uint32_t turn = 0; turn < WRITE_TURNS && REGISTER(EVENTS_TXDRDY) == 0; turn++) {
        }
        REGISTER(EVENTS_TXDRDY) = 0;
        is_sending = false;
    }
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        board_flush();
        REGISTER(TXD) = data[i];
        is_sending = true;
    }
}

uint32_t board_overruns(void)
{
    return overruns;
}
