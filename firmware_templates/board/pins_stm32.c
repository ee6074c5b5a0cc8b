/* The UART's two pins on an STM32 with MODER ports: F2, F4, F7, H7, L4, N6. RM0385 chapter 6. */
#include "drivers.h"

#define MODER 0x00u
#define MODER_ALTERNATE 2u
#define OSPEEDR 0x08u
#define OSPEEDR_HIGH 2u
#define PUPDR 0x0Cu
#define PUPDR_UP 1u
#define AFRL 0x20u /* pins 0 to 7; AFRH follows */

static void pin_route(uint32_t port, uint32_t pin, uint32_t function)
{
    const uint32_t two = pin * 2;
    const uint32_t four = pin % 8 * 4;
    change(port + AFRL + pin / 8 * 4, UINT32_C(15) << four, function << four);
    change(port + OSPEEDR, UINT32_C(3) << two, OSPEEDR_HIGH << two);
    change(port + PUPDR, UINT32_C(3) << two, PUPDR_UP << two); /* a line nobody drives reads as idle */
    change(port + MODER, UINT32_C(3) << two, MODER_ALTERNATE << two);
}

uint32_t pins_init(void)
{
    REGISTER(BOARD_TX_ENABLE_REGISTER) |= BIT(BOARD_TX_ENABLE_BIT);
    REGISTER(BOARD_RX_ENABLE_REGISTER) |= BIT(BOARD_RX_ENABLE_BIT);
    (void)REGISTER(BOARD_RX_ENABLE_REGISTER); /* the clock arrives two cycles after the write */
    pin_route(BOARD_TX_PORT, BOARD_TX_PIN, BOARD_TX_FUNCTION);
    pin_route(BOARD_RX_PORT, BOARD_RX_PIN, BOARD_RX_FUNCTION);
    return BOARD_OK;
}
