/* The time since the start in microseconds, whose counter may wrap many times. */
#ifndef LINK_STOPWATCH_H
#define LINK_STOPWATCH_H

#include <stdint.h>

/* Begins to count. */
void stopwatch_start(void);

/* Sees what passed: call it more often than the counter wraps. */
void stopwatch_poll(void);

/* Microseconds since the start, modulo 2^32 (71 minutes). */
uint32_t stopwatch_microseconds(void);

#endif
