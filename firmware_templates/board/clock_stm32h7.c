/* HSE, PLL1, voltage scale 1 and bus clocks of STM32H742/743/753. RM0433 6.6, 7.4, 8.5, 4.3.8. */
#include "drivers.h"

#define PWR_CSR1 0x58024804u
#define PWR_CSR1_ACTVOSRDY BIT(13)
#define PWR_CR3 0x5802480Cu
#define PWR_CR3_BYPASS BIT(0)
#define PWR_CR3_LDOEN BIT(1)
#define PWR_CR3_SCUEN BIT(2)
#define PWR_D3CR 0x58024818u
#define PWR_D3CR_VOSRDY BIT(13)
#define PWR_D3CR_VOS_1 (UINT32_C(3) << 14)
#define RCC_CR 0x58024400u
#define RCC_CR_HSEON BIT(16)
#define RCC_CR_HSERDY BIT(17)
#define RCC_CR_HSEBYP BIT(18)
#define RCC_CR_PLL1ON BIT(24)
#define RCC_CR_PLL1RDY BIT(25)
#define RCC_CFGR 0x58024410u
#define RCC_CFGR_SW UINT32_C(7)
#define RCC_CFGR_SW_PLL1 UINT32_C(3)
#define RCC_CFGR_SWS (UINT32_C(7) << 3)
#define RCC_CFGR_SWS_PLL1 (UINT32_C(3) << 3)
#define RCC_D1CFGR 0x58024418u
#define RCC_D2CFGR 0x5802441Cu
#define RCC_D3CFGR 0x58024420u
#define RCC_PLLCKSELR 0x58024428u
#define RCC_PLLCKSELR_HSE UINT32_C(2)
#define RCC_PLLCFGR 0x5802442Cu
/* PLL1RGE, of the PLL's input; PLL1VCOSEL 0 is the wide VCO. */
#define RCC_PLLCFGR_RANGE_2_TO_4_MHZ (UINT32_C(1) << 2)
#define RCC_PLLCFGR_DIVP1EN BIT(16)
#define RCC_PLL1DIVR 0x58024430u
#define FLASH_ACR 0x52002000u
#define FLASH_ACR_LATENCY UINT32_C(15)
#define FLASH_ACR_WRHIGHFREQ (UINT32_C(2) << 4) /* for 185 to 210 MHz at scale 1 */

#define HPRE(divider)                                                                                        \
    ((divider) == 1 ? 0u : (divider) == 2 ? 8u : (divider) == 4 ? 9u : (divider) == 8 ? 10u : 11u)
#define PPRE(divider)                                                                                        \
    ((divider) == 1 ? 0u : (divider) == 2 ? 4u : (divider) == 4 ? 5u : (divider) == 8 ? 6u : 7u)

uint32_t clock_init(void)
{
    /* The supply may be set once after power-up, before the voltage scale. The board has the LDO. */
    if (REGISTER(PWR_CR3) & PWR_CR3_SCUEN) {
        change(PWR_CR3, PWR_CR3_SCUEN | PWR_CR3_LDOEN | PWR_CR3_BYPASS, PWR_CR3_LDOEN);
    }
    if (!wait_for(PWR_CSR1, PWR_CSR1_ACTVOSRDY, PWR_CSR1_ACTVOSRDY)) {
        return BOARD_FAILED_SUPPLY;
    }
    REGISTER(PWR_D3CR) |= PWR_D3CR_VOS_1;
    if (!wait_for(PWR_D3CR, PWR_D3CR_VOSRDY, PWR_D3CR_VOSRDY)) {
        return BOARD_FAILED_SUPPLY;
    }
#if BOARD_CLOCK_HSE_BYPASS
    REGISTER(RCC_CR) |= RCC_CR_HSEBYP;
#endif
    REGISTER(RCC_CR) |= RCC_CR_HSEON;
    if (!wait_for(RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY)) {
        return BOARD_FAILED_OSCILLATOR;
    }
    REGISTER(RCC_PLLCKSELR) = (BOARD_PLL_M << 4) | RCC_PLLCKSELR_HSE;
    REGISTER(RCC_PLLCFGR) = RCC_PLLCFGR_DIVP1EN | RCC_PLLCFGR_RANGE_2_TO_4_MHZ;
    /* Q and R stay off, with the divider 2 they have after reset. */
    REGISTER(RCC_PLL1DIVR) =
        (UINT32_C(1) << 24) | (UINT32_C(1) << 16) | ((BOARD_PLL_P - 1u) << 9) | (BOARD_PLL_N - 1u);
    REGISTER(RCC_CR) |= RCC_CR_PLL1ON;
    if (!wait_for(RCC_CR, RCC_CR_PLL1RDY, RCC_CR_PLL1RDY)) {
        return BOARD_FAILED_PLL;
    }
    REGISTER(FLASH_ACR) = FLASH_ACR_WRHIGHFREQ | BOARD_WAIT_STATES;
    if (!wait_for(FLASH_ACR, FLASH_ACR_LATENCY, BOARD_WAIT_STATES)) {
        return BOARD_FAILED_WAIT_STATES;
    }
    /* The buses first: at the new clock they would be too fast. APB3 and APB4 run as APB1 does. */
    REGISTER(RCC_D1CFGR) = (PPRE(BOARD_APB1_DIVIDER) << 4) | HPRE(BOARD_AHB_DIVIDER);
    REGISTER(RCC_D2CFGR) = (PPRE(BOARD_APB2_DIVIDER) << 8) | (PPRE(BOARD_APB1_DIVIDER) << 4);
    REGISTER(RCC_D3CFGR) = PPRE(BOARD_APB1_DIVIDER) << 4;
    change(RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL1);
    return wait_for(RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL1) ? BOARD_OK : BOARD_FAILED_SWITCH;
}
