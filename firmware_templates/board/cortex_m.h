/* Registers of the Cortex-M core itself. Armv6-M, Armv7-M and Armv8-M ARM, part B. */
#ifndef BOARD_CORTEX_M_H
#define BOARD_CORTEX_M_H

#define SYST_CSR 0xE000E010u
#define SYST_RVR 0xE000E014u
#define SYST_CVR 0xE000E018u
#define SYST_CSR_ENABLE BIT(0)
#define SYST_CSR_TICKINT BIT(1)
#define SYST_CSR_CORE_CLOCK BIT(2)
#define SYST_CSR_COUNTFLAG BIT(16)

#define NVIC_ISER 0xE000E100u /* + 4 a 32 interrupts */
#define NVIC_ICPR 0xE000E280u

#define SCB_ICSR 0xE000ED04u
#define SCB_ICSR_PENDSTCLR BIT(25)
#define SCB_VTOR 0xE000ED08u
#define SCB_AIRCR 0xE000ED0Cu
#define SCB_AIRCR_KEY (UINT32_C(0x05FA) << 16)
#define SCB_AIRCR_SYSRESETREQ BIT(2)
#define SCB_CCR 0xE000ED14u
#define SCB_CCR_DC BIT(16)
#define SCB_CCR_IC BIT(17)
#define SCB_CCR_BP BIT(18)
#define SCB_CCR_LOB BIT(19)
#define SCB_SHCSR 0xE000ED24u
#define SCB_SHCSR_MEMFAULTENA BIT(16)
#define SCB_SHCSR_BUSFAULTENA BIT(17)
#define SCB_SHCSR_USGFAULTENA BIT(18)
#define SCB_CFSR 0xE000ED28u
#define SCB_HFSR 0xE000ED2Cu
#define SCB_MMFAR 0xE000ED34u
#define SCB_BFAR 0xE000ED38u
#define SCB_CCSIDR 0xE000ED80u
#define SCB_CSSELR 0xE000ED84u
#define SCB_CPACR 0xE000ED88u
#define SCB_ICIALLU 0xE000EF50u
#define SCB_DCISW 0xE000EF60u
#define SCB_DCCMVAC 0xE000EF68u

#define DCB_DEMCR 0xE000EDFCu
#define DCB_DEMCR_TRCENA BIT(24)
#define DWT_CTRL 0xE0001000u
#define DWT_CTRL_CYCCNTENA BIT(0)
#define DWT_CYCCNT 0xE0001004u
#define DWT_LAR 0xE0001FB0u
#define DWT_LAR_KEY 0xC5ACCE55u

#define CORTEX_M_DSB() __asm volatile("dsb 0xF" ::: "memory")
#define CORTEX_M_ISB() __asm volatile("isb 0xF" ::: "memory")
#define CORTEX_M_WFI() __asm volatile("wfi" ::: "memory")

#endif
