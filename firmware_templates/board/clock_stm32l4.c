/* HSI16, PLL, boost mode and flash of STM32L4R/L4S. RM0432 5.1.8, 6.2, 3.3.3. */
#include "drivers.h"

#define RCC_CR 0x40021000u
#define RCC_CR_HSION BIT(8)
#define RCC_CR_HSIRDY BIT(10)
#define RCC_CR_PLLON BIT(24)
#define RCC_CR_PLLRDY BIT(25)
#define RCC_CFGR 0x40021008u
#define RCC_CFGR_SW UINT32_C(3)
#define RCC_CFGR_SW_PLL UINT32_C(3)
#define RCC_CFGR_SWS (UINT32_C(3) << 2)
#define RCC_CFGR_SWS_PLL (UINT32_C(3) << 2)
#define RCC_CFGR_HPRE (UINT32_C(15) << 4)
#define RCC_CFGR_HPRE_2 (UINT32_C(8) << 4)
#define RCC_PLLCFGR 0x4002100Cu
#define RCC_PLLCFGR_HSI16 UINT32_C(2)
#define RCC_PLLCFGR_REN BIT(24)
#define RCC_APB1ENR1 0x40021058u
#define RCC_APB1ENR1_PWREN BIT(28)
#define PWR_SR2 0x40007014u
#define PWR_SR2_VOSF BIT(10)
#define PWR_CR5 0x40007080u
#define PWR_CR5_R1MODE BIT(8) /* 0 is range 1 boost, which 80 to 120 MHz need */
#define FLASH_ACR 0x40022000u
#define FLASH_ACR_LATENCY UINT32_C(15)
#define FLASH_ACR_FLAGS (BIT(8) | BIT(9) | BIT(10)) /* prefetch, instruction and data cache of the flash */

enum { TURNS_OF_A_MICROSECOND = 60 }; /* at 60 MHz, one cycle a turn at the very least */

uint32_t clock_init(void)
{
    REGISTER(RCC_APB1ENR1) |= RCC_APB1ENR1_PWREN;
    (void)REGISTER(RCC_APB1ENR1);
    if (!wait_for(PWR_SR2, PWR_SR2_VOSF, 0)) { /* range 1 after reset */
        return BOARD_FAILED_SUPPLY;
    }
    REGISTER(PWR_CR5) &= ~PWR_CR5_R1MODE;
    REGISTER(RCC_CR) |= RCC_CR_HSION;
    if (!wait_for(RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY)) {
        return BOARD_FAILED_OSCILLATOR;
    }
    REGISTER(FLASH_ACR) = FLASH_ACR_FLAGS | BOARD_WAIT_STATES;
    if (!wait_for(FLASH_ACR, FLASH_ACR_LATENCY, BOARD_WAIT_STATES)) {
        return BOARD_FAILED_WAIT_STATES;
    }
    REGISTER(RCC_PLLCFGR) = RCC_PLLCFGR_REN | ((BOARD_PLL_R / 2u - 1u) << 25) | (BOARD_PLL_N << 8) |
                            ((BOARD_PLL_M - 1u) << 4) | RCC_PLLCFGR_HSI16;
    REGISTER(RCC_CR) |= RCC_CR_PLLON;
    if (!wait_for(RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY)) {
        return BOARD_FAILED_PLL;
    }
    /* Above 80 MHz by way of half the clock for at least 1 us: RM0432 6.2.9. The APBs are not divided. */
    change(RCC_CFGR, RCC_CFGR_HPRE, RCC_CFGR_HPRE_2);
    change(RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL);
    if (!wait_for(RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL)) {
        return BOARD_FAILED_SWITCH;
    }
    for (uint32_t turn = 0; turn < TURNS_OF_A_MICROSECOND; turn++) {
        (void)REGISTER(RCC_CFGR);
    }
    change(RCC_CFGR, RCC_CFGR_HPRE, 0);
    return BOARD_OK;
}
