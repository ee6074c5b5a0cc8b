/* The smallest firmware on the boards' own files: greets, then sends back each byte plus one; letters do other things. */
#include "board.h"

static uint8_t buffer[4096];

static void count(void)
{
#ifdef __arm__
    /* 1,000,000 instructions */
    __asm__ volatile(".syntax unified\nldr r0, =500000\n1: subs r0, #1\nbne 1b" ::: "r0", "cc");
#endif
}

static void put(uint32_t word)
{
    uint8_t bytes[4];
    for (uint32_t i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(word >> (8 * i));
    }
    board_write(bytes, 4);
}

static void obey(uint8_t byte)
{
    switch (byte) {
    case 't': {
        const uint32_t begin = board_cycles();
        count();
        put((board_cycles() - begin) & BOARD_COUNTER_MASK);
        break;
    }
    case 'b': { /* busy for a while, then say how many bytes were overrun */
        for (uint32_t i = 0; i < 10; i++) {
            count();
        }
        uint32_t seen = 0;
        while (board_read() >= 0) {
            seen++;
        }
        put(board_overruns() << 16 | seen);
        break;
    }
    case 'e': /* take 4096 bytes, then send them: at once would overrun, as the transmitter is 0.05 % slow */
        for (uint32_t i = 0; i < sizeof(buffer); i++) {
            int next;
            while ((next = board_read()) < 0) {
                board_wait();
            }
            buffer[i] = (uint8_t)next;
        }
        board_write(buffer, sizeof(buffer));
        break;
    case 'r':
        board_reset();
    case 'f': {
        const board_fault *fault = board_fault_read();
        put(fault == 0 ? 0 : fault->bfar);
        break;
    }
    case 'x': /* nothing there */
        *(volatile uint32_t *)(uintptr_t)0xA0000000u = 0x12345678u;
        break;
#ifdef MISTAKE_DO
    case 'm':
        MISTAKE_DO;
        break;
#endif
    default:
        byte++;
        board_write(&byte, 1);
    }
}

int main(void)
{
    board_init();
    board_write((const uint8_t *)"hello\n", 6);
    for (;;) {
        const int byte = board_read();
        if (byte >= 0) {
            obey((uint8_t)byte);
        } else {
            board_wait();
        }
    }
}
