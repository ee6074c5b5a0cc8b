/* The time since the start: see stopwatch.h. */
#include "stopwatch.h"

#include "../board/board.h"

enum {
    MICROSECONDS_DIGITS = 6,
};

static struct {
    uint32_t last_ticks;
    uint32_t ticks; /* of the second that runs */
    uint32_t seconds;
} stopwatch;

void stopwatch_start(void)
{
    stopwatch.last_ticks = board_cycles();
    stopwatch.ticks = 0;
    stopwatch.seconds = 0;
}

void stopwatch_poll(void)
{
    const uint32_t now = board_cycles();
    uint32_t left = (now - stopwatch.last_ticks) & (0xFFFFFFFFu >> (32 - BOARD_COUNTER_BITS));
    stopwatch.last_ticks = now;
    /* Whole seconds by subtraction, a few hundred times at most; ticks + left may exceed 32 bits. */
    while (left >= BOARD_COUNTER_HZ - stopwatch.ticks) {
        left -= BOARD_COUNTER_HZ - stopwatch.ticks;
        stopwatch.ticks = 0;
        stopwatch.seconds++;
    }
    stopwatch.ticks += left;
}

uint32_t stopwatch_microseconds(void)
{
    stopwatch_poll();
    uint32_t microseconds = stopwatch.seconds;
    /* < BOARD_COUNTER_HZ. Long division, digit by digit: a small core has no 64-bit divide. */
    uint64_t rest = stopwatch.ticks;
    for (int i = 0; i < MICROSECONDS_DIGITS; i++) {
        rest = (rest << 3) + (rest << 1);
        microseconds *= 10u;
        while (rest >= BOARD_COUNTER_HZ) {
            rest -= BOARD_COUNTER_HZ;
            microseconds++;
        }
    }
    return microseconds;
}
