/* Crystal, PLL1, dividers and wait states of Renesas RA8D1, and the clock of its SCIs. User's Manual: Hardware,
 * chapters CGC, Flash Memory and Register Write Protection. */
#include "ra8.h"

#define SYSTEM_SCKDIVCR 0x4001E020u
#define SYSTEM_SCKDIVCR2 0x4001E024u
#define SYSTEM_SCKSCR 0x4001E026u
#define SYSTEM_PLLCCR 0x4001E028u /* source: the crystal, which is zero */
#define SYSTEM_PLLCR 0x4001E02Au
#define SYSTEM_MOSCCR 0x4001E032u
#define SYSTEM_HOCOCR 0x4001E036u
#define SYSTEM_OSCSF_HOCOSF BIT(0)
#define SYSTEM_OSCSF_MOSCSF BIT(3)
#define SYSTEM_OSCSF_PLLSF BIT(5)
#define SYSTEM_PLLCCR2 0x4001E04Cu
#define SYSTEM_SCICKDIVCR 0x4001E054u
#define SYSTEM_SCICKCR 0x4001E055u
#define SYSTEM_SCICKCR_CKSREQ BIT(6)
#define SYSTEM_SCICKCR_CKSRDY BIT(7)
#define SYSTEM_MOSCWTCR 0x4001E0A2u
#define SYSTEM_MOSCWTCR_LONGEST 9u
#define SYSTEM_PRCR 0x4001E3FAu
#define SYSTEM_PRCR_LOCKED 0xA500u
#define SYSTEM_PRCR_OPEN 0xA503u
#define SYSTEM_MOMCR 0x4001EA50u
#define SYSTEM_MOMCR_8_TO_24_MHZ (3u << 1)
#define FCACHE_FLWT 0x4001C11Cu

/* Of the system clock, and of the SCIs'. */
#define SOURCE_HOCO 0u
#define SOURCE_MOCO 1u
#define SOURCE_PLL1P 5u
#define SCI_DIVIDER_1 0u
#define SCI_DIVIDER_5 6u

#define RUN 0u
#define STOP 1u

/* Powers of two, as SCKDIVCR has them. */
#define LOG2(divider) \
    ((divider) == 1 ? 0u : (divider) == 2 ? 1u : (divider) == 4 ? 2u : (divider) == 8 ? 3u : 4u)
#define ICLK LOG2(BOARD_AHB_DIVIDER)
#define FAST (LOG2(BOARD_AHB_DIVIDER) + LOG2(BOARD_APB2_DIVIDER))
#define SLOW (LOG2(BOARD_AHB_DIVIDER) + LOG2(BOARD_APB1_DIVIDER))
/* FCLK, ICLK, PCLKE, BCLK, PCLKA, PCLKB, PCLKC, PCLKD. */
#define DIVIDERS \
    (SLOW << 28 | ICLK << 24 | ICLK << 20 | FAST << 16 | FAST << 12 | SLOW << 8 | SLOW << 4 | FAST)

/* A reset of the core alone leaves the clocks as they were: back to what they are after power-up. */
static bool stop_all(void)
{
    REGISTER8(SYSTEM_SCKSCR) = SOURCE_MOCO;
    REGISTER8(SYSTEM_PLLCR) = STOP;
    if (!wait_for8(SYSTEM_OSCSF, SYSTEM_OSCSF_PLLSF, 0)) {
        return false;
    }
    REGISTER8(SYSTEM_MOSCCR) = STOP;
    return wait_for8(SYSTEM_OSCSF, SYSTEM_OSCSF_MOSCSF, 0);
}

static uint32_t to_the_pll(void)
{
    if (!stop_all()) {
        return BOARD_FAILED_SWITCH;
    }
    REGISTER8(SYSTEM_MOMCR) = SYSTEM_MOMCR_8_TO_24_MHZ;
    REGISTER8(SYSTEM_MOSCWTCR) = SYSTEM_MOSCWTCR_LONGEST;
    REGISTER8(SYSTEM_MOSCCR) = RUN;
    if (!wait_for8(SYSTEM_OSCSF, SYSTEM_OSCSF_MOSCSF, SYSTEM_OSCSF_MOSCSF)) {
        return BOARD_FAILED_OSCILLATOR;
    }
    /* PLIDIV; PLLMUL; then the outputs P, Q and R, alike. */
    REGISTER16(SYSTEM_PLLCCR) = (uint16_t)((BOARD_PLL_N - 1u) << 8 | (BOARD_PLL_M - 1u));
    REGISTER16(SYSTEM_PLLCCR2) = (uint16_t)((BOARD_PLL_P - 1u) * 0x111u);
    REGISTER8(SYSTEM_PLLCR) = RUN;
    if (!wait_for8(SYSTEM_OSCSF, SYSTEM_OSCSF_PLLSF, SYSTEM_OSCSF_PLLSF)) {
        return BOARD_FAILED_PLL;
    }
    REGISTER8(FCACHE_FLWT) = BOARD_WAIT_STATES; /* the SRAM's wait state is on after reset */
    /* First half the clock for the core, which may never be slower than the bus; then all of it. */
    REGISTER(SYSTEM_SCKDIVCR) = DIVIDERS;
    REGISTER8(SYSTEM_SCKDIVCR2) = LOG2(2);
    REGISTER8(SYSTEM_SCKSCR) = SOURCE_PLL1P;
    ra8_settle();
    REGISTER8(SYSTEM_SCKDIVCR2) = LOG2(1);
    ra8_settle();
    return BOARD_OK;
}

/* Stopped, set, and started again: each step is acknowledged. */
static bool sci_clock(uint8_t source, uint8_t divider)
{
    const uint8_t request = (uint8_t)SYSTEM_SCICKCR_CKSREQ;
    const uint8_t ready = (uint8_t)SYSTEM_SCICKCR_CKSRDY;
    REGISTER8(SYSTEM_SCICKCR) = REGISTER8(SYSTEM_SCICKCR) | request;
    if (!wait_for8(SYSTEM_SCICKCR, ready, ready)) {
        return false;
    }
    REGISTER8(SYSTEM_SCICKDIVCR) = divider;
    REGISTER8(SYSTEM_SCICKCR) = (uint8_t)(source | request | ready);
    REGISTER8(SYSTEM_SCICKCR) = (uint8_t)(source | ready);
    return wait_for8(SYSTEM_SCICKCR, ready, 0);
}

/* Without the PLL, the SCIs have the HOCO: the MOCO, which the core then still has, is too far off. */
static bool sci_clock_without_pll(void)
{
    REGISTER8(SYSTEM_HOCOCR) = RUN;
    return wait_for8(SYSTEM_OSCSF, SYSTEM_OSCSF_HOCOSF, SYSTEM_OSCSF_HOCOSF) &&
           sci_clock(SOURCE_HOCO, SCI_DIVIDER_1);
}

uint32_t clock_init(void)
{
    REGISTER16(SYSTEM_PRCR) = SYSTEM_PRCR_OPEN;
    const uint32_t status = to_the_pll();
    const bool sci = status == BOARD_OK ? sci_clock(SOURCE_PLL1P, SCI_DIVIDER_5) : sci_clock_without_pll();
    REGISTER16(SYSTEM_PRCR) = SYSTEM_PRCR_LOCKED;
    return status != BOARD_OK ? status : sci ? BOARD_OK : BOARD_FAILED_PERIPHERAL;
}
