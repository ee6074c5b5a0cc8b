/* The smallest firmware that answers: greets, then sends back each byte plus one. CMSDK or STM32 (v1) UART. */
#include <stdint.h>

#define REGISTER(offset) (*(volatile uint32_t *)(UART + (offset)))

#ifdef CMSDK
static void uart_start(void)
{
    REGISTER(0x10) = 16; /* BAUDDIV, the least allowed */
    REGISTER(0x08) = 3;  /* CTRL: TX, RX enable */
}
static int readable(void) { return (REGISTER(0x04) & 2u) != 0; }
static int writable(void) { return (REGISTER(0x04) & 1u) == 0; }
#define DATA 0x00
#else
static void uart_start(void) { REGISTER(0x0C) = 1u << 13 | 1u << 3 | 1u << 2; } /* CR1: UE, TE, RE */
static int readable(void) { return (REGISTER(0x00) & 1u << 5) != 0; }
static int writable(void) { return (REGISTER(0x00) & 1u << 7) != 0; }
#define DATA 0x04
#endif

#define SYSTICK ((volatile uint32_t *)0xE000E010)

static void put(uint32_t byte)
{
    while (!writable()) {
    }
    REGISTER(DATA) = byte;
}

void reset(void)
{
    uart_start();
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* core clock, running, no interrupt */
    for (const char *text = "hello\n"; *text != '\0'; text++) {
        put((uint8_t)*text);
    }
    for (;;) {
        while (!readable()) {
        }
        const uint32_t byte = REGISTER(DATA) & 0xFF;
        if (byte == 't') { /* time a loop of 2 * 500,000 instructions */
            while (SYSTICK[2] == 0) { /* reads 0 until its first tick */
            }
            const uint32_t begin = SYSTICK[2];
            __asm__ volatile("ldr r0, =500000\n1: subs r0, #1\nbne 1b" ::: "r0", "cc");
            const uint32_t ticks = (begin - SYSTICK[2]) & 0xFFFFFF;
            for (int shift = 0; shift < 32; shift += 8) {
                put(ticks >> shift & 0xFF);
            }
        } else if (byte == 'x') {
            *(volatile uint32_t *)0xF0000000 = 0; /* nothing there, and no handler: the core locks up */
        } else {
            put((byte + 1) & 0xFF);
        }
    }
}

extern uint32_t stack_top;
__attribute__((section(".vectors"), used)) static void *const vectors[2] = {&stack_top, (void *)reset};
