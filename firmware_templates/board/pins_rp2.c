/* The UART and its two pins on RP2040 and RP2350. RP2040 datasheet 2.19, RP2350 datasheet 9.11. */
#include "rp2.h"

#define PAD_SCHMITT BIT(1)
#define PAD_PULL_UP BIT(3)
#define PAD_4_MA (UINT32_C(1) << 4)
#define PAD_INPUT BIT(6)

/* Function first: on RP2350 the pad is isolated until ISO (bit 8) is cleared, which the last write does. */
static void pin_route(uint32_t io_bank, uint32_t pin, uint32_t function, uint32_t pull)
{
    REGISTER(io_bank + 8u * pin + 4u) = function;
    REGISTER(RP2_PADS_BANK0 + 4u * pin + 4u) = PAD_SCHMITT | PAD_4_MA | PAD_INPUT | pull;
}

uint32_t pins_init(void)
{
    const uint32_t blocks = BIT(BOARD_TX_ENABLE_BIT) | RP2_RESETS_PADS_BANK0 | BIT(BOARD_UART_ENABLE_BIT);
    if (!rp2_unreset(blocks)) {
        return BOARD_FAILED_PERIPHERAL;
    }
    pin_route(BOARD_TX_PORT, BOARD_TX_PIN, BOARD_TX_FUNCTION, 0);
    pin_route(BOARD_RX_PORT, BOARD_RX_PIN, BOARD_RX_FUNCTION, PAD_PULL_UP);
    return BOARD_OK;
}
