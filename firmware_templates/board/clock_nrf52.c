/* The crystal and the flash's instruction cache of nRF52. nRF52840 PS, chapters CLOCK and NVMC. */
#include "drivers.h"

#define CLOCK_TASKS_HFCLKSTART 0x40000000u
#define CLOCK_EVENTS_HFCLKSTARTED 0x40000100u
#define NVMC_ICACHECNF 0x4001E540u
#define NVMC_ICACHECNF_CACHEEN BIT(0)

/* The core runs at 64 MHz from reset on; the crystal makes that exact, which the baud rate wants. */
uint32_t clock_init(void)
{
    REGISTER(NVMC_ICACHECNF) = NVMC_ICACHECNF_CACHEEN;
    REGISTER(CLOCK_EVENTS_HFCLKSTARTED) = 0;
    REGISTER(CLOCK_TASKS_HFCLKSTART) = 1;
    return wait_for(CLOCK_EVENTS_HFCLKSTARTED, 1, 1) ? BOARD_OK : BOARD_FAILED_OSCILLATOR;
}
