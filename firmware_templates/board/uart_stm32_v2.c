/* USART and LPUART of STM32 F7, H7, L4+ and N6: ISR, RDR, TDR. RM0385 chapter 31, RM0432 chapter 51. */
#include "drivers.h"
#include "uart_stm32.h"

#define CR1 (BOARD_UART_BASE + 0x00u)
#define CR1_UE BIT(0)
#define CR1_RE BIT(2)
#define CR1_TE BIT(3)
#define CR1_RXNEIE BIT(5)
#define CR2 (BOARD_UART_BASE + 0x04u)
#define CR3 (BOARD_UART_BASE + 0x08u)
#define BRR (BOARD_UART_BASE + 0x0Cu)
#define ISR (BOARD_UART_BASE + 0x1Cu)
#define ISR_ORE BIT(3)
#define ISR_RXNE BIT(5)
#define ISR_TC BIT(6)
#define ISR_TXE BIT(7)
#define ICR (BOARD_UART_BASE + 0x20u)
#define ICR_ORECF BIT(3)
#define RDR (BOARD_UART_BASE + 0x24u)
#define TDR (BOARD_UART_BASE + 0x28u)

enum { WRITE_TURNS = 4000000 };

static uint32_t clock_hz;
static uint32_t overruns;

/* BRR may change only while UE is 0. */
static void start(uint32_t divider)
{
    REGISTER(CR1) = 0;
    REGISTER(BRR) = divider;
    REGISTER(CR1) = CR1_RXNEIE | CR1_TE | CR1_RE;
    REGISTER(CR1) = CR1_RXNEIE | CR1_TE | CR1_RE | CR1_UE;
}

uint32_t uart_init(uint32_t hz, uint32_t baud)
{
    REGISTER(BOARD_UART_ENABLE_REGISTER) |= BIT(BOARD_UART_ENABLE_BIT);
    (void)REGISTER(BOARD_UART_ENABLE_REGISTER); /* the clock arrives two cycles after the write */
    clock_hz = hz;
    const uint32_t divider = uart_divider(hz, baud);
    REGISTER(CR1) = 0;
    REGISTER(CR2) = 0; /* 1 stop bit */
    REGISTER(CR3) = 0; /* no flow control */
    start(divider != 0 ? divider : hz / baud);
    return divider != 0 ? BOARD_OK : BOARD_FAILED_BAUD;
}

bool board_set_baud(uint32_t baud)
{
    const uint32_t divider = uart_divider(clock_hz, baud);
    if (divider == 0) {
        return false;
    }
    board_flush();
    start(divider);
    return true;
}

bool uart_is_waiting(void)
{
    return (REGISTER(ISR) & (ISR_RXNE | ISR_ORE)) != 0;
}

void uart_clear_interrupt(void)
{
    /* The request is the level of RXNE: reading the byte ends it. */
}

int board_read(void)
{
    const uint32_t status = REGISTER(ISR);
    if (status & ISR_ORE) {
        REGISTER(ICR) = ICR_ORECF; /* until then nothing more is received */
        overruns++;
    }
    return status & ISR_RXNE ? (int)(REGISTER(RDR) & 0xFFu) : -1;
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        for (uint32_t turn = 0; turn < WRITE_TURNS && !(REGISTER(ISR) & ISR_TXE); turn++) {
        }
        REGISTER(TDR) = data[i];
    }
}

void board_flush(void)
{
    for (uint32_t turn = 0; turn < WRITE_TURNS && !(REGISTER(ISR) & ISR_TC); turn++) {
    }
}

uint32_t board_overruns(void)
{
    return overruns;
}
