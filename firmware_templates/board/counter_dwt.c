/* The cycle counter of the core's trace unit: 32 bits at the core clock. Armv7-M ARM C1.8. */
#include "cortex_m.h"
#include "drivers.h"

void counter_init(void)
{
    REGISTER(DCB_DEMCR) |= DCB_DEMCR_TRCENA;
#if BOARD_HAS_DWT_LOCK
    REGISTER(DWT_LAR) = DWT_LAR_KEY; /* Cortex-M7 keeps the unit's registers locked */
#endif
    REGISTER(DWT_CYCCNT) = 0;
    REGISTER(DWT_CTRL) |= DWT_CTRL_CYCCNTENA;
}

uint32_t board_cycles(void)
{
    return REGISTER(DWT_CYCCNT);
}
