/* Crystal, PLL and clock switches of RP2040 and RP2350. Datasheets 2.15 to 2.18 and 8.1 to 8.6. */
#include "rp2.h"

#define XOSC_CTRL (RP2_XOSC + 0x00u)
#define XOSC_CTRL_1_15_MHZ 0xAA0u
#define XOSC_CTRL_ENABLE (UINT32_C(0xFAB) << 12)
#define XOSC_STATUS (RP2_XOSC + 0x04u)
#define XOSC_STATUS_STABLE BIT(31)
#define XOSC_STARTUP (RP2_XOSC + 0x0Cu)

#define PLL_CS (RP2_PLL_SYS + 0x0u)
#define PLL_CS_LOCK BIT(31)
#define PLL_PWR (RP2_PLL_SYS + 0x4u)
#define PLL_PWR_PD BIT(0)
#define PLL_PWR_POSTDIVPD BIT(3)
#define PLL_PWR_VCOPD BIT(5)
#define PLL_FBDIV (RP2_PLL_SYS + 0x8u)
#define PLL_PRIM (RP2_PLL_SYS + 0xCu)

#define CLK_REF_CTRL (RP2_CLOCKS + 0x30u)
#define CLK_REF_SELECTED (RP2_CLOCKS + 0x38u)
#define CLK_REF_SRC UINT32_C(3)
#define CLK_REF_SRC_XOSC UINT32_C(2)
#define CLK_SYS_CTRL (RP2_CLOCKS + 0x3Cu)
#define CLK_SYS_SELECTED (RP2_CLOCKS + 0x44u)
#define CLK_SYS_SRC BIT(0)
#define CLK_SYS_AUXSRC (UINT32_C(7) << 5) /* 0 is the system PLL */
#define CLK_PERI_CTRL (RP2_CLOCKS + 0x48u)
#define CLK_PERI_ENABLE BIT(11) /* AUXSRC 0 is clk_sys */

/* SELECTED has one bit a source. */
static bool select_source(uint32_t ctrl, uint32_t mask, uint32_t source, uint32_t selected)
{
    change(ctrl, mask, source);
    return wait_for(selected, 0xFu, UINT32_C(1) << source);
}

static uint32_t to_the_pll(void)
{
    /* A reset of the core alone leaves the clocks as they were: away from the PLL before it is touched. */
    if (!select_source(CLK_SYS_CTRL, CLK_SYS_SRC, 0, CLK_SYS_SELECTED)) {
        return BOARD_FAILED_SWITCH;
    }
    REGISTER(XOSC_STARTUP) = BOARD_SOURCE_HZ / 1000u / 256u * 6u; /* 6 ms in steps of 256 cycles */
    REGISTER(XOSC_CTRL) = XOSC_CTRL_ENABLE | XOSC_CTRL_1_15_MHZ;
    if (!wait_for(XOSC_STATUS, XOSC_STATUS_STABLE, XOSC_STATUS_STABLE)) {
        return BOARD_FAILED_OSCILLATOR;
    }
    if (!select_source(CLK_REF_CTRL, CLK_REF_SRC, CLK_REF_SRC_XOSC, CLK_REF_SELECTED)) {
        return BOARD_FAILED_SWITCH;
    }
    REGISTER(RP2_RESETS) |= RP2_RESETS_PLL_SYS;
    if (!rp2_unreset(RP2_RESETS_PLL_SYS)) {
        return BOARD_FAILED_PERIPHERAL;
    }
    REGISTER(PLL_CS) = BOARD_PLL_M; /* REFDIV */
    REGISTER(PLL_FBDIV) = BOARD_PLL_N;
    REGISTER(PLL_PWR) &= ~(PLL_PWR_PD | PLL_PWR_VCOPD);
    if (!wait_for(PLL_CS, PLL_CS_LOCK, PLL_CS_LOCK)) {
        return BOARD_FAILED_PLL;
    }
    REGISTER(PLL_PRIM) = (BOARD_PLL_P << 16) | (BOARD_PLL_Q << 12); /* POSTDIV1, POSTDIV2 */
    REGISTER(PLL_PWR) &= ~PLL_PWR_POSTDIVPD;
    /* The auxiliary source first, while it is not used: only the other switch is free of glitches. */
    change(CLK_SYS_CTRL, CLK_SYS_AUXSRC, 0);
    return select_source(CLK_SYS_CTRL, CLK_SYS_SRC, 1, CLK_SYS_SELECTED) ? BOARD_OK : BOARD_FAILED_SWITCH;
}

uint32_t clock_init(void)
{
    const uint32_t status = to_the_pll();
    REGISTER(CLK_PERI_CTRL) = CLK_PERI_ENABLE; /* whatever clk_sys now is, the UART has it */
    return status;
}
