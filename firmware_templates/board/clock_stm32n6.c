/* HSI, PLL1 and the dividers IC1, IC2, IC6 and IC11 of STM32N6, in the secure world. RM0486, RCC. */
#include "drivers.h"

#define RCC_SR 0x56028004u
#define RCC_SR_HSIRDY BIT(3)
#define RCC_SR_PLL1RDY BIT(8)
#define RCC_CFGR1 0x56028020u
#define RCC_CFGR1_CPUSW (UINT32_C(3) << 16)
#define RCC_CFGR1_CPUSW_IC1 (UINT32_C(3) << 16)
#define RCC_CFGR1_CPUSWS (UINT32_C(3) << 20)
#define RCC_CFGR1_CPUSWS_IC1 (UINT32_C(3) << 20)
#define RCC_CFGR1_SYSSW (UINT32_C(3) << 24)
#define RCC_CFGR1_SYSSW_IC2_IC6_IC11 (UINT32_C(3) << 24)
#define RCC_CFGR1_SYSSWS (UINT32_C(3) << 28)
#define RCC_CFGR1_SYSSWS_IC2_IC6_IC11 (UINT32_C(3) << 28)
#define RCC_CFGR2 0x56028024u
#define RCC_CFGR2_PPRE (UINT32_C(7) | UINT32_C(7) << 4 | UINT32_C(7) << 12 | UINT32_C(7) << 16)
#define RCC_CFGR2_HPRE (UINT32_C(7) << 20)
#define RCC_HSICFGR 0x56028048u
#define RCC_HSICFGR_HSIDIV (UINT32_C(3) << 7)
#define RCC_PLL1CFGR1 0x56028080u /* source HSI and no bypass are zeros */
#define RCC_PLL1CFGR2 0x56028084u /* the fraction of N */
#define RCC_PLL1CFGR3 0x56028088u
#define RCC_PLL1CFGR3_PLL1MODSSRST BIT(0)
#define RCC_PLL1CFGR3_PLL1MODSSDIS BIT(2)
#define RCC_PLL1CFGR3_PDIV2_1 (UINT32_C(1) << 24)
#define RCC_PLL1CFGR3_PDIV1_1 (UINT32_C(1) << 27)
#define RCC_PLL1CFGR3_PLL1PDIVEN BIT(30)
#define RCC_IC1CFGR 0x560280C4u /* source PLL1 is zero in all four */
#define RCC_IC2CFGR 0x560280C8u
#define RCC_IC6CFGR 0x560280D8u
#define RCC_IC11CFGR 0x560280ECu
/* Writing ones sets bits of CR and DIVENR through these two, and clears those of CR through the third. */
#define RCC_CSR 0x56028800u
#define RCC_CSR_HSIONS BIT(3)
#define RCC_CSR_PLL1ONS BIT(8)
#define RCC_DIVENSR 0x56028A40u
#define RCC_DIVENSR_IC1ENS BIT(0)
#define RCC_DIVENSR_IC2ENS BIT(1)
#define RCC_DIVENSR_IC6ENS BIT(5)
#define RCC_DIVENSR_IC11ENS BIT(10)
#define RCC_CCR 0x56029000u
#define RCC_CCR_PLL1ONC BIT(8)

#define IC_DIVIDER(divider) (((divider) - 1u) << 16)
#define HPRE(divider) \
    ((divider) == 1 ? 0u : (divider) == 2 ? 1u : (divider) == 4 ? 2u : (divider) == 8 ? 3u : 4u)

/* Which is what they run from after a power-up, but not after the boot ROM. */
static bool switch_to_hsi(void)
{
    change(RCC_CFGR1, RCC_CFGR1_SYSSW, 0);
    if (!wait_for(RCC_CFGR1, RCC_CFGR1_SYSSWS, 0)) {
        return false;
    }
    change(RCC_CFGR1, RCC_CFGR1_CPUSW, 0);
    return wait_for(RCC_CFGR1, RCC_CFGR1_CPUSWS, 0);
}

static bool switch_to_pll(void)
{
    change(RCC_CFGR1, RCC_CFGR1_CPUSW, RCC_CFGR1_CPUSW_IC1);
    if (!wait_for(RCC_CFGR1, RCC_CFGR1_CPUSWS, RCC_CFGR1_CPUSWS_IC1)) {
        return false;
    }
    change(RCC_CFGR1, RCC_CFGR1_SYSSW, RCC_CFGR1_SYSSW_IC2_IC6_IC11);
    return wait_for(RCC_CFGR1, RCC_CFGR1_SYSSWS, RCC_CFGR1_SYSSWS_IC2_IC6_IC11);
}

uint32_t clock_init(void)
{
    REGISTER(RCC_CSR) = RCC_CSR_HSIONS;
    if (!wait_for(RCC_SR, RCC_SR_HSIRDY, RCC_SR_HSIRDY)) {
        return BOARD_FAILED_OSCILLATOR;
    }
    change(RCC_HSICFGR, RCC_HSICFGR_HSIDIV, 0);
    if (!switch_to_hsi()) {
        return BOARD_FAILED_SWITCH;
    }
    REGISTER(RCC_CCR) = RCC_CCR_PLL1ONC;
    if (!wait_for(RCC_SR, RCC_SR_PLL1RDY, 0)) {
        return BOARD_FAILED_PLL;
    }
    REGISTER(RCC_PLL1CFGR1) = (BOARD_PLL_M << 20) | (BOARD_PLL_N << 8);
    REGISTER(RCC_PLL1CFGR2) = 0;
    REGISTER(RCC_PLL1CFGR3) = RCC_PLL1CFGR3_PLL1PDIVEN | RCC_PLL1CFGR3_PDIV1_1 | RCC_PLL1CFGR3_PDIV2_1 |
                              RCC_PLL1CFGR3_PLL1MODSSDIS | RCC_PLL1CFGR3_PLL1MODSSRST;
    REGISTER(RCC_CSR) = RCC_CSR_PLL1ONS;
    if (!wait_for(RCC_SR, RCC_SR_PLL1RDY, RCC_SR_PLL1RDY)) {
        return BOARD_FAILED_PLL;
    }
    /* The buses first: at the new clock they would be too fast. IC6 is the NPU's, IC11 that of its RAM; the
     * three are switched as one. */
    change(RCC_CFGR2, RCC_CFGR2_HPRE | RCC_CFGR2_PPRE, HPRE(BOARD_AHB_DIVIDER) << 20);
    REGISTER(RCC_IC1CFGR) = IC_DIVIDER(BOARD_IC1_DIVIDER);
    REGISTER(RCC_IC2CFGR) = IC_DIVIDER(BOARD_IC2_DIVIDER);
    REGISTER(RCC_IC6CFGR) = IC_DIVIDER(BOARD_IC2_DIVIDER);
    REGISTER(RCC_IC11CFGR) = IC_DIVIDER(BOARD_IC2_DIVIDER);
    REGISTER(RCC_DIVENSR) =
        RCC_DIVENSR_IC1ENS | RCC_DIVENSR_IC2ENS | RCC_DIVENSR_IC6ENS | RCC_DIVENSR_IC11ENS;
    return switch_to_pll() ? BOARD_OK : BOARD_FAILED_SWITCH;
}
