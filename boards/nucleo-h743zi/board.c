/* NUCLEO-H743ZI: 8 MHz from the ST-LINK; USART3 goes back to it. */
#include "drivers.h"

#define DBGMCU_IDC 0x5C001000u
#define DBGMCU_IDC_REVISION_V (UINT32_C(0x2003) << 16)
#define AXI_TARG7_FN_MOD 0x51008108u
#define AXI_TARG7_FN_MOD_READ_ISS_OVERRIDE BIT(0)

/* Before revision V, reads of the AXI SRAM, where the arena lies, may return wrong data: ES0392 2.2.9. One
 * transaction at a time is the way round it. */
static void axi_sram_fix(void)
{
    if (REGISTER(DBGMCU_IDC) < DBGMCU_IDC_REVISION_V) {
        REGISTER(AXI_TARG7_FN_MOD) = AXI_TARG7_FN_MOD_READ_ISS_OVERRIDE;
    }
}

void board_init(void)
{
    axi_sram_fix();
    const uint32_t clock = clock_init();
    board_note(clock);
    counter_init();
    board_note(pins_init());
    board_note(uart_init(clock == BOARD_OK ? BOARD_UART_HZ : BOARD_UART_RESET_HZ, BOARD_BAUD));
}
