/* HSI or HSE, PLL, over-drive and bus clocks of STM32F4 and STM32F7, whose registers are the same.
 * RM0385 4.1.4, 5.2; RM0390 5.1.4, 6.2. */
#include "drivers.h"

#define RCC_CR 0x40023800u
#define RCC_CR_HSIRDY BIT(1)
#define RCC_CR_HSEON BIT(16)
#define RCC_CR_HSERDY BIT(17)
#define RCC_CR_HSEBYP BIT(18)
#define RCC_CR_PLLON BIT(24)
#define RCC_CR_PLLRDY BIT(25)
#define RCC_PLLCFGR 0x40023804u
#define RCC_PLLCFGR_PLLSRC BIT(22)              /* HSE */
#define RCC_PLLCFGR_R_RESET (UINT32_C(2) << 28) /* PLLR, or reserved with the same reset value */
#define RCC_CFGR 0x40023808u
#define RCC_CFGR_SW_PLL UINT32_C(2)
#define RCC_CFGR_SWS (UINT32_C(3) << 2)
#define RCC_CFGR_SWS_PLL (UINT32_C(2) << 2)
#define RCC_APB1ENR 0x40023840u
#define RCC_APB1ENR_PWREN BIT(28)
#define PWR_CR 0x40007000u
#define PWR_CR_VOS_1 (UINT32_C(3) << 14) /* scale 1 */
#define PWR_CR_ODEN BIT(16)
#define PWR_CR_ODSWEN BIT(17)
#define PWR_CSR 0x40007004u
#define PWR_CSR_ODRDY BIT(16)
#define PWR_CSR_ODSWRDY BIT(17)
#define FLASH_ACR 0x40023C00u
#define FLASH_ACR_LATENCY UINT32_C(15)
#define FLASH_ACR_PRFTEN BIT(8)
#if BOARD_CLOCK_STM32F7
#define FLASH_ACR_FLAGS (FLASH_ACR_PRFTEN | BIT(9)) /* ART accelerator, for code read over ITCM */
#else
#define FLASH_ACR_FLAGS (FLASH_ACR_PRFTEN | BIT(9) | BIT(10)) /* instruction and data cache of the flash */
#endif

/* 1, 2, 4, 8, 16 to the codes of HPRE and PPRE. */
#define HPRE(divider)                                                                                        \
    ((divider) == 1 ? 0u : (divider) == 2 ? 8u : (divider) == 4 ? 9u : (divider) == 8 ? 10u : 11u)
#define PPRE(divider)                                                                                        \
    ((divider) == 1 ? 0u : (divider) == 2 ? 4u : (divider) == 4 ? 5u : (divider) == 8 ? 6u : 7u)

uint32_t clock_init(void)
{
    REGISTER(RCC_APB1ENR) |= RCC_APB1ENR_PWREN;
    (void)REGISTER(RCC_APB1ENR);
    REGISTER(PWR_CR) |= PWR_CR_VOS_1; /* only while the PLL is off; it takes effect with the PLL */
#if BOARD_CLOCK_HSE
#if BOARD_CLOCK_HSE_BYPASS
    REGISTER(RCC_CR) |= RCC_CR_HSEBYP;
#endif
    REGISTER(RCC_CR) |= RCC_CR_HSEON;
    if (!wait_for(RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY)) {
        return BOARD_FAILED_OSCILLATOR;
    }
#else
    if (!wait_for(RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY)) {
        return BOARD_FAILED_OSCILLATOR;
    }
#endif
    REGISTER(RCC_PLLCFGR) = RCC_PLLCFGR_R_RESET | (BOARD_PLL_Q << 24) |
                            (BOARD_CLOCK_HSE ? RCC_PLLCFGR_PLLSRC : 0u) | ((BOARD_PLL_P / 2u - 1u) << 16) |
                            (BOARD_PLL_N << 6) | BOARD_PLL_M;
    REGISTER(RCC_CR) |= RCC_CR_PLLON;
#if BOARD_OVER_DRIVE
    REGISTER(PWR_CR) |= PWR_CR_ODEN;
    if (!wait_for(PWR_CSR, PWR_CSR_ODRDY, PWR_CSR_ODRDY)) {
        return BOARD_FAILED_OVER_DRIVE;
    }
    REGISTER(PWR_CR) |= PWR_CR_ODSWEN;
    if (!wait_for(PWR_CSR, PWR_CSR_ODSWRDY, PWR_CSR_ODSWRDY)) {
        return BOARD_FAILED_OVER_DRIVE;
    }
#endif
    REGISTER(FLASH_ACR) = FLASH_ACR_FLAGS | BOARD_WAIT_STATES;
    if (!wait_for(FLASH_ACR, FLASH_ACR_LATENCY, BOARD_WAIT_STATES)) {
        return BOARD_FAILED_WAIT_STATES;
    }
    if (!wait_for(RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY)) {
        return BOARD_FAILED_PLL;
    }
    /* The buses first: at the new clock they would be too fast. */
    REGISTER(RCC_CFGR) =
        (PPRE(BOARD_APB2_DIVIDER) << 13) | (PPRE(BOARD_APB1_DIVIDER) << 10) | (HPRE(BOARD_AHB_DIVIDER) << 4);
    REGISTER(RCC_CFGR) |= RCC_CFGR_SW_PLL;
    return wait_for(RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL) ? BOARD_OK : BOARD_FAILED_SWITCH;
}
