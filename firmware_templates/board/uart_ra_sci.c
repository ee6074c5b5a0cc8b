/* SCI_B of Renesas RA8 as an asynchronous UART without FIFOs, and its pins. RA8D1 User's Manual: Hardware, chapters
 * SCI, I/O Ports and Low Power Modes. */
#include "ra8.h"

#define RDR (BOARD_UART_BASE + 0x00u)
#define TDR (BOARD_UART_BASE + 0x04u)
#define CCR0 (BOARD_UART_BASE + 0x08u)
#define CCR0_RE BIT(0)
#define CCR0_TE BIT(4)
#define CCR1 (BOARD_UART_BASE + 0x0Cu)
#define CCR1_IDLE_HIGH (UINT32_C(3) << 4) /* SPB2IO and SPB2DT: TXD while TE is 0 */
#define CCR2 (BOARD_UART_BASE + 0x10u)
#define CCR2_RESET 0xFF000004u /* MDDR and BCP, neither of which is used */
#define CCR2_8_CYCLES (BIT(4) | BIT(5)) /* BGDM and ABCS: a bit takes 8 cycles, not 32 */
#define CCR3 (BOARD_UART_BASE + 0x14u)
#define CCR3_8_BITS (UINT32_C(2) << 8)
#define CCR3_LSBF BIT(12)
#define CCR3_RXDESEL BIT(15) /* a start bit begins with an edge */
#define CCR4 (BOARD_UART_BASE + 0x18u)
#define CESR (BOARD_UART_BASE + 0x1Cu)
#define CESR_RIST BIT(0)
#define CESR_TIST BIT(4)
#define CSR (BOARD_UART_BASE + 0x48u)
#define CSR_ORER BIT(24)
#define CSR_PER BIT(27)
#define CSR_FER BIT(28)
#define CSR_TDRE BIT(29)
#define CSR_TEND BIT(30)
#define CSR_RDRF BIT(31)
#define CSR_ERRORS (CSR_ORER | CSR_PER | CSR_FER)
#define CFCLR (BOARD_UART_BASE + 0x68u) /* the errors have the same bits as in CSR */

#define PORTS 0x40400000u /* a port's registers every 0x20 bytes */
#define PFS 0x40400800u /* and its pins' functions every 0x40 */
#define PFS_PCR BIT(4) /* pull-up */
#define PFS_PMR BIT(16)
#define PMISC_PWPRS 0x40400D14u
#define PMISC_PWPRS_PFSWE 0x40u
#define PMISC_PWPRS_B0WI 0x80u

enum { WRITE_TURNS = 4000000, CYCLES_A_BIT = 8, LARGEST = 256 };

static uint32_t clock_hz;
static uint32_t overruns;

/* How many times 8 cycles a bit takes, or 0 where the rate would be off by 1 % or more. */
static uint32_t divider_of(uint32_t baud)
{
    if (baud == 0 || baud > clock_hz / CYCLES_A_BIT) {
        return 0;
    }
    const uint32_t divider = (clock_hz + baud * (CYCLES_A_BIT / 2)) / (baud * CYCLES_A_BIT);
    const bool near = baud_is_near(clock_hz / (CYCLES_A_BIT * divider), baud);
    return divider <= LARGEST && near ? divider : 0;
}

/* RE and TE arrive a little later than they are written: the status register follows. */
static bool enable(bool on)
{
    REGISTER(CCR0) = on ? CCR0_RE | CCR0_TE : 0;
    const uint8_t both = (uint8_t)(CESR_RIST | CESR_TIST);
    return wait_for8(CESR, both, on ? both : 0);
}

static bool start(uint32_t divider)
{
    const bool stopped = enable(false);
    REGISTER(CCR2) = CCR2_RESET | CCR2_8_CYCLES | (divider - 1u) << 8;
    REGISTER(CFCLR) = CSR_ERRORS;
    return enable(true) && stopped;
}

static void pin_route(uint32_t port, uint32_t pin, uint32_t function, uint32_t pull)
{
    const uint32_t address = PFS + (port - PORTS) * 2u + pin * 4u;
    REGISTER(address) = pull; /* a port's pin while its function changes */
    REGISTER(address) = pull | function << 24;
    REGISTER(address) = pull | function << 24 | PFS_PMR;
}

uint32_t pins_init(void)
{
    REGISTER8(PMISC_PWPRS) = 0;
    REGISTER8(PMISC_PWPRS) = PMISC_PWPRS_PFSWE;
    pin_route(BOARD_TX_PORT, BOARD_TX_PIN, BOARD_TX_FUNCTION, 0);
    pin_route(BOARD_RX_PORT, BOARD_RX_PIN, BOARD_RX_FUNCTION, PFS_PCR);
    REGISTER8(PMISC_PWPRS) = 0;
    REGISTER8(PMISC_PWPRS) = PMISC_PWPRS_B0WI;
    return BOARD_OK;
}

uint32_t uart_init(uint32_t hz, uint32_t baud)
{
    REGISTER(BOARD_UART_ENABLE_REGISTER) &= ~BIT(BOARD_UART_ENABLE_BIT); /* one stops a module */
    (void)REGISTER(BOARD_UART_ENABLE_REGISTER);
    ra8_settle();
    clock_hz = hz;
    const uint32_t divider = divider_of(baud);
    REGISTER(CCR0) = 0;
    REGISTER(CCR3) = CCR3_8_BITS | CCR3_LSBF | CCR3_RXDESEL; /* 8N1 */
    REGISTER(CCR1) = CCR1_IDLE_HIGH;
    REGISTER(CCR4) = 0;
    if (!start(divider != 0 ? divider : 1u)) {
        return BOARD_FAILED_PERIPHERAL;
    }
    return divider != 0 ? BOARD_OK : BOARD_FAILED_BAUD;
}

bool board_set_baud(uint32_t baud)
{
    const uint32_t divider = divider_of(baud);
    if (divider == 0) {
        return false;
    }
    board_flush();
    return start(divider);
}

bool uart_is_waiting(void)
{
    return (REGISTER(CSR) & (CSR_RDRF | CSR_ERRORS)) != 0;
}

void uart_clear_interrupt(void)
{
    /* None is asked for: this board keeps looking. */
}

int board_read(void)
{
    const uint32_t status = REGISTER(CSR);
    if (status & CSR_ERRORS) {
        REGISTER(CFCLR) = status & CSR_ERRORS; /* until then nothing more is received */
        if (status & CSR_ORER) {
            overruns++;
        }
    }
    return status & CSR_RDRF ? (int)(REGISTER(RDR) & 0xFFu) : -1;
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        for (uint32_t turn = 0; turn < WRITE_TURNS && !(REGISTER(CSR) & CSR_TDRE); turn++) {
        }
        REGISTER8(TDR) = data[i];
    }
}

void board_flush(void)
{
    for (uint32_t turn = 0; turn < WRITE_TURNS && !(REGISTER(CSR) & CSR_TEND); turn++) {
    }
}

uint32_t board_overruns(void)
{
    return overruns;
}
