/* The board's state, its time, and how it sleeps. */
#include "cortex_m.h"
#include "drivers.h"

static uint32_t first_failure;

void board_note(uint32_t status)
{
    if (first_failure == BOARD_OK) {
        first_failure = status;
    }
}

uint32_t board_status(void)
{
    return first_failure;
}

/* ---- time ---- */

#define TICKS_A_MILLISECOND (BOARD_COUNTER_HZ / 1000u)

static uint32_t milliseconds;
static uint32_t ticks_seen; /* the counter when it was last looked at */
static uint32_t ticks_left; /* less than a millisecond */

static void pass(uint32_t ticks)
{
    const uint32_t rest = ticks_left + ticks % TICKS_A_MILLISECOND;
    milliseconds += ticks / TICKS_A_MILLISECOND + rest / TICKS_A_MILLISECOND;
    ticks_left = rest % TICKS_A_MILLISECOND;
}

uint32_t board_milliseconds(void)
{
    const uint32_t now = board_cycles();
    pass((now - ticks_seen) & BOARD_COUNTER_MASK);
    ticks_seen = now;
    return milliseconds;
}

/* ---- sleep ---- */

#if BOARD_SLEEPS
/* A second, or what 24 bits hold. */
#define SLEEP_TICKS (BOARD_CLOCK_HZ < 0x00FFFFFFu ? BOARD_CLOCK_HZ : 0x00FFFFFFu)
#define UART_INTERRUPT BIT(BOARD_UART_IRQ % 32)

/* PRIMASK is set since reset, so a pending interrupt ends WFI and is never taken: no handler, no race between
 * looking at the receiver and falling asleep. SysTick ends the sleep when no byte comes. */
void board_wait(void)
{
    REGISTER(NVIC_ISER + BOARD_UART_IRQ / 32 * 4) = UART_INTERRUPT;
    uart_clear_interrupt();
    REGISTER(NVIC_ICPR + BOARD_UART_IRQ / 32 * 4) = UART_INTERRUPT;
    if (uart_is_waiting()) {
        return;
    }
    const uint32_t asleep = board_cycles();
    REGISTER(SYST_RVR) = SLEEP_TICKS;
    REGISTER(SYST_CVR) = 0;
    REGISTER(SCB_ICSR) = SCB_ICSR_PENDSTCLR;
    REGISTER(SYST_CSR) = SYST_CSR_CORE_CLOCK | SYST_CSR_TICKINT | SYST_CSR_ENABLE;
    CORTEX_M_DSB();
    CORTEX_M_WFI();
    CORTEX_M_ISB();
    const bool whole = (REGISTER(SYST_CSR) & SYST_CSR_COUNTFLAG) != 0;
    const uint32_t left = REGISTER(SYST_CVR);
    REGISTER(SYST_CSR) = 0;
    REGISTER(SCB_ICSR) = SCB_ICSR_PENDSTCLR;
#if BOARD_COUNTER_SLEEPS
    /* The cycle counter stands still while the core sleeps; SysTick has counted the same clock. */
    const uint32_t slept = whole ? SLEEP_TICKS : left != 0 ? SLEEP_TICKS - left : 0;
    const uint32_t counted = (board_cycles() - asleep) & BOARD_COUNTER_MASK;
    if (slept > counted) {
        pass(slept - counted);
    }
#else
    (void)whole;
    (void)left;
    (void)asleep;
#endif
}
#else
void board_wait(void)
{
    /* This board keeps looking: see idle in its board.toml. */
}
#endif
