/* A board that is a process: its UART is standard input and output. For the tests of the link alone. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "board/board.h"

static uint8_t buffer[4096];
static size_t buffer_used;
static size_t buffer_bytes;
static const uint32_t slowest_baud = 1200u;
static uint32_t looks; /* at the clock, since the last byte */
static uint32_t late_ms;

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void board_init(void)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &raw) == 0) {
        raw.c_iflag = 0;
        raw.c_oflag = 0;
        raw.c_lflag = 0;
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
}

uint32_t board_status(void)
{
    return 0u;
}

int board_read(void)
{
    if (buffer_used == buffer_bytes) {
        struct pollfd ready = {STDIN_FILENO, POLLIN, 0};
        if (poll(&ready, 1, 0) <= 0) {
            return -1;
        }
        const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
        if (got <= 0) {
            _exit(0); /* the line is gone */
        }
        buffer_used = 0;
        buffer_bytes = (size_t)got;
    }
    looks = 0;
    return buffer[buffer_used++];
}

void board_wait(void)
{
    struct pollfd ready = {STDIN_FILENO, POLLIN, 0};
    poll(&ready, 1, 500);
}

void board_write(const uint8_t *data, uint32_t bytes)
{
    while (bytes > 0u) {
        const ssize_t put = write(STDOUT_FILENO, data, bytes);
        if (put <= 0) {
            _exit(0);
        }
        data += put;
        bytes -= (uint32_t)put;
    }
}

void board_flush(void)
{
}

bool board_set_baud(uint32_t baud)
{
    return baud >= slowest_baud;
}

/* The link looks at the counter before and after each report of a row or a piece: there a slow board may be slow. */
uint32_t board_cycles(void)
{
    if (getenv("BOARD_SLOW") != NULL) {
        const struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
    }
    return (uint32_t)nanoseconds();
}

/* The first look after a byte is that at the silence before it; behind it, work may take a second a look. */
uint32_t board_milliseconds(void)
{
    if (getenv("BOARD_LATE") != NULL && ++looks > 1u) {
        late_ms += 1000u;
    }
    return (uint32_t)(nanoseconds() / 1000000u) + late_ms;
}

uint32_t board_overruns(void)
{
    return 0u;
}

uint32_t board_stack_bytes(void)
{
    return 4096u;
}

uint32_t board_stack_used(void)
{
    return 1000u;
}

/* A fault there is where the environment says so, until it is cleared. */
const board_fault *board_fault_read(void)
{
    static const board_fault fault = {.count = 2,
                                      .pc = 0x08001234u,
                                      .lr = 0x08004321u,
                                      .psr = 3,
                                      .sp = 0x20001000u,
                                      .cfsr = 0x8200u,
                                      .hfsr = 0x40000000u,
                                      .mmfar = 7,
                                      .bfar = 0xDEADBEEFu};
    return getenv("BOARD_FAULT") != NULL ? &fault : NULL;
}

void board_fault_clear(void)
{
    unsetenv("BOARD_FAULT");
}

void board_reset(void)
{
    char *const arguments[] = {"board", NULL};
    execv("/proc/self/exe", arguments);
    _exit(1);
}
